"""Randomness that depends only on what it is for.

Per-sample draws are a pure function of (seed, epoch, sample id, purpose), batch-level draws of (seed, step, purpose)
for the global batch. So samples, masks and crops are the same for any number of processes, workers and restarts.
Counter-based: a 64-bit key and a counter through the SplitMix64 finaliser (Steele, Lea & Flood, OOPSLA 2014).
"""

import hashlib
import zlib

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
    """The draws of one rank's slice of a global batch."""

    def __init__(
        self, samples: np.ndarray, batch: np.ndarray, start: int, total: int, device: torch.device | str = "cpu"
    ):
        """samples: (B,) uint64 keys of this slice, which starts at `start` of `total`; batch: (1,) key of the step."""
        self.samples, self.batch, self.start, self.total, self.device = samples, batch, start, total, device

    def __len__(self) -> int:
        return len(self.samples)

    def uniform(self, purpose: str, *shape: int) -> Tensor:
        """Per-sample draws, (B, *shape) float32 in [0, 1) on the device."""
        return torch.from_numpy(uniform(self.samples, purpose, *shape)).to(self.device)

    def between(self, purpose: str, low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * self.uniform(purpose, *shape)

    def batch_uniform(self, purpose: str, *shape: int) -> np.ndarray:
        """Batch-level draws, (*shape) float32, equal on every rank."""
        return uniform(self.batch, purpose, *shape)[0]

    def generators(self, purpose: str) -> list[np.random.Generator]:
        """One generator per sample, for samplers that draw an unknown number of times."""
        keys = keyed(self.samples, zlib.crc32(purpose.encode()))
        return [np.random.Generator(np.random.Philox(key=int(k))) for k in keys]
