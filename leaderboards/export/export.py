"""The store as tables for others: every cell with its interval as CSV and Parquet, every board as LaTeX."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

from benchmark.metrics import title as metric
from leaderboards.audit import recount
from leaderboards.stats import statistics
from leaderboards.boards import store
from leaderboards.boards.board import Board, Column, Entry
from leaderboards.pages.flat import inert
from leaderboards.stats.statistics import Estimate
from leaderboards.pages.tables import labelled
from leaderboards.stats.verdicts import AS_IF, UNDEFINED
from tasks.cards import plural

FORMATS = ("csv", "parquet", "latex")
RUN_COLUMNS = ("pretext_version", "engine", "budget_flops", "realised_flops", "images_seen", "seconds", "status")
PROVENANCE = ("commit", "dirty", "device", "threads", "processes")
SPECIAL = {c: f"\\{c}" for c in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "−": "$-$",
    "–": "--",
    "×": r"$\times$",
}


def numbers(root: Path) -> pd.DataFrame:
    """One row per cell and metric: all columns of `cells`, what its run was, its arm, and for the headline and AUROC
    the 95 % interval, as the boards draw it, about this checkpoint on new groups (empty under 20 groups)."""
    loaded = store.load(root)
    runs = loaded.runs.drop_duplicates(["run", "weights_sha256"])
    runs = runs.assign(arm=[json.loads(text)["settings"].get("arm", "") for text in runs["recipe"]])
    keys = ["run", "weights_sha256"]
    rows = loaded.cells.drop_duplicates([*keys, "cell", "metric"]).reset_index(drop=True)
    rows = rows.merge(runs[[*keys, "arm", *RUN_COLUMNS, *PROVENANCE]], on=keys, how="left")
    bounds = [
        _interval(row) if row["headline"] or row["metric"] == "auroc" else None for row in rows.to_dict("records")
    ]
    rows["low"] = [one.low if one else None for one in bounds]
    rows["high"] = [one.high if one else None for one in bounds]
    rows["classes"] = rows["classes"].map(lambda names: ", ".join(names))
    order = ["modality", "corpus", "track", "pretext", "arm", "seed", "twin", "task", "probe", "readout", "metric"]
    rows = rows.sort_values([*order, "cell"], kind="stable")
    first = [*order, "value", "low", "high"]
    return rows[[*first, *(name for name in rows.columns if name not in {*first, "directory"})]].reset_index(drop=True)


def _interval(row: dict) -> Estimate | None:
    seen = store.predictions(row["directory"], row["cell"], row["protocol"])
    draws = recount.shared_draws(seen)
    return statistics.estimate(statistics.resample((0,), [seen], row["metric"], draws, row["independent"]))


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
        lines += [" & ".join([_tex(labelled(board)), "ceiling", *tops]) + r" \\"]
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


def export(root: Path, out: Path, formats: Sequence[str], boards: Callable[[Path], list[Board]]) -> list[Path]:
    """Write what is asked for into `out`; the files written. Raises ValueError for an unknown format."""
    unknown = [name for name in formats if name not in FORMATS]
    if unknown:
        raise ValueError(f"unknown format {unknown[0]!r}; known: {', '.join(FORMATS)}")
    out.mkdir(parents=True, exist_ok=True)
    written = []
    if {"csv", "parquet"} & set(formats):
        rows = numbers(root)
        if "csv" in formats:
            written.append(out / "numbers.csv")
            rows.map(inert).to_csv(written[-1], index=False)
        if "parquet" in formats:
            written.append(out / "numbers.parquet")
            rows.to_parquet(written[-1], index=False)
    if "latex" in formats:
        for board in boards(root):
            written.append(out / f"{board.slug}.tex")
            written[-1].write_text(latex(board), encoding="utf-8")
    return written
