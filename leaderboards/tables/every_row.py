"""One table across all boards: a row for each pretrained encoder on each task of the headline probe."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from benchmark.metrics import title as metric
from leaderboards.boards.board import Board, Column, Cost, Entry, Row
from leaderboards.tables.addresses import recipe_page, task_page
from leaderboards.tables.table import Line, Table, Text, draw_gain, finite, half_width
from leaderboards.words import duration, flops, interval, modality, percent

KINDS = {True: "simulated", False: "real"}  # of images, by whether they are synthetic


def tabulate_every_row(boards: Sequence[Board]) -> Table:
    """Boards in their order; facets: what the rows can be filtered by."""
    rows = [one for board in boards for one in _rows(board)]
    extent = half_width(entry.gain for *_, entry in rows if entry.gain is not None)
    return Table(
        title="Every encoder on every task",
        caption="A frozen encoder read by a linear probe on the mean of its patch tokens: the score, the gain over its "
        "untrained twin, and the share of the way from the twin to the same encoder trained with labels, each with its "
        "95 % interval; gains of a board hold together. Means over seeds. Scores of different tasks, or of simulated "
        "and real images, are not to be compared.",
        heads=(
            Text(lines=("Encoder",), words=True),
            Text(lines=("Task",), words=True),
            Text(lines=("Rung",), words=True, tip="Track and training FLOPs allowed"),
            Text(lines=("Score",)),
            Text(lines=("Gain over twin",)),
            Text(lines=("Share", "of the way to the ceiling")),
            Text(lines=("Seen", "steps, images")),
            Text(lines=("Cost", "FLOPs spent, time"), tip="Of one pretraining"),
        ),
        rows=tuple(_line(board, row, column, entry, extent) for board, row, column, entry in rows),
        extent=extent,
    )


def _rows(board: Board) -> Iterator[tuple[Board, Row, Column, Entry]]:
    for row in board.sections[0].rows:
        for column, entry in zip(board.columns, row.entries, strict=True):
            if not row.twin and entry.score is not None:
                yield board, row, column, entry


def _line(board: Board, row: Row, column: Column, entry: Entry, extent: float) -> Line:
    cost = next((one for one in board.costs if one.name == row.name), None)
    kind = KINDS[column.synthetic]
    return Line(
        head=Text(
            lines=(row.name, f"{len(row.seeds)} seed{'s' if len(row.seeds) > 1 else ''}", *filter(None, (row.note,))),
            links=(("recipe and command", recipe_page(row.variant)),),
        ),
        cells=(
            Text(
                lines=(column.title, f"{modality(board.modality)}, {kind}"),
                links=(("task", task_page(board.modality, column.task)),),
            ),
            Text(
                lines=(board.track, *(f"{flops(one)} FLOPs" for one in board.budgets)),
                links=(("board", f"{board.slug}.html"),),
            ),
            Text(lines=(interval(entry.score), metric(column.metric)), sort=finite(entry.score.value)),
            _gain(entry, extent),
            _share(entry),
            *_spent(cost),
        ),
        facets=(("modality", board.modality), ("images", kind), ("rung", board.track)),
    )


def _gain(entry: Entry, extent: float) -> Text:
    if entry.gain is None:
        return Text(lines=("–", entry.note or "twin not run yet"), tone="missing")
    return draw_gain(entry.gain, entry, extent)


def _share(entry: Entry) -> Text:
    if entry.share is None:
        return Text(lines=("–",), tone="missing")
    ends = () if entry.share.low is None else (f"{percent(entry.share.low)} to {percent(entry.share.high)}",)
    return Text(lines=(percent(entry.share.value), *ends), sort=finite(entry.share.value))


def _spent(cost: Cost | None) -> tuple[Text, Text]:
    if cost is None or not cost.images_seen > 0:
        unknown = Text(lines=("–", "not trained here"), tone="missing")
        return unknown, unknown
    return (
        Text(lines=(f"{cost.steps:,.0f} steps", f"{cost.images_seen:,.0f} images"), sort=cost.images_seen),
        Text(
            lines=(flops(cost.realised_flops), duration(cost.seconds), ", ".join(cost.devices)),
            sort=cost.realised_flops,
        ),
    )
