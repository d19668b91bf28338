"""How many tokens masks hide and show: what FLOP formulas need to know. No torch.

I-JEPA's published sampler is here in full, since only drawing its masks tells how large the contexts of a batch are.
"""

from functools import cache

import numpy as np

REDRAWS = 20  # of a published context that is too small, before it may overlap one more target


def block_sides(grid: int, scale: float, aspect: float) -> tuple[int, int]:
    """(rows, columns) of a block that covers `scale` of the grid with rows/columns near `aspect`, at most the grid."""
    area = int(grid * grid * scale)
    rows, columns = round((area * aspect) ** 0.5), round((area / aspect) ** 0.5)
    return min(max(rows, 1), grid), min(max(columns, 1), grid)


def scale_to(value: float, bounds: tuple[float, float]) -> float:
    """A draw in [0, 1) mapped to the bounds."""
    return bounds[0] + value * (bounds[1] - bounds[0])


@cache
def mean_target_tokens(
    grid: int, scale: tuple[float, float], aspect: tuple[float, float], published: bool = False
) -> float:
    """Expected tokens of a target block over the batch-level draws of `multiblock` or of `published_multiblock`, by a
    midpoint rule of 200 points per draw."""
    points = (np.arange(200) + 0.5) / 200
    if published:
        sides = [published_sides(grid, draw, scale, aspect) for draw in points]
    else:
        sides = [block_sides(grid, scale_to(s, scale), scale_to(a, aspect)) for s in points for a in points]
    return float(np.mean([rows * columns for rows, columns in sides]))


def check_context(
    grid: int, context: int, target_scale: tuple[float, float], context_scale: tuple[float, float]
) -> None:
    """Raise ValueError if a context of that many tokens cannot always be cut from one context block less one target."""
    rows, columns = block_sides(grid, context_scale[0], 1.0)
    possible = rows * columns - int(grid * grid * target_scale[1])
    if context > possible:
        raise ValueError(f"context of {context} tokens on a {grid} x {grid} grid: at most {possible} are always there")


def published_sides(
    grid: int, draw: float, scale: tuple[float, float], aspect: tuple[float, float] = (1.0, 1.0)
) -> tuple[int, int]:
    """`block_sides` as I-JEPA's code draws them: one draw sets scale and aspect, and no side reaches the full grid."""
    rows, columns = block_sides(grid, scale_to(draw, scale), scale_to(draw, aspect))
    return min(rows, grid - 1), min(columns, grid - 1)


def rectangles(grid: int, corners: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """(..., grid²) bool: blocks with corners drawn in [0, 1)², the last row and column being out of reach: I-JEPA's
    code excludes the last possible position."""
    line = np.arange(grid)
    top = (corners[..., :1] * (grid - rows)).astype(int)
    left = (corners[..., 1:] * (grid - columns)).astype(int)
    in_rows, in_columns = (line >= top) & (line < top + rows), (line >= left) & (line < left + columns)
    return (in_rows[..., :, None] & in_columns[..., None, :]).reshape(*corners.shape[:-1], grid**2)


def published_blocks(
    sizes: np.ndarray,
    corners: np.ndarray,
    *,
    grid: int,
    min_keep: int,
    targets: int = 4,
    target_scale: tuple[float, float] = (0.15, 0.2),
    target_aspect: tuple[float, float] = (0.75, 1.5),
    context_scale: tuple[float, float] = (0.85, 1.0),
) -> tuple[np.ndarray, np.ndarray]:
    """The masks of I-JEPA's code (arXiv 2301.08243), before truncation: contexts (B, N) and targets (B, T, N), bool.

    sizes: (2,) draws in [0, 1) for the sizes of targets and contexts. corners: (B, T + REDRAWS·(T + 1), 2) draws for
    T targets and every attempt at a context. A context of at most `min_keep` tokens outside the targets is drawn
    again; after every REDRAWS failures it may overlap one more target, the last first.
    """
    blocks = rectangles(grid, corners[:, :targets], *published_sides(grid, sizes[0], target_scale, target_aspect))
    context = np.zeros((len(corners), grid**2), dtype=bool)
    for attempt in range(REDRAWS * (targets + 1)):
        small = context.sum(axis=1) <= min_keep
        if not small.any():
            break
        drawn = rectangles(grid, corners[small, targets + attempt], *published_sides(grid, sizes[1], context_scale))
        context[small] = drawn & ~blocks[small, : targets - attempt // REDRAWS].any(axis=1)
    return context, blocks


def check_min_keep(
    grid: int,
    min_keep: int,
    target_scale: tuple[float, float],
    target_aspect: tuple[float, float],
    context_scale: tuple[float, float],
) -> None:
    """Raise ValueError if a published block can have min_keep tokens or fewer: I-JEPA's code would draw it for ever."""
    draws = np.linspace(0, 1, 1000, endpoint=False)
    for name, scale, aspect in (("target", target_scale, target_aspect), ("context", context_scale, (1.0, 1.0))):
        smallest = min(int(np.prod(published_sides(grid, draw, scale, aspect))) for draw in draws)
        if smallest <= min_keep:
            raise ValueError(
                f"min_keep of {min_keep} on a {grid} x {grid} grid: {name} blocks can have {smallest} tokens and would "
                f"never be accepted; set min_keep below {smallest}, or use smaller patches or larger images"
            )


@cache
def mean_published_context(
    grid: int,
    batch: int,
    min_keep: int,
    target_scale: tuple[float, float] = (0.15, 0.2),
    target_aspect: tuple[float, float] = (0.75, 1.5),
    context_scale: tuple[float, float] = (0.85, 1.0),
) -> float:
    """Expected tokens of the smallest published context of a batch: the mean of 100 seeded batches of four targets,
    whose size runs through its midpoints. Raises ValueError as `check_min_keep`."""
    bounds = {"target_scale": target_scale, "target_aspect": target_aspect, "context_scale": context_scale}
    check_min_keep(grid, min_keep, **bounds)
    rng = np.random.Generator(np.random.Philox(key=0))
    smallest = []
    for draw in (np.arange(100) + 0.5) / 100:
        sizes, corners = np.array([draw, rng.random()]), rng.random((batch, 4 + REDRAWS * 5, 2))
        context, _ = published_blocks(sizes, corners, grid=grid, min_keep=min_keep, **bounds)
        smallest.append(context.sum(axis=1).min())
    return float(np.mean(smallest))


def ibot_counts(crops: int, tokens: int, share: float = 0.5, ratios: tuple[float, float] = (0.1, 0.5)) -> list[int]:
    """DINOv3's ladder: hidden tokens of the int(crops·share) masked crops, ratios in equal steps."""
    masked = int(crops * share)
    return [int(tokens * ratio) for ratio in np.linspace(*ratios, masked + 1)[1:]]
