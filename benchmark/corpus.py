"""What encoders are pretrained on: pinned by name and identified by content. No torch, no pixels."""

import importlib
from pathlib import Path
from typing import NamedTuple

import tasks
from benchmark.recipe import Corpus
from tasks import splits
from tasks.base import Folds, NoData, Sample, Task, digest

NAMES = ("phantom", "open", "local")


class Member(NamedTuple):
    """One image source of a corpus."""

    task: Task
    samples: list[Sample]  # all of the task's samples
    train: list[Sample]  # those the corpus holds


class Pinned(NamedTuple):
    corpus: Corpus
    members: list[Member]


def member(task: Task, data: Path) -> Member:
    samples = task.scan(data)
    return Member(task, samples, [samples[i] for i in splits.train_part(task, samples)])


def resolve(modality: str, name: str, data: Path) -> Pinned:
    """The corpus of that name. Raises NoData where nothing is found, ValueError for an unknown name.

    phantom: the simulated family. open: a fixed list, every member must be there. local: the training parts of all
    tasks with a fixed split found under data; tasks by folds enter no corpus.
    """
    if name not in NAMES:
        raise tasks.unknown("corpus", name, NAMES)
    if name == "local":
        members = _found(modality, data)
        if not members:
            raise NoData(f"no {modality} dataset with a fixed split found under {data}; see `make data`")
    else:
        listed = importlib.import_module(f"tasks.{modality}").CORPORA[name]
        if not listed:
            raise NoData(f"the {name!r} corpus of {modality} has no members yet; use CORPUS=phantom or CORPUS=local")
        members = [member(tasks.get(modality, task), data) for task in listed]
    pinned = Corpus(
        name=name,
        members=tuple((m.task.name, m.task.version) for m in members),
        digest=digest(*sorted(sample.digest for m in members for sample in m.train))[:12],
        images=sum(len(m.train) for m in members),
    )
    return Pinned(pinned, members)


def _found(modality: str, data: Path) -> list[Member]:
    members = []
    for name in tasks.names(modality):
        task = tasks.get(modality, name)
        if task.synthetic or isinstance(task.protocol, Folds):
            continue
        try:
            members.append(member(task, data))
        except NoData:
            continue
    return members


def default(modality: str, data: Path) -> str:
    """`local` where real data are found under data, else `phantom`."""
    return "local" if data.is_dir() and _found(modality, data) else "phantom"
