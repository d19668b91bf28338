"""Curves within a page: training, a line a seed, and reliability."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from leaderboards.boards.board import HEALTH, LOSS, Board, Curve
from leaderboards.figures.chart import Panel
from leaderboards.figures.figure import Figure

Bins = Sequence[tuple[float, float, int]]  # (mean confidence, share that is right, images)


def draw_curves(board: Board) -> tuple[Figure, ...]:
    """The loss of each row, as losses of different pretexts have no common scale; one figure for the health value."""
    names = list(dict.fromkeys(curve.name for curve in board.curves))
    charts = [
        (f"{LOSS} of {name}", f"loss-{place}", [c for c in board.curves if (c.quantity, c.name) == (LOSS, name)])
        for place, name in enumerate(names)
    ]
    charts += [(HEALTH, "health", [c for c in board.curves if c.quantity == HEALTH])]
    return tuple(draw_training(f"{board.slug}-{key}", what, found, names) for what, key, found in charts if found)


def draw_training(name: str, what: str, found: Sequence[Curve], names: Sequence[str], data: str = "") -> Figure:
    """A quantity over training, a line per seed, a colour and a dash per name; per seed where there is one name."""
    low, high = format_extremes(found)
    seeds = [f"seed {seed}" for seed in sorted({curve.seed for curve in found})]
    label = (lambda curve: curve.name) if len(names) > 1 else (lambda curve: f"seed {curve.seed}")
    places = {one: place for place, one in enumerate(names if len(names) > 1 else seeds)}
    panel = Panel(
        [x for curve in found for x, _ in curve.points],
        [y for curve in found for _, y in curve.points],
        legend=[(one, places[one]) for one in dict.fromkeys(map(label, found))],
        marked=False,
        x_label="share of training",
        y_label=found[0].quantity,
    )
    for curve in found:
        panel.line(curve.points, places[label(curve)], width=1)
    return Figure(
        name=name,
        title=f"{what}, between {low} and {high}",
        alt=f"{what} over training, from {low} at the lowest to {high} at the highest; "
        f"{len(found)} runs of {', '.join(dict.fromkeys(c.name for c in found))}.",
        heads=("encoder", "seed", "share of training", "value")[len(names) == 1 :],
        rows=tuple((curve.name, curve.seed, x, y)[len(names) == 1 :] for curve in found for x, y in curve.points),
        panels=[panel],
        inline=True,
        data=data,
    )


def format_extremes(found: Iterable[Curve]) -> tuple[str, str]:
    """Lowest and highest value, as printed."""
    values = [y for curve in found for _, y in curve.points]
    return f"{min(values):.3g}", f"{max(values):.3g}"


def draw_reliability(name: str, task: str, seeds: Mapping[int, Bins]) -> Figure:
    """Share that is right against mean confidence, bins of as many images each, a line a seed."""
    every = [one for bins in seeds.values() for one in bins]
    low = max(0.0, min(min(confidence, right) for confidence, right, _ in every) - 0.05)
    panel = Panel(
        (low, 1),
        (low, 1),
        legend=[(f"seed {seed}", place) for place, seed in enumerate(seeds)],
        marked=False,
        x_label="mean confidence of the predicted class",
        y_label="share that is right",
    )
    panel.line([(low, low), (1, 1)], 0, kind="rule")
    for place, bins in enumerate(seeds.values()):
        panel.line([(confidence, right) for confidence, right, _ in bins], place, width=1)
    gap = sum(n * abs(confidence - right) for confidence, right, n in every) / sum(n for _, _, n in every)
    return Figure(
        name=name,
        title=f"Reliability, {task}",
        alt=f"Reliability curve of {task}: {len(seeds)} seeds, bins of as many images; confidence and share that is "
        f"right are {gap:.3f} apart in the mean.",
        heads=("seed", "mean confidence", "share right", "images"),
        rows=tuple((seed, *one) for seed, bins in seeds.items() for one in bins),
        panels=[panel],
        inline=True,
    )
