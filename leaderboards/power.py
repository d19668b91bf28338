"""What a test set could show, and what it would take to separate two methods: plans from stored variance."""

from __future__ import annotations

import math
from dataclasses import dataclass

from scipy import stats

from leaderboards.statistics import LEVEL, Estimate, Resampled, variance

POWER = 0.8


@dataclass(frozen=True, kw_only=True)
class Needed:
    """What would show a difference of the size observed, with a power of 80 %, the rest as it is."""

    groups: float  # times as many groups as now; inf where no number is enough, nan where unknown
    seeds: float  # pretraining seeds; inf where no number is enough, nan where one seed says nothing of others


def detectable(difference: Estimate) -> float:
    """The smallest true difference that such an interval would leave zero out of in 80 % of repetitions; nan without
    an error."""
    quantiles = stats.t.ppf([(1 + LEVEL) / 2, POWER], difference.freedom)
    return float(quantiles.sum() * difference.error)


def needed(difference: Resampled) -> Needed:
    """Taking the observed difference for the true one, which flatters it.

    The squared error with g times the groups and S seeds is (groups + crossed / S) / g + seeds / S (`Variance`); it has
    to be the observed difference over the sum of the normal quantiles, squared.
    """
    count, parts, value = len(difference.seeds), variance(difference), float(difference.values.mean())
    target = (value / stats.norm.ppf([(1 + LEVEL) / 2, POWER]).sum()) ** 2
    return Needed(
        groups=_ratio(parts.groups + parts.crossed / count, target - parts.seeds / count),
        seeds=_ratio(parts.crossed + parts.seeds, target - parts.groups) if count > 1 else math.nan,
    )


def _ratio(above: float, below: float) -> float:
    if not math.isfinite(above) or not math.isfinite(below):
        return math.nan
    return above / below if below > 0 else math.inf
