"""Two encoders side by side: their paired difference on every task that both were probed on."""

from __future__ import annotations

import json
from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from benchmark.storage.schema import SchemaError
from leaderboards.boards import store
from leaderboards.boards.contrasts import contrast_of
from leaderboards.boards.sections import measure
from leaderboards.boards.selection import BOARD, HEADLINE, Selection
from leaderboards.stats.families import Difference, judge
from leaderboards.stats.resampling import Predictions, Question, draw_tasks, pair_samples, select_seeds, subtract
from leaderboards.stats.verdicts import AS_IF, pair
from leaderboards.words import interval, number

SAME = ["task", "task_version", "data", "probe", "probe_version", "settings", "readout", "metric"]


@dataclass(frozen=True, kw_only=True)
class Line:
    task: str  # or what the mean is over
    metric: str
    a: float | None  # mean over the common seeds; None of a mean over tasks
    b: float | None
    difference: Difference  # a - b, paired by groups and seeds
    independent: bool  # the groups are patients or slides


@dataclass(frozen=True, kw_only=True)
class Compared:
    lines: tuple[Line, ...]
    family: str  # what the intervals and p-values hold together for, as a sentence


def compare(root: Path, a: str, b: str, probe: str = "linear", readout: str = "patches", **board: str) -> Compared:
    """The differences on every task. A side is the beginning of a run's id, or a pretext: `mae`, `mae:official`,
    `mae:twin`.

    Two rows of a board have the differences of that board; anything else is a family of its own over its tasks. Two
    runs are compared as they are; two pretexts over the seeds that both have. Raises SchemaError where a side is not
    stored, not on one board, or shares no task with the other.
    """
    loaded = store.load(root)
    runs = loaded.runs
    for name, value in board.items():
        runs = runs[runs[name] == value]
    sides = [_side(runs, name, root) for name in (a, b)]
    sides = _of_newest_corpus(sides)
    places = {tuple(row) for side in sides for row in side[BOARD].itertuples(index=False)}
    if len(places) > 1:
        named = "; ".join(", ".join(place) for place in sorted(places))
        raise SchemaError(f"{a} and {b} lie on several boards ({named}); choose by --modality, --track or a run's id")
    place = places.pop()
    if (probe, readout) == HEADLINE:
        found = _of_board(loaded, place, [set(side["run"]) for side in sides])
        if found is not None:
            return found
    cells = loaded.cells[loaded.cells["headline"]]
    cells = cells[cells["probe"].eq(probe) & cells["readout"].eq(readout)]
    lone = all(len(side) == 1 for side in sides)
    first, second = (_cells(cells, side, lone) for side in sides)
    both = first.merge(second, on=[*SAME, "place"], suffixes=("_a", "_b"))
    if both.empty:
        raise SchemaError(f"{root}: {a} and {b} share no seed of a task under {probe}, {readout}; `make bench`")
    columns = Selection(loaded, place).columns
    return _alone(both, a, b, {(column.task, column.data) for column in columns if not column.taught})


def _of_newest_corpus(sides: list[pd.DataFrame]) -> list[pd.DataFrame]:
    """The sides on one board, where they lie on several that differ in the content of the corpus alone: the newest on
    which both are."""
    every = pd.concat(sides)
    if every[BOARD].drop_duplicates().drop(columns="corpus_digest").drop_duplicates().shape[0] > 1:
        return sides
    both = set.intersection(*(set(side["corpus_digest"]) for side in sides))
    known = every[every["corpus_digest"].isin(both)].sort_values(["engine", "created"], kind="stable")
    if known.empty:
        return sides
    return [side[side["corpus_digest"].eq(known["corpus_digest"].iloc[-1])] for side in sides]


def _of_board(loaded: store.Store, place: tuple[str, ...], sides: list[set[str]]) -> Compared | None:
    """What a board says of two of its rows; None where a side is no row, or the two are no pair of it."""
    chosen = Selection(loaded, place)
    measured = measure(chosen, [HEADLINE])
    rows = [next((one for one in chosen.methods if set(one.runs.values()) == side), None) for side in sides]
    if None in rows:
        return None
    first, second = (one.variant for one in rows)
    contrast = contrast_of(measured.comparison, first, second)
    if contrast is None:
        return None
    numbers, lines = measured.numbers, []
    for column, found in zip(chosen.columns, contrast.entries, strict=True):
        if found is not None:
            a, b = (numbers[variant, column] for variant in (first, second))
            seeds = sorted({*a.seeds} & {*b.seeds})
            values = {
                "a": float(select_seeds(a, *seeds).values.mean()),
                "b": float(select_seeds(b, *seeds).values.mean()),
            }
            about = {"task": column.task, "metric": column.metric, "independent": column.independent}
            lines.append(Line(difference=found, **about, **values))
    if contrast.mean is not None:
        over = all(column.independent for column in measured.pooled)
        about = {"task": f"mean over {len(measured.pooled)} tasks", "metric": "chance-corrected", "independent": over}
        lines.append(Line(a=None, b=None, difference=contrast.mean, **about))
    if not lines:
        return None
    kind = "gains over their twins" if contrast in measured.comparison.twins else "pairs of rows"
    where = f"the board of {', '.join(place)}"
    return Compared(
        lines=tuple(lines),
        family=f"As on {where}: on all tasks a family with the other {kind}, over the tasks another.",
    )


def _alone(both: pd.DataFrame, a: str, b: str, untaught: Container[tuple[str, str]]) -> Compared:
    """The shared tasks of two sides as a family of its own. untaught: (task, data) that labels do not teach."""
    sides = {}
    for keys, rows in both.groupby(SAME):
        row = rows.iloc[0]
        question = Question(
            task=keys[0],
            metric=keys[-1],
            family=row["family_a"],
            independent=bool(row["independent_a"]),
            taught=(keys[0], keys[2]) not in untaught,
        )
        sides[question] = tuple(rows["place"]), *_predictions(rows)
    draws = draw_tasks({question: first[0] for question, (_, first, _) in sides.items()})
    numbers = {
        question: [draws[question].resample(seeds, side, question) for side in pair_of]
        for question, (seeds, *pair_of) in sides.items()
    }
    found = judge([subtract(*both_of) for both_of in numbers.values()], [pair(a, b)] * len(numbers))
    lines = [
        Line(
            task=question.task,
            metric=question.metric,
            a=float(first.values.mean()),
            b=float(second.values.mean()),
            difference=one,
            independent=question.independent,
        )
        for (question, (first, second)), one in zip(numbers.items(), found, strict=True)
    ]
    return Compared(lines=tuple(lines), family="No pair of a board: a family of its own over these tasks.")


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
    return own[[*SAME, "place", "directory", "cell", "protocol", "family", "independent"]]


def _predictions(rows: pd.DataFrame) -> list[list[Predictions]]:
    """Those of each side, a seed each, paired."""
    sides = []
    for side in ("_a", "_b"):
        columns = (rows[f"{name}{side}"] for name in ("directory", "cell", "protocol"))
        sides.append([store.predictions(*one) for one in zip(*columns, strict=True)])
    try:
        return [[pair_samples(one, sides[0][0]) for one in side] for side in sides]
    except ValueError as error:
        raise SchemaError(f"{rows['directory_b'].iloc[0]}: {error}; `make verify` names what was changed") from error


def format_comparison(found: Compared, a: str, b: str) -> str:
    """Plain text."""
    rows = [("task", "metric", a, b, f"{a} − {b} [95 %]", "p", "verdict", "groups", "seeds")]
    for line in found.lines:
        one = line.difference
        values = ["" if x is None else number(x) for x in (line.a, line.b)]
        p = "" if one.p is None else f"{one.p:.3f}"
        verdict = one.verdict if line.independent else f"{one.verdict}: {AS_IF}"
        counts = (str(one.estimate.groups), str(one.estimate.seeds))
        rows.append((line.task, line.metric, *values, interval(one.estimate, signed=True), p, verdict, *counts))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    note = "Intervals and p-values hold together within a family; without a p, the interval is of the difference alone."
    return "\n".join([*lines, "", found.family, note])
