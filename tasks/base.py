"""The types of WHAT is measured: a labelled question over a dataset, its samples, and how the dataset is obtained.

A task is a value: the `TASK` of one file in `tasks/<modality>/`, or one of its `TASKS` where a dataset asks
several questions or is divided in several ways. Nothing here imports torch or benchmark.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

Split = Literal["train", "val", "test"]


class DataError(Exception):
    """Bad input data. The message names the file or folder, what was looked for, what was found, and the remedy."""


class ProcessError(RuntimeError):
    """A process that works for this one failed, or cannot be had. The message says what to do."""


class NoData(DataError):
    """The task's data are not on this machine: not an error of a run, a cell that says why it is empty."""


class Sample(NamedTuple):
    """One labelled image, not yet decoded."""

    id: str  # unique in its task, stable across machines: a path relative to the dataset's folder, or an address
    label: int  # index into Task.classes; -1 for an unlabelled image
    group: str  # the unit that may never sit on two sides of a split
    digest: str  # SHA-256 (hex) of what determines the pixels: the file's bytes, or the simulator's parameters
    split: str = ""  # "train", "val" or "test" under a published fixed protocol; "" where `splits` assigns it


@dataclass(frozen=True, kw_only=True)
class Fixed:
    """One train/val/test split: published by the authors, or cut once by `splits` from a stated seed.

    A published split without a val part gets one: a fifth of the training groups. `crossing` says what happens to a
    group on two sides of a published split: refuse the dataset; remove it from all sides but the last (test before val
    before train), which makes the "clean" variant; or keep it, the "published" variant with its leak.
    """

    published: bool  # True: Sample.split says it; False: cut by groups, 60/20/20, stratified by label
    seed: int = 0  # of the cut, or of the missing val part
    crossing: Literal["refuse", "remove", "keep"] = "refuse"


@dataclass(frozen=True, kw_only=True)
class Folds:
    """Grouped cross-validation: for tasks under 250 groups without a published split. Such a task enters no corpus.

    Halved, its groups are cut once: one half is for pretraining, and the folds are of the other. For modalities whose
    sets of known patients would all be folds, with nothing left to pretrain on.
    """

    k: int  # folds, three or more: one to test, one to choose, the others to train
    repeats: int  # of the whole cross-validation, each with its own assignment
    seed: int = 0
    halved: bool = False  # a corpus may hold one half of the groups, which no probe sees

    def __post_init__(self) -> None:
        if self.k < 3 or self.repeats < 1:
            raise ValueError(f"{self.k} folds, {self.repeats} times: 3 folds and one repeat are needed at least")


Protocol = Fixed | Folds


@dataclass(frozen=True, kw_only=True)
class Download:
    """A file that may be fetched unattended."""

    url: str  # where the owner serves it
    name: str  # file name under DATA
    checksum: str = ""  # "md5:<hex>" or "sha256:<hex>"; "" where none is published
    bytes: int | None = None  # size, if known
    unpack: bool = False  # an archive (zip, tar, gz): unpacked beside itself, then removed
    into: str = ""  # folder under DATA that it goes to; "" for DATA itself


@dataclass(frozen=True, kw_only=True)
class Access:
    """How a dataset is obtained."""

    home: str  # the owners' page
    licence: str  # as the owner states it
    citation: str  # authors, venue, year, DOI
    steps: tuple[str, ...] = ()  # what the user does to get the files, one line each
    downloads: tuple[Download, ...] = ()  # empty where a form, a registration or a hub account stands before the files
    checksums: Mapping[str, str] = field(default_factory=dict)  # native file name -> "md5:<hex>" or "sha256:<hex>"
    redistributable: bool = False  # may sample images be shown on a public page
    bytes: int | None = None  # size of the download, if known


@dataclass(frozen=True, kw_only=True)
class Source:
    """Images of one modality: a task's, or an unlabelled corpus's (whose samples carry the label -1)."""

    name: str
    modality: str
    title: str  # for people
    group_kind: (
        str  # "patient", "slide", "near-duplicate cluster", "simulated patient": shown wherever groups are counted
    )
    version: int  # bump when anything here changes a number
    access: Access
    scan: Callable[[Path], list[Sample]]  # data folder -> samples in a stable order; raises NoData or DataError
    read: Callable[[Path, Sample, int], np.ndarray]  # (data folder, sample, pixels) -> uint8 RGB (height, width, 3) at
    # its native size; only a simulator looks at pixels, and renders (pixels, pixels, 3). Picklable: no lambda
    policy: str  # how the store brings an image to a square: a key of tasks.reading.squares.POLICIES
    images: str  # name and version of the image family: sources that share it share one store
    family: str  # the dataset: group names mean something only inside it, and tasks that share it share groups
    expected: int | None = None  # images of the complete dataset, to name a partial one
    synthetic: bool = False  # simulated, and always shown as such
    # data folder -> tasks.sources.stream.Stream: images read while training, that are never scanned or stored
    stream: Callable[[Path], Any] | None = None
    left_out: Callable[[Path], Mapping[str, list[str]]] | None = None  # data folder -> reason -> files that are there,
    # and that are no part of the task or corpus


@dataclass(frozen=True, kw_only=True)
class Task(Source):
    """A labelled question over a dataset. Its name is its file's, or begins with it and an underscore."""

    question: str  # one sentence: what the label means
    classes: tuple[str, ...]  # names in label order: two published orders exist for several datasets
    protocol: Protocol
    independent: bool  # the groups are patients or slides, known as such; where False, values and intervals are as if
    # images (or look-alike clusters) were independent: too narrow, no verdict, no rank, leakage unknown
    metric: str  # headline metric, one of benchmark.metrics.HEADLINES
    counts: Mapping[str, Mapping[str, int]] = field(default_factory=dict)  # published split ("" where there is none) ->
    # class -> images of the complete dataset, as its authors or a reader of its files state them; {} for a part of
    # which they state no counts by class
    mask: Callable[[Path, Sample, int], np.ndarray] | None = None  # (data folder, sample, pixels) -> bool (height,
    # width) as `read`: where the structure lies that a dense probe looks for; all False in an image without it
    columns: Mapping[str, Callable[[Path], Mapping[str, str]]] = field(default_factory=dict)  # what else authors say
    # of an image, such as BI-RADS -> (data folder -> sample id -> text): shown beside the classes, never learnt from
    side: int | None = None  # pixels of the short side of the released images, in the median; None: not stated
    near: bool = False  # no patient is known: near-duplicate images are joined into one group before any split
    on_request: bool = False  # run only when named by TASK=, such as a published split that leaks
    root: Path | None = None  # of a dataset of its user's own (`python -m benchmark data add`): the folder from which
    # on its sample ids are paths; None for a published one, whose folder is looked for under DATA


def as_published(task: Task, title: str) -> Task:
    """The task in its split as published, on request: what crosses the split, and is removed from the task, stays."""
    protocol = Fixed(published=True, crossing="keep")
    return replace(task, name=f"{task.name}_published", title=title, protocol=protocol, on_request=True)


class OpenList(NamedTuple):
    """A corpus that anyone can build: the training parts of these tasks, their files whole and as published."""

    version: int  # of the list: bump with any change of it
    members: Mapping[str, int]  # task -> its version


def digest(*parts: object) -> str:
    """SHA-256 (hex) of the parts' text, each ended by a zero byte, so that ("ab", "c") differs from ("a", "bc").

    Raises DataError for text that is not Unicode, such as a file name in another encoding.
    """
    sha = hashlib.sha256()
    for part in map(str, parts):
        try:
            sha.update(part.encode() + b"\0")
        except UnicodeEncodeError as error:
            raise DataError(f"{part!a}: not UTF-8; rename the file or folder that is called so") from error
    return sha.hexdigest()


def identity(task: Task, samples: list[Sample]) -> str:
    """Content hash (12 hex digits) of a task's samples: ids, labels, groups, splits, pixels' digests and policy."""
    every = (value for sample in sorted(samples) for value in sample)
    return digest(task.version, task.policy, *task.classes, *every)[:12]
