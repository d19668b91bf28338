"""From the cells of a board to its estimates: values, gains over the twin, the mean over tasks, tie groups."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from benchmark.metrics import chance
from benchmark.storage.schema import SchemaError
from leaderboards.boards.board import Column, Comparison, Contrast, Entry, Row, Section
from leaderboards.boards.ceilings import Ceiling, fitting, room, share
from leaderboards.boards.contrasts import Numbers, compare, contrasts, difference
from leaderboards.boards.selection import Line
from leaderboards.stats.families import Difference
from leaderboards.stats.intervals import RANKED_GROUPS, Estimate, estimate
from leaderboards.stats.ranking import letters, rank_intervals
from leaderboards.stats.resampling import (
    Predictions,
    Resampled,
    averaged,
    paired,
    task_draws,
)
from leaderboards.stats.verdicts import GAIN, UNDEFINED

HEADLINE = ("linear", "patches")


Load = Callable[
    [Line, Column, str, str], dict[int, Predictions]
]  # (line, column, probe, readout) -> seed -> predictions


def pooled(columns: Sequence[Column]) -> tuple[Column, ...]:
    """The tasks behind the mean gain: those with a constant chance level that labels teach, whose groups are patients
    or slides, and enough of them to rank by; where no task is such, the next best. Of two sets of one task's images,
    the larger."""
    usable = [column for column in columns if chance(column.metric, len(column.classes)) is not None]
    largest = {column.task: column for column in sorted(usable, key=lambda column: column.images)}
    usable = [column for column in usable if largest[column.task] is column]
    usable = [column for column in usable if column.independent] or usable
    usable = [column for column in usable if column.taught] or usable
    return tuple(column for column in usable if column.groups >= RANKED_GROUPS) or tuple(usable)


@dataclass(frozen=True, kw_only=True)
class Measured:
    """The sections of a board, and what its headline compares."""

    sections: tuple[Section, ...]
    comparison: Comparison
    pooled: tuple[Column, ...]
    numbers: Numbers  # of the headline
    ceilings: Mapping[Column, Resampled] = field(default_factory=dict)  # in the headline's metric, under its draws
    others: Mapping[tuple[str, str], Numbers] = field(default_factory=dict)  # of every other (probe, readout)


def build_sections(
    lines: Sequence[Line],
    columns: Sequence[Column],
    asked: Sequence[tuple[str, str]],
    load: Load,
    measures: Mapping[str, str],
    tops: Mapping[Column, Ceiling] | None = None,
) -> Measured:
    """One section per (probe, readout) of `asked`, in its order, last the headline again with one score per group.
    measures: the metric of a probe that has its own. tops: the ceilings that are stored."""
    loaded = {
        (line.variant, column, question): found
        for question in asked
        for column in columns
        for line, found in zip(lines, _paired(column, [load(line, column, *question) for line in lines]), strict=True)
    }
    tests: dict[tuple[str, str], dict[Column, Predictions]] = {question: {} for question in asked}
    for (_, column, question), found in loaded.items():
        if found:
            tests[question][column] = next(iter(found.values()))
    draws = {question: task_draws(of_tasks) for question, of_tasks in tests.items()}
    grouped = any(len(np.unique(test.group)) < len(np.unique(test.sample)) for test in tests[HEADLINE].values())
    built, others = [], {}
    for question, by_group in [*((question, False) for question in asked), *([(HEADLINE, True)] if grouped else [])]:
        measure = measures.get(question[0], "")
        here = tuple(replace(column, metric=measure or column.metric) for column in columns)
        numbers, undefined = {}, {}
        for line in lines:
            for column, judged in zip(columns, here, strict=True):
                found = loaded[line.variant, column, question]
                if not found:
                    continue
                scored = [averaged(one) for one in found.values()] if by_group else list(found.values())
                number = draws[question][column].resample(tuple(found), scored, judged)
                if np.isfinite(number.values).all():
                    numbers[line.variant, judged] = number
                else:
                    undefined[judged] = _undefined(scored[0])
        over = pooled([column for column in here if column not in undefined])
        trained = [line for line in lines if not line.twin]
        names = {line.variant: f"untrained {line.name}" if line.twin else line.name for line in lines}
        twins = [(line.variant, line.twin_variant) for line in trained if line.twin_variant in names]
        gains = contrasts(twins, names, here, over, numbers, GAIN)
        headline = question == HEADLINE and not by_group
        if headline:
            comparison, shown, behind = compare(names, gains, here, over, numbers), numbers, over
            above = {
                column: draws[question][column].resample(tuple(fitted.seen), list(fitted.seen.values()), column)
                for column, one in (tops or {}).items()
                if (test := tests[question].get(column)) and (fitted := fitting(column, one, test))
            }
        rows = _rows(lines, here, over, numbers, undefined, gains, comparison.pretexts if headline else ())
        if headline:
            rows = _shared(rows, trained, here, numbers, above, tops or {})
        elif not by_group:
            others[question] = numbers
        built.append(Section(probe=question[0], readout=question[1], by_group=by_group, rows=rows, metric=measure))
    return Measured(
        sections=tuple(built), comparison=comparison, pooled=behind, numbers=shown, ceilings=above, others=others
    )


def _shared(
    rows: Sequence[Row],
    trained: Sequence[Line],
    columns: Sequence[Column],
    numbers: Numbers,
    above: Mapping[Column, Resampled],
    tops: Mapping[Column, Ceiling],
) -> tuple[Row, ...]:
    """The rows with their shares of the way from twin to ceiling, where labels teach the task to an encoder like
    theirs."""
    lines = {line.variant: line for line in trained}

    def share_of(line: Line | None, column: Column) -> Estimate | None:
        if line is None or column not in above or not column.taught or line.size != tops[column].size:
            return None
        gained = difference(numbers, (line.variant, line.twin_variant), column)
        if gained is None:
            return None
        return estimate(share(gained, room(above[column], numbers[line.twin_variant, column])))

    def with_shares(row: Row) -> Row:
        pairs = zip(row.entries, columns, strict=True)
        return replace(row, entries=tuple(replace(e, share=share_of(lines.get(row.variant), c)) for e, c in pairs))

    return tuple(with_shares(row) for row in rows)


def _undefined(test: Predictions) -> str:
    one = len(np.unique(test.label)) == 1
    return f"{UNDEFINED}: {'its test part holds one class' if one else 'the metric has no value on its test part'}"


def under_condition(
    lines: Sequence[Line], columns: Sequence[Column], load: Callable[[Line, Column], dict[int, Predictions]]
) -> Numbers:
    """The metric of every line on every column under a condition, as far as `load` finds predictions."""
    loaded = {
        (line.variant, column): found
        for column in columns
        for line, found in zip(lines, _paired(column, [load(line, column) for line in lines]), strict=True)
        if found
    }
    draws = task_draws({column: one for (_, column), found in loaded.items() for one in found.values()})
    numbers = {
        (variant, column): draws[column].resample(tuple(found), list(found.values()), column)
        for (variant, column), found in loaded.items()
    }
    return {key: number for key, number in numbers.items() if np.isfinite(number.values).all()}


def _paired(column: Column, loaded: list[dict[int, Predictions]]) -> list[dict[int, Predictions]]:
    """The predictions of all lines on one task, holding its samples once. Raises SchemaError where these differ."""
    first = next((one for found in loaded for one in found.values()), None)
    try:
        return [{seed: paired(one, first) for seed, one in found.items()} for found in loaded]
    except ValueError as error:
        raise SchemaError(f"{column.title}: {error}; `make verify` names what was changed") from error


def _rows(
    lines: Sequence[Line],
    columns: Sequence[Column],
    over: Sequence[Column],
    numbers: Numbers,
    undefined: Mapping[Column, str],
    gains: Sequence[Contrast],
    pairs: Sequence[Contrast],
) -> tuple[Row, ...]:
    """Rows by mean gain, twins last; with places where the contrasts between them are given."""
    gained = {one.variants[0]: one for one in gains}
    means = {variant: one.mean for variant, one in gained.items() if one.mean is not None}
    places = _places(means, pairs) if pairs else {}
    rows = []
    for line in lines:
        own = gained.get(line.variant)
        place = places.get(line.variant)
        entries = [
            _entry(line, numbers.get((line.variant, column)), own and own.entries[at], undefined.get(column))
            for at, column in enumerate(columns)
        ]
        rows.append(
            Row(
                name=line.name,
                twin=line.twin,
                variant=line.variant,
                seeds=tuple(sorted(line.runs)),
                letters=place.letters if place else "",
                ranks=place.ranks if place else None,
                mean=_mean_entry(line, columns, over, means, entries, undefined),
                entries=tuple(entries),
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
    over: Sequence[Column],
    means: Mapping[str, Difference],
    entries: Sequence[Entry],
    undefined: Mapping[Column, str],
) -> Entry:
    if line.twin:
        return Entry(note="the floor")
    if line.variant in means:
        found = means[line.variant]
        short = found.estimate.seeds < len(line.runs)
        notes = [f"{found.estimate.seeds} of {len(line.runs)} seeds"] if short else []
        without = [column.title for column in undefined if chance(column.metric, len(column.classes)) is not None]
        notes += [f"without {', '.join(without)}: {UNDEFINED}"] if without else []
        return _gained(found, note=", ".join(notes))
    lacking = [
        column.title for column, one in zip(columns, entries, strict=True) if column in over and one.gain is None
    ]
    if not over:
        return Entry(missing="no task with a chance level")
    return Entry(missing=f"needs {', '.join(lacking)}" if lacking else "no seed with every task")


def _entry(line: Line, number: Resampled | None, gained: Difference | None, undefined: str | None) -> Entry:
    if number is None:
        gone = len(line.diverged) == len(line.runs)
        return Entry(missing="diverged in training" if gone else undefined or "not run yet")
    notes = [f"{len(number.seeds)} of {len(line.runs)} seeds"] if len(number.seeds) < len(line.runs) else []
    score = estimate(number)
    if line.twin:
        return Entry(score=score, note=", ".join(notes))
    if gained is None:
        return Entry(score=score, note=", ".join([*notes, "twin not run yet"]))
    return _gained(gained, score=score, note=", ".join(notes))


def _gained(found: Difference, **others: object) -> Entry:
    return Entry(
        gain=found.estimate, p=found.p, shown=found.shown, verdict=found.verdict, family=found.family, **others
    )


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a row stands among the ranked."""

    letters: str
    ranks: tuple[int, int]


def _places(means: Mapping[str, Difference], pairs: Sequence[Contrast]) -> dict[str, Place]:
    """Places of the rows with a mean gain, where all have enough groups to be ranked.

    Two rows share a letter, and neither is ahead, unless their difference over the tasks is shown.
    """
    order = sorted(means, key=lambda variant: -means[variant].estimate.value)
    found = {one.variants: one.mean for one in pairs if set(one.variants) <= set(order)}
    if (
        len(order) < 2
        or any(one is None or one.shown is None for one in found.values())
        or min(one.estimate.groups for one in means.values()) < RANKED_GROUPS
    ):
        return {}
    ahead = [
        tuple(order.index(variant) for variant in variants[:: one.shown])
        for variants, one in found.items()
        if one.shown
    ]
    tied, ranks = letters(len(order), ahead), rank_intervals(len(order), ahead)
    return {variant: Place(letters=tied[place], ranks=ranks[place]) for place, variant in enumerate(order)}
