"""The pages of tasks, pretexts and runs, as blocks of text, tables and figures for one template."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from benchmark.metrics import title as metric
from leaderboards.boards.board import LOSS, SYNTHETIC, Board, Column, Curve, Entry, Row
from leaderboards.pages import figures, tables
from leaderboards.pages.details import Answer, RunDetail
from leaderboards.pages.svg import Drawing
from leaderboards.pages.tables import TONES, Line, Table, Text, bar, chance, share, split, task_page, verdict
from leaderboards.stats.families import Difference
from leaderboards.stats.statistics import Estimate
from leaderboards.words import duration, flops, interval, memory, number, probing, slug, with_labels
from tasks.cards import plural


@dataclass(frozen=True, kw_only=True)
class Picture:
    """An image that lies within the site."""

    source: str
    alt: str
    caption: str


@dataclass(frozen=True, kw_only=True)
class Block:
    title: str
    texts: tuple[str, ...] = ()
    facts: tuple[tuple[str, str], ...] = ()
    links: tuple[tuple[str, str], ...] = ()  # (text, address within the site, or https)
    code: str = ""
    tables: tuple[Table, ...] = ()
    figures: tuple[Drawing, ...] = ()
    pictures: tuple[Picture, ...] = ()
    folded: bool = False


@dataclass(frozen=True, kw_only=True)
class Page:
    path: str  # within the site
    title: str
    label: str
    lead: str
    blocks: tuple[Block, ...]


def of_task(
    modality: str, task: str, boards: Sequence[Board], checks: Sequence[Mapping], maps: tuple[Block, ...] = ()
) -> Page:
    """A task over all boards of its modality that answer it. `checks`: its rows of the table `leakage`; maps: what
    encoders look at on it."""
    shown = [(board, place) for board in boards for place, c in enumerate(board.columns) if c.task == task]
    shown.sort(key=lambda pair: bool(pair[0].earlier))  # what the page says of the task is of the newest
    column = shown[0][0].columns[shown[0][1]]
    card, licence, links, version = _card(modality, task)
    checks = [row for row in checks if row["data"] == column.data]
    places = [board.localities[place] for board, place in shown if board.localities]
    measured = next((one for one in places if one is not None), None)
    return Page(
        path=task_page(modality, task),
        title=column.title,
        label=SYNTHETIC if column.synthetic else "",
        lead=card.pop("Question", ""),
        blocks=(
            Block(
                title="The task",
                texts=_versions([board.columns[place] for board, place in shown], version),
                facts=(
                    ("Classes", ", ".join(column.classes)),
                    ("Test set", _size(column)),
                    ("Split", split(column)),
                    ("Headline metric", metric(column.metric)),
                    ("Licence", licence),
                    ("Measured locality", _locality(measured)),
                    *((("Data", column.partial),) if column.partial else ()),
                    *((("Images", column.pixels),) if column.pixels else ()),
                ),
                links=links,
            ),
            *_samples(modality, task, column),
            Block(
                title="Floor and ceiling",
                texts=(
                    "What needs no pretraining: a number that one of these reaches proves nothing. And the same "
                    "encoder, trained at the same FLOPs with labels: what a perfect pretext could reach.",
                ),
                tables=tuple(_floor(board, place) for board, place in shown),
            ),
            Block(title="All methods", tables=tuple(_methods(board, place) for board, place in shown)),
            *maps,
            Block(title="Leakage passport", tables=(_passport(column, checks),)),
            Block(title="Data card", facts=tuple(card.items())),
        ),
    )


def _versions(columns: Sequence[Column], known: int | None) -> tuple[str, ...]:
    """That the numbers of this page are of other versions of the task than what this code knows, or of several."""
    versions = sorted({column.version for column in columns})
    if known is None or versions == [known]:
        return ()
    told = " and ".join(f"version {version}" for version in versions)
    return (
        f"The numbers on this page are of {told} of this task. Its question, data card, licence and sample images are "
        f"of version {known}, which this code reads, and may differ.",
    )


def _card(modality: str, task: str) -> tuple[dict[str, str], str, tuple[tuple[str, str], ...], int | None]:
    """(labelled parts of the data card, licence, the owner's page, version), as far as this code knows the task."""
    import tasks
    from tasks import cards
    from tasks.base import DataError

    try:
        known = tasks.get(modality, task)
    except (ValueError, DataError):
        return {"Card": "this version of the code has no task of that name"}, "not known", (), None
    parts = dict(cards.read(known).parts)
    shared = known.synthetic or known.access.redistributable
    licence = f"{known.access.licence}{'' if shared else '; no sample images are shown'}"
    links = (("where it comes from", known.access.home),)
    return {"Question": known.question, **parts}, licence, links, known.version


def _size(column: Column) -> str:
    return f"{column.groups:,} {plural(column.group_kind, column.groups)}, {column.samples:,} images"


def _locality(one) -> str:
    if one is None:
        return "not measured: python -m benchmark.lab.locality"
    if one.value is None:
        return "omitted: even the whole image tells the classes apart too rarely"
    ends = "" if one.low is None else f" [{number(one.low)}, {number(one.high)}]"
    return f"{number(one.value)}{ends}: 1 where a patch says as much as the whole image (stored, not recomputed)"


def _samples(modality: str, task: str, column: Column) -> tuple[Block, ...]:
    """Sheets of simulated images; images of patients are not shown."""
    if not column.synthetic or not task.startswith("phantom_"):
        return ()
    kind = task.split("_")[1]
    sheet = {"locality": "locality", "relation": "relation", "levels": "relation"}.get(kind, "latents")
    if sheet_file(modality, sheet) is None:
        return ()
    picture = Picture(
        source=f"phantoms/{modality}-{sheet}.png",
        alt=f"Sheet of simulated {modality} images; each row or column differs in one latent, named on the sheet.",
        caption=f"Simulated {modality} images: {sheet}. Not clinical evidence.",
    )
    return (Block(title="Sample images", pictures=(picture,)),)


def sheet_file(modality: str, sheet: str) -> Path | None:
    """A committed sheet of phantoms; None outside a checkout."""
    path = Path(__file__).parents[2] / "docs" / "phantoms" / f"{modality}-{sheet}.png"
    return path if path.exists() else None


def _floor(board: Board, place: int) -> Table:
    rows = [
        (row.name, row.entries[place].score) for row in board.sections[0].rows if row.twin and row.entries[place].score
    ]
    rows += [(one.name, one.scores[place]) for one in board.baselines if one.scores[place] is not None]
    top = board.ceilings[place] if board.ceilings else None
    rows += [] if top is None else [(with_labels(top.labels), top.score)]
    said = tables.top(board, place)
    return Table(
        title=board.title,
        caption=f"{_of(board, place)}: {metric(board.columns[place].metric)} with its 95 % interval; floors by the "
        f"linear probe{f'; {said}' if said else ''}.",
        heads=(Text(lines=("Floor and ceiling",)), Text(lines=(metric(board.columns[place].metric),))),
        rows=tuple(Line(head=Text(lines=(name,)), cells=(Text(lines=(interval(score),)),)) for name, score in rows),
    )


def _of(board: Board, place: int) -> str:
    return f"{board.title}, version {board.columns[place].version} of the task"


def _methods(board: Board, place: int) -> Table:
    column = board.columns[place]
    rows = [row for row in board.sections[0].rows if not row.twin]
    every = [row.entries[place].gain for row in rows if row.entries[place].gain is not None]
    extent = max((abs(end) for one in every for end in (one.low, one.high) if end is not None), default=0.0)
    return Table(
        title=board.title,
        caption=f"{_of(board, place)}: gain over the twin, and {metric(column.metric)}, with 95 % intervals; linear "
        "probe.",
        heads=tuple(Text(lines=(head,)) for head in ("Encoder", "Gain over twin", metric(column.metric))),
        rows=tuple(
            Line(head=_row_head(row), cells=_entry_cells(row.entries[place], extent), twin=row.twin) for row in rows
        ),
    )


def _row_head(row: Row) -> Text:
    links = tuple((f"seed {s}", f"runs/{slug(run)}.html") for s, run in zip(row.seeds, row.runs, strict=False))
    return Text(lines=(row.name,), links=links)


def _entry_cells(entry: Entry, extent: float) -> tuple[Text, Text]:
    if entry.missing:
        return Text(lines=("–", entry.missing), tone="missing"), Text(lines=("–",), tone="missing")
    score = Text(lines=(interval(entry.score),) if entry.score else ("–",))
    if entry.gain is None:
        return Text(lines=("–", *filter(None, (entry.note,))), tone="missing"), score
    return _gained(entry.gain, entry, extent, share(entry), entry.note), score


def _gained(one: Estimate, judged: Entry | Difference, extent: float, *notes: str) -> Text:
    drawn = bar(one, extent) if one.low is not None and extent else ""
    lines = tuple(filter(None, (interval(one, signed=True), verdict(judged), chance(judged.p), *notes)))
    return Text(lines=lines, tone=TONES.get(judged.shown, ""), bar=drawn, sort=one.value)


def _passport(column: Column, checks: Sequence[Mapping]) -> Table:
    rows = sorted({(c["between"], c["kind"], -1 if c["count"] is None else int(c["count"])) for c in checks})
    return Table(
        title="Overlap checks",
        caption=f"Verdict: {column.leakage}. Images of the second side with a partner in the first; groups are "
        f"{plural(column.group_kind, 2)}."
        + ("" if column.independent else " No patient or slide is known: patients may be on both sides."),
        heads=tuple(Text(lines=(head,)) for head in ("Between", "Kind", "Found")),
        rows=tuple(
            Line(
                head=Text(lines=(between,)),
                cells=(
                    Text(lines=(kind,)),
                    Text(lines=("not looked for" if count < 0 else f"{count:,}",), tone="missing" if count < 0 else ""),
                ),
            )
            for between, kind, count in rows
        ),
    )


def pretext_path(pretext: str) -> str:
    return f"pretexts/{slug(pretext)}.html"


def of_pretext(pretext: str, boards: Sequence[Board], runs: Sequence[RunDetail], views: tuple[Block, ...] = ()) -> Page:
    """A pretext over all boards: what it predicts, how it was run, and how it did. views: what it sees."""
    own = [one for one in runs if one.row["pretext"] == pretext and one.trained]
    names = {one.run.name for one in own}
    variants = {one.run.variant for one in own}
    what, *more = _docstring(pretext)
    drawings = [d for board in boards for d in _learning(board, pretext, names)]
    return Page(
        path=pretext_path(pretext),
        title=min(names, key=len, default=pretext),
        label=SYNTHETIC if all(one.row["synthetic"] for one in own) else "",
        lead=what,
        blocks=(
            Block(title="What it predicts", texts=tuple(more)),
            *views,
            Block(
                title="How it did",
                tables=tuple(t for board in boards if (t := _gains_of(board, variants)) is not None),
            ),
            Block(title="Training", figures=tuple(drawings)),
            *_recipes(own),
        ),
    )


def _docstring(pretext: str) -> list[str]:
    """Paragraphs of the head of a pretext's file."""
    file = resources.files("benchmark").joinpath("pretexts", f"{pretext}.py")
    if not pretext.isidentifier() or not file.is_file():
        return ["An encoder that was pretrained elsewhere, probed here." if pretext == "external" else ""]
    text = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    return [" ".join(part.split()) for part in text.split("\n\n")]


def _learning(board: Board, pretext: str, names: set[str]) -> Iterable[Drawing]:
    own = [curve for curve in board.curves if curve.name in names]
    for quantity in dict.fromkeys(curve.quantity for curve in own):
        found = [curve for curve in own if curve.quantity == quantity]
        key = "loss" if quantity == LOSS else "health"
        yield figures.curves(
            f"{board.slug}-{slug(pretext)}-{key}", f"{quantity}, {board.title}", found, sorted(names), quantity
        )


def _gains_of(board: Board, variants: set[str]) -> Table | None:
    rows = [row for row in board.sections[0].rows if row.variant in variants]
    if not rows:
        return None
    every = [e.gain for row in rows for e in (row.mean, *row.entries) if e.gain is not None]
    extent = max((abs(end) for one in every for end in (one.low, one.high) if end is not None), default=0.0)
    return Table(
        title=board.title,
        caption=f"{board.title}: gain over the twin with its 95 % interval, linear probe.",
        heads=tuple(Text(lines=(head,)) for head in ("Encoder", "Mean gain", *(c.title for c in board.columns))),
        rows=tuple(
            Line(head=_row_head(row), cells=tuple(_entry_cells(e, extent)[0] for e in (row.mean, *row.entries)))
            for row in rows
        ),
    )


def _recipes(runs: Sequence[RunDetail]) -> tuple[Block, ...]:
    """The settings of every variant, once each."""
    seen: dict[str, RunDetail] = {}
    for one in runs:
        seen.setdefault(one.run.variant, one)
    return tuple(
        Block(
            title=f"Recipe of {one.run.name}, {one.row['track']} track, {one.row['modality']}, "
            f"engine {one.row['engine']}",
            code=json.dumps(one.recipe["settings"], indent=1, sort_keys=True),
            folded=True,
        )
        for one in seen.values()
    )


def run_path(run: str) -> str:
    return f"runs/{slug(run)}.html"


def of_run(one: RunDetail, board: Board, maps: tuple[Block, ...] = ()) -> Page:
    """A single pretraining, or a twin. maps: what it looks at."""
    row, twin = one.row, one.run.twin
    kind = "" if one.trained else " (not trained: the floor)"
    links = [(board.title, f"{board.slug}.html")]
    if one.trained:
        links += [("its untrained twin", run_path(twin)), ("its pretext", pretext_path(str(row["pretext"])))]
    return Page(
        path=run_path(one.run.run),
        title=f"{one.run.name}, seed {one.run.seed}",
        label=SYNTHETIC if row["synthetic"] else "",
        lead=f"Run {one.run.run} of the {row['track']} track, {row['modality']}{kind}.",
        blocks=(
            Block(title="What it is", facts=_cost(one), links=tuple(links)),
            Block(
                title="Again",
                texts=("One line runs it again from its stored recipe and compares:",),
                code=f"python -m benchmark reproduce {one.run.run}",
            ),
            Block(title="How it answered", tables=_answers(one.answers)[:1]),
            Block(title="Under other probes and readouts", tables=_answers(one.answers)[1:], folded=True),
            *(
                (Block(title="Training", figures=_run_curves(one), tables=_alarms(one)),)
                if one.curves or one.alarms
                else ()
            ),
            *maps,
            Block(title="Confusion", tables=tuple(_confusion(a) for a in one.answers if a.confusion), folded=True),
            Block(title="Reliability", figures=_reliability(one), folded=True),
            Block(title="Probe grids", tables=tuple(_grid(a) for a in one.answers if a.fits), folded=True),
            Block(title="Recipe", code=json.dumps(one.recipe, indent=1, sort_keys=True), folded=True),
            Block(title="Provenance", facts=_provenance(one), folded=True),
        ),
    )


def _cost(one: RunDetail) -> tuple[tuple[str, str], ...]:
    row = one.row
    if not one.trained:
        return (("Status", "untrained"), ("Corpus", f"{row['corpus']}, content {row['corpus_digest']}"))
    return (
        ("Status", str(row["status"])),
        ("FLOPs", f"{flops(row['realised_flops'])} spent of {flops(row['budget_flops'])} allowed"),
        ("Seen", f"{row['images_seen']:,} images in {row['steps']:,} steps"),
        ("Time", f"{duration(row['seconds'])} on {row['device']}"),
        ("Memory", memory(row["peak_memory_bytes"])),
        ("Energy", f"{row['energy_joules'] / 3.6e6:.3f} kWh" if row["energy_joules"] >= 0 else "not measured"),
        ("Corpus", f"{row['corpus']}, {row['corpus_images']:,} images, content {row['corpus_digest']}"),
    )


def _provenance(one: RunDetail) -> tuple[tuple[str, str], ...]:
    row = one.row
    versions = json.loads(str(row["versions"]))
    return (
        ("Code", f"{row['commit']}{' with local changes' if row['dirty'] else ''}"),
        ("Engine, pretext", f"{row['engine']}, {row['pretext_version']}"),
        ("Machine", f"{row['device']}, {row['threads']} threads, {row['processes']} processes"),
        ("Weights", f"SHA-256 {one.run.weights or 'none'}"),
        ("Made", str(row["created"])),
        ("Packages", ", ".join(f"{name} {version}" for name, version in sorted(versions.items()))),
    )


def _answers(answers: Sequence[Answer]) -> tuple[Table, ...]:
    """A table per probe and readout, the headline first."""
    every = [a.gain.estimate for a in answers if a.gain is not None]
    extent = max((abs(end) for one in every for end in (one.low, one.high) if end is not None), default=0.0)
    tables = []
    asked = dict.fromkeys((a.probe, a.readout) for a in sorted(answers, key=lambda a: a.score is None))
    for probe, readout in asked:
        some = [a for a in answers if (a.probe, a.readout) == (probe, readout)]
        names = list(dict.fromkeys(name for a in some for name, _ in a.values))
        headline = any(a.score is not None for a in some)
        heads = ["Task", *(["Gain over twin", "With its interval"] if headline else []), *map(metric, names), "Leakage"]
        tables.append(
            Table(
                title=probing(probe, readout),
                caption=f"Every stored metric of the test set: {probing(probe, readout)}.",
                heads=tuple(Text(lines=(head,)) for head in heads),
                rows=tuple(_answer(a, names, headline, extent) for a in some),
            )
        )
    return tuple(tables)


def _answer(one: Answer, names: Sequence[str], headline: bool, extent: float) -> Line:
    cells = []
    if headline:
        nothing = Text(lines=("–",), tone="missing")
        cells.append(nothing if one.gain is None else _gained(one.gain.estimate, one.gain, extent))
        cells.append(nothing if one.score is None else Text(lines=(interval(one.score), metric(one.metric))))
    values = dict(one.values)
    cells += [Text(lines=(number(values[name]) if name in values else "–",)) for name in names]
    return Line(head=Text(lines=(one.title,)), cells=(*cells, Text(lines=(one.leakage,))))


def _run_curves(one: RunDetail) -> tuple[Drawing, ...]:
    return tuple(
        figures.curves(
            f"run-{slug(one.run.run)}-{slug(name)}",
            name,
            [Curve(name=one.run.name, seed=one.run.seed, quantity=name, points=points)],
            [one.run.name],
        )
        for name, points in one.curves.items()
        if len(points) > 1
    )


def _alarms(one: RunDetail) -> tuple[Table, ...]:
    if not one.alarms:
        return ()
    return (
        Table(
            title="Alarms",
            caption="What the health check said during training; it stays with the run.",
            heads=(Text(lines=("At",)), Text(lines=("Alarm",))),
            rows=tuple(
                Line(head=Text(lines=(f"{progress:.0%} of training",)), cells=(Text(lines=(said,)),))
                for progress, said in one.alarms
            ),
        ),
    )


def _confusion(one: Answer) -> Table:
    return Table(
        title=one.title,
        caption=f"{one.title}: test images by their class (down) and the class of the highest score (across), all "
        "folds and repeats together.",
        heads=(Text(lines=("Is \\ scored as",)), *(Text(lines=(name,)) for name in one.classes)),
        rows=tuple(
            Line(head=Text(lines=(name,)), cells=tuple(Text(lines=(f"{count:,}",)) for count in row))
            for name, row in zip(one.classes, one.confusion, strict=True)
        ),
    )


def _reliability(one: RunDetail) -> tuple[Drawing, ...]:
    return tuple(
        figures.reliability(f"run-{slug(one.run.run)}-reliability-{slug(a.task)}", a.title, a.reliability)
        for a in one.answers
        if a.reliability
    )


def _grid(one: Answer) -> Table:
    names = list(dict.fromkeys(name for fit in one.fits for name, _ in fit.settings))
    heads = [*names, "Score of the validation part", "Chosen"] if names else ["Setting", "Score", "Chosen"]
    rows = []
    for fit in one.fits:
        settings = dict(fit.settings)
        texts = [settings.get(name, "–") for name in names] or ["none"]
        cells = [*texts[1:], f"{metric(fit.metric)} {number(fit.score)}", f"{fit.chosen} of {fit.fits}"]
        rows.append(Line(head=Text(lines=(texts[0],)), cells=tuple(Text(lines=(text,)) for text in cells)))
    what = f"{one.title}, {probing(one.probe, one.readout)}"
    return Table(
        title=what,
        caption=f"{what}: the whole grid, means over folds and draws.",
        heads=tuple(Text(lines=(head,)) for head in heads),
        rows=tuple(rows),
    )
