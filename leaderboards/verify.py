"""Recompute every stored number from what was observed, and name every difference."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from pathlib import Path

import numpy as np
import pyarrow as pa

from benchmark import recipe as recipes
from benchmark import results
from benchmark.metrics import METRICS, fold_score
from leaderboards import store

TOLERANCE = 1e-12
HELD = ("runs", "cells", "baselines")  # tables whose rows are gone through
HASHED = ("predictions", "fits", "leakage")  # siblings whose SHA-256 a cell or baseline holds, as far as it has them
RECIPE_COLUMNS = {  # column of `runs` -> field of the recipe
    "modality": "modality",
    "track": "track",
    "pretext": "pretext",
    "pretext_version": "pretext_version",
    "seed": "seed",
    "engine": "engine",
    "budget_flops": "budget",
}
CORPUS_COLUMNS = {"corpus": "name", "corpus_digest": "digest", "corpus_images": "images"}


@dataclass(frozen=True, kw_only=True)
class Problem:
    file: Path
    what: str  # the metric or the column
    stored: str
    recomputed: str

    def __str__(self) -> str:
        return f"{self.file}: {self.what}: stored {self.stored}, recomputed {self.recomputed}"


@dataclass(frozen=True, kw_only=True)
class Report:
    files: int
    runs: int
    cells: int
    metrics: int
    problems: tuple[Problem, ...]

    def __str__(self) -> str:
        found = f"{len(self.problems)} differences" if self.problems else "every number is as stored"
        head = f"{self.files} files, {self.runs} runs, {self.cells} cells, {self.metrics} metrics recomputed: {found}"
        return "\n".join([*map(str, self.problems), head])


def verify(root: Path) -> Report:
    """Check schemas, hashes, metrics, recipes, weights and twins of everything stored under root."""
    problems, tables = [], {}
    for name in results.TABLES:
        for path in results.files(root, name):
            try:
                tables[path] = results.read_file(path) if name in HELD else _checked(path)
            except results.SchemaError as error:
                problems.append(Problem(file=path, what="schema", stored=str(error), recomputed="not read"))
    runs = _rows(tables, "runs")
    cells = _rows(tables, "cells")
    problems += [problem for path, row in runs for problem in _run(path, row)]
    problems += _links(runs, cells)
    metrics = 0
    for path, here in groupby(cells + _rows(tables, "baselines"), key=itemgetter(0)):
        own = [row for _, row in here]
        problems += [*_siblings(path, own), *_metrics(path, own)]
        metrics += len(own)
    return Report(
        files=len(tables),
        runs=len(runs),
        cells=len({(path, row["cell"]) for path, row in cells}),
        metrics=metrics,
        problems=tuple(dict.fromkeys(problems)),
    )


def _checked(path: Path) -> None:
    """Read a table only to check it, so that its rows are not held."""
    results.read_file(path)


def _rows(tables: dict[Path, pa.Table | None], name: str) -> list[tuple[Path, dict]]:
    return [(path, row) for path, table in tables.items() if path.stem == name for row in table.to_pylist()]


def _run(path: Path, row: dict) -> Iterator[Problem]:
    """A run: its id is the hash of its recipe, its columns and its twin follow from it, its weights are those named."""
    try:
        recipe = store.recipe(row["recipe"], path)
    except results.SchemaError as error:
        yield Problem(file=path, what="recipe", stored=str(error), recomputed="not read")
        return
    expected = {"run": recipes.key(recipe), "twin": recipes.key(recipes.twin(recipe))}
    expected |= {column: getattr(recipe, field) for column, field in RECIPE_COLUMNS.items()}
    expected |= {column: getattr(recipe.corpus, field) for column, field in CORPUS_COLUMNS.items()}
    for column, value in expected.items():
        if row[column] != value:
            yield Problem(file=path, what=f"{column} of its recipe", stored=str(row[column]), recomputed=str(value))
    weights = path.parent / "encoder.safetensors"
    if weights.exists() and results.sha256(weights) != row["weights_sha256"]:
        found = results.sha256(weights)
        yield Problem(file=weights, what="weights SHA-256", stored=str(row["weights_sha256"]), recomputed=found)


def _links(runs: list[tuple[Path, dict]], cells: list[tuple[Path, dict]]) -> Iterator[Problem]:
    """Every cell has its run, with the same weights; every run its twin; every cell the same cell of the twin."""
    weights: dict[str, set[str]] = {}
    twins = {row["run"]: row["twin"] for _, row in runs}
    texts = {row["run"]: row["recipe"] for _, row in runs}
    for path, row in runs:
        weights.setdefault(row["run"], set()).add(row["weights_sha256"])
        if row["twin"] not in twins:
            yield Problem(file=path, what=f"twin {row['twin']}", stored="named", recomputed="no such run: `make bench`")
    question = ("task", "task_version", "data", "probe", "probe_version", "settings", "readout", "metric")
    asked = {(row["run"], *(row[name] for name in question)) for _, row in cells}
    for path, row in cells:
        if row["run"] not in weights:
            yield Problem(file=path, what=f"run {row['run']}", stored="named", recomputed="no such run")
            continue
        if (found := _cell_id(row, texts[row["run"]])) not in (row["cell"], None):
            yield Problem(file=path, what="cell id", stored=row["cell"], recomputed=found)
        if row["weights_sha256"] not in weights[row["run"]]:
            found = " or ".join(sorted(map(str, weights[row["run"]])))
            yield Problem(file=path, what="weights SHA-256", stored=str(row["weights_sha256"]), recomputed=found)
        if row["twin"] != (twins[row["run"]] == row["run"]):
            yield Problem(file=path, what="twin", stored=str(row["twin"]), recomputed=str(not row["twin"]))
        if (twins[row["run"]], *(row[name] for name in question)) not in asked:
            what = f"twin's {row['task']}, {row['probe']}, {row['readout']}"
            yield Problem(file=path, what=what, stored="needed", recomputed="no such cell: `make bench`")


def _cell_id(row: dict, recipe: str) -> str | None:
    """The id that the cell's own columns and its run's recipe give; None where the recipe cannot be read."""
    names = ("task", "task_version", "data", "probe", "probe_version", "readout")
    try:
        settings = json.loads(row["settings"])
        cell = recipes.Cell(recipe=store.recipe(recipe, ""), settings=settings, **{name: row[name] for name in names})
        return recipes.key(cell)
    except (results.SchemaError, ValueError):
        return None


def _siblings(path: Path, rows: list[dict]) -> Iterator[Problem]:
    """The files beside a cell are the very ones it was written with."""
    for name in HASHED:
        if f"{name}_sha256" not in rows[0]:
            continue
        sibling = path.with_name(f"{name}.parquet")
        found = results.sha256(sibling) if sibling.exists() else None
        for stored in {row[f"{name}_sha256"] or None for row in rows} - {found}:
            yield Problem(file=sibling, what="SHA-256", stored=str(stored), recomputed=str(found))


def _metrics(path: Path, rows: list[dict]) -> Iterator[Problem]:
    """Every metric, and the counts beside it, from the predictions."""
    source = path.with_name("predictions.parquet")
    try:
        table = results.read_file(source)
    except results.SchemaError as error:
        yield Problem(file=source, what="predictions", stored=str(error), recomputed="not read")
        return
    for cell, count in Counter(row["cell"] for row in rows).items():
        own = [row for row in rows if row["cell"] == cell]
        if count != len({row["metric"] for row in own}):
            yield Problem(file=path, what=f"cell {cell}", stored="a metric twice", recomputed="once")
        try:
            seen = store.of_cell(table, cell, own[0]["protocol"], source)
            counted = {"groups": len(np.unique(seen.group)), "samples": len(np.unique(seen.sample))}
            for row in own:
                counted[row["metric"]] = _recomputed(row["metric"], seen)
        except (results.SchemaError, ValueError) as error:
            yield Problem(file=source, what=f"cell {cell}", stored=str(error), recomputed="not recomputed")
            continue
        for row in own:
            for name, stored in (("groups", row["groups"]), ("samples", row["samples"]), (row["metric"], row["value"])):
                if not _same(stored, counted[name]):
                    yield Problem(file=path, what=name, stored=repr(stored), recomputed=repr(counted[name]))


def _recomputed(metric: str, seen: store.Predictions) -> float | str:
    if metric not in METRICS:
        return "not a metric of benchmark.metrics"
    return fold_score(metric, seen.label, seen.scores, seen.repeat, seen.fold)


def _same(stored: float | None, found: float | str) -> bool:
    if isinstance(found, str):
        return False
    if stored is None or math.isnan(stored):
        return math.isnan(found)
    return abs(stored - found) <= TOLERANCE
