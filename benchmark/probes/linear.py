"""Linear probe: L2-penalised logistic regression on standardised fp32 features.

The penalty is chosen by log-likelihood on the validation groups; the whole grid is stored; the chosen point is fitted
again on training and validation together, as in DINOv2's evaluation (arXiv 2304.07193, appendix B). Deterministic.
"""

from dataclasses import dataclass

import numpy as np

from benchmark.probes import _logistic
from benchmark.probes._base import Features, Fitted, joined, log_likelihood, select

VERSION = 3
KINDS = ("classification",)
NEEDS = "pooled"


@dataclass(frozen=True, kw_only=True)
class Settings:
    c: tuple[float, ...] = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)  # inverse penalties
    tolerance: float = 1e-9  # largest component of the gradient
    iterations: int = 100  # Newton steps for each of them, at most


def fit(train: Features, val: Features, settings: Settings, classes: int, seed: int) -> Fitted:
    """Raises ValueError if a class is missing from the training features."""
    if len(np.unique(train.y)) != classes:
        raise ValueError(f"linear probe: {len(np.unique(train.y))} of {classes} classes have training features")
    limits = {"tolerance": settings.tolerance, "iterations": settings.iterations}
    models = _logistic.fit(train.x, train.y, classes, settings.c, **limits)
    scored = [
        ({"c": c}, log_likelihood(m.probabilities(val.x), val.y)) for c, m in zip(settings.c, models, strict=True)
    ]
    best, grid = select(scored, "log likelihood")
    both = joined(train, val)
    (model,) = _logistic.fit(both.x, both.y, classes, settings.c[best : best + 1], **limits)
    return Fitted(model.probabilities, grid)
