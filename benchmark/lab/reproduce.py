"""Compute the numbers of a published run anew, and compare.

A number that is computed again may differ by as much as the published pretraining seeds differ among themselves; from
the same weights it may not differ at all.
"""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from benchmark import plan, registry
from benchmark import run as runs
from benchmark.lab.goldens import Moved
from benchmark.plan import Job
from benchmark.recipe import ENGINE, Cell, Recipe, Runtime, external, from_json, key, twin
from benchmark.storage import results
from benchmark.study import Study, Wanted, survey
from benchmark.training import data, pretrain
from tasks.base import DataError
from tasks.reading import squares

QUESTION = ["variant", "task", "task_version", "data", "probe", "probe_version", "settings", "readout", "metric"]
EXACT = 1e-9  # of the same weights


class Comparison(NamedTuple):
    compared: int  # numbers that were held against a published one
    moved: list[Moved]
    notes: list[str]  # what could not be compared, and why


def reproduce_run(run: str, published: Path, runtime: Runtime, say: Callable[[str], None]) -> Comparison:
    """Run a stored run, and its twin, again from the stored recipe into `runtime.results`, and compare.

    Raises ValueError where the run is not stored, is ambiguous, or is of another version than this code; DataError
    where its corpus is not here.
    """
    row = results.find_run(run, published)
    recipe = from_json(row["recipe"])
    refuse_other_versions(recipe, row["commit"])
    recipe = registry.typed(recipe)
    cells = results.read(published, "cells").drop_duplicates("cell")
    for one in (recipe, twin(recipe)) if recipe.budget else (recipe,):
        own = cells[cells.run == key(one)]
        say(f"{key(one)}: {'the twin' if one.budget == 0 else 'the run'}, {len(own)} cells")
        study = _survey(one, tuple(dict.fromkeys(own.task)), runtime)
        stores, _ = runs.open_stores(study, runtime, one.stored_pixels)
        job = Job(one, False, [_build_cell(one, cell) for cell in own.to_dict("records")])
        images = data.open_images(study.pinned.members, one, runtime)
        synthetic = any(member.source.synthetic for member in study.pinned.members)
        pretrain.pretrain(one, runtime, images, key(one), synthetic)
        runs.evaluate(study, job, runtime, stores)
    return compare(published, runtime.results)


def refuse_other_versions(recipe: Recipe, commit: str) -> None:
    """Raises ValueError unless this code computes what the recipe says."""
    if external(recipe):
        raise ValueError(f"{key(recipe)} is an encoder from outside: `python -m benchmark probe` measures it again")
    here = registry.load("pretexts", recipe.pretext).VERSION
    if (recipe.engine, recipe.pretext_version) != (ENGINE, here):
        raise ValueError(
            f"{key(recipe)} is of engine {recipe.engine} and {recipe.pretext} {recipe.pretext_version}; this code is "
            f"of engine {ENGINE} and {recipe.pretext} {here}: check out commit {commit} and run it there"
        )


def _survey(recipe: Recipe, tasks: tuple[str, ...], runtime: Runtime) -> Study:
    """The corpus and tasks of a stored recipe. Raises DataError where the images are not the same."""
    asked = Wanted(
        modalities=(recipe.modality,),
        track=recipe.track,
        pretexts=(recipe.pretext,),
        tasks=tasks,
        corpus=recipe.corpus.name,
    )
    for policy in ("", *squares.SQUARES):
        wanted = replace(asked, policy=policy)
        study = survey(wanted, recipe.modality, runtime.data, runtime.cache)
        if study.pinned is None or study.absent:
            raise DataError(f"{runtime.data}: what {key(recipe)} needs is not here: {study.absent}; `make data`")
        if study.pinned.corpus != recipe.corpus:
            found = study.pinned.corpus
            raise DataError(
                f"{runtime.data}: the {recipe.corpus.name} corpus here is {found.digest} of {found.images} images, "
                f"that of {key(recipe)} {recipe.corpus.digest} of {recipe.corpus.images}; name the same by --data"
            )
        if {made.policy for made in plan.recipes(wanted, study, {})} == {recipe.policy}:
            return study
    raise ValueError(f"{key(recipe)}: no policy of this code squares images by {recipe.policy!r}")


def _build_cell(recipe: Recipe, row: dict) -> Cell:
    names = ("task", "task_version", "data", "probe", "probe_version", "readout")
    return Cell(recipe=recipe, settings=json.loads(row["settings"]), **{name: row[name] for name in names})


def compare(published: Path, anew: Path) -> Comparison:
    """Every number of `anew` that is published too, against the published one of the same seed."""
    old, new = _read_numbers(published), _read_numbers(anew)
    ranges = old.groupby(QUESTION)["value"].agg(lambda values: values.max() - values.min() if len(values) > 1 else None)
    stored = old.rename(columns={"value": "stored", "weights_sha256": "stored_weights"})
    both = new.merge(stored[[*QUESTION, "seed", "stored", "stored_weights"]], on=[*QUESTION, "seed"])
    both = both.merge(ranges.rename("spread").reset_index(), on=QUESTION)
    same = both["weights_sha256"].eq(both["stored_weights"])
    both["tolerance"] = both["spread"].astype(float).where(~same, EXACT)
    difference = (both["value"] - both["stored"]).abs()
    both["moved"] = difference.gt(both["tolerance"]) | both["value"].isna().ne(both["stored"].isna())
    unjudged = both["tolerance"].isna() & difference.gt(EXACT)
    notes = []
    if len(new) > len(both):
        missing = len(new) - len(both)
        notes.append(f"{missing} numbers have no published counterpart: of another version, or not promoted yet")
    if unjudged.any():
        notes.append(
            f"{unjudged.sum()} numbers differ, by {difference[unjudged].max():.3g} at most, and are not judged: "
            "one published seed has no spread; publish three"
        )
    moved = [
        Moved(
            what=f"{row.modality} {row.pretext}{' twin' if row.twin else ''} seed {row.seed}: "
            f"{row.task}, {row.probe}, {row.readout}, {row.metric}",
            stored=row.stored,
            found=row.value,
            tolerance=row.tolerance,
            bump=name_version_to_bump(both, row),
        )
        for row in both[both["moved"]].itertuples()
    ]
    return Comparison(len(both), moved, notes)


def name_version_to_bump(both: pd.DataFrame, row: object) -> str:
    """Which version a moved number needs, from what else moved: the twin's numbers owe nothing to a pretext."""
    twins = both[both["twin"]]
    if not row.twin and not twins.loc[(twins["task"] == row.task) & (twins["probe"] == row.probe), "moved"].any():
        return f"VERSION in benchmark/pretexts/{row.pretext}.py"
    if (moved := set(twins.loc[twins["moved"], "probe"])) and moved != set(twins["probe"]):
        return f"VERSION in benchmark/probes/{row.probe}.py"
    if (moved := set(twins.loc[twins["moved"], "task"])) and moved != set(twins["task"]):
        return f"version of {row.task} in tasks/{row.modality}"
    return "ENGINE in benchmark/recipe.py"


def _read_numbers(root: Path) -> pd.DataFrame:
    """The cells of a store, with the recipe's hash without its seed."""
    rows = results.read(root, "runs").drop_duplicates("run")
    variants = {row.run: key(replace(from_json(row.recipe), seed=0)) for row in rows.itertuples()}
    kept = ["run", "twin", "modality", "pretext", "seed", "value", "weights_sha256"]
    cells = results.read(root, "cells")
    cells = cells[cells["run"].isin(variants)].assign(variant=cells["run"].map(variants))
    return cells[[*kept, *QUESTION]].drop_duplicates([*QUESTION, "seed"])
