"""The headline table of a board: gain over the twin, the metric itself, costs, ceilings and baselines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from benchmark.metrics import title as metric
from leaderboards.boards import claims
from leaderboards.boards.board import Board, Ceiling, Column, Cost, Entry, Row, Section
from leaderboards.stats.intervals import INTERVAL_GROUPS, RANKED_GROUPS
from leaderboards.tables.addresses import seed_links
from leaderboards.tables.table import (
    TONES,
    Line,
    Table,
    Text,
    draw_bar,
    finite,
    half_width,
    share_in_words,
    verdict_in_words,
)
from leaderboards.words import duration, flops, interval, number, passes, probing, with_labels
from tasks.cards import plural

COLUMNS = 8  # of a table, its heads of rows included: what a screen holds
COST = Text(
    lines=("Cost", "of a pretraining"),
    tip="Training FLOPs of one run: formula times images seen; optimiser steps, images, and how often these are the "
    "whole corpus; wall-clock time and device",
)
LEARNABLE = 0.90  # AUROC: a ceiling under it is marked, as little can be learnt there with labels either


def tabulate_gains(board: Board, section: Section) -> tuple[Table, ...]:
    """Tables of one probe and readout, of COLUMNS at most: the metric, the gain over the twin, the share; the headline
    ends with what the encoders cost. Tasks that have no room in the first table follow in others."""
    headline = section is board.sections[0]
    what = probing(section.probe, section.readout)
    if section.by_group:
        what += ", scores averaged per group"
    extent = half_width(e.gain for row in section.rows for e in (row.mean, *row.entries) if e.gain is not None)
    measured = _measured(board, section)
    room = COLUMNS - 2 - (headline * (1 + bool(board.ratings)))
    order = _in_front(board, list(measured))
    others, wide = sorted(order[room:]), COLUMNS - 1
    parts = [sorted(order[:room]), *(others[at : at + wide] for at in range(0, len(others), wide))]
    return tuple(
        _table(board, section, {place: measured[place] for place in places}, what, extent, first=places is parts[0])
        for places in parts
    )


def _in_front(board: Board, places: Sequence[int]) -> list[int]:
    """Tasks that the study's claims name first, then those that can bear a verdict."""
    named = {task for claim in claims.load() for task in claim.tasks}
    pooled = set(board.pooled)
    columns = board.columns
    return sorted(places, key=lambda place: (columns[place].task not in named, columns[place].title not in pooled))


def _table(
    board: Board, section: Section, measured: Mapping[int, str], what: str, extent: float, *, first: bool
) -> Table:
    """measured: place of a column -> its metric. first: with the mean over the tasks, and costs on the headline."""
    headline = section is board.sections[0]
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
        *((Text(lines=("Mean gain over twin", "chance-corrected", *over_tasks(board)), tip=tip),) if first else ()),
        *(
            head_of_task(
                replace(board.columns[place], metric=measured[place]),
                ceiling_in_words(board, place) if headline else "",
            )
            for place in measured
        ),
        *((*_expert_heads(board), COST) if headline and first else ()),
    ]
    costs = {cost.name: cost for cost in board.costs}
    rows = [
        Line(
            head=Text(lines=tuple(filter(None, (row.name, _seeds(row), _tie(row), row.note))), links=seed_links(row)),
            cells=(
                *((_text(row.mean, "", extent),) if first else ()),
                *_texts(board, row, extent, measured),
                *(
                    (*_experts(board, row.name, row.twin), _spent(board, costs.get(row.name), row.twin))
                    if headline and first
                    else ()
                ),
            ),
            twin=row.twin,
            kind="twin" if row.twin else "trained",
        )
        for row in section.rows
    ]
    beneath = (_labelled(board, measured, first), *_plain(board, measured, first)) if headline else ()
    return Table(
        title=f"{'Scores' if first else 'Other tasks'}: {what}",
        caption=f"The metric with its 95 % interval, then the gain over the twin{between}; {what}{scale}.",
        heads=tuple(heads),
        rows=(*rows, *beneath),
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


def _spent(board: Board, cost: Cost | None, twin: bool) -> Text:
    if cost is None:
        return Text(lines=("–", "not trained" if twin else "not stored"), tone="missing", sort=0)
    lines = (flops(cost.realised_flops), *_seen(board, cost), f"{duration(cost.seconds)} on {', '.join(cost.devices)}")
    return Text(lines=lines, sort=cost.realised_flops)


def _seen(board: Board, cost: Cost) -> tuple[str, ...]:
    """Steps, images and passes over the corpus, where it was trained here."""
    if not cost.images_seen > 0:
        return ()
    often = passes(cost.images_seen, board.corpus_images)
    return f"{cost.steps:,.0f} steps", f"{cost.images_seen:,.0f} images", f"{often} passes"


def ceiling_in_words(board: Board, place: int) -> str:
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


def name_of_ceilings(board: Board) -> str:
    """The name of the row of ceilings."""
    counts = [one.labels for one in board.ceilings if one is not None]
    return with_labels(*counts) if counts else "With labels (ceiling)"


def _labelled(board: Board, measured: Mapping[int, str], first: bool) -> Line:
    """The ceilings, beneath the twins."""
    scores = []
    for place in measured:
        column, one = board.columns[place], _of(board, place)
        if one is None:
            scores.append(Text(lines=("–", "ceiling not measured"), tone="missing"))
            continue
        trained = f"{one.labels:,} labels, {len(one.seeds)} seed{'s' if len(one.seeds) > 1 else ''}"
        scores.append(Text(lines=(f"{metric(column.metric)} {interval(one.score)}", trained)))
    name = name_of_ceilings(board)
    budget = Text(lines=("–", "same budget"), tone="missing")
    return Line(
        head=Text(lines=(name, "the same encoder and FLOPs, trained with labels")),
        cells=(
            *((Text(lines=("–", "the ceiling"), tone="missing"),) if first else ()),
            *scores,
            *((*_experts(board, name, True), budget) if first else ()),
        ),
        twin=True,
        kind="ceiling",
    )


def _plain(board: Board, measured: Mapping[int, str], first: bool) -> tuple[Line, ...]:
    """The baselines, beneath the ceilings."""
    nothing = Text(lines=("–", "not measured"), tone="missing")
    free = Text(lines=("–", "nothing to train"), tone="missing", sort=0)
    lines = []
    for baseline in board.baselines:
        known = [(board.columns[place], baseline.scores[place]) for place in measured]
        scores = [
            Text(lines=(f"{metric(column.metric)} {interval(score)}",)) if score else nothing for column, score in known
        ]
        lines.append(
            Line(
                head=Text(lines=(baseline.name, "no encoder")),
                cells=(
                    *((Text(lines=("–", "a baseline"), tone="missing"),) if first else ()),
                    *scores,
                    *((*_experts(board, baseline.name, True), free) if first else ()),
                ),
                twin=True,
                kind="baseline",
            )
        )
    return tuple(lines)


def over_tasks(board: Board) -> tuple[str, ...]:
    return (f"over {len(board.pooled)} of {len(board.columns)} tasks",) if board.pooled else ()


def _seeds(row: Row) -> str:
    return f"{len(row.seeds)} seed{'s' if len(row.seeds) > 1 else ''}"


def _tie(row: Row) -> str:
    if row.ranks is None:
        return ""
    low, high = row.ranks
    place = f"place {low}" if low == high else f"place {low} to {high}"
    return f"tie group {row.letters}, {place}"


def head_of_task(column: Column, ceiling: str = "") -> Text:
    """What a task is, and the leakage verdict of its cells: one corpus and one split stand behind all of them."""
    size = f"{column.groups:,} {plural(column.group_kind, column.groups)}, {column.samples:,} images"
    leakage = f"leakage: {column.leakage}"
    lines = (column.title, metric(column.metric), size, column.partial, column.pixels, _few(column), leakage, ceiling)
    return Text(
        lines=tuple(filter(None, lines)),
        tip=f"Gain in {metric(column.metric)} on the test set of {column.title} (split: {split_in_words(column)})",
    )


def split_in_words(column: Column) -> str:
    """How the images were divided, in words: a simulator's own split was published by nobody."""
    return "the simulator's own" if column.synthetic and column.protocol == "published" else column.protocol


def _few(column: Column) -> str:
    if column.groups < INTERVAL_GROUPS:
        return "too few groups for an interval"
    return "too few groups to rank" if column.groups < RANKED_GROUPS else ""


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
    drawn = draw_bar(entry.gain, extent) if entry.gain.low is not None else ""
    gained, said = interval(entry.gain, signed=True), verdict_in_words(entry)
    lines = (value, " · ".join(filter(None, (gained, said)))) if value else (gained, said)
    lines = (*lines, share_in_words(entry), entry.note)
    return Text(
        lines=tuple(filter(None, lines)),
        tone=TONES.get(entry.shown, ""),
        bar=drawn,
        sort=finite(entry.gain.value),
    )
