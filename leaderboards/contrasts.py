"""From the cells of a board to its estimates: values, gains over the twin, the mean over tasks, tie groups."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np

from benchmark.metrics import chance
from benchmark.results import SchemaError
from leaderboards.board import Column, Comparison, Contrast, Entry, Row, Section
from leaderboards.comparisons import AHEAD, BEHIND, SAME, Numbers, compare, difference, mean_difference
from leaderboards.ranking import best, letters, rank_intervals
from leaderboards.statistics import (
    RANKED_GROUPS,
    Draws,
    Predictions,
    Resampled,
    averaged,
    draw,
    estimate,
    paired,
    resample,
    verdict,
)

HEADLINE = ("linear", "patches")


@dataclass(frozen=True, kw_only=True)
class Line:
    """A row before it has numbers: one recipe, its pretraining seeds, its twin."""

    name: str
    twin: bool
    variant: str  # hash of the recipe without its seed
    twin_variant: str
    runs: dict[int, str]  # seed -> run
    weights: tuple[str, ...]  # per seed, in order
    diverged: tuple[int, ...]  # seeds


Load = Callable[
    [Line, Column, str, str], dict[int, Predictions]
]  # (line, column, probe, readout) -> seed -> predictions


def pooled(columns: Sequence[Column]) -> tuple[Column, ...]:
    """The tasks behind the mean gain: those with a constant chance level and enough groups to rank by; where no task
    has enough, all with a chance level. Of two sets of one task's images, the larger."""
    usable = [column for column in columns if chance(column.metric, len(column.classes)) is not None]
    largest = {column.task: column for column in sorted(usable, key=lambda column: column.images)}
    usable = [column for column in usable if largest[column.task] is column]
    return tuple(column for column in usable if column.groups >= RANKED_GROUPS) or tuple(usable)


def sections(
    lines: Sequence[Line],
    columns: Sequence[Column],
    asked: Sequence[tuple[str, str]],
    load: Load,
    measures: Mapping[str, str],
) -> tuple[tuple[Section, ...], Comparison, Numbers]:
    """One section per (probe, readout) of `asked`, in its order, last the headline again with one score per group; and
    the comparison of the headline's rows with their numbers. measures: the metric of a probe that has its own."""
    loaded = {
        (line.variant, column, question): found
        for question in asked
        for column in columns
        for line, found in zip(lines, _paired(column, [load(line, column, *question) for line in lines]), strict=True)
    }
    tests = {column: one for (_, column, _), found in loaded.items() for one in found.values()}
    draws = _shared_draws(tests)
    grouped = any(len(np.unique(test.group)) < len(np.unique(test.sample)) for test in tests.values())
    built = []
    for question, by_group in [*((question, False) for question in asked), *([(HEADLINE, True)] if grouped else [])]:
        numbers, measure = {}, measures.get(question[0], "")
        here = tuple(replace(column, metric=measure or column.metric) for column in columns)
        for line in lines:
            for column, judged in zip(columns, here, strict=True):
                found = loaded[line.variant, column, question]
                scored = [averaged(one) for one in found.values()] if by_group else list(found.values())
                if found:
                    numbers[line.variant, judged] = resample(tuple(found), scored, judged.metric, draws[column])
        headline = question == HEADLINE and not by_group
        if headline:
            comparison, shown = _comparison(lines, columns, numbers), numbers
        rows = _rows(lines, here, numbers, comparison.pretexts if headline else ())
        built.append(Section(probe=question[0], readout=question[1], by_group=by_group, rows=rows, metric=measure))
    return tuple(built), comparison, shown


def under(lines: Sequence[Line], columns: Sequence[Column], load: Callable[[Line, Column], dict[int, Predictions]]):
    """The metric of every line on every column under a condition, as far as `load` finds predictions."""
    loaded = {
        (line.variant, column): found
        for column in columns
        for line, found in zip(lines, _paired(column, [load(line, column) for line in lines]), strict=True)
        if found
    }
    draws = _shared_draws({column: one for (_, column), found in loaded.items() for one in found.values()})
    return {
        (variant, column): resample(tuple(found), list(found.values()), column.metric, draws[column])
        for (variant, column), found in loaded.items()
    }


def _comparison(lines: Sequence[Line], columns: Sequence[Column], numbers: dict) -> Comparison:
    names = {line.variant: f"untrained {line.name}" if line.twin else line.name for line in lines}
    twins = {line.variant: line.twin_variant for line in lines if not line.twin and line.twin_variant in names}
    return compare(names, twins, columns, pooled(columns), numbers)


def _paired(column: Column, loaded: list[dict[int, Predictions]]) -> list[dict[int, Predictions]]:
    """The predictions of all lines on one task, holding its samples once. Raises SchemaError where these differ."""
    first = next((one for found in loaded for one in found.values()), None)
    try:
        return [{seed: paired(one, first) for seed, one in found.items()} for found in loaded]
    except ValueError as error:
        raise SchemaError(f"{column.title}: {error}; `make verify` names what was changed") from error


def _shared_draws(tests: dict[Column, Predictions]) -> dict[Column, Draws]:
    """One set of bootstrap weights for all tasks that share a group: their patients are resampled together."""
    clusters: list[list[Column]] = []
    names = {column: set(test.group) for column, test in tests.items()}
    for column in tests:
        joined = [cluster for cluster in clusters if any(names[column] & names[other] for other in cluster)]
        clusters = [cluster for cluster in clusters if cluster not in joined] + [[*chain.from_iterable(joined), column]]
    found = {}
    for cluster in clusters:
        shared = draw([tests[column] for column in cluster])
        found |= dict.fromkeys(cluster, shared)
    return found


def _rows(
    lines: Sequence[Line],
    columns: Sequence[Column],
    numbers: dict[tuple[str, Column], Resampled],
    contrasts: Sequence[Contrast],
) -> tuple[Row, ...]:
    """Rows by mean gain, twins last; with places where the contrasts between them are given."""
    gains = {
        (line.variant, column): found
        for line in lines
        for column in columns
        if not line.twin and (found := difference(numbers, (line.variant, line.twin_variant), column)) is not None
    }
    means = {
        line.variant: found
        for line in lines
        if not line.twin
        and (found := mean_difference(numbers, (line.variant, line.twin_variant), pooled(columns))) is not None
    }
    places = _places(means, contrasts) if contrasts else {}
    rows = []
    for line in lines:
        entries = tuple(_entry(line, column, numbers, gains) for column in columns)
        place = places.get(line.variant)
        rows.append(
            Row(
                name=line.name,
                twin=line.twin,
                variant=line.variant,
                seeds=tuple(sorted(line.runs)),
                letters=place.letters if place else "",
                ranks=place.ranks if place else None,
                best=place.best if place else None,
                mean=_mean_entry(line, columns, means, gains),
                entries=entries,
                note=f"{len(line.diverged)} of {len(line.runs)} seeds diverged" if line.diverged else "",
                runs=tuple(line.runs[seed] for seed in sorted(line.runs)),
            )
        )
    order = {line.variant: place for place, line in enumerate(lines)}
    return tuple(sorted(rows, key=lambda row: (row.twin, row.mean.gain is None, -_value(row), order[row.variant])))


def _value(row: Row) -> float:
    return row.mean.gain.value if row.mean.gain is not None else 0.0


def _mean_entry(
    line: Line,
    columns: Sequence[Column],
    means: dict[str, Resampled],
    gains: dict[tuple[str, Column], Resampled],
) -> Entry:
    if line.twin:
        return Entry(note="the floor")
    if line.variant in means:
        gained = estimate(means[line.variant])
        short = len(means[line.variant].seeds) < len(line.runs)
        note = f"{len(means[line.variant].seeds)} of {len(line.runs)} seeds" if short else ""
        return Entry(gain=gained, verdict=verdict(gained), note=note)
    lacking = [column.title for column in pooled(columns) if (line.variant, column) not in gains]
    if not pooled(columns):
        return Entry(missing="no task with a chance level")
    return Entry(missing=f"needs {', '.join(lacking)}" if lacking else "no seed with every task")


def _entry(
    line: Line,
    column: Column,
    numbers: dict[tuple[str, Column], Resampled],
    gains: dict[tuple[str, Column], Resampled],
) -> Entry:
    number = numbers.get((line.variant, column))
    if number is None:
        gone = len(line.diverged) == len(line.runs)
        return Entry(missing="diverged in training" if gone else "not run yet")
    notes = [f"{len(number.seeds)} of {len(line.runs)} seeds"] if len(number.seeds) < len(line.runs) else []
    if line.twin:
        return Entry(score=estimate(number), note=", ".join(notes))
    if (line.variant, column) not in gains:
        return Entry(score=estimate(number), note=", ".join([*notes, "twin not run yet"]))
    gained = estimate(gains[line.variant, column])
    return Entry(score=estimate(number), gain=gained, verdict=verdict(gained), note=", ".join(notes))


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a row stands among the ranked."""

    letters: str
    ranks: tuple[int, int]
    best: float


def _places(means: dict[str, Resampled], contrasts: Sequence[Contrast]) -> dict[str, Place]:
    """Places of the rows with a mean gain, where all have enough groups to be ranked.

    Two rows share a letter, and neither is ahead, unless their difference over the tasks is shown after Holm.
    """
    order = sorted(means, key=lambda variant: -means[variant].values.mean())
    found = {one.variants: one.mean for one in contrasts if set(one.variants) <= set(order)}
    open_ = [one for one in found.values() if one is None or one.verdict not in (AHEAD, BEHIND, SAME)]
    if (
        len(order) < 2
        or open_
        or not _common_seeds(means)
        or min(means[variant].groups for variant in order) < RANKED_GROUPS
    ):
        return {}
    pairs = [
        tuple(order.index(variant) for variant in (variants if one.verdict == AHEAD else variants[::-1]))
        for variants, one in found.items()
        if one.verdict != SAME
    ]
    tied = letters(len(order), pairs)
    ranks = rank_intervals(len(order), pairs)
    shares = best([means[variant] for variant in order])
    return {
        variant: Place(letters=tied[place], ranks=ranks[place], best=shares[place])
        for place, variant in enumerate(order)
    }


def _common_seeds(means: dict[str, Resampled]) -> bool:
    return bool(set.intersection(*(set(number.seeds) for number in means.values())))
