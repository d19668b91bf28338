"""Few-shot probe: SimpleShot (Wang et al. arXiv 1911.04623; CL2N), the nearest class mean of a few labelled images.

Features are centred by the mean of the training part (which needs no label) and brought to unit length. A support set
is, for every class, one random training image from each of as many random groups as there are shots; a class with fewer
groups than shots ends the series. No validation label is used, nothing is chosen. Scores are the softmax of the
negative squared distances, rounded to four decimals so that many draws take little room.
"""

from dataclasses import dataclass

import numpy as np

from benchmark.probes._base import Features, Fitted, constant

VERSION = 1
KINDS = ("classification",)
NEEDS = "pooled"
ON_REQUEST = True


@dataclass(frozen=True, kw_only=True)
class Settings:
    shots: tuple[int, ...] = (1, 2, 4, 8, 16)
    draws: int = 20  # support sets for each number of shots


def fit(train: Features, val: Features, settings: Settings, classes: int, seed: int) -> list[Fitted]:
    """Raises ValueError where some class has fewer training groups than the smallest number of shots."""
    centre = train.x.mean(axis=0, dtype=np.float64)
    still = constant(centre, train.x.std(axis=0, dtype=np.float64), train.x.dtype)
    unit = _unit(np.where(still, 0.0, train.x - centre))
    groups = [np.unique(train.group[train.y == c]) for c in range(classes)]
    usable = [shots for shots in settings.shots if shots <= min(map(len, groups))]
    if not usable:
        least = min(range(classes), key=lambda c: len(groups[c]))
        raise ValueError(
            f"few-shot probe: class {least} has {len(groups[least])} training groups, {min(settings.shots)} needed; "
            "get the complete dataset"
        )

    def answering(means: np.ndarray):
        def predict(x: np.ndarray) -> np.ndarray:
            from scipy.special import softmax

            distances = np.square(_unit(np.where(still, 0.0, x - centre))[:, None] - means).sum(axis=2)
            return np.round(softmax(-distances, axis=1), 4)

        return predict

    found = []
    for shots in usable:
        for draw in range(settings.draws):
            rng = np.random.default_rng([seed, shots, draw])
            means = [unit[_support(train, c, groups[c], shots, rng)].mean(axis=0) for c in range(classes)]
            found.append(Fitted(answering(np.stack(means)), [], shots=shots, draw=draw))
    return found


def _support(train: Features, label: int, groups: np.ndarray, shots: int, rng: np.random.Generator) -> list[int]:
    chosen = rng.choice(groups, shots, replace=False)
    return [rng.choice(np.flatnonzero((train.y == label) & (train.group == group))) for group in chosen]


def _unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=1, keepdims=True).clip(min=1e-12)
