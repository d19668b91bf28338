"""What altered images do to a board's rows, and what their features hold of alterations."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from benchmark.metrics import title as metric
from leaderboards.boards.board import Board, Column, Ledger, Series
from leaderboards.stats.intervals import Estimate
from leaderboards.tables.table import Line, Table, Text, finite
from leaderboards.words import interval, number


def tabulate_robustness(board: Board) -> tuple[Table, ...]:
    """What the headline metric loses under each nuisance of the modality, at every strength, nothing trained again."""
    return _tabulate_altered(
        board,
        "nuisance",
        title="Robustness: what nuisances cost",
        caption="Clean minus altered, on the same test samples, with its 95 % interval; linear probe on the mean of "
        "patch tokens, fitted on clean images. Strengths 1 to 3. Read it beside the score: at chance there is nothing "
        "to lose.",
        what="loss of ",
        lines=lambda one: (*_level_lines(one.drops, signed=True), f"clean {number(one.points[0][1].value)}"),
    )


def tabulate_scales(board: Board) -> tuple[Table, ...]:
    """What is left of the headline metric where test images keep one scale alone, nothing trained again."""
    return _tabulate_altered(
        board,
        "scale",
        title="Scale controls: what of the signal is local",
        caption="The score on the same test samples as they are and altered, with its 95 % interval; linear probe on "
        "the mean of patch tokens, fitted on images as they are. Shuffled: cut into 2 x 2, 4 x 4 and 8 x 8 squares "
        "that change places, so that only what a square holds is left. Low-pass: Gaussian of 1/32, 1/16 and 1/8 of "
        "the side, so that only what is larger is left. A score that shuffling leaves as it was rests on local "
        "signal; an encoder that never saw such images loses some for that alone.",
        what="",
        lines=lambda one: (f"whole: {interval(one.points[0][1])}", *_level_lines(one.points[1:])),
    )


def _tabulate_altered(
    board: Board, kind: str, *, title: str, caption: str, what: str, lines: Callable[[Series], tuple[str, ...]]
) -> tuple[Table, ...]:
    """A row per encoder, a column per task and alteration of a kind. lines: the lines of a cell."""
    turned = {(s.name, s.task, s.what): s for s in board.series if s.kind == kind and s.drops}
    kinds = dict.fromkeys((s.task, s.what, s.metric) for s in turned.values())
    rows = [
        Line(
            head=Text(lines=(name,)),
            cells=tuple(_altered_cell(turned.get((name, task, altered)), lines) for task, altered, _ in kinds),
            twin=name.startswith("untrained"),
        )
        for name in dict.fromkeys(s.name for s in turned.values())
    ]
    if not rows:
        return ()
    heads = (Text(lines=(task, altered, f"{what}{metric(name)}")) for task, altered, name in kinds)
    encoder = Text(lines=("Encoder",), words=True)
    return (Table(title=title, caption=caption, heads=(encoder, *heads), rows=tuple(rows)),)


def _altered_cell(one: Series | None, lines: Callable[[Series], tuple[str, ...]]) -> Text:
    if one is None:
        return Text(lines=("–", "not run"), tone="missing")
    return Text(lines=lines(one), sort=finite(one.drops[-1][1].value))


def _level_lines(points: Iterable[tuple[float, Estimate]], signed: bool = False) -> Iterator[str]:
    return (f"{strength:.0f}: {interval(value, signed=signed)}" for strength, value in points)


def tabulate_ledger(board: Board) -> tuple[Table, ...]:
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
        cells = [_ledger_cell(found.get((name, column)), labels) for column in columns]
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


def _ledger_cell(one: Ledger | None, labels: Mapping[tuple[str, Column], Estimate | None]) -> Text:
    if one is None:
        return Text(lines=("–", "not run"), tone="missing")
    label = labels.get((one.variant, one.column))
    answer = () if label is None else (f"label: {metric(one.column.metric)} {interval(label)}",)
    kinds = (f"{name}: {interval(lines)}" for name, lines in one.nuisances)
    return Text(lines=(f"all: {interval(one.whole)}", *kinds, *answer), sort=finite(one.whole.value))
