"""How a metric changes as one thing is turned: the labels a probe may use, or how strongly test images are altered."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import product

import numpy as np
import pandas as pd

from leaderboards.boards import store
from leaderboards.boards.board import Column, Series
from leaderboards.boards.selection import Line
from leaderboards.stats.intervals import Estimate, estimate
from leaderboards.stats.resampling import Predictions, draw, minus, resample, shared_draws

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


SUMMARISED = ("efficiency", "fewshot", "robustness")


NOWHERE = float("nan")


def summaries(lines: Sequence[Line], columns: Sequence[Column], index: Index) -> Iterator[dict[str, object]]:
    """Of the table `summaries`, but for what a whole board shares: every point of what these cells say."""
    created = datetime.now(UTC).isoformat(timespec="seconds")
    for line, column, probe in product(lines, columns, SUMMARISED):
        cells = cells_of(line, column, probe, index)
        own = {place: row for place, row in index.items() if place[3] == probe}
        for one in measured([line], [column], own):
            drops = dict(one.drops)
            for level, point in one.points:
                drop = drops.get(level)
                yield {
                    "task": column.task,
                    "data": column.data,
                    "probe": probe,
                    "runs": json.dumps([row["run"] for row in cells.values()]),
                    "weights": json.dumps([row["weights_sha256"] for row in cells.values()]),
                    "what": one.what,
                    "kind": one.kind,
                    "metric": one.metric,
                    "level": level,
                    "value": point.value,
                    "low": point.low,
                    "high": point.high,
                    "drop": drop and drop.value,
                    "drop_low": drop and drop.low,
                    "drop_high": drop and drop.high,
                    "groups": point.groups,
                    "seeds": point.seeds,
                    "created": created,
                }


def summarised(
    lines: Sequence[Line], columns: Sequence[Column], index: Index, published: pd.DataFrame
) -> tuple[Series, ...]:
    """The series that were published of these runs and encoders, where no predictions of theirs are at hand."""
    found = []
    pairs = zip(published["runs"].map(json.loads), published["weights"].map(json.loads), strict=True)
    encoders = [{*zip(runs, weights, strict=True)} for runs, weights in pairs]
    for line, column, probe in product(lines, columns, SUMMARISED):
        if cells_of(line, column, probe, index):
            continue
        own = {*zip(line.runs.values(), line.weights, strict=True)}
        about = published[["task", "data", "probe"]].eq([column.task, column.data, probe]).all(axis=1)
        some = published[about & pd.Series([own >= behind for behind in encoders], published.index, dtype=bool)]
        some = some[some["seeds"].eq(some["seeds"].max())]
        for (what, kind), points in some.groupby(["what", "kind"], sort=False):
            newest = points.sort_values("created", kind="stable").drop_duplicates("level", keep="last")
            told = newest.sort_values("level").to_dict("records")
            found.append(
                Series(
                    name=f"untrained {line.name}" if line.twin else line.name,
                    task=column.title,
                    metric=told[0]["metric"],
                    what=what,
                    kind=kind,
                    points=tuple((one["level"], _estimate(one, "value", "low", "high", column)) for one in told),
                    drops=tuple(
                        (one["level"], _estimate(one, "drop", "drop_low", "drop_high", column))
                        for one in told
                        if pd.notna(one["drop"])
                    ),
                    summary=True,
                )
            )
    return tuple(found)


def _estimate(row: Mapping, value: str, low: str, high: str, column: Column) -> Estimate:
    """As far as a point of a series is printed; what only contrasts need is not stored."""
    return Estimate(
        value=float(row[value]),
        low=None if pd.isna(row[low]) else float(row[low]),
        high=None if pd.isna(row[high]) else float(row[high]),
        error=NOWHERE,
        freedom=NOWHERE,
        of_groups=NOWHERE,
        draws_undefined=0,
        draws=0,
        groups=int(row["groups"]),
        headroom=NOWHERE,
        seeds=int(row["seeds"]),
        independent=column.independent,
    )
