"""Walk a plan: pretrain what is missing, probe what is missing, store each finished thing whole."""

import json
import sys
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout

from benchmark import ceilings, plan, registry
from benchmark.ceilings import Ceiling
from benchmark.device import arithmetic
from benchmark.encoders import encoder
from benchmark.execution import torchrun
from benchmark.plan import Job
from benchmark.probes._base import Rows
from benchmark.probing import baselines, corrupt, features
from benchmark.probing.fitting import Altered, Fitting, fit, observed
from benchmark.probing.subset import FOLDS, subset
from benchmark.recipe import Cell, Recipe, Runtime, key, twin
from benchmark.storage import passports, results, schema, seals, temporary
from benchmark.study import Study, TaskData, Wanted, leave_out
from benchmark.training import data, health, pretrain, supervised
from tasks import leakage, splits, store
from tasks.base import Folds, Sample
from tasks.reading import squares

NUISANCE = 2  # strength that the nuisance probe is asked about


@dataclass(frozen=True)
class Outcome:
    computed: int  # cells
    present: int  # cells that were there before
    diverged: tuple[str, ...]  # labels of runs
    missing: list[Job]  # what there was to do, of the images that can be read
    ceilings: list[Ceiling]  # likewise


def prepare(study: Study, runtime: Runtime, pixels: int) -> dict[str, tuple[str, ...]]:
    """Build every store a study reads. Returns the unreadable ids left out, by task. Raises DataError."""
    skipped = {}
    members = study.pinned.members if study.pinned else []
    sources = {m.source.name: (m.source, m.samples) for m in members if not m.source.stream}
    sources |= {name: (found.task, found.samples) for name, found in study.tasks.items()}
    for name, (task, samples) in sources.items():
        built = store.build(
            task, runtime.data, samples, pixels, runtime.cache / "stores", skip_unreadable=runtime.skip_unreadable
        )
        if built.skipped:
            skipped[name] = built.skipped
    return skipped


def bench(
    wanted: Wanted, studies: list[Study], runtime: Runtime, pixels: int, say: Callable[[str], None], stage: str = "all"
) -> Outcome:
    """Compute everything asked for and missing, or one stage of it: "prepare" (image stores and baselines), "pretrain"
    (runs and ceilings) or "probe" (what is pretrained). Finished things are kept whatever happens later."""
    arithmetic.prepare(runtime.threads)
    temporary.remove_leftovers(runtime.results, runtime.cache)
    todo: list[tuple[Study, Job]] = []
    lacking: list[Ceiling] = []
    present = 0
    for study in studies:
        skipped = prepare(study, runtime, pixels)
        for name, ids in skipped.items():
            say(f"{study.modality}/{name}: {len(ids)} unreadable images left out, as asked: {', '.join(ids[:5])}")
        study = leave_out(study, skipped, wanted.probes)
        for found in study.tasks.values() if runtime.node == 0 else ():
            baselines.measure(found.task, found.samples, stored(found, runtime, pixels), runtime)
        missing, there = plan.jobs(wanted, study, runtime.results, skipped)
        present += there
        lacking += ceilings.missing(wanted, study, runtime.results)
        todo += [(study, job) for job in missing]
    total = sum(len(job.cells) for _, job in todo)
    training = sum(not job.trained and job.recipe.budget > 0 for _, job in todo)
    if not todo:
        say(f"nothing to do: all {present} cells are there already")
    else:
        say(f"{present} cells are there already; {total} to compute, {training} runs to pretrain")
    if lacking:
        say(f"{len(lacking)} ceilings to train, with labels")
    if stage == "prepare":
        return Outcome(0, present, (), [job for _, job in todo], lacking)
    images: dict[str, data.Images] = {}
    diverged, number = [], 0
    for study, job in todo:
        recipe = job.recipe
        kind = "twin" if recipe.budget == 0 else "run"
        number += not job.trained and kind == "run"
        label = f"[{number}/{training}] {recipe.modality} {recipe.pretext} seed {recipe.seed}"
        if not job.trained and stage != "probe":
            train(study, recipe, runtime, pixels, wanted.policy, images, label)
        if runtime.node or stage == "pretrain":
            continue
        directory = results.run_directory(runtime.results, recipe.modality, key(recipe))
        if not directory.exists():
            say(f"{label}: not pretrained yet, not probed")
            continue
        if not (directory / "encoder.safetensors").exists():
            diverged.append(label)
            continue
        evaluate(study, job, runtime, pixels)
    for ceiling in lacking if runtime.node == 0 and stage != "probe" else ():
        teach(ceiling, runtime, say)
    computed = total if stage != "pretrain" and runtime.node == 0 else 0
    return Outcome(computed, present, tuple(diverged), [job for _, job in todo], lacking)


def teach(ceiling: Ceiling, runtime: Runtime, say: Callable[[str], None]) -> None:
    """Train a ceiling and store it, unless another process is at it or has done it."""
    lock = runtime.cache / "checkpoints" / f"{ceiling.name}.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    with _alone(lock, ceiling.name):
        if not ceiling.stored(runtime.results):
            stores = [stored(found, runtime, ceiling.recipe.stored_pixels) for found in ceiling.family.tasks]
            supervised.measure(ceiling, stores, runtime, say)
        lock.unlink(missing_ok=True)


def train(
    study: Study,
    recipe: Recipe,
    runtime: Runtime,
    pixels: int,
    policy: str,
    images: dict[str, data.Images],
    label: str,
) -> None:
    """Pretrain one run, unless another process is at it or has done it. images: by modality, filled when needed."""
    if runtime.node and recipe.budget == 0:
        return
    lock = runtime.cache / "checkpoints" / f"{key(recipe)}.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    with _alone(lock, label) if runtime.node == 0 else nullcontext():
        if not results.run_directory(runtime.results, recipe.modality, key(recipe)).exists():
            _train(study, recipe, runtime, pixels, policy, images, label)
        if runtime.node == 0:
            lock.unlink(missing_ok=True)


def _alone(lock: Path, label: str) -> AbstractContextManager:
    """Wait for another process that is at this run, and say so."""
    held = FileLock(lock)
    try:
        return held.acquire(timeout=0)
    except Timeout:
        print(f"{label}: another process is at it, waiting for that", file=sys.stderr)
        return held.acquire()


def _train(
    study: Study,
    recipe: Recipe,
    runtime: Runtime,
    pixels: int,
    policy: str,
    images: dict[str, data.Images],
    label: str,
) -> None:
    synthetic = any(m.source.synthetic for m in study.pinned.members)
    shown = watched(study)
    if runtime.processes > 1 and recipe.budget > 0:
        names = tuple(found.task.name for found in shown)
        arithmetic.release()
        torchrun.pretrain(recipe, runtime, label, synthetic, study.spec, policy, names)
    else:
        if study.modality not in images:
            images[study.modality] = data.open_images(study.pinned.members, recipe, runtime)
        one = replace(runtime, processes=1)
        look = health.watch([(f.task, f.samples) for f in shown], stored(shown[0], runtime, pixels), recipe)
        pretrain.pretrain(recipe, one, images[study.modality], label, synthetic, look)


def watched(study: Study) -> list[TaskData]:
    """What the online probe looks at: the first task with a fixed split, else the first, and those that share its
    images."""
    found = sorted(study.tasks.values(), key=lambda found: (isinstance(found.task.protocol, Folds), found.task.name))
    images = [(one.task.images, [(sample.id, sample.digest) for sample in one.samples]) for one in found]
    return [one for one, same in zip(found, images, strict=True) if same == images[0]]


def stored(found: TaskData, runtime: Runtime, pixels: int) -> store.Store:
    return store.build(
        found.task,
        runtime.data,
        found.samples,
        pixels,
        runtime.cache / "stores",
        skip_unreadable=runtime.skip_unreadable,
    )


def evaluate(study: Study, job: Job, runtime: Runtime, pixels: int) -> None:
    """Probe the stored encoder of a job on every missing cell."""
    arithmetic.prepare(runtime.threads)
    directory = results.run_directory(runtime.results, job.recipe.modality, key(job.recipe))
    weights = seals.sha256(directory / "encoder.safetensors")
    frozen = encoder.load(job.recipe.encoder, directory / "encoder.safetensors")
    declared = registry.load("pretexts", job.recipe.pretext)
    readouts = {"patches": "patches", "native": declared.NATIVE}
    for name, found in study.tasks.items():
        cells = [cell for cell in job.cells if cell.task == name]
        if not cells:
            continue
        built = stored(found, runtime, pixels)
        row = {sample_id: i for i, sample_id in enumerate(built.ids)}
        index = np.array([row[sample.id] for sample in found.samples])
        cached = partial(features.cached, runtime.cache, weights, built, frozen)
        divisions = found.divisions
        tested = {i for d in divisions for i in d.test}
        leaks = overlaps(study, found, [found.samples[i] for i in sorted(tested)], runtime)
        fitted: dict[
            tuple[str, str], tuple[TaskData, list[Fitting]]
        ] = {}  # a native readout may be the patches themselves
        for cell in cells:
            kind = readouts[cell.readout]
            if (cell.probe, kind) not in fitted:
                needs, seed = registry.load("probes", cell.probe).NEEDS, cell.recipe.seed
                tokens = needs in plan.TOKENS
                seen = cached(tokens=tokens)
                x = Rows(seen["tokens"], index) if tokens else features.readout(seen, kind)[index]
                asked, parts = found, divisions
                suite = corrupt.SCALES if needs == "scales" else corrupt.SUITES.get(found.task.modality, {})
                change = partial(altered, found, kind, index, tested, cached, suite)
                if needs == "nuisances":
                    asked, x = nuisances(found, x, change((NUISANCE,)))
                    parts = splits.assignments(asked.task, asked.samples)
                shown = masks(found, runtime, frozen.spec.pixels) if needs == "masks" else None
                changed = change() if needs in ("altered", "scales") else ()
                fitted[cell.probe, kind] = (
                    asked,
                    fit(cell.probe, cell.settings, seed, asked.task, asked.samples, x, parts, changed, shown),
                )
            store_cell(cell, found, *fitted[cell.probe, kind], leaks, weights, runtime)


def altered(
    found: TaskData,
    kind: str,
    index: np.ndarray,
    tested: set[int],
    cached: Callable[..., dict[str, np.ndarray]],
    suite: Iterable[str],
    strengths: tuple[int, ...] = corrupt.STRENGTHS,
) -> list[Altered]:
    """Features of test samples under every alteration of the suite, at these strengths. index: rows of the store."""
    modality = found.task.modality
    some = subset([sample.group for sample in found.samples], np.array(sorted(tested)))
    made = []
    for name in suite:
        for strength in strengths:
            change = features.Change(
                f"{modality} {name} {strength}, version {corrupt.VERSION}",
                partial(corrupt.apply, modality=modality, name=name, strength=strength),
            )
            pooled = cached(change=change, rows=index[some])
            made.append(Altered(name, strength, some, features.readout(pooled, kind)))
    return made


def nuisances(found: TaskData, x: np.ndarray, changed: list[Altered]) -> tuple[TaskData, np.ndarray]:
    """The question of the nuisance probe and its features: the same samples clean and altered, by folds over their
    groups. x (N, D): clean features of all samples."""
    some, kinds = changed[0].index, ("clean", *(one.corruption for one in changed))
    samples = [
        found.samples[i]._replace(id=f"{found.samples[i].id}, {name}", label=label, split="")
        for label, name in enumerate(kinds)
        for i in some
    ]
    task = replace(found.task, classes=kinds, protocol=FOLDS, metric="auroc")
    return TaskData(task, samples), np.concatenate([x[some], *(one.x for one in changed)])


@lru_cache(maxsize=4)
def masks(found: TaskData, runtime: Runtime, pixels: int) -> np.ndarray:
    """(N, pixels, pixels) bool: where the structure of a task lies in each of its samples."""
    task = found.task
    return np.stack([squares.mask_to_square(task, runtime.data, sample, task.mask, pixels) for sample in found.samples])


def overlaps(study: Study, found: TaskData, test: list[Sample], runtime: Runtime) -> list[leakage.Overlap]:
    """What the corpus shares with a test part, and what the parts of the task's own split share.

    Groups are compared within one dataset family only, near-duplicates in real images only, and nothing in a stream.
    """
    task, members = found.task, study.pinned.members
    if any(m.source.stream for m in members):
        return [leakage.Overlap(kind, None, ()) for kind in ("exact", "near")] + passports.within(
            task, found.samples, runtime
        )
    rows = leakage.overlap([s for m in members for s in m.train], test, same_groups=False)
    family = [s for m in members if m.source.family == task.family for s in m.train]
    rows += [row for row in leakage.overlap(family, test) if row.kind == "group"]
    real = [(m.source, m.samples, m.train) for m in members if not m.source.synthetic]
    if real and not task.synthetic:
        rows.append(leakage.near(real, task, found.samples, test, runtime.data, runtime.cache))
    return rows + passports.within(task, found.samples, runtime)


def store_cell(
    cell: Cell,
    found: TaskData,
    asked: TaskData,
    fitted: list[Fitting],
    leaks: list[leakage.Overlap],
    weights: str,
    runtime: Runtime,
) -> None:
    """Store predictions, probe grid, leakage verdict and metrics as one cell. asked: what the probe was asked, if that
    is not the task's own question."""
    task, samples, this, recipe = found.task, found.samples, key(cell), cell.recipe
    dense = registry.load("probes", cell.probe).NEEDS == "masks"
    headline = "dice" if dense else asked.task.metric
    tables, about, scored = observed(this, cell.readout, asked.task, asked.samples, fitted, headline)
    rows = passports.leakage_rows(leaks, recipe.corpus.digest, task, samples)
    tables["leakage"] = schema.table("leakage", rows)
    common = about | {
        "data": cell.data,
        "run": key(recipe),
        "corpus": recipe.corpus.name,
        "corpus_digest": recipe.corpus.digest,
        "track": recipe.track,
        "pretext": recipe.pretext,
        "seed": recipe.seed,
        "twin": recipe == twin(recipe),
        "task_title": task.title,
        "data_images": len(samples),
        "data_expected": task.expected,
        "synthetic": task.synthetic,
        "classes": list(asked.task.classes),
        "probe": cell.probe,
        "probe_version": cell.probe_version,
        "settings": json.dumps(cell.settings, sort_keys=True),
        "readout": cell.readout,
        "group_kind": task.group_kind,
        "family": task.family,
        "independent": task.independent,
        "leakage": leakage.verdict(leaks, independent=task.independent),
        "weights_sha256": weights,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    directory = results.cell_directory(runtime.results, recipe.modality, this)
    results.write(directory, tables, [{**common, **metric} for metric in scored])
