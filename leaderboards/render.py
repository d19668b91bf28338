"""Board -> HTML, Markdown and a terminal table; and the pages of a whole store."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping, Sequence
from functools import cache, partial
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from leaderboards.aggregate import boards
from leaderboards.board import SYNTHETIC, Board, Entry, Row
from leaderboards.statistics import ABOVE, BELOW, NOT_SHOWN
from leaderboards.view import interval, metric, view

MARKS = {ABOVE: "▲", BELOW: "▼", NOT_SHOWN: "○"}
ABREAST = 3  # rows of a board side by side in the terminal


class EmptyStore(Exception):
    """There is nothing to show. The message says what to run."""


def build(
    results: Path,
    out: Path,
    absent: Mapping[str, Mapping[str, str]] | None = None,
    found: Sequence[Board] | None = None,
) -> list[Path]:
    """Write every board of the store, and the index, into `out`; the files written, the index first.

    `absent`: modality -> task -> why this machine could not measure it. `found`: the boards, where `stored` has read
    them already. Raises SchemaError, or EmptyStore.
    """
    found = stored(results, absent) if found is None else found
    pages = {"index.html": index(found), "style.css": _style()}
    for board in found:
        pages[f"{board.slug}.html"] = html(board)
        pages[f"{board.slug}.md"] = markdown(board)
    out.mkdir(parents=True, exist_ok=True)
    for name, text in pages.items():
        (out / name).write_text(text, encoding="utf-8")
    return [out / name for name in pages]


def stored(results: Path, absent: Mapping[str, Mapping[str, str]] | None = None) -> list[Board]:
    """The boards of a store that has some. Raises SchemaError, or EmptyStore."""
    found = boards(results, absent)
    if not found:
        raise EmptyStore(f"{results}: nothing stored yet; `make bench` runs the embedded phantoms in minutes")
    return found


def html(board: Board) -> str:
    return _environment(True).get_template("board.html.j2").render(page=view(board))


def markdown(board: Board) -> str:
    return _environment(False).get_template("board.md.j2").render(page=view(board))


def index(found: Sequence[Board]) -> str:
    return _environment(True).get_template("index.html.j2").render(pages=[view(board) for board in found])


def compact(board: Board) -> str:
    """The headline as plain text, at most 100 columns: tasks down, encoders across."""
    rows = [row for row in board.sections[0].rows if not row.twin]
    text = [board.title, *([SYNTHETIC] if board.synthetic else [])]
    measured = sorted({metric(column.metric) for column in board.columns})
    text += [f"gain in {' or '.join(measured)} over the untrained twin [95 % interval], linear probe, patch tokens"]
    if not rows:
        text += ["no pretrained encoder yet: only twins are stored"]
    for start in range(0, len(rows), ABREAST):
        some = rows[start : start + ABREAST]
        text += ["", _across("", [_title(row) for row in some])]
        text += [_across("mean over tasks", [_short(row.mean) for row in some])]
        for place, column in enumerate(board.columns):
            text += [
                _across(
                    f"{column.task}{' (partial)' if column.partial else ''}",
                    [_short(row.entries[place]) for row in some],
                )
            ]
    text += ["", "▲ above twin   ○ not shown above twin   ▼ below twin"]
    text += ["Rows with a letter in common are not shown to differ."] if board.ranked else []
    text += [textwrap.shorten(f"missing: {what}: {why}", 100, placeholder=" …") for what, why in board.missing]
    return "\n".join(text)


def _title(row: Row) -> str:
    return f"{row.name} ({row.letters})" if row.letters else row.name


def _short(entry: Entry) -> str:
    if entry.missing:
        return entry.missing
    if entry.gain is None:
        return entry.note
    return f"{interval(entry.gain, signed=True)} {MARKS.get(entry.verdict, '')}".strip()


def _across(head: str, cells: list[str]) -> str:
    """A line of 22 + 3 × 26 columns at most."""
    return (_cut(head, 21).ljust(22) + "".join(_cut(cell, 25).ljust(26) for cell in cells)).rstrip()


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


def _style() -> str:
    return (Path(__file__).parent / "static" / "style.css").read_text(encoding="utf-8")


def _cell(text: str) -> str:
    """Text that is safe inside a Markdown table and shows as it is."""
    for character in "\\`*_[]<>|#":
        text = text.replace(character, f"\\{character}")
    return re.sub(r"\s", " ", text)


def _code(text: str, escaped: bool) -> str:
    """Text with what stands between backticks as code, the rest escaped for HTML or for Markdown."""
    parts = text.split("`")
    if len(parts) % 2 == 0:
        return escape(text) if escaped else _cell(text)
    if escaped:
        return Markup("").join(Markup("<code>{}</code>").format(p) if i % 2 else escape(p) for i, p in enumerate(parts))
    return "".join(f"`{part}`" if place % 2 else _cell(part) for place, part in enumerate(parts))


@cache
def _environment(escaped: bool) -> Environment:
    environment = Environment(
        loader=PackageLoader("leaderboards"),
        undefined=StrictUndefined,
        autoescape=escaped,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["md"] = _cell
    environment.filters["code"] = partial(_code, escaped=escaped)
    return environment
