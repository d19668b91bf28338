"""Probe a frozen encoder from outside, or a table of embeddings, as `run` probes the benchmark's own."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import torch

from benchmark import plan, tracks
from benchmark.device import arithmetic, machine
from benchmark.encoders.external import External, Opened, fingerprint
from benchmark.probing import contamination, evaluation, features
from benchmark.probing.fitting import Question, question
from benchmark.recipe import Recipe, Runtime, columns, key, twin
from benchmark.run import open_stores
from benchmark.storage import passports, results, schema
from benchmark.study import Study, TaskData
from tasks.base import DataError
from tasks.store import Store


def probe_external(
    opened: Opened,
    study: Study,
    track: str,
    runtime: Runtime,
    *,
    declared: tuple[str, ...] | None,
    policy: str,
    say: Callable[[str], None],
) -> list[str]:
    """Probe an outside encoder, and its floor, on every task of a study; the runs stored or there already.

    declared: datasets it was pretrained on; None: not told. Raises DataError where embeddings lack a sample.
    """
    arithmetic.prepare(runtime.threads)
    pixels = tracks.get(track).stored_pixels
    read = replace(study, pinned=None, tasks=study.tasks if opened.model is not None else {})  # no image of the corpus
    stores, _ = open_stores(read, runtime, pixels)
    recipe = opened.described(declared, pixels).recipe(
        modality=study.modality, track=track, corpus=study.pinned.corpus, stored_pixels=pixels, policy=policy
    )
    made = [(recipe, opened.name, opened.model, opened.digest, declared)]
    if opened.floor is not None:
        made.append((twin(recipe), f"{opened.name} untrained", opened.floor, fingerprint(opened.floor), ()))
    for one, name, model, weights, pretrained_on in made:
        extracted: dict[str, dict[str, np.ndarray]] = {}  # address of an image store -> features
        row = _run_row(one, weights, any(member.source.synthetic for member in study.pinned.members))
        folder = results.run_directory(runtime.results, one.modality, row["run"])
        for task, found in study.tasks.items():
            cells = [cell for cell in plan.cells(one, study) if cell.task == task]
            missing = [c for c in cells if not results.cell_directory(runtime.results, one.modality, key(c)).exists()]
            if not missing:
                continue
            say(f"{name} on {task}: {len(missing)} cells")
            if model is None:
                asked = dict.fromkeys(plan.READOUTS, _of_embeddings(opened.embeddings, found, f"{name} on {task}"))
            else:
                asked = _of_model(model, found, stores[study.modality, task], extracted, runtime, name)
            for cell, posed, fitted in evaluation.answers(missing, asked):
                leaks = [contamination.of_declared(pretrained_on, found.task, found.tested)]
                leaks += passports.within(found.task, found.samples, runtime)
                results.write(folder, {"runs": schema.table("runs", [row]), "curves": schema.table("curves", [])})
                evaluation.store_cell(cell, found, posed, fitted, leaks, weights, runtime)
    return [key(one) for one, *_ in made]


def _of_model(
    model: External,
    found: TaskData,
    images: Store,
    extracted: dict[str, dict[str, np.ndarray]],
    runtime: Runtime,
    name: str,
) -> dict[str, Question]:
    """extracted: pooled features by address of the store, filled when needed."""

    def extract(**how: object) -> dict[str, np.ndarray]:
        if how:
            return features.extract(model, images, **how)
        if images.address not in extracted:
            extracted[images.address] = features.extract(model, images)
        return extracted[images.address]

    readouts = {"patches": "patches", "native": "cls" if model.spec.cls else "patches"}
    return evaluation.questions(found, images, extract, readouts, model.spec.pixels, runtime, name)


def _of_embeddings(embeddings: dict[str, np.ndarray], found: TaskData, name: str) -> Question:
    lacking = [sample.id for sample in found.samples if sample.id not in embeddings]
    if lacking:
        raise DataError(
            f"the embeddings lack {len(lacking)} of {len(found.samples)} samples of {found.task.name}, such as "
            f"{lacking[0]!r}; ids are those of the task's samples, or leave the task out by --task"
        )
    x = np.stack([embeddings[sample.id] for sample in found.samples])
    return question(found.task, found.samples, found.divisions, features=name, read_pooled=lambda: x)


def _run_row(recipe: Recipe, weights: str, synthetic: bool) -> dict[str, object]:
    """A row of `runs` for a training that was not seen."""
    commit, dirty = machine.commit()
    row = dict.fromkeys(schema.TABLES["runs"].names)
    return row | {
        **columns(recipe),
        "synthetic": synthetic,
        "steps": 0,
        "images_seen": 0,
        "seconds": 0.0,
        "status": "finished",
        "weights_sha256": weights,
        "commit": commit,
        "dirty": dirty,
        "versions": machine.versions(),
        "device": machine.device_name(),
        "threads": torch.get_num_threads(),
        "processes": 1,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
