"""Nuisance probe: a linear probe asked what was done to an image, instead of what it shows: the nuisance ledger.

Test images as they are and under every nuisance of `corruptions` at its middle strength are the classes; five folds by
the task's groups, so that an image and its altered copies are never on two sides. The better it answers, the more of
the scanner's gain, of the stain or of the focus the features hold; that is read beside how well they answer the label.
"""

import numpy as np

from benchmark.parts.corruptions import SUITES
from benchmark.parts.subset import LIMIT
from benchmark.probes import linear
from benchmark.probes._base import Part, Posed
from tasks.base import DataError, Folds

VERSION = 3
KINDS = ("nuisance",)
ON_REQUEST = True
READOUTS = ("patches",)
STRENGTH = 2
FOLDS = Folds(k=5, repeats=1)
Settings = linear.Settings
fit = linear.fit


def pose(tested: Part) -> Posed:
    """Which nuisance, if any? Of the test images of a task."""
    clean, names = tested.altered, tuple(SUITES.get(tested.modality, {}))
    pooled = [clean.pooled, *(tested.changed(name, STRENGTH).pooled for name in names)]
    labels = np.repeat(np.arange(len(pooled)), len(clean))
    return Posed(("clean", *names), np.tile(clean.index, len(pooled)), labels, np.concatenate(pooled), FOLDS)


def refuse(tested: Part) -> None:
    """Raises DataError where the test images are of too few groups."""
    if (count := len(set(tested.altered.groups))) < FOLDS.k:
        raise DataError(
            f"{count} groups ({tested.group_kind}) are among the {LIMIT:,} test images that the nuisance probe alters, "
            f"{FOLDS.k} are needed"
        )
