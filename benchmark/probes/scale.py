"""Scale controls: the linear probe as fitted on whole images, asked about test images of which one scale is left.

Shuffled squares keep what is local, low-passed images what is large (`corruptions.SCALES`). Encoder and probe are
frozen, nothing is trained again. Stored are the answers to the clean test set and, on up to `subset.LIMIT` test
samples, to each alteration at three strengths.
"""

from benchmark.parts.corruptions import SCALES
from benchmark.probes import linear
from benchmark.probes._base import Fitted, Labelled

VERSION = 1
KINDS = ("classification",)
ON_REQUEST = True
Settings = linear.Settings


def fit(train: Labelled, val: Labelled, settings: Settings, classes: int, seed: int) -> Fitted:
    return linear.fit(train, val, settings, classes, seed)._replace(changes=tuple(SCALES))
