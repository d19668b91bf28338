"""A probe on features of a task, division by division, and what is stored of it. For cells and baselines alike."""

import json
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from benchmark import metrics, registry, results
from benchmark.probes._base import Features, Trial
from tasks import splits
from tasks.base import Folds, Sample, Task, identity


class Fitting(NamedTuple):
    """A probe fitted on one division of a task, and what it says of the test samples."""

    division: splits.Assignment
    grid: list[Trial]
    scores: np.ndarray  # (test samples, classes)


def fit(
    name: str,
    settings: dict,
    seed: int,
    task: Task,
    samples: list[Sample],
    x: np.ndarray,
    divisions: list[splits.Assignment],
) -> list[Fitting]:
    """A probe on features (N, D) of a task's samples, once per division."""
    y = np.array([sample.label for sample in samples])
    group = np.array([sample.group for sample in samples])
    probe = registry.load("probes", name)
    done = []
    for division in divisions:
        train, val = (Features(x[part], y[part], group[part]) for part in (division.train, division.val))
        fitted = probe.fit(train, val, probe.Settings(**settings), len(task.classes), seed=seed)
        done.append(Fitting(division, fitted.grid, fitted.predict(x[division.test])))
    return done


def observed(
    this: str, readout: str, task: Task, samples: list[Sample], fitted: list[Fitting]
) -> tuple[dict[str, pa.Table], dict, list[dict]]:
    """What was observed of a cell or a baseline: (predictions and fits, columns about the task, a row per metric)."""
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
    protocol = task.protocol
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
            "headline": name == task.metric,
            "value": metrics.fold_score(name, labels, scores, repeats, folds),
        }
        for name in metrics.METRICS
    ]
    tables = {"predictions": results.table("predictions", predictions), "fits": results.table("fits", fits)}
    return tables, about, scored
