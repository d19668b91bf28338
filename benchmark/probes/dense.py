"""Dense probe: a linear layer on every patch token says whether its patch lies in the structure; Dice over the pixels.

For tasks with a mask or a box for each image. A patch counts as inside if half of it is. Logistic regression on
standardised tokens of at most `patches` patches, drawn over all training images; the patch probabilities are enlarged
bilinearly to the pixels of the mask (as DINOv2 does, arXiv 2304.07193, appendix B.3) and cut at a threshold. C and
threshold are those with the highest mean Dice over the validation images; nothing is fitted again. Images without the
structure train the layer and are left out of the Dice.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from benchmark.metrics import areas, dice
from benchmark.probes import _logistic
from benchmark.probes._base import Fitted, Labelled, Part, Rows, select

VERSION = 1
KINDS = ("segmentation",)
TOKENS = True
ON_REQUEST = True
READOUTS = ("patches",)
ENLARGED = 256  # images at a time


@dataclass(frozen=True, kw_only=True)
class Settings:
    c: tuple[float, ...] = (1e-4, 1e-2, 1.0)  # inverse penalties, as in the linear probe
    thresholds: tuple[float, ...] = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
    patches: int = 50_000  # of the training images, at most
    tolerance: float = 1e-6
    iterations: int = 100


def fit(train: Labelled, val: Labelled, settings: Settings, classes: int, seed: int) -> Fitted:
    """Predicts masks (N, S, S). Raises ValueError where the masks
    hold no patch inside, or none outside."""
    grid = int(train.tokens.shape[1] ** 0.5)
    pixels = train.masks.shape[-1]
    inside = covered(train.masks, grid).reshape(-1) >= 0.5
    chosen = np.sort(np.random.default_rng(seed).permutation(len(inside))[: settings.patches])
    if inside[chosen].all() or not inside[chosen].any():
        raise ValueError(
            f"dense probe: {inside[chosen].mean():.0%} of {len(chosen):,} patches lie in the structure, so there is "
            "nothing to tell apart; use smaller patches"
        )
    models = _logistic.fit(
        np.asarray(train.tokens[np.divmod(chosen, grid**2)], dtype=np.float32),
        inside[chosen].astype(int),
        2,
        settings.c,
        tolerance=settings.tolerance,
        iterations=settings.iterations,
    )
    tried = []
    for c, model in zip(settings.c, models, strict=True):
        blocks = enlarged(model, val.tokens, grid, pixels)
        found = [[areas(chances > t, val.masks[rows]) for t in settings.thresholds] for rows, chances in blocks]
        overlaps = [dice(*np.concatenate(parts).T) for parts in zip(*found, strict=True)]
        tried += [({"c": c, "threshold": t}, one) for t, one in zip(settings.thresholds, overlaps, strict=True)]
    best, trials = select([(point, score if np.isfinite(score) else 0.0) for point, score in tried], "dice")
    model, threshold = models[settings.c.index(tried[best][0]["c"])], tried[best][0]["threshold"]

    def predict(images: Part) -> np.ndarray:
        return np.concatenate([chances > threshold for _, chances in enlarged(model, images.tokens, grid, pixels)])

    return Fitted(predict, trials)


def covered(masks: np.ndarray, grid: int) -> np.ndarray:
    """Masks (N, S, S) -> the share of every patch that they cover, (N, grid·grid), row by row."""
    blocks = torch.from_numpy(masks).split(ENLARGED)
    return torch.cat([F.adaptive_avg_pool2d(block[:, None].float(), grid).flatten(1) for block in blocks]).numpy()


def enlarged(model: _logistic.Model, tokens: Rows, grid: int, pixels: int) -> Iterator[tuple[slice, np.ndarray]]:
    """Probabilities (B, pixels, pixels) float32 of tokens (N, grid·grid, D), a block of images at a time."""
    for start in range(0, len(tokens), ENLARGED):
        rows = slice(start, start + ENLARGED)
        some = np.asarray(tokens[rows], dtype=np.float32)
        chances = model.probabilities(some.reshape(-1, some.shape[-1]))[:, 1].reshape(-1, 1, grid, grid)
        whole = F.interpolate(torch.from_numpy(chances).float(), size=(pixels, pixels), mode="bilinear")
        yield rows, whole[:, 0].numpy()
