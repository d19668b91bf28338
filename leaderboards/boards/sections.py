"""From the cells of a board to its estimates: values, gains over the twin, the mean over tasks, tie groups."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from benchmark.storage.schema import SchemaError
from leaderboards.boards import ceilings
from leaderboards.boards.board import Column, Comparison, Contrast, Entry, Row, Section
from leaderboards.boards.contrasts import Numbers, compare, contrasts, difference
from leaderboards.boards.selection import HEADLINE, Method, Selection
from leaderboards.stats.families import Difference
from leaderboards.stats.intervals import RANKED_GROUPS, Estimate, estimate
from leaderboards.stats.ranking import letters, rank_intervals
from leaderboards.stats.resampling import Predictions, Resampled, TaskDraws, average_by_group, draw_tasks, pair_samples
from leaderboards.stats.verdicts import GAIN, UNDEFINED

Seen = Mapping[tuple[str, Column], Mapping[int, Predictions]]  # (variant, column) -> seed -> predictions
UNRANKED = ("", None)


@dataclass(frozen=True, kw_only=True)
class Measured:
    """The sections of a board, and what its headline compares."""

    sections: tuple[Section, ...]
    comparison: Comparison
    pooled: tuple[Column, ...]
    numbers: Numbers  # of the headline
    ceilings: Mapping[Column, Resampled] = field(default_factory=dict)  # in the headline's metric, under its draws
    others: Mapping[tuple[str, str], Numbers] = field(default_factory=dict)  # of every other (probe, readout)


@dataclass(frozen=True, kw_only=True)
class _Table:
    """What one probe and readout found, before it is rows."""

    columns: tuple[Column, ...]
    numbers: Numbers
    undefined: Mapping[Column, str]  # why a task has no number
    pooled: tuple[Column, ...]
    names: Mapping[str, str]  # variant -> name
    gains: tuple[Contrast, ...]


def measure(chosen: Selection, questions: Sequence[tuple[str, str]] | None = None) -> Measured:
    """One section per (probe, readout) of `questions`, or of all, in their order; last the headline again with one
    score per group, where groups have several images. The headline must be among them."""
    sections, others, by_group = [], {}, []
    for question in questions or chosen.questions:
        metric = chosen.metrics.get(question[0], "")
        about = {"probe": question[0], "readout": question[1], "metric": metric}
        columns = tuple(replace(column, metric=metric or column.metric) for column in chosen.columns)
        seen = _read(chosen.methods, columns, lambda method, column, q=question: chosen.load(method, column, *q))
        tests = _first(seen)
        draws = draw_tasks(tests)
        table = _tabulate(chosen.methods, columns, seen, draws)
        if question != HEADLINE:
            others[question] = table.numbers
            sections.append(Section(by_group=False, rows=_rows(chosen.methods, table), **about))
            continue
        headline = table
        comparison = compare(table.names, table.gains, columns, table.pooled, table.numbers)
        tops = {
            column: _number(ceilings.pair_ceiling(column, top, tests[column]).seen, draws[column], column)
            for column, top in chosen.ceilings.items()
            if column in tests
        }
        shares = _shares(chosen, table, tops)
        rows = _rows(chosen.methods, table, comparison.pretexts, shares)
        sections.append(Section(by_group=False, rows=rows, **about))
        if any(len(np.unique(test.group)) < len(np.unique(test.sample)) for test in tests.values()):
            scored = {key: {seed: average_by_group(one) for seed, one in found.items()} for key, found in seen.items()}
            grouped = _tabulate(chosen.methods, columns, scored, draws)
            by_group.append(Section(by_group=True, rows=_rows(chosen.methods, grouped), **about))
    return Measured(
        sections=(*sections, *by_group),
        comparison=comparison,
        pooled=headline.pooled,
        numbers=headline.numbers,
        ceilings=tops,
        others=others,
    )


def measure_corrupted(chosen: Selection, corruption: str, strength: int) -> Numbers:
    """The metric of every method on every task under a nuisance, as far as there are predictions."""
    seen = _read(chosen.methods, chosen.columns, lambda *pair: chosen.load_corrupted(*pair, corruption, strength))
    draws = draw_tasks(_first(seen))
    numbers = {key: _number(found, draws[key[1]], key[1]) for key, found in seen.items()}
    return {key: number for key, number in numbers.items() if np.isfinite(number.values).all()}


def _read(
    methods: Sequence[Method],
    columns: Sequence[Column],
    load: Callable[[Method, Column], dict[int, Predictions]],
) -> Seen:
    """The predictions of all methods, which share the samples of their task. Raises SchemaError where these differ."""
    seen = {}
    for column in columns:
        first = None
        for method in methods:
            loaded = load(method, column)
            first = first or next(iter(loaded.values()), None)
            try:
                found = {seed: pair_samples(one, first) for seed, one in loaded.items()}
            except ValueError as error:
                raise SchemaError(f"{column.title}: {error}; `make verify` names what was changed") from error
            if found:
                seen[method.variant, column] = found
    return seen


def _first(seen: Seen) -> dict[Column, Predictions]:
    """Predictions of each task, which share its samples with all others."""
    return {column: next(iter(found.values())) for (_, column), found in seen.items()}


def _number(found: Mapping[int, Predictions], draws: TaskDraws, column: Column) -> Resampled:
    return draws.resample(tuple(found), list(found.values()), column)


def _tabulate(
    methods: Sequence[Method], columns: tuple[Column, ...], seen: Seen, draws: Mapping[Column, TaskDraws]
) -> _Table:
    numbers, undefined, known = {}, {}, {}
    for (variant, column), found in seen.items():
        alike = column, *((seed, one.scores.tobytes()) for seed, one in found.items())  # twins are often one encoder
        if alike not in known:
            known[alike] = _number(found, draws[column], column)
        number = known[alike]
        if np.isfinite(number.values).all():
            numbers[variant, column] = number
        else:
            one_class = len(np.unique(next(iter(found.values())).label)) == 1
            why = "its test part holds one class" if one_class else "the metric has no value on its test part"
            undefined[column] = f"{UNDEFINED}: {why}"
    over = pooled([column for column in columns if column not in undefined])
    names = {method.variant: method.label for method in methods}
    twins = [m.and_twin for m in methods if not m.twin and m.twin_variant in names]
    return _Table(
        columns=columns,
        numbers=numbers,
        undefined=undefined,
        pooled=over,
        names=names,
        gains=contrasts(twins, names, columns, over, numbers, GAIN),
    )


def pooled(columns: Sequence[Column]) -> tuple[Column, ...]:
    """The tasks behind the mean gain: those with a constant chance level that labels teach, whose groups are patients
    or slides, and enough of them to rank by; where no task is such, the next best. Of two sets of one task's images,
    the larger."""
    usable = [column for column in columns if column.chance is not None]
    largest = {column.task: column for column in sorted(usable, key=lambda column: column.images)}
    usable = [column for column in usable if largest[column.task] is column]
    usable = [column for column in usable if column.independent] or usable
    usable = [column for column in usable if column.taught] or usable
    return tuple(column for column in usable if column.groups >= RANKED_GROUPS) or tuple(usable)


def _shares(chosen: Selection, table: _Table, tops: Mapping[Column, Resampled]) -> dict[tuple[str, Column], Estimate]:
    """Shares of the way from twin to ceiling, where labels teach the task to an encoder like the method's."""
    found = {}
    for method in chosen.methods:
        for column, top in tops.items():
            if not method.twin and column.taught and method.size == chosen.ceilings[column].size:
                gained = difference(table.numbers, method.and_twin, column)
                if gained is not None:
                    above = ceilings.room(top, table.numbers[method.twin_variant, column])
                    found[method.variant, column] = estimate(ceilings.share(gained, above))
    return found


def _rows(
    methods: Sequence[Method],
    table: _Table,
    pairs: Sequence[Contrast] = (),
    shares: Mapping[tuple[str, Column], Estimate] | None = None,
) -> tuple[Row, ...]:
    """Rows by mean gain, twins last; with places where the contrasts between them are given."""
    gained = {one.variants[0]: one for one in table.gains}
    means = {variant: one.mean for variant, one in gained.items() if one.mean is not None}
    places = _places(means, pairs) if pairs else {}
    rows = []
    for method in methods:
        gains = gained[method.variant].entries if method.variant in gained else [None] * len(table.columns)
        entries = tuple(
            _entry(method, column, table, gain, (shares or {}).get((method.variant, column)))
            for column, gain in zip(table.columns, gains, strict=True)
        )
        tie_group, ranks = places.get(method.variant, UNRANKED)
        rows.append(
            Row(
                name=method.name,
                twin=method.twin,
                variant=method.variant,
                seeds=tuple(sorted(method.runs)),
                letters=tie_group,
                ranks=ranks,
                mean=_mean_entry(method, table, means.get(method.variant), entries),
                entries=entries,
                note=f"{len(method.diverged)} of {len(method.runs)} seeds diverged" if method.diverged else "",
                runs=tuple(method.runs[seed] for seed in sorted(method.runs)),
            )
        )
    return tuple(sorted(rows, key=lambda r: (r.twin, r.mean.gain is None, -(r.mean.gain.value if r.mean.gain else 0))))


def _mean_entry(method: Method, table: _Table, gain: Difference | None, entries: Sequence[Entry]) -> Entry:
    if method.twin:
        return Entry(note="the floor")
    if gain is not None:
        notes = _missing_seeds(method, gain.estimate.seeds)
        without = [column.title for column in table.undefined if column.chance is not None]
        notes += [f"without {', '.join(without)}: {UNDEFINED}"] if without else []
        return _gain_entry(gain, note=", ".join(notes))
    if not table.pooled:
        return Entry(missing="no task with a chance level")
    pairs = zip(table.columns, entries, strict=True)
    lacking = [column.title for column, one in pairs if column in table.pooled and one.gain is None]
    return Entry(missing=f"needs {', '.join(lacking)}" if lacking else "no seed with every task")


def _entry(method: Method, column: Column, table: _Table, gain: Difference | None, share: Estimate | None) -> Entry:
    number = table.numbers.get((method.variant, column))
    if number is None:
        gone = len(method.diverged) == len(method.runs)
        return Entry(missing="diverged in training" if gone else table.undefined.get(column, "not run yet"))
    notes, score = _missing_seeds(method, len(number.seeds)), estimate(number)
    if gain is None:
        notes += [] if method.twin else ["twin not run yet"]
        return Entry(score=score, note=", ".join(notes))
    return _gain_entry(gain, score=score, share=share, note=", ".join(notes))


def _missing_seeds(method: Method, seeds: int) -> list[str]:
    return [f"{seeds} of {len(method.runs)} seeds"] if seeds < len(method.runs) else []


def _gain_entry(gain: Difference, **others: object) -> Entry:
    return Entry(gain=gain.estimate, p=gain.p, shown=gain.shown, verdict=gain.verdict, family=gain.family, **others)


def _places(
    means: Mapping[str, Difference], pairs: Sequence[Contrast]
) -> dict[str, tuple[str, tuple[int, int] | None]]:
    """Tie group and ranks of the rows with a mean gain, where all have enough groups to be ranked.

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
    return dict(
        zip(order, zip(letters(len(order), ahead), rank_intervals(len(order), ahead), strict=True), strict=True)
    )
