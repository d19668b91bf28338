"""Schedules: pure functions of `progress`, the share of optimiser steps done, in [0, 1]. Resuming is assignment."""

import math


def cosine(progress: float, *, start: float, end: float) -> float:
    """Half a cosine from start to end."""
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * progress))


def linear(progress: float, *, start: float, end: float, until: float = 1.0) -> float:
    """A straight line from start to end, reached at `until` and kept."""
    return start + (end - start) * min(progress / until, 1.0)


def warmup_cosine(progress: float, *, peak: float, warmup: float, start: float = 0.0, end: float = 0.0) -> float:
    """Linear from start to peak over the first `warmup` share of training, then half a cosine to end."""
    if progress < warmup:
        return linear(progress, start=start, end=peak, until=warmup)
    return cosine((progress - warmup) / (1 - warmup), start=peak, end=end)
