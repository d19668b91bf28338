"""Every task's protocol on its complete dataset, as large and as uneven as its card states; samples without images."""

import numpy as np
import pytest

import tasks
from tasks import splits
from tasks.base import Folds, Sample, Task
from tests.layouts import kather2016

REAL = [
    (modality, name)
    for modality in tasks.modalities()
    for name in tasks.names(modality)
    if not tasks.get(modality, name).synthetic
]
PCAM = {"train": 131_072, "val": 16_384, "test": 16_384}  # patches of each class; by the authors half and half
STATED = {  # where a card gives counts by part and class that the task does not hold: part -> class -> images
    "pocus": {"": {"regular": 90, "pneumonia": 73, "covid": 92}},  # recordings, of one frame here
    "pocus_published": {
        "train": {"regular": 918, "pneumonia": 569, "covid": 641},
        "test": {"regular": 304, "pneumonia": 124, "covid": 177},
    },
    "fatty_liver_ultrabench": {"train": {"normal": 140, "fatty": 300}, "test": {"normal": 30, "fatty": 80}},
    "pcam": {part: {"no tumour": each, "tumour": each} for part, each in PCAM.items()},
    "aul": {
        "train": {"Normal": 80, "Benign": 160, "Malignant": 348},
        "test": {"Normal": 20, "Benign": 40, "Malignant": 87},
    },
}
GROUPS = {  # of one class each: part -> class -> groups
    "bus_bra": {"": {"benign": 722, "malignant": 342}},
    "fatty_liver": {"": {"normal": 17, "fatty": 38}},
    "fatty_liver_ultrabench": {"train": {"normal": 14, "fatty": 30}, "test": {"normal": 3, "fatty": 8}},
    "lc25000": {"": {"colon_aca": 249, "colon_n": 257, "lung_aca": 243, "lung_n": 249, "lung_scc": 248}},
    "pocus": {"": {"regular": 76, "pneumonia": 62, "covid": 78}},  # 216 patients, as the recordings are
    "pocus_published": {
        "train": {"regular": 65, "pneumonia": 40, "covid": 45},
        "test": {"regular": 16, "pneumonia": 11, "covid": 11},
    },
}
BREAKHIS = {"benign": 25, "malignant": 56}  # 81 patients' numbers, as the images are
MIXED = {  # groups that hold images of every class: part -> groups
    "bracs": {"train": 281, "val": 37, "test": 69},
    "butterfly": {"train": 25, "test": 6},
    "idc": {"": 279},
    "pcam": {"train": 200, "val": 50, "test": 100},  # numbers of slides are made up
}


def spread(total: int, groups: int, draws: np.random.Generator) -> list[int]:
    """Unlike sizes of groups that sum to a total, at least one each."""
    return (1 + draws.multinomial(total - groups, draws.dirichlet(np.ones(groups)))).tolist()


def sizes(task: Task, part: str, name: str, count: int, draws: np.random.Generator) -> dict[str, int]:
    """Group -> images of this class in it."""
    dataset = next((key for key in (task.name, task.name.removesuffix("_published")) if key in MIXED), "")
    if task.name == "kather2016":
        return {str(source): tiles for source, tiles in enumerate(kather2016.TILES[name.upper()])}
    if dataset:
        number = MIXED[dataset][part]
        held = draws.permutation(number)[: min(number, count)]  # each class in as many groups as it can be in
        return {f"{part}{group}": size for group, size in zip(held, spread(count, len(held), draws), strict=True)}
    groups = {"": BREAKHIS} if task.name.startswith("breakhis") and part == "" else GROUPS.get(task.name, {})
    number = groups.get(part, {}).get(name, count)
    return {f"{part}{name}{group}": size for group, size in enumerate(spread(count, number, draws))}


def complete(task: Task) -> list[Sample]:
    draws = np.random.default_rng(0)
    counts = STATED.get(task.name, task.counts)
    known = next(classes for classes in reversed(counts.values()) if classes)
    cells = (
        (part, label, *cell)
        for part, classes in counts.items()
        for label, name in enumerate(task.classes)
        for cell in sizes(task, part, name, (classes or known)[name], draws).items()
    )
    every = (cell[:3] for cell in cells for _ in range(cell[3]))
    return [Sample(f"{i:06d}", label, group, "0" * 64, part) for i, (part, label, group) in enumerate(every)]


@pytest.mark.parametrize(("modality", "name"), REAL)
def test_a_complete_dataset_is_divided_by_its_protocol(modality, name):
    task = tasks.get(modality, name)
    samples = complete(task)
    if task.expected and all(task.counts.values()):
        assert len(samples) == task.expected
    labels, groups = np.array([s.label for s in samples]), np.array([s.group for s in samples])
    divisions = splits.assignments(task, samples)
    halved = getattr(task.protocol, "halved", False)
    divided = splits.halves(task, samples)[1] if halved else np.arange(len(samples))
    assert len(divisions) == (task.protocol.k * task.protocol.repeats if isinstance(task.protocol, Folds) else 1)
    for division in divisions:
        parts = (division.train, division.val, division.test)
        assert all(len(np.unique(labels[part])) == len(task.classes) for part in parts)
        assert sum(len(np.unique(groups[part])) for part in parts) == len(np.unique(groups[divided]))
    if isinstance(task.protocol, Folds):
        tested = [frozenset(frozenset(d.test.tolist()) for d in divisions if d.repeat == r) for r in range(3)]
        assert len(set(tested)) == task.protocol.repeats
        assert all(sorted(i for fold in repeat for i in fold) == divided.tolist() for repeat in tested)
