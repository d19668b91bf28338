"""Robustness: the linear probe as fitted on clean images, asked about test images under the nuisances of `corruptions`.

Encoder and probe are frozen, nothing is trained again. Stored are the answers to the clean test set and, on up to
`subset.LIMIT` test samples, to each nuisance at three strengths; the drop is the difference on those samples.
"""

from benchmark.parts.corruptions import SUITES
from benchmark.probes import linear
from benchmark.probes._base import Fitted, Labelled

VERSION = 2
KINDS = ("classification",)
ON_REQUEST = True
Settings = linear.Settings


def fit(train: Labelled, val: Labelled, settings: Settings, classes: int, seed: int) -> Fitted:
    return linear.fit(train, val, settings, classes, seed)._replace(changes=tuple(SUITES.get(train.modality, {})))
