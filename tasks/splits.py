"""Who is trained on, chosen on and tested on: grouped, stratified, seeded; pure functions of a task and its samples."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from tasks.base import DataError, Fixed, Folds, Sample, Task

PARTS = ("train", "val", "test")
CUT_FOLDS = 5  # one fifth of the groups for testing, one fifth for choosing, three fifths for training


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

    All samples are in one of the parts, but for those that `Fixed(crossing="remove")` leaves out.
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
        _complete(task, samples, train, f"repeat {repeat}, fold {fold}")
        divisions.append(Assignment(repeat, fold, train, val, test, variant))
    return divisions


def train_part(task: Task, samples: list[Sample]) -> np.ndarray:
    """Positions of what a corpus may hold of this task. Raises ValueError for a task by folds: it enters no corpus."""
    if isinstance(task.protocol, Folds):
        name = f"{task.modality}/{task.name}"
        raise ValueError(f"{name} is evaluated by folds: each of its images is tested on, so none may enter a corpus")
    return assignments(task, samples)[0].train


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
        folds = _image_folds(task, ordered, CUT_FOLDS, protocol.seed)
        yield 0, 0, (np.concatenate(folds[2:]), folds[1], folds[0]), "cut"
    else:
        for repeat in range(protocol.repeats):
            folds = _group_folds(task, ordered, protocol.k, protocol.seed + repeat)
            for fold in range(protocol.k):
                turned = folds[fold:] + folds[:fold]
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
        within = _image_folds(task, [ordered[i] for i in train], CUT_FOLDS, task.protocol.seed)
        train, val = train[np.sort(np.concatenate(within[1:]))], train[within[0]]
    return train, val, test


def _without_crossing(ordered: list[Sample], parts: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
    """The parts less the groups that also lie in a later one: test stays whole, val loses to test, train to both."""
    train, val, test = parts
    tested = {ordered[i].group for i in test}
    val = np.array([i for i in val if ordered[i].group not in tested], dtype=np.int64)
    taken = tested | {ordered[i].group for i in val}
    return np.array([i for i in train if ordered[i].group not in taken], dtype=np.int64), val, test


def _image_folds(task: Task, ordered: list[Sample], k: int, seed: int) -> list[np.ndarray]:
    """Positions of each fold: groups whole, images of each class in like proportions. For a cut that is made once."""
    from sklearn.model_selection import StratifiedGroupKFold

    labels, groups = _labels_and_groups(task, ordered, k)
    splitter = StratifiedGroupKFold(n_splits=k, shuffle=True, random_state=seed)
    return [test for _, test in splitter.split(labels, labels, groups)]


def _group_folds(task: Task, ordered: list[Sample], k: int, seed: int) -> list[np.ndarray]:
    """Positions of each fold: groups whole, groups of each class (a group's commonest label) in like proportions.

    For repeats: StratifiedGroupKFold deals the groups by descending size and breaks only ties by its seed, so with
    patients of unlike sizes its repeats are one and the same division.
    """
    from sklearn.model_selection import StratifiedKFold

    labels, groups = _labels_and_groups(task, ordered, k)
    counts = np.zeros((groups.max() + 1, len(task.classes)), dtype=np.int64)
    np.add.at(counts, (groups, labels), 1)
    splitter = StratifiedKFold(n_splits=k, shuffle=True, random_state=seed)
    dealt = splitter.split(counts, counts.argmax(axis=1))
    return [np.flatnonzero(np.isin(groups, test)) for _, test in dealt]


def _labels_and_groups(task: Task, ordered: list[Sample], k: int) -> tuple[np.ndarray, np.ndarray]:
    labels = np.array([sample.label for sample in ordered])
    groups = np.unique([sample.group for sample in ordered], return_inverse=True)[1]
    for label, name in enumerate(task.classes):
        held = len(np.unique(groups[labels == label]))
        if held < k:
            raise DataError(
                f"{task.modality}/{task.name}: class {name!r} has {held} groups ({task.group_kind}), "
                f"fewer than the {k} folds; get the complete dataset"
            )
    return labels, groups


def _complete(task: Task, samples: list[Sample], train: np.ndarray, where: str) -> None:
    counts = Counter(samples[i].label for i in train)
    absent = [name for label, name in enumerate(task.classes) if not counts[label]]
    if absent:
        found = ", ".join(f"{name} {counts[label]}" for label, name in enumerate(task.classes))
        raise DataError(
            f"{task.modality}/{task.name}: no image of class {absent[0]!r} in the training part ({where}; {found}); "
            "get the complete dataset"
        )
