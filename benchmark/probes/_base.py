"""What a probe is: VERSION, KINDS, NEEDS, Settings and `fit`. Its signature cannot say a test label.

A probe that costs more than a few seconds says ON_REQUEST = True and runs only when named by PROBE=. `fit` returns one
`Fitted`, or a list of them under different conditions (fraction of the groups, shots, draw of the support).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

BLOCK = 8192  # rows in float64 at a time
ROUNDING = 16  # units in the last place by which features that ought to be equal may deviate; 1 or 2 are usual


class Rows:
    """Rows of an array that may be too large for memory. Indexing reads; `part` does not."""

    def __init__(self, array: np.ndarray, index: np.ndarray):
        self.array, self.index = array, index
        self.shape, self.dtype = (len(index), *array.shape[1:]), array.dtype

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, place: Any) -> np.ndarray:
        """As of an array: rows, or rows and what of each of them."""
        rows, *rest = place if isinstance(place, tuple) else (place,)
        return self.array[(self.index[rows], *rest)]

    def part(self, rows: np.ndarray) -> "Rows":
        return Rows(self.array, self.index[rows])


class Features(NamedTuple):
    x: np.ndarray | Rows  # (N, D) fp32; Rows (N, patches, D) fp16 for a probe that needs tokens or masks
    y: np.ndarray  # (N,) class indices, or (N, S, S) bool for a probe that needs masks
    group: np.ndarray  # (N,) group of every sample


class Trial(NamedTuple):
    """A grid point that was tried."""

    settings: dict[str, Any]
    metric: str  # what was measured on the validation groups
    score: float
    selected: bool


class Fitted(NamedTuple):
    predict: Callable[[np.ndarray], np.ndarray]  # (N, D) -> (N, classes) scores, rows sum to 1; or masks (N, S, S)
    grid: list[Trial]  # empty where there was nothing to choose
    fraction: float = 1.0  # of the labelled groups that it was given
    shots: int | None = None  # samples of each class that it was given; None: all
    draw: int = 0  # of the samples that it was given


def select(scores: list[tuple[dict[str, Any], float]], metric: str) -> tuple[int, list[Trial]]:
    """The highest score wins, the earlier point on a tie."""
    best = max(range(len(scores)), key=lambda i: (scores[i][1], -i))
    return best, [Trial(settings, metric, score, i == best) for i, (settings, score) in enumerate(scores)]


def moments(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation (D,) float64 of rows x (N, D), without a copy of all of them in float64."""
    mean = x.mean(axis=0, dtype=np.float64)
    blocks = (x[start : start + BLOCK] - mean for start in range(0, len(x), BLOCK))
    return mean, np.sqrt(sum(np.square(block).sum(axis=0) for block in blocks) / len(x))


def constant(mean: np.ndarray, deviation: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """(D,) bool: which features vary by no more than rounding, and so say nothing. mean, deviation: (D,) of each.

    Rounding is in proportion to a feature's own magnitude; where every feature is that still against the magnitude of
    all of them, the encoder has collapsed and all are. dtype: in which the features were computed."""
    noise = ROUNDING * np.finfo(np.result_type(dtype, np.float16)).eps
    typical = np.sqrt(np.square(mean).mean())
    collapsed = (deviation <= noise * np.maximum(np.abs(mean), typical)).all()
    return collapsed | (deviation <= noise * np.abs(mean))


def joined(train: Features, val: Features) -> Features:
    return Features(*(np.concatenate(pair) for pair in zip(train, val, strict=True)))


def log_likelihood(probabilities: np.ndarray, y: np.ndarray) -> float:
    """Mean log probability (N, classes) of the true classes (N,)."""
    return float(np.log(np.clip(probabilities[np.arange(len(y)), y], 1e-12, 1)).mean())
