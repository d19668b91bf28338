"""A whole store as tables for others: every cell with its interval as CSV and Parquet, every board as LaTeX."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

from leaderboards.boards import store
from leaderboards.boards.board import Board
from leaderboards.export.board_tables import inert
from leaderboards.export.latex import latex
from leaderboards.stats.intervals import Estimate, estimate
from leaderboards.stats.resampling import cached_draws, resample

FORMATS = ("csv", "parquet", "latex")
RUN_COLUMNS = ("pretext_version", "engine", "budget_flops", "realised_flops", "images_seen", "seconds", "status")
PROVENANCE = ("commit", "dirty", "device", "threads", "processes")


def list_numbers(root: Path) -> pd.DataFrame:
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
    draws = cached_draws(seen)
    return estimate(resample((0,), [seen], row["metric"], draws, row["independent"]))


def write_tables(root: Path, out: Path, formats: Sequence[str], boards: Callable[[Path], list[Board]]) -> list[Path]:
    """Write what is asked for into `out`; the files written. Raises ValueError for an unknown format."""
    unknown = [name for name in formats if name not in FORMATS]
    if unknown:
        raise ValueError(f"unknown format {unknown[0]!r}; known: {', '.join(FORMATS)}")
    out.mkdir(parents=True, exist_ok=True)
    written = []
    if {"csv", "parquet"} & set(formats):
        rows = list_numbers(root)
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
