"""Boards as plain text for a terminal, at most 100 columns wide."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from benchmark.metrics import title as metric
from leaderboards.boards.board import SYNTHETIC, Board, Column, Entry, Row
from leaderboards.stats.verdicts import AS_IF, DEPENDENT, UNTAUGHT
from leaderboards.tables.gains import name_of_ceilings
from leaderboards.words import flops, interval

MARKS = {1: "▲", -1: "▼", 0: "○"}  # by what is shown
NARROW = "*"  # where no patient is known
UNLEARNT = "†"  # where labels do not teach the task
BARRED = {DEPENDENT: NARROW, UNTAUGHT: UNLEARNT}
ABREAST = 3  # rows of a board side by side in the terminal


def format_board(board: Board) -> str:
    """The headline as plain text, at most 100 columns: tasks down, encoders across; then the floor and the ceiling."""
    rows = [row for row in board.sections[0].rows if not row.twin]
    text = [board.title, *([SYNTHETIC] if board.synthetic else []), *([board.earlier] if board.earlier else [])]
    if board.budgets:
        text += [f"{' or '.join(flops(budget) for budget in board.budgets)} training FLOPs per encoder"]
    measured = " or ".join(sorted({metric(column.metric) for column in board.columns}))
    of = f" in {measured}" if measured else ""
    text += [f"gain{of} over the untrained twin [95 % interval], linear probe, patch tokens"]
    if not rows:
        text += ["no pretrained encoder yet: only twins are stored"]
    for start in range(0, len(rows), ABREAST):
        some = rows[start : start + ABREAST]
        text += ["", _row("", [_encoder(row) for row in some])]
        text += [_row("mean over tasks", [_cell(row.mean) for row in some])]
        for place, column in enumerate(board.columns):
            text += [_row(_task(column), [_cell(row.entries[place]) for row in some])]
            shares = [row.entries[place].share for row in some]
            text += [_row("  share", [interval(one) if one else "–" for one in shares])] * any(shares)
    text += _floor_and_ceiling(board)
    text += ["", "▲ above twin   ○ not shown above twin   ▼ below twin", *_families(rows)]
    verdicts = {entry.verdict for row in rows for entry in (row.mean, *row.entries)}
    text += [f"{NARROW} {DEPENDENT}, no verdict: {AS_IF}"] * (DEPENDENT in verdicts)
    text += [f"{UNLEARNT} {UNTAUGHT}: no verdict"] * (UNTAUGHT in verdicts)
    if any(entry.share is not None for row in rows for entry in row.entries):
        text += ["Share: of the way from the untrained encoder to the same one trained with labels."]
    over = [column.task for column in board.columns if column.title in board.pooled]
    some = f", over {len(over)} of {len(board.columns)} tasks: {', '.join(over)}"
    some *= 0 < len(over) < len(board.columns)
    text += textwrap.wrap(f"The mean over tasks is of gain / (1 − chance){some}.", 100)
    text += ["Rows with a letter in common are not shown to differ."] if board.ranked else []
    sizes = [f"{column.task}: {column.pixels}" for column in board.columns if column.pixels]
    return "\n".join([*text, *textwrap.wrap("; ".join(sizes), 100)])


def _floor_and_ceiling(board: Board) -> list[str]:
    """The metric itself: of the untrained encoders, and of those trained with labels."""
    floors = [row for row in board.sections[0].rows if row.twin][: ABREAST - 1]
    tops = board.ceilings or (None,) * len(board.columns)
    text = ["", _row("the metric itself", [*(row.name for row in floors), name_of_ceilings(board)])]
    for place, column in enumerate(board.columns):
        scores = [*(row.entries[place].score for row in floors), tops[place] and tops[place].score]
        text += [_row(_task(column), [interval(one) if one else "not measured" for one in scores])]
    return text


def _task(column: Column) -> str:
    return f"{column.task}{' (partial)' if column.partial else ''}"


def _families(rows: Sequence[Row]) -> list[str]:
    """How many gains the intervals and verdicts answer for at once."""
    means = max((row.mean.family for row in rows), default=0)
    on_tasks = max((entry.family for row in rows for entry in row.entries), default=0)
    if max(means, on_tasks) < 2:
        return []
    return [f"Intervals hold together: of the {on_tasks} gains on tasks, and of the {means} over them."]


def format_boards(found: Sequence[Board]) -> str:
    """Boards as plain text, and once below them what is missing."""
    return "\n\n".join([*map(format_board, found), *_gaps(found)])


def _gaps(found: Sequence[Board]) -> list[str]:
    """What these boards lack, at most 100 columns wide: each reason once, with the boards unless it is all of them."""
    lacking: dict[tuple[str, str], list[str]] = {}
    for board in found:
        for gap in board.missing:
            lacking.setdefault(gap, []).append(board.title)
    reasons: dict[tuple[str, str], list[str]] = {}
    for (what, why), titles in lacking.items():
        place = f" on {'; '.join(titles)}" if len(titles) < len(found) else ""
        reasons.setdefault((place, why), []).append(what)
    lines = [f"missing{place}: {', '.join(names)}: {why}" for (place, why), names in reasons.items()]
    return [textwrap.fill(line, 100, subsequent_indent="  ", break_on_hyphens=False) for line in lines]


def _encoder(row: Row) -> str:
    return f"{row.name} ({row.letters})" if row.letters else row.name


def _cell(entry: Entry) -> str:
    if entry.missing:
        return entry.missing
    if entry.gain is None:
        return entry.note
    mark = BARRED.get(entry.verdict) or MARKS.get(entry.shown, "")
    return f"{interval(entry.gain, signed=True)} {mark}".strip()


def _row(head: str, cells: list[str]) -> str:
    """A line of 22 + 3 × 26 columns at most."""
    return (_cut(head, 21, end=12).ljust(22) + "".join(_cut(cell, 25).ljust(26) for cell in cells)).rstrip()


def _cut(text: str, width: int, end: int = 0) -> str:
    """end: characters of it that stay, as tasks of one family differ in the last ones."""
    return text if len(text) <= width else text[: width - 1 - end] + "…" + text[len(text) - end :]
