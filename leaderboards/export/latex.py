"""The headline of a board as a LaTeX table."""

from __future__ import annotations

import math

from benchmark.metrics import title as metric
from leaderboards.boards.board import Board, Column, Entry
from leaderboards.stats.intervals import Estimate
from leaderboards.stats.verdicts import AS_IF, UNDEFINED
from leaderboards.tables.gains import name_of_ceilings
from tasks.cards import plural

SPECIAL = {c: f"\\{c}" for c in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "−": "$-$",
    "–": "--",
    "×": r"$\times$",
}


def latex(board: Board) -> str:
    """The headline of a board as a table of the booktabs package: encoders down, tasks across, gain over value."""
    columns, rows = board.columns, board.sections[0].rows
    lines = [
        f"% {board.title}; needs \\usepackage{{booktabs}}",
        f"\\begin{{tabular}}{{l{'c' * (len(columns) + 1)}}}",
        r"\toprule",
        " & ".join(["Encoder", "Mean gain", *(_tex(f"{c.title}, {metric(c.metric)}") for c in columns)]) + r" \\",
        " & ".join(["", "", *(_tex(_groups(c)) for c in columns)]) + r" \\",
        r"\midrule",
    ]
    for row in rows:
        cells = [_tex(row.name), _gain(row.mean), *(_gain(entry) for entry in row.entries)]
        values = ["", "", *(_value(entry.score) for entry in row.entries)]
        lines += [" & ".join(cells) + r" \\", " & ".join(values) + r" \\"]
        shares = [_value(entry.share) for entry in row.entries]
        lines += [" & ".join(["", "share", *shares]) + r" \\"] if any(shares) else []
    if any(board.ceilings):
        tops = [_value(one and one.score) or "--" for one in board.ceilings]
        lines += [" & ".join([_tex(name_of_ceilings(board)), "ceiling", *tops]) + r" \\"]
    share = "; share of the way from twin to ceiling" if any(board.ceilings) else ""
    note = (
        f"Gain over the untrained twin, then the value{share}; 95 % intervals. {'Simulated images. ' * board.synthetic}"
    )
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", f"% {note}Seeds {list(board.seeds)}.", ""])


def _groups(column: Column) -> str:
    counted = f"{column.groups:,} {plural(column.group_kind, column.groups)}"
    return counted if column.independent else f"{counted}; {AS_IF}"


def _gain(entry: Entry) -> str:
    if entry.missing or entry.gain is None:
        return _tex(entry.missing or entry.note or "floor")
    return _value(entry.gain, signed=True)


def _value(one: Estimate | None, signed: bool = False) -> str:
    if one is None:
        return ""
    if not math.isfinite(one.value):
        return UNDEFINED
    texts = [f"{x:+.3f}" if signed else f"{x:.3f}" for x in (one.value, one.low, one.high) if x is not None]
    return f"${texts[0]}$" + (f" $[{texts[1]}, {texts[2]}]$" if len(texts) == 3 else "")


def _tex(text: str) -> str:
    return "".join(SPECIAL.get(character, character) for character in text)
