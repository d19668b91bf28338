"""Walk a plan: pretrain what is missing, probe what is missing, store each finished thing whole."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import NamedTuple

import numpy as np
import torch

from benchmark import data, encoder, features, launch, metrics, plan, pretrain, registry, results
from benchmark.plan import Job, Study, TaskData, Wanted
from benchmark.probes._base import Features, Trial
from benchmark.recipe import Cell, Runtime, key, twin
from tasks import leakage, splits, store
from tasks.base import Folds, Sample, Task


@dataclass(frozen=True)
class Outcome:
    computed: int  # cells
    present: int  # cells that were there before
    diverged: tuple[str, ...]  # labels of runs


class Fitting(NamedTuple):
    """A probe fitted on one division of a task, and what it says of the test samples."""

    division: splits.Assignment
    grid: list[Trial]
    scores: np.ndarray  # (test samples, classes)


def prepare(study: Study, runtime: Runtime, pixels: int) -> dict[str, tuple[str, ...]]:
    """Build every store a study reads. Returns the unreadable ids left out, by task. Raises DataError."""
    skipped = {}
    sources = {m.task.name: (m.task, m.samples) for m in (study.pinned.members if study.pinned else [])}
    sources |= {name: (found.task, found.samples) for name, found in study.tasks.items()}
    for name, (task, samples) in sources.items():
        built = store.build(
            task, runtime.data, samples, pixels, runtime.cache / "stores", skip_unreadable=runtime.skip_unreadable
        )
        if built.skipped:
            skipped[name] = built.skipped
    return skipped


def bench(wanted: Wanted, studies: list[Study], runtime: Runtime, pixels: int, say: Callable[[str], None]) -> Outcome:
    """Compute everything asked for and missing. Finished things are kept whatever happens later."""
    if runtime.threads:
        torch.set_num_threads(runtime.threads)
    todo: list[tuple[Study, Job]] = []
    present = 0
    for study in studies:
        skipped = prepare(study, runtime, pixels)
        for name, ids in skipped.items():
            say(f"{study.modality}/{name}: {len(ids)} unreadable images left out, as asked: {', '.join(ids[:5])}")
        study = plan.without(study, skipped)
        missing, there = plan.jobs(wanted, study, runtime.results, skipped)
        present += there
        todo += [(study, job) for job in missing]
    total = sum(len(job.cells) for _, job in todo)
    training = sum(not job.trained and job.recipe.budget > 0 for _, job in todo)
    if not todo:
        say(f"nothing to do: all {present} cells are there already")
    else:
        say(f"{present} cells are there already; {total} to compute, {training} runs to pretrain")
    images: dict[str, data.Images] = {}
    diverged, number = [], 0
    for study, job in todo:
        recipe = job.recipe
        kind = "twin" if recipe.budget == 0 else "run"
        number += not job.trained and kind == "run"
        label = f"[{number}/{training}] {recipe.modality} {recipe.pretext} seed {recipe.seed}"
        if not job.trained:
            if study.modality not in images:
                images[study.modality] = data.open_images(study.pinned.members, recipe, runtime)
            synthetic = any(m.task.synthetic for m in study.pinned.members)
            if runtime.processes > 1 and kind == "run":
                launch.pretrain(recipe, runtime, label, synthetic)
            else:
                one = replace(runtime, processes=1)
                pretrain.pretrain(recipe, one, images[study.modality], label, synthetic)
        directory = results.run_directory(runtime.results, recipe.modality, key(recipe))
        if not (directory / "encoder.safetensors").exists():
            diverged.append(label)
            continue
        evaluate(study, job, runtime, pixels)
    return Outcome(total, present, tuple(diverged))


def evaluate(study: Study, job: Job, runtime: Runtime, pixels: int) -> None:
    """Probe the stored encoder of a job on every missing cell."""
    directory = results.run_directory(runtime.results, job.recipe.modality, key(job.recipe))
    weights = results.sha256(directory / "encoder.safetensors")
    frozen = encoder.load(job.recipe.encoder, directory / "encoder.safetensors")
    declared = registry.declarations("pretexts", job.recipe.pretext)
    readouts = {"patches": "patches", "native": declared.NATIVE}
    for name, found in study.tasks.items():
        cells = [cell for cell in job.cells if cell.task == name]
        if not cells:
            continue
        built = store.build(
            found.task,
            runtime.data,
            found.samples,
            pixels,
            runtime.cache / "stores",
            skip_unreadable=runtime.skip_unreadable,
        )
        row = {sample_id: i for i, sample_id in enumerate(built.ids)}
        index = np.array([row[sample.id] for sample in found.samples])
        pooled = features.cached(runtime.cache, weights, built, frozen)
        divisions = splits.assignments(found.task, found.samples)
        tested = {i for d in divisions for i in d.test}
        leaks = overlaps(study, found.task, [found.samples[i] for i in sorted(tested)])
        fitted: dict[tuple[str, str], list[Fitting]] = {}  # a native readout may be the patches themselves
        for cell in cells:
            same = (cell.probe, readouts[cell.readout])
            if same not in fitted:
                x = features.readout(pooled, readouts[cell.readout])[index]
                fitted[same] = fit(cell, found, x, divisions)
            store_cell(cell, found, fitted[same], leaks, weights, runtime)


def overlaps(study: Study, task: Task, test: list[Sample]) -> list[leakage.Overlap]:
    """What the corpus shares with a test part: groups are compared within one image family only."""
    members = study.pinned.members
    exact = leakage.overlap([s for m in members for s in m.train], test, same_groups=False)
    family = [s for m in members if m.task.images == task.images for s in m.train]
    return exact + [row for row in leakage.overlap(family, test) if row.kind == "group"]


def fit(cell: Cell, found: TaskData, x: np.ndarray, divisions: list[splits.Assignment]) -> list[Fitting]:
    """The cell's probe on features (N, D) of the task's samples, once per division."""
    y = np.array([sample.label for sample in found.samples])
    group = np.array([sample.group for sample in found.samples])
    probe = registry.load("probes", cell.probe)
    settings = probe.Settings(**cell.settings)
    done = []
    for division in divisions:
        train, val = (Features(x[part], y[part], group[part]) for part in (division.train, division.val))
        fitted = probe.fit(train, val, settings, len(found.task.classes), seed=cell.recipe.seed)
        done.append(Fitting(division, fitted.grid, fitted.predict(x[division.test])))
    return done


def store_cell(
    cell: Cell,
    found: TaskData,
    fitted: list[Fitting],
    leaks: list[leakage.Overlap],
    weights: str,
    runtime: Runtime,
) -> None:
    """Store predictions, probe grid, leakage verdict and metrics as one cell."""
    task, samples, this = found.task, found.samples, key(cell)
    fits = [
        {
            "cell": this,
            "repeat": f.division.repeat,
            "fold": f.division.fold,
            "settings": json.dumps(trial.settings, sort_keys=True),
            "metric": trial.metric,
            "score": trial.score,
            "selected": trial.selected,
        }
        for f in fitted
        for trial in f.grid
    ]
    predictions = [
        {
            "cell": this,
            "sample": samples[i].id,
            "group": samples[i].group,
            "label": samples[i].label,
            "scores": [float(s) for s in scores],
            "repeat": f.division.repeat,
            "fold": f.division.fold,
            "readout": cell.readout,
            "split_variant": f.division.variant,
            "fraction": 1.0,
            "shots": None,
            "draw": 0,
            "corruption": "",
            "strength": 0,
        }
        for f in fitted
        for i, scores in zip(f.division.test, f.scores, strict=True)
    ]
    labels, repeats, folds = (np.array([row[name] for row in predictions]) for name in ("label", "repeat", "fold"))
    scores = np.concatenate([f.scores for f in fitted])
    tables = {
        "predictions": results.table("predictions", predictions),
        "fits": results.table("fits", fits),
        "leakage": results.table(
            "leakage",
            [
                {
                    "corpus_digest": cell.recipe.corpus.digest,
                    "task": cell.task,
                    "data": cell.data,
                    "kind": leak.kind,
                    "count": leak.count,
                    "examples": json.dumps(leak.examples),
                }
                for leak in leaks
            ],
        ),
    }
    recipe, protocol = cell.recipe, task.protocol
    common = {
        "cell": this,
        "run": key(recipe),
        "modality": recipe.modality,
        "corpus": recipe.corpus.name,
        "corpus_digest": recipe.corpus.digest,
        "track": recipe.track,
        "pretext": recipe.pretext,
        "seed": recipe.seed,
        "twin": recipe == twin(recipe),
        "task": cell.task,
        "task_version": cell.task_version,
        "task_title": task.title,
        "data": cell.data,
        "data_images": len(samples),
        "data_expected": task.expected,
        "synthetic": task.synthetic,
        "classes": list(task.classes),
        "probe": cell.probe,
        "probe_version": cell.probe_version,
        "settings": json.dumps(cell.settings, sort_keys=True),
        "readout": cell.readout,
        "groups": len({row["group"] for row in predictions}),
        "group_kind": task.group_kind,
        "samples": len({row["sample"] for row in predictions}),
        "protocol": f"folds({protocol.k}, {protocol.repeats})"
        if isinstance(protocol, Folds)
        else fitted[0].division.variant,
        "leakage": leakage.verdict(leaks),
        "weights_sha256": weights,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    rows = [
        {
            **common,
            "metric": name,
            "headline": name == task.metric,
            "value": metrics.fold_score(name, labels, scores, repeats, folds),
        }
        for name in metrics.METRICS
    ]
    results.write(results.cell_directory(runtime.results, recipe.modality, this), tables, cells=rows)
