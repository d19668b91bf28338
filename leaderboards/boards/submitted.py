"""What came from outside: who sent it, and whether somebody else has run it again."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import NamedTuple

from benchmark.storage.schema import SchemaError

FILE = "submitted.csv"  # beside the published store
COLUMNS = ("directory", "by", "run_again")


class Sent(NamedTuple):
    by: str
    run_again: str  # when, and by whom; "": by nobody

    def __str__(self) -> str:
        again = f"run again: {self.run_again}" if self.run_again else "nobody else has run it again"
        return f"submitted by {self.by}; {again}"


def read_submitted(published: Path) -> dict[str, Sent]:
    """Directory, relative to the published store -> who sent it. Raises SchemaError naming a line that says nothing."""
    path = published.parent / FILE
    if not path.exists():
        return {}
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        if tuple(reader.fieldnames or ()) != COLUMNS:
            raise SchemaError(f"{path}: its columns are {reader.fieldnames}; they must be {', '.join(COLUMNS)}")
        found = {}
        for row in reader:
            if not row["directory"] or not (row["by"] or "").strip():
                raise SchemaError(f"{path}, line {reader.line_num}: needs a directory and who submitted it")
            found[row["directory"]] = Sent(row["by"].strip(), (row["run_again"] or "").strip())
        return found
