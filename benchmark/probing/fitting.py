"""A probe on features of a task, division by division, and what is stored of it. For cells and baselines alike."""

import json
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from benchmark import metrics, registry
from benchmark.parts.corruptions import STRENGTHS
from benchmark.probes._base import Inputs, Labelled, Part, Trial
from benchmark.storage.schema import TABLES, table
from benchmark.storage.scores import quantise
from tasks import splits
from tasks.base import DataError, Folds, Sample, Task, identity


class Question(NamedTuple):
    """What a probe is asked: a task's samples, how they are divided, and what can be read of them."""

    task: Task
    samples: list[Sample]
    divisions: list[splits.Assignment]
    inputs: Inputs


class Fitting(NamedTuple):
    """A probe fitted on one division of a task under one condition, and what it says of the test samples."""

    division: splits.Assignment
    grid: list[Trial]
    scores: np.ndarray  # (test samples, classes)
    index: np.ndarray  # their positions in the list of samples
    fraction: float = 1.0  # of the labelled groups
    shots: int | None = None
    draw: int = 0
    corruption: str = ""
    strength: int = 0


def question(
    task: Task,
    samples: list[Sample],
    divisions: list[splits.Assignment] | None = None,
    *,
    features: str = "",
    read_pooled: Callable[[], np.ndarray] | None = None,
    **readers: Callable,
) -> Question:
    """A task's own question. readers: of `Inputs`. features: whose, in words, for what is said of broken ones."""
    divisions = splits.assignments(task, samples) if divisions is None else divisions

    def checked() -> np.ndarray:
        x = read_pooled()
        refuse_broken(x, samples, f"{features or task.name}: features")
        return x

    readers |= {"read_pooled": checked} if read_pooled else {}
    return Question(task, samples, divisions, Inputs.of(task, samples, divisions, **readers))


def pose(name: str, own: Question) -> Question:
    """What a probe asks of a task's samples: the task's own question, unless it has another."""
    probe = registry.load("probes", name)
    if not hasattr(probe, "pose"):
        return own
    posed = probe.pose(Part(own.inputs.unlabelled(), own.inputs.tested))
    task = replace(own.task, classes=posed.classes, protocol=posed.protocol, metric="auroc")
    samples = [
        own.samples[i]._replace(id=f"{own.samples[i].id}, {posed.classes[label]}", label=int(label), split="")
        for i, label in zip(posed.index, posed.labels, strict=True)
    ]
    return question(task, samples, read_pooled=lambda: posed.pooled)


def fit(name: str, settings: dict, seed: int, asked: Question) -> list[Fitting]:
    """A probe, once per division; its answers to test images, clean and under the changes that it names.

    The scores of a segmentation are areas (test samples, 3), see `metrics.SEGMENTATION`. Raises DataError for features
    or answers that are not finite.
    """
    task, samples, divisions, inputs = asked
    probe, hidden, done = registry.load("probes", name), inputs.unlabelled(), []
    for division in divisions:
        train, val = Labelled(inputs, division.train), Labelled(inputs, division.val)
        test = Part(hidden, division.test)
        fitted = probe.fit(train, val, probe.Settings(**settings), len(task.classes), seed=seed)
        for one in fitted if isinstance(fitted, list) else [fitted]:
            condition = {"fraction": one.fraction, "shots": one.shots, "draw": one.draw}
            clean = one.predict(test)
            if "segmentation" in probe.KINDS:
                clean = metrics.areas(clean, inputs.masks[division.test])
            refuse_broken(clean, [samples[i] for i in division.test], f"{task.name}: what the probe {name} says")
            done.append(Fitting(division, one.grid, clean, division.test, **condition))
            for change, strength in product(one.changes, STRENGTHS):
                altered = test.changed(change, strength)
                if len(altered):
                    condition |= {"corruption": change, "strength": strength}
                    done.append(Fitting(division, [], one.predict(altered), test.altered.index, **condition))
    return done


def headline(probe: str, task: Task) -> str:
    """The metric that comes first of a probe's answers to a question of that task."""
    return "dice" if "segmentation" in registry.load("probes", probe).KINDS else task.metric


def refuse_broken(values: np.ndarray, samples: list[Sample], what: str) -> None:
    """Raises DataError where values (N, D) of N samples are not finite; what: they are, in words."""
    broken = np.flatnonzero(~np.isfinite(values).all(axis=1))
    if len(broken):
        raise DataError(
            f"{what} of {len(broken)} of {len(samples)} images are not finite, such as {samples[broken[0]].id}; "
            "mend the encoder, or leave the task out by --task"
        )


def observed(
    this: str, readout: str, task: Task, samples: list[Sample], fitted: list[Fitting], headline: str
) -> tuple[dict[str, pa.Table], dict, list[dict]]:
    """What was observed of a cell or a baseline: (predictions and fits, columns about the task, a row per metric).

    headline: the metric that comes first, and with it the kind of all. The metrics are of clean images; fractions,
    shots and draws are averaged over like repeats. Scores are quantised before anything is made of them.
    """
    known = metrics.METRICS if headline in metrics.METRICS else metrics.SEGMENTATION
    if known is metrics.METRICS:
        fitted = [f._replace(scores=quantise(f.scores)) for f in fitted]
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
    predictions = _predictions(this, readout, samples, fitted)
    clean = [f for f in fitted if not f.corruption]
    sizes = [len(f.index) for f in clean]
    labels = np.array([sample.label for sample in samples])[np.concatenate([f.index for f in clean])]
    folds = np.repeat([f.division.fold for f in clean], sizes)
    conditions = [(f.fraction, f.shots or 0, f.draw, f.division.repeat) for f in clean]
    repeats = np.repeat(np.unique(conditions, axis=0, return_inverse=True)[1].reshape(-1), sizes)
    scores = np.concatenate([f.scores for f in clean])
    seen = [samples[i] for i in np.unique(np.concatenate([f.index for f in fitted]))]
    protocol = task.protocol
    about = {
        "cell": this,
        "modality": task.modality,
        "task": task.name,
        "task_version": task.version,
        "data": identity(task, samples),
        "groups": len({sample.group for sample in seen}),
        "samples": len({sample.id for sample in seen}),
        "protocol": f"folds({protocol.k}, {protocol.repeats})" + protocol.halved * " of one half"
        if isinstance(protocol, Folds)
        else fitted[0].division.variant,
    }
    scored = [
        {
            "metric": name,
            "headline": name == headline,
            "value": metrics.fold_score(name, labels, scores, repeats, folds),
        }
        for name in known
    ]
    return {"predictions": predictions, "fits": table("fits", fits)}, about, scored


def _predictions(this: str, readout: str, samples: list[Sample], fitted: list[Fitting]) -> pa.Table:
    """A row per prediction, built column by column: a dict for each would take a kilobyte."""
    schema = TABLES["predictions"]
    index = np.concatenate([f.index for f in fitted])
    fitting = np.repeat(np.arange(len(fitted)), [len(f.index) for f in fitted])  # of each row
    scores = np.concatenate([f.scores for f in fitted]).astype(np.float64)
    ends = np.arange(len(scores) + 1, dtype=np.int32) * scores.shape[1]
    of_sample = {
        "sample": [sample.id for sample in samples],
        "group": [sample.group for sample in samples],
        "label": [sample.label for sample in samples],
    }
    of_fitting = {
        "cell": [this] * len(fitted),
        "repeat": [f.division.repeat for f in fitted],
        "fold": [f.division.fold for f in fitted],
        "readout": [readout] * len(fitted),
        "split_variant": [f.division.variant for f in fitted],
        "fraction": [f.fraction for f in fitted],
        "shots": [f.shots for f in fitted],
        "draw": [f.draw for f in fitted],
        "corruption": [f.corruption for f in fitted],
        "strength": [f.strength for f in fitted],
    }
    columns = {"scores": pa.ListArray.from_arrays(ends, scores.reshape(-1))}
    for values, place in ((of_sample, index), (of_fitting, fitting)):
        columns |= {name: pa.array(row, schema.field(name).type).take(pa.array(place)) for name, row in values.items()}
    return pa.table(columns, schema=schema)
