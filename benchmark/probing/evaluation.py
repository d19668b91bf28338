"""The cells of one task and one encoder: what is read of its images, the probes' answers, and how a cell is stored."""

import json
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from functools import lru_cache, partial

import numpy as np

from benchmark.parts import corruptions
from benchmark.probes._base import Rows
from benchmark.probing import features
from benchmark.probing.fitting import Fitting, Question, fit, headline, observed, pose, question
from benchmark.recipe import Cell, Runtime, key, twin
from benchmark.storage import passports, results, schema
from benchmark.study import TaskData
from tasks import leakage
from tasks.reading import squares
from tasks.store import Store


def questions(
    found: TaskData,
    images: Store,
    extract: Callable[..., dict[str, np.ndarray]],
    readouts: Mapping[str, str],
    pixels: int,
    runtime: Runtime,
    encoder: str = "",
) -> dict[str, Question]:
    """For each readout what a probe is asked of a task; one for readouts that are of the same tokens.

    images: the task's; extract: their features, as `features.extract`; readouts: name -> kind, as `features.readout`;
    pixels: side of the encoder's images; encoder: in words, for what is said of broken features.
    """
    row = {sample_id: i for i, sample_id in enumerate(images.ids)}
    index = np.array([row[sample.id] for sample in found.samples])
    modality = found.task.modality

    def change(kind: str, name: str, strength: int, positions: np.ndarray) -> np.ndarray:
        changed = features.Change(
            f"{modality} {name} {strength}, version {corruptions.VERSION}",
            partial(corruptions.apply, modality=modality, name=name, strength=strength),
        )
        return features.readout(extract(change=changed, rows=index[positions]), kind)

    of_kind = {
        kind: question(
            found.task,
            found.samples,
            found.divisions,
            features=f"{encoder} on {found.task.name}" if encoder else "",
            read_pooled=lambda kind=kind: features.readout(extract(), kind)[index],
            read_tokens=lambda: Rows(extract(tokens=True)["tokens"], index),
            read_masks=lambda: masks(found, runtime, pixels),
            read_changed=partial(change, kind),
        )
        for kind in dict.fromkeys(readouts.values())
    }
    return {name: of_kind[kind] for name, kind in readouts.items()}


@lru_cache(maxsize=4)
def masks(found: TaskData, runtime: Runtime, pixels: int) -> np.ndarray:
    """(N, pixels, pixels) bool: where the structure of a task lies in each of its samples."""
    task = found.task
    return np.stack([squares.mask_to_square(task, runtime.data, sample, task.mask, pixels) for sample in found.samples])


def answers(cells: list[Cell], asked: Mapping[str, Question]) -> Iterator[tuple[Cell, Question, list[Fitting]]]:
    """Each cell with what its probe was asked and said. Cells of one probe and one question are fitted once."""
    known: dict[tuple[str, int], tuple[Question, list[Fitting]]] = {}
    for cell in cells:
        own = asked[cell.readout]
        if (cell.probe, id(own)) not in known:
            posed = pose(cell.probe, own)
            known[cell.probe, id(own)] = posed, fit(cell.probe, cell.settings, cell.recipe.seed, posed)
        yield cell, *known[cell.probe, id(own)]


def store_cell(
    cell: Cell,
    found: TaskData,
    asked: Question,
    fitted: list[Fitting],
    leaks: list[leakage.Overlap],
    weights: str,
    runtime: Runtime,
) -> None:
    """Store predictions, probe grid, leakage verdict and metrics as one cell. asked: what the probe was."""
    task, samples, this, recipe = found.task, found.samples, key(cell), cell.recipe
    tables, about, scored = observed(
        this, cell.readout, asked.task, asked.samples, fitted, headline(cell.probe, asked.task)
    )
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
