"""Which stored runs and cells a board shows: the newest versions, as its rows and columns."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

import pandas as pd

from benchmark.recipe import EXTERNAL, Recipe, canonical, external, key
from benchmark.recipe import twin as twin_of
from leaderboards.boards import ceilings, store
from leaderboards.boards.board import Column


@dataclass(frozen=True, kw_only=True)
class Line:
    """A row before it has numbers: one recipe, its pretraining seeds, its twin."""

    name: str
    recipe: str  # its name without what tells several of one pretext and arm apart: "DINOv3", "DINOv3 (official)"
    twin: bool
    variant: str  # hash of the recipe without its seed
    twin_variant: str
    runs: dict[int, str]  # seed -> run
    weights: tuple[str, ...]  # per seed, in order
    diverged: tuple[int, ...]  # seeds
    size: str = ""  # of its encoder, as `ceilings.size` has it


QUESTION = ["task", "data", "probe", "readout"]


NAMES = {"mae": "MAE", "ijepa": "I-JEPA", "dinov3": "DINOv3"}


def trained_runs(runs: pd.DataFrame) -> pd.DataFrame:
    return runs[runs["run"].ne(runs["twin"]) & runs["pretext"].ne(EXTERNAL)]


def describe_runs(runs: pd.DataFrame) -> pd.DataFrame:
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


def make_columns(cells: pd.DataFrame) -> tuple[Column, ...]:
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


def make_lines(runs: pd.DataFrame) -> tuple[Line, ...]:
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


def _encoder(recipe: Recipe) -> str:
    spec = recipe.encoder
    if outside := external(recipe):
        return f"external {outside.name}, width {outside.width}, {outside.pixels}-pixel images"
    return (
        f"ViT of {spec.depth} blocks, width {spec.width}, {spec.heads} heads, "
        f"{spec.patch}-pixel patches of {spec.pixels}-pixel images, {recipe.precision}"
    )
