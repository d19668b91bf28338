"""Every row of a board against every other and against its twin."""

from __future__ import annotations

from leaderboards.boards.board import Board, Difference, Sensitivity
from leaderboards.tables.gains import head_of_task, over_tasks
from leaderboards.tables.table import TONES, Line, Table, Text, finite, p_in_words, verdict_in_words
from leaderboards.words import interval, number


def tabulate_differences(board: Board) -> tuple[Table, ...]:
    """Every row against every other and against its twin."""
    found = board.comparison
    if not found.twins:
        return ()
    heads = (Text(lines=("Difference",)), Text(lines=("Over the tasks", "chance-corrected", *over_tasks(board))))
    every = (*found.pretexts, *found.twins)
    rows = [
        Line(
            head=Text(lines=(f"{one.first} − {one.second}",)),
            cells=tuple(_difference(each) for each in (one.mean, *one.entries)),
        )
        for one in every
    ]
    blank = Text(lines=("",))
    rows += [
        Line(
            head=Text(lines=("Sensitivity", f"{one.first} − {one.second}", "runs above their twin alone")),
            cells=(_restricted(one), *(blank for _ in board.columns)),
        )
        for one in found.sensitivity
    ]
    if any(size is not None for size in found.detectable):
        sizes = [Text(lines=("–" if size is None else number(size),)) for size in found.detectable]
        rows.append(
            Line(
                head=Text(lines=("Smallest difference", "shown in 80 % of repetitions")),
                cells=(blank, *sizes),
            )
        )
    return (
        Table(
            title="Differences: linear probe, mean of patch tokens",
            caption="Paired differences with p and a 95 % interval that hold together within a family: on all tasks, "
            "and over the tasks, the pretexts with each other, and the pretexts with their twins. Without a p, the "
            "interval is of the difference alone. Every run enters them, whether it learned or not; a row of "
            "sensitivity keeps the seeds in which the mean gain of either run has an interval above zero, and is in "
            "no family.",
            heads=(*heads, *(head_of_task(column) for column in board.columns)),
            rows=tuple(rows),
        ),
    )


def _restricted(one: Sensitivity) -> Text:
    if one.estimate is None:
        return Text(lines=("–", f"in none of {one.of} seeds are both above"), tone="missing")
    seeds = f"seed{'s' if len(one.seeds) > 1 else ''} {', '.join(map(str, one.seeds))} of {one.of}"
    return Text(lines=(interval(one.estimate, signed=True), seeds), sort=finite(one.estimate.value))


def _difference(one: Difference | None) -> Text:
    if one is None:
        return Text(lines=("–", "not both measured"), tone="missing")
    lines = (interval(one.estimate, signed=True), verdict_in_words(one), p_in_words(one.p))
    return Text(lines=tuple(filter(None, lines)), tone=TONES.get(one.shown, ""), sort=finite(one.estimate.value))
