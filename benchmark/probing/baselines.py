"""What needs no encoder: the majority class, a colour histogram and an 8 x 8 thumbnail, on the splits of every task.

A number that one of these reaches says nothing about an encoder: a colour histogram alone tells the nine tissues of
NCT-CRC-HE-100K apart in over 82 % of images (Ignatov and Malivenko, arXiv 2409.11546). Features go through the linear
probe, with its grid and validation groups. Stored in `<results>/<modality>/baselines/`.
"""

from dataclasses import asdict
from datetime import UTC, datetime

import numpy as np
from PIL import Image

from benchmark import registry
from benchmark.probing.fitting import Fitting, fit, observed, question
from benchmark.recipe import Runtime
from benchmark.storage import results
from tasks import splits, store
from tasks.base import Sample, Task, digest, identity
from tasks.reading import squares

VERSION = 1
NAMES = ("majority", "histogram", "thumbnail")
THUMBNAIL = 8  # pixels


def histogram(image: np.ndarray) -> np.ndarray:
    """uint8 (S, S, 3) -> (112,): square roots of 16 bins of each channel and of their joint 4 x 4 x 4 colours."""
    single = [np.bincount(image[..., c].ravel() // 16, minlength=16) for c in range(3)]
    cell = (image // 64).astype(int) @ np.array([16, 4, 1])
    return np.sqrt(np.concatenate([*single, np.bincount(cell.ravel(), minlength=64)]) / image[..., 0].size)


def thumbnail(image: np.ndarray) -> np.ndarray:
    """uint8 (S, S, 3) -> (192,): 8 x 8 means of each channel, in [0, 1]."""
    small = Image.fromarray(image).resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX)
    return np.asarray(small).ravel() / 255.0


def measure(task: Task, samples: list[Sample], built: store.Store, runtime: Runtime) -> None:
    """Store the baselines of a task at the size of the store, each at most once."""
    row = {name: i for i, name in enumerate(built.ids)}
    index = [row[sample.id] for sample in samples]
    pixels, labels = built.pixels.shape[1], np.array([sample.label for sample in samples])
    divisions = splits.assignments(task, samples)
    probe = registry.load("probes", "linear")
    for name in NAMES:
        data = identity(task, samples)
        key = digest("baseline", VERSION, name, task.modality, task.name, data, pixels, probe.VERSION)[:12]
        folder = results.baseline_directory(runtime.results, task.modality, key)
        if folder.exists():
            continue
        if name == "majority":
            fitted = [Fitting(d, [], _majority(labels, d, len(task.classes)), d.test) for d in divisions]
        else:
            describe = histogram if name == "histogram" else thumbnail
            x = np.stack([describe(built.pixels[i]) for i in index])
            asked = question(task, samples, divisions, read_pooled=lambda x=x: x)
            fitted = fit("linear", asdict(probe.Settings()), 0, asked)
        tables, common, scored = observed(key, "", task, samples, fitted, task.metric)
        common |= {
            "baseline": name,
            "version": VERSION,
            "pixels": pixels,
            "policy": squares.describe_policy(task.policy),
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        results.write(folder, tables, [{**common, **metric} for metric in scored], sealed="baselines")


def _majority(labels: np.ndarray, division: splits.Assignment, classes: int) -> np.ndarray:
    """(test samples, classes): the class frequencies of the training part, for every sample alike."""
    share = np.bincount(labels[division.train], minlength=classes) / len(division.train)
    return np.tile(share, (len(division.test), 1))
