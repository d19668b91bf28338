"""The page of a recipe: its runs, a seed each, or its twins; how they were made, and how they answered every task."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from benchmark.metrics import title as metric
from leaderboards.boards.board import SYNTHETIC, Board, Curve
from leaderboards.figures.curves import draw_reliability, draw_training
from leaderboards.figures.figure import Figure
from leaderboards.pages.page import Block, Page
from leaderboards.pages.run_details import Answer, RunDetail
from leaderboards.tables.addresses import pretext_page, recipe_page
from leaderboards.tables.table import Line, Table, Text, draw_gain, half_width, heads_of, plain_table
from leaderboards.words import duration, flops, interval, memory, number, probing, slug

NOTHING = Text(lines=("–",), tone="missing")
Maps = Mapping[tuple[str, str], tuple[Block, ...]]  # what a run looks at, by its key


def describe_recipe(runs: Sequence[RunDetail], board: Board, maps: Maps) -> Page:
    """All runs of one recipe on a board, by seed."""
    first = runs[0]
    row, name = first.row, first.run.name
    links = [(board.title, f"{board.slug}.html")]
    if first.trained:
        twin = next((one.variant for one in board.runs if one.run == first.run.twin), None)
        links += [] if twin is None else [("its untrained twin", recipe_page(twin))]
        links += [("its pretext", pretext_page(str(row["pretext"])))]
    seeds = ", ".join(str(one.run.seed) for one in runs)
    others = "" if len(runs) == 1 else f"The recipe of seed {first.run.seed}; the others differ in `seed` alone."
    return Page(
        path=recipe_page(first.run.variant),
        title=f"{name}, seed{'s' if len(runs) > 1 else ''} {seeds}",
        label=SYNTHETIC if row["synthetic"] else "",
        lead=f"{row['track']} track, {row['modality']}{'' if first.trained else ' (not trained: the floor)'}.",
        blocks=(
            Block(title="What it is", facts=(("Corpus", _corpus(row)),), links=tuple(links), tables=(_costs(runs),)),
            Block(
                title="Again",
                texts=("A line runs one of them again from its stored recipe and compares:",),
                code="\n".join(f"python -m benchmark reproduce {one.run.run}" for one in runs),
            ),
            Block(title="How it answered", tables=_answers(runs)[:1]),
            Block(title="Under other probes and readouts", tables=_answers(runs)[1:], folded=True),
            Block(title="Training", figures=_curves(runs), tables=_alarms(runs)),
            *(
                replace(block, title=f"{block.title}, seed {one.run.seed}")
                for one in runs
                for block in maps.get(one.key, ())
            ),
            Block(title="Confusion", tables=_confusion(runs), folded=True),
            Block(title="Reliability", figures=_reliability(runs), folded=True),
            Block(title="Probe grids", tables=_grids(runs), folded=True),
            Block(
                title="Recipe",
                texts=(others,) * bool(others),
                code=json.dumps(first.recipe, indent=1, sort_keys=True),
                folded=True,
            ),
            Block(title="Provenance", facts=_provenance(runs), folded=True),
        ),
    )


def _corpus(row: Mapping) -> str:
    return f"{row['corpus']}, {row['corpus_images']:,} images, content {row['corpus_digest']}"


def _costs(runs: Sequence[RunDetail]) -> Table:
    trained = ("FLOPs", "Seen", "Time", "Memory", "Energy") * runs[0].trained
    return Table(
        title="Runs",
        caption="The runs of this recipe, a seed each.",
        heads=heads_of("Seed", "Run", "Status", *trained),
        rows=tuple(
            Line(
                head=Text(lines=(f"seed {one.run.seed}",)),
                cells=tuple(Text(lines=(text,)) for text in (one.run.run, *_cost(one))),
                anchor=slug(one.run.run),
            )
            for one in runs
        ),
    )


def _cost(one: RunDetail) -> tuple[str, ...]:
    row = one.row
    if not one.trained:
        return ("untrained",)
    return (
        str(row["status"]),
        f"{flops(row['realised_flops'])} spent of {flops(row['budget_flops'])} allowed",
        f"{row['images_seen']:,} images in {row['steps']:,} steps",
        f"{duration(row['seconds'])} on {row['device']}",
        memory(row["peak_memory_bytes"]),
        f"{row['energy_joules'] / 3.6e6:.3f} kWh" if row["energy_joules"] >= 0 else "not measured",
    )


def _provenance(runs: Sequence[RunDetail]) -> tuple[tuple[str, str], ...]:
    """What is the same for all of them once, else seed by seed."""
    said = [_made(one) for one in runs]
    facts = []
    for what in said[0]:
        values = [one[what] for one in said]
        by_seed = "; ".join(f"seed {one.run.seed}: {value}" for one, value in zip(runs, values, strict=True))
        facts.append((what, values[0] if len(set(values)) == 1 else by_seed))
    return tuple(facts)


def _made(one: RunDetail) -> dict[str, str]:
    row = one.row
    versions = json.loads(str(row["versions"]))
    return {
        "Code": f"{row['commit']}{' with local changes' if row['dirty'] else ''}",
        "Engine, pretext": f"{row['engine']}, {row['pretext_version']}",
        "Machine": f"{row['device']}, {row['threads']} threads, {row['processes']} processes",
        "Weights": f"SHA-256 {one.run.weights or 'none'}" + (f", in the release file {one.file}" if one.file else ""),
        "Made": str(row["created"]),
        "Packages": ", ".join(f"{name} {version}" for name, version in sorted(versions.items())),
    }


def _by_task(
    runs: Sequence[RunDetail], wanted: Callable[[Answer], object]
) -> dict[tuple[str, str, str], list[tuple[int, Answer]]]:
    """(title of a task, probe, readout) -> (seed, its answer), of the answers that are wanted."""
    found: dict[tuple[str, str, str], list[tuple[int, Answer]]] = {}
    for one in runs:
        for answer in filter(wanted, one.answers):
            found.setdefault((answer.title, answer.probe, answer.readout), []).append((one.run.seed, answer))
    return found


def _answers(runs: Sequence[RunDetail]) -> tuple[Table, ...]:
    """A table per probe and readout, the headline first."""
    answers = [answer for one in runs for answer in one.answers]
    extent = half_width(answer.gain.estimate for answer in answers if answer.gain is not None)
    tables = []
    for probe, readout in dict.fromkeys((a.probe, a.readout) for a in sorted(answers, key=lambda a: a.score is None)):
        by_task = _by_task(runs, lambda a, asked=(probe, readout): (a.probe, a.readout) == asked)
        seeds = [pair for pairs in by_task.values() for pair in pairs]
        names = list(dict.fromkeys(name for _, a in seeds for name, _ in a.values))
        headline = any(a.score is not None for _, a in seeds)
        gains = ("Gain over twin", "With its interval") if headline else ()
        tables.append(
            Table(
                title=probing(probe, readout),
                caption=f"Every stored metric of the test set: {probing(probe, readout)}.",
                heads=heads_of("Task", "Seed", *gains, *map(metric, names), "Leakage"),
                rows=tuple(_answer(seed, a, names, headline, extent) for seed, a in seeds),
            )
        )
    return tuple(tables)


def _answer(seed: int, one: Answer, names: Sequence[str], headline: bool, extent: float) -> Line:
    cells = [Text(lines=(str(seed),))]
    if headline:
        cells.append(NOTHING if one.gain is None else draw_gain(one.gain.estimate, one.gain, extent))
        cells.append(NOTHING if one.score is None else Text(lines=(interval(one.score), metric(one.metric))))
    values = dict(one.values)
    cells += [Text(lines=(number(values[name]) if name in values else "–",)) for name in names]
    return Line(head=Text(lines=(one.title,)), cells=(*cells, Text(lines=(one.leakage,))))


def _curves(runs: Sequence[RunDetail]) -> tuple[Figure, ...]:
    names = dict.fromkeys(name for one in runs for name, points in one.curves.items() if len(points) > 1)
    return tuple(
        draw_training(
            name,
            name,
            [
                Curve(name=one.run.name, seed=one.run.seed, quantity=name, points=one.curves[name])
                for one in runs
                if len(one.curves.get(name, ())) > 1
            ],
            [runs[0].run.name],
        )
        for name in names
    )


def _alarms(runs: Sequence[RunDetail]) -> tuple[Table, ...]:
    rows = [
        (f"seed {one.run.seed}, {progress:.0%} of training", sentence)
        for one in runs
        for progress, sentence in one.alarms
    ]
    caption = "What the health check said during training; it stays with the run."
    return (plain_table("Alarms", caption, ("At", "Alarm"), rows),) if rows else ()


def _confusion(runs: Sequence[RunDetail]) -> tuple[Table, ...]:
    return tuple(
        plain_table(
            title,
            f"{title}: test images by their class (down) and the class of the highest score (across), all folds and "
            "repeats together.",
            ("Is \\ scored as", "Seed", *answers[0][1].classes),
            (
                (name, str(seed), *(f"{count:,}" for count in answer.confusion[at]))
                for at, name in enumerate(answers[0][1].classes)
                for seed, answer in answers
            ),
        )
        for (title, _, _), answers in _by_task(runs, lambda a: a.confusion).items()
    )


def _reliability(runs: Sequence[RunDetail]) -> tuple[Figure, ...]:
    return tuple(
        draw_reliability(f"reliability-{slug(answers[0][1].task)}", title, {s: a.reliability for s, a in answers})
        for (title, _, _), answers in _by_task(runs, lambda a: a.reliability).items()
    )


def _grids(runs: Sequence[RunDetail]) -> tuple[Table, ...]:
    """A table per probe and readout: a row for each task and setting, the score of each seed."""
    by_task = _by_task(runs, lambda a: a.fits)
    asked = dict.fromkeys((probe, readout) for _, probe, readout in by_task)
    return tuple(
        _grid(
            probing(*one),
            [run.run.seed for run in runs],
            {title: dict(a) for (title, *p), a in by_task.items() if (*p,) == one},
        )
        for one in asked
    )


def _grid(what: str, seeds: Sequence[int], answers: Mapping[str, Mapping[int, Answer]]) -> Table:
    """answers: title of a task -> seed -> its answer."""
    fits = [fit for by_seed in answers.values() for answer in by_seed.values() for fit in answer.fits]
    names = list(dict.fromkeys(name for fit in fits for name, _ in fit.settings))
    rows = []
    for title, by_seed in answers.items():
        points = {seed: {(f.settings, f.metric): f for f in answer.fits} for seed, answer in by_seed.items()}
        chosen = (point for found in points.values() for point, fit in found.items() if fit.chosen)
        for settings, score in dict.fromkeys(chosen):
            texts = [dict(settings).get(name, "–") for name in names] + [metric(score)]
            for seed in seeds:
                fit = points.get(seed, {}).get((settings, score))
                texts.append(f"{number(fit.score)}; {fit.chosen} of {fit.fits}" if fit else "–")
            rows.append((title, *texts))
    caption = (
        f"{what}: mean score of the validation part, and how often it was chosen, of settings that some seed chose."
    )
    return plain_table(what, caption, ("Task", *names, "Metric", *(f"Seed {seed}" for seed in seeds)), rows)
