"""k-nearest-neighbour probe: cosine similarity, votes weighted by exp(similarity / 0.07) (DINO, arXiv 2104.14294; 4.1),
or one each (thunder).

k and the vote are chosen by balanced accuracy on the validation groups, neighbours coming from the training part; for
testing the validation part joins the neighbours. The search is exact and the same on every device (`_neighbours`), made
once for the largest k: the neighbours of a smaller one are the first of them.
"""

from dataclasses import dataclass

import numpy as np

from benchmark.metrics import score
from benchmark.probes._base import Fitted, Labelled, Part, select
from benchmark.probes._neighbours import Bank

VERSION = 4
KINDS = ("classification",)


@dataclass(frozen=True, kw_only=True)
class Settings:
    k: tuple[int, ...] = (5, 20)
    votes: tuple[str, ...] = ("temperature", "majority")
    temperature: float = 0.07


def fit(train: Labelled, val: Labelled, settings: Settings, classes: int, seed: int) -> Fitted:
    sizes = [k for k in settings.k if k <= len(train.labels)] or [len(train.labels)]
    points = [{"k": k, "vote": vote} for vote in settings.votes for k in sizes]
    found = Bank(train.pooled).nearest(val.pooled, max(sizes))
    answers = [_answer(*found, train.labels, point, settings.temperature, classes) for point in points]
    scored = [
        (point, score("balanced_accuracy", val.labels, answer)) for point, answer in zip(points, answers, strict=True)
    ]
    best, grid = select(scored, "balanced_accuracy")
    both, point = train.joined(val), points[best]
    bank = Bank(both.pooled)

    def predict(images: Part) -> np.ndarray:
        return _answer(*bank.nearest(images.pooled, point["k"]), both.labels, point, settings.temperature, classes)

    return Fitted(predict, grid)


def _answer(
    nearest: np.ndarray, cosine: np.ndarray, y: np.ndarray, point: dict, temperature: float, classes: int
) -> np.ndarray:
    """Scores (N, classes) of queries by the vote of the first k of their neighbours. nearest, cosine (N, K): nearest
    first; y (M,): labels of the bank."""
    spread = temperature if point["vote"] == "temperature" else np.inf
    return _vote(y[nearest[:, : point["k"]]], cosine[:, : point["k"]], spread, classes)


def _vote(labels: np.ndarray, similarity: np.ndarray, temperature: float, classes: int) -> np.ndarray:
    """Labels and similarities (B, k) of neighbours -> (B, classes)."""
    weights = np.exp((similarity - 1) / temperature)
    scores = np.stack([(weights * (labels == c)).sum(axis=1) for c in range(classes)], axis=1)
    return scores / scores.sum(axis=1, keepdims=True)
