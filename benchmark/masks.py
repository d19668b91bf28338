"""Mask samplers: sizes and draws in, token indices out. They never see images. Tokens are numbered row by row."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from benchmark.mask_sizes import block_sides, published_blocks, within


class RandomMask(NamedTuple):
    keep: Tensor  # (B, K) indices of visible tokens, in drawn order
    hide: Tensor  # (B, N - K) indices of hidden tokens
    restore: Tensor  # (B, N) position of every token in cat(keep, hide)


def random_tokens(noise: Tensor, ratio: float) -> RandomMask:
    """MAE (arXiv 2111.06377, 3): per image, the int(N·(1 - ratio)) tokens of lowest noise (B, N) stay visible."""
    tokens = noise.shape[1]
    order = noise.argsort(dim=1, stable=True)
    kept = int(tokens * (1 - ratio))
    return RandomMask(order[:, :kept], order[:, kept:], order.argsort(dim=1))


class BlockMask(NamedTuple):
    context: Tensor  # (B, C) indices the context encoder sees, sorted
    targets: Tensor  # (B, T, M) indices of T target blocks of M tokens each, sorted


def multiblock(
    sizes: np.ndarray,
    positions: Tensor,
    order: Tensor,
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
    batch, _, blocks, _ = positions.shape
    rows, columns = block_sides(grid, within(sizes[0], target_scale), within(sizes[1], target_aspect))
    side = block_sides(grid, within(sizes[2], context_scale), 1.0)
    heights = torch.tensor([rows] * (blocks - 1) + [side[0]], device=positions.device)
    widths = torch.tensor([columns] * (blocks - 1) + [side[1]], device=positions.device)
    positions = torch.cat([positions, positions[:, -1:].clone()], dim=1)
    positions[:, -1, : blocks - 1] = positions[:, -1, :1]
    top = (positions[..., 0] * (grid - heights + 1)).long()  # (B, R + 1, T + 1)
    left = (positions[..., 1] * (grid - widths + 1)).long()
    line = torch.arange(grid, device=positions.device)
    in_rows = (line >= top[..., None]) & (line < (top + heights)[..., None])  # (B, R + 1, T + 1, grid)
    in_columns = (line >= left[..., None]) & (line < (left + widths)[..., None])
    inside = (in_rows[..., :, None] & in_columns[..., None, :]).flatten(-2)  # (B, R + 1, T + 1, N)
    eligible = inside[:, :, -1] & ~inside[:, :, :-1].any(dim=2)  # (B, R + 1, N)
    chosen = (eligible.sum(-1) >= context).float().argmax(dim=1)  # the first that is large enough
    image = torch.arange(batch, device=positions.device)
    targets = inside[image, chosen, :-1].int().argsort(dim=-1, descending=True, stable=True)[..., : rows * columns]
    ranked = torch.where(eligible[image, chosen], order, torch.full_like(order, 2.0)).argsort(dim=1, stable=True)
    return BlockMask(ranked[:, :context].sort(dim=1).values, targets)


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
    return BlockMask(
        torch.from_numpy(first), torch.from_numpy(np.argsort(~targets, axis=-1, kind="stable")[..., :hidden])
    )


def blockwise(grid: int, count: int, rng: np.random.Generator) -> np.ndarray:
    """BEiT's block masking (arXiv 2106.08254, algorithm 1) completed at random to exactly `count` hidden tokens.

    Blocks of at least 4 tokens, aspect log-uniform in [0.3, 1/0.3], at most 10 attempts each. Unlike in the authors'
    code a block may span the grid, and the last 3 tokens or fewer are never a block. Returns (grid²,) bool.
    """
    mask = np.zeros((grid, grid), dtype=bool)
    while (left := count - int(mask.sum())) >= 4:
        for _ in range(10):
            area = rng.uniform(4, left)
            aspect = np.exp(rng.uniform(np.log(0.3), np.log(1 / 0.3)))
            rows, columns = round((area * aspect) ** 0.5), round((area / aspect) ** 0.5)
            if not (0 < rows <= grid and 0 < columns <= grid):
                continue
            top, start = rng.integers(grid - rows + 1), rng.integers(grid - columns + 1)
            block = mask[top : top + rows, start : start + columns]
            if 0 < block.size - int(block.sum()) <= left:
                block[:] = True
                break
        else:
            break
    flat = mask.ravel()
    flat[rng.choice(np.flatnonzero(~flat), size=count - int(flat.sum()), replace=False)] = True
    return flat
