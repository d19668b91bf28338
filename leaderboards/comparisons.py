"""Every method against every other and against its twin: per task and over the tasks, as families with Holm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np

from benchmark.metrics import chance
from leaderboards.board import Column, Comparison, Contrast, Difference, Sensitivity
from leaderboards.power import detectable, needed
from leaderboards.ranking import classical, holm
from leaderboards.statistics import (
    ABOVE,
    BELOW,
    LEVEL,
    NOT_SHOWN,
    Estimate,
    Resampled,
    alone,
    estimate,
    mean,
    minus,
    p_value,
    verdict,
)

AHEAD, BEHIND, SAME = "the first is ahead", "the second is ahead", "not shown to differ"

Numbers = Mapping[tuple[str, Column], Resampled]  # (variant, column) -> metric
Pair = tuple[str, str]  # two variants


def compare(
    names: Mapping[str, str],
    twins: Mapping[str, str],
    columns: Sequence[Column],
    pooled: Sequence[Column],
    numbers: Numbers,
) -> Comparison:
    """All contrasts of the trained variants; `names`: variant -> name, `twins`: trained variant -> its twin."""
    pretexts = contrasts(list(combinations(twins, 2)), names, columns, pooled, numbers)
    return Comparison(
        pretexts=pretexts,
        twins=contrasts(list(twins.items()), names, columns, pooled, numbers),
        detectable=tuple(_detectable([one.entries[place] for one in pretexts]) for place in range(len(columns))),
        classical=_classical(twins, names, columns, numbers),
        sensitivity=sensitivity(twins, names, pooled, numbers),
    )


def sensitivity(
    twins: Mapping[str, str], names: Mapping[str, str], pooled: Sequence[Column], numbers: Numbers
) -> tuple[Sensitivity, ...]:
    """The differences over the tasks again, of those seeds alone in which both runs are shown above their twin."""
    gains = {variant: mean_difference(numbers, (variant, floor), pooled) for variant, floor in twins.items()}
    learned = {
        variant: {seed for seed in gained.seeds if verdict(estimate(alone(gained, seed))) == ABOVE}
        for variant, gained in gains.items()
        if gained is not None
    }
    made = []
    for a, b in combinations(learned, 2):
        found = mean_difference(numbers, (a, b), pooled)
        if found is not None:
            seeds = tuple(seed for seed in found.seeds if seed in learned[a] & learned[b])
            kept = estimate(alone(found, *seeds)) if seeds else None
            made.append(Sensitivity(first=names[a], second=names[b], seeds=seeds, of=len(found.seeds), estimate=kept))
    return tuple(made)


def contrasts(
    pairs: Sequence[Pair],
    names: Mapping[str, str],
    columns: Sequence[Column],
    pooled: Sequence[Column],
    numbers: Numbers,
) -> tuple[Contrast, ...]:
    """Differences of these pairs. Two families: all pairs on all tasks, and all pairs over the tasks."""
    per_task = [[difference(numbers, pair, column) for column in columns] for pair in pairs]
    overall = [mean_difference(numbers, pair, pooled) for pair in pairs]
    tasks = iter(family([one for row in per_task for one in row]))
    means = iter(family(overall))
    return tuple(
        Contrast(
            first=names[a],
            second=names[b],
            variants=(a, b),
            mean=next(means),
            entries=tuple(next(tasks) for _ in columns),
        )
        for a, b in pairs
    )


def difference(numbers: Numbers, pair: Pair, column: Column) -> Resampled | None:
    """Paired difference on a task; None where a side or a common seed is missing."""
    a, b = (numbers.get((variant, column)) for variant in pair)
    return minus(a, b) if a is not None and b is not None and set(a.seeds) & set(b.seeds) else None


def mean_difference(numbers: Numbers, pair: Pair, columns: Sequence[Column]) -> Resampled | None:
    """Mean over tasks of difference / (1 - chance); None where a task or a common seed is missing."""
    found = [difference(numbers, pair, column) for column in columns]
    if not found or None in found or not set.intersection(*(set(one.seeds) for one in found)):
        return None
    return mean(found, [1 / (1 - chance(column.metric, len(column.classes))) for column in columns])


def family(found: Sequence[Resampled | None]) -> list[Difference | None]:
    """Estimates, p-values adjusted for all that have a verdict, and what would separate those not shown to differ."""
    estimates = [None if one is None else estimate(one) for one in found]
    open_ = [place for place, one in enumerate(estimates) if one is not None and _judged(one)]
    adjusted = dict(zip(open_, holm([p_value(estimates[place]) for place in open_]), strict=True))
    made: list[Difference | None] = []
    for place, one in enumerate(estimates):
        if one is None:
            made.append(None)
            continue
        said = verdict(one)
        if place in adjusted:
            said = SAME if adjusted[place] >= 1 - LEVEL else AHEAD if one.value > 0 else BEHIND
        wanted = needed(found[place]) if said == SAME else None
        made.append(Difference(estimate=one, p=adjusted.get(place), verdict=said, needed=wanted))
    return made


def _judged(one: Estimate) -> bool:
    return verdict(one) in (ABOVE, NOT_SHOWN, BELOW)


def _detectable(differences: Sequence[Difference | None]) -> float | None:
    """Of the pairs on a task, the one that is hardest to tell apart; None where no error is known."""
    found = [detectable(one.estimate) for one in differences if one is not None and one.estimate.low is not None]
    return max(found, default=None)


def _classical(twins: Mapping[str, str], names: Mapping[str, str], columns: Sequence[Column], numbers: Numbers):
    """The classical view over the tasks that every trained variant answered; None with under two of either."""
    whole = [column for column in columns if all((variant, column) in numbers for variant in twins)]
    if len(twins) < 2 or len(whole) < 2:
        return None
    scores = np.array([[numbers[variant, column].values.mean() for variant in twins] for column in whole])
    return classical([names[variant] for variant in twins], scores)
