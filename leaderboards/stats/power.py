"""What a test set could show: plans from stored variance."""

from __future__ import annotations

from scipy import stats

from leaderboards.stats.families import Difference

POWER = 0.8


def detectable(difference: Difference) -> float | None:
    """The smallest true difference whose interval, of its family, leaves out zero in 80 % of repetitions; None without
    an interval."""
    one = difference.estimate
    if one.high is None:
        return None
    return float(one.high - one.value + stats.t.ppf(POWER, one.freedom) * one.error)
