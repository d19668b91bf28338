"""The figures of the pages: what each shows, in words and as data, and how matplotlib draws it."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from itertools import groupby

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmark.metrics import chance
from benchmark.metrics import title as metric
from leaderboards.boards.board import HEALTH, LOSS, Board, Column, Curve, Entry, Judged, Series
from leaderboards.boards.leads import GAIN, Side, by_gain, scale
from leaderboards.pages.svg import (
    COLOURS,
    DASHES,
    INK,
    LINE,
    MARKERS,
    SOFT,
    WIDTH,
    Drawing,
    canvas,
    legend,
    plain,
    zero,
)
from leaderboards.pages.tables import change
from leaderboards.stats.ranking import Classical
from leaderboards.stats.statistics import Estimate, Resampled, combination, estimate
from leaderboards.words import flops, interval, slug

SHOWN = 40  # rows that a figure shows: more are unreadable, and in the table
BOUNDS = ("value", "low", "high")
REAL = "real, not fitted"
TURNED = {
    "labels": "Label efficiency: by",
    "nuisance": "Robustness: under",
    "scale": "Scale control:",
}  # a series' kind


def of_board(board: Board) -> tuple[Drawing, ...]:
    """Everything that a board's page draws."""
    return (
        *forest(board),
        *heat(board),
        *pareto([board], f"{board.slug}-cost"),
        *ranks(board),
        *(drawing for kind in TURNED for drawing in turned(board, kind)),
        *learning(board),
    )


def forest(board: Board) -> tuple[Drawing, ...]:
    """The mean gain of every row with its interval, best first."""
    rows = [row for row in board.sections[0].rows if row.mean.gain is not None]
    if not rows:
        return ()
    shown = rows[:SHOWN]

    def draw() -> Figure:
        figure, (axes,) = canvas(height=0.75 + 0.24 * len(shown))
        for place, row in enumerate(shown):
            _range(axes, row.mean.gain, place, COLOURS[0])
        axes.set_yticks(range(len(shown)), [plain(row.name) for row in shown])
        axes.set_ylim(len(shown) - 0.5, -0.5)
        axes.set_xlabel("mean gain over the untrained twin, chance-corrected")
        axes.locator_params(axis="x", nbins=5)
        zero(axes)
        return figure

    said = "; ".join(f"{row.name} {interval(row.mean.gain, signed=True)}" for row in shown[:6])
    return (
        Drawing(
            name=f"{board.slug}-forest",
            title="Mean gain over the twin, with 95 % intervals" + _of(len(shown), len(rows)),
            alt=f"Forest plot of the mean gain over the untrained twin: {said}.",
            heads=("encoder", *BOUNDS),
            rows=tuple((row.name, *_bounds(row.mean.gain)) for row in rows),
            draw=draw,
        ),
    )


def heat(board: Board) -> tuple[Drawing, ...]:
    """The gain of every row on every task as a colour and a number."""
    rows = [row for row in board.sections[0].rows if any(entry.gain is not None for entry in row.entries)]
    if not rows:
        return ()
    shown, columns = rows[:SHOWN], board.columns
    values = np.array([[_gain(entry) for entry in row.entries] for row in shown])

    def draw() -> Figure:
        titles = [plain(column.title, 40) for column in columns]
        slanted = 0.6 + 0.05 * max(map(len, titles))  # inches that the titles take below the cells
        size = (max(WIDTH, 1.6 + 0.62 * len(columns)), slanted + 0.3 * len(shown))
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.subplots()
        extent = float(np.nanmax(np.abs(values), initial=0.0)) or 1.0
        axes.pcolormesh(np.nan_to_num(values), cmap="PuOr_r", vmin=-extent, vmax=extent, edgecolor="white", linewidth=1)
        for (row, column), value in np.ndenumerate(values):
            colour = "#fffffe" if abs(value) > 0.65 * extent else "#000001"  # on a colour that is alike light and dark
            text = "–" if math.isnan(value) else f"{value:+.2f}".replace("-", "−")
            axes.text(column + 0.5, row + 0.5, text, ha="center", va="center", color=colour, fontsize=8)
        axes.set_xticks(np.arange(len(columns)) + 0.5, titles, rotation=40, ha="right")
        axes.set_yticks(np.arange(len(shown)) + 0.5, [plain(row.name, 26) for row in shown])
        axes.invert_yaxis()
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        return figure

    return (
        Drawing(
            name=f"{board.slug}-heat",
            title="Gain over the twin, encoders × tasks" + _of(len(shown), len(rows)),
            alt=f"Heat map of the gain over the twin of {len(shown)} encoders on {len(columns)} tasks, from purple "
            "(below the twin) over white (no gain) to orange (above it); the numbers are in the table.",
            heads=("encoder", "task", *BOUNDS),
            rows=tuple(
                (row.name, column.title, *_bounds(entry.gain))
                for row in rows
                for column, entry in zip(columns, row.entries, strict=True)
            ),
            draw=draw,
        ),
    )


def pareto(boards: Sequence[Board], name: str) -> tuple[Drawing, ...]:
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

    def draw() -> Figure:
        figure, (axes,) = canvas(height=2.9)
        axes.plot([p[2] for p in front], [p[3].value for p in front], color=LINE, linewidth=3, zorder=0)
        for name in names if len(names) <= len(COLOURS) else ():
            place = names.index(name)
            for _, _, spent, gained in (point for point in points if point[0] == name):
                _upright(axes, gained, spent, place, name)
        if len(names) > len(COLOURS):
            axes.scatter([p[2] for p in points], [p[3].value for p in points], s=9, color=COLOURS[0], linewidths=0)
        axes.set_xscale("log")
        axes.set_xlim(points[0][2] / 3, points[-1][2] * 3)
        axes.set_xlabel("training FLOPs spent, logarithmic")
        axes.set_ylabel("mean gain over the twin")
        zero(axes, vertical=False)
        legend(axes)
        return figure

    best = max(points, key=lambda point: point[3].value)
    return (
        Drawing(
            name=name,
            title="Score against cost: mean gain over the twin by training FLOPs, the front joined",
            alt=f"{len(points)} encoders by training FLOPs and mean gain; the highest gain is {best[0]}'s, "
            f"{interval(best[3], signed=True)} at {flops(best[2])} FLOPs.",
            heads=("encoder", "track", "flops", *BOUNDS),
            rows=tuple((label, track, spent, *_bounds(gained)) for label, track, spent, gained in points),
            draw=draw,
        ),
    )


def ranks(board: Board) -> tuple[Drawing, ...]:
    """The classical view, where it could show anything and can be read."""
    found = board.comparison.classical
    if found is None or not found.able or len(found.names) > SHOWN:
        return ()
    return (critical_difference(found, f"{board.slug}-ranks"),)


def critical_difference(found: Classical, name: str) -> Drawing:
    """Mean ranks on a line, 1 at the left; bars over what is not told apart."""
    said = ", ".join(f"{one} {rank:.2f}" for one, rank in zip(found.names, found.ranks, strict=True))
    tested = "" if math.isnan(found.friedman) else f"; Friedman p {found.friedman:.3f}"
    return Drawing(
        name=name,
        title=f"Mean ranks over {found.tasks} tasks: {said}{tested}; the upper bar is Nemenyi's critical "
        f"difference, {found.critical:.2f}; lower bars join what Wilcoxon's test does not tell apart after Holm",
        alt=f"Critical-difference diagram over {found.tasks} tasks: {said}.",
        heads=("encoder", "mean rank"),
        rows=tuple(zip(found.names, found.ranks, strict=True)),
        draw=lambda: _ranks(found),
    )


def _ranks(found: Classical) -> Figure:
    count = len(found.names)
    figure, (axes,) = canvas(height=0.9 + 0.22 * (count + len(found.cliques)))
    depth = -0.5 - 0.35 * len(found.cliques)
    axes.plot([1, count], [0, 0], color=INK, linewidth=1)
    for rank in range(1, count + 1):
        axes.plot([rank, rank], [0, 0.15], color=INK, linewidth=1)
        axes.text(rank, 0.25, str(rank), ha="center", va="bottom")
    axes.plot([1, 1 + found.critical], [1.3, 1.3], color=SOFT, linewidth=2, clip_on=False)
    for place, (first, last) in enumerate(found.cliques):
        low = -0.3 - 0.35 * place
        axes.plot([found.ranks[first] - 0.04, found.ranks[last] + 0.04], [low, low], color=COLOURS[0], linewidth=4)
    for place, (name, rank) in enumerate(zip(found.names, found.ranks, strict=True)):
        low = depth - 0.75 * place
        left = rank <= (count + 1) / 2
        axes.plot([rank, rank], [0, low], color=SOFT, linewidth=0.8)
        axes.text(
            rank + (0.05 if left else -0.05),
            low,
            f"{plain(name, 26)} {rank:.2f}",
            ha="left" if left else "right",
            va="center",
        )
    axes.set_xlim(0.6, max(count, 1 + found.critical) + 0.4)
    axes.set_ylim(depth - 0.75 * count, 1.6)
    axes.axis("off")
    return figure


def learning(board: Board) -> tuple[Drawing, ...]:
    """The loss of each row, as losses of different pretexts have no common scale; one figure for the health value."""
    names = list(dict.fromkeys(curve.name for curve in board.curves))
    charts = [
        (f"{LOSS} of {name}", f"loss-{place}", [c for c in board.curves if (c.quantity, c.name) == (LOSS, name)])
        for place, name in enumerate(names[:SHOWN])
    ]
    charts += [(HEALTH, "health", [c for c in board.curves if c.quantity == HEALTH and c.name in names[:SHOWN]])]
    return tuple(curves(f"{board.slug}-{key}", what, found, names) for what, key, found in charts if found)


def curves(name: str, what: str, found: Sequence[Curve], names: Sequence[str], unit: str = "") -> Drawing:
    """A quantity over training, a line per seed, a colour and a dash per name."""
    low, high = extremes(found)

    def draw() -> Figure:
        figure, (axes,) = canvas()
        for curve in found:
            place = names.index(curve.name)
            axes.plot(
                *zip(*curve.points, strict=True),
                color=COLOURS[place % len(COLOURS)],
                linestyle=DASHES[place % len(DASHES)],
                linewidth=1,
                label=plain(curve.name),
            )
        axes.set_xlabel("share of training")
        axes.set_ylabel(plain(unit or what.partition(" of ")[0], 28))
        legend(axes)
        return figure

    return Drawing(
        name=name,
        title=f"{what}, between {low} and {high}",
        alt=f"{what} over training, from {low} at the lowest to {high} at the highest; "
        f"{len(found)} runs of {', '.join(dict.fromkeys(c.name for c in found))}.",
        heads=("encoder", "seed", "share of training", what),
        rows=tuple((curve.name, curve.seed, x, y) for curve in found for x, y in curve.points),
        draw=draw,
    )


def extremes(found: Iterable[Curve]) -> tuple[str, str]:
    """Lowest and highest value, as printed."""
    values = [y for curve in found for _, y in curve.points]
    return f"{min(values):.3g}", f"{max(values):.3g}"


def reliability(name: str, task: str, bins: Sequence[tuple[float, float, int]]) -> Drawing:
    """Share that is right against mean confidence, bins of as many images each."""

    def draw() -> Figure:
        figure, (axes,) = canvas(height=2.6)
        axes.plot([0, 1], [0, 1], color=LINE, linewidth=1, zorder=0)
        axes.plot([c for c, _, _ in bins], [r for _, r, _ in bins], color=COLOURS[0], marker="o")
        low = max(0.0, min(min(c, r) for c, r, _ in bins) - 0.05)
        axes.set_xlim(low, 1.02)
        axes.set_ylim(low, 1.02)
        axes.set_xlabel("mean confidence of the predicted class")
        axes.set_ylabel("share that is right")
        return figure

    gap = sum(n * abs(c - r) for c, r, n in bins) / sum(n for _, _, n in bins)
    return Drawing(
        name=name,
        title=f"Reliability, {task}",
        alt=f"Reliability curve of {task}: {len(bins)} bins of as many images; confidence and share that is right are "
        f"{gap:.3f} apart in the mean.",
        heads=("mean confidence", "share right", "images"),
        rows=tuple(bins),
        draw=draw,
    )


def turned(board: Board, kind: str) -> tuple[Drawing, ...]:
    """The curves of a kind of series: a figure per thing that is turned, a panel per task."""
    some = sorted((s for s in board.series if s.kind == kind and s.points), key=lambda s: s.what)
    return tuple(
        _turned(board, what, kind, list(found)) for what, found in groupby(some, key=lambda series: series.what)
    )


def _turned(board: Board, what: str, kind: str, every: Sequence[Series]) -> Drawing:
    labels = kind == "labels"
    found = list({(one.task, one.points): one for one in reversed(every)}.values())[::-1]  # twins that are one, once
    tasks, names = (list(dict.fromkeys(getattr(one, key) for one in found)) for key in ("task", "name"))

    def draw() -> Figure:
        figure, panels = canvas(rows=len(tasks), height=2.2, sharex=True)
        for axes, task in zip(panels, tasks, strict=True):
            here = [one for one in found if one.task == task][:SHOWN]
            for one in here:
                _line(axes, one, names.index(one.name), len(names), logarithmic=labels)
            axes.set_ylabel(metric(here[0].metric))
            if labels:
                axes.set_xscale("log")
            if axes is panels[0]:
                legend(axes, plain(task, 50))
            else:
                axes.set_title(plain(task, 50))
        panels[-1].set_xlabel(what if labels else f"strength of {what}")
        return figure

    called = f"{TURNED[kind]} {what}"
    return Drawing(
        name=f"{board.slug}-{'by' if labels else 'under'}-{slug(what)}",
        title=f"{called}, with 95 % intervals",
        alt=f"{called}: {', '.join(names[:8])} on {', '.join(tasks)}; the values are in the data.",
        heads=("encoder", "task", what, *BOUNDS),
        rows=tuple((one.name, one.task, x, *_bounds(y)) for one in every for x, y in one.points),
        draw=draw,
    )


def slope(boards: Sequence[Board]) -> tuple[Drawing, ...]:
    """DINOv3 minus I-JEPA, in gain, against the measured locality of the signal: a panel per board that measured both,
    a line for each family of tasks."""
    panels = [(board, points) for board in boards if (points := _located(board))]
    if not panels:
        return ()

    def draw() -> Figure:
        figure, every = canvas(rows=len(panels), height=3.0)
        for axes, (board, points) in zip(every, panels, strict=True):
            kinds = list(dict.fromkeys(kind for _, kind, _, _ in points))
            for _, kind, x, y in points:
                place = kinds.index(kind) % len(COLOURS)
                _error(axes, x, y, COLOURS[place], MARKERS[place % len(MARKERS)], kind)
            for one in _slopes(board):
                fitted = [(x.value, y.value) for title, _, x, y in points if title in one.tasks]
                if one.estimates:
                    _fit(axes, fitted, one.estimates[0], COLOURS[kinds.index(_kind(one)) % len(COLOURS)])
            zero(axes, vertical=False)
            axes.set_xlabel("measured locality of the signal")
            axes.set_ylabel("DINOv3 − I-JEPA, in gain")
            legend(axes, f"{board.modality}, {board.track} track")
        return figure

    said = " ".join(f"{board.modality.capitalize()}, {board.track}: {slope_said(board)}" for board, _ in panels)
    return (
        Drawing(
            name="answer",
            title="DINOv3 − I-JEPA in gain against measured locality, chance-corrected, 95 % intervals",
            alt=f"Each point is a task. {said}",
            heads=("board", "task", "synthetic", "locality", "locality low", "locality high", *BOUNDS, "kind"),
            rows=tuple(
                (board.slug, title, "no" if kind == REAL else "yes", x.value, x.low, x.high, *_bounds(y), kind)
                for board, points in panels
                for title, kind, x, y in points
            ),
            draw=draw,
        ),
    )


def _fit(axes: Axes, points: Sequence[tuple[float, float]], found: Estimate, colour: str) -> None:
    """The least-squares line through points, between them alone, and between which slopes it lies."""
    xs, ys = np.array(points).T
    grid = np.linspace(xs.min(), xs.max(), 40)
    axes.plot(grid, ys.mean() + found.value * (grid - xs.mean()), color=colour)
    if found.low is not None:
        ends = [ys.mean() + k * (grid - xs.mean()) for k in (found.low, found.high)]
        axes.fill_between(grid, np.minimum(*ends), np.maximum(*ends), color=colour, alpha=0.15, linewidth=0)


def slope_said(board: Board) -> str:
    """The slopes of a board with their intervals, or why there are none."""
    found = _slopes(board)
    if not found:
        return "no simulated task with both pretexts."
    return " ".join(
        f"No slope {one.within} ({one.why})."
        if one.why
        else f"DINOv3 − I-JEPA changes {one.within} by {change(one, one.estimates[0])}: {one.verdict}."
        for one in found
    )


def _slopes(board: Board) -> list[Judged]:
    """Slopes in gain of DINOv3 - I-JEPA on the phantoms, one a family of tasks: of the first rows of that name."""
    some = [one for one in board.claims if one.slope and one.per == GAIN and one.about == "phantoms"]
    pair = [one for one in some if re.fullmatch(r"DINOv3( .*)? − I-JEPA( .*)?", one.pairs[0])]
    return list({one.within: one for one in reversed(pair)}.values())[::-1]


def _kind(one: Judged) -> str:
    """The tasks of a slope, as short as a legend has room for: of "within texture's levels", texture."""
    return one.within.removeprefix("within ").partition("'")[0]


def _located(board: Board) -> list[tuple]:
    """(title, kind, locality, difference) of every task of patients or slides with both, in gain, chance-corrected."""
    slopes = _slopes(board)
    twins = dict(one.variants for one in board.comparison.twins)
    named = next((one.variants[0] for one in slopes if one.variants and {*one.variants[0]} <= set(twins)), None)
    if named is None or not board.localities:
        return []
    sides = tuple(Side(variant=variant, twin=twins[variant]) for variant in named)
    points = []
    for column, place in zip(board.columns, board.localities, strict=True):
        if place is None or place.value is None or chance(column.metric, len(column.classes)) is None:
            continue
        lead = by_gain(board.numbers, sides, column) if column.independent else None
        if lead is not None:
            family = next((_kind(one) for one in slopes if column.title in one.tasks), "others, simulated")
            points.append((column.title, family if column.synthetic else REAL, place, _scaled(lead, column)))
    return points


def _scaled(lead: Resampled, column: Column) -> Estimate:
    return estimate(combination([lead], [scale(column, GAIN)]))


def _error(axes: Axes, x, y: Estimate, colour: str, marker: str, label: str) -> None:
    if x.low is not None:
        axes.plot([x.low, x.high], [y.value] * 2, color=colour, linewidth=0.8, alpha=0.6)
    if y.low is not None:
        axes.plot([x.value] * 2, [y.low, y.high], color=colour, linewidth=1.4)
    axes.plot([x.value], [y.value], color=colour, marker=marker, linestyle="none", label=label)


def _line(axes: Axes, one: Series, place: int, count: int, logarithmic: bool) -> None:
    """A series with its intervals, moved a little aside so that those of several rows can be told apart."""
    colour, aside = COLOURS[place % len(COLOURS)], 0.02 * (place - (count - 1) / 2)
    span = max(x for x, _ in one.points) - min(x for x, _ in one.points)
    xs = [x * (1 + 3 * aside) if logarithmic else x + aside * span for x, _ in one.points]
    axes.plot(
        xs,
        [y.value for _, y in one.points],
        color=colour,
        marker=MARKERS[place % len(MARKERS)],
        linestyle=DASHES[place % len(DASHES)],
        label=plain(one.name, 20),
    )
    for x, (_, y) in zip(xs, one.points, strict=True):
        if y.low is not None:
            axes.plot([x, x], [y.low, y.high], color=colour, linewidth=0.8)


def _range(axes: Axes, one: Estimate, place: int, colour: str) -> None:
    if one.low is not None:
        axes.plot([one.low, one.high], [place, place], color=colour, linewidth=1.8, solid_capstyle="round")
    axes.plot([one.value], [place], color=colour, marker="o", linestyle="none")


def _upright(axes: Axes, one: Estimate, x: float, place: int, label: str) -> None:
    colour = COLOURS[place]
    if one.low is not None:
        axes.plot([x, x], [one.low, one.high], color=colour, linewidth=1.2)
    axes.plot([x], [one.value], color=colour, marker=MARKERS[place], linestyle="none", label=plain(label))


def _gain(entry: Entry) -> float:
    return entry.gain.value if entry.gain is not None else math.nan


def _bounds(one: Estimate | None) -> tuple[float | None, float | None, float | None]:
    return (None, None, None) if one is None else (one.value, one.low, one.high)


def _of(shown: int, every: int) -> str:
    return f"; the first {shown} of {every:,}" if shown < every else ""
