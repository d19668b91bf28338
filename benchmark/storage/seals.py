"""The seal of a stored directory, `seal.json`: the SHA-256 of each file, and of each column's content.

What is published carries such seals, so the way a column is hashed stays."""

import hashlib
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from benchmark.storage.schema import SchemaError

FILE = "seal.json"
ROWS = 65_536  # of a column, as Python's values at a time


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write(directory: Path) -> None:
    """Write the seal of a directory that is about to be renamed."""
    found = {
        path.name: {"sha256": sha256(path), "columns": _column_hashes(path)} for path in sorted(directory.iterdir())
    }
    (directory / FILE).write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def broken(directory: Path) -> list[tuple[str, str, str, str]]:
    """(file, what, sealed, found) of everything that is not as sealed: the columns of a table that changed, a file that
    changed, a table that is missing. Raises SchemaError where there is no readable seal."""
    try:
        entries = json.loads((directory / FILE).read_text(encoding="utf-8")).items()
        sealed = {
            str(name): (str(entry["sha256"]), {column: str(found) for column, found in entry["columns"].items()})
            for name, entry in entries
        }
    except (OSError, ValueError, AttributeError, TypeError, LookupError, RecursionError) as error:
        raise SchemaError(
            f"{directory / FILE}: no readable seal ({error}); delete the directory and run again"
        ) from error
    wrong = []
    for name, (bytes_, columns) in sealed.items():
        path = directory / name
        if not path.exists():
            wrong += [(name, "file", "sealed", "missing")] * name.endswith(".parquet")
            continue
        if (found := sha256(path)) == bytes_:
            continue
        there = _column_hashes(path)
        names = [column for column in columns if there.get(column) != columns[column]]
        wrong += [(name, f"column {c}", columns[c][:12], there.get(c, "missing")[:12]) for c in names]
        wrong += [(name, "bytes", bytes_[:12], found[:12])] * (not names)
    unknown = {path.name for path in directory.iterdir()} - set(sealed) - {FILE}
    return wrong + [(name, "file", "not sealed", "there") for name in sorted(unknown)]


def _column_hashes(path: Path) -> dict[str, str]:
    """SHA-256 of each column's content, however it is encoded; nothing for what is not a readable table."""
    try:
        rows = pq.read_table(path) if path.suffix == ".parquet" else pa.table({})
    except (OSError, ValueError, pa.ArrowException):
        return {}
    return {name: hash_column(rows[name]) for name in rows.column_names}


def hash_column(column: pa.ChunkedArray) -> str:
    """SHA-256 of a column as Python prints the list of its values, ROWS at a time."""
    found = hashlib.sha256(b"[")
    for start in range(0, len(column), ROWS):
        found.update(b", " * (start > 0) + repr(column.slice(start, ROWS).to_pylist())[1:-1].encode())
    found.update(b"]")
    return found.hexdigest()
