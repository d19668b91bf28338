"""Linear probe: L2-penalised logistic regression on standardised fp32 features.

The penalty is chosen by log-likelihood on the validation groups; the whole grid is stored; the chosen point is fitted
again on training and validation together, as in DINOv2's evaluation (arXiv 2304.07193, appendix B). Deterministic.
"""

from dataclasses import dataclass

import numpy as np

from benchmark.probes import _logistic
from benchmark.probes._base import Fitted, Labelled, log_likelihood, select

VERSION = 3
KINDS = ("classification",)


@dataclass(frozen=True, kw_only=True)
class Settings:
    c: tuple[float, ...] = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)  # inverse penalties
    tolerance: float = 1e-9  # largest component of the gradient
    iterations: int = 100  # Newton steps for each of them, at most


def fit(train: Labelled, val: Labelled, settings: Settings, classes: int, seed: int) -> Fitted:
    """Raises ValueError if a class is missing from the training features."""
    if len(np.unique(train.labels)) != classes:
        raise ValueError(f"linear probe: {len(np.unique(train.labels))} of {classes} classes have training features")
    limits = {"tolerance": settings.tolerance, "iterations": settings.iterations}
    models = _logistic.fit(train.pooled, train.labels, classes, settings.c, **limits)
    scored = [
        ({"c": c}, log_likelihood(m.probabilities(val.pooled), val.labels))
        for c, m in zip(settings.c, models, strict=True)
    ]
    best, grid = select(scored, "log likelihood")
    both = train.joined(val)
    (model,) = _logistic.fit(both.pooled, both.labels, classes, settings.c[best : best + 1], **limits)
    return Fitted(lambda images: model.probabilities(images.pooled), grid)
