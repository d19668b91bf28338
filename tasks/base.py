"""The types of WHAT is measured: a labelled question over a dataset, its samples, and how the dataset is obtained.

A task is a value: the module-level `TASK` of one file in `tasks/<modality>/`. Nothing here imports torch or benchmark.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

Split = Literal["train", "val", "test"]


class DataError(Exception):
    """Bad input data. The message names the file or folder, what was looked for, what was found, and the remedy."""


class NoData(DataError):
    """The task's data are not on this machine: not an error of a run, a cell that says why it is empty."""


class Sample(NamedTuple):
    """One labelled image, not yet decoded."""

    id: str  # unique in its task, stable across machines: a path relative to the dataset's folder, or an address
    label: int  # index into Task.classes
    group: str  # the unit that may never sit on two sides of a split
    digest: str  # SHA-256 (hex) of what determines the pixels: the file's bytes, or the simulator's parameters
    split: str = ""  # "train", "val" or "test" under a published fixed protocol; "" where `splits` assigns it


@dataclass(frozen=True, kw_only=True)
class Fixed:
    """One train/val/test split: published by the authors, or cut once by `splits` from a stated seed."""

    published: bool  # True: Sample.split says it; False: cut by groups, 60/20/20, stratified by label
    seed: int = 0  # of the cut, unused when published


@dataclass(frozen=True, kw_only=True)
class Folds:
    """Grouped cross-validation: for tasks under 250 groups without a published split. Such a task enters no corpus."""

    k: int  # folds
    repeats: int  # of the whole cross-validation, each with its own assignment
    seed: int = 0


Protocol = Fixed | Folds


@dataclass(frozen=True, kw_only=True)
class Access:
    """How a dataset is obtained."""

    home: str  # the owners' page
    licence: str  # as the owner states it
    citation: str  # authors, venue, year, DOI
    steps: tuple[str, ...] = ()  # what the user does to get the files, one line each
    redistributable: bool = False  # may sample images be shown on a public page
    bytes: int | None = None  # size of the download, if known


@dataclass(frozen=True, kw_only=True)
class Task:
    name: str  # equals the file name (tested)
    modality: str  # equals the folder name (tested)
    title: str  # for people
    question: str  # one sentence: what the label means
    classes: tuple[str, ...]  # names in label order: two published orders exist for several datasets
    group_kind: (
        str  # "patient", "slide", "near-duplicate cluster", "simulated patient": shown wherever groups are counted
    )
    protocol: Protocol
    metric: str  # headline metric, a key of benchmark.metrics.METRICS
    version: int  # bump when anything here changes a number
    access: Access
    scan: Callable[[Path], list[Sample]]  # data folder -> samples in a stable order; raises NoData or DataError
    read: Callable[[Path, Sample, int], np.ndarray]  # (data folder, sample, pixels) -> uint8 (pixels, pixels, 3)
    policy: str  # how `read` brings an image to a square: part of the store's address
    images: str  # name and version of the image family: tasks that share it share one store
    expected: int | None = None  # images of the complete dataset, to name a partial one
    synthetic: bool = False  # simulated, and always shown as such


def digest(*parts: object) -> str:
    """SHA-256 (hex) of the parts' text, each ended by a zero byte, so that ("ab", "c") differs from ("a", "bc")."""
    sha = hashlib.sha256()
    for part in parts:
        sha.update(str(part).encode() + b"\0")
    return sha.hexdigest()


def identity(task: Task, samples: list[Sample]) -> str:
    """Content hash (12 hex digits) of a task's samples: ids, labels, groups, splits and pixels' digests."""
    return digest(task.version, *task.classes, *(value for sample in sorted(samples) for value in sample))[:12]
