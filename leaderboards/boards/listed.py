"""Lists beside the published store: what came from outside, and which weights are release files."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from benchmark.storage.schema import SchemaError

SUBMITTED, RELEASED = "submitted.csv", "weights.csv"
COLUMNS = {
    SUBMITTED: ("directory", "by", "run_again"),
    RELEASED: ("file", "bytes", "sha256", "run", "weights_sha256"),  # as `python -m benchmark export` writes it
}


class Sent(NamedTuple):
    by: str
    run_again: str  # when, and by whom; "": by nobody

    def __str__(self) -> str:
        again = f"run again: {self.run_again}" if self.run_again else "nobody else has run it again"
        return f"submitted by {self.by}; {again}"


def read_submitted(published: Path) -> dict[str, Sent]:
    """Directory, relative to the published store -> who sent it. Raises SchemaError naming a line that says nothing."""
    found = {}
    for number, row in _read(published, SUBMITTED):
        if not row["directory"] or not (row["by"] or "").strip():
            raise SchemaError(f"{published.parent / SUBMITTED}, line {number}: needs a directory and who submitted it")
        found[row["directory"]] = Sent(row["by"].strip(), (row["run_again"] or "").strip())
    return found


def read_released(published: Path) -> dict[str, str]:
    """SHA-256 of weights -> the release file that holds them, and its own SHA-256. Raises SchemaError."""
    rows = (row for _, row in _read(published, RELEASED))
    return {row["weights_sha256"]: f"{row['file']} (SHA-256 {row['sha256']})" for row in rows}


def _read(published: Path, name: str) -> Iterator[tuple[int, dict[str, str]]]:
    path = published.parent / name
    if not path.exists():
        return
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        if tuple(reader.fieldnames or ()) != COLUMNS[name]:
            raise SchemaError(f"{path}: its columns are {reader.fieldnames}; they must be {', '.join(COLUMNS[name])}")
        for row in reader:
            yield reader.line_num, row
