"""Differences between the rows of a board: each against every other and against its twin, in two families; and by how
much one row leads another on a task, in gain over its twin or in gain over (ceiling - floor)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np

from leaderboards.boards.board import Column, Comparison, Contrast, Sensitivity
from leaderboards.boards.ceilings import room, share
from leaderboards.stats.families import Difference, detectable, judge, reverse
from leaderboards.stats.intervals import Estimate, estimate, reason_for_no_verdict
from leaderboards.stats.ranking import classical
from leaderboards.stats.resampling import Resampled, mean_over_tasks, select_seeds, subtract
from leaderboards.stats.verdicts import Words, pair

GAIN, CEILING = "gain", "ceiling"  # what a lead is of
PER = {GAIN: "in gain", CEILING: "in gain over (ceiling − floor)"}

Numbers = Mapping[tuple[str, Column], Resampled]  # (variant, column) -> metric
Ceilings = Mapping[Column, Resampled]  # the metric of an encoder trained with labels, resampled as the rows are
Pair = tuple[str, str]  # two variants


def compare(
    names: Mapping[str, str],
    gains: Sequence[Contrast],
    columns: Sequence[Column],
    pooled: Sequence[Column],
    numbers: Numbers,
) -> Comparison:
    """All contrasts of the trained variants; `names`: variant -> name, `gains`: each with its twin."""
    twins = dict(one.variants for one in gains)
    pretexts = contrasts(list(combinations(twins, 2)), names, columns, pooled, numbers)
    return Comparison(
        pretexts=pretexts,
        twins=tuple(gains),
        detectable=tuple(_detectable([one.entries[place] for one in pretexts]) for place in range(len(columns))),
        classical=_classical(twins, names, columns, numbers),
        sensitivity=sensitivity(twins, names, pooled, numbers),
    )


def contrasts(
    pairs: Sequence[Pair],
    names: Mapping[str, str],
    columns: Sequence[Column],
    pooled: Sequence[Column],
    numbers: Numbers,
    words: Words | None = None,
) -> tuple[Contrast, ...]:
    """Differences of these pairs, in two families: all pairs on all tasks, as they stand before a reader at once, and
    all pairs over the tasks.

    words: of their verdicts; of a pair, where there are none.
    """
    called = [words or pair(names[a], names[b]) for a, b in pairs]
    on_tasks = [difference(numbers, each, column) for each in pairs for column in columns]
    entries = judge(on_tasks, [each for each in called for _ in columns])
    overall = judge([mean_difference(numbers, each, pooled) for each in pairs], called)
    width = len(columns)
    return tuple(
        Contrast(
            first=names[a],
            second=names[b],
            variants=(a, b),
            mean=overall[place],
            entries=entries[place * width : (place + 1) * width],
        )
        for place, (a, b) in enumerate(pairs)
    )


def sensitivity(
    twins: Mapping[str, str], names: Mapping[str, str], pooled: Sequence[Column], numbers: Numbers
) -> tuple[Sensitivity, ...]:
    """The differences over the tasks again, of those seeds alone in which the mean gains of both runs have an interval
    above zero, each by itself: a selection, not a verdict."""
    gains = {variant: mean_difference(numbers, (variant, floor), pooled) for variant, floor in twins.items()}
    learned = {
        variant: {seed for seed in gained.seeds if _above(estimate(select_seeds(gained, seed)))}
        for variant, gained in gains.items()
        if gained is not None
    }
    made = []
    for a, b in combinations(learned, 2):
        found = mean_difference(numbers, (a, b), pooled)
        if found is not None:
            seeds = tuple(seed for seed in found.seeds if seed in learned[a] & learned[b])
            kept = estimate(select_seeds(found, *seeds)) if seeds else None
            made.append(Sensitivity(first=names[a], second=names[b], seeds=seeds, of=len(found.seeds), estimate=kept))
    return tuple(made)


def contrast_of(comparison: Comparison, first: str, second: str) -> Contrast | None:
    """The contrast of two variants of a board, the first minus the second; None where they are no pair of a family."""
    for one in (*comparison.pretexts, *comparison.twins):
        if one.variants == (first, second):
            return one
        if one.variants == (second, first):
            words = pair(one.second, one.first)
            overall, *entries = (None if each is None else reverse(each, words) for each in (one.mean, *one.entries))
            ends = {"first": one.second, "second": one.first, "variants": (first, second)}
            return Contrast(mean=overall, entries=tuple(entries), **ends)
    return None


def difference(numbers: Numbers, pair: Pair, column: Column) -> Resampled | None:
    """Paired difference on a task; None where a side or a common seed is missing."""
    return _minus(*(numbers.get((variant, column)) for variant in pair))


def mean_difference(numbers: Numbers, pair: Pair, columns: Sequence[Column]) -> Resampled | None:
    """Mean over tasks of difference / (1 - chance); None where a task or a common seed is missing."""
    found = [difference(numbers, pair, column) for column in columns]
    if not found or None in found or not set.intersection(*(set(one.seeds) for one in found)):
        return None
    return mean_over_tasks(found, [1 / (1 - column.chance) for column in columns])


def lead_in_gain(numbers: Numbers, first: Pair, second: Pair, column: Column) -> Resampled | None:
    """Difference of two gains, each of a variant and its twin; None where one or a common seed is missing."""
    return _minus(difference(numbers, first, column), difference(numbers, second, column))


def lead_in_share(numbers: Numbers, ceilings: Ceilings, first: Pair, second: Pair, column: Column) -> Resampled | None:
    """Difference of two shares of the way from the twin to the ceiling: gain / (ceiling - floor), each by its own twin;
    None where one of them is missing."""
    if column not in ceilings or lead_in_gain(numbers, first, second, column) is None:
        return None
    rooms = [room(ceilings[column], numbers[twin, column]) for _, twin in (first, second)]
    gains = [difference(numbers, pair, column) for pair in (first, second)]
    return _minus(*(share(gained, above) for gained, above in zip(gains, rooms, strict=True)))


def lead_scale(column: Column, per: str) -> float:
    """What a lead is multiplied by: a gain is corrected for chance, which has cancelled in a share."""
    return 1.0 if per == CEILING else 1 / (1 - column.chance)


def slope_weights(places: Sequence[float]) -> np.ndarray:
    """(T,) by which values at these places are multiplied, and added up, to their least-squares slope."""
    centred = np.array(places) - np.mean(places)
    return centred / (centred @ centred)


def _minus(first: Resampled | None, second: Resampled | None) -> Resampled | None:
    return subtract(first, second) if first and second and {*first.seeds} & {*second.seeds} else None


def _above(gained: Estimate) -> bool:
    return not reason_for_no_verdict(gained) and gained.low > 0


def _detectable(differences: Sequence[Difference | None]) -> float | None:
    """Of the pairs with a verdict on a task, the one that is hardest to tell apart."""
    return max((detectable(one) for one in differences if one is not None and one.shown is not None), default=None)


def _classical(twins: Mapping[str, str], names: Mapping[str, str], columns: Sequence[Column], numbers: Numbers):
    """The classical view over the tasks that can have a verdict and that every trained variant answered; None with
    under two of either."""
    whole = [c for c in columns if c.independent and c.taught and all((variant, c) in numbers for variant in twins)]
    if len(twins) < 2 or len(whole) < 2:
        return None
    scores = np.array([[numbers[variant, column].values.mean() for variant in twins] for column in whole])
    return classical([names[variant] for variant in twins], scores)
