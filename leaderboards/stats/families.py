"""A family of differences: verdict, adjusted p and interval of each from one procedure, so that they cannot disagree.

Every difference k has a value, an error and degrees of freedom (`intervals.estimate`), hence a two-sided p of its own
and a score z = Φ⁻¹(1 - p/2). Were all of them zero, the largest of the scores would be that of a normal vector Z whose
correlations are those of the groups' effects on the differences. Single-step, as Dunnett's and Tukey's (Hothorn, Bretz
and Westfall 2008, Biometrical Journal 50(3)):

    adjusted p of k = P(max |Z| >= z of k)
    interval of k   = value ± t · error,  t the quantile at which a p of its own is that of c,  P(max |Z| >= c) = .05

So an adjusted p is under .05 exactly where its interval leaves out zero, the intervals hold together in 95 % of
repetitions, and a family of one has the plain interval. What is taken as uncorrelated although it may not be (seeds;
tasks of separate groups that share seeds) makes the intervals wider, not narrower (Šidák 1967, JASA 62).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from scipy import optimize, special, stats
from scipy.sparse.csgraph import connected_components

from leaderboards.stats.intervals import (
    LEVEL,
    Estimate,
    estimate,
    group_effects,
    p_value,
    reason_for_no_verdict,
    with_interval,
)
from leaderboards.stats.resampling import Draws, Resampled
from leaderboards.stats.verdicts import Words

POINTS, RADII = (
    16384,
    128,
)  # directions that are drawn of a normal vector, and into how many of their radii they are put
LARGEST = 1000  # correlated members: of more, correlations are taken as zero


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A paired difference within a family."""

    estimate: Estimate  # its interval holds together with those of the family; of a member without verdict: alone
    p: float | None  # adjusted for the family; None where there is no verdict
    shown: int | None  # 1: above zero, -1: below, 0: not shown; None where there is no verdict
    verdict: str  # in words, or why there is none
    family: int  # members with a verdict, this one included; 0 where it has none


def judge(members: Sequence[Resampled | None], words: Sequence[Words]) -> tuple[Difference | None, ...]:
    """The members of one family in their order; None where there is no number. Those without a verdict stay outside."""
    estimates = [None if one is None else estimate(one) for one in members]
    judged = [place for place, one in enumerate(estimates) if one is not None and not reason_for_no_verdict(one)]
    largest = Largest([members[place] for place in judged], [estimates[place] for place in judged])
    p_values = [p_value(estimates[place]) for place in judged]
    adjusted = dict(zip(judged, largest.adjusted(p_values), strict=True))
    alone = largest.alone(1 - LEVEL)
    found: list[Difference | None] = []
    for place, (one, called) in enumerate(zip(estimates, words, strict=True)):
        if one is None:
            found.append(None)
        elif place not in adjusted:
            found.append(Difference(estimate=one, p=None, shown=None, verdict=reason_for_no_verdict(one), family=0))
        else:
            p = adjusted[place]
            shown = int(np.sign(one.value)) if p < 1 - LEVEL else 0
            wide = with_interval(one, alone)
            found.append(Difference(estimate=wide, p=p, shown=shown, verdict=called.of(shown), family=len(judged)))
    return tuple(found)


def reverse(one: Difference, words: Words) -> Difference:
    """The second minus the first, in the words of that order."""
    ends = (None if end is None else -end for end in (one.estimate.high, one.estimate.low))
    value = -one.estimate.value
    found = replace(one, estimate=replace(one.estimate, value=value, **dict(zip(("low", "high"), ends, strict=True))))
    return found if one.shown is None else replace(found, shown=-one.shown, verdict=words.of(-one.shown))


class Largest:
    """The largest |Z| of a family, Z normal, of unit variances, with the correlations of its members.

    P(all |Z| < z) is a product over blocks of members that share groups. Within a block Z = r·u, r² chi-square with as
    many degrees of freedom as the block has dimensions and u uniform in direction, so that some |Z| reaches z where r
    reaches z over the largest component of u. The directions are drawn once; a single member is exact.
    """

    def __init__(self, members: Sequence[Resampled], estimates: Sequence[Estimate]):
        moving = [place for place, one in enumerate(estimates) if one.error > 0]
        matrices = correlations([members[place] for place in moving], [estimates[place].of_groups for place in moving])
        sizes = Counter(len(matrix) for matrix in matrices)
        self.blocks = [(1, np.ones(1), sizes[1])] if sizes[1] else []  # (dimensions, radii, how many are alike)
        self.blocks += [(*_radii(matrix), 1) for matrix in matrices if len(matrix) > 1]

    def reaches(self, z: np.ndarray) -> np.ndarray:
        """P(max |Z| >= z) for each z of an array."""
        logarithm = np.zeros(np.shape(z))
        for dimensions, radii, count in self.blocks:
            beyond = special.chdtrc(dimensions, (np.asarray(z)[..., None] / radii) ** 2).mean(-1)
            with np.errstate(divide="ignore"):
                logarithm = logarithm + count * np.log1p(-beyond)
        return -np.expm1(logarithm)

    def adjusted(self, p_values: Sequence[float]) -> list[float]:
        """p of their own -> p adjusted for the family."""
        scores = -special.ndtri(np.array(p_values, dtype=float) / 2)
        return np.maximum(self.reaches(scores), p_values).tolist()

    def alone(self, level: float) -> float:
        """The p of its own at which the adjusted p of a member is `level`."""
        if not self.blocks:
            return level
        score = optimize.brentq(lambda z: float(self.reaches(np.array(z))) - level, 0, 40, xtol=1e-12)
        return min(level, float(2 * special.ndtr(-score)))


def correlations(members: Sequence[Resampled], of_groups: Sequence[float]) -> list[np.ndarray]:
    """Correlation matrices of the blocks of members that share groups.

    Two members correlate as their groups' effects do, each by the share of its squared error that is of the groups
    (`of_groups`).
    """
    if not members:
        return []
    moved = [group_effects(member) for member in members]
    places = {draws: place for place, draws in enumerate(dict.fromkeys(draws for one in moved for draws in one))}
    links = np.zeros((len(moved), len(places)))
    for row, one in enumerate(moved):
        links[row, [places[draws] for draws in one]] = 1
    _, block = connected_components(links @ links.T, directed=False)
    found = []
    for number in range(block.max() + 1):
        rows = np.flatnonzero(block == number)
        if len(rows) in range(2, LARGEST + 1):
            found.append(_correlation([moved[row] for row in rows], np.array([of_groups[row] for row in rows])))
        else:
            found += [np.ones((1, 1))] * len(rows)
    return found


def _correlation(moved: Sequence[Mapping[Draws, np.ndarray]], of_groups: np.ndarray) -> np.ndarray:
    shared = {draws: values.shape[1] for one in moved for draws, values in one.items()}
    effect = np.array(
        [
            np.concatenate([one[draws].mean(0) if draws in one else np.zeros(size) for draws, size in shared.items()])
            for one in moved
        ]
    )
    norm = np.linalg.norm(effect, axis=1)
    share = np.where(norm > 0, of_groups, 0.0)
    effect *= (np.sqrt(share) / np.where(norm > 0, norm, 1.0))[:, None]
    return effect @ effect.T + np.diag(1 - share)


def _radii(correlation: np.ndarray) -> tuple[int, np.ndarray]:
    """Dimensions of a block, and the largest component of |u| in RADII directions.

    The root is the symmetric one: signs and order of eigenvectors, which differ between machines, leave it as it is.
    """
    values, vectors = np.linalg.eigh(correlation)
    root = (vectors * np.sqrt(np.where(values > 1e-9 * values[-1], values, 0.0))) @ vectors.T
    largest = np.abs(_directions(len(root)) @ root).max(1)
    return len(root), np.sort(largest).reshape(RADII, -1).mean(1)


@lru_cache(maxsize=16)
def _directions(dimensions: int) -> np.ndarray:
    """(POINTS, dimensions) unit vectors."""
    drawn = np.random.default_rng(0).normal(size=(POINTS, dimensions))
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


POWER = 0.8


def detectable(difference: Difference) -> float | None:
    """The smallest true difference whose interval, of its family, leaves out zero in 80 % of repetitions; None without
    an interval."""
    one = difference.estimate
    if one.high is None:
        return None
    return float(one.high - one.value + stats.t.ppf(POWER, one.freedom) * one.error)
