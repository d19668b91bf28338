"""What is known of single runs: recipe, provenance, cost and curves, and how each answered every task."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd

from benchmark.metrics import BINS
from benchmark.storage import results as schema
from leaderboards.boards import store
from leaderboards.boards.board import Board, Column, Run
from leaderboards.boards.contrasts import contrast_of
from leaderboards.boards.selection import HEADLINE
from leaderboards.stats.families import Difference, judge
from leaderboards.stats.intervals import Estimate, estimate
from leaderboards.stats.resampling import Predictions, Resampled, rename_seeds, select_seeds, subtract
from leaderboards.stats.verdicts import GAIN, Words, pair
from leaderboards.tables.addresses import run_link

ALARM = "alarm: "  # how the name of an alarm's curve begins
RATIOS = (" below trivial", "rankme", "online kNN")  # curves that a run's page draws, by a part of their name


@dataclass(frozen=True, kw_only=True)
class Fit:
    """A grid point of a probe, over all folds and draws."""

    settings: tuple[tuple[str, str], ...]
    metric: str
    score: float  # mean, of the validation part
    chosen: int  # times selected
    fits: int


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One cell: a task under one probe and readout."""

    task: str
    title: str
    column: Column | None  # of the board; None for a cell that it does not show
    probe: str
    readout: str
    metric: str  # the headline
    values: tuple[tuple[str, float], ...]  # every stored metric
    leakage: str
    score: Estimate | None  # with an interval of its own: of the headline probe and readout
    gain: Difference | None  # over the twin
    classes: tuple[str, ...]
    confusion: tuple[tuple[int, ...], ...]  # label × highest score; () unless headline on real images
    reliability: tuple[tuple[float, float, int], ...]  # (mean confidence, share correct, images) in bins of equal mass
    fits: tuple[Fit, ...]


@dataclass(frozen=True, kw_only=True)
class RunDetail:
    run: Run
    row: Mapping[str, object]  # of the table `runs`
    recipe: Mapping[str, object]
    curves: Mapping[str, tuple[tuple[float, float], ...]]  # name -> (progress, value), those that are drawn
    alarms: tuple[tuple[float, str], ...]  # (progress, sentence)
    answers: tuple[Answer, ...]
    file: str  # release file of its weights; "": none

    @property
    def key(self) -> tuple[str, str]:
        return self.run.run, self.run.weights

    @property
    def link(self) -> str:
        return run_link(self.run.variant, self.run.run)

    @property
    def trained(self) -> bool:
        return self.run.run != self.run.twin


def read_runs(board: Board, loaded: store.Store) -> Iterator[RunDetail]:
    """Every run of a board, in its order. Raises SchemaError on a file that cannot be read."""
    rows = {(row["run"], row["directory"]): row for row in loaded.runs.to_dict("records")}
    cells = dict(tuple(loaded.cells.groupby(["run", "weights_sha256"])))
    variants = {one.run: one for one in board.runs}
    for one in board.runs:
        row = rows[one.run, one.directory]
        own = cells.get((one.run, one.weights), loaded.cells.iloc[:0])
        curves, alarms = _curves(one)
        yield RunDetail(
            run=one,
            row=row,
            recipe=json.loads(row["recipe"]),
            curves=curves,
            alarms=alarms,
            answers=tuple(_answers(board, one, variants.get(one.twin), own)),
            file=loaded.released.get(one.weights, ""),
        )


def _curves(one: Run) -> tuple[dict[str, tuple[tuple[float, float], ...]], tuple[tuple[float, str], ...]]:
    path = Path(one.directory) / "curves.parquet"
    if not path.exists():
        return {}, ()
    logged = schema.read_file(path).to_pandas()
    logged = logged[logged["run"] == one.run].sort_values(["name", "step"], kind="stable")
    alarms = logged[logged["name"].str.startswith(ALARM)].sort_values("progress", kind="stable")
    drawn = {}
    for name, rows in logged.dropna(subset="value").groupby("name", sort=True):
        if str(name).rpartition("/")[2] in ("loss", "rankme") or any(part in str(name) for part in RATIOS):
            drawn[str(name)] = tuple(zip(rows["progress"].tolist(), rows["value"].tolist(), strict=True))
    return drawn, tuple((float(row.progress), row.name.removeprefix(ALARM)) for row in alarms.itertuples(index=False))


def _answers(board: Board, one: Run, twin: Run | None, cells: pd.DataFrame) -> Iterator[Answer]:
    columns = {(column.task, column.data): column for column in board.columns}
    cells = cells.drop_duplicates(["cell", "metric"])
    gains = gains_of(board, one, twin)
    grids = {directory: _read_grids(Path(directory)) for directory in set(cells["directory"])}
    for _, rows in cells.groupby(["task", "data", "probe", "readout", "cell"], sort=True):
        row = rows[rows["headline"]].iloc[0] if rows["headline"].any() else rows.iloc[0]
        column = columns.get((row["task"], row["data"]))
        headline = (row["probe"], row["readout"]) == HEADLINE
        number = _number(board, one, column) if column is not None and headline else None
        asked = headline and not row["synthetic"]  # what classes and calibration are of what was simulated says nothing
        seen = store.predictions(row["directory"], row["cell"], row["protocol"]) if asked else None
        yield Answer(
            task=row["task"],
            title=row["task_title"],
            column=column,
            probe=row["probe"],
            readout=row["readout"],
            metric=row["metric"],
            values=tuple(zip(rows["metric"], rows["value"].astype(float), strict=True)),
            leakage=row["leakage"],
            score=None if number is None else estimate(number),
            gain=None if number is None else gains.get(column),
            classes=tuple(row["classes"]),
            confusion=count_confusion(seen) if seen else (),
            reliability=bin_confidence(seen) if seen else (),
            fits=grids[row["directory"]].get(row["cell"], ()),
        )


def gains_of(board: Board, one: Run, twin: Run | None) -> dict[Column, Difference]:
    """The gain of a run over its twin on every task of a board: that of its row where the row is this run alone, else
    a family of its own over the tasks."""
    if twin is None or twin.run == one.run:
        return {}
    rows = [found for found in board.comparison.twins if found.variants == (one.variant, twin.variant)]
    if rows and _runs(board, one.variant) == 1:
        pairs = zip(board.columns, rows[0].entries, strict=True)
        return {column: each for column, each in pairs if each is not None}
    return judge_difference(board, one, twin, GAIN)


def judge_difference(board: Board, a: Run, b: Run, words: Words) -> dict[Column, Difference]:
    """The first minus the second of any two runs on every task that both answered: one family, over these tasks."""
    numbers = {column: (_number(board, a, column), _number(board, b, column)) for column in board.columns}
    both = {
        column: subtract(first, rename_seeds(second, first.seeds))
        for column, (first, second) in numbers.items()
        if first is not None and second is not None
    }
    return dict(zip(both, judge(list(both.values()), [words] * len(both)), strict=True))


def _runs(board: Board, variant: str) -> int:
    return sum(one.variant == variant for one in board.runs)


def _number(board: Board, one: Run, column: Column) -> Resampled | None:
    number = board.numbers.get((one.variant, column))
    return None if number is None or one.seed not in number.seeds else select_seeds(number, one.seed)


def count_confusion(seen: Predictions) -> tuple[tuple[int, ...], ...]:
    """Images by label (rows) and class of the highest score (columns), all folds and repeats together."""
    classes = seen.scores.shape[1]
    counts = np.zeros((classes, classes), dtype=int)
    np.add.at(counts, (seen.label, seen.scores.argmax(1)), 1)
    return tuple(tuple(int(count) for count in row) for row in counts)


def bin_confidence(seen: Predictions) -> tuple[tuple[float, float, int], ...]:
    """Mean confidence of the predicted class and share that is right, in bins of as many images, low to high."""
    confidence, right = seen.scores.max(1), seen.scores.argmax(1) == seen.label
    order = np.argsort(confidence, kind="stable")
    bins = np.array_split(order, min(BINS, len(order)))
    return tuple((float(confidence[b].mean()), float(right[b].mean()), len(b)) for b in bins)


def _read_grids(directory: Path) -> dict[str, tuple[Fit, ...]]:
    """Cell -> the whole grid of its probe, by setting."""
    path = directory / "fits.parquet"
    points: dict[str, dict[tuple, list]] = {}
    for one in schema.read_file(path).to_pylist() if path.exists() else ():
        read = json.loads(one["settings"])
        settings = tuple((name, str(value)) for name, value in sorted(read.items()) if name != "draw")
        points.setdefault(one["cell"], {}).setdefault((settings, one["metric"]), []).append(one)
    return {cell: tuple(_fit(*point, fits) for point, fits in grid.items()) for cell, grid in points.items()}


def _fit(settings: tuple, metric: str, fits: Sequence[Mapping]) -> Fit:
    return Fit(
        settings=settings,
        metric=metric,
        score=float(np.mean([one["score"] for one in fits])),
        chosen=sum(one["selected"] for one in fits),
        fits=len(fits),
    )


def compare_pairs(board: Board, most: int) -> Iterator[tuple[Run, Run, dict[Column, Difference]]]:
    """The paired differences of every two pretrained runs of a board, and of each and its twin; none where there are
    more than `most` pairs."""
    asked = [(a, b) for a, b in combinations(board.runs, 2) if _trained(a, b) or a.twin == b.run or b.twin == a.run]
    for a, b in asked if len(asked) <= most else ():
        yield a, b, compare_runs(board, a, b)


def _trained(*runs: Run) -> bool:
    return all(one.run != one.twin for one in runs)


def compare_runs(board: Board, a: Run, b: Run) -> dict[Column, Difference]:
    """As the board has it where both runs are whole rows of it; else a family of their own."""
    found = (
        contrast_of(board.comparison, a.variant, b.variant)
        if _runs(board, a.variant) == _runs(board, b.variant) == 1
        else None
    )
    if found is None:
        return judge_difference(board, a, b, pair(_called(a), _called(b)))
    return {column: one for column, one in zip(board.columns, found.entries, strict=True) if one is not None}


def _called(one: Run) -> str:
    return f"{one.name}, seed {one.seed}"
