"""How a metric changes as one thing is turned: the labels a probe may use, or how strongly test images are altered."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from leaderboards.audit.recount import shared_draws
from leaderboards.boards import store
from leaderboards.boards.board import Column, Series
from leaderboards.boards.contrasts import Line
from leaderboards.stats.statistics import Predictions, draw, estimate, minus, resample

LABELS = {  # probe -> (column of its predictions that is turned, how a page calls it)
    "efficiency": ("fraction", "share of the labelled groups"),
    "fewshot": ("shots", "labelled images of each class"),
}
ALTERED = {"robustness": "nuisance", "scale": "scale"}  # probe -> kind of its series
DRAWS = 200  # bootstrap draws behind a band of label budgets, which is drawn and not printed
Index = Mapping[tuple[str, str, str, str, str], Mapping]  # (run, task, data, probe, readout) -> row of `cells`


def measured(lines: Sequence[Line], columns: Sequence[Column], index: Index) -> tuple[Series, ...]:
    """Every series that the cells of a board hold, read from the mean of patch tokens."""
    found = []
    for line in lines:
        for column in columns:
            for probe, (name, what) in LABELS.items():
                rows = cells_of(line, column, probe, index)
                if rows:
                    found.append(_labels(line, column, rows, name, what))
            for probe in ALTERED:
                found += _altered(line, column, cells_of(line, column, probe, index), ALTERED[probe])
    return tuple(found)


def cells_of(line: Line, column: Column, probe: str, index: Index) -> dict[int, Mapping]:
    """Seed -> cell."""
    asked = {seed: index.get((run, column.task, column.data, probe, "patches")) for seed, run in line.runs.items()}
    return {seed: row for seed, row in sorted(asked.items()) if row is not None}


def _labels(line: Line, column: Column, rows: Mapping[int, Mapping], name: str, what: str) -> Series:
    first = next(iter(rows.values()))

    def read(row: Mapping, value: float) -> Predictions:
        return store.under(row["directory"], row["cell"], row["protocol"], name, value)

    values = store.conditions(first["directory"], first["cell"], name)
    return _series(line, column, what, "labels", values, lambda value: {s: read(row, value) for s, row in rows.items()})


def _altered(line: Line, column: Column, rows: Mapping[int, Mapping], kind: str) -> list[Series]:
    """A series per alteration, from strength 0: the clean images of the same samples."""
    found = []
    first = next(iter(rows.values()), None)
    asked = store.nuisances(first["directory"], first["cell"]) if first else []
    for corruption in sorted({name for name, _ in asked}):
        strengths = [strength for name, strength in asked if name == corruption]

        def read(strength: float, corruption: str = corruption, least: int = strengths[0]) -> dict[int, Predictions]:
            seen = {}
            for seed, row in rows.items():
                place = (row["directory"], row["cell"], row["protocol"])
                altered = store.corrupted(*place, corruption, int(strength or least))
                if altered is not None:
                    seen[seed] = altered if strength else _only(store.predictions(*place), altered)
            return seen

        found.append(_series(line, column, corruption, kind, [0, *strengths], read))
    return found


def _only(whole: Predictions, part: Predictions) -> Predictions:
    """The samples of `whole` that `part` holds."""
    kept = np.isin(whole.sample, part.sample)
    return replace(whole, **{name: values[kept] for name, values in vars(whole).items()})


def _series(
    line: Line,
    column: Column,
    what: str,
    kind: str,
    values: Sequence[float],
    read: Callable[[float], dict[int, Predictions]],
) -> Series:
    points, drops, first, altered = [], [], None, kind != "labels"
    for value in values:
        seen = read(value)
        if not seen:
            continue
        some = list(seen.values())
        draws = shared_draws(some[0]) if altered else draw(some[:1], DRAWS)
        number = resample(tuple(seen), some, column.metric, draws, column.independent)
        points.append((float(value), estimate(number)))
        first = first or number
        if altered and value:
            drops.append((float(value), estimate(minus(first, number))))
    return Series(
        name=f"untrained {line.name}" if line.twin else line.name,
        task=column.title,
        metric=column.metric,
        what=what,
        kind=kind,
        points=tuple(points),
        drops=tuple(drops),
    )
