"""From the cells of a board to its estimates: values, gains over the twin, the mean over tasks, tie groups."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain, combinations

import numpy as np

from benchmark.metrics import chance
from benchmark.results import SchemaError
from leaderboards.board import Column, Entry, Row, Section
from leaderboards.statistics import (
    LEVEL,
    RANKED_GROUPS,
    Draws,
    Predictions,
    Resampled,
    averaged,
    draw,
    estimate,
    holm,
    letters,
    mean,
    minus,
    p_value,
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
    lines: Sequence[Line], columns: Sequence[Column], asked: Sequence[tuple[str, str]], load: Load
) -> tuple[Section, ...]:
    """One section per (probe, readout) of `asked`, in its order; last the headline again with one score per group."""
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
        numbers = {}
        for line in lines:
            for column in columns:
                found = loaded[line.variant, column, question]
                scored = [averaged(one) for one in found.values()] if by_group else list(found.values())
                if found:
                    numbers[line.variant, column] = resample(tuple(found), scored, column.metric, draws[column])
        rows = _rows(lines, columns, numbers, headline=question == HEADLINE and not by_group)
        built.append(Section(probe=question[0], readout=question[1], by_group=by_group, rows=rows))
    return tuple(built)


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
    lines: Sequence[Line], columns: Sequence[Column], numbers: dict[tuple[str, Column], Resampled], headline: bool
) -> tuple[Row, ...]:
    gains = {
        (line.variant, column): minus(numbers[line.variant, column], numbers[line.twin_variant, column])
        for line in lines
        for column in columns
        if not line.twin and _comparable(numbers, line, column)
    }
    means = {line.variant: found for line in lines if (found := _mean_gain(line, pooled(columns), gains)) is not None}
    tied = _letters(means) if headline else {}
    rows = []
    for line in lines:
        entries = tuple(_entry(line, column, numbers, gains) for column in columns)
        rows.append(
            Row(
                name=line.name,
                twin=line.twin,
                variant=line.variant,
                seeds=tuple(sorted(line.runs)),
                letters=tied.get(line.variant, ""),
                mean=_mean_entry(line, columns, means, gains),
                entries=entries,
                note=f"{len(line.diverged)} of {len(line.runs)} seeds diverged" if line.diverged else "",
            )
        )
    order = {line.variant: place for place, line in enumerate(lines)}
    return tuple(sorted(rows, key=lambda row: (row.twin, row.mean.gain is None, -_value(row), order[row.variant])))


def _value(row: Row) -> float:
    return row.mean.gain.value if row.mean.gain is not None else 0.0


def _comparable(numbers: dict[tuple[str, Column], Resampled], line: Line, column: Column) -> bool:
    """Whether the run and its twin have a seed in common on this task."""
    run, twin = numbers.get((line.variant, column)), numbers.get((line.twin_variant, column))
    return run is not None and twin is not None and bool(set(run.seeds) & set(twin.seeds))


def _mean_gain(line: Line, columns: Sequence[Column], gains: dict[tuple[str, Column], Resampled]) -> Resampled | None:
    """Mean over tasks of gain / (1 - chance); None where a task or a common seed is missing."""
    parts = [gains.get((line.variant, column)) for column in columns]
    found = [part for part in parts if part is not None]
    if not found or len(found) < len(parts) or not set.intersection(*(set(part.seeds) for part in found)):
        return None
    return mean(found, [1 / (1 - chance(column.metric, len(column.classes))) for column in columns])


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


def _letters(means: dict[str, Resampled]) -> dict[str, str]:
    """Tie groups: two rows share a letter unless their paired difference, Holm-adjusted over all pairs, is shown."""
    order = sorted(means, key=lambda variant: -means[variant].values.mean())
    if len(order) < 2 or min(means[variant].groups for variant in order) < RANKED_GROUPS:
        return {}
    pairs = list(combinations(range(len(order)), 2))
    p_values = [_difference(means[order[a]], means[order[b]]) for a, b in pairs]
    different = [pair for pair, p in zip(pairs, holm(p_values), strict=True) if p < 1 - LEVEL]
    return dict(zip(order, letters(len(order), different), strict=True))


def _difference(a: Resampled, b: Resampled) -> float:
    """p of the paired difference; 1 where no seed is shared."""
    return p_value(estimate(minus(a, b))) if set(a.seeds) & set(b.seeds) else 1.0
