"""Secondary probes as they are published: the points of their series with intervals, computed where their predictions
are, which take megabytes a run and stay there: `results/published/<modality>/summaries/<track>-<content>/`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import product

import pandas as pd

from leaderboards.boards import series
from leaderboards.boards.board import Column, Series
from leaderboards.boards.contrasts import Line
from leaderboards.stats.statistics import Estimate

PROBES = ("efficiency", "fewshot", "robustness")
NOWHERE = float("nan")


def rows(lines: Sequence[Line], columns: Sequence[Column], index: series.Index) -> Iterator[dict[str, object]]:
    """Of the table `summaries`, but for what a whole board shares: every point of what these cells say."""
    created = datetime.now(UTC).isoformat(timespec="seconds")
    for line, column, probe in product(lines, columns, PROBES):
        cells = series.cells_of(line, column, probe, index)
        own = {place: row for place, row in index.items() if place[3] == probe}
        for one in series.measured([line], [column], own):
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


def stored(
    lines: Sequence[Line], columns: Sequence[Column], index: series.Index, published: pd.DataFrame
) -> tuple[Series, ...]:
    """The series that were published of these runs and encoders, where no predictions of theirs are at hand."""
    found = []
    pairs = zip(published["runs"].map(json.loads), published["weights"].map(json.loads), strict=True)
    encoders = [{*zip(runs, weights, strict=True)} for runs, weights in pairs]
    for line, column, probe in product(lines, columns, PROBES):
        if series.cells_of(line, column, probe, index):
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
    """As far as a point of a series is printed; what only comparisons need is not stored."""
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
