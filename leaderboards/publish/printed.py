"""What the pages print, against what the store gives: every file of a site is made again in memory and compared.

Tables and the data of figures are compared cell by cell, scripts value by value, pages and figures line by line, so
that a changed digit is named with its place. Frozen releases are left alone.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, islice, zip_longest
from pathlib import Path, PurePath
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from leaderboards.boards import aggregate
from leaderboards.boards.board import Board
from leaderboards.export import board_tables
from leaderboards.publish import releases, site

SHOWN = 10  # differences of a file that a report lists
AROUND = 50  # characters of a line before and after a difference
KINDS = {
    ".html": "HTML pages",
    ".md": "Markdown boards",
    ".csv": "tables and data of figures (CSV)",
    ".parquet": "Parquet tables",
    ".js": "scripts",
    ".tex": "LaTeX tables",
    ".bib": "BibTeX entries",
    ".xml": "feeds",
    ".svg": "figures",
}


class Misprint(NamedTuple):
    """A place where a site does not say what the store gives."""

    file: Path
    where: str  # row and column, path of a value, or line
    printed: str
    recomputed: str

    def __str__(self) -> str:
        return f"{self.file}: {self.where}: printed {self.printed}, recomputed {self.recomputed}"


@dataclass(frozen=True, kw_only=True)
class Printed:
    folder: Path
    results: Path
    boards: tuple[str, ...]
    numbers: Mapping[str, int]  # what -> how many, in the tables of the boards and of the compare page
    files: Mapping[str, int]  # kind -> how many were compared
    misprints: tuple[Misprint, ...]

    def __str__(self) -> str:
        lines = []
        for _, found in groupby(self.misprints, key=lambda one: one.file):
            every = list(found)
            lines += map(str, every[:SHOWN])
            lines += [f"{every[0].file}: {len(every) - SHOWN} more differences"] * (len(every) > SHOWN)
        lines.append(
            f"{self.folder}: {len(self.boards)} boards of {self.results}; recomputed from predictions: "
            f"{_counted(self.numbers)}; files made again and compared: {_counted(self.files)}: "
            + (
                f"{len(self.misprints)} differences; `make site` writes the site again"
                if self.misprints
                else "as printed"
            )
        )
        lines.append(
            f"{self.folder}: printed as stored, not recomputed: measured locality, scores of trials, of maps "
            "image by image, costs, curves, validation scores"
        )
        return "\n".join(lines)


def _counted(found: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {what}" for what, count in found.items() if count) or "nothing"


def check(results: Path, folder: Path) -> Printed:
    """Compare every file of the site in `folder` with what the store gives. Raises SchemaError."""
    there = site.list_written(folder)
    smoke = any("/" not in name and f"-{site.SMOKE}" in name for name in there)  # no board of the public site
    boards = aggregate.boards(results, site.read_absent(folder), without="" if smoke else site.SMOKE)
    made = site.make_files(site.gather(results, boards), releases.list_versions(folder))
    misprints = [
        Misprint(folder / name, "file", "there", "not of this store")
        for name in sorted({*there} - {*made, site.ABSENT})
    ]
    for name, content in made.items():
        misprints += _compared(folder, name, content)
    return Printed(
        folder=folder,
        results=results,
        boards=tuple(board.slug for board in boards),
        numbers=count_numbers(boards) | _count_pairs(made["compare-data.js"]),
        files=Counter(KINDS.get(PurePath(name).suffix, "pictures and styles") for name in made),
        misprints=tuple(misprints),
    )


def count_numbers(boards: Sequence[Board]) -> dict[str, int]:
    """How many numbers of each kind the tables of the boards hold."""
    rows = [row for board in boards for row in board_tables.list_rows(board)]
    contrasts = [row for board in boards for row in board_tables.list_contrasts(board) if row["difference"] is not None]
    tested = [row for board in boards for row in board_tables.list_claims(board) if row["value"] is not None]
    lows = [row[name] for row in rows for name in ("gain_low", "score_low", "share_low")] + [
        row["low"] for row in contrasts + tested
    ]
    return {
        "scores": sum(row["score"] is not None and row["kind"] != "ceiling" for row in rows),
        "ceilings": sum(row["score"] is not None and row["kind"] == "ceiling" for row in rows),
        "shares": sum(row["share"] is not None for row in rows),
        "gains": sum(row["gain"] is not None for row in rows),
        "contrasts": len(contrasts),
        "adjusted p-values": sum(row["p"] is not None for row in contrasts),
        "letters": len({(row["board"], row["encoder"]) for row in rows if row["tie_group"]}),
        "slopes": sum(row["measure"].startswith("slope") for row in tested),
        "claims": sum(len(board.claims) for board in boards),
        "intervals of all these": sum(low is not None for low in lows),
    }


def _count_pairs(script: bytes) -> dict[str, int]:
    data = json.loads(_value(script.decode()))
    single = [one for run in data["runs"] for name in ("scores", "gains") for one in run[name].values()]
    pairs = [one for row in data["pairs"].values() for one in row]
    return {
        "scores and gains of single runs": sum(one is not None for one in single),
        "differences of two runs": sum(one is not None for one in pairs),
    }


def _compared(folder: Path, name: str, content: bytes) -> Iterator[Misprint]:
    """Where a file differs from what it should hold."""
    path = folder / name
    if not path.is_file():
        yield Misprint(path, "file", "missing", "needed")
        return
    printed = path.read_bytes()
    if printed == content:
        return
    if path.suffix == ".png" or name.startswith("static/"):
        yield Misprint(path, "bytes", f"{len(printed)} bytes", f"other {len(content)} bytes")
        return
    read = {".csv": _table, ".parquet": _parquet, ".js": _leaves}.get(path.suffix, _lines)
    try:
        here, there = read(printed), read(content)
    except (ValueError, OSError, pa.ArrowException):
        here, there = _lines(printed), _lines(content)
    for place in {**there, **here}:
        if here.get(place) != there.get(place):
            yield Misprint(path, _called(place, there), *_excerpts(here.get(place), there.get(place)))


Places = dict[object, object]  # of a value: (row, column), its path, or its line -> the value


def _table(content: bytes) -> Places:
    heads, *rows = csv.reader(io.StringIO(content.decode()), strict=True)
    return {(place, name): x for place, row in enumerate(rows, 1) for name, x in zip_longest(heads, row)}


def _parquet(content: bytes) -> Places:
    table = pq.read_table(pa.BufferReader(content))
    types = {(0, name): str(table.schema.field(name).type) for name in table.column_names}
    return types | {(place, name): x for place, row in enumerate(table.to_pylist(), 1) for name, x in row.items()}


def _called(place: object, values: Places) -> str:
    """A place in words; a row by its number and its first words, so that a reader finds it."""
    if not isinstance(place, tuple):
        return str(place)
    row, column = place
    cells = islice((x for (other, _), x in values.items() if other == row), 5)
    words = dict.fromkeys(x for x in cells if isinstance(x, str) and not re.fullmatch(r"[-+\d.e]*", x))
    return f"row {row} ({', '.join(words)}), column {column}"


def _leaves(content: bytes) -> Places:
    """Values of the JSON that a script assigns."""

    def walk(value: object, path: str) -> Iterator[tuple[str, object]]:
        pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
        if pairs is None:
            yield path, value
            return
        for name, one in pairs:
            yield from walk(one, f"{path} / {name}" if path else str(name))

    return dict(walk(json.loads(_value(content.decode())), ""))


def _value(script: str) -> str:
    return script[script.index("=") + 1 :].strip().removesuffix(";")


def _lines(content: bytes) -> Places:
    return {f"line {place}": line for place, line in enumerate(content.decode(errors="replace").splitlines(), 1)}


def _excerpts(printed: object, recomputed: object) -> tuple[str, str]:
    """Both values; of long texts, what stands around the first difference."""
    a, b = ("nothing" if x is None else str(x) for x in (printed, recomputed))
    if max(len(a), len(b)) <= 2 * AROUND:
        return a, b
    first = next((place for place, (x, y) in enumerate(zip_longest(a, b)) if x != y), 0)
    start = max(0, first - AROUND)
    return tuple(f"…{text[start : first + AROUND]}…" for text in (a, b))
