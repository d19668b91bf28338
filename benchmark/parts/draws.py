"""Randomness that depends only on what it is for.

Per-sample draws are a pure function of (seed, epoch, sample id, purpose), batch-level draws of (seed, step, purpose)
for the global batch. So samples, masks and crops are the same for any number of processes, workers and restarts.
Counter-based: a 64-bit key and a counter through the SplitMix64 finaliser (Steele, Lea & Flood, OOPSLA 2014).
"""

import hashlib
import math
import zlib
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def mix(x: np.ndarray) -> np.ndarray:
    """SplitMix64's finaliser on an array of uint64, element by element."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def keyed(keys: np.ndarray, *parts: int) -> np.ndarray:
    """Keys (N,) uint64 refined by integers, in order."""
    for part in parts:
        keys = mix(keys + (np.array([part % 2**64], dtype=np.uint64) + np.uint64(1)) * GOLDEN)
    return keys


def text_keys(ids: list[str]) -> np.ndarray:
    """(N,) uint64 keys of sample ids: the first eight bytes of their SHA-256."""
    return np.array([int.from_bytes(hashlib.sha256(i.encode()).digest()[:8], "little") for i in ids], dtype=np.uint64)


def uniform(keys: np.ndarray, purpose: str, *shape: int) -> np.ndarray:
    """(N, *shape) float32 in [0, 1), exact multiples of 2^-24."""
    count = int(np.prod(shape, dtype=np.int64))
    streams = keyed(keys, zlib.crc32(purpose.encode()))
    counters = np.arange(1, count + 1, dtype=np.uint64) * GOLDEN
    bits = mix(streams[:, None] + counters[None, :]) >> np.uint64(40)
    return (bits.astype(np.float32) * np.float32(2**-24)).reshape(len(keys), *shape)


class Draws:
    """The draws of one rank's slice of a global batch, on the CPU."""

    def __init__(self, samples: np.ndarray, batch: np.ndarray, start: int, total: int):
        """samples: (B,) uint64 keys of this slice, which starts at `start` of `total`; batch: (1,) key of the step."""
        self.samples, self.batch, self.start, self.total = samples, batch, start, total

    def __len__(self) -> int:
        return len(self.samples)

    def uniform(self, purpose: str, *shape: int) -> np.ndarray:
        """Per-sample draws, (B, *shape) float32 in [0, 1)."""
        return uniform(self.samples, purpose, *shape)

    def between(self, purpose: str, low: float, high: float, *shape: int) -> np.ndarray:
        return np.float32(low) + np.float32(high - low) * self.uniform(purpose, *shape)

    def batch_uniform(self, purpose: str, *shape: int) -> np.ndarray:
        """Batch-level draws, (*shape) float32, equal on every rank."""
        return uniform(self.batch, purpose, *shape)[0]


class Packed(NamedTuple):
    """Named arrays in one buffer, so that one copy brings them to a device."""

    buffer: Tensor  # uint8, pinned where a GPU is meant
    places: dict[str, tuple[np.dtype, tuple[int, ...]]]  # name -> dtype and shape, in the order of the buffer

    def on(self, device: torch.device) -> dict[str, Tensor]:
        """The arrays as tensors there. The copy is not waited for."""
        sizes = [dtype.itemsize * math.prod(shape) for dtype, shape in self.places.values()]
        parts = self.buffer.to(device, non_blocking=True).split(sizes)
        return {
            name: part.view(TORCH[dtype.name]).view(shape)
            for part, (name, (dtype, shape)) in zip(parts, self.places.items(), strict=True)
        }


TORCH = {name: getattr(torch, name) for name in ("int64", "float32", "bool", "uint8")}


def pack(arrays: dict[str, np.ndarray], pinned: bool = False) -> Packed:
    """Those arrays, of int64, float32, bool or uint8, in one buffer; wide types come first, so that all are aligned."""
    order = sorted(arrays, key=lambda name: -arrays[name].itemsize)
    buffer = torch.empty(sum(array.nbytes for array in arrays.values()), dtype=torch.uint8, pin_memory=pinned)
    at, filled = 0, buffer.numpy()
    for name in order:
        array = arrays[name]
        filled[at : at + array.nbytes] = np.ascontiguousarray(array).view(np.uint8).reshape(-1)
        at += array.nbytes
    return Packed(buffer, {name: (arrays[name].dtype, arrays[name].shape) for name in order})


def tensors(arrays: dict[str, np.ndarray]) -> dict[str, Tensor]:
    """The same on the CPU, where nothing has to travel."""
    return {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()}
