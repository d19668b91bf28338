"""The smoke track trained again: its headline numbers against those of the seeds in tests/smoke.json.

A number may differ from the stored one of its seed by TIMES the standard deviation over seeds, pooled over the rows of
one probe, readout and metric: with three seeds, the deviation of a single row is itself a matter of chance. It is about
.005 of AUROC; SSE instead of AVX-512, in torch, oneDNN and MKL, moved none of 72 numbers by more than .00001.
"""

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import pandas as pd

from benchmark import registry
from benchmark.device import machine
from benchmark.lab import goldens
from benchmark.lab.goldens import Moved
from benchmark.lab.reproduce import Comparison, name_version_to_bump
from benchmark.recipe import from_json, key
from benchmark.storage import results

FILE = machine.ROOT / "tests" / "smoke.json"
SEEDS = 3
TIMES = 0.25
ENVIRONMENT = {"PRETEXT_BENCH_PATIENTS": "240"} | goldens.HIDDEN  # fewer simulated patients, so that it takes a minute
QUESTION = ["modality", "pretext", "twin", "recipe", "task", "task_version", "data"]
QUESTION += ["probe", "probe_version", "readout", "metric"]
ALIKE = ["probe", "readout", "metric"]  # what one deviation is pooled over
REMEDY = "once that is meant, `make regression RECORD=1` stores what this code gives"


def train(folder: Path, cache: Path, seeds: int) -> pd.DataFrame:
    """Train and probe every pretext of the smoke track, by one thread; one row a number: QUESTION, seed and value."""
    (folder / "data").mkdir(parents=True)
    asked = {"track": "smoke", "corpus": "phantom", "pretext": ",".join(registry.names("pretexts")), "threads": 1}
    asked |= {"seeds": seeds, "ceilings": 0, "data": folder / "data", "results": folder / "results", "cache": cache}
    options = [word for name, value in asked.items() for word in (f"--{name}", str(value))]
    command = [sys.executable, "-m", "benchmark", "run", *options]
    done = subprocess.run(
        command,
        env=os.environ | ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        check=False,
    )
    if done.returncode:
        raise ValueError(f"the smoke track could not be run: {' '.join(command)}\n{done.stdout[-2000:]}")
    return read(folder / "results")


def read(root: Path) -> pd.DataFrame:
    """The headline numbers of a store; `recipe` is the hash of a run's recipe without its seed."""
    runs = results.read(root, "runs").drop_duplicates("run")
    recipes = {row.run: key(replace(from_json(row.recipe), seed=0)) for row in runs.itertuples()}
    cells = results.read(root, "cells")
    cells = cells[cells["headline"]].assign(recipe=cells["run"].map(recipes))
    return cells[[*QUESTION, "seed", "value"]].drop_duplicates([*QUESTION, "seed"])


def record(cache: Path) -> str:
    """Write what this code and machine give to FILE; what was written, in a line."""
    with tempfile.TemporaryDirectory() as folder:
        numbers = train(Path(folder), cache, SEEDS)
    wide = numbers.pivot(index=QUESTION, columns="seed", values="value").sort_index()
    made = {
        "command": "make regression RECORD=1",
        "machine": goldens.fingerprint(),
        "commit": machine.commit()[0],
        "environment": ENVIRONMENT,
        "seeds": SEEDS,
        "columns": QUESTION,
    }
    rows = [
        json.dumps([*index, values])
        for index, values in zip(wide.index.tolist(), wide.to_numpy().tolist(), strict=True)
    ]
    FILE.write_text(json.dumps({"made": made})[:-1] + ', "rows": [\n' + ",\n".join(rows) + "\n]}\n", encoding="utf-8")
    return f"{FILE.name}: {len(rows)} numbers of {SEEDS} seeds"


def stored(path: Path = FILE) -> pd.DataFrame:
    """One row a number: QUESTION, `values` of the seeds and `tolerance`."""
    table = pd.DataFrame([[*row[:-1], row[-1]] for row in json.loads(path.read_text(encoding="utf-8"))["rows"]])
    table.columns = [*QUESTION, "values"]
    variances = table["values"].map(lambda values: pd.Series(values).var())
    pooled = variances.groupby([table[name] for name in ALIKE]).transform("mean") ** 0.5
    return table.assign(tolerance=TIMES * pooled)


def compare(numbers: pd.DataFrame, table: pd.DataFrame) -> Comparison:
    """Numbers trained again (rows of `read`) against the stored ones of their seeds; largest in its tolerance first."""
    both = numbers.merge(table, on=QUESTION, how="outer", indicator=True)
    notes = [
        f"{FILE.name}: {len(rows)} numbers {what}: a version, recipe, task or probe is another; {REMEDY}"
        for side, what in (("left_only", "are not stored"), ("right_only", "were not computed again"))
        if len(rows := both[both["_merge"] == side])
    ]
    both = both[both["_merge"] == "both"]
    both = both.assign(
        stored=[values[seed] for values, seed in zip(both["values"], both["seed"].astype(int), strict=True)]
    )
    both["times"] = (both["value"] - both["stored"]).abs() / both["tolerance"]
    both["moved"] = ~(both["times"] <= 1)
    moved = [
        Moved(
            what=f"smoke {row.modality} {row.pretext}{' twin' if row.twin else ''} seed {int(row.seed)}: "
            f"{row.task}, {row.probe}, {row.readout}, {row.metric}",
            stored=row.stored,
            found=row.value,
            tolerance=row.tolerance,
            bump=name_version_to_bump(both, row),
        )
        for row in both[both["moved"]].sort_values("times", ascending=False).itertuples()
    ]
    return Comparison(len(both), moved, notes)
