"""From a resampled number to its error and interval: groups left out in turn, crossed with pretraining seeds."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy import special, stats

from benchmark.metrics import INTERVAL_GROUPS, LEVEL
from benchmark.metrics import RANKED_GROUPS as RANKED_GROUPS  # part of the rules here
from leaderboards.stats.resampling import Draws, Resampled
from leaderboards.stats.verdicts import DEPENDENT, FEW_ERRORS, TOO_FEW, UNDEFINED, UNTAUGHT

HEADROOM = 1.5  # groups of the rarest class × (1 - value): with less, no verdict


STILL = 1e-12  # error of a metric that no group moves, up to rounding


PRETEXT_SEEDS = 5  # fewer pretraining seeds: the wording is about checkpoints, not about the recipe


@dataclass(frozen=True, kw_only=True)
class Variance:
    """Where the uncertainty of a mean over seeds comes from, for one seed and the groups at hand."""

    groups: float  # of the groups, shared by all seeds
    crossed: float  # of the groups, each seed's own
    seeds: float  # of the seeds, on infinitely many groups
    freedom: float  # degrees of freedom of `groups`


@dataclass(frozen=True, kw_only=True)
class Estimate:
    value: float  # mean over seeds, on the whole test set
    low: float | None  # 95 % interval; None under 20 groups
    high: float | None
    error: float = np.nan  # standard error; nan where it cannot be known
    freedom: float = np.nan  # degrees of freedom of the error
    of_groups: float = np.nan  # share of the squared error that new groups would change; the rest is of the seeds
    draws_undefined: int = 0  # of `draws`: some fold lost a class, and was averaged without it
    draws: int = 0
    groups: int
    headroom: float = np.nan  # of `Resampled`
    seeds: int
    independent: bool = True  # of `Resampled`
    taught: bool = True  # of `Resampled`


def variance(number: Resampled) -> Variance:
    """Components of variance, from the groups left out and the spread between seeds.

    C, the covariance of the seeds' values over groups, is the stratified jackknife's: sum over strata of n blocks of
    (n-1)/n times the sum of products of deviations. Its mean off the diagonal is what the groups do to all seeds
    alike, its diagonal less that what they do to each seed alone. Seeds on these groups spread by the latter and by
    their own variance. Degrees of freedom: Satterthwaite's over strata.

    An AUROC compares groups of one label with groups of the other, and the jackknife counts the variance of that
    interaction twice. It shows in the bootstrap draws, as what the sum of the groups' own effects leaves unexplained,
    and is taken out once; it is never more than half.
    """
    count = len(number.seeds)
    covariances, freedoms = [], []
    explained = np.zeros_like(number.draws)
    for draws, effect in group_effects(number).items():
        for code in np.unique(draws.stratum):
            rows = np.flatnonzero(draws.stratum == code)
            if len(rows) < 2:
                return Variance(groups=np.nan, crossed=np.nan, seeds=np.nan, freedom=np.nan)
            covariances.append(effect[:, rows] @ effect[:, rows].T)
            freedoms.append(len(rows) - 1)
            explained += np.sqrt((len(rows) - 1) / len(rows)) * effect[:, rows] @ draws.drawn[rows]
    covariance = np.sum(covariances, axis=0)
    unexplained = (number.draws - explained)[:, ~number.lost]
    total = np.trace(covariance)
    twice = unexplained.var(axis=1, ddof=1).sum() if unexplained.shape[1] > 1 else 0.0
    scale = 1 - min(twice / total, 0.5) if total > 0 else 1.0
    shared = [scale * _common(one) for one in covariances]
    squares = sum(one**2 / freedom for one, freedom in zip(shared, freedoms, strict=True))
    groups = max(sum(shared), 0.0) if np.isfinite(covariance).all() else np.nan
    crossed = max(scale * total / count - groups, 0.0) if count > 1 else 0.0
    between = number.values.var(ddof=1) if count > 1 else 0.0
    return Variance(
        groups=groups,
        crossed=crossed,
        seeds=max(between - crossed, 0.0),
        freedom=groups**2 / squares if squares > 0 else np.inf,
    )


def group_effects(number: Resampled) -> dict[Draws, np.ndarray]:
    """What each block of groups does to each seed's value, (S, R): the products of two numbers' effects sum to their
    stratified jackknife covariance."""
    found = {}
    for draws, moved in number.moved.items():
        effect = np.empty_like(moved)
        for code in np.unique(draws.stratum):
            rows = np.flatnonzero(draws.stratum == code)
            centred = moved[:, rows].mean(1, keepdims=True) - moved[:, rows]
            effect[:, rows] = np.sqrt((len(rows) - 1) / len(rows)) * centred
        found[draws] = effect
    return found


def _common(covariance: np.ndarray) -> float:
    """Mean off the diagonal, or the only value."""
    count = len(covariance)
    if count == 1:
        return float(covariance[0, 0])
    return float((covariance.sum() - np.trace(covariance)) / (count * (count - 1)))


def estimate(number: Resampled) -> Estimate:
    """Mean over S seeds with a 95 % interval of Student's t in which groups and seeds are crossed.

    The squared error is the variance of the groups shared by all seeds, plus s²/S, with s the standard deviation
    between seeds on these groups, or more where the groups alone move each seed by more: seeds that lie close together
    by chance are no evidence of a small error. This is the method of Obuchowski and Rockette (1995, Communications in
    Statistics 24(2)) for several readers of the same cases, with pretraining seeds as readers, and Hillis' (2007,
    Statistics in Medicine 26(3)) degrees of freedom, here with those of the groups: error⁴ / (groups² / freedom +
    (s²/S)² / (S-1)). One seed has no second part, so its interval is about that checkpoint alone.
    A metric itself, in 0..1, gets its interval on the logit scale, and none at 0 or 1, nor where no group moves it.
    """
    value, seeds, parts = float(number.values.mean()), len(number.seeds), variance(number)
    spread = (parts.crossed + parts.seeds) / seeds
    error = float(np.sqrt(parts.groups + spread))
    squares = (parts.groups**2 / parts.freedom if parts.groups > 0 else 0.0) + spread**2 / max(seeds - 1, 1)
    freedom = float(error**4 / squares) if squares > 0 else np.inf
    found = Estimate(
        value=value,
        low=None,
        high=None,
        error=error,
        freedom=freedom,
        of_groups=1 - min(parts.seeds / seeds / error**2, 1.0) if error > 0 else 0.0,
        draws_undefined=int(number.lost.sum()),
        draws=len(number.lost),
        groups=number.groups,
        headroom=number.headroom,
        seeds=seeds,
        independent=number.independent,
        taught=number.taught,
    )
    if number.groups < INTERVAL_GROUPS or not np.isfinite(value) or not np.isfinite(error):
        return found
    if not number.bounded:
        return with_interval(found, 1 - LEVEL)
    if not 0 < value < 1 or error < STILL:
        return found
    half = stats.t.ppf((1 + LEVEL) / 2, freedom) * error / (value * (1 - value))
    low, high = (float(special.expit(special.logit(value) + sign * half)) for sign in (-1, 1))
    return replace(found, low=low, high=high)


def with_interval(one: Estimate, alone: float) -> Estimate:
    """A difference with the interval that leaves out zero where a p of its own is under `alone`."""
    half = float(stats.t.isf(alone / 2, one.freedom) * one.error)
    return replace(one, low=one.value - half, high=one.value + half)


def reason_for_no_verdict(one: Estimate) -> str:
    """Why there is no verdict on a difference, or ""."""
    if not np.isfinite(one.value):
        return UNDEFINED
    if not one.independent:
        return DEPENDENT
    if one.low is None or one.high is None:
        return TOO_FEW
    if not one.taught:
        return UNTAUGHT
    return FEW_ERRORS if one.headroom < HEADROOM else ""


def subject(seeds: int) -> str:
    """What a sentence about this many pretraining seeds may be about."""
    if seeds >= PRETEXT_SEEDS:
        return "this recipe at this budget"
    return "this checkpoint" if seeds == 1 else "these checkpoints"


def p_value(difference: Estimate) -> float:
    """Two-sided p of no difference, of the same Student's t as the interval."""
    if difference.error == 0:
        return float(difference.value == 0)
    return float(2 * stats.t.sf(abs(difference.value) / difference.error, difference.freedom))


def group_mean(values: np.ndarray, groups: np.ndarray, independent: bool = True) -> Estimate:
    """Mean of values (N,) with a 95 % interval of Student's t over groups (N,), each left out in turn; under 20 groups
    the value only."""
    codes = np.unique(groups, return_inverse=True)[1]
    sums, sizes = np.bincount(codes, weights=values), np.bincount(codes)
    count, value = len(sums), float(values.mean())
    left = (sums.sum() - sums) / np.maximum(sizes.sum() - sizes, 1)
    error = float(np.sqrt((count - 1) / count * ((left - left.mean()) ** 2).sum())) if count > 1 else np.nan
    found = Estimate(
        value=value,
        low=None,
        high=None,
        error=error,
        freedom=float(count - 1),
        of_groups=1.0,
        draws_undefined=0,
        draws=0,
        groups=count,
        headroom=np.inf,
        seeds=1,
        independent=independent,
    )
    return with_interval(found, 1 - LEVEL) if count >= INTERVAL_GROUPS else found
