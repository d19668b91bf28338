"""Stores -> boards: what was observed, newest versions only, by modality, corpus and track."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from benchmark.metrics import SEGMENTATION
from benchmark.recipe import ENGINE, EXTERNAL, Recipe, canonical, key
from benchmark.recipe import twin as twin_of
from benchmark.storage import results as schema
from leaderboards.boards import ceilings, claims, contrasts, ledger, ratings, series, store, summaries
from leaderboards.boards.board import (
    HEALTH,
    LOSS,
    Baseline,
    Board,
    Ceiling,
    Column,
    Cost,
    Curve,
    Entry,
    Locality,
    Row,
    Run,
)
from leaderboards.boards.comparisons import Numbers
from leaderboards.boards.contrasts import HEADLINE, Line
from leaderboards.stats.statistics import Predictions, Resampled, draw, estimate, resample
from leaderboards.words import FLOOR, slug

BOARD = ["modality", "corpus", "corpus_digest", "track"]
QUESTION = ["task", "data", "probe", "readout"]
OUTSIDE = "other budget, other data"  # of an encoder from outside
ROBUST = ("robustness", "patches")  # probe and readout that hold predictions under nuisances
NAMES = {"mae": "MAE", "ijepa": "I-JEPA", "dinov3": "DINOv3"}
BASELINES = {"majority": "Majority class", "histogram": "Colour histogram", "thumbnail": "8 × 8 thumbnail"}
PROBES = ("linear", "attentive", "mlp", "knn", "fewshot", "dense")  # order of the sections; others follow
BESIDE = ("attentive", "mlp")  # probes that stand beside the headline, on a board and under its claims
AGAIN = ("robustness", "scale")  # the linear probe's answers over again, and beside them what has tables of its own
QUANTITIES = {"loss": LOSS, "rankme": HEALTH}  # what is drawn, by the last word of a curve's name
POINTS = 120  # per drawn curve


def boards(results: Path, absent: Mapping[str, Mapping[str, str]] | None = None, *, without: str = "") -> list[Board]:
    """Every board of the store, by modality, corpus and track, but those of the track `without`.

    `absent` names tasks that this machine could not measure: modality -> task -> reason. Raises SchemaError on a file
    that cannot be read.
    """
    loaded = store.load(results)
    runs, found = _described(loaded.runs[loaded.runs["track"].ne(without)]), []
    for names, here in runs.groupby(BOARD, sort=True):
        cells = loaded.cells[(loaded.cells[BOARD] == list(names)).all(axis=1)]
        plain = loaded.baselines[loaded.baselines["pixels"].isin(here["stored_pixels"])]
        measured = loaded.locality[loaded.locality["modality"] == names[0]]
        taught = _of_budget(loaded.ceilings, here)
        board = _board(here, cells, plain, taught, measured, loaded.summaries, (absent or {}).get(str(names[0]), {}))
        newest = _lines(_newest(here, cells)[0])
        found.append(replace(board, ratings=ratings.read(newest, board.columns, loaded.ratings)))
    return _ordered(found)


def summarise(loaded: store.Store, chosen: Container[str]) -> Iterator[dict[str, object]]:
    """Rows of the table `summaries`: what secondary probes say of the chosen runs."""
    some = loaded.runs[[run in chosen for run in loaded.runs["run"]]]
    for names, here in _described(some).groupby(BOARD, sort=True):
        modality, _, digest, track = names
        cells = loaded.cells[(loaded.cells[BOARD] == list(names)).all(axis=1)]
        answers = Answers(here, cells[cells["run"].isin(here["run"])], loaded.ceilings.iloc[:0])
        for row in summaries.rows(answers.lines, answers.columns, answers.index):
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
    first, budgets = runs.iloc[0], set(_trained(runs)["budget_flops"])
    own = stored[stored["modality"].eq(first["modality"]) & stored["track"].eq(first["track"])]
    if not budgets:
        return own
    close = [any(math.isclose(one, budget, rel_tol=1e-6) for budget in budgets) for one in own["budget_flops"]]
    return own[pd.Series(close, index=own.index, dtype=bool)]


def _trained(runs: pd.DataFrame) -> pd.DataFrame:
    return runs[runs["run"].ne(runs["twin"]) & runs["pretext"].ne(EXTERNAL)]


def _described(runs: pd.DataFrame) -> pd.DataFrame:
    """Runs with what their recipe says of the row that they belong to."""
    parsed = [store.recipe(text, source) for text, source in zip(runs["recipe"], runs["directory"], strict=True)]
    return runs.assign(
        variant=[key(replace(recipe, seed=0)) for recipe in parsed],
        twin_variant=[key(replace(twin_of(recipe), seed=0)) for recipe in parsed],
        encoder=[_encoder(recipe) for recipe in parsed],
        size=[ceilings.size(canonical(recipe.encoder)) for recipe in parsed],
        stored_pixels=[recipe.stored_pixels for recipe in parsed],
    )


class Answers:
    """What a board shows of its runs and cells: rows, tasks, and the predictions behind each pair of them."""

    def __init__(self, runs: pd.DataFrame, cells: pd.DataFrame, stored: pd.DataFrame):
        """stored: ceilings."""
        self.runs, self.cells, self.footnotes = _newest(runs, cells)
        cells = self.cells
        dense, altered = cells["metric"].isin(SEGMENTATION), cells["probe"].eq(ledger.PROBE)
        columns, self.lines = _columns(cells[~dense & ~altered]), _lines(self.runs)
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

    def sections(self, asked: Sequence[tuple[str, str]] | None = None) -> contrasts.Measured:
        """Of these probes and readouts, or of all."""
        return contrasts.sections(self.lines, self.columns, asked or self.asked, self.load, self.measures, self.tops)

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

        return contrasts.under(self.lines, self.columns, load)

    def _rows(self, line: Line, column: Column, probe: str, readout: str) -> dict[int, Mapping]:
        """Seed -> cell."""
        cells = {s: self.index.get((run, column.task, column.data, probe, readout)) for s, run in line.runs.items()}
        return {seed: row for seed, row in sorted(cells.items()) if row is not None}


def answers(loaded: store.Store, place: Sequence[str]) -> Answers:
    """The rows and tasks of one board (modality, corpus, its digest, track)."""
    runs = loaded.runs[(loaded.runs[BOARD] == list(place)).all(axis=1)]
    cells = loaded.cells[(loaded.cells[BOARD] == list(place)).all(axis=1)]
    return Answers(_described(runs), cells, _of_budget(loaded.ceilings, runs))


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
    localities = _localities(columns, measured)
    known = {column.task: one.value for column, one in zip(columns, localities, strict=True) if one is not None}
    judged = claims.judge(claims.load(), lines, columns, _evidence(answers, answered, known))
    sections = tuple(replace(section, rows=_merged(section.rows, lines)) for section in answered.sections)
    sections = tuple(
        replace(section, rows=_contaminated(section.rows, columns, lines, runs, cells)) for section in sections
    )
    first = runs.iloc[0]
    trained = _trained(runs)
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
        baselines=_baselines(columns, plain),
        costs=tuple(_cost(line, runs) for line in lines if not line.twin),
        curves=tuple(curve for line in lines if not line.twin for curve in _curves(line, runs)),
        missing=(*missing, *sorted(absent.items())),
        footnotes=answers.footnotes,
        earlier=_earlier(runs),
        engine=int(runs["engine"].max()),
        provenance=_provenance(runs),
        localities=localities,
        ceilings=tuple(_ceiling(answers.tops.get(column), answered.ceilings.get(column)) for column in columns),
        series=(
            *series.measured(lines, columns, answers.index),
            *summaries.stored(lines, columns, answers.index, summarised),
        ),
        ledgers=ledger.read(lines, columns, answers.index),
        runs=tuple(_stored(line, row) for line in lines for row in runs[runs["variant"] == line.variant].itertuples()),
        numbers=answered.numbers,
        updated=max(runs["created"].max(), cells["created"].max() if len(cells) else ""),
    )


def _evidence(
    answers: Answers, answered: contrasts.Measured, localities: Mapping[str, float | None]
) -> claims.Evidence:
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


def _baselines(columns: tuple[Column, ...], plain: pd.DataFrame) -> tuple[Baseline, ...]:
    plain = plain[plain["headline"] & plain["version"].eq(plain["version"].max())]
    rows = {tuple(row[name] for name in ("baseline", "task", "data")): row for row in plain.to_dict("records")}
    found = []
    for name, title in BASELINES.items():
        scores = []
        for column in columns:
            row = rows.get((name, column.task, column.data))
            if row is None:
                scores.append(None)
                continue
            seen = store.predictions(row["directory"], row["cell"], row["protocol"])
            score = estimate(resample((0,), [seen], column.metric, draw([seen]), column.independent))
            scores.append(score if math.isfinite(score.value) else None)
        if any(scores):
            found.append(Baseline(name=title, scores=tuple(scores)))
    return tuple(found)


def _localities(columns: tuple[Column, ...], measured: pd.DataFrame) -> tuple[Locality | None, ...]:
    """Measured locality of each task's images, by the newest measurement."""
    rows = measured.sort_values(["version", "created"], kind="stable").itertuples()
    found = {
        (row.task, row.data): Locality(**{name: _known(getattr(row, name)) for name in ("value", "low", "high")})
        for row in rows
    }
    return tuple(found.get((column.task, column.data)) for column in columns)


def _known(x: float) -> float | None:
    return None if pd.isna(x) else float(x)


def _newest(runs: pd.DataFrame, cells: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame, tuple[str, ...]]:
    """Rows of the newest versions, each run and each cell once; and what was left out, in words.

    Of a recipe that was trained several times the encoder that most was asked of counts, never the better one."""
    notes = []
    current = runs["engine"].eq(runs["engine"].max())
    current &= runs["pretext_version"].eq(runs.groupby("pretext")["pretext_version"].transform("max"))
    if not current.all():
        notes.append(f"{(~current).sum()} runs of older versions are in the store and not on this board.")
    counted = cells.groupby(["run", "weights_sha256"]).size().rename("asked").reset_index()
    runs = runs[current].merge(counted, how="left", on=["run", "weights_sha256"]).fillna({"asked": 0})
    runs = runs.sort_values(["asked", "created", "directory"], ascending=[False, True, True], kind="stable")
    again = runs.duplicated("run")
    if again.any():
        notes.append(
            f"{again.sum()} repetitions of the same recipe are not shown: the one that most was asked of is, of equals "
            "the first."
        )
    runs = runs[~again].drop(columns="asked").sort_values(["created", "directory"], kind="stable")

    cells = cells[cells["headline"]].merge(runs[["run", "weights_sha256"]], on=["run", "weights_sha256"])
    current = cells["task_version"].eq(cells.groupby("task")["task_version"].transform("max"))
    current &= cells["probe_version"].eq(cells.groupby("probe")["probe_version"].transform("max"))
    if not current.all():
        notes.append(
            f"{(~current).sum()} cells of older task or probe versions are in the store and not on this board."
        )
    cells = cells[current].sort_values(["created", "directory"], kind="stable")
    latest = cells["settings"].eq(cells.groupby(["task", "probe", "readout"])["settings"].transform("last"))
    if not latest.all():
        notes.append(f"{(~latest).sum()} cells with other probe settings are not shown; the latest settings are.")
    cells = cells[latest]
    return runs, cells[~cells.duplicated(["run", *QUESTION])], tuple(notes)


def _earlier(runs: pd.DataFrame) -> str:
    """That the runs are of an earlier engine than this code's, in words; "" where they are not."""
    engine = runs["engine"].max()
    return f"Measured by engine {engine}; this code is engine {ENGINE}." if engine < ENGINE else ""


def _columns(cells: pd.DataFrame) -> tuple[Column, ...]:
    """One column per task and identity of its samples, by title."""
    found = []
    for (task, data), rows in cells.groupby(["task", "data"], sort=True):
        row = rows.iloc[0]
        expected = row["data_expected"]
        partial = pd.notna(expected) and int(expected) != row["data_images"]
        found.append(
            Column(
                task=str(task),
                data=str(data),
                title=row["task_title"],
                metric=row["metric"],
                classes=tuple(row["classes"]),
                groups=int(row["groups"]),
                group_kind=row["group_kind"],
                family=row["family"],
                independent=bool(row["independent"]),
                samples=int(row["samples"]),
                protocol=row["protocol"],
                leakage=_worst(
                    set(rows.loc[rows["pretext"].ne(EXTERNAL) | rows["pretext"].eq(EXTERNAL).all(), "leakage"])
                ),
                images=int(row["data_images"]),
                partial=f"partial: {int(row['data_images']):,} of {int(expected):,} images" if partial else "",
                synthetic=bool(row["synthetic"]),
                pixels=row.get("sides", ""),
                version=int(row["task_version"]),
            )
        )
    return tuple(sorted(found, key=lambda column: (column.title, column.data)))


def _worst(found: set[str]) -> str:
    return next((level for level in ("warn", "unknown", "pass") if level in found), "unknown")


def _lines(runs: pd.DataFrame) -> tuple[Line, ...]:
    """One line per recipe without its seed; names carry the variant where a pretext has several."""
    runs = runs.assign(arm=[json.loads(text)["settings"].get("arm", "") for text in runs["recipe"]])
    variants = runs[runs["run"] != runs["twin"]].groupby(["pretext", "arm"])["variant"].nunique()
    found = []
    for variant, rows in runs.groupby("variant", sort=False):
        rows, row = rows.sort_values("seed"), rows.iloc[0]
        twin = bool(row["run"] == row["twin"])
        arm = row["arm"]
        name = recipe = NAMES.get(row["pretext"], row["pretext"]) + (f" ({arm})" if arm else "")
        if variants.get((row["pretext"], arm), 1) > 1:
            name += f" ({variant[:6]})"
        found.append(
            Line(
                name=name,
                recipe=recipe,
                twin=twin,
                variant=str(variant),
                twin_variant=row["twin_variant"],
                runs=dict(zip(rows["seed"], rows["run"], strict=True)),
                weights=tuple(rows["weights_sha256"]),
                diverged=tuple(rows.loc[rows["status"] == "diverged", "seed"]),
                size=row["size"],
            )
        )
    order = {name: place for place, name in enumerate(NAMES.values())}
    return tuple(
        sorted(found, key=lambda line: (line.twin, order.get(line.name.split(" (")[0], len(order)), line.name))
    )


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


def _cost(line: Line, runs: pd.DataFrame) -> Cost:
    rows = runs[runs["variant"] == line.variant]
    return Cost(
        name=line.name,
        runs=tuple(rows["run"]),
        seeds=tuple(sorted(line.runs)),
        budget_flops=float(rows["budget_flops"].mean()),
        realised_flops=float(rows["realised_flops"].mean()),
        steps=float(rows["steps"].mean()),
        images_seen=float(rows["images_seen"].mean()),
        seconds=float(rows["seconds"].mean()),
        devices=tuple(sorted(set(rows["device"]))),
        status=", ".join(f"{count} {status}" for status, count in sorted(Counter(rows["status"]).items())),
        memory_bytes=_known(rows["peak_memory_bytes"].mean()),
    )


def _stored(line: Line, row) -> Run:
    return Run(
        run=row.run,
        twin=row.twin,
        name=f"Untrained twin of {line.name}" if line.twin else line.name,
        variant=line.variant,
        seed=int(row.seed),
        weights=row.weights_sha256 or "",
        directory=row.directory,
        created=row.created,
    )


def _curves(line: Line, runs: pd.DataFrame) -> list[Curve]:
    """Loss and a health value of every seed, thinned to what can be drawn."""
    found = []
    for _, run in runs[runs["variant"] == line.variant].sort_values("seed").iterrows():
        path = Path(run["directory"]) / "curves.parquet"
        logged = schema.read_file(path).to_pandas() if path.exists() else pd.DataFrame(columns=["run", "name"])
        logged = logged[logged["run"] == run["run"]]
        for word, quantity in QUANTITIES.items():
            names = [name for name in logged["name"].unique() if re.split(r"[/.]", name)[-1] == word]
            rows = logged[logged["name"].isin(names[:1])].dropna(subset="value").sort_values("step")
            if len(rows) > 1:
                rows = rows.iloc[:: max(1, len(rows) // POINTS)]
                points = tuple(zip(rows["progress"].tolist(), rows["value"].tolist(), strict=True))
                found.append(Curve(name=line.name, seed=int(run["seed"]), quantity=quantity, points=points))
    return found


def _provenance(runs: pd.DataFrame) -> tuple[tuple[str, str], ...]:
    """Where the numbers come from, in words."""
    commits = sorted({f"{row.commit}{' with local changes' if row.dirty else ''}" for row in runs.itertuples()})
    packages = [json.loads(text) for text in runs["versions"].unique()]
    versions = sorted({f"{name} {version}" for found in packages for name, version in found.items()})
    machines = sorted({f"{row.device}, {row.threads} threads, {row.processes} processes" for row in runs.itertuples()})
    return (
        ("code", ", ".join(commits)),
        ("engine", ", ".join(sorted({str(engine) for engine in runs["engine"]}))),
        ("pretexts", ", ".join(sorted({f"{row.pretext} {row.pretext_version}" for row in runs.itertuples()}))),
        ("machines", "; ".join(machines)),
        ("packages", ", ".join(versions)),
        ("written", f"{runs['created'].min()} to {runs['created'].max()}"),
        ("runs", ", ".join(sorted(runs["run"]))),
    )


def _encoder(recipe: Recipe) -> str:
    spec = recipe.encoder
    if recipe.pretext == EXTERNAL:
        return f"external {recipe.settings.arm}, width {spec.width}, {spec.pixels}-pixel images"
    return (
        f"ViT of {spec.depth} blocks, width {spec.width}, {spec.heads} heads, "
        f"{spec.patch}-pixel patches of {spec.pixels}-pixel images, {recipe.precision}"
    )


def _section_order(asked: tuple[str, str]) -> tuple:
    probe, readout = asked
    place = PROBES.index(probe) if probe in PROBES else len(PROBES)
    return (asked != HEADLINE, place, probe, readout != "patches", readout)
