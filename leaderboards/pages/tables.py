"""The tables of a board as text: what a row, a column and a cell say, once for HTML, Markdown and LaTeX."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from markupsafe import Markup

from benchmark.metrics import title as metric
from leaderboards.boards.board import (
    Board,
    Ceiling,
    Column,
    Cost,
    Difference,
    Entry,
    Judged,
    Ledger,
    Row,
    Section,
    Sensitivity,
    Series,
)
from leaderboards.stats.statistics import INTERVAL_GROUPS, RANKED_GROUPS, Estimate
from leaderboards.stats.verdicts import AS_IF, CONTRADICTED, DEPENDENT, HOLDS
from leaderboards.words import PROBES, duration, flops, interval, memory, number, passes, probing, slug, with_labels
from tasks.cards import plural

TONES = {1: "above", -1: "below", 0: "same"}  # by what is shown
CLAIMS = {HOLDS: "above", CONTRADICTED: "below"}
LEARNABLE = 0.90  # AUROC: a ceiling under it is marked, as little can be learnt there with labels either
PAIRS = 200  # differences that a page shows; the rest is in the exported tables


@dataclass(frozen=True, kw_only=True)
class Text:
    """A cell of a table: the first line carries the number, the others explain it."""

    lines: tuple[str, ...]
    tone: str = ""  # "above", "below", "same", "missing" or ""
    bar: Markup | str = ""  # an interval, drawn
    sort: float | None = None  # what its column is ordered by; None: last
    words: bool = False  # of a column: it is ordered by its text
    tip: str = ""  # of a column: what it says
    links: tuple[tuple[str, str], ...] = ()  # (text, address within the site)


@dataclass(frozen=True, kw_only=True)
class Line:
    head: Text
    cells: tuple[Text, ...]
    twin: bool = False
    kind: str = "trained"  # "trained", "twin", "ceiling" or "baseline"


@dataclass(frozen=True, kw_only=True)
class Table:
    title: str
    caption: str
    heads: tuple[Text, ...]
    rows: tuple[Line, ...]
    extent: float = 0.0  # half the width of its bars' common scale


def gains(board: Board, section: Section) -> Table:
    """The table of one probe and readout: gain over the twin first, the metric itself beneath, then what it cost."""
    headline = section is board.sections[0]
    what = probing(section.probe, section.readout)
    if section.by_group:
        what += ", scores averaged per group"
    measured = _measured(board, section)
    extent = _extent(section)
    scale = f". Bars run from {number(-extent, True)} to {number(extent, True)}" if extent else ""
    shares = any(entry.share is not None for row in section.rows for entry in row.entries)
    between = ", then the share of the way from the twin to the ceiling" if shares else ""
    tip = "Gain over the untrained twin, divided by one minus chance, averaged over the tasks that can be ranked"
    heads = [
        Text(
            lines=("Encoder",),
            words=True,
            tip="The pretext, its seeds and tie group: rows with a letter in common are tied",
        ),
        Text(lines=("Mean gain over twin", "chance-corrected", *_over(board)), tip=tip),
        *(
            _head(replace(board.columns[place], metric=measured[place]), top(board, place) if headline else "")
            for place in measured
        ),
        *((*_expert_heads(board), *_cost_heads()) if headline else ()),
    ]
    costs = {cost.name: cost for cost in board.costs}
    rows = [
        Line(
            head=Text(
                lines=tuple(filter(None, (row.name, _seeds(row), _tie(row), row.note))),
                links=tuple((f"seed {s}", f"runs/{run}.html") for s, run in zip(row.seeds, row.runs, strict=False)),
            ),
            cells=(
                _text(row.mean, "", extent),
                *_texts(board, row, extent, measured),
                *(
                    (*_experts(board, row.name, row.twin), *_spent(board, costs.get(row.name), row.twin))
                    if headline
                    else ()
                ),
            ),
            twin=row.twin,
            kind="twin" if row.twin else "trained",
        )
        for row in section.rows
    ]
    return Table(
        title=f"Gain over the twin: {what}",
        caption=f"Gain over the twin with its 95 % interval, then the metric itself{between}; {what}{scale}.",
        heads=tuple(heads),
        rows=(*rows, *((_labelled(board), *_plain(board)) if headline else ())),
        extent=extent,
    )


def _measured(board: Board, section: Section) -> dict[int, str]:
    """Place of a column -> its metric in a section; where the probe has one of its own, only what it was run on."""
    return {
        place: section.metric or column.metric
        for place, column in enumerate(board.columns)
        if not section.metric or any(row.entries[place].score is not None for row in section.rows)
    }


def _expert_heads(board: Board) -> tuple[Text, ...]:
    """A column where people have rated; none until then."""
    tip = "Experts' mean answer, 1 to 5, to whether the maps highlight what the diagnosis needs"
    return (Text(lines=("Experts", "relevance of the maps"), tip=tip),) if board.ratings else ()


def _experts(board: Board, name: str, twin: bool) -> tuple[Text, ...]:
    if not board.ratings:
        return ()
    lines = []
    for one in board.ratings:
        if (one.name, one.twin) == (name, twin):
            alpha = "one reader" if one.alpha is None else f"alpha {number(one.alpha)}"
            ends = "" if one.low is None else f" [{one.low:.2f}, {one.high:.2f}]"
            lines += [f"{one.task}: {one.value:.2f}{ends}"]
            lines += [f"{one.readers} {plural('reader', one.readers)}, {one.cases} cases, {alpha}"]
    return (Text(lines=tuple(lines)) if lines else Text(lines=("–", "not rated"), tone="missing"),)


def _cost_heads() -> tuple[Text, ...]:
    return (
        Text(
            lines=("FLOPs", "spent in training", "steps, images, passes over the corpus"),
            tip="Training FLOPs of one run: formula times images seen; optimiser steps, images, and how often these "
            "are the whole corpus",
        ),
        Text(lines=("Time", "of pretraining"), tip="Wall-clock seconds of one run's training sessions"),
        Text(lines=("Device",), tip="What it was trained on", words=True),
        Text(lines=("Memory", "at its peak"), tip="Highest memory of the device during training"),
    )


def _spent(board: Board, cost: Cost | None, twin: bool) -> tuple[Text, ...]:
    if cost is None:
        untrained = Text(lines=("–", "not trained" if twin else "not stored"), tone="missing", sort=0)
        return (untrained,) * 4
    known = cost.memory_bytes is not None
    return (
        Text(lines=(flops(cost.realised_flops), *_seen(board, cost)), sort=cost.realised_flops),
        Text(lines=(duration(cost.seconds),), sort=cost.seconds),
        Text(lines=(", ".join(cost.devices),)),
        Text(
            lines=(memory(cost.memory_bytes) if known else "–", *(() if known else ("not measured",))),
            sort=cost.memory_bytes,
            tone="" if known else "missing",
        ),
    )


def _seen(board: Board, cost: Cost) -> tuple[str, ...]:
    """Steps, images and passes over the corpus, where it was trained here."""
    if not cost.images_seen > 0:
        return ()
    often = passes(cost.images_seen, board.corpus_images)
    return f"{cost.steps:,.0f} steps", f"{cost.images_seen:,.0f} images", f"{often} passes"


def top(board: Board, place: int) -> str:
    """What the head of a column says of its ceiling; "" where it is as it should be."""
    column, ceiling = board.columns[place], _of(board, place)
    if ceiling is None:
        return "ceiling not measured"
    if not column.taught:
        return "ceiling not shown above the twin"
    low = column.metric == "auroc" and ceiling.score.value < LEARNABLE
    return f"ceiling under {LEARNABLE:.2f}" if low else ""


def _of(board: Board, place: int) -> Ceiling | None:
    return board.ceilings[place] if board.ceilings else None


def labelled(board: Board) -> str:
    """The name of the row of ceilings."""
    counts = [one.labels for one in board.ceilings if one is not None]
    return with_labels(*counts) if counts else "With labels (ceiling)"


def _labelled(board: Board) -> Line:
    """The ceilings, beneath the twins."""
    scores = []
    for place, column in enumerate(board.columns):
        one = _of(board, place)
        if one is None:
            scores.append(Text(lines=("–", "ceiling not measured"), tone="missing"))
            continue
        trained = f"{one.labels:,} labels, {len(one.seeds)} seed{'s' if len(one.seeds) > 1 else ''}"
        scores.append(Text(lines=(f"{metric(column.metric)} {interval(one.score)}", trained)))
    name = labelled(board)
    return Line(
        head=Text(lines=(name, "the same encoder and FLOPs, trained with labels")),
        cells=(
            Text(lines=("–", "the ceiling"), tone="missing"),
            *scores,
            *_experts(board, name, True),
            *((Text(lines=("–", "same budget"), tone="missing"),) * len(_cost_heads())),
        ),
        twin=True,
        kind="ceiling",
    )


def _plain(board: Board) -> tuple[Line, ...]:
    """The baselines, beneath the ceilings."""
    nothing = Text(lines=("–", "not measured"), tone="missing")
    free = Text(lines=("–", "nothing to train"), tone="missing", sort=0)
    return tuple(
        Line(
            head=Text(lines=(baseline.name, "no encoder")),
            cells=(
                Text(lines=("–", "a baseline"), tone="missing"),
                *(
                    Text(lines=(f"{metric(column.metric)} {interval(score)}",)) if score else nothing
                    for column, score in zip(board.columns, baseline.scores, strict=True)
                ),
                *_experts(board, baseline.name, True),
                *((free,) * len(_cost_heads())),
            ),
            twin=True,
            kind="baseline",
        )
        for baseline in board.baselines
    )


def _over(board: Board) -> tuple[str, ...]:
    return (f"over {len(board.pooled)} of {len(board.columns)} tasks",) if board.pooled else ()


def _seeds(row: Row) -> str:
    return f"{len(row.seeds)} seed{'s' if len(row.seeds) > 1 else ''}"


def _tie(row: Row) -> str:
    if row.ranks is None:
        return ""
    low, high = row.ranks
    place = f"place {low}" if low == high else f"place {low} to {high}"
    return f"tie group {row.letters}, {place}"


def _head(column: Column, ceiling: str = "") -> Text:
    """What a task is, and the leakage verdict of its cells: one corpus and one split stand behind all of them."""
    size = f"{column.groups:,} {plural(column.group_kind, column.groups)}, {column.samples:,} images"
    leakage = f"leakage: {column.leakage}"
    lines = (column.title, metric(column.metric), size, column.partial, column.pixels, _few(column), leakage, ceiling)
    return Text(
        lines=tuple(filter(None, lines)),
        tip=f"Gain in {metric(column.metric)} on the test set of {column.title} (split: {split(column)})",
    )


def split(column: Column) -> str:
    """How the images were divided, in words: a simulator's own split was published by nobody."""
    return "the simulator's own" if column.synthetic and column.protocol == "published" else column.protocol


def _few(column: Column) -> str:
    if column.groups < INTERVAL_GROUPS:
        return "too few groups for an interval"
    return "too few groups to rank" if column.groups < RANKED_GROUPS else ""


def contrasts(board: Board) -> tuple[Table, ...]:
    """Every row against every other and against its twin."""
    found = board.comparison
    if not found.twins:
        return ()
    heads = (Text(lines=("Difference",)), Text(lines=("Over the tasks", "chance-corrected", *_over(board))))
    every = (*found.pretexts, *found.twins)
    rows = [
        Line(
            head=Text(lines=(f"{one.first} − {one.second}",)),
            cells=tuple(_difference(each) for each in (one.mean, *one.entries)),
        )
        for one in every[:PAIRS]
    ]
    blank = Text(lines=("",))
    rows += [
        Line(
            head=Text(lines=("Sensitivity", f"{one.first} − {one.second}", "runs above their twin alone")),
            cells=(_restricted(one), *(blank for _ in board.columns)),
        )
        for one in found.sensitivity[:PAIRS]
    ]
    if any(size is not None for size in found.detectable):
        sizes = [Text(lines=("–" if size is None else number(size),)) for size in found.detectable]
        rows.append(
            Line(
                head=Text(lines=("Smallest difference", "shown in 80 % of repetitions")),
                cells=(blank, *sizes),
            )
        )
    cut = f" The first {PAIRS} of {len(every):,} pairs." if len(every) > PAIRS else ""
    return (
        Table(
            title="Differences: linear probe, mean of patch tokens",
            caption="Paired differences with p and a 95 % interval that hold together within a family: on all tasks, "
            "and over the tasks, the pretexts with each other, and the pretexts with their twins. Without a p, the "
            "interval is of the difference alone. Every run enters them, whether it learned or not; a row of "
            "sensitivity keeps the seeds in which the mean gain of either run has an interval above zero, and is in "
            f"no family.{cut}",
            heads=(*heads, *(_head(column) for column in board.columns)),
            rows=tuple(rows),
        ),
    )


def _restricted(one: Sensitivity) -> Text:
    if one.estimate is None:
        return Text(lines=("–", f"in none of {one.of} seeds are both above"), tone="missing")
    seeds = f"seed{'s' if len(one.seeds) > 1 else ''} {', '.join(map(str, one.seeds))} of {one.of}"
    return Text(lines=(interval(one.estimate, signed=True), seeds), sort=_finite(one.estimate.value))


def robustness(board: Board) -> tuple[Table, ...]:
    """What the headline metric loses under each nuisance of the modality, at every strength, nothing trained again."""
    return _altered(
        board,
        "nuisance",
        title="Robustness: what nuisances cost",
        caption="Clean minus altered, on the same test samples, with its 95 % interval; linear probe on the mean of "
        "patch tokens, fitted on clean images. Strengths 1 to 3. Read it beside the score: at chance there is nothing "
        "to lose.",
        what="loss of ",
        told=lambda one: (*_told(one.drops, signed=True), f"clean {number(one.points[0][1].value)}"),
    )


def scales(board: Board) -> tuple[Table, ...]:
    """What is left of the headline metric where test images keep one scale alone, nothing trained again."""
    return _altered(
        board,
        "scale",
        title="Scale controls: what of the signal is local",
        caption="The score on the same test samples as they are and altered, with its 95 % interval; linear probe on "
        "the mean of patch tokens, fitted on images as they are. Shuffled: cut into 2 x 2, 4 x 4 and 8 x 8 squares "
        "that change places, so that only what a square holds is left. Low-pass: Gaussian of 1/32, 1/16 and 1/8 of "
        "the side, so that only what is larger is left. A score that shuffling leaves as it was rests on local "
        "signal; an encoder that never saw such images loses some for that alone.",
        what="",
        told=lambda one: (f"whole: {interval(one.points[0][1])}", *_told(one.points[1:])),
    )


def _altered(
    board: Board, kind: str, *, title: str, caption: str, what: str, told: Callable[[Series], tuple[str, ...]]
) -> tuple[Table, ...]:
    """A row per encoder, a column per task and alteration of a kind. told: the lines of a cell."""
    turned = {(s.name, s.task, s.what): s for s in board.series if s.kind == kind and s.drops}
    kinds = dict.fromkeys((s.task, s.what, s.metric) for s in turned.values())
    rows = [
        Line(
            head=Text(lines=(name,)),
            cells=tuple(_under(turned.get((name, task, altered)), told) for task, altered, _ in kinds),
            twin=name.startswith("untrained"),
        )
        for name in dict.fromkeys(s.name for s in turned.values())
    ]
    if not rows:
        return ()
    heads = (Text(lines=(task, altered, f"{what}{metric(name)}")) for task, altered, name in kinds)
    encoder = Text(lines=("Encoder",), words=True)
    return (Table(title=title, caption=caption, heads=(encoder, *heads), rows=tuple(rows)),)


def _under(one: Series | None, told: Callable[[Series], tuple[str, ...]]) -> Text:
    if one is None:
        return Text(lines=("–", "not run"), tone="missing")
    return Text(lines=told(one), sort=_finite(one.drops[-1][1].value))


def _told(points: Iterable[tuple[float, Estimate]], signed: bool = False) -> Iterator[str]:
    return (f"{strength:.0f}: {interval(value, signed=signed)}" for strength, value in points)


def ledger(board: Board) -> tuple[Table, ...]:
    """What the features hold of nuisances, beside what they hold of the label."""
    if not board.ledgers:
        return ()
    columns = dict.fromkeys(one.column for one in board.ledgers)
    found = {(one.name, one.column): one for one in board.ledgers}
    labels = {
        (row.variant, column): entry.score
        for row in board.sections[0].rows
        for column, entry in zip(board.columns, row.entries, strict=True)
    }
    rows = []
    for name in dict.fromkeys(one.name for one in board.ledgers):
        cells = [_read(found.get((name, column)), labels) for column in columns]
        rows.append(Line(head=Text(lines=(name,)), cells=tuple(cells), twin=name.startswith("untrained")))
    return (
        Table(
            title="Nuisance ledger: what else the features hold",
            caption="AUROC with which a linear probe on the mean of patch tokens tells what was done to a test image, "
            "each kind against all others, over five folds by group; then the label, in its own metric. High for the "
            "label and low for nuisances is what one wants.",
            heads=(Text(lines=("Encoder",), words=True), *(Text(lines=(column.title,)) for column in columns)),
            rows=tuple(rows),
        ),
    )


def _read(one: Ledger | None, labels: Mapping[tuple[str, Column], Estimate | None]) -> Text:
    if one is None:
        return Text(lines=("–", "not run"), tone="missing")
    label = labels.get((one.variant, one.column))
    answer = () if label is None else (f"label: {metric(one.column.metric)} {interval(label)}",)
    kinds = (f"{name}: {interval(told)}" for name, told in one.nuisances)
    return Text(lines=(f"all: {interval(one.whole)}", *kinds, *answer), sort=_finite(one.whole.value))


def claims(board: Board) -> tuple[Table, ...]:
    """The study's claims, worded for what was run here."""
    if not board.claims:
        return ()
    budgets = " or ".join(flops(budget) for budget in board.budgets)
    return (
        Table(
            title="The study's claims",
            caption=f"Judged on this board alone: {board.modality}, corpus {board.corpus}, {budgets} training FLOPs "
            "per encoder, linear probe on the mean of patch tokens, chance-corrected differences with 95 % intervals; "
            "what other probes find stands beside, without a verdict. Not adjusted for the number of claims.",
            heads=tuple(Text(lines=(head,)) for head in ("Claim", "On", "Verdict", "Found")),
            rows=tuple(claim(one) for one in board.claims),
        ),
    )


def claim(one: Judged) -> Line:
    return Line(
        head=Text(lines=(one.says,)),
        cells=(
            Text(lines=(one.about, *((", ".join(one.tasks),) if one.tasks else ()))),
            Text(lines=(one.verdict,), tone=CLAIMS.get(one.verdict, "")),
            Text(lines=claim_found(one)),
        ),
    )


def claim_found(one: Judged) -> tuple[str, ...]:
    """What a verdict rests on: differences or slopes, or why there is none."""
    if one.why:
        return (one.why, *_apart(one))
    lines = _found(one, one.estimates)
    others = [f"{PROBES.get(probe, probe)}, no verdict: {line}" for probe, e in one.probes for line in _found(one, e)]
    return (*lines, f"about {one.subject}", *others, *_apart(one))


def shortly(one: Judged) -> tuple[str, ...]:
    """The estimates of a claim, of a slope per unit of measured locality."""
    named = [f"{pair}: " if len(one.pairs) > 1 else "" for pair in one.pairs]
    return tuple(f"{name}{interval(each, signed=True)}" for name, each in zip(named, one.estimates, strict=False))


def _found(one: Judged, estimates: Sequence[Estimate]) -> list[str]:
    return [
        f"{pair}: {change(one, each) if one.slope else interval(each, signed=True)}"
        for pair, each in zip(one.pairs, estimates, strict=True)
    ]


def change(one: Judged, slope: Estimate) -> str:
    """What a slope says over the localities that it was fitted to, and nowhere else."""
    low, high = min(one.localities), max(one.localities)
    over = replace(slope, **{end: _times(getattr(slope, end), high - low) for end in ("value", "low", "high")})
    return (
        f"{interval(over, signed=True)} from a measured locality of {low:.2f} to one of {high:.2f} "
        f"(line through {len(one.localities)} tasks, slope {number(slope.value, True)})"
    )


def _times(x: float | None, factor: float) -> float | None:
    return None if x is None else factor * x


def _apart(one: Judged) -> tuple[str, ...]:
    return (f"not part of it: {', '.join(one.apart)}",) if one.apart else ()


def _difference(one: Difference | None) -> Text:
    if one is None:
        return Text(lines=("–", "not both measured"), tone="missing")
    lines = (interval(one.estimate, signed=True), verdict(one), chance(one.p))
    return Text(lines=tuple(filter(None, lines)), tone=TONES.get(one.shown, ""), sort=_finite(one.estimate.value))


def verdict(one: Entry | Difference) -> str:
    """As it is printed: why there is none, where there is none, and how the interval is then meant."""
    if one.verdict == DEPENDENT:
        return f"{DEPENDENT}: {AS_IF}"
    return one.verdict


def share(entry: Entry) -> str:
    """Of the way from twin to ceiling."""
    return "" if entry.share is None else f"share {interval(entry.share)}"


def chance(p: float | None) -> str:
    return "" if p is None else "p under .001" if p < 0.001 else f"p {p:.3f}"


def _texts(board: Board, row: Row, extent: float, measured: Mapping[int, str]) -> tuple[Text, ...]:
    texts = []
    for place, name in measured.items():
        entry, own = row.entries[place], board.columns[place].metric
        text = _text(entry, metric(name), extent)
        plain = [b for b in board.baselines if b.scores[place] is not None and name == own]
        scores = [(b.scores[place].value, b.name) for b in plain]
        value, best = max(scores, default=(0.0, ""))
        if best and entry.score is not None and value >= entry.score.value:
            text = replace(
                text, lines=(*text.lines, f"no better than the {best[0].lower()}{best[1:]}: {number(value)}")
            )
        texts.append(text)
    return tuple(texts)


def _text(entry: Entry, name: str, extent: float) -> Text:
    if entry.missing:
        return Text(lines=("–", entry.missing), tone="missing")
    value = f"{name} {interval(entry.score)}" if entry.score is not None else ""
    if entry.gain is None:
        return Text(lines=tuple(filter(None, (value, entry.note))), sort=0)
    drawn = bar(entry.gain, extent) if entry.gain.low is not None else ""
    lines = (interval(entry.gain, signed=True), verdict(entry), value, share(entry), entry.note)
    return Text(
        lines=tuple(filter(None, lines)),
        tone=TONES.get(entry.shown, ""),
        bar=drawn,
        sort=_finite(entry.gain.value),
    )


def _finite(x: float) -> float | None:
    return x if math.isfinite(x) else None


def _extent(section: Section) -> float:
    """Half the width of the bars' common scale."""
    every = [entry.gain for row in section.rows for entry in (row.mean, *row.entries) if entry.gain is not None]
    return max((abs(end) for gain in every for end in (gain.low, gain.high) if end is not None), default=0.0)


def bar(gained: Estimate, extent: float) -> Markup:
    """An interval and its value on a scale of ±extent, zero in the middle; decorative, the numbers stand beside it."""
    low, value, high = (
        [round(76 * x / extent) for x in (gained.low, gained.value, gained.high)] if extent > 0 else [0] * 3
    )
    return Markup(
        '<svg class="bar" viewBox="-80 -7 160 14" aria-hidden="true"><path class="zero" d="M-76 0H76M0-6V6"/>'
        '<path class="range" d="M{} 0H{}"/><circle cx="{}" r="3.5"/></svg>'
    ).format(low, high, value)


def tasks(board: Board) -> Table:
    heads = ("Task", "Classes", "Test groups", "Test images", "Images", "Split", "Leakage", "Data")
    return Table(
        title="Tasks",
        caption="What each task consists of.",
        heads=tuple(Text(lines=(head,)) for head in heads),
        rows=tuple(
            Line(
                head=Text(
                    lines=tuple(filter(None, (column.title, "synthetic" if column.synthetic else ""))),
                    links=(("page of this task", task_page(board.modality, column.task)),),
                ),
                cells=tuple(
                    Text(lines=(text,))
                    for text in (
                        ", ".join(column.classes),
                        f"{column.groups:,} {plural(column.group_kind, column.groups)}",
                        f"{column.samples:,}",
                        column.partial or f"{column.images:,}",
                        split(column),
                        column.leakage,
                        column.data,
                    )
                ),
            )
            for column in board.columns
        ),
    )


def task_page(modality: str, task: str) -> str:
    """Where the page of a task lies within the site."""
    return f"tasks/{slug(f'{modality}-{task}')}.html"


def costs(board: Board) -> Table:
    heads = ("Encoder", "FLOPs allowed", "FLOPs spent", "Steps", "Images seen", "Passes over the corpus")
    heads += ("Time", "Device", "Memory", "Status")
    return Table(
        title="Cost of pretraining",
        caption="Means over the seeds of a row. The twin costs nothing: it is not trained.",
        heads=tuple(Text(lines=(head,)) for head in heads),
        rows=tuple(
            Line(
                head=Text(lines=(cost.name,)),
                cells=tuple(
                    Text(lines=(text,))
                    for text in (
                        flops(cost.budget_flops),
                        flops(cost.realised_flops),
                        f"{cost.steps:,.0f}",
                        f"{cost.images_seen:,.0f}",
                        passes(cost.images_seen, board.corpus_images),
                        duration(cost.seconds),
                        ", ".join(cost.devices),
                        memory(cost.memory_bytes),
                        cost.status,
                    )
                ),
            )
            for cost in board.costs
        ),
    )
