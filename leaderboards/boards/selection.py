"""Which stored runs and cells a board shows: the newest versions, as its rows and columns, with their predictions."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from benchmark.metrics import SEGMENTATION
from benchmark.recipe import EXTERNAL, Recipe, canonical, external, key
from benchmark.recipe import twin as twin_of
from leaderboards.boards import ceilings, store
from leaderboards.boards.board import Column
from leaderboards.stats.resampling import Predictions

BOARD = ["modality", "corpus", "corpus_digest", "track"]  # what tells boards apart
QUESTION = ["task", "data", "probe", "readout"]
HEADLINE = ("linear", "patches")  # probe and readout
NAMES = {"mae": "MAE", "ijepa": "I-JEPA", "dinov3": "DINOv3"}
PROBES = ("linear", "attentive", "mlp", "knn", "fewshot", "dense")  # order of the sections; others follow
NUISANCE = "nuisance"  # the probe that is asked what was done to an image
AGAIN = ("robustness", "scale")  # probes with the linear probe's answers over again, beside what has its own tables
ROBUSTNESS = ("robustness", "patches")  # probe and readout that hold predictions under nuisances

Index = Mapping[tuple[str, str, str, str, str], Mapping]  # (run, task, data, probe, readout) -> row of `cells`


@dataclass(frozen=True, kw_only=True)
class Method:
    """What will be a row: one recipe, its pretraining seeds, its twin."""

    name: str
    recipe: str  # its name without what tells several of one pretext and arm apart: "DINOv3", "DINOv3 (official)"
    twin: bool
    variant: str  # hash of the recipe without its seed
    twin_variant: str
    runs: dict[int, str]  # seed -> run
    weights: tuple[str, ...]  # per seed, in order
    diverged: tuple[int, ...]  # seeds
    size: str = ""  # of its encoder, as `ceilings.size` has it

    @property
    def and_twin(self) -> tuple[str, str]:
        """Its variant and its twin's."""
        return self.variant, self.twin_variant

    @property
    def label(self) -> str:
        """Its name where twins stand among the others."""
        return f"untrained {self.name}" if self.twin else self.name


class Selection:
    """What one board shows of a store: methods, tasks, and the predictions behind each pair of them."""

    def __init__(self, loaded: store.Store, board: Sequence[str]):
        """board: values of BOARD."""
        runs, cells = (table[(table[BOARD] == list(board)).all(axis=1)] for table in (loaded.runs, loaded.cells))
        self.runs, self.cells, self.footnotes = select_newest(_described(runs), cells)
        dense, altered = self.cells["metric"].isin(SEGMENTATION), self.cells["probe"].eq(NUISANCE)
        self.methods = _methods(self.runs)
        self.metrics = dict(zip(self.cells.loc[dense, "probe"], self.cells.loc[dense, "metric"], strict=True))
        shown = self.cells[~altered & ~self.cells["probe"].isin(AGAIN)]
        questions = {*zip(shown["probe"], shown["readout"], strict=True), HEADLINE}
        self.questions = sorted(questions, key=_section_order)
        self.index = {tuple(row[name] for name in ("run", *QUESTION)): row for row in self.cells.to_dict("records")}
        columns, sizes = _columns(self.cells[~dense & ~altered]), {method.size for method in self.methods} - {""}
        tops = ceilings.load(columns, ceilings.of_budget(loaded.ceilings, trained(runs), board[0], board[3]), sizes)
        judged = [self._judged(column, tops.get(column)) for column in columns]
        self.columns = tuple(column for column, _ in judged)
        self.ceilings = {column: top for column, top in judged if top is not None}

    def _judged(self, column: Column, top: ceilings.Ceiling | None) -> tuple[Column, ceilings.Ceiling | None]:
        """Whether labels teach a task, above every twin of encoders like the ceiling's; and its ceiling, paired."""
        if top is None:
            return column, None
        twins = {}  # those that are one encoder with one set of numbers, once
        for method in self.methods:
            cells = cells_of(method, column, self.index, *HEADLINE) if method.twin and method.size == top.size else {}
            if cells:
                twins[method.weights, tuple(row["value"] for row in cells.values())] = method
        floors = [self.load(method, column, *HEADLINE) for method in twins.values()]
        if not floors:
            return column, top
        top = ceilings.pair_ceiling(column, top, next(iter(floors[0].values())))
        return replace(column, taught=ceilings.is_taught(column, top, floors)), top

    def load(self, method: Method, column: Column, probe: str, readout: str) -> dict[int, Predictions]:
        """Seed -> predictions."""
        cells = cells_of(method, column, self.index, probe, readout)
        return {seed: store.predictions(*place(row)) for seed, row in cells.items()}

    def load_corrupted(self, method: Method, column: Column, corruption: str, strength: int) -> dict[int, Predictions]:
        """The same of the test images under a nuisance, of the seeds that have any."""
        cells = cells_of(method, column, self.index, *ROBUSTNESS)
        found = {seed: store.predictions_corrupted(*place(row), corruption, strength) for seed, row in cells.items()}
        return {seed: seen for seed, seen in found.items() if seen is not None}


def places(runs: pd.DataFrame) -> Iterator[tuple[str, ...]]:
    """The boards that these runs are on, in order."""
    yield from runs[BOARD].drop_duplicates().sort_values(BOARD).itertuples(index=False, name=None)


def cells_of(method: Method, column: Column, index: Index, probe: str, readout: str = "patches") -> dict[int, Mapping]:
    """Seed -> cell."""
    found = {seed: index.get((run, column.task, column.data, probe, readout)) for seed, run in method.runs.items()}
    return {seed: row for seed, row in sorted(found.items()) if row is not None}


def place(cell: Mapping) -> tuple[str, str, str]:
    """Where the predictions of a cell are, as `store` asks for it."""
    return cell["directory"], cell["cell"], cell["protocol"]


def trained(runs: pd.DataFrame) -> pd.DataFrame:
    """Without twins and encoders from outside."""
    return runs[runs["run"].ne(runs["twin"]) & runs["pretext"].ne(EXTERNAL)]


def _section_order(question: tuple[str, str]) -> tuple:
    probe, readout = question
    order = PROBES.index(probe) if probe in PROBES else len(PROBES)
    return (question != HEADLINE, order, probe, readout != "patches", readout)


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


def select_newest(runs: pd.DataFrame, cells: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame, tuple[str, ...]]:
    """Rows of the newest versions, each run and each cell once; and what was left out, in words.

    Of a recipe that was trained several times the encoder that most was asked of counts, never the better one."""
    notes = []
    current = runs["engine"].eq(runs["engine"].max())
    current &= runs["pretext_version"].eq(runs.groupby("pretext")["pretext_version"].transform("max"))
    if not current.all():
        notes.append(f"{(~current).sum()} runs of older versions are in the store and not on this board.")
    runs = _order_by_asked(runs[current], cells)
    again = runs.duplicated("run")
    if again.any():
        notes.append(
            f"{again.sum()} repetitions of the same recipe are not shown: the one that most was asked of is, of equals "
            "the first."
        )
    runs = runs[~again].sort_values(["created", "directory"], kind="stable")

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


def select_repeated(runs: pd.DataFrame, cells: pd.DataFrame) -> pd.DataFrame:
    """Rows of encoders that no board shows, because more was asked of another of the same recipe."""
    ordered = _order_by_asked(runs, cells)
    return ordered[ordered.duplicated("run")]


def _order_by_asked(runs: pd.DataFrame, cells: pd.DataFrame) -> pd.DataFrame:
    counted = cells.groupby(["run", "weights_sha256"]).size().rename("asked").reset_index()
    runs = runs.merge(counted, how="left", on=["run", "weights_sha256"]).fillna({"asked": 0})
    runs = runs.sort_values(["asked", "created", "directory"], ascending=[False, True, True], kind="stable")
    return runs.drop(columns="asked")


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


def _methods(runs: pd.DataFrame) -> tuple[Method, ...]:
    """One per recipe without its seed; names carry the variant where a pretext has several."""
    runs = runs.assign(arm=[json.loads(text)["settings"].get("arm", "") for text in runs["recipe"]])
    variants = runs[runs["run"] != runs["twin"]].groupby(["pretext", "arm"])["variant"].nunique()
    found = []
    for variant, rows in runs.groupby("variant", sort=False):
        rows, row = rows.sort_values("seed"), rows.iloc[0]
        twin = bool(row["run"] == row["twin"])
        arm = row["arm"]
        name = recipe = _name(row["pretext"], arm)
        if variants.get((row["pretext"], arm), 1) > 1:
            name += f" ({variant[:6]})"
        found.append(
            Method(
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
        sorted(found, key=lambda method: (method.twin, order.get(method.name.split(" (")[0], len(order)), method.name))
    )


def _name(pretext: str, arm: str) -> str:
    """Of a row; of an encoder from outside its own, without the folders or packages that it lies in."""
    if pretext == EXTERNAL:
        return f"{re.sub(r'^(?!hf-hub:|timm:)(.*/|.*[.](?=[^.]*:))', '', arm)} (outside)"
    return NAMES.get(pretext, pretext) + (f" ({arm})" if arm else "")


def _encoder(recipe: Recipe) -> str:
    spec = recipe.encoder
    if outside := external(recipe):
        return f"external {outside.name}, width {outside.width}, {outside.pixels}-pixel images"
    return (
        f"ViT of {spec.depth} blocks, width {spec.width}, {spec.heads} heads, "
        f"{spec.patch}-pixel patches of {spec.pixels}-pixel images, {recipe.precision}"
    )
