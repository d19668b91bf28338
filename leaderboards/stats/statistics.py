"""Intervals for what a board says: groups left out in turn, crossed with pretraining seeds.

Groups (patients, slides, ...) are the unit, never images: images of one patient are not independent, and an image
bootstrap calls a quarter to a half of equal pairs different. All methods of a task see the same weights, so differences
are paired. Everything here works on `Resampled` values, which can be subtracted and averaged before `estimate`.
What each rule was measured to do is in docs/statistics.md.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np
from scipy import special, stats

from benchmark.metrics import INTERVAL_GROUPS, LEVEL, fold_resampled, fold_score
from benchmark.metrics import RANKED_GROUPS as RANKED_GROUPS  # part of the rules here
from leaderboards.stats.verdicts import DEPENDENT, FEW_ERRORS, TOO_FEW, UNDEFINED, UNTAUGHT
from tasks.base import digest

DRAWS = 500  # they only count lost classes and take an interaction out of the jackknife: docs/statistics.md
BLOCKS = 400  # groups are left out and drawn one by one up to this many, else in about this many blocks
HEADROOM = 1.5  # groups of the rarest class × (1 - value): with less, no verdict
STILL = 1e-12  # error of a metric that no group moves, up to rounding
RANDOM_TASKS = 10  # fewer tasks: they are fixed and named, and a mean over them is about them alone
PRETEXT_SEEDS = 5  # fewer pretraining seeds: the wording is about checkpoints, not about the recipe
MIXED = -1  # stratum of groups whose samples differ in label
REST = ()  # stratum of groups whose own stratum would be too small


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """Test predictions of one cell in its main condition, ordered by (repeat, fold, sample)."""

    sample: np.ndarray  # (N,) ids
    group: np.ndarray  # (N,) names
    label: np.ndarray  # (N,) in 0..C-1
    scores: np.ndarray  # (N, C)
    repeat: np.ndarray  # (N,)
    fold: np.ndarray  # (N,)


@dataclass(frozen=True, kw_only=True)
class Draws:
    """Weights of groups, shared by everything that is compared on the same groups. Equal where the key is."""

    key: str  # digest of the groups and their dataset family, their strata and the seed
    groups: np.ndarray = field(compare=False)  # (G,) names, sorted
    drawn: np.ndarray = field(compare=False)  # (R, B) how often a bootstrap draw holds each block
    weights: np.ndarray = field(compare=False)  # (B, G) the same by group
    left: np.ndarray = field(compare=False)  # (R, G) a block left out, the rest of its stratum weighted up
    stratum: np.ndarray = field(compare=False)  # (R,) of the block


@dataclass(frozen=True, kw_only=True)
class Resampled:
    """A number per pretraining seed, under every bootstrap draw, and with every group left out."""

    seeds: tuple[int, ...]  # S
    values: np.ndarray  # (S,)
    draws: np.ndarray  # (S, B)
    moved: Mapping[Draws, np.ndarray]  # (S, R): value without a block, less the value
    lost: np.ndarray  # (B,) draws in which a fold lost a class
    groups: int  # in the (smallest) test set behind the number
    headroom: float  # groups of the rarest class × (1 - value), summed over tasks, of two methods the mean
    bounded: bool  # a metric in 0..1, not a difference
    independent: bool = True  # the groups behind it are patients or slides
    taught: bool = True  # its tasks' ceilings are shown above the twin, or are not stored
    joint: Resampled | None = None  # the same under the draws of all tasks that share its groups, where others do


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
    error: float  # standard error; nan where it cannot be known
    freedom: float  # degrees of freedom of the error
    of_groups: float  # share of the squared error that new groups would change; the rest is of the seeds
    draws_undefined: int  # of `draws`: some fold lost a class, and was averaged without it
    draws: int
    groups: int
    headroom: float  # of `Resampled`
    seeds: int
    independent: bool = True  # of `Resampled`
    taught: bool = True  # of `Resampled`


def draw(tests: Sequence[Predictions], family: str = "", draws: int = DRAWS, seed: int = 0) -> Draws:
    """Weights over the groups of one test set, or of several of one dataset family that share groups.

    Strata are the group's label in each test set (a group of mixed labels counts as a label of its own): n groups are
    drawn from n with replacement, or one of n left out; blocks of groups, where there are many. Strata of one group,
    and under 5 where there are several test sets, are joined to a common rest.
    """
    labels: dict[str, list[int | None]] = {}
    for place, test in enumerate(tests):
        for name, members in _by_group(test.group):
            found = np.unique(test.label[members])
            row = labels.setdefault(name, [None] * len(tests))
            row[place] = int(found[0]) if len(found) == 1 else MIXED
    groups = sorted(labels)
    strata = _strata([tuple(labels[name]) for name in groups], smallest=5 if len(tests) > 1 else 2)
    rng = np.random.default_rng(seed)
    weights, left, drawn, stratum = np.zeros((draws, len(groups))), [], [], []
    for code, members in enumerate(strata):
        size = len(members)
        count = size if len(groups) <= BLOCKS else min(size, max(2, round(BLOCKS * size / len(groups))))
        counts = rng.multinomial(count, np.full(count, 1 / count), size=draws)
        for place, block in enumerate(np.array_split(rng.permutation(members), count)):
            weights[:, block] = counts[:, place, None]
            row = np.ones(len(groups))
            row[members] = size / max(size - len(block), 1)
            row[block] = 0
            left.append(row)
            drawn.append(counts[:, place])
            stratum.append(code)
    return Draws(
        key=digest(family, draws, seed, *groups, *(members.tolist() for members in strata)),
        groups=np.array(groups),
        weights=weights,
        left=np.stack(left),
        drawn=np.stack(drawn),
        stratum=np.array(stratum),
    )


def _strata(keys: list[tuple], smallest: int) -> list[np.ndarray]:
    """Places of each stratum, none under `smallest` unless there is nothing to join it to."""
    sizes = Counter(keys)
    keys = [key if sizes[key] >= smallest else REST for key in keys]
    sizes = Counter(keys)
    if 0 < sizes[REST] < smallest and len(sizes) > 1:
        joined = min((size, repr(key), key) for key, size in sizes.items() if key != REST)[2]
        keys = [REST if key == joined else key for key in keys]
    return [np.array([place for place, one in enumerate(keys) if one == key]) for key in sorted(set(keys), key=repr)]


def paired(one: Predictions, other: Predictions) -> Predictions:
    """`one`, sharing the samples of `other`. Raises ValueError unless they are the same, in groups and folds too."""
    names = ("sample", "label", "group", "repeat", "fold")
    for name in names:
        if not np.array_equal(getattr(one, name), getattr(other, name)):
            raise ValueError(f"predictions of one task cannot be paired: they differ in {name}")
    return replace(one, **{name: getattr(other, name) for name in names})


def averaged(predictions: Predictions) -> Predictions:
    """One score per group, repeat and fold: the mean over its images. A group of mixed labels keeps one per label."""
    names = (predictions.repeat, predictions.fold, predictions.group, predictions.label)
    codes = np.stack([np.unique(name, return_inverse=True)[1] for name in names], axis=1)
    _, first, member = np.unique(codes, axis=0, return_index=True, return_inverse=True)
    sums = np.zeros((len(first), predictions.scores.shape[1]))
    np.add.at(sums, member.reshape(-1), predictions.scores)
    return Predictions(
        sample=predictions.group[first],
        group=predictions.group[first],
        label=predictions.label[first],
        scores=sums / np.bincount(member.reshape(-1))[:, None],
        repeat=predictions.repeat[first],
        fold=predictions.fold[first],
    )


def resample(
    seeds: Sequence[int],
    predictions: Sequence[Predictions],
    metric: str,
    draws: Draws,
    independent: bool = True,
    joint: Draws | None = None,
    taught: bool = True,
) -> Resampled:
    """The metric of each seed's predictions, whole, drawn and with groups left out; they must be paired.

    `joint`: the draws of all tasks that share these groups, where they are not the task's own.
    """
    first, known = predictions[0], [draws] if joint is None else [draws, joint]
    groups = np.searchsorted(draws.groups, first.group)
    places = [np.searchsorted(each.groups, draws.groups) for each in known]
    weights = [part[:, place] for each, place in zip(known, places, strict=True) for part in (each.weights, each.left)]
    values, rows, flags = [], [], []
    for one in predictions:
        values.append(fold_score(metric, one.label, one.scores, one.repeat, one.fold))
        found = fold_resampled(metric, one.label, one.scores, groups, one.repeat, one.fold, np.concatenate(weights))
        rows.append(found[0])
        flags.append(found[1])
    values, ends = np.array(values), np.cumsum([len(part) for part in weights])[:-1]
    parts, lost = np.split(np.stack(rows), ends, axis=1), np.split(np.any(flags, axis=0), ends)
    numbers = [
        Resampled(
            seeds=tuple(seeds),
            values=values,
            draws=parts[2 * place],
            moved={each: parts[2 * place + 1] - values[:, None]},
            lost=lost[2 * place],
            groups=len(np.unique(first.group)),
            headroom=_rarest(first) * (1 - float(values.mean())),
            bounded=True,
            independent=independent,
            taught=taught,
        )
        for place, each in enumerate(known)
    ]
    return numbers[0] if joint is None else replace(numbers[0], joint=numbers[1])


def _rarest(test: Predictions) -> int:
    """Groups that hold an image of the class which the fewest groups hold."""
    return min(len(np.unique(test.group[test.label == label])) for label in np.unique(test.label))


def combination(parts: Sequence[Resampled], factors: Sequence[float]) -> Resampled:
    """Sum of factor × part over the seeds that all have; tasks that share groups, under their joint draws. Raises
    ValueError when they have no seed in common."""
    return _sum([part.joint or part for part in parts] if len(parts) > 1 else parts, factors)


def _sum(parts: Sequence[Resampled], factors: Sequence[float]) -> Resampled:
    seeds = tuple(sorted(set.intersection(*(set(part.seeds) for part in parts))))
    if not seeds:
        raise ValueError("no pretraining seed in common")
    values, drawn, moved = 0.0, 0.0, {}
    for factor, part in zip(factors, parts, strict=True):
        at = [part.seeds.index(seed) for seed in seeds]
        values, drawn = values + factor * part.values[at], drawn + factor * part.draws[at]
        for draws, change in part.moved.items():
            moved[draws] = moved.get(draws, 0.0) + factor * change[at]
    return Resampled(
        seeds=seeds,
        values=values,
        draws=drawn,
        moved=moved,
        lost=np.any([part.lost for part in parts], axis=0),
        groups=min(part.groups for part in parts),
        headroom=sum(part.headroom for part in parts),
        bounded=False,
        independent=all(part.independent for part in parts),
        taught=all(part.taught for part in parts),
    )


def resample_mean(seeds: Sequence[int], values: np.ndarray, groups: np.ndarray, independent: bool = True) -> Resampled:
    """The mean of each seed's values (S, N) of the same samples in groups (N,): whole, drawn, with groups left out."""
    nothing = np.zeros(len(groups), np.int64)
    drawn = draw(
        [Predictions(sample=groups, group=groups, label=nothing, scores=nothing, repeat=nothing, fold=nothing)]
    )
    member = (np.searchsorted(drawn.groups, groups)[:, None] == np.arange(len(drawn.groups))).astype(float)  # (N, G)
    sums, sizes = values @ member, member.sum(axis=0)
    draws, left = (sums @ weights.T / (weights @ sizes) for weights in (drawn.weights, drawn.left))
    means = values.mean(axis=1)
    return Resampled(
        seeds=tuple(seeds),
        values=means,
        draws=draws,
        moved={drawn: left - means[:, None]},
        lost=np.zeros(len(drawn.weights), bool),
        groups=len(drawn.groups),
        headroom=np.inf,
        bounded=False,
        independent=independent,
    )


def minus(a: Resampled, b: Resampled) -> Resampled:
    """Paired difference over the seeds that both have. Raises ValueError when they have none in common."""
    joint = minus(a.joint, b.joint) if a.joint is not None and b.joint is not None else None
    return replace(_sum([a, b], [1.0, -1.0]), headroom=(a.headroom + b.headroom) / 2, joint=joint)


def alone(number: Resampled, *seeds: int) -> Resampled:
    """The number of these seeds. Raises ValueError where it has no such seed."""
    at = [number.seeds.index(seed) for seed in seeds]
    values, left = number.values[at], 1 - float(number.values.mean())
    return replace(
        number,
        seeds=seeds,
        values=values,
        draws=number.draws[at],
        moved={draws: change[at] for draws, change in number.moved.items()},
        headroom=number.headroom * (1 - float(values.mean())) / left if left > 0 else 0.0,
        joint=None if number.joint is None else alone(number.joint, *seeds),
    )


def named(number: Resampled, seeds: tuple[int, ...]) -> Resampled:
    """The same number with other names of its seeds, so that any two runs can be paired."""
    return replace(number, seeds=seeds, joint=None if number.joint is None else named(number.joint, seeds))


def mean(parts: Sequence[Resampled], factors: Sequence[float]) -> Resampled:
    """Mean of factor × part over the seeds that all have.

    Under ten tasks, or where two tasks share groups, tasks are fixed: the mean is about them. From ten tasks of
    separate groups on, tasks are the unit that is left out and drawn, in place of their groups: between tasks, the
    variance of their groups is included.
    """
    fixed = combination(parts, np.array(factors) / len(parts))
    count = len(parts)
    if count < RANDOM_TASKS or len(fixed.moved) < count:
        return fixed
    rows = [[part.seeds.index(seed) for seed in fixed.seeds] for part in parts]
    values = np.stack([f * part.values[at] for f, part, at in zip(factors, parts, rows, strict=True)], axis=1)
    weights = np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), size=fixed.draws.shape[1])
    tasks = Draws(
        key=digest("tasks", *(draws.key for draws in fixed.moved)),
        groups=np.arange(count).astype(str),
        weights=weights,
        left=(1 - np.eye(count)) * count / (count - 1),
        drawn=weights.T,
        stratum=np.zeros(count, dtype=int),
    )
    return replace(
        fixed,
        draws=values @ weights.T / count,
        moved={tasks: values @ tasks.left.T / count - fixed.values[:, None]},
    )


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
    for draws, effect in effects(number).items():
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


def effects(number: Resampled) -> dict[Draws, np.ndarray]:
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
        return widened(found, 1 - LEVEL)
    if not 0 < value < 1 or error < STILL:
        return found
    half = stats.t.ppf((1 + LEVEL) / 2, freedom) * error / (value * (1 - value))
    low, high = (float(special.expit(special.logit(value) + sign * half)) for sign in (-1, 1))
    return replace(found, low=low, high=high)


def widened(one: Estimate, alone: float) -> Estimate:
    """A difference with the interval that leaves out zero where a p of its own is under `alone`."""
    half = float(stats.t.isf(alone / 2, one.freedom) * one.error)
    return replace(one, low=one.value - half, high=one.value + half)


def barred(one: Estimate) -> str:
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


def _by_group(groups: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """Name and rows of every group."""
    order = np.argsort(groups, kind="stable")
    starts = np.flatnonzero(np.r_[True, groups[order][1:] != groups[order][:-1], True])
    return [(str(groups[order[a]]), order[a:b]) for a, b in pairwise(starts)]


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
    return widened(found, 1 - LEVEL) if count >= INTERVAL_GROUPS else found
