"""Recompute every stored number from what was observed, and name every difference."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmark import recipe as recipes
from benchmark.storage import results, schema, seals
from leaderboards.audit.directory import STORED, Examined, Problem, examine
from leaderboards.boards import store
from tasks import host

ALONE = 64  # directories that are not worth starting processes for
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
RUN_COLUMNS = ("modality", "corpus", "corpus_digest", "track", "pretext", "seed")  # that a cell repeats of its run
QUESTION = ("task", "task_version", "data", "probe", "probe_version", "settings", "readout")


@dataclass(frozen=True, kw_only=True)
class Report:
    root: Path
    files: int
    runs: int
    cells: int
    metrics: int
    verdicts: int  # of leakage
    stored: Mapping[str, int]  # rows of what is stored without the observations behind it
    unsealed: int  # directories written before there were seals
    problems: tuple[Problem, ...]
    rounded: tuple[Problem, ...]  # metrics that differ by no more than rounding: no problem

    def __str__(self) -> str:
        lines = [*map(str, self.problems), *(f"{one}: differs by rounding" for one in self.rounded)]
        if self.unsealed:
            lines.append(
                f"{self.root}: {self.unsealed} directories carry no seal: only what can be recomputed was checked"
            )
        found = f"{len(self.problems)} differences" if self.problems else "every number is as stored"
        lines.append(
            f"{self.root}: {self.files} files, {self.runs} runs, {self.cells} cells; {self.metrics} metrics with their "
            f"counts and {self.verdicts} leakage verdicts recomputed: {found}"
        )
        if kept := [f"{count} {name}" for name, count in self.stored.items() if count]:
            lines.append(f"{self.root}: stored, not recomputed, held by their seals alone: {', '.join(kept)}")
        return "\n".join(lines)


def verify(root: Path, processes: int | None = None, run: str = "") -> Report:
    """Check schemas, seals, hashes, metrics, counts, leakage verdicts, recipes, provenance, weights and twins of
    everything stored under root, or of one run, its twin and their cells alone, in as many processes as there are
    processors unless told. What the pages print is checked by `leaderboards.publish.printed`."""
    places = list(_about(results.directories(root), run)) if run else results.directories(root)
    seen = _examined(places, processes or os.cpu_count() or 1)
    runs = [row for one in seen for row in one.runs]
    cells = [row for one in seen for row in one.cells]
    problems = [problem for one in seen for problem in one.problems]
    problems += run_problems(runs)
    problems += _links(runs, cells)
    return Report(
        root=root,
        files=sum(one.files for one in seen),
        runs=len(runs),
        cells=len(cells),
        metrics=sum(one.metrics for one in seen),
        verdicts=sum(one.verdicts for one in seen),
        stored={what: sum(one.stored[what] for one in seen) for what in STORED.values()},
        unsealed=sum(not one.sealed for one in seen if one.files),
        problems=tuple(dict.fromkeys(problems)),
        rounded=tuple(problem for one in seen for problem in one.rounded),
    )


def _about(places: list[Path], run: str) -> Iterator[Path]:
    """Directories of a run, of its twin and of their cells; with those that cannot be read, as they may be of them."""
    held: dict[Path, dict] = {}
    for place in places:
        path = next((path for name in ("runs", "cells") if (path := place / f"{name}.parquet").exists()), None)
        try:
            held |= {place: results.read_file(path).to_pylist()[0]} if path else {}
        except (schema.SchemaError, IndexError):
            yield place
    twins = {row["twin"] for row in held.values() if row["run"] == run and isinstance(row["twin"], str)}
    yield from (place for place, row in held.items() if row["run"] in {run, *twins})


def _examined(places: list[Path], processes: int) -> list[Examined]:
    if processes == 1 or len(places) <= ALONE:
        return [examine(place) for place in places]
    return host.map_in_processes(examine, places, processes=processes, chunksize=16)


def run_problems(runs: list[tuple[Path, dict]]) -> list[Problem]:
    """What is wrong with rows of `runs`, each by itself."""
    return [problem for path, row in runs for problem in _run(path, row)]


def _run(path: Path, row: dict) -> Iterator[Problem]:
    """A run: its id is the hash of its recipe, its columns and its twin follow from it, its weights are those named."""
    try:
        recipe = store.recipe(row["recipe"], path)
    except schema.SchemaError as error:
        other = isinstance(error, schema.OtherVersion)
        yield Problem(path, "recipe", str(error), "not read", damage=not other)
        return
    expected = {"run": recipes.key(recipe), "twin": recipes.key(recipes.twin(recipe))}
    expected |= {column: getattr(recipe, field) for column, field in RECIPE_COLUMNS.items()}
    expected |= {column: getattr(recipe.corpus, field) for column, field in CORPUS_COLUMNS.items()}
    for column, value in expected.items():
        if row[column] != value:
            yield Problem(
                path, f"{column} of its recipe", str(row[column]), str(value), damage=recipe.engine == recipes.ENGINE
            )
    batch = getattr(recipe.settings, "batch", None)
    if row["status"] == "finished" and batch and row["images_seen"] != row["steps"] * batch:
        found = f"{row['steps']} steps of {batch}"
        yield Problem(path, "images_seen", str(row["images_seen"]), found)
    weights = path.parent / "encoder.safetensors"
    if weights.exists() and (found := seals.sha256(weights)) != row["weights_sha256"]:
        yield Problem(weights, "weights SHA-256", str(row["weights_sha256"]), found)


def _links(runs: list[tuple[Path, dict]], cells: list[tuple[Path, dict]]) -> Iterator[Problem]:
    """Every cell has its run, with the same weights; every run its twin; every cell the same cell of the twin."""
    weights: dict[str, set[str]] = {}
    rows = {row["run"]: row for _, row in runs}
    for path, row in runs:
        weights.setdefault(row["run"], set()).add(row["weights_sha256"])
        if row["twin"] not in rows and _has_floor(row):
            what = f"twin {row['twin']}"
            yield Problem(path, what, "named", "no such run: `make bench`", unfinished=True)
    asked = {(row["run"], *(row[name] for name in QUESTION)) for _, row in cells}
    for path, row in cells:
        run = rows.get(row["run"])
        if run is None:
            yield Problem(path, f"run {row['run']}", "named", "no such run")
            continue
        if (found := _cell_id(row, run["recipe"])) not in (row["cell"], None):
            yield Problem(path, "cell id", row["cell"], found)
        if row["weights_sha256"] not in weights[row["run"]]:
            found = " or ".join(sorted(map(str, weights[row["run"]])))
            yield Problem(path, "weights SHA-256", str(row["weights_sha256"]), found)
        for column in RUN_COLUMNS:
            if row[column] != run[column]:
                what = f"{column} of its run"
                yield Problem(path, what, str(row[column]), str(run[column]))
        if row["twin"] != (run["twin"] == row["run"]):
            yield Problem(path, "twin", str(row["twin"]), str(not row["twin"]))
        if (run["twin"], *(row[name] for name in QUESTION)) not in asked and _has_floor(run):
            what = f"twin's {row['task']}, {row['probe']}, {row['readout']}"
            found = "no such cell: `make bench`"
            yield Problem(path, what, "needed", found, unfinished=True)


def _has_floor(run: dict) -> bool:
    """Whether a run has a twin: all have but encoders from outside whose architecture cannot be drawn anew."""
    return run["pretext"] != recipes.EXTERNAL or '"floor":true' in run["recipe"]


def _cell_id(row: dict, text: str) -> str | None:
    """The id that the cell's own columns and its run's recipe give; None where the recipe cannot be read."""
    names = ("task", "task_version", "data", "probe", "probe_version", "readout")
    try:
        about = {name: row[name] for name in names} | {"settings": json.loads(row["settings"])}
        return recipes.key(recipes.Cell(recipe=store.recipe(text, ""), **about))
    except (schema.SchemaError, ValueError):
        return None
