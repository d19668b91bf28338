"""Probes on parts of a task as large as PCam: processor time and peak memory, and what they come to for the whole.

A part is PCam's split at a share of its size, with features of ViT-Ti's width drawn with a spectrum that falls as
1/rank. It goes from features in memory to a stored cell by the code that a run uses.
"""

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

import tasks
from benchmark import registry
from benchmark.device import arithmetic, machine
from benchmark.probing import fitting as probing
from benchmark.storage import results, schema
from tasks import splits
from tasks.base import Sample, digest

PCAM = {"train": (262_144, 216), "val": (32_768, 54), "test": (32_768, 128)}  # images, about so many slides
WIDTHS = {"patches": 192, "native": 384}  # of ViT-Ti; native: cls and patches together, the widest that is read
ORDERS = {"knn": 2}  # how processor time grows with the images, where not in proportion to them


class Cost(NamedTuple):
    """Of one probe on one readout."""

    images: int
    fitted: float  # seconds of this process: from features to answers
    stored: float  # seconds of this process: from answers to a stored cell
    peak: int  # bytes resident at most, features included


class Whole(NamedTuple):
    """What the parts come to at PCam's size."""

    exponent: float  # of processor time over images, by least squares
    seconds: float
    peak: float  # bytes


def measure_cost(probe: str, readout: str, share: float) -> Cost:
    """Fit, ask and store one cell, in this process."""
    arithmetic.prepare()
    task = tasks.get("histo", "pcam")
    drawn = make_samples(share)
    x, divisions = make_features(drawn, WIDTHS[readout]), splits.assignments(task, drawn)
    settings = vars(registry.load("probes", probe).Settings())
    began = time.process_time()
    fitted = probing.fit(probe, settings, 0, probing.question(task, drawn, divisions, read_pooled=lambda: x))
    answered = time.process_time()
    tables, about, scored = probing.observed("cell", readout, task, drawn, fitted, task.metric)
    rows = [dict.fromkeys(schema.TABLES["cells"].names) | about | metric for metric in scored]
    with tempfile.TemporaryDirectory() as folder:
        results.write(results.cell_directory(Path(folder), task.modality, "cell"), tables, rows)
    ended = time.process_time()
    return Cost(len(drawn), answered - began, ended - answered, machine.peak_memory())


def make_samples(share: float) -> list[Sample]:
    """Of PCam's split at a share of its size, with as many slides and ids as long as its own."""
    made = []
    for part, (images, slides) in PCAM.items():
        for i in range(round(images * share)):
            name = f"camelyonpatch_level_2_split_{part}_x.h5#{i:06d}"
            group = f"camelyon16_{part}_{i // 2 % slides:03d}"
            made.append(Sample(name, i % 2, group, digest(name), part))
    return made


def make_features(samples: list[Sample], width: int) -> np.ndarray:
    """(N, width) float32, of which the first tell the label in part."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((len(samples), width), np.float32)
    x[:, :4] += np.array([sample.label for sample in samples], np.float32)[:, None]
    x /= np.arange(1, width + 1, dtype=np.float32)
    mixing = np.linalg.qr(rng.normal(size=(width, width)))[0].astype(np.float32)
    return x @ mixing + 0.2


def extrapolate(probe: str, costs: Sequence[Cost]) -> Whole:
    """To PCam's size from parts of it, smallest first: time from the largest, by the power that it was measured to grow
    with or that the method has, whichever is higher; memory by a straight line, no lower than the largest's."""
    images = np.array([cost.images for cost in costs], dtype=float)
    seconds = np.array([cost.fitted + cost.stored for cost in costs])
    exponent = float(np.polyfit(np.log(images), np.log(seconds), 1)[0])
    whole = sum(count for count, _ in PCAM.values())
    power = max(exponent, ORDERS.get(probe, 1))
    slope, base = np.polyfit(images, [cost.peak for cost in costs], 1)
    peak = max(base + slope * whole, costs[-1].peak)
    return Whole(exponent, seconds[-1] * (whole / images[-1]) ** power, peak)
