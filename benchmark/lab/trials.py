"""Tuning trials on development phantoms: `python -m benchmark.lab.trials mae --change lr=2e-3`. No reported seed, no
real task.

A trial trains the recommended settings of a pretext, but for the changes, at a track's budget on the population of the
development seed, and reads the frozen encoder, and the one it starts from, with the linear probe on development
patients of every family: the three latents, texture at its five levels, relation at its three distances. Every trial is
stored as `trials` rows: `python -m leaderboards trials` prints them, with the mean gain that recipes are chosen by.
"""

import hashlib
import json
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import typer

import tasks
from benchmark import corpus, registry, tracks
from benchmark.metrics import score
from benchmark.parts import rules
from benchmark.probing import features
from benchmark.probing import fitting as probing
from benchmark.recipe import Corpus, Recipe, Runtime, canonical, twin
from benchmark.storage import results, schema
from benchmark.training import data, health, loop
from tasks import host, store
from tasks.base import Sample, Task, digest
from tasks.phantoms import population, scenes
from tasks.phantoms.knobs import LEVELS, Knobs
from tasks.phantoms.relation import APART

TWIN = "twin"
SEED = 1000  # of the first trial; reported seeds start at 0
PATIENTS = {"train": 1000, "val": 200, "test": 1000}  # of each family, one image each


def list_development_tasks(modality: str) -> list[tuple[Task, list[Sample]]]:
    """The modality's phantom tasks over development families, and the samples of PATIENTS."""
    knobs = {name: Knobs() for name in ("local", "regional", "global")}
    knobs |= {f"locality_{level}": Knobs(locality=level) for level in LEVELS}
    knobs |= {f"relation_{distance}": Knobs(relation=distance) for distance in APART}
    made = []
    for name, turned in knobs.items():
        family = scenes.family(modality, scenes.DEVELOPMENT, turned)
        latent = {"locality": scenes.TEXTURE, "relation": "relation"}.get(name.partition("_")[0], name)
        scan = partial(_scan, family=family, latent=latent)
        task = replace(tasks.get(modality, f"phantom_{name}"), scan=scan, read=family.read, images=family.images)
        made.append((task, scan(Path())))
    return made


def _scan(data: Path, *, family: scenes.Family, latent: str) -> list[Sample]:
    found = []
    for sample in family.scan(data, latent):
        split, patient, image = sample.id.split("/")
        if int(patient[1:]) < PATIENTS[split] and image == "0":
            found.append(sample)
    return found


def change_settings(recipe: Recipe, changes: list[str]) -> Recipe:
    """The recipe with `name=value` changes of its settings, and what follows from them: another batch takes the
    learning rate with it by `rules`, a teacher's momentum follows from its horizon unless it is given itself. Raises
    ValueError for an unknown name or value."""
    given = {}
    for change in changes:
        name, _, value = change.partition("=")
        if name not in vars(recipe.settings):
            raise tasks.unknown(f"setting of {recipe.pretext}", name, tuple(vars(recipe.settings)))
        try:
            read = value if isinstance(getattr(recipe.settings, name), str) else json.loads(value)
        except json.JSONDecodeError as error:
            raise ValueError(f"{change}: not JSON ({error}); write name=value, as lr=2e-3 or crop=[0.5,1.0]") from error
        given[name] = tuple(read) if isinstance(read, list) else read
    if "batch" in given and "lr" not in given:
        sizes = given["batch"], recipe.settings.batch
        now, before = (rules.rate(batch, recipe.encoder) for batch in sizes)
        given["lr"] = recipe.settings.lr * now / before
    if "momentum" in given and "horizon" not in given:
        given["horizon"] = None
    return tracks.resolved(replace(recipe, settings=replace(recipe.settings, **given)))


def run_trial(recipe: Recipe, runtime: Runtime, label: str) -> list[dict[str, object]]:
    """Train the recipe on its modality's development population; a row of the table `trials` for every task."""
    source = population.source(recipe.modality, scenes.DEVELOPMENT)
    found, stores = list_development_tasks(recipe.modality), runtime.cache / "stores"
    built = [store.build(task, Path(), samples, recipe.stored_pixels, stores) for task, samples in found]
    member = corpus.Member(source, *[source.scan(Path())] * 2)
    images = data.open_images([member], recipe, runtime)
    look = health.watch(found[:1], built[0], recipe) if recipe.budget else None
    made = loop.train(recipe, runtime, images, label, look)
    linear = asdict(registry.load("probes", "linear").Settings())
    pooled, scored = {}, []
    for (task, samples), images in zip(found, built, strict=True):
        if images.address not in pooled:
            pooled = {images.address: features.extract(made.model.encoder, images)["patches"]}
        place = {name: row for row, name in enumerate(images.ids)}
        x = pooled[images.address][[place[sample.id] for sample in samples]]
        asked = probing.question(task, samples, read_pooled=lambda x=x: x)
        (fitted,) = probing.fit("linear", linear, recipe.seed, asked)
        truth = np.array([samples[i].label for i in fitted.division.test])
        scored.append({"task": task.name, "score": score("auroc", truth, fitted.scores)})
    common = {
        "modality": recipe.modality,
        "track": recipe.track,
        "pretext": recipe.pretext if recipe.budget else TWIN,
        "pretext_version": recipe.pretext_version,
        "engine": recipe.engine,
        "settings": json.dumps(asdict(recipe.settings if recipe.budget else recipe.encoder), sort_keys=True),
        "seed": recipe.seed,
        "budget_flops": recipe.budget,
        "images_seen": made.images,
        "seconds": made.seconds,
    }
    return [common | row for row in scored]


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    pretext: Annotated[str, typer.Argument(help="name or name:arm")],
    change: Annotated[list[str] | None, typer.Option(help="name=value of a setting, JSON; repeatable.")] = None,
    modality: Annotated[str, typer.Option(help="Comma-separated; empty: both.")] = "",
    track: str = "laptop",
    seed: Annotated[int, typer.Option(help=f"{SEED} or above: never a reported one.", min=SEED)] = SEED,
    floor: Annotated[bool, typer.Option("--twin", help="The untrained encoder.")] = False,
    cache: Annotated[Path, typer.Option(parser=host.path, help="Image stores; may be deleted.")] = Path(".cache"),
    root: Annotated[Path, typer.Option(parser=host.path, help="Where trials are stored.")] = Path("results/local"),
) -> None:
    """Run one trial, unless it is stored, and print its AUROCs and those of the encoder that it starts from."""
    for name in modality.split(",") if modality else scenes.MODALITIES:
        source = population.source(name, scenes.DEVELOPMENT)
        samples = source.scan(Path())
        pinned = Corpus(
            name="development",
            members=((source.name, source.version),),
            digest=digest(*sorted(sample.digest for sample in samples))[:12],
            images=len(samples),
        )
        recipe = tracks.recipe(track, pretext, modality=name, corpus=pinned, policy="simulated", seed=seed)
        recipe = change_settings(recipe, change or [])
        for one in (twin(recipe),) if floor else (twin(recipe), recipe):
            for row in _run_once(one, root, cache).itertuples():
                typer.echo(f"{row.modality} {row.pretext} {' '.join(change or [])} {row.task}: {row.score:.3f}")


def _run_once(recipe: Recipe, root: Path, cache: Path) -> pd.DataFrame:
    """The rows of a trial, made if they are not stored. Twins of one encoder are one trial, whatever their pretext."""
    named = (
        canonical(recipe) if recipe.budget else canonical([recipe.modality, recipe.track, recipe.seed, recipe.encoder])
    )
    target = root / recipe.modality / "trials" / hashlib.sha256(named.encode()).hexdigest()[:12]
    if not target.exists():
        runtime = Runtime(data=Path(), results=root, cache=cache, checkpoint_seconds=60.0)
        rows = run_trial(recipe, runtime, f"{recipe.modality} {recipe.pretext if recipe.budget else TWIN}")
        results.write(target, {"trials": schema.table("trials", rows)})
    return results.read(target, "trials")


if __name__ == "__main__":
    host.use_utf8()
    try:
        app()
    except ValueError as error:
        raise SystemExit(f"error: {error}") from error
