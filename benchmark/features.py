"""Frozen encoder -> features of every image of a store, extracted once and cached by content."""

import os
import uuid
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmark.encoder import READOUTS, Encoder
from tasks.store import Store

BATCH = 256  # images per forward pass; does not move a number beyond rounding, which the cache key covers


def evaluation_view(pixels: np.ndarray, side: int, device: torch.device) -> Tensor:
    """Stored uint8 (B, S, S, 3) -> (B, 3, side, side) in [0, 1]: the whole image, resized with antialiasing if needed."""
    images = torch.from_numpy(np.ascontiguousarray(pixels)).to(device).permute(0, 3, 1, 2).float() / 255
    if images.shape[-1] == side:
        return images
    return F.interpolate(images, size=(side, side), mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)


@torch.inference_mode()
def extract(encoder: Encoder, store: Store, readouts: dict[str, str]) -> dict[str, np.ndarray]:
    """{readout name: (N, D) fp32} for {readout name: key of READOUTS}, rows in the store's order."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    encoder = encoder.to(device).eval()
    parts: dict[str, list[np.ndarray]] = {name: [] for name in readouts}
    for start in range(0, len(store.ids), BATCH):
        tokens = encoder(evaluation_view(store.pixels[start : start + BATCH], encoder.spec.pixels, device))
        for name, readout in readouts.items():
            parts[name].append(READOUTS[readout](tokens).float().cpu().numpy())
    return {name: np.concatenate(rows) for name, rows in parts.items()}


def cached(
    cache: Path, weights: str, store: Store, encoder: Encoder, readouts: dict[str, str]
) -> dict[str, np.ndarray]:
    """`extract`, through `<cache>/features/<weights>-<store>-<spec>.npz`; weights is their SHA-256."""
    kind = "-".join([*sorted(set(readouts.values())), "cls" if encoder.spec.cls else "nocls"])
    path = cache / "features" / f"{weights[:16]}-{store.address}-{kind}.npz"
    if path.exists():
        with np.load(path, allow_pickle=False) as stored:
            return {name: stored[readout] for name, readout in readouts.items()}
    by_readout = extract(encoder, store, {readout: readout for readout in readouts.values()})
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{uuid.uuid4().hex[:8]}.npz")
    np.savez(part, **by_readout)
    os.replace(part, path)
    return {name: by_readout[readout] for name, readout in readouts.items()}
