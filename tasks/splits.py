"""Who is trained on, chosen on and tested on: grouped, stratified, seeded; pure functions of a task and its samples."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from tasks import stratify
from tasks.base import DataError, Fixed, Folds, Sample, Task

PARTS = ("train", "val", "test")
CUT = ("test", "val", "train", "train", "train")  # a cut: the part that each fifth of the groups goes to
CUT_FOLDS = len(CUT)
CHOOSING = ("val", "train", "train", "train", "train")  # of a published training part, where no val part is


class Assignment(NamedTuple):
    """One way the samples are divided; the arrays hold positions in the list of samples given, in ascending order."""

    repeat: int
    fold: int
    train: np.ndarray
    val: np.ndarray
    test: np.ndarray
    variant: str  # "published", "clean" (published, less what crosses), "cut" or "folds"


def assignments(task: Task, samples: list[Sample]) -> list[Assignment]:
    """Every division of the task's protocol. The order of `samples` has no influence on who is where.

    All samples are in one of the parts, but for those that `Fixed(crossing="remove")` leaves out, and the pretraining
    half of `Folds(halved=True)`. Every part holds every class, so that metrics of parts and folds mean the same; raises
    DataError, with the remedy, where none can.
    """
    if not samples:
        raise DataError(f"{task.modality}/{task.name}: no samples to divide")
    order = np.array(sorted(range(len(samples)), key=lambda i: samples[i].id))
    ordered = [samples[i] for i in order]
    if not (isinstance(task.protocol, Fixed) and task.protocol.crossing != "refuse"):
        check(ordered)
    divisions = []
    for repeat, fold, parts, variant in _divide(task, ordered):
        train, val, test = (np.sort(order[part]) for part in parts)
        for name, part in zip(("training", "validation", "test"), (train, val, test), strict=True):
            _complete(task, samples, part, f"{name} part (repeat {repeat}, fold {fold}")
        divisions.append(Assignment(repeat, fold, train, val, test, variant))
    return divisions


def train_part(task: Task, samples: list[Sample]) -> np.ndarray:
    """Positions of what a corpus may hold of this task. Raises ValueError for a task by folds over all of its images,
    which enters none."""
    if isinstance(task.protocol, Folds) and task.protocol.halved:
        return halves(task, samples)[0]
    if isinstance(task.protocol, Folds):
        name = f"{task.modality}/{task.name}"
        raise ValueError(f"{name} is evaluated by folds: each of its images is tested on, so none may enter a corpus")
    return assignments(task, samples)[0].train


def halves(task: Task, samples: list[Sample]) -> tuple[np.ndarray, np.ndarray]:
    """Positions, ascending, of the pretraining and of the probing half of a task by `Folds(halved=True)`: groups whole,
    images of each class in like proportions. The order of `samples` has no influence.

    Raises DataError, with the remedy, where a half would lack a class.
    """
    order = np.array(sorted(range(len(samples)), key=lambda i: samples[i].id))
    (assigned,) = _assigned(task, [samples[i] for i in order], (0, 1), 1, task.protocol.seed, "2 halves")
    return np.sort(order[assigned == 0]), np.sort(order[assigned == 1])


def check(samples: list[Sample]) -> None:
    """Refuse a published split that puts one group on two sides."""
    sides: dict[str, dict[str, str]] = defaultdict(dict)
    for sample in samples:
        sides[sample.group].setdefault(sample.split, sample.id)
    crossing = {group: by_side for group, by_side in sides.items() if len(by_side) > 1}
    if crossing:
        examples = "; ".join(
            f"{group!r}: " + ", ".join(f"{side or 'unassigned'} has {name!r}" for side, name in sorted(by_side.items()))
            for group, by_side in sorted(crossing.items())[:3]
        )
        raise DataError(
            f"{len(crossing)} groups are on two sides of the split ({examples}); mend the split or the groups"
        )


def _divide(task: Task, ordered: list[Sample]) -> Iterator[tuple[int, int, tuple[np.ndarray, ...], str]]:
    protocol = task.protocol
    if isinstance(protocol, Fixed) and protocol.published:
        parts, variant = _published(task, ordered), "published"
        if protocol.crossing == "remove":
            parts, variant = _without_crossing(ordered, parts), "clean"
        yield 0, 0, parts, variant
    elif isinstance(protocol, Fixed):
        yield 0, 0, _cut(task, ordered, CUT, protocol.seed), "cut"
    else:
        probed = halves(task, ordered)[1] if protocol.halved else np.arange(len(ordered))
        for repeat, folds in enumerate(_folds(task, [ordered[i] for i in probed], protocol)):
            for fold in range(protocol.k):
                turned = [probed[part] for part in folds[fold:] + folds[:fold]]
                yield repeat, fold, (np.concatenate(turned[2:]), turned[1], turned[0]), "folds"


def _published(task: Task, ordered: list[Sample]) -> tuple[np.ndarray, ...]:
    """Positions of the parts as published. Where no val part is, a fifth of the training groups is cut for it."""
    split = np.array([sample.split for sample in ordered])
    train, val, test = (np.flatnonzero(split == part) for part in PARTS)
    if len(train) + len(val) + len(test) != len(ordered) or not len(train) or not len(test):
        counts = dict(sorted(Counter(split.tolist()).items()))
        raise DataError(
            f"{task.modality}/{task.name}: a published split needs train, test and perhaps val alone, found {counts}"
        )
    if not len(val):
        if task.protocol.crossing == "remove":
            train, _, _ = _without_crossing(ordered, (train, val, test))
        kept, chosen, _ = _cut(task, [ordered[i] for i in train], CHOOSING, task.protocol.seed)
        train, val = train[kept], train[chosen]
    return train, val, test


def _without_crossing(ordered: list[Sample], parts: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
    """The parts less the groups that also lie in a later one: test stays whole, val loses to test, train to both."""
    train, val, test = parts
    tested = {ordered[i].group for i in test}
    val = np.array([i for i in val if ordered[i].group not in tested], dtype=np.int64)
    taken = tested | {ordered[i].group for i in val}
    return np.array([i for i in train if ordered[i].group not in taken], dtype=np.int64), val, test


def _cut(task: Task, ordered: list[Sample], folds: tuple[str, ...], seed: int) -> tuple[np.ndarray, ...]:
    """Positions of train, val and test: groups whole, images of each class in like proportions. folds: the part that
    each equal fold of the groups goes to."""
    parts = [part for part in PARTS if part in folds]
    (assigned,) = _assigned(
        task, ordered, [parts.index(part) for part in folds], 1, seed, f"{len(parts)} parts, {' and '.join(parts)}"
    )
    return tuple(np.flatnonzero(np.array(folds)[assigned] == part) for part in PARTS)


def _folds(task: Task, ordered: list[Sample], protocol: Folds) -> Iterator[list[np.ndarray]]:
    """Positions of each fold of each repeat: groups whole, images of each class in like proportions."""
    folds, among = range(protocol.k), f"{protocol.k} folds" + protocol.halved * " of one half"
    for assigned in _assigned(task, ordered, folds, protocol.repeats, protocol.seed, among):
        yield [np.flatnonzero(assigned == fold) for fold in folds]


def _assigned(
    task: Task, ordered: list[Sample], parts: Sequence[int], ways: int, seed: int, among: str
) -> list[np.ndarray]:
    """Ways to assign the samples' groups, as the fold of every sample. Raises DataError where a part lacks a class."""
    labels = np.array([sample.label for sample in ordered])
    names, groups = np.unique([sample.group for sample in ordered], return_inverse=True)
    counts = np.zeros((len(names), len(task.classes)), dtype=np.int64)
    np.add.at(counts, (groups, labels), 1)
    held, needed = (counts > 0).sum(axis=0), max(parts) + 1
    few = [label for label, number in enumerate(held) if number < needed]
    assigned = [] if few else stratify.assign(counts, parts, ways, seed)
    if not assigned:
        kind = task.group_kind + (", near-duplicates joined" if task.near and len(names) < len(ordered) else "")
        listed = "; ".join(
            f"class {task.classes[c]!r} has {held[c]} groups ({kind}) of {counts[:, c].sum():,} images"
            for c in few or range(len(held))
        )
        fault = f"fewer than the {among}" if few else f"but no way to deal them gives each of {among} every class"
        raise DataError(f"{task.modality}/{task.name}: {listed}, {fault}; {_remedy(task, ordered)}")
    return [folds[groups] for folds in assigned]


def _complete(task: Task, samples: list[Sample], part: np.ndarray, where: str) -> None:
    counts = Counter(samples[i].label for i in part)
    absent = [name for label, name in enumerate(task.classes) if not counts[label]]
    if absent:
        found = ", ".join(f"{name} {counts[label]}" for label, name in enumerate(task.classes))
        raise DataError(
            f"{task.modality}/{task.name}: no image of class {absent[0]!r} in the {where}; {found}); "
            f"{_remedy(task, samples)}"
        )


def _remedy(task: Task, samples: list[Sample]) -> str:
    if task.root:
        return (
            f"add images of more groups ({task.group_kind}) of that class, join it with another class, or leave it "
            "out; then describe the dataset again"
        )
    if task.expected is None:
        return "get the complete dataset"
    if len(samples) < task.expected:
        return f"get the complete dataset ({len(samples):,} of {task.expected:,} images are used here)"
    return "by its card the dataset is complete, so its protocol cannot hold: please report it"
