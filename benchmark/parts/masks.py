"""Mask samplers: sizes and draws in, token indices out, for a whole batch. They never see images. Tokens are numbered
row by row. All on the CPU, in numpy: a mask is drawn a step ahead."""

from typing import NamedTuple

import numpy as np

from benchmark.parts.draws import Draws
from benchmark.parts.mask_sizes import block_sides, published_blocks, scale_to

ATTEMPTS = 16  # at a multi-block mask that leaves enough context, before the targets are laid on one another


class RandomMask(NamedTuple):
    keep: np.ndarray  # (B, K) indices of visible tokens, in drawn order
    hide: np.ndarray  # (B, N - K) indices of hidden tokens
    restore: np.ndarray  # (B, N) position of every token in cat(keep, hide)


def random_tokens(noise: np.ndarray, ratio: float) -> RandomMask:
    """MAE (arXiv 2111.06377, 3): per image, the int(N·(1 - ratio)) tokens of lowest noise (B, N) stay visible."""
    tokens = noise.shape[1]
    order = noise.argsort(axis=1, kind="stable")
    kept = int(tokens * (1 - ratio))
    return RandomMask(order[:, :kept], order[:, kept:], order.argsort(axis=1))


class BlockMask(NamedTuple):
    context: np.ndarray  # (B, C) indices the context encoder sees, sorted
    targets: np.ndarray  # (B, T, M) indices of T target blocks of M tokens each, sorted


def multiblock(
    sizes: np.ndarray,
    positions: np.ndarray,
    order: np.ndarray,
    *,
    grid: int,
    context: int,
    target_scale: tuple[float, float] = (0.15, 0.2),
    target_aspect: tuple[float, float] = (0.75, 1.5),
    context_scale: tuple[float, float] = (0.85, 1.0),
) -> BlockMask:
    """I-JEPA's multi-block masks (arXiv 2301.08243, 3), fixed variant: inclusive positions, scale and aspect drawn
    independently, and a context of constant size chosen at random instead of truncated to the batch's minimum.

    sizes: (3,) batch-level draws for target scale, target aspect, context scale. positions: (B, R, T + 1, 2) draws in
    [0, 1): R attempts at T target blocks and one context block. order: (B, N) draws that choose among eligible tokens.
    The first attempt that leaves at least `context` tokens outside all targets is used; if none does, the targets of
    the last attempt are laid on one another, which always leaves enough (see `mask_sizes.check_context`).
    """
    attempts, blocks = positions.shape[1:3]
    rows, columns = block_sides(grid, scale_to(sizes[0], target_scale), scale_to(sizes[1], target_aspect))
    side = block_sides(grid, scale_to(sizes[2], context_scale), 1.0)
    heights = np.array([rows] * (blocks - 1) + [side[0]])
    widths = np.array([columns] * (blocks - 1) + [side[1]])
    inside = np.empty((len(positions), blocks, grid**2), dtype=bool)
    eligible = np.empty((len(positions), grid**2), dtype=bool)
    left = np.arange(len(positions))  # images without a mask yet
    for attempt in range(attempts + 1):
        corners = positions[left, min(attempt, attempts - 1)]
        if attempt == attempts:
            corners[:, : blocks - 1] = corners[:, :1]
        inside[left] = fill_blocks(corners, heights, widths, grid)
        eligible[left] = inside[left, -1] & ~inside[left, :-1].any(axis=1)
        left = left[eligible[left].sum(axis=1) < context]
        if not len(left):
            break
    targets = (~inside[:, :-1]).argsort(axis=-1, kind="stable")[..., : rows * columns]
    ranked = np.where(eligible, order, 2.0).argsort(axis=1, kind="stable")
    return BlockMask(np.sort(ranked[:, :context], axis=1), targets)


def draw_multiblock(
    draws: Draws, purpose: str, *, grid: int, targets: int, **sizes: int | tuple[float, float]
) -> BlockMask:
    """`multiblock` with so many targets; sizes: what else it takes."""
    batch, positions = draws.batch_uniform(f"{purpose}/sizes", 3), (ATTEMPTS, targets + 1, 2)
    positions, order = draws.uniform(f"{purpose}/positions", *positions), draws.uniform(f"{purpose}/order", grid**2)
    return multiblock(batch, positions, order, grid=grid, **sizes)


def fill_blocks(corners: np.ndarray, heights: np.ndarray, widths: np.ndarray, grid: int) -> np.ndarray:
    """Blocks of those sides (T,) with corners (B, T, 2) in [0, 1) of where they can lie -> (B, T, grid²) bool."""
    top = (corners[..., 0] * (grid - heights + 1)).astype(int)[..., None]
    left = (corners[..., 1] * (grid - widths + 1)).astype(int)[..., None]
    line = np.arange(grid)
    in_rows = (line >= top) & (line < top + heights[:, None])
    in_columns = (line >= left) & (line < left + widths[:, None])
    return (in_rows[..., :, None] & in_columns[..., None, :]).reshape(*top.shape[:2], grid**2)


def published_multiblock(
    sizes: np.ndarray, corners: np.ndarray, *, grid: int, min_keep: int, **blocks: tuple[float, float] | int
) -> BlockMask:
    """I-JEPA's multi-block masks as its code draws them (see `mask_sizes.published_blocks`, which takes the same).

    Every context is cut to the smallest of the batch and keeps the first tokens, row by row: the lower rows are seldom
    seen, the last row and column never, and the task gets harder with the batch.
    """
    context, targets = published_blocks(sizes, corners, grid=grid, min_keep=min_keep, **blocks)
    seen, hidden = context.sum(axis=1).min(), targets[0, 0].sum()
    first = np.argsort(~context, axis=-1, kind="stable")[:, :seen]
    return BlockMask(first, np.argsort(~targets, axis=-1, kind="stable")[..., :hidden])


def blockwise(grid: int, counts: np.ndarray, attempts: np.ndarray, order: np.ndarray) -> np.ndarray:
    """BEiT's block masking (arXiv 2106.08254, algorithm 1), completed at random to exactly `counts` (B,) hidden tokens.

    attempts: (B, A, 4) draws in [0, 1) for area, aspect, row and column of A blocks, tried one after the other; order:
    (B, N) draws that choose what completes. A block has at least 4 tokens and at most as many as are lacking, its
    aspect is log-uniform in [0.3, 1/0.3]; one that does not fit the grid, hides nothing new or too much is left out.
    Unlike in the authors' code a block may span the grid, the last 3 tokens or fewer are never a block, and the number
    of attempts is one for the whole mask, not ten for each block. Returns (B, grid²) bool.
    """
    mask = np.zeros((len(counts), grid, grid), dtype=bool)
    line = np.arange(grid)
    for u in attempts.swapaxes(0, 1).astype(np.float64):
        lacking = counts - mask.sum(axis=(1, 2))
        some = np.flatnonzero(lacking >= 4)
        if not len(some):
            break
        area, aspect = 4 + u[some, 0] * (lacking[some] - 4), np.exp((2 * u[some, 1] - 1) * np.log(1 / 0.3))
        rows, columns = np.rint(np.sqrt(area * aspect)), np.rint(np.sqrt(area / aspect))
        top, left = np.floor(u[some, 2] * (grid - rows + 1)), np.floor(u[some, 3] * (grid - columns + 1))
        in_rows = (line >= top[:, None]) & (line < (top + rows)[:, None])
        in_columns = (line >= left[:, None]) & (line < (left + columns)[:, None])
        block = in_rows[:, :, None] & in_columns[:, None, :] & ~mask[some]
        new = block.sum(axis=(1, 2))
        fits = (rows <= grid) & (columns <= grid) & (new > 0) & (new <= lacking[some])
        mask[some[fits]] |= block[fits]
    flat = mask.reshape(len(counts), -1)
    ranked = np.where(flat, -1.0, order).argsort(axis=1, kind="stable")
    np.put_along_axis(flat, ranked, np.arange(grid**2) < counts[:, None], axis=1)
    return flat
