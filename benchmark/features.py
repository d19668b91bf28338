"""Frozen encoder -> features of the images of a store, extracted once and cached by content (`feature_store`)."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmark import arithmetic, feature_store
from benchmark.encoder import Encoder
from tasks.store import Store

BATCH = 256  # images per forward pass; part of the engine: it moves the last digits


def evaluation_view(pixels: np.ndarray, side: int, device: torch.device) -> Tensor:
    """Stored uint8 (B, S, S, 3) -> (B, 3, side, side) in [0, 1]: the whole image, antialiased if made smaller."""
    images = torch.tensor(pixels, device=device).permute(0, 3, 1, 2).float() / 255
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
    for start in range(0, len(rows), BATCH):
        some = rows[start : start + BATCH]
        pixels = store.pixels[some]
        if change is not None:
            pixels = change.apply(pixels, [store.ids[i] for i in some])
        seen = encoder(evaluation_view(pixels, encoder.spec.pixels, device))
        if tokens:
            found = {"tokens": seen.patches.half()}
        else:
            found = {"patches": seen.patches.mean(dim=1).float()}
            found |= {} if seen.cls is None else {"cls": seen.cls.float()}
        yield {name: value.cpu().numpy() for name, value in found.items()}


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
