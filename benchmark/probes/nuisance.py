"""Nuisance probe: a linear probe asked what was done to an image, instead of what it shows: the nuisance ledger.

Test images as they are and under every nuisance of `corrupt` at its middle strength are the classes; five folds by the
task's groups, so that an image and its altered copies are never on two sides. The better it answers, the more of the
scanner's gain, of the stain or of the focus the features hold; that is read beside how well they answer the label.
"""

from benchmark.probes import linear
from benchmark.probes._base import Features, Fitted

VERSION = 3
KINDS = ("nuisance",)
NEEDS = "nuisances"
ON_REQUEST = True
READOUTS = ("patches",)
Settings = linear.Settings


def fit(train: Features, val: Features, settings: Settings, classes: int, seed: int) -> Fitted:
    return linear.fit(train, val, settings, classes, seed)
