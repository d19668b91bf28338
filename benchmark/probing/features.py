"""Frozen encoder -> features of the images of a store, extracted once and cached by content (`feature_store`).

Computed on every device in the one precision of `arithmetic.RULE`, whatever an encoder was trained in: fp32 without
TF32. Pooled features are stored as computed, in 32 bits; tokens of every patch are rounded to 16 (fp16).
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmark.device import arithmetic
from benchmark.device.blocks import compute_blocks
from benchmark.encoders.encoder import Encoder
from benchmark.storage import feature_store
from tasks.store import Store

BATCH = 256  # images per forward pass; part of the engine: it moves the last digits


def evaluation_view(pixels: np.ndarray | Tensor, side: int, device: torch.device) -> Tensor:
    """Stored uint8 (B, S, S, 3) -> (B, 3, side, side) in [0, 1]: the whole image, antialiased if made smaller."""
    images = torch.as_tensor(pixels).to(device).permute(0, 3, 1, 2).float().div_(255)
    if images.shape[-1] == side:
        return images
    return F.interpolate(images, size=(side, side), mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)


class Change(NamedTuple):
    """What is done to stored images before an encoder sees them."""

    name: str  # identifies it, version and strength included
    apply: Callable[[np.ndarray, list[str]], np.ndarray]  # uint8 (B, S, S, 3) and the images' ids -> the same shape


def extract(
    encoder: Encoder,
    store: Store,
    *,
    tokens: bool = False,
    change: Change | None = None,
    rows: np.ndarray | None = None,
) -> dict[str, np.ndarray]:
    """{"patches": mean patch token, "cls": cls token where it enters the blocks}: (N, D) fp32 each, in store order, or
    in that of the given rows. tokens: {"tokens": (N, patches, D) fp16} instead."""
    parts = list(blocks(encoder, store, tokens=tokens, change=change, rows=rows))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


@torch.inference_mode()
def blocks(
    encoder: Encoder,
    store: Store,
    *,
    tokens: bool = False,
    change: Change | None = None,
    rows: np.ndarray | None = None,
) -> Iterator[dict[str, np.ndarray]]:
    """What `extract` returns, for BATCH images at a time."""
    device = arithmetic.prepare()
    encoder = encoder.to(device).eval()
    rows = np.arange(len(store.ids)) if rows is None else rows

    def compute(pixels: Tensor) -> dict[str, Tensor]:
        seen = encoder(evaluation_view(pixels, encoder.spec.pixels, device))
        if tokens:
            return {"tokens": seen.patches.half()}
        pooled = {"patches": seen.patches.mean(dim=1).float()}
        return pooled if seen.cls is None else pooled | {"cls": seen.cls.float()}

    parts = (rows[start : start + BATCH] for start in range(0, len(rows), BATCH))
    yield from compute_blocks((_read(store, some, change, device.type == "cuda") for some in parts), compute, device)


def _read(store: Store, some: np.ndarray, change: Change | None, pinned: bool) -> Tensor:
    """Stored images uint8 (B, S, S, 3), changed if asked; pinned: from where a GPU copies by itself."""
    images = torch.empty((len(some), *store.pixels.shape[1:]), dtype=torch.uint8, pin_memory=pinned)
    np.take(store.pixels, some, axis=0, out=images.numpy(), mode="clip")  # "raise" would copy once more
    if change is None:
        return images
    images = torch.from_numpy(change.apply(images.numpy(), [store.ids[i] for i in some]))
    return images.pin_memory() if pinned else images


def cached(
    cache: Path,
    weights: str,
    store: Store,
    encoder: Encoder,
    *,
    tokens: bool = False,
    change: Change | None = None,
    rows: np.ndarray | None = None,
) -> dict[str, np.ndarray]:
    """`extract`, memory-mapped from the cache and never held whole; weights is the SHA-256 of the encoder's."""
    named = change.name if change else ""
    path = feature_store.folder(cache, weights, encoder.spec, store.address, tokens=tokens, change=named, rows=rows)
    found = feature_store.read(path)
    if found is None:
        made = blocks(encoder, store, tokens=tokens, change=change, rows=rows)
        feature_store.write(path, made, len(store.ids) if rows is None else len(rows))
        found = feature_store.read(path)
    return found


def readout(pooled: dict[str, np.ndarray], kind: str) -> np.ndarray:
    """(N, D) of "patches" or "cls", or (N, 2·D) of "cls+patches"."""
    return np.concatenate([pooled[part] for part in kind.split("+")], axis=1)
