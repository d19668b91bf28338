"""k-nearest-neighbour probe: cosine similarity, votes weighted by exp(similarity / 0.07) (DINO, arXiv 2104.14294; 4.1),
or one each (thunder).

k and the vote are chosen by balanced accuracy on the validation groups, neighbours coming from the training part; for
testing the validation part joins the neighbours. Deterministic.
"""

from dataclasses import dataclass

import numpy as np

from benchmark.probes._base import Features, Fitted, joined, select

VERSION = 2
KINDS = ("classification",)
NEEDS = "pooled"
BLOCK = 1024  # queries at a time


@dataclass(frozen=True, kw_only=True)
class Settings:
    k: tuple[int, ...] = (5, 20)
    votes: tuple[str, ...] = ("temperature", "majority")
    temperature: float = 0.07


def fit(train: Features, val: Features, settings: Settings, classes: int, seed: int) -> Fitted:
    from benchmark.metrics import score

    sizes = [k for k in settings.k if k <= len(train.y)] or [len(train.y)]
    points = [{"k": k, "vote": vote} for vote in settings.votes for k in sizes]
    answers = _answers(val.x, _unit(train.x), train.y, points, settings.temperature, classes)
    scored = [(point, score("balanced_accuracy", val.y, answer)) for point, answer in zip(points, answers, strict=True)]
    best, grid = select(scored, "balanced_accuracy")
    both = joined(train, val)
    bank = _unit(both.x)
    return Fitted(lambda x: _answers(x, bank, both.y, points[best : best + 1], settings.temperature, classes)[0], grid)


def _answers(
    x: np.ndarray, bank: np.ndarray, y: np.ndarray, points: list[dict], temperature: float, classes: int
) -> list[np.ndarray]:
    """Scores (N, classes) of queries x (N, D) by the vote of their neighbours, for every point of the grid. bank
    (M, D): the neighbours, of unit length; y (M,): their labels."""
    x = _unit(x)
    sizes = tuple(dict.fromkeys(point["k"] for point in points))
    answers: list[list[np.ndarray]] = [[] for _ in points]
    for start in range(0, len(x), BLOCK):
        found = _nearest(x[start : start + BLOCK], bank, sizes)
        for point, answer in zip(points, answers, strict=True):
            nearest, similarity = found[point["k"]]
            spread = temperature if point["vote"] == "temperature" else np.inf
            answer.append(_vote(y[nearest], similarity, spread, classes))
    return [np.concatenate(answer) for answer in answers]


def _unit(x: np.ndarray) -> np.ndarray:
    x = x.astype(np.float64)
    return x / np.linalg.norm(x, axis=1, keepdims=True).clip(min=1e-12)


def _nearest(x: np.ndarray, bank: np.ndarray, sizes: tuple[int, ...]) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """The k rows of the bank that are most similar to each of x (B, D), and how similar: k -> (B, k) each."""
    similarity = x @ bank.T
    nearest = {k: np.argpartition(-similarity, k - 1, axis=1)[:, :k] for k in sizes}
    return {k: (index, np.take_along_axis(similarity, index, axis=1)) for k, index in nearest.items()}


def _vote(labels: np.ndarray, similarity: np.ndarray, temperature: float, classes: int) -> np.ndarray:
    """Labels and similarities (B, k) of neighbours -> (B, classes)."""
    weights = np.exp((similarity - 1) / temperature)
    scores = np.stack([(weights * (labels == c)).sum(axis=1) for c in range(classes)], axis=1)
    return scores / scores.sum(axis=1, keepdims=True)
