"""A probe on features of a task, division by division, and what is stored of it. For cells and baselines alike."""

import json
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from benchmark import metrics, registry, results
from benchmark.probes._base import Features, Trial
from tasks import splits
from tasks.base import Folds, Sample, Task, identity


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
    x: np.ndarray,
    divisions: list[splits.Assignment],
    altered: Sequence[Altered] = (),
    masks: np.ndarray | None = None,
) -> list[Fitting]:
    """A probe on features (N, ...) of a task's samples, once per division; its answers to clean and altered ones.

    masks: bool (N, S, S), what a dense probe is to find instead of the label; its scores are then areas (test samples,
    3), see `metrics.SEGMENTATION`.
    """
    y = np.array([sample.label for sample in samples]) if masks is None else masks
    group = np.array([sample.group for sample in samples])
    probe = registry.load("probes", name)
    done = []
    for division in divisions:
        train, val = (Features(x[part], y[part], group[part]) for part in (division.train, division.val))
        fitted = probe.fit(train, val, probe.Settings(**settings), len(task.classes), seed=seed)
        for one in fitted if isinstance(fitted, list) else [fitted]:
            condition = {"fraction": one.fraction, "shots": one.shots, "draw": one.draw}
            clean = one.predict(x[division.test])
            clean = clean if masks is None else metrics.areas(clean, masks[division.test])
            done.append(Fitting(division, one.grid, clean, division.test, **condition))
            for other in altered:
                here = np.isin(other.index, division.test)
                if here.any():
                    condition |= {"corruption": other.corruption, "strength": other.strength}
                    scores = one.predict(other.x[here])
                    done.append(Fitting(division, [], scores, other.index[here], **condition))
    return done


def observed(
    this: str, readout: str, task: Task, samples: list[Sample], fitted: list[Fitting], headline: str
) -> tuple[dict[str, pa.Table], dict, list[dict]]:
    """What was observed of a cell or a baseline: (predictions and fits, columns about the task, a row per metric).

    headline: the metric that comes first, and with it the kind of all. The metrics are of clean images; fractions,
    shots and draws are averaged over like repeats.
    """
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
            "readout": readout,
            "split_variant": f.division.variant,
            "fraction": f.fraction,
            "shots": f.shots,
            "draw": f.draw,
            "corruption": f.corruption,
            "strength": f.strength,
        }
        for f in fitted
        for i, scores in zip(f.index, f.scores, strict=True)
    ]
    clean = [row for row in predictions if not row["corruption"]]
    labels, folds = (np.array([row[name] for row in clean]) for name in ("label", "fold"))
    conditions = [(row["fraction"], row["shots"] or 0, row["draw"], row["repeat"]) for row in clean]
    repeats = np.unique(conditions, axis=0, return_inverse=True)[1].reshape(-1)
    scores = np.concatenate([f.scores for f in fitted if not f.corruption])
    protocol = task.protocol
    known = metrics.METRICS if headline in metrics.METRICS else metrics.SEGMENTATION
    about = {
        "cell": this,
        "modality": task.modality,
        "task": task.name,
        "task_version": task.version,
        "data": identity(task, samples),
        "groups": len({row["group"] for row in predictions}),
        "samples": len({row["sample"] for row in predictions}),
        "protocol": f"folds({protocol.k}, {protocol.repeats})"
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
    tables = {"predictions": results.table("predictions", predictions), "fits": results.table("fits", fits)}
    return tables, about, scored
