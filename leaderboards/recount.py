"""One stored directory, checked on its own: schema, seal, hashes of siblings, metrics, intervals, leakage verdicts."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa

from benchmark import results
from benchmark.metrics import METRICS, SEGMENTATION, fold_resampled, fold_score
from leaderboards import statistics, store
from leaderboards.statistics import INTERVAL_GROUPS, Draws, Predictions
from tasks import leakage

TOLERANCE = 1e-12  # of a metric computed again by the same formula
FAST_TOLERANCE = 1e-9  # of its bootstrap form, which sums in another order
HASHED = ("predictions", "fits", "leakage")  # siblings whose SHA-256 a cell or baseline holds, where it does
PACKED = re.compile(r"([0-9a-f]{12})-([0-9a-f]{12})(\.\d+)?")  # name of a published directory: run, weights, part
SHARED = 24  # test sets whose draws are kept: a few MB each
PACKED_BYTES = 5_000_000  # a published run


@dataclass(frozen=True, kw_only=True)
class Problem:
    file: Path
    what: str  # the metric or the column
    stored: str
    recomputed: str

    def __str__(self) -> str:
        return f"{self.file}: {self.what}: stored {self.stored}, recomputed {self.recomputed}"


@dataclass(kw_only=True)
class Examined:
    """What one directory holds, and what is wrong with it."""

    files: int = 0
    metrics: int = 0
    intervals: int = 0
    sealed: bool = False
    runs: list[tuple[Path, dict]] = field(default_factory=list)
    cells: list[tuple[Path, dict]] = field(default_factory=list)  # one row per cell
    problems: list[Problem] = field(default_factory=list)


def examine(directory: Path) -> Examined:
    """Read every table of a directory once, and recompute what can be recomputed from it alone."""
    seen, tables = Examined(), {}
    for name in results.TABLES:
        path = directory / f"{name}.parquet"
        if path.exists():
            try:
                tables[name] = results.read_file(path)
                seen.files += 1
            except results.SchemaError as error:
                seen.problems.append(Problem(file=path, what="schema", stored=str(error), recomputed="not read"))
    if seen.files and (directory / results.SEAL).exists():
        seen.sealed = True
        seen.problems += _seal(directory)
    seen.runs = [(directory / "runs.parquet", row) for row in _rows(tables, "runs")]
    for path, row in seen.runs:
        seen.problems += _provenance(path, row)
    for name in ("cells", "baselines"):
        rows = _rows(tables, name)
        if not rows:
            continue
        path = directory / f"{name}.parquet"
        by_cell: dict[str, list[dict]] = {}
        for row in rows:
            by_cell.setdefault(row["cell"], []).append(row)
        if name == "cells":
            seen.cells = [(path, own[0]) for own in by_cell.values()]
            seen.problems += _alike(path, by_cell)
            seen.problems += _leakage(path, by_cell, tables.get("leakage"))
        seen.problems += _siblings(path, rows)
        predictions = tables.get("predictions")
        if predictions is None:
            where = path.with_name("predictions.parquet")
            seen.problems.append(Problem(file=where, what="predictions", stored="needed", recomputed="not read"))
            continue
        for cell, own in by_cell.items():
            found, intervals = _metrics(path, cell, own, predictions)
            seen.problems += found
            seen.metrics += len(own)
            seen.intervals += intervals
    if packed := PACKED.fullmatch(directory.name):
        seen.problems += _packed(directory, packed[1], packed[2], seen)
    return seen


def _rows(tables: dict[str, pa.Table], name: str) -> list[dict]:
    return tables[name].to_pylist() if name in tables else []


def _seal(directory: Path) -> Iterator[Problem]:
    try:
        for name, what, stored, found in results.broken_seals(directory):
            yield Problem(file=directory / name, what=f"{what} under its seal", stored=stored, recomputed=found)
    except results.SchemaError as error:
        yield Problem(file=directory / results.SEAL, what="seal", stored=str(error), recomputed="not read")


def _provenance(path: Path, row: dict) -> Iterator[Problem]:
    """Who made a run, with what and when, in the form that a reader can act on."""

    def wrong(what: str, expected: str) -> Problem:
        return Problem(file=path, what=what, stored=repr(row[what]), recomputed=expected)

    if row["status"] not in ("finished", "diverged"):
        yield wrong("status", "finished or diverged")
    if row["status"] == "finished" and not re.fullmatch("[0-9a-f]{64}", row["weights_sha256"] or ""):
        yield wrong("weights_sha256", "64 hexadecimal digits")
    if not re.fullmatch("[0-9a-f]{7,40}|unknown", row["commit"] or ""):
        yield wrong("commit", "a commit")
    try:
        versions = json.loads(row["versions"])
        if not {"python", "torch"} <= set(versions):
            yield wrong("versions", "python and torch at least")
    except (TypeError, ValueError):
        yield wrong("versions", "a JSON object")
    try:
        datetime.fromisoformat(row["created"])
    except (TypeError, ValueError):
        yield wrong("created", "a time in ISO 8601")
    for name in ("seconds", "steps", "images_seen", "expected_flops", "realised_flops"):
        if row[name] is not None and not (math.isfinite(row[name]) and row[name] >= 0):
            yield wrong(name, "finite and not negative")


def _alike(path: Path, by_cell: dict[str, list[dict]]) -> Iterator[Problem]:
    """The rows of a cell differ in their metric alone, each of which is there once; one of them is the headline."""
    own = {"metric", "value", "headline"}
    for cell, rows in by_cell.items():
        names = [row["metric"] for row in rows]
        if len(names) != len(set(names)):
            yield Problem(file=path, what=f"cell {cell}", stored="a metric twice", recomputed="once")
        if sum(row["headline"] for row in rows) != 1:
            heads = [row["metric"] for row in rows if row["headline"]]
            yield Problem(file=path, what=f"headline of {cell}", stored=str(heads), recomputed="one metric")
        for row in rows[1:]:
            for column in set(row) - own:
                if row[column] != rows[0][column]:
                    yield Problem(
                        file=path,
                        what=f"{column} of {cell}, {row['metric']}",
                        stored=str(row[column]),
                        recomputed=str(rows[0][column]),
                    )


def _leakage(path: Path, by_cell: dict[str, list[dict]], table: pa.Table | None) -> Iterator[Problem]:
    """The verdict of a cell follows from the overlaps stored beside it, and from whether its groups are patients."""
    if table is None:
        where = path.with_name("leakage.parquet")
        yield Problem(file=where, what="leakage", stored="needed", recomputed="not read")
        return
    stored = table.to_pylist()
    for cell, rows in by_cell.items():
        row = rows[0]
        about = tuple(row[name] for name in ("corpus_digest", "task", "data"))
        own = [one for one in stored if tuple(one[name] for name in ("corpus_digest", "task", "data")) == about]
        overlaps = (leakage.Overlap(one["kind"], one["count"], (), one["between"]) for one in own)
        found = leakage.verdict(overlaps, independent=row["independent"])
        if row["leakage"] != found:
            yield Problem(file=path, what=f"leakage of {cell}", stored=str(row["leakage"]), recomputed=found)


def _siblings(path: Path, rows: list[dict]) -> Iterator[Problem]:
    """The files beside a cell are the very ones it was written with."""
    for name in HASHED:
        if f"{name}_sha256" not in rows[0]:
            continue
        sibling = path.with_name(f"{name}.parquet")
        found = results.sha256(sibling) if sibling.exists() else None
        for stored in {row[f"{name}_sha256"] or None for row in rows} - {found}:
            yield Problem(file=sibling, what="SHA-256", stored=str(stored), recomputed=str(found))


def _metrics(path: Path, cell: str, rows: list[dict], table: pa.Table) -> tuple[list[Problem], int]:
    """Every metric, the counts beside it, and the intervals of the headline and the AUROC; (problems, intervals)."""
    source = path.with_name("predictions.parquet")
    problems, intervals = [], 0

    def wrong(what: str, stored: object, found: object) -> None:
        problems.append(Problem(file=path, what=what, stored=repr(stored), recomputed=repr(found)))

    try:
        seen = store.of_cell(table, cell, rows[0]["protocol"], source)
        groups, samples = len(np.unique(seen.group)), len(np.unique(seen.sample))
        for row in rows:
            metric = row["metric"]
            if metric not in METRICS | SEGMENTATION:
                wrong(metric, row["value"], "not a metric of benchmark.metrics")
                continue
            found = fold_score(metric, seen.label, seen.scores, seen.repeat, seen.fold)
            if row["groups"] != groups:
                wrong("groups", row["groups"], groups)
            if row["samples"] != samples:
                wrong("samples", row["samples"], samples)
            if not _same(row["value"], found):
                wrong(metric, row["value"], found)
            if (row["headline"] or metric == "auroc") and math.isfinite(found):
                for what, expected, got in _interval(metric, found, groups, seen):
                    wrong(f"{metric}, {what}", expected, got)
                intervals += 1
    except (results.SchemaError, ValueError) as error:
        problems.append(Problem(file=source, what=f"cell {cell}", stored=str(error), recomputed="not recomputed"))
    return problems, intervals


def _interval(metric: str, value: float, groups: int, seen: Predictions) -> Iterator[tuple[str, object, object]]:
    """The interval as a board draws it, and its fast form with every group once, which must be the metric itself."""
    draws = shared_draws(seen)
    place = np.searchsorted(draws.groups, seen.group)
    once = np.ones((1, len(draws.groups)))
    fast, _ = fold_resampled(metric, seen.label, seen.scores, place, seen.repeat, seen.fold, once)
    if abs(fast[0] - value) > FAST_TOLERANCE:
        yield "every group drawn once", value, float(fast[0])
    estimate = statistics.estimate(statistics.resample((0,), [seen], metric, draws))
    if groups >= INTERVAL_GROUPS:
        bounds = (estimate.low, estimate.high)
        if 0 < value < 1 and (
            None in bounds or not (math.isfinite(bounds[0]) and math.isfinite(bounds[1]) and bounds[0] <= bounds[1])
        ):
            yield "interval", "needed", bounds


_shared: dict[bytes, Draws] = {}  # by test set: all cells of a task share their draws


def shared_draws(seen: Predictions) -> Draws:
    name = hashlib.sha256("\0".join(seen.group).encode() + seen.label.tobytes()).digest()
    if name not in _shared:
        if len(_shared) >= SHARED:
            del _shared[next(iter(_shared))]
        _shared[name] = statistics.draw([seen])
    return _shared[name]


def _packed(directory: Path, run: str, weights: str, seen: Examined) -> Iterator[Problem]:
    """A published directory is named after what it holds, small, and made from committed code."""
    rows = [*seen.runs, *seen.cells]
    for path, row in rows:
        if row["run"] != run or not (row["weights_sha256"] or "0" * 12).startswith(weights):
            found = f"{row['run']}-{(row['weights_sha256'] or '0' * 12)[:12]}"
            yield Problem(
                file=path, what="run and weights in the folder's name", stored=directory.name, recomputed=found
            )
        for part, column in ((directory.parent, "track"), (directory.parent.parent, "modality")):
            if part.name != row[column]:
                yield Problem(file=path, what=f"{column} in the path", stored=part.name, recomputed=str(row[column]))
    for path, row in seen.runs:
        if row["dirty"] or row["commit"] == "unknown":
            stored = f"{row['commit']}{' with local changes' if row['dirty'] else ''}"
            yield Problem(file=path, what="commit", stored=stored, recomputed="a commit without local changes")
    size = sum(path.stat().st_size for path in directory.iterdir())
    if size > PACKED_BYTES:
        limit = f"at most {PACKED_BYTES:,} bytes"
        yield Problem(file=directory, what="size", stored=f"{size:,} bytes", recomputed=limit)


def _same(stored: float | None, found: float) -> bool:
    if stored is None or math.isnan(stored):
        return math.isnan(found)
    return abs(stored - found) <= TOLERANCE
