"""Stores -> boards: what was observed, newest versions only, by modality, corpus and track."""

from __future__ import annotations

import json
import math
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from benchmark.metrics import SEGMENTATION
from benchmark.recipe import EXTERNAL
from leaderboards.boards import ceilings, claims, nuisances, series, store
from leaderboards.boards.board import (
    Board,
    Ceiling,
    Column,
    Entry,
    Row,
)
from leaderboards.boards.context import (
    cost_of,
    describe_engine,
    describe_provenance,
    read_baselines,
    read_curves,
    read_localities,
    read_ratings,
    run_of,
)
from leaderboards.boards.contrasts import Numbers
from leaderboards.boards.sections import HEADLINE, Measured, build_sections, under_condition
from leaderboards.boards.selection import (
    QUESTION,
    Line,
    describe_runs,
    make_columns,
    make_lines,
    select_newest,
    trained_runs,
)
from leaderboards.stats.intervals import estimate
from leaderboards.stats.resampling import Predictions, Resampled
from leaderboards.words import FLOOR, slug

BOARD = ["modality", "corpus", "corpus_digest", "track"]
OUTSIDE = "other budget, other data"  # of an encoder from outside
ROBUST = ("robustness", "patches")  # probe and readout that hold predictions under nuisances
PROBES = ("linear", "attentive", "mlp", "knn", "fewshot", "dense")  # order of the sections; others follow
BESIDE = ("attentive", "mlp")  # probes that stand beside the headline, on a board and under its claims
AGAIN = ("robustness", "scale")  # the linear probe's answers over again, and beside them what has tables of its own


def boards(results: Path, absent: Mapping[str, Mapping[str, str]] | None = None, *, without: str = "") -> list[Board]:
    """Every board of the store, by modality, corpus and track, but those of the track `without`.

    `absent` names tasks that this machine could not measure: modality -> task -> reason. Raises SchemaError on a file
    that cannot be read.
    """
    loaded = store.load(results)
    runs, found = describe_runs(loaded.runs[loaded.runs["track"].ne(without)]), []
    for names, here in runs.groupby(BOARD, sort=True):
        cells = loaded.cells[(loaded.cells[BOARD] == list(names)).all(axis=1)]
        plain = loaded.baselines[loaded.baselines["pixels"].isin(here["stored_pixels"])]
        measured = loaded.locality[loaded.locality["modality"] == names[0]]
        taught = _of_budget(loaded.ceilings, here)
        board = _board(here, cells, plain, taught, measured, loaded.summaries, (absent or {}).get(str(names[0]), {}))
        newest = make_lines(select_newest(here, cells)[0])
        found.append(replace(board, ratings=read_ratings(newest, board.columns, loaded.ratings)))
    return _ordered(found)


def summarise(loaded: store.Store, chosen: Container[str]) -> Iterator[dict[str, object]]:
    """Rows of the table `summaries`: what secondary probes say of the chosen runs."""
    some = loaded.runs[[run in chosen for run in loaded.runs["run"]]]
    for names, here in describe_runs(some).groupby(BOARD, sort=True):
        modality, _, digest, track = names
        cells = loaded.cells[(loaded.cells[BOARD] == list(names)).all(axis=1)]
        answers = Answers(here, cells[cells["run"].isin(here["run"])], loaded.ceilings.iloc[:0])
        for row in series.summaries(answers.lines, answers.columns, answers.index):
            yield {"modality": modality, "track": track, "corpus_digest": digest, **row}


def _ordered(found: Sequence[Board]) -> list[Board]:
    """By modality, corpus and track. Where boards of several corpora share these, the newest keeps the plain
    name; the others are told apart by their content and say that they are earlier. Earlier boards come last."""
    names = {(board.modality, board.corpus, board.track): board for board in sorted(found, key=_age)}
    order = list(dict.fromkeys((board.modality, board.corpus, board.track) for board in found))
    made = []
    for name in sorted(order):
        newest = names[name]
        some = [board for board in found if (board.modality, board.corpus, board.track) == name]
        for board in sorted(some, key=_age, reverse=True):
            made.append(board if board is newest else _superseded(board, newest))
    return sorted(made, key=lambda board: bool(board.earlier))


def _age(board: Board) -> tuple[int, str, str]:
    return board.engine, board.updated, board.corpus_digest


def _superseded(board: Board, newest: Board) -> Board:
    other = f"An earlier board: newer runs of this track are of another corpus, content {newest.corpus_digest}."
    return replace(
        board,
        slug=f"{board.slug}-{slug(board.corpus_digest)}",
        title=f"{board.title}, earlier corpus {board.corpus_digest}",
        earlier=f"{other} {board.earlier}".strip(),
        superseded=True,
    )


def _of_budget(stored: pd.DataFrame, runs: pd.DataFrame) -> pd.DataFrame:
    """The stored ceilings of the modality and track of these runs, at their training FLOPs."""
    first, budgets = runs.iloc[0], set(trained_runs(runs)["budget_flops"])
    own = stored[stored["modality"].eq(first["modality"]) & stored["track"].eq(first["track"])]
    if not budgets:
        return own
    close = [any(math.isclose(one, budget, rel_tol=1e-6) for budget in budgets) for one in own["budget_flops"]]
    return own[pd.Series(close, index=own.index, dtype=bool)]


class Answers:
    """What a board shows of its runs and cells: rows, tasks, and the predictions behind each pair of them."""

    def __init__(self, runs: pd.DataFrame, cells: pd.DataFrame, stored: pd.DataFrame):
        """stored: ceilings."""
        self.runs, self.cells, self.footnotes = select_newest(runs, cells)
        cells = self.cells
        dense, altered = cells["metric"].isin(SEGMENTATION), cells["probe"].eq(nuisances.PROBE)
        columns, self.lines = make_columns(cells[~dense & ~altered]), make_lines(self.runs)
        self.measures = dict(zip(cells.loc[dense, "probe"], cells.loc[dense, "metric"], strict=True))
        shown = cells[~altered & ~cells["probe"].isin(AGAIN)]
        asked = set(zip(shown["probe"], shown["readout"], strict=True)) | {HEADLINE}
        self.asked = sorted(asked, key=_section_order)
        self.index = {tuple(row[name] for name in ("run", *QUESTION)): row for row in cells.to_dict("records")}
        found = ceilings.load(columns, stored, sorted({line.size for line in self.lines} - {""}))
        judged = {column: self._judged(column, found.get(column)) for column in columns}
        self.columns = tuple(column for column, _ in judged.values())
        self.tops = {column: top for column, top in judged.values() if top is not None}

    def _judged(self, column: Column, top: ceilings.Ceiling | None) -> tuple[Column, ceilings.Ceiling | None]:
        """Whether labels teach a task, above every twin of encoders like the ceiling's; and its ceiling, paired."""
        if top is None:
            return column, None
        twins = {}  # those that are one encoder with one set of numbers, once
        for line in self.lines:
            if line.twin and line.size == top.size and (rows := self._rows(line, column, *HEADLINE)):
                twins[line.weights, tuple(row["value"] for row in rows.values())] = line
        floors = [self.load(line, column, *HEADLINE) for line in twins.values()]
        if not floors:
            return column, top
        first = next(iter(floors[0].values()))
        top = ceilings.fitting(column, top, first)
        return replace(column, taught=ceilings.taught(column, top, floors)), top

    def sections(self, asked: Sequence[tuple[str, str]] | None = None) -> Measured:
        """Of these probes and readouts, or of all."""
        return build_sections(self.lines, self.columns, asked or self.asked, self.load, self.measures, self.tops)

    def load(self, line: Line, column: Column, probe: str, readout: str) -> dict[int, Predictions]:
        rows = self._rows(line, column, probe, readout)
        return {seed: store.predictions(row["directory"], row["cell"], row["protocol"]) for seed, row in rows.items()}

    def corrupted(self, corruption: str, strength: int) -> Numbers:
        def load(line: Line, column: Column) -> dict[int, Predictions]:
            seen = {
                seed: store.corrupted(row["directory"], row["cell"], row["protocol"], corruption, strength)
                for seed, row in self._rows(line, column, *ROBUST).items()
            }
            return {seed: one for seed, one in seen.items() if one is not None}

        return under_condition(self.lines, self.columns, load)

    def _rows(self, line: Line, column: Column, probe: str, readout: str) -> dict[int, Mapping]:
        """Seed -> cell."""
        cells = {s: self.index.get((run, column.task, column.data, probe, readout)) for s, run in line.runs.items()}
        return {seed: row for seed, row in sorted(cells.items()) if row is not None}


def answers(loaded: store.Store, place: Sequence[str]) -> Answers:
    """The rows and tasks of one board (modality, corpus, its digest, track)."""
    runs = loaded.runs[(loaded.runs[BOARD] == list(place)).all(axis=1)]
    cells = loaded.cells[(loaded.cells[BOARD] == list(place)).all(axis=1)]
    return Answers(describe_runs(runs), cells, _of_budget(loaded.ceilings, runs))


def _board(
    runs: pd.DataFrame,
    cells: pd.DataFrame,
    plain: pd.DataFrame,
    taught: pd.DataFrame,
    measured: pd.DataFrame,
    summarised: pd.DataFrame,
    absent: Mapping[str, str],
) -> Board:
    """taught: the stored ceilings of this track and budget."""
    answers = Answers(runs, cells, taught)
    runs, cells, columns, lines = answers.runs, answers.cells, answers.columns, answers.lines
    answered = answers.sections()
    localities = read_localities(columns, measured)
    known = {column.task: one.value for column, one in zip(columns, localities, strict=True) if one is not None}
    judged = claims.judge(claims.load(), lines, columns, _evidence(answers, answered, known))
    sections = tuple(replace(section, rows=_merged(section.rows, lines)) for section in answered.sections)
    sections = tuple(
        replace(section, rows=_contaminated(section.rows, columns, lines, runs, cells)) for section in sections
    )
    first = runs.iloc[0]
    trained = trained_runs(runs)
    missing = [
        (f"{row.name} on {column.title}", entry.missing or entry.note)
        for row in sections[0].rows
        for column, entry in zip(columns, row.entries, strict=True)
        if entry.missing or entry.note
    ]
    missing += [(f"{row.name}, mean gain", row.mean.missing) for row in sections[0].rows if row.mean.missing]
    missing += [(row.name, row.note) for row in sections[0].rows if row.note]
    return Board(
        slug=slug(f"{first['modality']}-{first['corpus']}-{first['track']}"),
        title=f"{str(first['modality']).capitalize()}: {first['corpus']} corpus, {first['track']} track",
        modality=first["modality"],
        corpus=first["corpus"],
        corpus_digest=first["corpus_digest"],
        corpus_images=int(first["corpus_images"]),
        track=first["track"],
        synthetic=bool(runs["synthetic"].any() or cells["synthetic"].any()),
        budgets=tuple(sorted(set(trained["budget_flops"]))),
        seeds=tuple(sorted(set(runs["seed"]))),
        pixels=tuple(sorted({int(side) for side in runs["stored_pixels"]})),
        encoder="; ".join(sorted(set(runs["encoder"]))),
        columns=columns,
        pooled=tuple(column.title for column in answered.pooled),
        ranked=any(row.letters for row in sections[0].rows),
        sections=sections,
        comparison=answered.comparison,
        claims=judged,
        baselines=read_baselines(columns, plain),
        costs=tuple(cost_of(line, runs) for line in lines if not line.twin),
        curves=tuple(curve for line in lines if not line.twin for curve in read_curves(line, runs)),
        missing=(*missing, *sorted(absent.items())),
        footnotes=answers.footnotes,
        earlier=describe_engine(runs),
        engine=int(runs["engine"].max()),
        provenance=describe_provenance(runs),
        localities=localities,
        ceilings=tuple(_ceiling(answers.tops.get(column), answered.ceilings.get(column)) for column in columns),
        series=(
            *series.measured(lines, columns, answers.index),
            *series.summarised(lines, columns, answers.index, summarised),
        ),
        ledgers=nuisances.read(lines, columns, answers.index),
        runs=tuple(run_of(line, row) for line in lines for row in runs[runs["variant"] == line.variant].itertuples()),
        numbers=answered.numbers,
        updated=max(runs["created"].max(), cells["created"].max() if len(cells) else ""),
    )


def _evidence(answers: Answers, answered: Measured, localities: Mapping[str, float | None]) -> claims.Evidence:
    return claims.Evidence(
        numbers=answered.numbers,
        locality=localities,
        corrupted=answers.corrupted,
        ceilings=answered.ceilings,
        probes={probe: answered.others[probe, "patches"] for probe in BESIDE if (probe, "patches") in answered.others},
        budgets=dict(zip(answers.runs["variant"], answers.runs["budget_flops"], strict=True)),
    )


def _ceiling(top: ceilings.Ceiling | None, number: Resampled | None) -> Ceiling | None:
    if top is None or number is None or not math.isfinite((score := estimate(number)).value):
        return None
    return Ceiling(labels=top.labels, score=score, seeds=number.seeds)


def _merged(rows: tuple[Row, ...], lines: tuple[Line, ...]) -> tuple[Row, ...]:
    """Twins that are one encoder with one set of numbers, shown as one row; with the names of their pretexts where
    there are several."""
    weights = {line.variant: line.weights for line in lines}
    numbers: dict[tuple, list[str]] = {}
    for row in rows:
        if row.twin:
            values = tuple(entry.score and entry.score.value for entry in row.entries)
            numbers.setdefault((weights[row.variant], row.seeds, values), []).append(row.variant)
    kept = {variants[0]: variants for variants in numbers.values()}
    names = {row.variant: row.name for row in rows}
    return tuple(
        replace(row, name=_floor([names[variant] for variant in kept[row.variant]], alone=len(kept) == 1))
        if row.twin
        else row
        for row in rows
        if not row.twin or row.variant in kept
    )


def _floor(pretexts: Sequence[str], alone: bool) -> str:
    return FLOOR if alone else f"Untrained ({', '.join(pretexts)})"


def _contaminated(
    rows: tuple[Row, ...], columns: tuple[Column, ...], lines: tuple[Line, ...], runs: pd.DataFrame, cells: pd.DataFrame
) -> tuple[Row, ...]:
    """Encoders from outside, noted where their pretraining data may hold a test set, or were not declared."""
    outside = runs[runs["pretext"].eq(EXTERNAL) & runs["run"].ne(runs["twin"])]
    declared = {row.run: json.loads(row.recipe)["settings"]["pretrained_on"] for row in outside.itertuples()}
    warned = cells[cells["leakage"].eq("warn") & cells["run"].isin(declared)]
    warned = set(warned[["run", "task", "data"]].itertuples(index=False, name=None))
    runs_of = {line.variant: tuple(line.runs.values()) for line in lines}

    def noted(run: str, entry: Entry, column: Column) -> Entry:
        if declared[run] is None:
            return replace(entry, note=", ".join(filter(None, [entry.note, "its pretraining data are not declared"])))
        if (run, column.task, column.data) in warned and column.leakage != "warn":
            return replace(
                entry, note=", ".join(filter(None, [entry.note, "its pretraining data may hold this test set"]))
            )
        return entry

    def marked(row: Row) -> Row:
        run = runs_of[row.variant][0]
        if run not in declared:
            return row
        entries = tuple(noted(run, *pair) for pair in zip(row.entries, columns, strict=True))
        return replace(row, entries=entries, note=", ".join(filter(None, [row.note, OUTSIDE])))

    return tuple(marked(row) for row in rows)


def _section_order(asked: tuple[str, str]) -> tuple:
    probe, readout = asked
    place = PROBES.index(probe) if probe in PROBES else len(PROBES)
    return (asked != HEADLINE, place, probe, readout != "patches", readout)
