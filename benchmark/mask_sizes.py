"""How many tokens masks hide and show: what FLOP formulas need to know. No torch."""

import numpy as np


def block_sides(grid: int, scale: float, aspect: float) -> tuple[int, int]:
    """(rows, columns) of a block that covers `scale` of the grid with rows/columns near `aspect`, at most the grid."""
    area = int(grid * grid * scale)
    rows, columns = round((area * aspect) ** 0.5), round((area / aspect) ** 0.5)
    return min(max(rows, 1), grid), min(max(columns, 1), grid)


def within(value: float, bounds: tuple[float, float]) -> float:
    """A draw in [0, 1) mapped to the bounds."""
    return bounds[0] + value * (bounds[1] - bounds[0])


def mean_target_tokens(grid: int, scale: tuple[float, float], aspect: tuple[float, float]) -> float:
    """Expected tokens of a target block over the batch-level draws of `multiblock`, by a 200 × 200 midpoint rule."""
    points = (np.arange(200) + 0.5) / 200
    sides = [block_sides(grid, within(s, scale), within(a, aspect)) for s in points for a in points]
    return float(np.mean([rows * columns for rows, columns in sides]))


def check_context(
    grid: int, context: int, target_scale: tuple[float, float], context_scale: tuple[float, float]
) -> None:
    """Raise ValueError if a context of that many tokens cannot always be cut from one context block less one target."""
    rows, columns = block_sides(grid, context_scale[0], 1.0)
    possible = rows * columns - int(grid * grid * target_scale[1])
    if context > possible:
        raise ValueError(f"context of {context} tokens on a {grid} x {grid} grid: at most {possible} are always there")


def ibot_counts(crops: int, tokens: int, share: float = 0.5, ratios: tuple[float, float] = (0.1, 0.5)) -> list[int]:
    """DINOv3's ladder: hidden tokens of the int(crops·share) masked crops, ratios in equal steps."""
    masked = int(crops * share)
    return [int(tokens * ratio) for ratio in np.linspace(*ratios, masked + 1)[1:]]
