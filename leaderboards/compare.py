"""Two encoders side by side: their paired difference on every task that both were probed on."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from benchmark.results import SchemaError
from leaderboards import store
from leaderboards.ranking import holm
from leaderboards.recount import shared_draws
from leaderboards.statistics import Estimate, estimate, minus, p_value, paired, resample

BOARD = ["modality", "corpus", "corpus_digest", "track"]
SAME = ["task", "task_version", "data", "probe", "probe_version", "settings", "readout", "metric"]


@dataclass(frozen=True, kw_only=True)
class Line:
    task: str
    metric: str
    a: float  # mean over the common seeds
    b: float
    difference: Estimate  # a - b, paired by groups and seeds
    p: float  # of no difference, adjusted over the table (Holm); 1 under 20 groups


def compare(root: Path, a: str, b: str, probe: str = "linear", readout: str = "patches", **board: str) -> list[Line]:
    """Lines for every task. A side is the beginning of a run's id, or a pretext: `mae`, `mae:official`, `mae:twin`.

    Two runs are compared as they are; two pretexts over the seeds that both have. Raises SchemaError where a side is
    not stored, not on one board, or shares no task with the other.
    """
    loaded = store.load(root)
    runs = loaded.runs
    for name, value in board.items():
        runs = runs[runs[name] == value]
    sides = [_side(runs, name, root) for name in (a, b)]
    places = {tuple(row) for side in sides for row in side[BOARD].itertuples(index=False)}
    if len(places) > 1:
        named = "; ".join(", ".join(place) for place in sorted(places))
        raise SchemaError(f"{a} and {b} lie on several boards ({named}); choose by --modality, --track or a run's id")
    cells = loaded.cells[loaded.cells["headline"]]
    cells = cells[cells["probe"].eq(probe) & cells["readout"].eq(readout)]
    lone = all(len(side) == 1 for side in sides)
    first, second = (_cells(cells, side, lone) for side in sides)
    both = first.merge(second, on=[*SAME, "place"], suffixes=("_a", "_b"))
    if both.empty:
        raise SchemaError(f"{root}: {a} and {b} share no seed of a task under {probe}, {readout}; `make bench`")
    found = [(question[0], question[-1], _difference(rows, question[-1])) for question, rows in both.groupby(SAME)]
    adjusted = holm([p_value(difference) for _, _, (_, _, difference) in found])
    return [
        Line(task=task, metric=metric, a=x, b=y, difference=difference, p=p)
        for (task, metric, (x, y, difference)), p in zip(found, adjusted, strict=True)
    ]


def _side(runs: pd.DataFrame, name: str, root: Path) -> pd.DataFrame:
    """The runs that a name means, each recipe once."""
    runs = runs.sort_values(["created", "directory"], kind="stable").drop_duplicates("run")
    found = runs[runs["run"].str.startswith(name)] if len(name) >= 4 else runs.iloc[:0]
    if found.empty:
        pretext, _, arm = name.partition(":")
        arms = pd.Series([json.loads(text)["settings"].get("arm", "") for text in runs["recipe"]], runs.index)
        twins = runs["run"].eq(runs["twin"])
        found = runs[runs["pretext"].eq(pretext) & (twins if arm == "twin" else ~twins & arms.eq(arm))]
        newest = found["pretext_version"].eq(found["pretext_version"].max()) & found["engine"].eq(found["engine"].max())
        found = found[newest]
    if found.empty:
        known = sorted({*runs["pretext"]})
        raise SchemaError(f"{root}: no run or pretext {name!r} is stored; pretexts: {', '.join(known) or 'none'}")
    return found


def _cells(cells: pd.DataFrame, runs: pd.DataFrame, lone: bool) -> pd.DataFrame:
    """The cells of some runs, each at the place that pairs it: its seed, or none where one run is set against one."""
    keys = ["run", "weights_sha256"]
    own = cells.merge(runs[keys], on=keys).drop_duplicates(["cell", "metric"])
    own = own.assign(place=0 if lone else own["seed"])
    again = own.duplicated([*SAME, "place"])
    if again.any():
        named = ", ".join(sorted(set(own.loc[own["place"].isin(own.loc[again, "place"]), "run"]))[:6])
        raise SchemaError(f"several recipes answer to one name: {named}; give the id of a run")
    return own[[*SAME, "place", "directory", "cell", "protocol"]]


def _difference(rows: pd.DataFrame, metric: str) -> tuple[float, float, Estimate]:
    sides = []
    for side in ("_a", "_b"):
        columns = (rows[f"{name}{side}"] for name in ("directory", "cell", "protocol"))
        sides.append([store.predictions(*one) for one in zip(*columns, strict=True)])
    first, seeds = sides[0][0], tuple(rows["place"])
    try:
        sides = [[paired(one, first) for one in side] for side in sides]
    except ValueError as error:
        raise SchemaError(f"{rows['directory_b'].iloc[0]}: {error}; `make verify` names what was changed") from error
    a, b = (resample(seeds, side, metric, shared_draws(first)) for side in sides)
    return float(a.values.mean()), float(b.values.mean()), estimate(minus(a, b))


def table(lines: list[Line], a: str, b: str) -> str:
    """Plain text."""
    rows = [("task", "metric", a, b, f"{a} − {b} [95 %]", "p (Holm)", "groups", "seeds")]
    for line in lines:
        d = line.difference
        bounds = "" if d.low is None or d.high is None else f" [{d.low:+.3f}, {d.high:+.3f}]"
        p = "too few groups" if not bounds else f"{line.p:.3f}"
        values = (f"{line.a:.3f}", f"{line.b:.3f}", f"{d.value:+.3f}{bounds}", p, str(d.groups), str(d.seeds))
        rows.append((line.task, line.metric, *values))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
