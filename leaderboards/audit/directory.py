"""One stored directory, checked on its own: schema, seal, hashes of siblings, metrics, counts, leakage verdicts.

What differs is of three kinds. A number off by more than rounding, or a file that is not as it was written, is damage.
A table, recipe or metric of another version is sound, and cannot be checked here. A metric within ROUNDING of what is
stored was computed by another processor or library: it is reported, and no problem.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa

from benchmark.metrics import METRICS, SEGMENTATION, fold_score
from benchmark.storage import results, schema, seals
from leaderboards.boards import store
from tasks import leakage

TOLERANCE = 1e-12  # of a metric computed again by the same formula on the same machine
ROUNDING = 1e-9  # relative: of a metric computed again on another processor, or with another version of a library
HASHED = ("predictions", "fits", "leakage")  # siblings whose SHA-256 a cell or baseline holds, where it does
PACKED = re.compile(r"([0-9a-f]{12})-([0-9a-f]{12})(\.\d+)?")  # name of a published directory: run, weights, part
STORED = {  # tables that hold no observations from which their values could be computed again
    "locality": "localities of tasks",
    "summaries": "points of summaries",
    "pixels": "sizes of images",
    "maps": "scores of maps",
    "fits": "validation scores of probe grids",
    "curves": "points of curves",
    "trials": "tuning trials",
}
PACKED_BYTES = 5_000_000  # a published run


@dataclass(frozen=True)
class Problem:
    file: Path
    what: str  # the metric or the column
    stored: str
    recomputed: str
    damage: bool = True  # else the file is sound: another version wrote it, or something lies beside it
    unfinished: bool = False  # what it names is still to be computed

    def __str__(self) -> str:
        return f"{self.file}: {self.what}: stored {self.stored}, recomputed {self.recomputed}"


@dataclass(kw_only=True)
class Examined:
    """What one directory holds, and what is wrong with it."""

    files: int = 0
    metrics: int = 0
    verdicts: int = 0  # of leakage
    stored: dict[str, int] = field(default_factory=lambda: dict.fromkeys(STORED.values(), 0))  # rows
    sealed: bool = False
    intact: bool = False  # every file is as it was sealed
    foreign: bool = False  # another version wrote a table of it
    runs: list[tuple[Path, dict]] = field(default_factory=list)
    cells: list[tuple[Path, dict]] = field(default_factory=list)  # one row per cell
    problems: list[Problem] = field(default_factory=list)
    rounded: list[Problem] = field(default_factory=list)  # metrics that differ by no more than rounding


def examine(directory: Path) -> Examined:
    """Read every table of a directory once, and recompute what can be recomputed from it alone."""
    seen, tables = Examined(), {}
    for name in schema.TABLES:
        path = directory / f"{name}.parquet"
        if path.exists():
            try:
                tables[name] = results.read_file(path)
                seen.files += 1
                if name in STORED:
                    seen.stored[STORED[name]] += len(tables[name])
            except schema.SchemaError as error:
                other = isinstance(error, schema.OtherVersion)
                seen.foreign |= other
                seen.problems.append(Problem(path, "schema", str(error), "not read", damage=not other))
    if seen.foreign:
        return seen
    if (directory / seals.FILE).exists():
        broken = list(_seal(directory))
        seen.sealed, seen.intact = True, not any(problem.damage for problem in broken)
        seen.problems += broken
    seen.runs = [(directory / "runs.parquet", row) for row in _rows(tables, "runs")]
    for path, row in seen.runs:
        seen.problems += _provenance(path, row)
    for name in ("cells", "baselines", "ceilings"):
        rows = _rows(tables, name)
        if not rows:
            continue
        path = directory / f"{name}.parquet"
        by_cell: dict[str, list[dict]] = {}
        for row in rows:
            by_cell.setdefault(row["cell"], []).append(row)
        if name == "cells":
            seen.cells = [(path, own[0]) for own in by_cell.values()]
            seen.problems += _leakage(seen, path, by_cell, tables.get("leakage"))
        seen.problems += _alike(path, by_cell)
        seen.problems += _siblings(path, rows)
        predictions = tables.get("predictions")
        if predictions is None:
            where = path.with_name("predictions.parquet")
            seen.problems.append(Problem(where, "predictions", "needed", "not read"))
            continue
        for cell, own in by_cell.items():
            seen.problems += _metrics(seen, path, cell, own, predictions)
    if packed := PACKED.fullmatch(directory.name):
        seen.problems += _packed(directory, packed[1], packed[2], seen)
    return seen


def _rows(tables: dict[str, pa.Table], name: str) -> list[dict]:
    return tables[name].to_pylist() if name in tables else []


def _seal(directory: Path) -> Iterator[Problem]:
    try:
        for name, what, stored, found in seals.broken(directory):
            stray = stored == "not sealed"
            what = f"{what} under its seal"
            yield Problem(directory / name, what, stored, found, damage=not stray)
    except schema.SchemaError as error:
        yield Problem(directory / seals.FILE, "seal", str(error), "not read")


def _provenance(path: Path, row: dict) -> Iterator[Problem]:
    """Who made a run, with what and when, in the form that a reader can act on."""

    def wrong(what: str, expected: str) -> Problem:
        return Problem(path, what, repr(row[what]), expected)

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
            yield Problem(path, f"cell {cell}", "a metric twice", "once")
        if sum(row["headline"] for row in rows) != 1:
            heads = [row["metric"] for row in rows if row["headline"]]
            yield Problem(path, f"headline of {cell}", str(heads), "one metric")
        for row in rows[1:]:
            for column in set(row) - own:
                if row[column] != rows[0][column]:
                    yield Problem(path, f"{column} of {cell}, {row['metric']}", str(row[column]), str(rows[0][column]))


def _leakage(seen: Examined, path: Path, by_cell: dict[str, list[dict]], table: pa.Table | None) -> Iterator[Problem]:
    """The verdict of a cell follows from the overlaps stored beside it, and from whether its groups are patients."""
    if table is None:
        where = path.with_name("leakage.parquet")
        yield Problem(where, "leakage", "needed", "not read")
        return
    stored = table.to_pylist()
    for cell, rows in by_cell.items():
        row = rows[0]
        about = tuple(row[name] for name in ("corpus_digest", "task", "data"))
        own = [one for one in stored if tuple(one[name] for name in ("corpus_digest", "task", "data")) == about]
        overlaps = (leakage.Overlap(one["kind"], one["count"], (), one["between"]) for one in own)
        seen.verdicts += 1
        found = leakage.verdict(overlaps, independent=row["independent"])
        if row["leakage"] != found:
            yield Problem(path, f"leakage of {cell}", str(row["leakage"]), found)


def _siblings(path: Path, rows: list[dict]) -> Iterator[Problem]:
    """The files beside a cell are the very ones it was written with."""
    for name in HASHED:
        if f"{name}_sha256" not in rows[0]:
            continue
        sibling = path.with_name(f"{name}.parquet")
        found = seals.sha256(sibling) if sibling.exists() else None
        for stored in {row[f"{name}_sha256"] or None for row in rows} - {found}:
            yield Problem(sibling, "SHA-256", str(stored), str(found))


def _metrics(seen: Examined, path: Path, cell: str, rows: list[dict], table: pa.Table) -> Iterator[Problem]:
    """Every metric of a cell, and the counts beside it; counted, and noted where it differs by rounding, in `seen`."""
    source = path.with_name("predictions.parquet")
    try:
        own = store.of_cell(table, cell, rows[0]["protocol"], source)
        counts = {"groups": len(np.unique(own.group)), "samples": len(np.unique(own.sample))}
        for row in rows:
            metric = row["metric"]
            for name, count in counts.items():
                if row[name] != count:
                    yield Problem(path, name, repr(row[name]), repr(count))
            if metric not in METRICS | SEGMENTATION:
                unknown = "not a metric of this version: check out the release that wrote it"
                yield Problem(path, metric, repr(row["value"]), unknown, damage=False)
                continue
            found = fold_score(metric, own.label, own.scores, own.repeat, own.fold)
            seen.metrics += 1
            if not _within(row["value"], found, TOLERANCE, 0.0):
                differs = Problem(path, metric, repr(row["value"]), repr(found))
                if _within(row["value"], found, TOLERANCE, ROUNDING):
                    seen.rounded.append(differs)
                else:
                    yield differs
    except (schema.SchemaError, ValueError) as error:
        yield Problem(source, f"cell {cell}", str(error), "not recomputed")


def _within(stored: float | None, found: float, absolute: float, relative: float) -> bool:
    if stored is None or math.isnan(stored):
        return math.isnan(found)
    return abs(stored - found) <= absolute + relative * abs(found)


def _packed(directory: Path, run: str, weights: str, seen: Examined) -> Iterator[Problem]:
    """A published directory is named after what it holds, small, and made from committed code."""
    rows = [*seen.runs, *seen.cells]
    for path, row in rows:
        if row["run"] != run or not (row["weights_sha256"] or "0" * 12).startswith(weights):
            found = f"{row['run']}-{(row['weights_sha256'] or '0' * 12)[:12]}"
            yield Problem(path, "run and weights in the folder's name", directory.name, found)
        for part, column in ((directory.parent, "track"), (directory.parent.parent, "modality")):
            if part.name != row[column]:
                yield Problem(path, f"{column} in the path", part.name, str(row[column]))
    for path, row in seen.runs:
        if row["dirty"] or row["commit"] == "unknown":
            stored = f"{row['commit']}{' with local changes' if row['dirty'] else ''}"
            yield Problem(path, "commit", stored, "a commit without local changes")
    size = sum(path.stat().st_size for path in directory.iterdir())
    if size > PACKED_BYTES:
        limit = f"at most {PACKED_BYTES:,} bytes"
        yield Problem(directory, "size", f"{size:,} bytes", limit)
