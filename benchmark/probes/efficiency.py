"""Label efficiency: the linear probe on 1, 10 and 100 % of the labelled groups, several draws of the small shares.

The budget counts validation labels: a share is drawn from the groups of the training and the validation part together,
stratified by the groups' commonest label, and a fifth of it (one group of each class at least) chooses the penalty.
Where a share holds fewer than two groups of a class, two are taken; a class that is the commonest of fewer is drawn
from all groups that hold it, and a group drawn for both parts is trained on. All of the groups: the parts as they are.
"""

from dataclasses import dataclass

import numpy as np

from benchmark.probes import linear
from benchmark.probes._base import Fitted, Labelled

VERSION = 2
KINDS = ("classification",)
ON_REQUEST = True


@dataclass(frozen=True, kw_only=True)
class Settings(linear.Settings):
    fractions: tuple[float, ...] = (0.01, 0.1, 1.0)  # of the labelled groups
    draws: int = 5  # of each fraction below 1


def fit(train: Labelled, val: Labelled, settings: Settings, classes: int, seed: int) -> list[Fitted]:
    both, found = train.joined(val), []
    for fraction in settings.fractions:
        for draw in range(settings.draws if fraction < 1 else 1):
            parts = (train, val)
            if fraction < 1:
                rng = np.random.default_rng([seed, draw])
                parts = _drawn(both, fraction, classes, rng)
            fitted = linear.fit(*parts, settings, classes, seed)
            grid = [t._replace(settings=t.settings | {"fraction": fraction, "draw": draw}) for t in fitted.grid]
            found.append(Fitted(fitted.predict, grid, fraction=fraction, draw=draw))
    return found


def _drawn(both: Labelled, fraction: float, classes: int, rng: np.random.Generator) -> tuple[Labelled, Labelled]:
    """(to train on, to choose by). One generator gives nested fractions: each a head of the same order of groups."""
    groups, member = np.unique(both.groups, return_inverse=True)
    counts = np.zeros((len(groups), classes), dtype=int)
    np.add.at(counts, (member, both.labels), 1)
    train, val = [], []
    for label in range(classes):
        own = rng.permutation(np.flatnonzero(counts.argmax(axis=1) == label))
        if len(own) < 2:
            own = rng.permutation(np.flatnonzero(counts[:, label]))
        taken = own[: max(2, round(fraction * len(own)))]
        held = max(1, len(taken) // 5)
        val.append(taken[:held])
        train.append(taken[held:])
    trained = np.unique(np.concatenate(train))
    held = np.setdiff1d(np.concatenate(val), trained)
    if not len(held):
        trained, held = trained[1:], trained[:1]
    return tuple(both.take(np.isin(member, part)) for part in (trained, held))
