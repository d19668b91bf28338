"""Frozen encoder -> features of every image of a store, extracted once and cached by content."""

import os
import uuid
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmark.encoder import Encoder
from tasks.store import Store

BATCH = 256  # images per forward pass; part of the engine: it moves the last digits


def evaluation_view(pixels: np.ndarray, side: int, device: torch.device) -> Tensor:
    """Stored uint8 (B, S, S, 3) -> (B, 3, side, side) in [0, 1]: the whole image, antialiased if made smaller."""
    images = torch.tensor(pixels, device=device).permute(0, 3, 1, 2).float() / 255
    if images.shape[-1] == side:
        return images
    return F.interpolate(images, size=(side, side), mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)


@torch.inference_mode()
def extract(encoder: Encoder, store: Store) -> dict[str, np.ndarray]:
    """{"patches": mean patch token, "cls": cls token where it enters the blocks}: (N, D) fp32 each, in store order."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    encoder = encoder.to(device).eval()
    parts: dict[str, list[np.ndarray]] = {}
    for start in range(0, len(store.ids), BATCH):
        tokens = encoder(evaluation_view(store.pixels[start : start + BATCH], encoder.spec.pixels, device))
        pooled = {"patches": tokens.patches.mean(dim=1)} | ({} if tokens.cls is None else {"cls": tokens.cls})
        for name, value in pooled.items():
            parts.setdefault(name, []).append(value.float().cpu().numpy())
    return {name: np.concatenate(rows) for name, rows in parts.items()}


def cached(cache: Path, weights: str, store: Store, encoder: Encoder) -> dict[str, np.ndarray]:
    """`extract`, through `<cache>/features/<weights>-<store>-<cls or nocls>.npz`; weights is their SHA-256."""
    kind = "cls" if encoder.spec.cls else "nocls"
    path = cache / "features" / f"{weights[:16]}-{store.address}-{kind}.npz"
    if path.exists():
        with np.load(path, allow_pickle=False) as stored:
            return dict(stored)
    pooled = extract(encoder, store)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{uuid.uuid4().hex[:8]}.npz")
    np.savez(part, **pooled)
    os.replace(part, path)
    return pooled


def readout(pooled: dict[str, np.ndarray], kind: str) -> np.ndarray:
    """(N, D) of "patches" or "cls", or (N, 2·D) of "cls+patches"."""
    return np.concatenate([pooled[part] for part in kind.split("+")], axis=1)
