"""The schema of everything that is stored, and the only code that knows where a row lies.

    results/local/<modality>/runs/<run>/      runs.parquet curves.parquet encoder.safetensors (decoder.safetensors)
    results/local/<modality>/cells/<cell>/    cells.parquet predictions.parquet fits.parquet leakage.parquet
    results/local/<modality>/baselines/<id>/  baselines.parquet predictions.parquet fits.parquet
    results/local/<modality>/ceilings/<id>/   ceilings.parquet predictions.parquet fits.parquet
    results/local/<modality>/trials/<trial>/  trials.parquet
    results/local/<modality>/locality/<id>/   locality.parquet
    results/local/<modality>/passports/<task>-<data>/       leakage.parquet; <task>-<data>-beside-<others>/ likewise,
                                                            <task>-<data>-pixels/ pixels.parquet
    results/published/<modality>/<track>/<run>-<weights>/   the same tables, packed by `promote`

Write-once: a directory is written under a temporary name and renamed; existence is completion, the first rename wins.
Every directory holds a seal, `seal.json`: the SHA-256 of each file, and of each column's content. Readers never write.
No torch.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmark.storage import scores, unfinished
from tasks.reading import folders

SCHEMA_VERSION = 3
SEAL = "seal.json"
ROWS = 65_536  # of a column, as Python's values at a time


class SchemaError(Exception):
    """A stored file that this version of the code cannot read. The message names the file and the remedy."""


class OtherVersion(SchemaError):
    """The file is sound, and another version of the code wrote it."""


def _schema(**columns: pa.DataType) -> pa.Schema:
    return pa.schema(list(columns.items()), metadata={"pretext_bench_schema": str(SCHEMA_VERSION)})


S, I, F, B = pa.string(), pa.int64(), pa.float64(), pa.bool_()  # noqa: E741

TABLES: dict[str, pa.Schema] = {
    "runs": _schema(
        run=S,  # key(recipe)
        recipe=S,  # canonical JSON of the recipe
        modality=S,
        corpus=S,
        corpus_digest=S,
        corpus_images=I,
        synthetic=B,  # the corpus is simulated
        track=S,
        pretext=S,
        pretext_version=I,
        seed=I,
        twin=S,  # run id of the twin; equal to `run` for a twin
        engine=I,
        budget_flops=F,
        expected_flops=F,  # steps × the pretext's formula
        realised_flops=F,  # formula × images actually seen
        steps=I,
        images_seen=I,
        seconds=F,  # wall time of all training sessions of this run
        peak_memory_bytes=I,
        energy_joules=F,  # null where not readable
        status=S,  # "finished" or "diverged"
        weights_sha256=S,
        commit=S,
        dirty=B,
        versions=S,  # JSON: python and packages
        device=S,
        threads=I,
        processes=I,
        compiled=B,  # torch.compile; null where it was not recorded
        micro=I,  # images of a process at once; null: all of its share of the batch, or not recorded
        created=S,  # UTC, ISO 8601
    ),
    "curves": _schema(run=S, step=I, progress=F, name=S, value=F),
    "trials": _schema(
        modality=S,
        track=S,
        pretext=S,  # "twin": the untrained encoder
        pretext_version=I,
        engine=I,
        settings=S,  # JSON
        seed=I,
        budget_flops=F,
        images_seen=I,
        seconds=F,
        task=S,
        score=F,  # AUROC of the linear probe on development test patients
    ),
    "fits": _schema(cell=S, repeat=I, fold=I, settings=S, metric=S, score=F, selected=B),
    "predictions": _schema(
        cell=S,
        sample=S,
        group=S,
        label=I,
        scores=pa.list_(F),  # one per class, as used by the metrics
        repeat=I,  # 0 under a fixed protocol
        fold=I,  # 0 under a fixed protocol
        readout=S,
        split_variant=S,  # "published", "clean", "cut" or "folds"
        fraction=F,  # of training groups
        shots=I,  # null unless few-shot
        draw=I,
        corruption=S,  # "" for the clean test set
        strength=I,
    ),
    "cells": _schema(
        cell=S,
        run=S,
        modality=S,
        corpus=S,
        corpus_digest=S,
        track=S,
        pretext=S,
        seed=I,
        twin=B,  # this cell belongs to a twin
        task=S,
        task_version=I,
        task_title=S,
        data=S,  # identity of the task's samples
        data_images=I,
        data_expected=I,  # of the complete dataset; null where unknown
        synthetic=B,
        classes=pa.list_(S),
        headline=B,  # this metric is the task's headline
        probe=S,
        probe_version=I,
        settings=S,
        readout=S,
        metric=S,
        value=F,
        groups=I,  # in the test set (all folds together)
        group_kind=S,
        family=S,  # dataset family, inside which a group's name means something
        independent=B,  # the groups are patients or slides
        samples=I,
        protocol=S,  # "published", "cut", "folds(k, repeats)" or "folds(k, repeats) of one half"
        leakage=S,  # "pass", "warn" or "unknown"
        weights_sha256=S,
        predictions_sha256=S,
        fits_sha256=S,
        leakage_sha256=S,
        created=S,
    ),
    "baselines": _schema(
        cell=S,  # id of the baseline on this task: the key of its predictions and fits
        baseline=S,  # "majority", "histogram" or "thumbnail"
        version=I,
        modality=S,
        task=S,
        task_version=I,
        data=S,
        pixels=I,  # side of the stored images
        policy=S,
        metric=S,
        headline=B,
        value=F,
        groups=I,
        samples=I,
        protocol=S,
        predictions_sha256=S,
        fits_sha256=S,
        created=S,
    ),
    "ceilings": _schema(
        cell=S,  # id of the ceiling on this task: the key of its predictions and fits
        family=S,  # images that its tasks share
        heads=S,  # JSON: names of the tasks that were learnt together
        modality=S,
        task=S,
        task_version=I,
        data=S,
        track=S,
        encoder=S,  # canonical JSON of its EncoderSpec
        pixels=I,  # side of the stored images
        policy=S,
        seed=I,
        budget_flops=F,  # of each model: one, or one a fold
        realised_flops=F,  # of each
        steps=I,  # of each
        images_seen=I,  # by each
        labels=I,  # distinct training images with a label in some head; by folds: mean of the models
        label_groups=I,  # distinct groups of those
        chosen=F,  # share of training at which validation was best; by folds: mean of the models
        metric=S,
        headline=B,
        value=F,
        groups=I,
        samples=I,
        protocol=S,  # "published", "clean", "cut" or "folds(k, 1)": of repeated folds the first repeat alone
        engine=I,
        version=I,
        seconds=F,  # wall time of the training of all models of the family
        device=S,
        threads=I,
        commit=S,
        dirty=B,
        versions=S,  # JSON: python and packages
        predictions_sha256=S,
        fits_sha256=S,
        created=S,
    ),
    "leakage": _schema(
        corpus_digest=S,  # "" in a passport: the task's own split alone
        task=S,
        data=S,
        between=S,  # "corpus and test", "train and test", "val and test", "train and val" or "groups" (folds)
        kind=S,  # "exact", "group" or "near"
        count=I,  # samples of the second side with a partner in the first; null: not looked for
        examples=S,  # JSON: the first of them
    ),
    "pixels": _schema(
        modality=S,
        task=S,
        data=S,  # identity of the task's samples
        images=I,  # that were looked at
        low=I,  # short side of the smallest, in pixels, as the files are here
        median=F,
        high=I,
        released=F,  # median short side of the owners' release, by the task; null where it is not stated
        created=S,
    ),
    "summaries": _schema(
        modality=S,
        track=S,
        corpus_digest=S,
        task=S,
        data=S,  # identity of the task's samples
        probe=S,
        runs=S,  # JSON: ids of the runs behind a point
        weights=S,  # JSON: SHA-256 of their encoders
        what=S,  # that is turned, see `leaderboards.boards.board.Series`
        kind=S,
        metric=S,
        level=F,  # labels, or strength of an alteration
        value=F,  # mean over seeds
        low=F,  # 95 % interval; null where there is none
        high=F,
        drop=F,  # clean minus altered, on the same samples; null where nothing is altered
        drop_low=F,
        drop_high=F,
        groups=I,
        seeds=I,
        created=S,
    ),
    "locality": _schema(
        modality=S,
        task=S,
        task_version=I,
        data=S,  # identity of the task's samples
        version=I,  # of the measurement
        value=F,  # (local - 1/2) / (full - 1/2); null where it is omitted because full is under .70
        low=F,  # 95 % interval over groups
        high=F,
        local=F,  # AUROC with a field of an eighth of the side
        full=F,  # AUROC with the full field
        groups=I,
        samples=I,
        created=S,
    ),
    "maps": _schema(
        run=S,
        weights_sha256=S,
        modality=S,
        task=S,
        task_version=I,
        data=S,  # identity of the task's samples
        version=I,  # of the maps' recipe
        public=B,  # whether the figures beside it may be shown on a public page
        sample=S,
        group=S,
        kind=S,  # "attention", "rollout" or "cosine"; "tokens" of what is about all of them
        control=S,  # "" for the encoder itself, "untrained" for the same architecture before training, "chance"
        score=S,  # see `benchmark.maps.maps`
        value=F,
        created=S,
    ),
    "ratings": _schema(
        pack=S,
        modality=S,
        task=S,
        reader=S,  # a code
        item=S,  # a screen of that reader
        question=S,  # "relevance", "spurious" or "choice"
        case=S,  # sample id
        group=S,
        arm=S,  # pretext, "untrained" or "another image"; of a choice: the left one
        run=S,  # "" of a control
        other=S,  # of a choice: the right one
        other_run=S,
        repeats=S,  # the item that this one shows again, or ""
        answer=F,  # 1 to 5; of a choice 1: left, 0: right; null: cannot judge
        seconds=F,
        created=S,
    ),
}

ADDED = {"runs": ("compiled", "micro"), "cells": ("family", "independent")}  # by schema 3


def table(name: str, rows: Iterable[Mapping[str, object]]) -> pa.Table:
    """Rows as the named table. Raises KeyError on an unknown table, ValueError on a missing or unknown column."""
    schema, rows = TABLES[name], list(rows)
    for row in rows:
        if set(row) != set(schema.names):
            raise ValueError(f"{name}: columns differ from the schema: {sorted(set(row) ^ set(schema.names))}")
    return pa.Table.from_pylist(rows, schema=schema)


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write(
    directory: Path,
    tables: Mapping[str, pa.Table],
    rows: Iterable[Mapping[str, object]] = (),
    *,
    sealed: str = "cells",
    files: Mapping[str, Path] | None = None,
) -> bool:
    """Store the tables, and copies of the files, as one directory that appears whole; False if it was there already.

    rows: of the table `sealed`, each given the SHA-256 of every sibling table.
    """
    if directory.exists():
        return False
    part = unfinished.beside(directory)
    part.mkdir(parents=True)
    try:
        for name, content in tables.items():
            pq.write_table(content, part / f"{name}.parquet", compression="zstd")
        for name, source in (files or {}).items():
            shutil.copyfile(source, part / name)
        if rows:
            seals = {f"{name}_sha256": sha256(part / f"{name}.parquet") for name in tables}
            content = table(sealed, [{**row, **seals} for row in rows])
            pq.write_table(content, part / f"{sealed}.parquet", compression="zstd")
        seal(part)
        os.rename(part, directory)
    except OSError:
        shutil.rmtree(part, ignore_errors=True)
        if directory.exists():
            return False
        raise
    return True


def seal(directory: Path) -> None:
    """Write the seal of a directory that is about to be renamed."""
    found = {path.name: {"sha256": sha256(path), "columns": _contents(path)} for path in sorted(directory.iterdir())}
    (directory / SEAL).write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def broken_seals(directory: Path) -> list[tuple[str, str, str, str]]:
    """(file, what, sealed, found) of everything that is not as sealed: the columns of a table that changed, a file that
    changed, a table that is missing. Raises SchemaError where there is no readable seal."""
    try:
        entries = json.loads((directory / SEAL).read_text(encoding="utf-8")).items()
        sealed = {
            str(name): (str(entry["sha256"]), {column: str(found) for column, found in entry["columns"].items()})
            for name, entry in entries
        }
    except (OSError, ValueError, AttributeError, TypeError, LookupError, RecursionError) as error:
        raise SchemaError(
            f"{directory / SEAL}: no readable seal ({error}); delete the directory and run again"
        ) from error
    wrong = []
    for name, (bytes_, columns) in sealed.items():
        path = directory / name
        if not path.exists():
            wrong += [(name, "file", "sealed", "missing")] * name.endswith(".parquet")
            continue
        if (found := sha256(path)) == bytes_:
            continue
        there = _contents(path)
        names = [column for column in columns if there.get(column) != columns[column]]
        wrong += [(name, f"column {c}", columns[c][:12], there.get(c, "missing")[:12]) for c in names]
        wrong += [(name, "bytes", bytes_[:12], found[:12])] * (not names)
    unknown = {path.name for path in directory.iterdir()} - set(sealed) - {SEAL}
    return wrong + [(name, "file", "not sealed", "there") for name in sorted(unknown)]


def _contents(path: Path) -> dict[str, str]:
    """SHA-256 of each column's content, however it is encoded; nothing for what is not a readable table."""
    try:
        rows = pq.read_table(path) if path.suffix == ".parquet" else pa.table({})
    except (OSError, ValueError, pa.ArrowException):
        return {}
    return {name: _content(rows[name]) for name in rows.column_names}


def _content(column: pa.ChunkedArray) -> str:
    """SHA-256 of a column as Python prints the list of its values, ROWS at a time."""
    found = hashlib.sha256(b"[")
    for start in range(0, len(column), ROWS):
        found.update(b", " * (start > 0) + repr(column.slice(start, ROWS).to_pylist())[1:-1].encode())
    found.update(b"]")
    return found.hexdigest()


def run_directory(root: Path, modality: str, run: str) -> Path:
    return root / modality / "runs" / run


def cell_directory(root: Path, modality: str, cell: str) -> Path:
    return root / modality / "cells" / cell


def baseline_directory(root: Path, modality: str, baseline: str) -> Path:
    return root / modality / "baselines" / baseline


def ceiling_directory(root: Path, modality: str, ceiling: str) -> Path:
    return root / modality / "ceilings" / ceiling


def read_file(path: Path, cell: str | None = None) -> pa.Table:
    """One stored table, or its rows of one cell, checked against the schema of its name. Raises SchemaError."""
    try:
        rows = _read(path) if cell is None else pq.read_table(path, filters=[("cell", "==", cell)])
    except (OSError, ValueError, pa.ArrowException) as error:
        raise SchemaError(
            f"{path}: not a readable Parquet file ({error}); delete its directory and run again"
        ) from error
    found = (rows.schema.metadata or {}).get(b"pretext_bench_schema", b"none").decode()
    if found not in (str(SCHEMA_VERSION), "2"):
        raise (OtherVersion if found.isdigit() else SchemaError)(
            f"{path}: schema version {found}, this code reads 2 and {SCHEMA_VERSION}; "
            "check out the release that wrote it, or move the file away and run again"
        )
    expected = TABLES[path.stem]
    added = ADDED.get(path.stem, ()) if found == "2" else ()
    stored = pa.schema([field for field in expected if field.name not in added])
    if not rows.schema.equals(stored):
        newer = all(field in rows.schema for field in stored)
        kind, more = (OtherVersion, "more columns than") if newer else (SchemaError, "other columns than")
        remedy = "check out the release that wrote it, or move the file away and run again"
        raise kind(f"{path}: {more} schema {found}: {rows.schema} instead of {stored}; {remedy}")
    rows = _upgraded(rows, path.stem, added)
    return scores.both(rows) if path.stem == "predictions" else rows


def _upgraded(rows: pa.Table, name: str, added: Iterable[str]) -> pa.Table:
    """Rows of schema 2 as rows of schema 3. Only of simulated patients did it say that groups are patients: for others
    a leakage check that found nothing is no pass."""
    schema = TABLES[name]
    columns = {field.name: rows[field.name] for field in schema if field.name not in added}
    for column in added:
        columns[column] = pa.nulls(len(rows), schema.field(column).type)
    if name == "cells" and added:
        columns["independent"] = rows["synthetic"]
        columns["family"] = pc.if_else(rows["synthetic"], "phantom", rows["task"])
        unknown = pc.and_(pc.invert(rows["synthetic"]), pc.equal(rows["leakage"], "pass"))
        columns["leakage"] = pc.if_else(unknown, "unknown", rows["leakage"])
    return pa.table([columns[field.name] for field in schema], schema=schema)


def _read(path: Path) -> pa.Table:
    with pq.ParquetFile(path) as file:
        return file.read(use_threads=False)


def directories(root: Path) -> list[Path]:
    """Every finished directory under root, in a stable order: those with a table, or with the seal of lost ones."""
    tables = {path.parent for name in TABLES for path in files(root, name)}
    return sorted(tables | {path.parent for path in named(root, SEAL)})


def files(root: Path, name: str) -> list[Path]:
    """Every stored file of a table under root, in a stable order; unfinished directories are not looked into."""
    return named(root, f"{name}.parquet")


def named(root: Path, name: str) -> list[Path]:
    """Every file of that name under root, links followed, hidden directories left out, in a stable order.

    Raises SchemaError for a directory that cannot be entered: what is in it would be taken for missing.
    """
    closed: dict[str, list[Path]] = {}
    found = []
    for directory, entries in folders.walk(root, closed, hidden=False) if root.exists() else ():
        if any(entry.name == name for entry in entries):
            found.append(directory / name)
    closed.pop(folders.LINKED, None)  # read under its own name
    for reason, directories in closed.items():
        raise SchemaError(f"{directories[0]}: {reason}; make it readable")
    return sorted(found)


def read(root: Path, name: str) -> pd.DataFrame:
    """All rows of a table under root, from every finished directory. Raises SchemaError."""
    from benchmark.storage import compaction

    return compaction.rows(root, name).drop_columns("directory").to_pandas()
