"""Results on disk: the only code that knows where a row lies, writes one and reads it.

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
Every directory holds a seal (`seals`). Readers never write the truth: the rows of a large store are kept together in
`<root>/.compact/<table>.parquet`, from which a file that is new, of another size or of another time of change is read
again, and one that is gone is dropped; deleting that folder costs only time, and `verify` and `repair` do not look into
it. No torch.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmark.storage import scores, seals, temporary
from benchmark.storage.schema import ADDED, SCHEMA_VERSION, TABLES, OtherVersion, SchemaError, table
from tasks.reading import folders

if TYPE_CHECKING:
    import pandas as pd

COMPACTED_FROM = 1000  # files of a table; fewer are read as they are
COMPACTED = ".compact"
THREADS = 8
STAMP = pa.schema([("directory", pa.string()), ("changed", pa.int64()), ("size", pa.int64())])  # of a row's file


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
    part = temporary.beside(directory)
    part.mkdir(parents=True)
    try:
        for name, content in tables.items():
            pq.write_table(content, part / f"{name}.parquet", compression="zstd")
        for name, source in (files or {}).items():
            shutil.copyfile(source, part / name)
        if rows:
            hashes = {f"{name}_sha256": seals.sha256(part / f"{name}.parquet") for name in tables}
            content = table(sealed, [{**row, **hashes} for row in rows])
            pq.write_table(content, part / f"{sealed}.parquet", compression="zstd")
        seals.write(part)
        os.rename(part, directory)
    except OSError:
        shutil.rmtree(part, ignore_errors=True)
        if directory.exists():
            return False
        raise
    return True


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
    return scores.unpack(rows) if path.stem == "predictions" else rows


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
    return sorted(tables | {path.parent for path in named(root, seals.FILE)})


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
    return rows(root, name).drop_columns("directory").to_pandas()


def rows(root: Path, name: str) -> pa.Table:
    """Every row of the table under root, with a column `directory`, in the order of the files. Raises SchemaError."""
    paths = {str(path.parent.relative_to(root)): path for path in files(root, name)}
    stats = {directory: path.stat() for directory, path in paths.items()}
    stamps = {directory: (stat.st_mtime_ns, stat.st_size) for directory, stat in stats.items()}
    large = len(paths) >= COMPACTED_FROM
    kept = _compacted(root, name) if large else _empty(name)
    first = kept.select(STAMP.names).to_pandas().drop_duplicates("directory")
    known = {row.directory: (row.changed, row.size) for row in first.itertuples(index=False)}
    changed = [directory for directory in paths if known.get(directory) != stamps[directory]]
    if changed or known.keys() != paths.keys():
        with ThreadPoolExecutor(THREADS) as pool:
            read = list(pool.map(lambda one: _stamped(read_file(paths[one]), one, stamps[one]), changed))
        unchanged = kept.filter(pc.is_in(kept["directory"], pa.array(paths.keys() - set(changed), pa.string())))
        kept = pa.concat_tables([unchanged, *read])
        place = pc.index_in(kept["directory"], pa.array(paths.keys(), pa.string()))
        order = pa.table({"file": place, "row": pa.array(range(len(kept)))})
        kept = kept.take(pc.sort_indices(order, [("file", "ascending"), ("row", "ascending")]))
        if large:
            _compact(root, name, kept)
    directory = pc.binary_join_element_wise(str(root), kept["directory"], "/")
    return kept.drop_columns(STAMP.names).append_column("directory", directory)


def _stamped(table: pa.Table, directory: str, stamp: tuple[int, int]) -> pa.Table:
    for field, value in zip(STAMP, (directory, *stamp), strict=True):
        table = table.append_column(field, pa.repeat(pa.scalar(value, field.type), len(table)))
    return table


def _empty(name: str) -> pa.Table:
    return pa.schema([*TABLES[name], *STAMP], TABLES[name].metadata).empty_table()


def _compacted(root: Path, name: str) -> pa.Table:
    """The rows of `rows` at its last call, if they are of this version and readable."""
    try:
        table = pq.ParquetFile(root / COMPACTED / f"{name}.parquet").read()
    except (OSError, ValueError, pa.ArrowException):
        return _empty(name)
    wanted = _empty(name).schema
    same = table.schema.equals(wanted) and table.schema.metadata == wanted.metadata
    return table if same else _empty(name)


def _compact(root: Path, name: str, table: pa.Table) -> None:
    """For the next call; where the store may not be written to, that is no error."""
    target = root / COMPACTED / f"{name}.parquet"
    part = temporary.beside(target)
    try:
        target.parent.mkdir(exist_ok=True)
        pq.write_table(table, part, compression="zstd")
        os.replace(part, target)
    except OSError:
        part.unlink(missing_ok=True)


def find_run(run: str, root: Path) -> dict:
    """The row of the stored run whose id begins so. Raises ValueError where there is none, or more than one."""
    rows = read(root, "runs")
    rows = rows[rows.run.str.startswith(run)].drop_duplicates("run")
    if len(rows) != 1:
        known = ", ".join(sorted(read(root, "runs").run)[:8]) or "none"
        count = "no stored run begins" if rows.empty else f"{len(rows)} stored runs begin"
        raise ValueError(f"{root}: {count} with {run!r}; stored: {known}")
    return rows.iloc[0].to_dict()
