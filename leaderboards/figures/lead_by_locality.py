"""The study's figure: by how much DINOv3 leads I-JEPA, against how local the signal of a task was measured to be."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from leaderboards.boards.board import Board, Column, Judged
from leaderboards.boards.contrasts import GAIN, lead_in_gain, lead_scale
from leaderboards.figures.chart import Panel
from leaderboards.figures.figure import BOUNDS, Figure, bounds, ends
from leaderboards.stats.intervals import Estimate, estimate
from leaderboards.stats.resampling import Resampled, combine
from leaderboards.tables.claims import slope_in_words
from leaderboards.words import modality

REAL = "real, not fitted"


def draw_lead_by_locality(boards: Sequence[Board]) -> tuple[Figure, ...]:
    """DINOv3 minus I-JEPA, in gain, against the measured locality of the signal: a panel per board that measured both,
    a line for each family of tasks."""
    measured = [(board, points) for board in boards if (points := _located(board))]
    if not measured:
        return ()
    panels: list[Panel] = []
    for board, points in measured:
        panels.append(_panel(board, points, panels[-1].end if panels else 0))
    said = " ".join(f"{modality(board.modality)}, {board.track}: {describe_slopes(board)}" for board, _ in measured)
    return (
        Figure(
            name="answer",
            title="DINOv3 − I-JEPA in gain against measured locality, chance-corrected, 95 % intervals",
            alt=f"Each point is a task. {said}",
            heads=("board", "task", "synthetic", "locality", "locality low", "locality high", *BOUNDS, "kind"),
            rows=tuple(
                (board.slug, title, "no" if kind == REAL else "yes", x.value, x.low, x.high, *bounds(y), kind)
                for board, points in measured
                for title, kind, x, y in points
            ),
            panels=panels,
        ),
    )


def _panel(board: Board, points: Sequence[tuple], top: float) -> Panel:
    kinds = list(dict.fromkeys(kind for _, kind, _, _ in points))
    panel = Panel(
        [end for _, _, x, _ in points for end in (x.value, x.low, x.high) if end is not None],
        [0.0, *ends(y for *_, y in points)],
        top=top,
        height=180,
        title=f"{modality(board.modality)}, {board.track} track",
        legend=[(kind, place) for place, kind in enumerate(kinds)],
        x_label="measured locality of the signal",
        y_label="DINOv3 − I-JEPA, in gain",
    )
    panel.zero()
    for one in _slopes(board):
        fitted = [(x.value, y.value) for title, _, x, y in points if title in one.tasks]
        if one.estimates:
            _fit(panel, fitted, one.estimates[0], kinds.index(_kind(one)))
    for _, kind, x, y in points:
        place = kinds.index(kind)
        panel.lying(x.low, x.high, y.value, place, width=0.7)
        panel.upright(x.value, y.low, y.high, place)
        panel.mark([(x.value, y.value)], place)
    return panel


def _fit(panel: Panel, points: Sequence[tuple[float, float]], found: Estimate, place: int) -> None:
    """The least-squares line through points, between them alone, and between which slopes it lies."""
    xs, ys = np.array(points).T
    ends = np.array([xs.min(), xs.mean(), xs.max()])
    lines = {k: ys.mean() + k * (ends - xs.mean()) for k in (found.value, found.low, found.high) if k is not None}
    if found.low is not None:
        edges = np.stack([lines[found.low], lines[found.high]])
        panel.band(list(zip(ends, edges.max(0), strict=True)), list(zip(ends, edges.min(0), strict=True)), place)
    panel.line(zip(ends, lines[found.value], strict=True), place)


def describe_slopes(board: Board) -> str:
    """The slopes of a board with their intervals, or why there are none."""
    found = _slopes(board)
    if not found:
        return "no simulated task with both pretexts."
    return " ".join(
        f"No slope {one.within} ({one.why})."
        if one.why
        else f"DINOv3 − I-JEPA changes {one.within} by {slope_in_words(one, one.estimates[0])}: {one.verdict}."
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
    pairs = [(variant, twins[variant]) for variant in named]
    points = []
    for column, place in zip(board.columns, board.localities, strict=True):
        if place is None or place.value is None or column.chance is None:
            continue
        lead = lead_in_gain(board.numbers, *pairs, column) if column.independent else None
        if lead is not None:
            family = next((_kind(one) for one in slopes if column.title in one.tasks), "others, simulated")
            points.append((column.title, family if column.synthetic else REAL, place, _scaled(lead, column)))
    return points


def _scaled(lead: Resampled, column: Column) -> Estimate:
    return estimate(combine([lead], [lead_scale(column, GAIN)]))
