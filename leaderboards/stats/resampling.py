"""Intervals for what a board says: groups left out in turn, crossed with pretraining seeds.

Groups (patients, slides, ...) are the unit, never images: images of one patient are not independent, and an image
bootstrap calls a quarter to a half of equal pairs different. All methods of a task see the same weights, so differences
are paired. Everything here works on `Resampled` values, which can be subtracted and averaged before `estimate`.
What each rule was measured to do is in docs/statistics.md.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, pairwise

import numpy as np

from benchmark.metrics import RANKED_GROUPS as RANKED_GROUPS  # part of the rules here
from benchmark.metrics import fold_resampled, fold_score
from tasks.base import digest

DRAWS = 500  # they only count lost classes and take an interaction out of the jackknife: docs/statistics.md
BLOCKS = 400  # groups are left out and drawn one by one up to this many, else in about this many blocks
RANDOM_TASKS = 10  # fewer tasks: they are fixed and named, and a mean over them is about them alone
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


def draw_groups(tests: Sequence[Predictions], family: str = "", draws: int = DRAWS, seed: int = 0) -> Draws:
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


def pair_samples(one: Predictions, other: Predictions) -> Predictions:
    """`one`, sharing the samples of `other`. Raises ValueError unless they are the same, in groups and folds too."""
    names = ("sample", "label", "group", "repeat", "fold")
    for name in names:
        if not np.array_equal(getattr(one, name), getattr(other, name)):
            raise ValueError(f"predictions of one task cannot be paired: they differ in {name}")
    return replace(one, **{name: getattr(other, name) for name in names})


def average_by_group(predictions: Predictions) -> Predictions:
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
    pairs = [(part, place) for each, place in zip(known, places, strict=True) for part in (each.weights, each.left)]
    weights = [part if len(place) == part.shape[1] else part[:, place] for part, place in pairs]
    values = np.array([fold_score(metric, one.label, one.scores, one.repeat, one.fold) for one in predictions])
    about = [(metric, one.label, one.scores, groups, one.repeat, one.fold) for one in predictions]
    found = [[fold_resampled(*one, some) for one in about] for some in weights]
    parts = [np.stack([drawn for drawn, _ in each]) for each in found]
    lost = [np.any([flags for _, flags in each], axis=0) for each in found]
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


def combine(parts: Sequence[Resampled], factors: Sequence[float]) -> Resampled:
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
    drawn = draw_groups(
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


def subtract(a: Resampled, b: Resampled) -> Resampled:
    """Paired difference over the seeds that both have. Raises ValueError when they have none in common."""
    joint = subtract(a.joint, b.joint) if a.joint is not None and b.joint is not None else None
    return replace(_sum([a, b], [1.0, -1.0]), headroom=(a.headroom + b.headroom) / 2, joint=joint)


def select_seeds(number: Resampled, *seeds: int) -> Resampled:
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
        joint=None if number.joint is None else select_seeds(number.joint, *seeds),
    )


def rename_seeds(number: Resampled, seeds: tuple[int, ...]) -> Resampled:
    """The same number with other names of its seeds, so that any two runs can be paired."""
    return replace(number, seeds=seeds, joint=None if number.joint is None else rename_seeds(number.joint, seeds))


def mean_over_tasks(parts: Sequence[Resampled], factors: Sequence[float]) -> Resampled:
    """Mean of factor × part over the seeds that all have.

    Under ten tasks, or where two tasks share groups, tasks are fixed: the mean is about them. From ten tasks of
    separate groups on, tasks are the unit that is left out and drawn, in place of their groups: between tasks, the
    variance of their groups is included.
    """
    fixed = combine(parts, np.array(factors) / len(parts))
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


def _by_group(groups: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """Name and rows of every group."""
    order = np.argsort(groups, kind="stable")
    starts = np.flatnonzero(np.r_[True, groups[order][1:] != groups[order][:-1], True])
    return [(str(groups[order[a]]), order[a:b]) for a, b in pairwise(starts)]


@dataclass(frozen=True, kw_only=True)
class Question:
    """What must be known of a task to resample it."""

    task: str
    metric: str
    family: str  # of its dataset
    independent: bool  # its groups are patients or slides
    taught: bool = True  # of `Column`


@dataclass(frozen=True, kw_only=True)
class TaskDraws:
    """The draws of a task: its own, within strata of its own labels, and those of all tasks that share its groups."""

    own: Draws
    joint: Draws | None  # None where no other task shares its groups, or all have the same strata

    def resample(self, seeds: Sequence[int], predictions: Sequence[Predictions], column: Question) -> Resampled:
        return resample(seeds, predictions, column.metric, self.own, column.independent, self.joint, column.taught)


def draw_tasks(tests: Mapping[Question, Predictions], draws: int = DRAWS) -> dict[Question, TaskDraws]:
    """Draws of every task. A group is one where its name and its dataset family are: such patients are resampled
    together where tasks are combined, and nowhere else."""
    groups = {column: {(column.family, name) for name in np.unique(test.group)} for column, test in tests.items()}
    clusters: list[list[Question]] = []
    for column in tests:
        joined = [cluster for cluster in clusters if any(groups[column] & groups[other] for other in cluster)]
        clusters = [cluster for cluster in clusters if cluster not in joined] + [[*chain.from_iterable(joined), column]]
    found = {}
    for cluster in clusters:
        own = [draw_groups([tests[column]], column.family, draws) for column in cluster]
        several = len(set(own)) > 1
        joint = draw_groups([tests[column] for column in cluster], cluster[0].family, draws) if several else None
        found |= {column: TaskDraws(own=each, joint=joint) for column, each in zip(cluster, own, strict=True)}
    return found


SHARED = 24  # test sets whose draws are kept: a few MB each


_shared: dict[bytes, Draws] = {}  # by test set: all cells of a task share their draws


def cached_draws(seen: Predictions) -> Draws:
    name = hashlib.sha256("\0".join(seen.group).encode() + seen.label.tobytes()).digest()
    if name not in _shared:
        if len(_shared) >= SHARED:
            del _shared[next(iter(_shared))]
        _shared[name] = draw_groups([seen])
    return _shared[name]
