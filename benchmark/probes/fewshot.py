"""Few-shot probe: SimpleShot (Wang et al. arXiv 1911.04623; CL2N), the nearest class mean of a few labelled images.

Features are centred by the mean of the training part (which needs no label) and brought to unit length. A support set
is, for every class, one random training image from each of as many random groups as there are shots; a class with fewer
groups than shots ends the series. No validation label is used, nothing is chosen. Scores are the softmax of the
negative squared distances.
"""

from dataclasses import dataclass

import numpy as np

from benchmark.probes._base import Fitted, Labelled, Part, constant, moments

VERSION = 2
KINDS = ("classification",)
ON_REQUEST = True


@dataclass(frozen=True, kw_only=True)
class Settings:
    shots: tuple[int, ...] = (1, 2, 4, 8, 16)
    draws: int = 20  # support sets for each number of shots


def fit(train: Labelled, val: Labelled, settings: Settings, classes: int, seed: int) -> list[Fitted]:
    """Raises ValueError where some class has fewer training groups than the smallest number of shots."""
    centre, deviation = moments(train.pooled)
    still = constant(centre, deviation, train.pooled.dtype)
    members = [_members(train, c) for c in range(classes)]
    usable = [shots for shots in settings.shots if shots <= min(map(len, members))]
    if not usable:
        least = min(range(classes), key=lambda c: len(members[c]))
        raise ValueError(
            f"few-shot probe: class {least} has {len(members[least])} training groups, {min(settings.shots)} needed; "
            "get the complete dataset"
        )

    def unit(x: np.ndarray) -> np.ndarray:
        moved = np.where(still, 0.0, x - centre)
        return moved / np.linalg.norm(moved, axis=1, keepdims=True).clip(min=1e-12)

    def answering(means: np.ndarray):
        def predict(images: Part) -> np.ndarray:
            from scipy.special import softmax

            alike = (
                unit(images.pooled) @ means.T - np.square(means).sum(axis=1) / 2
            )  # half the distance, less what classes share
            return softmax(2 * alike, axis=1)

        return predict

    found = []
    for shots in usable:
        for draw in range(settings.draws):
            rng = np.random.default_rng([seed, shots, draw])
            means = [unit(train.pooled[_support(own, shots, rng)]).mean(axis=0) for own in members]
            found.append(Fitted(answering(np.stack(means)), [], shots=shots, draw=draw))
    return found


def _members(train: Labelled, label: int) -> list[np.ndarray]:
    """Rows of a class, for each of its groups in the order of their names."""
    rows = np.flatnonzero(train.labels == label)
    _, group = np.unique(train.groups[rows], return_inverse=True)
    order = np.argsort(group, kind="stable")
    return np.split(rows[order], np.flatnonzero(np.diff(group[order])) + 1) if len(rows) else []


def _support(members: list[np.ndarray], shots: int, rng: np.random.Generator) -> list[int]:
    """A row of each of as many groups as there are shots; members: the rows of every group."""
    chosen = rng.choice(len(members), shots, replace=False)
    return [rng.choice(members[group]) for group in chosen]
