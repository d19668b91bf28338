"""Tables that dataset authors release: CSV files, Excel workbooks, lists of words."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

from tasks.base import DataError


def read_csv(path: Path, *columns: str) -> list[dict[str, str]]:
    """The rows of a CSV file, "" where a row is short. Raises DataError if it is none, or a column is missing or there
    twice."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, restval="")
            found, rows = list(reader.fieldnames or ()), list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: not a CSV file in UTF-8 ({error}); fetch it again, or save it as one") from error
    several = [(column, count) for column, count in Counter(filter(str.strip, found)).items() if count > 1]
    if several:
        raise DataError(f"{path}: {several[0][0]!r} is the name of {several[0][1]} columns; keep or rename one")
    missing = [column for column in columns if column not in found]
    if missing:
        listed = ", ".join(found[:20]) or "nothing"
        raise DataError(f"{path}: no column {missing[0]!r}, found {listed}; its first line names the columns, mend it")
    return rows


def read_words(path: Path) -> list[str]:
    """The words of a text file, which may be missing: then none. Raises DataError where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8-sig", errors="replace").split()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); make it readable") from error


def read_workbook(workbook: Path, sheet: str | None, *columns: str, instead: str = "") -> list[dict[str, str]]:
    """The rows below the first with these columns, of a sheet or of the first one: column -> text, "" where empty.

    Columns are found whatever their spaces and case, and called as asked for. Raises DataError, with what may be done
    `instead`, where the workbook cannot be read or has no such row.
    """
    import openpyxl

    remedy = f"fetch the workbook again{instead}"
    try:
        book = openpyxl.load_workbook(workbook, read_only=True, data_only=True)
        shown = book[sheet or book.sheetnames[0]].iter_rows(values_only=True)
        cells = [["" if cell is None else str(cell).strip() for cell in row] for row in shown]
        book.close()
    except Exception as error:  # openpyxl raises InvalidFileException, BadZipFile, KeyError, ValueError, ...
        place = f"sheet {sheet!r}" if sheet else "its first sheet"
        raise DataError(f"{workbook}: {place} cannot be read ({type(error).__name__}: {error}); {remedy}") from error
    for number, row in enumerate(cells):
        header = [_plain(cell) for cell in row]
        if {*map(_plain, columns)} <= {*header}:
            places = {column: header.index(_plain(column)) for column in columns}
            below = [[*row, *[""] * (len(header) - len(row))] for row in cells[number + 1 :]]
            return [{column: row[place] for column, place in places.items()} for row in below if any(row)]
    raise DataError(
        f"{workbook}: {f'sheet {sheet!r}' if sheet else 'its first sheet'} has no row with the columns "
        f"{' and '.join(map(repr, columns))}, its first is {cells[:1]}; {remedy}"
    )


def _plain(column: str) -> str:
    return column.replace(" ", "").lower()
