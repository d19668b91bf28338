"""The numbers of a board's headline table for other programs: a row per encoder and task, to nine decimals."""

from __future__ import annotations

import csv
import io

import pyarrow as pa

from leaderboards.board import Board, Entry
from leaderboards.statistics import Estimate

MEAN = "mean over tasks"
DECIMALS = 9  # so that processors that differ in the last bit write the same file
SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("board", "encoder", "kind", "task", "title", "metric")),
        *((name, pa.float64()) for name in ("gain", "gain_low", "gain_high", "score", "score_low", "score_high")),
        ("gain_p", pa.float64()),
        ("verdict", pa.string()),
        ("note", pa.string()),
        ("tie_group", pa.string()),
        ("groups", pa.int64()),
        ("seeds", pa.string()),
        ("runs", pa.string()),
        *((name, pa.float64()) for name in ("flops", "seconds", "memory_bytes")),
        ("synthetic", pa.bool_()),
    ]
)


def rows(board: Board) -> list[dict]:
    """Rows of SCHEMA: means first, then every task, in the order of the page; baselines last."""
    costs = {cost.name: cost for cost in board.costs}
    found = []
    for row in board.sections[0].rows:
        cost = None if row.twin else costs.get(row.name)
        about = {
            "board": board.slug,
            "encoder": row.name,
            "kind": "twin" if row.twin else "trained",
            "tie_group": row.letters,
            "seeds": " ".join(map(str, row.seeds)),
            "runs": " ".join(row.runs),
            "flops": cost.realised_flops if cost else None,
            "seconds": cost.seconds if cost else None,
            "memory_bytes": cost.memory_bytes if cost else None,
        }
        if not row.twin:
            found.append(about | _entry(row.mean, MEAN, MEAN, "chance-corrected", None, board.synthetic))
        for column, entry in zip(board.columns, row.entries, strict=True):
            found.append(
                about | _entry(entry, column.task, column.title, column.metric, column.groups, column.synthetic)
            )
    empty = dict.fromkeys(SCHEMA.names)
    for one in board.baselines:
        for column, score in zip(board.columns, one.scores, strict=True):
            about = {"board": board.slug, "encoder": one.name, "kind": "baseline"}
            entry = Entry(score=score, missing="" if score else "not measured")
            found.append(
                about | _entry(entry, column.task, column.title, column.metric, column.groups, column.synthetic)
            )
    return [empty | row for row in found]


def _entry(entry: Entry, task: str, title: str, metric: str, groups: int | None, synthetic: bool) -> dict:
    return {
        "task": task,
        "title": title,
        "metric": metric,
        **_bounds("gain", entry.gain),
        **_bounds("score", entry.score),
        "gain_p": None if entry.p is None else round(entry.p, DECIMALS),
        "verdict": entry.verdict,
        "note": entry.missing or entry.note,
        "groups": groups,
        "synthetic": synthetic,
    }


def _bounds(name: str, one: Estimate | None) -> dict:
    if one is None:
        return {}
    ends = {name: one.value, f"{name}_low": one.low, f"{name}_high": one.high}
    return {key: None if x is None else round(x, DECIMALS) for key, x in ends.items()}


def as_csv(found: list[dict]) -> str:
    file = io.StringIO()
    writer = csv.DictWriter(file, SCHEMA.names, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: inert(value) for name, value in row.items()} for row in found)
    return file.getvalue()


def inert(value: object) -> object:
    """A value for a CSV file that a spreadsheet will not take for a formula: text that begins like one gets a quote."""
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")) else value
