"""Intervals for what a board says: a paired group bootstrap, crossed with pretraining seeds.

Groups (patients, slides, ...) are resampled, never images: images of one patient are not independent, and an image
bootstrap calls a quarter to a half of equal pairs different. All methods of a task see the same draws, so differences
are paired. Everything here works on `Resampled` values, which can be subtracted and averaged before `estimate`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from scipy import stats

from benchmark.metrics import fold_resampled, fold_score

DRAWS = 2000
INTERVAL_GROUPS = 20  # fewer groups: the value only
RANKED_GROUPS = 50  # fewer groups: an interval, but no place in the order
PRETEXT_SEEDS = 5  # fewer pretraining seeds: the wording is about checkpoints, not about the pretext
LEVEL = 0.95
MIXED = -1  # stratum of groups whose samples differ in label

ABOVE, NOT_SHOWN, BELOW = "above twin", "not shown above twin", "below twin"
TOO_FEW, UNDEFINED = "too few groups", "undefined"


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
    """Bootstrap weights shared by everything that is compared on the same groups."""

    groups: np.ndarray  # (G,) names, sorted
    weights: np.ndarray  # (B, G) how often each group was drawn
    strata: int  # number of strata the groups were drawn within


@dataclass(frozen=True, kw_only=True)
class Resampled:
    """A number per pretraining seed, and the same number under every draw of groups."""

    seeds: tuple[int, ...]  # S
    values: np.ndarray  # (S,)
    draws: np.ndarray  # (S, B)
    lost: np.ndarray  # (B,) draws in which a fold lost a class
    groups: int  # in the (smallest) test set behind the number
    strata: int


@dataclass(frozen=True, kw_only=True)
class Estimate:
    value: float  # mean over seeds, on the whole test set
    low: float | None  # 95 % interval; None under 20 groups
    high: float | None
    draws_undefined: int  # of `draws`: some fold lost a class, and was averaged without it
    draws: int
    groups: int
    seeds: int


def gain(
    run_predictions: Predictions | Sequence[Predictions],
    twin_predictions: Predictions | Sequence[Predictions],
    metric: str,
    draws: int = DRAWS,
    seed: int = 0,
) -> Estimate:
    """Gain of a run over its twin with its interval; sequences are pretraining seeds, in the same order for both."""
    runs = (run_predictions,) if isinstance(run_predictions, Predictions) else tuple(run_predictions)
    twins = (twin_predictions,) if isinstance(twin_predictions, Predictions) else tuple(twin_predictions)
    if len(runs) != len(twins):
        raise ValueError(f"{len(runs)} runs against {len(twins)} twins: every seed needs its own twin")
    runs, twins = (tuple(paired(one, runs[0]) for one in some) for some in (runs, twins))
    shared = draw([runs[0]], draws, seed)
    seeds = tuple(range(len(runs)))
    return estimate(minus(resample(seeds, runs, metric, shared), resample(seeds, twins, metric, shared)))


def draw(tests: Sequence[Predictions], draws: int = DRAWS, seed: int = 0) -> Draws:
    """Bootstrap weights over the groups of one test set, or of several that share groups.

    Within strata of the group's label in each test set (a group of mixed labels counts as a label of its own), n groups
    are drawn from n with replacement. Where several test sets make a stratum smaller than 5, it joins a common rest.
    """
    labels: dict[str, list[int | None]] = {}
    for place, test in enumerate(tests):
        for name, members in _by_group(test.group):
            found = np.unique(test.label[members])
            row = labels.setdefault(name, [None] * len(tests))
            row[place] = int(found[0]) if len(found) == 1 else MIXED
    groups = sorted(labels)
    keys = [tuple(labels[name]) for name in groups]
    if len(tests) > 1:
        sizes = Counter(keys)
        keys = [key if sizes[key] >= 5 else () for key in keys]
    rng = np.random.default_rng(seed)
    weights = np.zeros((draws, len(groups)))
    strata = sorted(set(keys), key=repr)
    codes = np.array([strata.index(key) for key in keys])
    for code in range(len(strata)):
        members = np.flatnonzero(codes == code)
        weights[:, members] = rng.multinomial(len(members), np.full(len(members), 1 / len(members)), size=draws)
    return Draws(groups=np.array(groups), weights=weights, strata=len(strata))


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


def resample(seeds: Sequence[int], predictions: Sequence[Predictions], metric: str, draws: Draws) -> Resampled:
    """The metric of each seed's predictions, on the whole test set and under every draw; they must be paired."""
    first, values, rows, lost = predictions[0], [], [], np.zeros(len(draws.weights), dtype=bool)
    groups = np.searchsorted(draws.groups, first.group)
    for one in predictions:
        values.append(fold_score(metric, one.label, one.scores, one.repeat, one.fold))
        drawn, flags = fold_resampled(metric, one.label, one.scores, groups, one.repeat, one.fold, draws.weights)
        rows.append(drawn)
        lost |= flags
    size = len(np.unique(first.group))
    strata = min(draws.strata, size - 1)
    return Resampled(
        seeds=tuple(seeds), values=np.array(values), draws=np.stack(rows), lost=lost, groups=size, strata=strata
    )


def minus(a: Resampled, b: Resampled) -> Resampled:
    """Paired difference over the seeds that both have. Raises ValueError when they have none in common."""
    return _combine([a, b], np.array([1.0, -1.0]))


def mean(parts: Sequence[Resampled], factors: Sequence[float]) -> Resampled:
    """Mean of factor × part over the seeds that all have: tasks are fixed and named, so they are not resampled."""
    return _combine(parts, np.array(factors) / len(parts))


def estimate(number: Resampled) -> Estimate:
    """Mean over seeds with a 95 % interval in which groups and seeds are crossed.

    Groups: percentile bootstrap of the mean over seeds, with tails set to Φ(-√(G/(G-K)) t) for t the 97.5 % point of
    Student's t with G-K degrees of freedom (G groups in K strata): the expanded percentile interval, which undoes the
    narrowness of the bootstrap in small samples (Hesterberg 2015, The American Statistician 69(4), section 5.3).
    Seeds: t(S-1) s/√S, with s the standard deviation between S seeds on the same test set; nothing for one seed, whose
    interval is therefore about that checkpoint alone (several sources of variance: Bouthillier et al. 2021,
    arXiv:2103.03098).
    Both: value - √((value-L)² + h²) and value + √((U-value)² + h²), for group limits L, U and seed half-width h (MOVER:
    Zou and Donner 2008, Statistics in Medicine 27). In normal terms the variance is that of the group bootstrap plus
    (t/z)² s²/S. The interaction of seed and group enters both parts, so the interval is conservative, as the
    independent resampling of two crossed factors is (McCullagh 2000, Bernoulli 6(2); Owen 2007, AoAS 1(2)).
    """
    value, seeds = float(number.values.mean()), len(number.seeds)
    drawn = number.draws.mean(0)
    drawn, low, high = drawn[np.isfinite(drawn)], None, None
    if number.groups >= INTERVAL_GROUPS and np.isfinite(value) and len(drawn):
        freedom = number.groups - number.strata
        tail = stats.norm.cdf(-np.sqrt(number.groups / freedom) * stats.t.ppf((1 + LEVEL) / 2, freedom))
        lower, upper = np.quantile(drawn, [tail, 1 - tail])
        half = 0.0
        if seeds > 1:
            half = stats.t.ppf((1 + LEVEL) / 2, seeds - 1) * number.values.std(ddof=1) / np.sqrt(seeds)
        low = float(value - np.hypot(max(value - lower, 0), half))
        high = float(value + np.hypot(max(upper - value, 0), half))
    return Estimate(
        value=value,
        low=low,
        high=high,
        draws_undefined=int(number.lost.sum()),
        draws=len(number.lost),
        groups=number.groups,
        seeds=seeds,
    )


def verdict(gained: Estimate) -> str:
    """What the interval of a gain says. Under 20 groups: nothing."""
    if not np.isfinite(gained.value):
        return UNDEFINED
    if gained.low is None or gained.high is None:
        return TOO_FEW
    return ABOVE if gained.low > 0 else BELOW if gained.high < 0 else NOT_SHOWN


def subject(seeds: int) -> str:
    """What a sentence about this many pretraining seeds may be about."""
    return "this pretext" if seeds >= PRETEXT_SEEDS else "this checkpoint" if seeds == 1 else "these checkpoints"


def p_value(difference: Estimate) -> float:
    """Two-sided p of no difference, from the width of its own interval taken as normal; 1 without an interval."""
    if difference.low is None or difference.high is None:
        return 1.0
    error = (difference.high - difference.low) / (2 * stats.norm.ppf((1 + LEVEL) / 2))
    return float(2 * stats.norm.sf(abs(difference.value) / error)) if error > 0 else float(difference.value == 0)


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted for a family of this size (Holm 1979), in the given order."""
    order, adjusted, running = np.argsort(p_values, kind="stable"), [0.0] * len(p_values), 0.0
    for place, index in enumerate(order):
        running = max(running, min(1.0, (len(p_values) - place) * p_values[index]))
        adjusted[index] = running
    return adjusted


def letters(size: int, different: Sequence[tuple[int, int]]) -> list[str]:
    """Compact letters for items 0..size-1, best first: two items share a letter unless they are shown to differ.

    Insert and absorb (Piepho 2004, Journal of Computational and Graphical Statistics 13(2)).
    """
    sets = [frozenset(range(size))]
    for a, b in different:
        split = []
        for members in sets:
            split += [members - {a}, members - {b}] if {a, b} <= members else [members]
        sets = [one for one in dict.fromkeys(split) if not any(one < other for other in split)]
    sets = sorted(sets, key=sorted)
    return [" ".join(chr(65 + place) for place, members in enumerate(sets) if item in members) for item in range(size)]


def _combine(parts: Sequence[Resampled], factors: np.ndarray) -> Resampled:
    seeds = tuple(sorted(set.intersection(*(set(part.seeds) for part in parts))))
    if not seeds:
        raise ValueError("no pretraining seed in common")
    rows = [[part.seeds.index(seed) for seed in seeds] for part in parts]
    few = min(parts, key=lambda part: part.groups)
    return Resampled(
        seeds=seeds,
        values=sum(f * part.values[at] for f, part, at in zip(factors, parts, rows, strict=True)),
        draws=sum(f * part.draws[at] for f, part, at in zip(factors, parts, rows, strict=True)),
        lost=np.any([part.lost for part in parts], axis=0),
        groups=few.groups,
        strata=few.strata,
    )


def _by_group(groups: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """Name and rows of every group."""
    order = np.argsort(groups, kind="stable")
    starts = np.flatnonzero(np.r_[True, groups[order][1:] != groups[order][:-1], True])
    return [(str(groups[order[a]]), order[a:b]) for a, b in pairwise(starts)]
