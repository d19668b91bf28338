"""Walk a plan: pretrain what is missing, probe what is missing, store each finished thing whole."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial

from filelock import FileLock, Timeout

from benchmark import ceilings, plan, registry
from benchmark.ceilings import Ceiling
from benchmark.device import arithmetic
from benchmark.encoders import encoder
from benchmark.execution import torchrun
from benchmark.plan import Job
from benchmark.probing import baselines, contamination, evaluation, features
from benchmark.recipe import Recipe, Runtime, key
from benchmark.storage import results, seals, temporary
from benchmark.study import Study, TaskData, Wanted, leave_out
from benchmark.training import data, health, pretrain, supervised
from tasks import store
from tasks.base import Folds
from tasks.store import Store

Stores = dict[tuple[str, str], Store]  # opened, by modality and task


@dataclass(frozen=True)
class Outcome:
    computed: int  # cells
    present: int  # cells that were there before
    diverged: tuple[str, ...]  # labels of runs
    missing: list[Job]  # what there was to do, of the images that can be read
    ceilings: list[Ceiling]  # likewise


def open_stores(study: Study, runtime: Runtime, pixels: int) -> tuple[Stores, dict[str, tuple[str, ...]]]:
    """(every store that a study reads, built where it is not there; unreadable ids left out, by task). DataError."""
    members = study.pinned.members if study.pinned else []
    sources = {m.source.name: (m.source, m.samples) for m in members if not m.source.stream}
    sources |= {name: (found.task, found.samples) for name, found in study.tasks.items()}
    folder, skip = runtime.cache / "stores", runtime.skip_unreadable
    stores = {
        name: store.build(task, runtime.data, samples, pixels, folder, skip_unreadable=skip)
        for name, (task, samples) in sources.items()
    }
    skipped = {name: opened.skipped for name, opened in stores.items() if opened.skipped}
    return {(study.modality, name): opened for name, opened in stores.items()}, skipped


def bench(
    wanted: Wanted, studies: list[Study], runtime: Runtime, pixels: int, say: Callable[[str], None], stage: str = "all"
) -> Outcome:
    """Compute everything asked for and missing, or one stage of it: "prepare" (image stores and baselines), "pretrain"
    (runs and ceilings) or "probe" (what is pretrained). Finished things are kept whatever happens later."""
    arithmetic.prepare(runtime.threads)
    temporary.remove_leftovers(runtime.results, runtime.cache)
    todo: list[tuple[Study, Job]] = []
    lacking: list[Ceiling] = []
    stores: Stores = {}
    present = 0
    for study in studies:
        opened, skipped = open_stores(study, runtime, pixels)
        stores |= opened
        for name, ids in skipped.items():
            say(f"{study.modality}/{name}: {len(ids)} unreadable images left out, as asked: {', '.join(ids[:5])}")
        study = leave_out(study, skipped, wanted.probes)
        for name, found in study.tasks.items() if runtime.node == 0 else ():
            baselines.measure(found.task, found.samples, opened[study.modality, name], runtime)
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
            train(study, recipe, runtime, stores, wanted.policy, images, label)
        if runtime.node or stage == "pretrain":
            continue
        directory = results.run_directory(runtime.results, recipe.modality, key(recipe))
        if not directory.exists():
            say(f"{label}: not pretrained yet, not probed")
            continue
        if not (directory / "encoder.safetensors").exists():
            diverged.append(label)
            continue
        evaluate(study, job, runtime, stores)
    for ceiling in lacking if runtime.node == 0 and stage != "probe" else ():
        teach(ceiling, stores, runtime, say)
    computed = total if stage != "pretrain" and runtime.node == 0 else 0
    return Outcome(computed, present, tuple(diverged), [job for _, job in todo], lacking)


def teach(ceiling: Ceiling, stores: Stores, runtime: Runtime, say: Callable[[str], None]) -> None:
    """Train a ceiling and store it, unless another process is at it or has done it."""
    with claimed(ceiling.name, ceiling.name, runtime):
        if not ceiling.stored(runtime.results):
            images = [stores[ceiling.recipe.modality, name] for name in ceiling.family.heads]
            supervised.measure(ceiling, images, runtime, say)


def train(
    study: Study,
    recipe: Recipe,
    runtime: Runtime,
    stores: Stores,
    policy: str,
    images: dict[str, data.Images],
    label: str,
) -> None:
    """Pretrain one run, unless another process is at it or has done it. images: by modality, filled when needed."""
    if runtime.node and recipe.budget == 0:
        return
    with claimed(key(recipe), label, runtime) if runtime.node == 0 else nullcontext():
        if results.run_directory(runtime.results, recipe.modality, key(recipe)).exists():
            return
        synthetic = any(m.source.synthetic for m in study.pinned.members)
        shown = watched(study)
        if runtime.processes > 1 and recipe.budget > 0:
            names = tuple(found.task.name for found in shown)
            arithmetic.release_memory()
            torchrun.pretrain(recipe, runtime, label, synthetic, study.spec, policy, names)
            return
        if study.modality not in images:
            images[study.modality] = data.open_images(study.pinned.members, recipe, runtime)
        look = health.watch([(f.task, f.samples) for f in shown], stores[study.modality, shown[0].task.name], recipe)
        pretrain.pretrain(recipe, replace(runtime, processes=1), images[study.modality], label, synthetic, look)


@contextmanager
def claimed(name: str, label: str, runtime: Runtime) -> Iterator[None]:
    """Hold a training as this process's own. Where another process is at it, say so and wait for that."""
    lock = runtime.cache / "checkpoints" / f"{name}.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    held = FileLock(lock)
    try:
        held.acquire(timeout=0)
    except Timeout:
        print(f"{label}: another process is at it, waiting for that", file=sys.stderr)
        held.acquire()
    try:
        yield
        lock.unlink(missing_ok=True)
    finally:
        held.release()


def watched(study: Study) -> list[TaskData]:
    """What the online probe looks at: the first task with a fixed split, else the first, and those that share its
    images."""
    found = sorted(study.tasks.values(), key=lambda found: (isinstance(found.task.protocol, Folds), found.task.name))
    images = [(one.task.images, [(sample.id, sample.digest) for sample in one.samples]) for one in found]
    return [one for one, same in zip(found, images, strict=True) if same == images[0]]


def evaluate(study: Study, job: Job, runtime: Runtime, stores: Stores) -> None:
    """Probe the stored encoder of a job on every missing cell."""
    arithmetic.prepare(runtime.threads)
    directory = results.run_directory(runtime.results, job.recipe.modality, key(job.recipe))
    weights = seals.sha256(directory / "encoder.safetensors")
    frozen = encoder.load(job.recipe.encoder, directory / "encoder.safetensors")
    readouts = {"patches": "patches", "native": registry.load("pretexts", job.recipe.pretext).NATIVE}
    for name, found in study.tasks.items():
        cells = [cell for cell in job.cells if cell.task == name]
        if not cells:
            continue
        images = stores[study.modality, name]
        extract = partial(features.cached, runtime.cache, weights, images, frozen)
        asked = evaluation.questions(found, images, extract, readouts, frozen.spec.pixels, runtime)
        leaks = contamination.of_corpus(study, found, found.tested, runtime)
        for cell, question, fitted in evaluation.answers(cells, asked):
            evaluation.store_cell(cell, found, question, fitted, leaks, weights, runtime)
