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

    def voting(data: Features, k: int, vote: str):
        bank, y = _unit(data.x), data.y
        temperature = settings.temperature if vote == "temperature" else np.inf
        return lambda x: np.concatenate([_vote(block, bank, y, k, temperature, classes) for block in _blocks(_unit(x))])

    usable = [k for k in settings.k if k <= len(train.y)] or [len(train.y)]
    points = [{"k": k, "vote": vote} for vote in settings.votes for k in usable]
    scored = [(point, score("balanced_accuracy", val.y, voting(train, **point)(val.x))) for point in points]
    best, grid = select(scored, "balanced_accuracy")
    return Fitted(voting(joined(train, val), **points[best]), grid)


def _unit(x: np.ndarray) -> np.ndarray:
    x = x.astype(np.float64)
    return x / np.linalg.norm(x, axis=1, keepdims=True).clip(min=1e-12)


def _blocks(x: np.ndarray) -> list[np.ndarray]:
    return [x[i : i + BLOCK] for i in range(0, len(x), BLOCK)]


def _vote(x: np.ndarray, bank: np.ndarray, y: np.ndarray, k: int, temperature: float, classes: int) -> np.ndarray:
    similarity = x @ bank.T
    nearest = np.argpartition(-similarity, k - 1, axis=1)[:, :k]
    weights = np.exp((np.take_along_axis(similarity, nearest, axis=1) - 1) / temperature)
    scores = np.stack([(weights * (y[nearest] == c)).sum(axis=1) for c in range(classes)], axis=1)
    return scores / scores.sum(axis=1, keepdims=True)
