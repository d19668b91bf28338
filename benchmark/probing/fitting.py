"""A probe on features of a task, division by division, and what is stored of it. For cells and baselines alike."""

import json
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from benchmark import metrics, registry
from benchmark.probes._base import Features, Rows, Trial
from benchmark.storage.schema import TABLES, table
from benchmark.storage.scores import quantise
from tasks import splits
from tasks.base import DataError, Folds, Sample, Task, identity


class Altered(NamedTuple):
    """Features of some samples under a nuisance."""

    corruption: str
    strength: int
    index: np.ndarray  # positions in the list of samples
    x: np.ndarray  # features of those


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


def fit(
    name: str,
    settings: dict,
    seed: int,
    task: Task,
    samples: list[Sample],
    x: np.ndarray | Rows,
    divisions: list[splits.Assignment],
    altered: Sequence[Altered] = (),
    masks: np.ndarray | None = None,
) -> list[Fitting]:
    """A probe on features (N, ...) of a task's samples, once per division; its answers to clean and altered ones.

    masks: bool (N, S, S), what a dense probe is to find instead of the label; its scores are then areas (test samples,
    3), see `metrics.SEGMENTATION`. Raises DataError for features or answers that are not finite.
    """
    if len(x.shape) == 2:
        refuse_broken(x, samples, f"{task.name}: features")
    take = x.part if isinstance(x, Rows) else x.__getitem__
    y = np.array([sample.label for sample in samples]) if masks is None else masks
    group = np.array([sample.group for sample in samples])
    probe = registry.load("probes", name)
    done = []
    for division in divisions:
        train, val = (Features(take(part), y[part], group[part]) for part in (division.train, division.val))
        fitted = probe.fit(train, val, probe.Settings(**settings), len(task.classes), seed=seed)
        tested = take(division.test)
        for one in fitted if isinstance(fitted, list) else [fitted]:
            condition = {"fraction": one.fraction, "shots": one.shots, "draw": one.draw}
            clean = one.predict(tested)
            clean = clean if masks is None else metrics.areas(clean, masks[division.test])
            refuse_broken(clean, [samples[i] for i in division.test], f"{task.name}: what the probe {name} says")
            done.append(Fitting(division, one.grid, clean, division.test, **condition))
            for other in altered:
                here = np.isin(other.index, division.test)
                if here.any():
                    condition |= {"corruption": other.corruption, "strength": other.strength}
                    scores = one.predict(other.x[here])
                    done.append(Fitting(division, [], scores, other.index[here], **condition))
    return done


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
