"""Linear probe: L2-penalised logistic regression on standardised features.

The penalty is chosen by log-likelihood on the validation groups; the whole grid is stored; the chosen point is fitted
again on training and validation together, as in DINOv2's evaluation (arXiv 2304.07193, appendix B). Deterministic.
"""

from dataclasses import dataclass

import numpy as np

from benchmark.probes._base import Features, Fitted, select

VERSION = 1
KINDS = ("classification",)
NEEDS = "pooled"


@dataclass(frozen=True, kw_only=True)
class Settings:
    c: tuple[float, ...] = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)  # inverse penalties
    iterations: int = 1000  # of L-BFGS, at most


def fit(train: Features, val: Features, settings: Settings, classes: int, seed: int) -> Fitted:
    """Raises ValueError if a class is missing from the training features."""
    if len(np.unique(train.y)) != classes:
        raise ValueError(f"linear probe: {len(np.unique(train.y))} of {classes} classes have training features")
    models = [_regression(train, c, settings.iterations) for c in settings.c]
    scored = [({"c": c}, _log_likelihood(m(val.x), val.y)) for c, m in zip(settings.c, models, strict=True)]
    best, grid = select(scored, "log likelihood")
    both = Features(*(np.concatenate(pair) for pair in zip(train, val, strict=True)))
    return Fitted(_regression(both, settings.c[best], settings.iterations), grid)


def _regression(data: Features, c: float, iterations: int):
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(C=c, solver="newton-cholesky", max_iter=iterations))
    return model.fit(data.x.astype(np.float64), data.y).predict_proba


def _log_likelihood(probabilities: np.ndarray, y: np.ndarray) -> float:
    return float(np.log(np.clip(probabilities[np.arange(len(y)), y], 1e-12, 1)).mean())
