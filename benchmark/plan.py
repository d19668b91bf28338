"""Which runs and cells are asked for, and which of them are missing. No torch."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import NamedTuple

from benchmark import registry, tracks
from benchmark.recipe import Cell, Corpus, Recipe, key, twin
from benchmark.storage import results, schema
from benchmark.study import Study, Wanted
from tasks.base import DataError
from tasks.reading import squares

READOUTS = ("patches", "native")


class Job(NamedTuple):
    """One run (or twin), and the cells that still lack a result."""

    recipe: Recipe
    trained: bool  # the run is stored already
    cells: list[Cell]


def recipes(wanted: Wanted, study: Study, skipped: dict[str, tuple[str, ...]] | None) -> list[Recipe]:
    """Every run asked for, each followed by its twin, seed by seed so that early results cover all pretexts; those of a
    grid in its order. skipped: unreadable samples {task: ids}, left out on request; None: not known yet.

    Raises DataError for a run of a grid that was frozen over other images than are here."""
    if wanted.recipes and "corpus" in study.absent:
        raise DataError(f"the corpus of the grid's {study.modality} runs is not here: {study.absent['corpus']}")
    if study.pinned is None or not study.tasks:
        return []
    members = {m.source.name for m in study.pinned.members}
    left_out = tuple(f"{name}/{i}" for name in sorted(members) for i in (skipped or {}).get(name, ()))
    policy = "; ".join(sorted({squares.describe_policy(m.source.policy) for m in study.pinned.members}))
    if wanted.recipes:
        made = [recipe for recipe in wanted.recipes if recipe.modality == study.modality]
        for recipe in made:
            _refuse_other_images(recipe, study.pinned.corpus, policy, recipe.skipped if skipped is None else left_out)
    else:
        seeds = tracks.get(wanted.track).seeds if wanted.seeds is None else wanted.seeds
        made = [
            tracks.recipe(
                wanted.track,
                pretext,
                modality=study.modality,
                corpus=study.pinned.corpus,
                policy=policy,
                seed=seed,
                precision=wanted.precision,
            )
            for seed in range(seeds)
            for pretext in wanted.pretexts
        ]
        made = [replace(recipe, skipped=left_out) for recipe in made]
    unique = {key(one): one for recipe in made for one in (recipe, twin(recipe))}
    return [recipe for name, recipe in unique.items() if not wanted.runs or name.startswith(wanted.runs)]


def _refuse_other_images(recipe: Recipe, found: Corpus, policy: str, left_out: tuple[str, ...]) -> None:
    """Raises DataError where a frozen recipe would be trained on other images than it was frozen over."""
    frozen, run = recipe.corpus, f"run {key(recipe)} of the grid ({recipe.modality}, {recipe.track})"
    if found != frozen:
        raise DataError(
            f"{run} was frozen over the corpus {frozen.name} {frozen.digest} of {frozen.images:,} images, here it is "
            f"{found.name} {found.digest} of {found.images:,}; name the same images by --data or --corpus, or write "
            "the grid again"
        )
    if policy != recipe.policy:
        raise DataError(f"{run} was frozen with images squared by {recipe.policy!r}, here by {policy!r}; set --policy")
    if left_out != recipe.skipped:
        raise DataError(
            f"{run} was frozen with {len(recipe.skipped)} unreadable images left out, here they are {len(left_out)}: "
            f"{', '.join(sorted(set(left_out) ^ set(recipe.skipped))[:5])}; mend these, or write the grid again"
        )


def cells(recipe: Recipe, study: Study, probes: tuple[str, ...] = ()) -> list[Cell]:
    """A cell for every task, probe and readout that go together; probes: empty for the default ones."""
    made = []
    for name, found in study.tasks.items():
        for probe in probes or registry.defaults("probes"):
            declared = registry.load("probes", probe)
            if "segmentation" in declared.KINDS and found.task.mask is None:
                continue
            for readout in getattr(declared, "READOUTS", READOUTS):
                made.append(
                    Cell(
                        recipe=recipe,
                        task=name,
                        task_version=found.task.version,
                        data=found.identity,
                        probe=probe,
                        probe_version=declared.VERSION,
                        settings=asdict(declared.Settings()),
                        readout=readout,
                    )
                )
    return made


def jobs(wanted: Wanted, study: Study, root: Path, skipped: dict[str, tuple[str, ...]] | None) -> tuple[list[Job], int]:
    """(jobs with something missing, number of cells that are there already). skipped: as in `recipes`."""
    missing, present = [], 0
    for recipe in recipes(wanted, study, skipped):
        asked = cells(recipe, study, wanted.probes)
        lacking = [c for c in asked if not results.cell_directory(root, recipe.modality, key(c)).exists()]
        present += len(asked) - len(lacking)
        directory = results.run_directory(root, recipe.modality, key(recipe))
        if directory.exists() and not (directory / "encoder.safetensors").exists():
            if lacking and results.read_file(directory / "runs.parquet")["status"][0].as_py() == "finished":
                raise schema.SchemaError(
                    f"{directory}: its encoder is gone, and {len(lacking)} cells need it; "
                    "`python -m leaderboards repair` sets the run aside, then run again"
                )
            continue  # a diverged run has no encoder to probe
        if lacking or not directory.exists():
            missing.append(Job(recipe, directory.exists(), lacking))
    return missing, present


def batches(missing: list[Job]) -> list[tuple[str, ...]]:
    """Ids of what is missing, each run with its twin: what one job of many computes."""
    found: dict[str, list[str]] = {}
    for job in missing:
        found.setdefault(key(twin(job.recipe)), []).append(key(job.recipe))
    return [tuple(ids) for ids in found.values()]
