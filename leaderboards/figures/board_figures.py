"""The figures of a board: gains, gain by task, gain against cost, ranks, and what alterations and labels do."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import groupby

import numpy as np

from benchmark.metrics import title as metric
from leaderboards.boards.board import Board, Column, Entry, Row, Series
from leaderboards.figures.chart import LETTER, WIDTH, Panel, cut
from leaderboards.figures.curves import draw_curves
from leaderboards.figures.figure import BOUNDS, Figure, bounds, ends
from leaderboards.stats.intervals import Estimate
from leaderboards.stats.ranking import Classical
from leaderboards.words import flops, interval, slug

ROW = 20  # height of a row of names
PURPLE, WHITE, ORANGE = (94, 60, 153), (247, 247, 247), (230, 97, 1)  # below, no gain, above
KINDS = {"labels": "Label efficiency: by", "nuisance": "Robustness: under", "scale": "Scale control:"}  # of series


def draw_board(board: Board) -> tuple[Figure, ...]:
    """Everything that a board's page draws."""
    return (
        *draw_forest(board),
        *draw_heat(board),
        *draw_gain_by_cost([board], f"{board.slug}-cost"),
        *draw_ranks(board),
        *(figure for kind in KINDS for figure in draw_levels(board, kind)),
        *draw_curves(board),
    )


def draw_forest(board: Board) -> tuple[Figure, ...]:
    """The mean gain of every row with its interval, best first."""
    rows = [row for row in board.sections[0].rows if row.mean.gain is not None]
    if not rows:
        return ()
    names = [cut(row.name, 34) for row in rows]
    panel = Panel(
        [0.0, *ends(row.mean.gain for row in rows)],
        (),
        height=ROW * len(rows),
        left=_room(names),
        x_label="mean gain over the twin, chance-corrected",
    )
    panel.y_ends = (len(rows) - 0.5, -0.5)
    panel.names(names)
    panel.zero(upright=True)
    for place, row in enumerate(rows):
        panel.lying(row.mean.gain.low, row.mean.gain.high, place, 0, width=1.8)
        panel.mark([(row.mean.gain.value, place)], 0)
    said = "; ".join(f"{row.name} {interval(row.mean.gain, signed=True)}" for row in rows[:6])
    return (
        Figure(
            name=f"{board.slug}-forest",
            title="Mean gain over the twin, with 95 % intervals",
            alt=f"Forest plot of the mean gain over the untrained twin: {said}.",
            heads=("encoder", *BOUNDS),
            rows=tuple((row.name, *bounds(row.mean.gain)) for row in rows),
            panels=[panel],
        ),
    )


def _room(names: Sequence[str]) -> float:
    """Width that names take left of a panel."""
    return 12 + LETTER * max(map(len, names))


def draw_heat(board: Board) -> tuple[Figure, ...]:
    """The gain of every row on every task as a colour and a number."""
    rows = [row for row in board.sections[0].rows if any(entry.gain is not None for entry in row.entries)]
    if not rows:
        return ()
    return (
        Figure(
            name=f"{board.slug}-heat",
            title="Gain over the twin, encoders × tasks",
            alt=f"Heat map of the gain over the twin of {len(rows)} encoders on {len(board.columns)} tasks, from "
            "purple (below the twin) over white (no gain) to orange (above it); the numbers are in the table.",
            heads=("encoder", "task", *BOUNDS),
            rows=tuple(
                (row.name, column.title, *bounds(entry.gain))
                for row in rows
                for column, entry in zip(board.columns, row.entries, strict=True)
            ),
            panels=[_cells(rows, board.columns)],
        ),
    )


def _cells(rows: Sequence[Row], columns: Sequence[Column]) -> Panel:
    values = np.array([[_gain(entry) for entry in row.entries] for row in rows])
    extent = float(np.nanmax(np.abs(values), initial=0.0)) or 1.0
    names, titles = [cut(row.name, 26) for row in rows], [cut(column.title, 40) for column in columns]
    lean = LETTER * max(map(len, titles)) * math.sin(math.radians(50))  # how far a slanted title reaches to the left
    left = max(_room(names), lean - 10)
    panel = Panel((), (), height=ROW * len(rows), left=left, width=max(WIDTH, left + 36 * len(columns) + 12))
    panel.x_ends, panel.y_ends = (-0.5, len(columns) - 0.5), (len(rows) - 0.5, -0.5)
    panel.names(names)
    wide = panel.x(1) - panel.x(0)
    for (row, column), value in np.ndenumerate(values):
        x, y = panel.x(column), panel.y(row)
        panel.parts.append(
            f'<rect x="{x - wide / 2:.1f}" y="{y - ROW / 2:.1f}" width="{wide - 1:.1f}" height="{ROW - 1}" '
            f'fill="{_colour(value / extent)}"/>'
        )
        text = "–" if math.isnan(value) else f"{value:+.2f}".replace("-", "−")
        panel.text(x, y + 4, text, anchor="middle", kind="pale" if value < -0.4 * extent else "dark")
    for place, title in enumerate(titles):
        panel.text(panel.x(place) + 4, panel.bottom + 12, title, anchor="end", turned=-40)
    panel.end = panel.bottom + 16 + lean * math.tan(math.radians(40))
    return panel


def _gain(entry: Entry) -> float:
    return entry.gain.value if entry.gain is not None else math.nan


def _colour(share: float) -> str:
    """Of a value between -1 and 1, between purple and orange."""
    share = 0.0 if math.isnan(share) else share
    end = ORANGE if share > 0 else PURPLE
    return "#" + "".join(f"{round(a + abs(share) * (b - a)):02x}" for a, b in zip(WHITE, end, strict=True))


def draw_gain_by_cost(boards: Sequence[Board], name: str) -> tuple[Figure, ...]:
    """Mean gain against the FLOPs that were spent, the best at each cost joined."""
    points = [
        (row.name, board.track, cost.realised_flops, row.mean.gain)
        for board in boards
        for row in board.sections[0].rows
        for cost in board.costs
        if cost.name == row.name and row.mean.gain is not None and cost.realised_flops > 0
    ]
    if not points:
        return ()
    points.sort(key=lambda point: (point[2], point[0]))
    front: list[tuple] = []
    for point in sorted(points, key=lambda point: (point[2], -point[3].value)):
        if not front or point[3].value > front[-1][3].value:
            front.append(point)
    names = list(dict.fromkeys(point[0] for point in points))
    panel = Panel(
        (points[0][2] / 3, points[-1][2] * 3),
        [0.0, *ends(point[3] for point in points)],
        height=180,
        logarithmic=True,
        legend=[(name, place) for place, name in enumerate(names)],
        x_label="training FLOPs spent, logarithmic",
        y_label="mean gain over the twin",
    )
    panel.zero()
    panel.line([(spent, gain.value) for _, _, spent, gain in front], 0, width=3, kind="rule")
    for label, _, spent, gain in points:
        place = names.index(label)
        panel.upright(spent, gain.low, gain.high, place)
        panel.mark([(spent, gain.value)], place)
    best = max(points, key=lambda point: point[3].value)
    return (
        Figure(
            name=name,
            title="Score against cost: mean gain over the twin by training FLOPs, the front joined",
            alt=f"{len(points)} encoders by training FLOPs and mean gain; the highest gain is {best[0]}'s, "
            f"{interval(best[3], signed=True)} at {flops(best[2])} FLOPs.",
            heads=("encoder", "track", "flops", *BOUNDS),
            rows=tuple((label, track, spent, *bounds(gain)) for label, track, spent, gain in points),
            panels=[panel],
        ),
    )


def draw_ranks(board: Board) -> tuple[Figure, ...]:
    """The classical view, where it could show anything."""
    found = board.comparison.classical
    if found is None or not found.able:
        return ()
    return (draw_critical_difference(found, f"{board.slug}-ranks"),)


def draw_critical_difference(found: Classical, name: str) -> Figure:
    """Mean ranks on a line, 1 at the left; bars over what is not told apart."""
    said = ", ".join(f"{one} {rank:.2f}" for one, rank in zip(found.names, found.ranks, strict=True))
    tested = "" if math.isnan(found.friedman) else f"; Friedman p {found.friedman:.3f}"
    return Figure(
        name=name,
        title=f"Mean ranks over {found.tasks} tasks: {said}{tested}; the upper bar is Nemenyi's critical "
        f"difference, {found.critical:.2f}; lower bars join what Wilcoxon's test does not tell apart after Holm",
        alt=f"Critical-difference diagram over {found.tasks} tasks: {said}.",
        heads=("encoder", "mean rank"),
        rows=tuple(zip(found.names, found.ranks, strict=True)),
        panels=[_rank_lines(found)],
    )


def _rank_lines(found: Classical) -> Panel:
    count, depth = len(found.names), 3 + len(found.cliques)
    panel = Panel((), (), height=14 * (depth + count), left=16)
    panel.x_ends, panel.y_ends = (0.6, max(count, 1 + found.critical) + 0.4), (depth + count, 0)
    panel.line([(1, 0.5), (1 + found.critical, 0.5)], 0, width=2, kind="axis")
    panel.line([(1, 2), (count, 2)], 0, kind="axis")
    for rank in range(1, count + 1):
        panel.line([(rank, 1.8), (rank, 2)], 0, kind="axis")
        panel.text(panel.x(rank), panel.y(1.6), str(rank), anchor="middle")
    for place, (first, last) in enumerate(found.cliques):
        panel.lying(found.ranks[first] - 0.04, found.ranks[last] + 0.04, 2.5 + place, 0, width=4)
    for place, (name, rank) in enumerate(zip(found.names, found.ranks, strict=True)):
        low, left = depth + place, rank <= (count + 1) / 2
        panel.line([(rank, 2), (rank, low)], 0, width=0.8, kind="axis")
        aside = 4 if left else -4
        panel.text(panel.x(rank) + aside, panel.y(low) + 3, f"{cut(name, 26)} {rank:.2f}", "start" if left else "end")
    return panel


def draw_levels(board: Board, kind: str) -> tuple[Figure, ...]:
    """The curves of a kind of series: a figure per thing that is turned, a panel per task."""
    some = sorted((s for s in board.series if s.kind == kind and s.points), key=lambda s: s.what)
    return tuple(_draw_levels(board, what, kind, list(s)) for what, s in groupby(some, key=lambda series: series.what))


def _draw_levels(board: Board, what: str, kind: str, every: Sequence[Series]) -> Figure:
    shown = {(one.task, *(number for _, y in one.points for number in bounds(y))): one for one in reversed(every)}
    found = list(shown.values())[::-1]  # twins that are one, once
    tasks, names = (list(dict.fromkeys(getattr(one, key) for one in found)) for key in ("task", "name"))
    panels: list[Panel] = []
    for task in tasks:
        here = [one for one in found if one.task == task]
        panels.append(_panel_of_task(task, here, names, what, kind == "labels", panels[-1].end if panels else 0))
    called = f"{KINDS[kind]} {what}"
    return Figure(
        name=f"{board.slug}-{'by' if kind == 'labels' else 'under'}-{slug(what)}",
        title=f"{called}, with 95 % intervals",
        alt=f"{called}: {', '.join(names[:8])} on {', '.join(tasks)}; the values are in the data.",
        heads=("encoder", "task", "level", *BOUNDS),
        rows=tuple((one.name, one.task, x, *bounds(y)) for one in every for x, y in one.points),
        panels=panels,
    )


def _panel_of_task(
    task: str, here: Sequence[Series], names: Sequence[str], what: str, labels: bool, top: float
) -> Panel:
    """Of one task. Series are moved a little aside, so that the intervals of several rows can be told apart."""
    levels = [x for one in here for x, _ in one.points]
    span = max(levels) - min(levels)
    lines: list[tuple[int, list[tuple[float, Estimate]]]] = []
    for one in here:
        place = names.index(one.name)
        aside = 0.02 * (place - (len(names) - 1) / 2)
        lines.append((place, [(x * (1 + 3 * aside) if labels else x + aside * span, y) for x, y in one.points]))
    panel = Panel(
        [x for _, points in lines for x, _ in points],
        ends(y for _, points in lines for _, y in points),
        top=top,
        logarithmic=labels,
        title=task,
        legend=[(name, place) for place, name in enumerate(names)] if not top else (),
        x_label=what if labels else f"strength of {what}",
        y_label=metric(here[0].metric),
    )
    for place, points in lines:
        panel.line([(x, y.value) for x, y in points], place)
        panel.mark([(x, y.value) for x, y in points], place)
        for x, y in points:
            panel.upright(x, y.low, y.high, place)
    return panel
