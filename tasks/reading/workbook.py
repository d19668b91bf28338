"""Tables that dataset authors release as Excel workbooks."""

from pathlib import Path

from tasks.base import DataError


def rows(workbook: Path, sheet: str | None, *columns: str, instead: str = "") -> list[dict[str, str]]:
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
