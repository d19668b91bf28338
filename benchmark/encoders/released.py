"""Pretrained encoders of a store as release files, for people who have the pages and not the store.

OUT/<modality>-<corpus>-<track>-<pretext>-seed<N>-<run>.zip     what `export` writes, the same bytes every time
OUT/weights.csv                                                 their names, sizes and checksums
"""

from __future__ import annotations

import csv
import os
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

from benchmark.encoders.export import export
from benchmark.recipe import EXTERNAL
from benchmark.storage import results as store
from benchmark.storage import seals
from tasks.base import DataError

MANIFEST = "weights.csv"
COLUMNS = ("file", "bytes", "sha256", "run", "weights_sha256")
LONG_AGO = (1980, 1, 1, 0, 0, 0)  # the earliest time that a ZIP can hold


def release(results: Path, out: Path, say: Callable[[str], None]) -> Path:
    """Write every pretrained encoder of a store, and the table of them, which is returned.
    Raises DataError where nothing is pretrained, or weights are not those of their run."""
    runs, cells = store.read(results, "runs"), store.read(results, "cells")
    runs = runs[runs["pretext"].ne(EXTERNAL) & runs["budget_flops"].gt(0) & runs["weights_sha256"].ne("")]
    if runs.empty:
        raise DataError(f"{results}: no encoder is pretrained here; `make bench` pretrains some")
    out.mkdir(parents=True, exist_ok=True)
    rows = []
    for run in runs.sort_values(["modality", "corpus", "track", "pretext", "seed"]).to_dict("records"):
        name = "-".join(str(run[one]) for one in ("modality", "corpus", "track", "pretext"))
        path = out / f"{name}-seed{run['seed']}-{run['run']}.zip"
        weights = store.run_directory(results, run["modality"], run["run"]) / "encoder.safetensors"
        with tempfile.TemporaryDirectory(dir=out) as part:
            _pack(export(run, cells, weights, Path(part) / path.stem), Path(part) / path.name)
            os.replace(Path(part) / path.name, path)
        say(f"{path}: {path.stat().st_size:,} bytes")
        rows.append((path.name, path.stat().st_size, seals.sha256(path), run["run"], run["weights_sha256"]))
    with (out / MANIFEST).open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([COLUMNS, *rows])
    return out / MANIFEST


def _pack(folder: Path, path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for file in sorted(folder.iterdir()):
            about = zipfile.ZipInfo(f"{folder.name}/{file.name}", LONG_AGO)
            about.compress_type = zipfile.ZIP_DEFLATED
            packed.writestr(about, file.read_bytes())
