"""Board -> words: every text and number of a page, formatted once, so that HTML and Markdown cannot disagree."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

from markupsafe import Markup

from leaderboards import figures
from leaderboards.board import HEALTH, LOSS, SYNTHETIC, Board, Column, Difference, Entry, Judged, Row, Section
from leaderboards.claims import CONTRADICTED, HOLDS
from leaderboards.comparisons import AHEAD, BEHIND, SAME
from leaderboards.statistics import (
    ABOVE,
    BELOW,
    INTERVAL_GROUPS,
    NOT_SHOWN,
    PRETEXT_SEEDS,
    RANKED_GROUPS,
    Estimate,
    subject,
)

METRICS = {"auroc": "AUROC", "balanced_accuracy": "balanced accuracy", "accuracy": "accuracy", "macro_f1": "macro F1"}
PROBES = {"linear": "linear probe", "knn": "kNN probe", "attentive": "attentive probe", "fewshot": "few-shot probe"}
READOUTS = {"patches": "mean of patch tokens", "native": "the method's own readout"}
TONES = {ABOVE: "above", BELOW: "below", NOT_SHOWN: "same"}
CLAIMS = {HOLDS: "above", CONTRADICTED: "below"}
DIFFERENCES = {AHEAD: "above", BEHIND: "below", SAME: "same"}
MANY = 1000  # times the groups, or seeds: more is no plan


@dataclass(frozen=True, kw_only=True)
class Text:
    """A cell of a table: the first line carries the number, the others explain it."""

    lines: tuple[str, ...]
    tone: str = ""  # "above", "below", "same", "missing" or ""
    bar: Markup | str = ""  # an interval, drawn


@dataclass(frozen=True, kw_only=True)
class Line:
    head: Text
    cells: tuple[Text, ...]
    twin: bool = False


@dataclass(frozen=True, kw_only=True)
class Table:
    title: str
    caption: str
    heads: tuple[Text, ...]
    rows: tuple[Line, ...]


@dataclass(frozen=True, kw_only=True)
class Figure:
    title: str
    svg: Markup


@dataclass(frozen=True, kw_only=True)
class View:
    slug: str
    title: str
    label: str  # "SYNTHETIC: ...", or ""
    facts: tuple[tuple[str, str], ...]  # what was asked, what was run
    headline: Table
    how: tuple[str, ...]  # how to read it
    missing: tuple[tuple[str, str], ...]
    further: tuple[Table, ...]
    figures: tuple[Figure, ...]
    legend: tuple[tuple[Markup, str], ...]  # (stroke, name) of the curves
    footnotes: tuple[str, ...]
    provenance: tuple[tuple[str, str], ...]
    commands: tuple[tuple[str, str], ...] = field(
        default=(
            (
                "make verify",
                "recomputes every number of the store from the stored predictions and names any difference",
            ),
            ("python -m leaderboards build", "writes these pages again from the store"),
        )
    )


def view(board: Board) -> View:
    names = [cost.name for cost in board.costs]
    return View(
        slug=board.slug,
        title=board.title,
        label=SYNTHETIC if board.synthetic else "",
        facts=_facts(board),
        headline=_gains(board, board.sections[0]),
        how=_how(board),
        missing=board.missing,
        further=(
            *_claims(board),
            *_contrasts(board),
            *(_gains(board, section) for section in board.sections[1:]),
            _tasks(board),
            _costs(board),
        ),
        figures=(*_ranks(board), *_figures(board, names)),
        legend=tuple((figures.stroke(place), name) for place, name in enumerate(names)) if board.curves else (),
        footnotes=(*_undefined(board), *_leakage(board), *board.footnotes),
        provenance=board.provenance,
    )


def _ranks(board: Board) -> tuple[Figure, ...]:
    """The classical view, where it could show anything."""
    found = board.comparison.classical
    if found is None or not found.able:
        return ()
    ranks = ", ".join(f"{name} {rank:.2f}" for name, rank in zip(found.names, found.ranks, strict=True))
    tested = "" if math.isnan(found.friedman) else f"; Friedman p {found.friedman:.3f}"
    title = (
        f"Mean ranks over {found.tasks} tasks: {ranks}{tested}; the upper bar is Nemenyi's critical difference, "
        f"{found.critical:.2f}; lower bars join what Wilcoxon's test does not tell apart after Holm"
    )
    return (Figure(title=title, svg=figures.critical_difference(found)),)


def _figures(board: Board, names: list[str]) -> tuple[Figure, ...]:
    """A chart per row for the loss, as losses of different pretexts have no common scale; one for the health value."""
    charts = [
        (f"{LOSS} of {name}", [c for c in board.curves if (c.quantity, c.name) == (LOSS, name)]) for name in names
    ]
    charts += [(HEALTH, [c for c in board.curves if c.quantity == HEALTH])]
    drawn = []
    for what, curves in charts:
        if curves:
            low, high = figures.extremes(curves)
            title = f"{what}, between {low} and {high}"
            drawn.append(Figure(title=title, svg=figures.chart(title, curves, names)))
    return tuple(drawn)


def number(x: float, signed: bool = False) -> str:
    """Three decimals with a true minus; what is not exactly zero keeps its sign."""
    text = f"{x:+.3f}" if signed and x != 0 else f"{x:.3f}"
    return text.replace("-", "−")


def interval(one: Estimate, signed: bool = False) -> str:
    """A value with its interval where it has one."""
    if one.low is None or one.high is None:
        return number(one.value, signed)
    return f"{number(one.value, signed)} [{number(one.low, signed)}, {number(one.high, signed)}]"


def flops(x: float) -> str:
    """In words where it is not known: an encoder from outside."""
    if not x >= 0:
        return "unknown"
    return f"{x:.1e}".replace("e+", "e")


def duration(seconds: float) -> str:
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"


def metric(name: str) -> str:
    return METRICS.get(name, name)


def _facts(board: Board) -> tuple[tuple[str, str], ...]:
    budgets = " or ".join(flops(budget) for budget in board.budgets)
    names = ", ".join(cost.name for cost in board.costs) or "no pretext yet"
    simulated = " simulated" if board.synthetic else ""
    fewest = min((len(cost.seeds) for cost in board.costs), default=0)
    return (
        (
            "What was asked",
            f"At equal training FLOPs, does a frozen encoder pretrained on {board.modality} images answer these tasks "
            "better than its twin, the untrained encoder that it started from?",
        ),
        ("Pretexts", f"{names}, each with its twin"),
        ("Track", f"{board.track}: {budgets or 'no'} training FLOPs per encoder"),
        ("Corpus", f"{board.corpus}: {board.corpus_images:,}{simulated} images, content {board.corpus_digest}"),
        ("Encoder", board.encoder),
        ("Seeds", f"{', '.join(map(str, board.seeds))} (a statement here is about {subject(fewest)})"),
    )


def _gains(board: Board, section: Section) -> Table:
    """The table of one probe and readout: gain over the twin first, the metric itself beneath."""
    what = f"{PROBES.get(section.probe, section.probe)}, {READOUTS.get(section.readout, section.readout)}"
    if section.by_group:
        what += ", scores averaged per group"
    extent = _extent(section)
    scale = f". Bars run from {number(-extent, True)} to {number(extent, True)}" if extent else ""
    spent = {cost.name: f"{flops(cost.realised_flops)} FLOPs, {duration(cost.seconds)}" for cost in board.costs}
    heads = [Text(lines=("Encoder",)), Text(lines=("Mean gain over twin", "chance-corrected", *_over(board)))]
    heads += [_head(column) for column in board.columns]
    return Table(
        title=f"Gain over the twin: {what}",
        caption=f"Gain over the twin with its 95 % interval, then the metric itself; {what}{scale}.",
        heads=tuple(heads),
        rows=tuple(
            Line(
                head=Text(
                    lines=tuple(filter(None, (row.name, _seeds(row), _tie(row), spent.get(row.name, ""), row.note)))
                ),
                cells=(_text(row.mean, "", extent), *_texts(board, row, extent)),
                twin=row.twin,
            )
            for row in section.rows
        )
        + (_plain(board) if section is board.sections[0] else ()),
    )


def _plain(board: Board) -> tuple[Line, ...]:
    """The baselines, beneath the twins."""
    nothing = Text(lines=("–", "not measured"), tone="missing")
    return tuple(
        Line(
            head=Text(lines=(baseline.name, "no encoder")),
            cells=(
                Text(lines=("",)),
                *(
                    Text(lines=(f"{metric(column.metric)} {interval(score)}",)) if score else nothing
                    for column, score in zip(board.columns, baseline.scores, strict=True)
                ),
            ),
            twin=True,
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
    return f"tie group {row.letters}, {place}, best in {row.best:.0%} of draws"


def _head(column: Column) -> Text:
    """What a task is, and the leakage verdict of its cells: one corpus and one split stand behind all of them."""
    size = f"{column.groups:,} {plural(column.group_kind, column.groups)}, {column.samples:,} images"
    leakage = f"leakage: {column.leakage}"
    lines = (column.title, metric(column.metric), size, column.partial, _few(column), leakage)
    return Text(lines=tuple(filter(None, lines)))


def _few(column: Column) -> str:
    if column.groups < INTERVAL_GROUPS:
        return "too few groups for an interval"
    return "too few groups to rank" if column.groups < RANKED_GROUPS else ""


def plural(noun: str, count: int) -> str:
    word, space, aside = noun.partition(" (")
    return noun if count == 1 or word.endswith("s") else f"{word}s{space}{aside}"


def _contrasts(board: Board) -> tuple[Table, ...]:
    """Every row against every other and against its twin."""
    found = board.comparison
    if not found.twins:
        return ()
    heads = (Text(lines=("Difference",)), Text(lines=("Over the tasks", "chance-corrected", *_over(board))))
    rows = [
        Line(
            head=Text(lines=(f"{one.first} − {one.second}",)),
            cells=tuple(_difference(each) for each in (one.mean, *one.entries)),
        )
        for one in (*found.pretexts, *found.twins)
    ]
    if any(size is not None for size in found.detectable):
        sizes = [Text(lines=("–" if size is None else number(size),)) for size in found.detectable]
        rows.append(
            Line(
                head=Text(lines=("Smallest difference", "shown in 80 % of repetitions")),
                cells=(Text(lines=("",)), *sizes),
            )
        )
    return (
        Table(
            title="Differences: linear probe, mean of patch tokens",
            caption="Paired differences with their 95 % interval, and p after Holm. Four families: pretexts with each "
            "other and with their twins, on all tasks and over the tasks. What would separate a pair takes the "
            "observed difference for the true one.",
            heads=(*heads, *(_head(column) for column in board.columns)),
            rows=tuple(rows),
        ),
    )


def _claims(board: Board) -> tuple[Table, ...]:
    """The study's claims, worded for what was run here."""
    if not board.claims:
        return ()
    budgets = " or ".join(flops(budget) for budget in board.budgets)
    return (
        Table(
            title="The study's claims",
            caption=f"Judged on this board alone: {board.modality}, corpus {board.corpus}, {budgets} training FLOPs "
            "per encoder, linear probe on the mean of patch tokens, chance-corrected differences with 95 % intervals. "
            "Not adjusted for the number of claims.",
            heads=tuple(Text(lines=(head,)) for head in ("Claim", "On", "Verdict", "Found")),
            rows=tuple(
                Line(
                    head=Text(lines=(one.says,)),
                    cells=(
                        Text(lines=(one.about, *((", ".join(one.tasks),) if one.tasks else ()))),
                        Text(lines=(one.verdict,), tone=CLAIMS.get(one.verdict, "")),
                        Text(lines=claim_found(one)),
                    ),
                )
                for one in board.claims
            ),
        ),
    )


def claim_found(one: Judged) -> tuple[str, ...]:
    """What a verdict rests on: differences or slopes, or why there is none."""
    if one.why:
        return (one.why,)
    what = " per unit of locality" if one.slope else ""
    lines = [
        f"{pair}: {interval(each, signed=True)}{what}" for pair, each in zip(one.pairs, one.estimates, strict=True)
    ]
    return (*lines, f"about {one.subject}")


def _difference(one: Difference | None) -> Text:
    if one is None:
        return Text(lines=("–", "not both measured"), tone="missing")
    chance = "" if one.p is None else "p under .001" if one.p < 0.001 else f"p {one.p:.3f}"
    lines = (interval(one.estimate, signed=True), one.verdict, chance, *_needed(one))
    return Text(lines=tuple(filter(None, lines)), tone=DIFFERENCES.get(one.verdict, ""))


def _needed(one: Difference) -> tuple[str, ...]:
    """What would separate the two, in groups and in seeds."""
    if one.needed is None:
        return ()
    ways = []
    if one.needed.groups < MANY:
        ways.append(f"{math.ceil(one.needed.groups * one.estimate.groups):,} groups")
    if one.needed.seeds < MANY:
        ways.append(f"{math.ceil(one.needed.seeds):,} seeds")
    return (f"would take {' or '.join(ways)}" if ways else "neither groups nor seeds alone would separate them",)


def _texts(board: Board, row: Row, extent: float) -> tuple[Text, ...]:
    texts = []
    for place, (column, entry) in enumerate(zip(board.columns, row.entries, strict=True)):
        text = _text(entry, metric(column.metric), extent)
        scores = [(b.scores[place].value, b.name) for b in board.baselines if b.scores[place] is not None]
        value, name = max(scores, default=(0.0, ""))
        if name and entry.score is not None and value >= entry.score.value:
            text = replace(
                text, lines=(*text.lines, f"no better than the {name[0].lower()}{name[1:]}: {number(value)}")
            )
        texts.append(text)
    return tuple(texts)


def _text(entry: Entry, name: str, extent: float) -> Text:
    if entry.missing:
        return Text(lines=("–", entry.missing), tone="missing")
    value = f"{name} {interval(entry.score)}" if entry.score is not None else ""
    if entry.gain is None:
        return Text(lines=tuple(filter(None, (value, entry.note))))
    drawn = figures.bar(entry.gain, extent) if entry.gain.low is not None else ""
    lines = (interval(entry.gain, signed=True), entry.verdict, value, entry.note)
    return Text(lines=tuple(filter(None, lines)), tone=TONES.get(entry.verdict, ""), bar=drawn)


def _extent(section: Section) -> float:
    """Half the width of the bars' common scale."""
    gains = [entry.gain for row in section.rows for entry in (row.mean, *row.entries) if entry.gain is not None]
    return max((abs(end) for gain in gains for end in (gain.low, gain.high) if end is not None), default=0.0)


def _how(board: Board) -> tuple[str, ...]:
    fewest = min((len(cost.seeds) for cost in board.costs), default=0)
    said = [
        "Above twin: the whole interval of the gain lies above zero. Not shown above twin: it covers zero, which is "
        "no evidence of equality. Below twin: it lies below zero. These verdicts are not adjusted for their number.",
        "Intervals leave out groups (never single images) in turn, within strata of their label and paired between "
        "methods, and cross them with pretraining seeds where there are several: docs/statistics.md.",
        f"Under {INTERVAL_GROUPS} groups only the value is shown; from {INTERVAL_GROUPS} an interval; from "
        f"{RANKED_GROUPS} rows are ordered.",
        "Too close to the ceiling: so few groups are in error that equal methods would not come out different at the "
        "stated rate; there is no verdict.",
    ]
    if board.pooled:
        said.append(
            f"The mean gain is over fixed tasks: {', '.join(board.pooled)}. Each gain is divided by one minus chance."
        )
    if board.ranked:
        said.append(
            "Rows with a letter in common are not shown to differ (paired differences over the tasks, Holm); a row's "
            "place lies between its limits. Rows are ordered by mean gain; there are no bare ranks."
        )
    else:
        said.append("Rows are ordered by mean gain for reading only: too few groups, tasks or rows to tell them apart.")
    if fewest < PRETEXT_SEEDS:
        said.append(
            f"With under {PRETEXT_SEEDS} pretraining seeds this is about {subject(fewest)}, not about the pretext."
        )
    if board.synthetic:
        said.append("The images are simulated. Nothing here says how a method does on patients.")
    return tuple(said)


def _undefined(board: Board) -> tuple[str, ...]:
    """Bootstrap draws in which a fold lost a class, where there were any."""
    said = {}
    for row in board.sections[0].rows:
        for column, entry in zip(board.columns, row.entries, strict=True):
            if entry.score is not None and entry.score.draws_undefined:
                count = f"{entry.score.draws_undefined:,} of {entry.score.draws:,} bootstrap draws"
                said[column] = f"{column.title}: in {count} a fold lost a class and was averaged without it."
    return tuple(said.values())


def _leakage(board: Board) -> tuple[str, ...]:
    said = {
        "warn": "the leakage check found test images, near-duplicates or groups of them, in the corpus or in training",
        "unknown": "leakage was not wholly checked",
    }
    return tuple(f"{column.title}: {said[column.leakage]}." for column in board.columns if column.leakage in said)


def _tasks(board: Board) -> Table:
    heads = ("Task", "Classes", "Test groups", "Test images", "Images", "Protocol", "Leakage", "Data")
    return Table(
        title="Tasks",
        caption="What each task consists of.",
        heads=tuple(Text(lines=(head,)) for head in heads),
        rows=tuple(
            Line(
                head=Text(lines=tuple(filter(None, (column.title, "synthetic" if column.synthetic else "")))),
                cells=tuple(
                    Text(lines=(text,))
                    for text in (
                        ", ".join(column.classes),
                        f"{column.groups:,} {plural(column.group_kind, column.groups)}",
                        f"{column.samples:,}",
                        column.partial or f"{column.images:,}",
                        column.protocol,
                        column.leakage,
                        column.data,
                    )
                ),
            )
            for column in board.columns
        ),
    )


def _costs(board: Board) -> Table:
    heads = ("Encoder", "FLOPs allowed", "FLOPs spent", "Steps", "Images seen", "Time", "Device", "Status")
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
                        duration(cost.seconds),
                        ", ".join(cost.devices),
                        cost.status,
                    )
                ),
            )
            for cost in board.costs
        ),
    )
