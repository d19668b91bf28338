"""Predictions of simulated methods, for tests of intervals and of what is built on them."""

import numpy as np

from leaderboards.stats.resampling import Predictions


def predictions(rng, shift, *, groups=60, images=4, method=None, folds=1, repeats=1):
    """Images nested in patients; `method` (G,) is a patient effect of the method, shared by its seeds."""
    label = np.repeat(np.arange(groups) % 2, images)
    group = np.repeat([f"p{g:03d}" for g in range(groups)], images)
    method = rng.normal(size=groups) if method is None else method
    risk = label * (1 + shift) + np.repeat(method, images) + rng.normal(size=groups * images)
    fold = np.repeat(np.arange(groups) // 2 % folds, images)
    return Predictions(
        sample=np.tile([f"{g}/{i}" for i, g in enumerate(group)], repeats),
        group=np.tile(group, repeats),
        label=np.tile(label, repeats),
        scores=np.tile(np.c_[-risk, risk], (repeats, 1)),
        repeat=np.repeat(np.arange(repeats), len(label)),
        fold=np.tile(fold, repeats),
    )
