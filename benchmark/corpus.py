"""What encoders are pretrained on: pinned by name and identified by content. No torch, no pixels."""

import importlib
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import tasks
from benchmark.recipe import Corpus
from tasks import sources, splits
from tasks.base import DataError, Folds, NoData, OpenList, Sample, Source, Task, digest
from tasks.duplicates import scan_grouped
from tasks.obtain import receipts

NAMES = ("phantom", "open", "local")


class Member(NamedTuple):
    """One image source of a corpus."""

    source: Source
    samples: list[Sample]  # all of the source's samples; none of a stream's
    train: list[Sample]  # those the corpus holds


class Pinned(NamedTuple):
    corpus: Corpus
    members: list[Member]


def get(modality: str, name: str, policy: str = "") -> Task:
    """The registry's task, brought to a square by another policy if one is given; simulated ones keep theirs."""
    task = tasks.get(modality, name)
    return replace(task, policy=policy) if policy and not task.synthetic else task


def resolve(modality: str, name: str, data: Path, cache: Path, policy: str = "") -> Pinned:
    """The corpus of that name. Raises NoData where nothing is found, ValueError for an unknown name.

    phantom: the simulated population. open: a fixed list, else DataError names each member that is missing, partial or
    altered. local: the training parts of all tasks with a fixed split, and the pretraining halves, found under data;
    other tasks by folds enter no corpus. `kind:location`: unlabelled images, see tasks/sources.
    """
    if ":" in name:
        source = sources.open(name, modality)
        source = replace(source, policy=policy) if policy else source
        if source.stream:
            seen = source.stream(data)
            pinned = Corpus(
                name=source.name,
                members=((source.name, source.version),),
                digest=seen.digest[:12],
                images=seen.count,
            )
            return Pinned(pinned, [Member(source, [], [])])
        samples = source.scan(data)
        members, name = [Member(source, samples, samples)], source.name
    elif name == "local":
        members = _found(modality, data, cache, policy)
        if not members:
            raise NoData(f"no {modality} dataset with a part to pretrain on found under {data}; see `make data`")
    elif name == "open":
        members = _published(open_list(modality), modality, data, cache, policy)
    elif name in NAMES:
        members = [_whole(source, data) for source in importlib.import_module(f"tasks.{modality}").CORPORA[name]]
    else:
        raise tasks.unknown("corpus", name, (*NAMES, *(f"{kind}:LOCATION" for kind in sources.kinds())))
    pinned = Corpus(
        name=name,
        members=tuple((m.source.name, m.source.version) for m in members),
        digest=digest(*sorted(sample.digest for m in members for sample in m.train))[:12],
        images=sum(len(m.train) for m in members),
    )
    return Pinned(pinned, members)


def open_list(modality: str) -> OpenList:
    """What the corpus "open" is made of."""
    return importlib.import_module(f"tasks.{modality}").CORPORA["open"]


def _published(listed: OpenList, modality: str, data: Path, cache: Path, policy: str) -> list[Member]:
    """The training parts of a fixed list. Raises one DataError for all members that are not here as published."""
    members, faults = [], []
    for name in listed.members:
        task = get(modality, name, policy)
        try:
            samples = scan_grouped(task, data, cache)
            receipts.check(task, data, samples, cache)
            members.append(_member(task, samples))
        except NoData as error:
            faults.append(f"{name} is missing: {error}")
        except DataError as error:
            faults.append(f"{name}: {error}; {receipts.remedy(task)}")
    if faults:
        raise DataError(
            f"the open corpus of {modality} (list {listed.version}: {', '.join(listed.members)}) is not here, whole "
            "and as published:\n  " + "\n  ".join(faults)
        )
    return members


def _whole(source: Source, data: Path) -> Member:
    samples = source.scan(data)
    return Member(source, samples, samples)


def _member(task: Task, samples: list[Sample]) -> Member:
    return Member(task, samples, [samples[i] for i in splits.train_part(task, samples)])


def _enters(task: Task) -> bool:
    folds = isinstance(task.protocol, Folds) and not task.protocol.halved
    return not (task.synthetic or task.on_request or folds)


def _found(modality: str, data: Path, cache: Path, policy: str) -> list[Member]:
    members = []
    for name in tasks.names(modality):
        task = get(modality, name, policy)
        if _enters(task):
            try:
                members.append(_member(task, scan_grouped(task, data, cache)))
            except NoData:
                continue
    return members


def default(modality: str, data: Path) -> str:
    """`local` where a real dataset that may enter a corpus is found under data, else `phantom`."""
    for name in tasks.names(modality) if data.is_dir() else ():
        task = tasks.get(modality, name)
        if _enters(task):
            try:
                task.scan(data)
                return "local"
            except NoData:
                continue
    return "phantom"
