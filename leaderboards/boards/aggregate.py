"""Stores -> boards: what was observed, newest versions only, by modality, corpus and track."""

from __future__ import annotations

import json
import math
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from benchmark.recipe import EXTERNAL
from leaderboards import words
from leaderboards.boards import claims, context, nuisances, series, store
from leaderboards.boards.board import Board, Ceiling, Column, Entry, Locality, Row
from leaderboards.boards.sections import Measured, measure, measure_corrupted
from leaderboards.boards.selection import Method, Selection, places, trained
from leaderboards.stats.intervals import estimate
from leaderboards.words import FLOOR, slug
from tasks import host
from tasks.store import processors

OUTSIDE = "other budget, other data"  # of an encoder from outside
MANY = 10_000  # rows of cells: boards of more are computed side by side, a process each
BESIDE = ("attentive", "mlp")  # probes that stand beside the headline, on a board and under its claims


def boards(results: Path, absent: Mapping[str, Mapping[str, str]] | None = None, *, without: str = "") -> list[Board]:
    """Every board of the store, by modality, corpus and track, but those of the track `without`.

    `absent` names tasks that this machine could not measure: modality -> task -> reason. Raises SchemaError on a file
    that cannot be read.
    """
    loaded = _load(results, without)
    asked = [(results, without, one, (absent or {}).get(one[0], {})) for one in places(loaded.runs)]
    processes = min(processors(), len(asked)) if len(loaded.cells) >= MANY else 1
    if processes < 2:
        return _in_order([_board(Selection(loaded, one), loaded, lacking) for *_, one, lacking in asked])
    asked.sort(key=lambda one: -loaded.cells["corpus_digest"].eq(one[2][2]).sum())  # the longest first
    return _in_order(host.map_in_processes(_make, *zip(*asked, strict=True), processes=processes))


def _make(results: Path, without: str, place: tuple[str, str, str, str], absent: Mapping[str, str]) -> Board:
    loaded = _load(results, without)
    return _board(Selection(loaded, place), loaded, absent)


def _load(results: Path, without: str) -> store.Store:
    loaded = store.load(results)
    return replace(loaded, runs=loaded.runs[loaded.runs["track"].ne(without)])


def summarise(loaded: store.Store, chosen: Container[str]) -> Iterator[dict[str, object]]:
    """Rows of the table `summaries`: what secondary probes say of the chosen runs."""
    runs = loaded.runs[[run in chosen for run in loaded.runs["run"]]]
    loaded = replace(loaded, runs=runs, ceilings=loaded.ceilings.iloc[:0])
    for board in places(runs):
        modality, _, digest, track = board
        about = Selection(loaded, board)
        for row in series.summaries(about.methods, about.columns, about.index):
            yield {"modality": modality, "track": track, "corpus_digest": digest, **row}


def _in_order(found: Sequence[Board]) -> list[Board]:
    """By modality, corpus and track. Where boards of several corpora share these, the newest keeps the plain
    name; the others are told apart by their content and say that they are earlier. Earlier boards come last."""
    newest: dict[tuple[str, ...], Board] = {}
    made = []
    for board in sorted(found, key=lambda one: (one.engine, one.updated, one.corpus_digest), reverse=True):
        first = newest.setdefault((board.modality, board.corpus, board.track), board)
        made.append(board if board is first else _superseded(board, first))
    return sorted(made, key=lambda one: (bool(one.earlier), one.modality, one.corpus, one.track))


def _superseded(board: Board, newest: Board) -> Board:
    other = f"An earlier board: newer runs of this track are of another corpus, content {newest.corpus_digest}."
    return replace(
        board,
        slug=f"{board.slug}-{slug(board.corpus_digest)}",
        title=f"{board.title}, earlier corpus {board.corpus_digest}",
        earlier=f"{other} {board.earlier}".strip(),
        superseded=True,
    )


def _board(chosen: Selection, loaded: store.Store, absent: Mapping[str, str]) -> Board:
    runs, cells, columns, methods = chosen.runs, chosen.cells, chosen.columns, chosen.methods
    first, measured = runs.iloc[0], measure(chosen)
    modality, corpus, track = first["modality"], first["corpus"], first["track"]
    localities = context.read_localities(columns, loaded.locality[loaded.locality["modality"] == modality])
    sections = tuple(
        replace(section, rows=_with_notes(_merged(section.rows, methods), chosen, loaded.submitted))
        for section in measured.sections
    )
    return Board(
        slug=slug(f"{modality}-{corpus}-{track}"),
        title=f"{words.modality(modality)}: {corpus} corpus, {track} track",
        modality=modality,
        corpus=corpus,
        corpus_digest=first["corpus_digest"],
        corpus_images=int(first["corpus_images"]),
        track=track,
        synthetic=bool(runs["synthetic"].any() or cells["synthetic"].any()),
        budgets=tuple(sorted(set(trained(runs)["budget_flops"]))),
        seeds=tuple(sorted(set(runs["seed"]))),
        pixels=tuple(sorted({int(side) for side in runs["stored_pixels"]})),
        encoder="; ".join(sorted(set(runs["encoder"]))),
        columns=columns,
        pooled=tuple(column.title for column in measured.pooled),
        ranked=any(row.letters for row in sections[0].rows),
        sections=sections,
        comparison=measured.comparison,
        claims=claims.judge(claims.load(), methods, columns, _evidence(chosen, measured, localities)),
        baselines=context.read_baselines(
            columns, loaded.baselines[loaded.baselines["pixels"].isin(runs["stored_pixels"])]
        ),
        costs=tuple(context.cost_of(method, runs) for method in methods if not method.twin),
        curves=tuple(curve for method in methods if not method.twin for curve in context.read_curves(method, runs)),
        missing=(*_missing(sections[0].rows, columns), *sorted(absent.items())),
        footnotes=chosen.footnotes,
        earlier=context.describe_engine(runs),
        engine=int(runs["engine"].max()),
        provenance=context.describe_provenance(runs),
        localities=localities,
        ceilings=tuple(_ceiling(column, chosen, measured) for column in columns),
        series=(
            *series.read(methods, columns, chosen.index),
            *series.read_summaries(methods, columns, chosen.index, loaded.summaries),
        ),
        ledgers=nuisances.read(methods, columns, chosen.index),
        ratings=context.read_ratings(methods, columns, loaded.ratings),
        runs=tuple(run for method in methods for run in context.runs_of(method, runs)),
        numbers=measured.numbers,
        updated=max(runs["created"].max(), cells["created"].max() if len(cells) else ""),
    )


def _evidence(chosen: Selection, measured: Measured, localities: Sequence[Locality | None]) -> claims.Evidence:
    found = zip(chosen.columns, localities, strict=True)
    return claims.Evidence(
        numbers=measured.numbers,
        locality={column.task: one.value for column, one in found if one is not None},
        corrupted=lambda corruption, strength: measure_corrupted(chosen, corruption, strength),
        ceilings=measured.ceilings,
        probes={probe: measured.others[probe, "patches"] for probe in BESIDE if (probe, "patches") in measured.others},
        budgets=dict(zip(chosen.runs["variant"], chosen.runs["budget_flops"], strict=True)),
    )


def _ceiling(column: Column, chosen: Selection, measured: Measured) -> Ceiling | None:
    number = measured.ceilings.get(column)
    if number is None or not math.isfinite((score := estimate(number)).value):
        return None
    return Ceiling(labels=chosen.ceilings[column].labels, score=score, seeds=number.seeds)


def _missing(rows: Sequence[Row], columns: Sequence[Column]) -> Iterator[tuple[str, str]]:
    """Empty cells of the headline, and why."""
    for row in rows:
        for column, entry in zip(columns, row.entries, strict=True):
            if entry.missing or entry.note:
                yield f"{row.name} on {column.title}", entry.missing or entry.note
    yield from ((f"{row.name}, mean gain", row.mean.missing) for row in rows if row.mean.missing)
    yield from ((row.name, row.note) for row in rows if row.note)


def _merged(rows: Sequence[Row], methods: Sequence[Method]) -> tuple[Row, ...]:
    """Twins that are one encoder with one set of numbers, shown as one row; with the names of their pretexts where
    there are several."""
    weights = {method.variant: method.weights for method in methods}
    twins: dict[tuple, list[Row]] = {}
    for row in rows:
        if row.twin:
            values = tuple(entry.score and entry.score.value for entry in row.entries)
            twins.setdefault((weights[row.variant], row.seeds, values), []).append(row)
    floors = [
        replace(same[0], name=FLOOR if len(twins) == 1 else f"Untrained ({', '.join(row.name for row in same)})")
        for same in twins.values()
    ]
    return (*(row for row in rows if not row.twin), *floors)


def _with_notes(rows: Sequence[Row], chosen: Selection, submitted: Mapping[str, store.Sent]) -> tuple[Row, ...]:
    """Encoders from outside, noted where their pretraining data may hold a test set, or were not declared; rows that
    others submitted, with whether anybody has run them again."""
    runs, cells = chosen.runs, chosen.cells
    outside = runs[runs["pretext"].eq(EXTERNAL) & runs["run"].ne(runs["twin"])]
    declared = {row.run: json.loads(row.recipe)["settings"]["pretrained_on"] for row in outside.itertuples()}
    warned = cells[cells["leakage"].eq("warn") & cells["run"].isin(declared)]
    warned = {*warned[["run", "task", "data"]].itertuples(index=False, name=None)}
    first_run = {method.variant: next(iter(method.runs.values())) for method in chosen.methods}

    def noted(run: str, entry: Entry, column: Column) -> Entry:
        if declared[run] is None:
            note = "its pretraining data are not declared"
        elif (run, column.task, column.data) in warned and column.leakage != "warn":
            note = "its pretraining data may hold this test set"
        else:
            return entry
        return replace(entry, note=", ".join(filter(None, [entry.note, note])))

    where = dict(zip(runs["run"], runs["directory"], strict=True))
    made = []
    for row in rows:
        run = first_run[row.variant]
        if run in declared:
            entries = tuple(noted(run, *pair) for pair in zip(row.entries, chosen.columns, strict=True))
            row = replace(row, entries=entries, note=", ".join(filter(None, [row.note, OUTSIDE])))
        sent = [str(submitted[where[one]]) for one in row.runs if where[one] in submitted]
        if sent:
            row = replace(row, note=", ".join(filter(None, [row.note, *dict.fromkeys(sent)])))
        made.append(row)
    return tuple(made)
