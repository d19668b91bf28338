"""How a metric changes as one thing is turned: the labels a probe may use, or how strongly test images are altered.

Published stores hold the points of most series alone (`summaries`): their predictions take megabytes a run and stay
where they were computed; `results/published/<modality>/summaries/<track>-<content>/`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import product

import numpy as np
import pandas as pd

from leaderboards.boards import store
from leaderboards.boards.board import Column, Series
from leaderboards.boards.selection import Index, Method, cells_of, place
from leaderboards.stats.intervals import Estimate, estimate
from leaderboards.stats.resampling import Predictions, cached_draws, draw_groups, resample, subtract

LABELS = {  # probe -> (column of its predictions that is turned, how a page calls it)
    "efficiency": ("fraction", "share of the labelled groups"),
    "fewshot": ("shots", "labelled images of each class"),
}
ALTERED = {"robustness": "nuisance", "scale": "scale"}  # probe -> kind of its series
SUMMARISED = (*LABELS, "robustness")  # probes whose series are published as summaries
DRAWS = 200  # bootstrap draws behind a band of label budgets, which is drawn and not printed


def read(
    methods: Sequence[Method], columns: Sequence[Column], index: Index, probes: Sequence[str] = (*LABELS, *ALTERED)
) -> tuple[Series, ...]:
    """Every series that the cells of a board hold, read from the mean of patch tokens."""
    found = []
    for method, column, probe in product(methods, columns, probes):
        cells = cells_of(method, column, index, probe)
        if cells:
            found += (_of_labels if probe in LABELS else _of_alterations)(method, column, probe, cells)
    return tuple(found)


def _of_labels(method: Method, column: Column, probe: str, cells: Mapping[int, Mapping]) -> list[Series]:
    (name, what), first = LABELS[probe], next(iter(cells.values()))
    conditions = [
        (value, {seed: store.predictions_under(*place(cell), name, value) for seed, cell in cells.items()})
        for value in store.list_levels(first["directory"], first["cell"], name)
    ]
    return [_series(method, column, what, "labels", conditions)]


def _of_alterations(method: Method, column: Column, probe: str, cells: Mapping[int, Mapping]) -> list[Series]:
    """A series per alteration, from strength 0: the clean images of the same samples."""
    first, strengths = next(iter(cells.values())), {}
    for corruption, strength in store.list_corruptions(first["directory"], first["cell"]):
        strengths.setdefault(corruption, []).append(strength)
    found = []
    for corruption, levels in strengths.items():
        conditions = [(0, _clean(cells, corruption, levels[0]))]
        conditions += [(level, _altered(cells, corruption, level)) for level in levels]
        found.append(_series(method, column, corruption, ALTERED[probe], conditions))
    return found


def _altered(cells: Mapping[int, Mapping], corruption: str, strength: int) -> dict[int, Predictions]:
    """Seed -> predictions, of the seeds that have any."""
    seen = {seed: store.predictions_corrupted(*place(cell), corruption, strength) for seed, cell in cells.items()}
    return {seed: one for seed, one in seen.items() if one is not None}


def _clean(cells: Mapping[int, Mapping], corruption: str, strength: int) -> dict[int, Predictions]:
    """The same samples as they are."""
    found = {}
    for seed, altered in _altered(cells, corruption, strength).items():
        whole = store.predictions(*place(cells[seed]))
        kept = np.isin(whole.sample, altered.sample)
        found[seed] = replace(whole, **{name: values[kept] for name, values in vars(whole).items()})
    return found


def _series(
    method: Method,
    column: Column,
    what: str,
    kind: str,
    conditions: Iterable[tuple[float, Mapping[int, Predictions]]],
) -> Series:
    """conditions: (level, seed -> predictions), the first of them what drops are measured from."""
    points, drops, first, altered = [], [], None, kind != "labels"
    for level, seen in conditions:
        if not seen:
            continue
        predictions = list(seen.values())
        draws = cached_draws(predictions[0]) if altered else draw_groups(predictions[:1], draws=DRAWS)
        number = resample(tuple(seen), predictions, column.metric, draws, column.independent)
        points.append((float(level), estimate(number)))
        first = first or number
        if altered and level:
            drops.append((float(level), estimate(subtract(first, number))))
    return Series(
        name=method.label,
        task=column.title,
        metric=column.metric,
        what=what,
        kind=kind,
        points=tuple(points),
        drops=tuple(drops),
    )


def summaries(methods: Sequence[Method], columns: Sequence[Column], index: Index) -> Iterator[dict[str, object]]:
    """Of the table `summaries`, but for what a whole board shares: every point of what these cells say."""
    created = datetime.now(UTC).isoformat(timespec="seconds")
    for method, column, probe in product(methods, columns, SUMMARISED):
        cells = cells_of(method, column, index, probe)
        for one in read([method], [column], index, [probe]):
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


def read_summaries(
    methods: Sequence[Method], columns: Sequence[Column], index: Index, published: pd.DataFrame
) -> tuple[Series, ...]:
    """The series that were published of these runs and encoders, where no predictions of theirs are at hand."""
    found = []
    pairs = zip(published["runs"].map(json.loads), published["weights"].map(json.loads), strict=True)
    encoders = [{*zip(runs, weights, strict=True)} for runs, weights in pairs]
    for method, column, probe in product(methods, columns, SUMMARISED):
        if cells_of(method, column, index, probe):
            continue
        own = {*zip(method.runs.values(), method.weights, strict=True)}
        about = published[["task", "data", "probe"]].eq([column.task, column.data, probe]).all(axis=1)
        some = published[about & pd.Series([own >= behind for behind in encoders], published.index, dtype=bool)]
        some = some[some["seeds"].eq(some["seeds"].max())]
        for (what, kind), points in some.groupby(["what", "kind"], sort=False):
            newest = points.sort_values("created", kind="stable").drop_duplicates("level", keep="last")
            told = newest.sort_values("level").to_dict("records")
            found.append(
                Series(
                    name=method.label,
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
        groups=int(row["groups"]),
        seeds=int(row["seeds"]),
        independent=column.independent,
    )
