"""Groups assigned into folds and cuts, whatever classes they mix: against scikit-learn and exhaustive search."""

from collections import defaultdict
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import StratifiedGroupKFold

import tasks
from tasks import splits, stratify
from tasks.base import DataError, Fixed, Folds, Sample
from tasks.ultrasound.busi import TASK as BUSI
from tests.layouts import kather2016

K = 3
CLASSES = ("a", "b", "c", "d")
PROTOCOLS = (Folds(k=K, repeats=2), Fixed(published=False), Fixed(published=True))
SIDES = {"folds": (0, 1, 2), "cut": (0, 1, 2, 2, 2), "choosing": (0, 1, 1, 1, 1)}


@st.composite
def tables(draw, groups: int = 12) -> np.ndarray:
    """(groups, classes): images of each class in each group; every group has an image, every class is somewhere."""
    shape = draw(st.integers(1, groups)), draw(st.integers(2, len(CLASSES)))
    cells = st.one_of(st.just(0), st.integers(0, 3), st.integers(0, 60))
    counts = np.array(draw(st.lists(cells, min_size=shape[0] * shape[1], max_size=shape[0] * shape[1]))).reshape(shape)
    counts[counts.sum(axis=1) == 0, 0] = 1
    counts[0, counts.sum(axis=0) == 0] = 1
    return counts


def sampled(counts: np.ndarray, split: str = "") -> list[Sample]:
    cells = ((group, label) for group, label in np.ndindex(counts.shape) for _ in range(counts[group, label]))
    return [
        Sample(f"{split}{number:05d}", label, f"{split}g{group:03d}", "0" * 64, split)
        for number, (group, label) in enumerate(cells)
    ]


def task_of(protocol, classes: int):
    return replace(BUSI, classes=CLASSES[:classes], protocol=protocol, near=False)


def unevenness(counts: np.ndarray, folds: np.ndarray) -> float:
    """Summed squares of what each fold's share of each class is off an equal one."""
    shares = counts / counts.sum(axis=0)
    loads = np.array([shares[folds == fold].sum(axis=0) for fold in range(K)])
    return float(np.square(loads - 1 / K).sum())


def complete(counts: np.ndarray, folds: np.ndarray) -> bool:
    return all((counts[folds == fold].sum(axis=0) > 0).all() for fold in range(K))


def by_scikit_learn(counts: np.ndarray) -> np.ndarray:
    groups, labels = (np.array([s[i] for s in sampled(counts)]) for i in (2, 1))
    folds = {}
    divided = StratifiedGroupKFold(K, shuffle=True, random_state=0).split(labels, labels, groups)
    for fold, (_, tested) in enumerate(divided):
        folds |= dict.fromkeys(groups[tested], fold)
    return np.array([folds[group] for group in sorted(folds)])


def possible(counts: np.ndarray, sides: tuple[int, ...]) -> bool:
    """By trying everything."""
    has, number = counts > 0, max(sides) + 1
    ways = (np.array(way) for way in product(range(number), repeat=len(counts)))
    return any(all(has[way == side].any(axis=0).all() for side in range(number)) for way in ways)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(counts=tables(), seed=st.integers(0, 9))
def test_folds_are_whole_complete_and_no_less_even_than_scikit_learns(counts, seed):
    """Scikit-learn's are compared where they hold every class, too: without that, others can be more even."""
    assigned = stratify.assign(counts, range(K), 2, seed)
    assert all(complete(counts, folds) for folds in assigned)
    other = by_scikit_learn(counts) if assigned else None
    if assigned and complete(counts, other):
        assert unevenness(counts, assigned[0]) <= unevenness(counts, other) + 1e-5


@settings(max_examples=60, deadline=None)
@given(counts=tables(groups=7), sides=st.sampled_from(sorted(SIDES)))
def test_what_is_possible_is_assigned_and_what_is_not_is_not(counts, sides):
    assigned = stratify.assign(counts, SIDES[sides], 1, 0)
    assert bool(assigned) == possible(counts, SIDES[sides])
    for folds in assigned:
        on = np.array(SIDES[sides])[folds]
        assert all((counts[on == side].sum(axis=0) > 0).all() for side in SIDES[sides])


def test_where_no_start_is_complete_a_solver_finds_the_one_way_there_is(monkeypatch):
    counts = np.array([[1, 1, 0], [0, 0, 1], [1, 0, 0], [0, 1, 1], [1, 1, 1]])
    monkeypatch.setattr(stratify._Table, "assign", lambda table, rng, skewed: range(len(counts)))
    monkeypatch.setattr(stratify._Table, "settle", lambda table, order: None)
    (folds,) = stratify.assign(counts, range(K), 1, 0)
    assert {frozenset(np.flatnonzero(folds == fold).tolist()) for fold in range(K)} == {
        frozenset(fold) for fold in ((0, 1), (2, 3), (4,))
    }


@settings(max_examples=80, deadline=None)
@given(counts=tables(), protocol=st.sampled_from(PROTOCOLS), data=st.data())
def test_any_table_is_divided_or_refused_in_words(counts, protocol, data):
    """Groups whole, every sample tested once a repeat, every class everywhere, blind to order; else a DataError."""
    task = task_of(protocol, counts.shape[1])
    samples = sampled(counts)
    if protocol == Fixed(published=True):
        samples = sampled(counts, "train") + sampled(np.eye(counts.shape[1], dtype=int), "test")
    try:
        divisions = splits.assignments(task, samples)
    except DataError as refused:
        refusal = str(refused)
    else:
        refusal = ""
    if refusal:
        assert refusal.startswith("ultrasound/busi: class '")
        assert "get the complete dataset" in refusal
        return
    turned = [samples[i] for i in data.draw(st.permutations(range(len(samples))))]
    tested = defaultdict(list)
    for one, other in zip(divisions, splits.assignments(task, turned), strict=True):
        parts = (one.train, one.val, one.test)
        groups = [{samples[i].group for i in part} for part in parts]
        assert sum(map(len, groups)) == len(set.union(*groups))
        assert all({samples[i].label for i in part} == set(range(counts.shape[1])) for part in parts)
        assert sorted(np.concatenate(parts).tolist()) == list(range(len(samples)))
        assert [[samples[i].id for i in part] for part in parts] == [
            sorted(turned[i].id for i in part) for part in (other.train, other.val, other.test)
        ]
        tested[one.repeat] += one.test.tolist()
    if isinstance(protocol, Folds):
        assert all(sorted(every) == list(range(len(samples))) for every in tested.values())


def test_kather_2016_is_divided_with_its_real_unevenness_and_its_repeats_differ():
    """Stratified by the commonest class of a source, scikit-learn refuses it: no class is that of five sources."""
    task = tasks.get("histo", "kather2016")
    counts = np.array([kather2016.TILES[name.upper()] for name in task.classes]).T
    divisions = splits.assignments(task, sampled(counts))
    assert len(divisions) == 15
    samples = sampled(counts)
    repeats = [
        {frozenset(samples[i].group for i in d.test) for d in divisions if d.repeat == repeat} for repeat in range(3)
    ]
    assert repeats[0] != repeats[1] != repeats[2] != repeats[0]


def test_a_class_in_too_few_groups_is_named_with_all_its_numbers_and_a_remedy():
    counts = np.array([[5, 0], [5, 0], [5, 2], [5, 9]])
    found = r"class 'b' has 2 groups \(.*\) of 11 images, fewer than the 3 folds; "
    with pytest.raises(DataError, match=found + r"get the complete dataset \(31 of 780 images are used here\)"):
        splits.assignments(task_of(Folds(k=3, repeats=1), 2), sampled(counts))
    mine = replace(task_of(Folds(k=3, repeats=1), 2), root=Path("/mine"), group_kind="patient")
    with pytest.raises(DataError, match=found + r"add images of more groups \(patient\) of that class, join it") as own:
        splits.assignments(mine, sampled(counts))
    assert "complete dataset" not in str(own.value)


def test_classes_that_no_assignment_brings_together_are_named():
    counts = np.array([[1, 1, 0], [1, 1, 0], [1, 0, 1], [0, 1, 1], [0, 0, 1]])
    with pytest.raises(DataError, match=r"'a' has 3 groups .*'c' has 3 groups .*no way to deal them gives each of 3"):
        splits.assignments(task_of(Folds(k=3, repeats=1), 3), sampled(counts))


@pytest.mark.parametrize("lacking", ["train", "val", "test"])
def test_a_part_without_a_class_is_refused_whichever_it_is(lacking):
    samples = [
        sample
        for part in ("train", "val", "test")
        for sample in sampled(np.array([[2, 0], [0, 1 - (part == lacking)]]), part)
    ]
    words = {"train": "training", "val": "validation", "test": "test"}
    with pytest.raises(DataError, match=f"no image of class 'b' in the {words[lacking]} part .*a 2, b 0"):
        splits.assignments(task_of(Fixed(published=True), 2), samples)


@pytest.mark.parametrize(("k", "repeats"), [(2, 1), (0, 1), (3, 0)])
def test_folds_that_leave_no_part_to_train_or_choose_on_cannot_be_declared(k, repeats):
    with pytest.raises(ValueError, match="3 folds and one repeat are needed"):
        Folds(k=k, repeats=repeats)
