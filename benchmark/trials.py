"""Tuning trials on development phantoms: `python -m benchmark.trials mae --change lr=2e-3`. No reported seed, no real
task.

A trial trains the recommended settings of a pretext, but for the changes, at a track's budget on the training images
of the development family, and reads the frozen encoder with the linear probe on the development test patients. Without
a change and with `--twin`, the encoder it starts from. Every trial is stored as `trials` rows; without a pretext, all
that are stored are printed as the table of docs/trials.md.
"""

import hashlib
import json
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

import tasks
from benchmark import health, registry, results, tracks
from benchmark.recipe import Corpus, Recipe, Runtime, canonical, twin
from tasks import host, splits, store
from tasks.base import Sample, Task, digest
from tasks.phantoms import scenes

SEED = 1000  # of the first trial; reported seeds start at 0


def development(modality: str) -> list[tuple[Task, list[Sample]]]:
    """The modality's phantom tasks over the development family."""
    family, made = scenes.family(modality, scenes.DEVELOPMENT), []
    for latent in scenes.LATENTS:
        scan = partial(family.scan, latent=latent)
        task = replace(tasks.get(modality, f"phantom_{latent}"), scan=scan, read=family.read, images=family.images)
        made.append((task, scan(Path())))
    return made


def changed(recipe: Recipe, changes: list[str]) -> Recipe:
    """The recipe with `name=value` changes of its settings. Raises ValueError for an unknown name."""
    declared = registry.declarations("pretexts", recipe.pretext)
    given = {}
    for change in changes:
        name, _, value = change.partition("=")
        if name not in recipe.settings:
            raise tasks.unknown(f"setting of {recipe.pretext}", name, tuple(recipe.settings))
        try:
            read = json.loads(value)
        except json.JSONDecodeError as error:
            raise ValueError(f"{change}: not JSON ({error}); write name=value, as lr=2e-3 or crop=[0.5,1.0]") from error
        given[name] = tuple(read) if isinstance(read, list) else read
    return replace(recipe, settings=asdict(declared.Settings(**(recipe.settings | given))))


def trial(recipe: Recipe, runtime: Runtime, label: str) -> list[dict[str, object]]:
    """Train the recipe on its modality's development phantoms; a row of the table `trials` for every task."""
    from benchmark import data, features, pretrain, probing
    from benchmark.metrics import score

    found = development(recipe.modality)
    task, samples = found[0]
    built = store.build(task, Path(), samples, recipe.stored_pixels, runtime.cache / "stores")
    place = {name: row for row, name in enumerate(built.ids)}
    train = np.array([place[samples[i].id] for i in splits.train_part(task, samples)])
    rows = np.stack([np.zeros_like(train), train], axis=1)
    images = data.Images([f"development/{built.ids[row]}" for row in train], [built.pixels], rows, ())
    made = pretrain.train(recipe, runtime, images, label, health.watch(found, built, recipe) if recipe.budget else None)
    pooled = features.extract(made.model.encoder, built)["patches"]
    linear = asdict(registry.declarations("probes", "linear").Settings())
    scored = []
    for task, samples in found:
        x = pooled[[place[sample.id] for sample in samples]]
        divisions = splits.assignments(task, samples)
        (fitted,) = probing.fit("linear", linear, recipe.seed, task, samples, x, divisions)
        truth = np.array([samples[i].label for i in fitted.division.test])
        scored.append({"task": task.name, "score": score("auroc", truth, fitted.scores)})
    common = {
        "modality": recipe.modality,
        "track": recipe.track,
        "pretext": recipe.pretext if recipe.budget else "twin",
        "pretext_version": recipe.pretext_version,
        "engine": recipe.engine,
        "settings": json.dumps(recipe.settings, sort_keys=True),
        "seed": recipe.seed,
        "budget_flops": recipe.budget,
        "images_seen": made.images,
        "seconds": made.seconds,
    }
    return [common | row for row in scored]


def table(root: Path) -> list[str]:
    """Markdown lines, a row a trial: what differs from the pretext's recommended settings, and its AUROCs."""
    latents = [f"phantom_{latent}" for latent in scenes.LATENTS]
    lines = [
        f"| modality | pretext | settings | FLOPs | images | seed | {' | '.join(scenes.LATENTS)} |",
        "|---" * 9 + "|",
    ]
    stored = results.read(root, "trials")
    for keys, rows in stored.groupby(
        ["modality", "pretext", "track", "settings", "budget_flops", "images_seen", "seed"]
    ):
        modality, pretext, track, settings, budget, images, seed = keys
        score = rows.set_index("task").score
        told = "–" if pretext == "twin" else difference(pretext, track, json.loads(settings))
        cells = " | ".join(f"{score[name]:.3f}" for name in latents)
        lines.append(f"| {modality} | {pretext} | {told} | {budget:.2g} | {images:,} | {seed} | {cells} |")
    return lines


def difference(pretext: str, track: str, settings: dict[str, object]) -> str:
    standard = json.loads(json.dumps(asdict(registry.settings(pretext, tracks.get(track).encoder))))
    found = [f"{name} {value}" for name, value in settings.items() if value != standard.get(name)]
    return ", ".join(found) or "as recommended"


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    pretext: Annotated[str, typer.Argument(help="name or name:arm; none: print what is stored.")] = "",
    change: Annotated[list[str] | None, typer.Option(help="name=value of a setting, JSON; repeatable.")] = None,
    modality: Annotated[str, typer.Option(help="Comma-separated; empty: both.")] = "",
    track: str = "laptop",
    seed: Annotated[int, typer.Option(help=f"{SEED} or above: never a reported one.", min=SEED)] = SEED,
    floor: Annotated[bool, typer.Option("--twin", help="The untrained encoder.")] = False,
    cache: Annotated[Path, typer.Option(parser=host.path, help="Image stores; may be deleted.")] = Path(".cache"),
    root: Annotated[Path, typer.Option(parser=host.path, help="Where trials are stored.")] = Path("results/local"),
) -> None:
    """Run one trial and print its AUROCs, or print all that are stored."""
    if not pretext:
        typer.echo("\n".join(table(root)))
        return
    for name in modality.split(",") if modality else scenes.MODALITIES:
        found = digest(*sorted(sample.digest for _, samples in development(name)[:1] for sample in samples))[:12]
        corpus = Corpus(name="development", members=(("phantom", scenes.VERSION),), digest=found, images=4000)
        recipe = tracks.recipe(track, pretext, modality=name, corpus=corpus, policy="simulated", seed=seed)
        recipe = changed(recipe, change or [])
        recipe = twin(recipe) if floor else recipe
        this = hashlib.sha256(canonical(recipe).encode()).hexdigest()[:12]
        target = root / name / "trials" / this
        if not target.exists():
            runtime = Runtime(data=Path(), results=root, cache=cache, checkpoint_seconds=60.0)
            rows = trial(recipe, runtime, f"{name} {pretext} {' '.join(change or [])}")
            results.write(target, {"trials": results.table("trials", rows)})
        for row in results.read(target, "trials").itertuples():
            typer.echo(f"{row.modality} {row.pretext} {' '.join(change or [])} {row.task}: {row.score:.3f}")


if __name__ == "__main__":
    host.use_utf8()
    try:
        app()
    except ValueError as error:
        raise SystemExit(f"error: {error}") from error
