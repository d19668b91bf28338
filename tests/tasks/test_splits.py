"""Divisions are grouped, stratified, seeded and blind to the order of the samples."""

from dataclasses import replace

import numpy as np
import pytest

import tasks
from tasks import leakage, splits
from tasks.base import DataError, Fixed, Folds, Sample, digest
from tasks.ultrasound.busi import TASK as BUSI

BREAKHIS = tasks.get("histo", "breakhis_100x")

TWO = replace(BUSI, classes=("no", "yes"))
HALVED = Folds(k=3, repeats=2, halved=True)


def _samples(groups: int = 40, each: int = 3) -> list[Sample]:
    """Groups of one label each, of sizes from 1 to `each`."""
    return [
        Sample(f"{group:03d}/{image}", group % 2, f"g{group:03d}", digest(group, image))
        for group in range(groups)
        for image in range(1 + group % each)
    ]


def _ids(samples, division):
    return [{samples[i].id for i in part} for part in (division.train, division.val, division.test)]


def test_a_cut_is_three_fifths_one_fifth_one_fifth_with_like_labels():
    samples = _samples(200)
    (division,) = splits.assignments(TWO, samples)
    assert (division.repeat, division.fold, division.variant) == (0, 0, "cut")
    labels = np.array([sample.label for sample in samples])
    for part, share in ((division.train, 0.6), (division.val, 0.2), (division.test, 0.2)):
        assert len(part) / len(samples) == pytest.approx(share, abs=0.02)
        assert labels[part].mean() == pytest.approx(labels.mean(), abs=0.03)


@pytest.mark.parametrize("protocol", [Fixed(published=False), Folds(k=5, repeats=2), HALVED])
def test_the_order_of_samples_has_no_influence(protocol):
    task, samples = replace(TWO, protocol=protocol), _samples()
    shuffled = [samples[i] for i in np.random.default_rng(0).permutation(len(samples))]
    for one, other in zip(splits.assignments(task, samples), splits.assignments(task, shuffled), strict=True):
        assert _ids(samples, one) == _ids(shuffled, other)
        assert all(np.all(np.diff(part) > 0) for part in other[2:5])


@pytest.mark.parametrize("protocol", [Fixed(published=False), Folds(k=5, repeats=1), HALVED])
def test_the_seed_decides(protocol):
    samples = _samples()
    tests = [
        _ids(samples, splits.assignments(replace(TWO, protocol=replace(protocol, seed=seed)), samples)[0])[2]
        for seed in (0, 0, 1)
    ]
    assert tests[0] == tests[1] != tests[2]


def test_folds_test_every_sample_once_in_each_repeat_and_repeats_differ():
    """Also with groups of unlike sizes, where StratifiedGroupKFold repeats itself whatever its seed."""
    samples = [
        Sample(f"{group:02d}/{image}", group % 2, f"p{group:02d}", digest(group, image))
        for group in range(20)
        for image in range(group + 2)
    ]
    divisions = splits.assignments(replace(TWO, protocol=Folds(k=5, repeats=3)), samples)
    assert [(d.repeat, d.fold) for d in divisions] == [(r, f) for r in range(3) for f in range(5)]
    seen = []
    for repeat in range(3):
        tests = [d.test for d in divisions if d.repeat == repeat]
        assert sorted(np.concatenate(tests).tolist()) == list(range(len(samples)))
        seen.append({frozenset(test.tolist()) for test in tests})
    assert seen[0] != seen[1] != seen[2] != seen[0]


def test_halves_are_of_whole_groups_and_alike_in_classes():
    task, samples = replace(TWO, protocol=HALVED), [s._replace(label=int(s.group[-1] > "6")) for s in _samples(200)]
    halves = splits.halves(task, samples)
    assert sorted(np.concatenate(halves).tolist()) == list(range(len(samples)))
    held, probed = ({samples[i].group for i in half} for half in halves)
    assert not held & probed
    labels = np.array([sample.label for sample in samples])
    assert labels.mean() == pytest.approx(0.3, abs=0.02)
    for half in halves:
        assert np.all(np.diff(half) > 0)
        assert len(half) / len(samples) == pytest.approx(0.5, abs=0.01)
        assert labels[half].mean() == pytest.approx(labels.mean(), abs=0.01)
    assert len(held) == pytest.approx(len(probed), abs=2)


def test_halves_are_blind_to_the_order_of_samples_and_cut_once_by_the_seed():
    task, samples = replace(TWO, protocol=HALVED), _samples()
    shuffled = [samples[i] for i in np.random.default_rng(0).permutation(len(samples))]
    cut = [{samples[i].id for i in half} for half in splits.halves(task, samples)]
    assert [{shuffled[i].id for i in half} for half in splits.halves(task, shuffled)] == cut
    other = replace(task, protocol=replace(HALVED, seed=1))
    assert {samples[i].id for i in splits.halves(other, samples)[0]} not in cut
    longer = replace(task, protocol=replace(HALVED, k=4, repeats=3))
    assert [{samples[i].id for i in half} for half in splits.halves(longer, samples)] == cut


def test_what_is_for_pretraining_is_in_no_division_and_the_rest_is_tested_once_a_repeat():
    task, samples = replace(TWO, protocol=HALVED), _samples()
    held, probed = splits.halves(task, samples)
    np.testing.assert_array_equal(splits.train_part(task, samples), held)
    divisions = splits.assignments(task, samples)
    assert [(d.repeat, d.fold, d.variant) for d in divisions] == [(r, f, "folds") for r in range(2) for f in range(3)]
    for division in divisions:
        parts = (division.train, division.val, division.test)
        assert sorted(np.concatenate(parts).tolist()) == probed.tolist()
        groups = [{samples[i].group for i in part} for part in parts]
        assert sum(map(len, groups)) == len(set.union(*groups))
        assert all({samples[i].label for i in part} == {0, 1} for part in parts)
    for repeat in range(2):
        tested = [i for d in divisions if d.repeat == repeat for i in d.test]
        assert sorted(tested) == probed.tolist()
    assert len({frozenset(map(tuple, [d.test.tolist() for d in divisions if d.repeat == r])) for r in range(2)}) == 2


@pytest.mark.parametrize(
    ("rare", "said"),
    [
        (1, r"class 'yes' has 1 groups .* of 1 images, fewer than the 2 halves"),
        (4, r"class 'yes' has 2 groups .* of 2 images, fewer than the 3 folds of one half"),
    ],
)
def test_too_few_groups_for_halves_or_their_folds_are_refused_with_the_remedy(rare, said):
    samples = [s for s in _samples() if s.label == 0] + [Sample(f"x{i}", 1, f"x{i}", digest(i)) for i in range(rare)]
    with pytest.raises(DataError, match=rf"ultrasound/busi: {said}; get the complete dataset \(\d+ of 780 images"):
        splits.assignments(replace(TWO, protocol=HALVED), samples)


def test_a_published_split_is_followed():
    samples = [s._replace(split=("train", "val", "test")[i // 2 % 3]) for i, s in enumerate(_samples(24, each=1))]
    (division,) = splits.assignments(replace(TWO, protocol=Fixed(published=True)), samples)
    assert division.variant == "published"
    for name, part in zip(splits.PARTS, (division.train, division.val, division.test), strict=True):
        assert {samples[i].split for i in part} == {name}


@pytest.mark.parametrize("splits_given", [("train",), ("train", "val"), ("train", "test", "")])
def test_a_published_split_needs_training_and_test_parts(splits_given):
    samples = [s._replace(split=splits_given[i % len(splits_given)]) for i, s in enumerate(_samples(30, each=1))]
    with pytest.raises(DataError, match=r"needs train, test and perhaps val alone, found \{'"):
        splits.assignments(replace(TWO, protocol=Fixed(published=True)), samples)


def test_a_published_split_without_val_gets_a_fifth_of_its_training_groups():
    samples = [s._replace(split="test" if int(s.id[:3]) >= 60 else "train") for s in _samples(80)]
    (division,) = splits.assignments(replace(TWO, protocol=Fixed(published=True)), samples)
    train, val, test = ({samples[i].group for i in part} for part in (division.train, division.val, division.test))
    assert test == {s.group for s in samples if s.split == "test"}
    assert not train & val
    assert train | val == {s.group for s in samples if s.split == "train"}
    assert len(division.val) / len(division.train) == pytest.approx(0.25, abs=0.05)
    assert division.variant == "published"


def test_what_crosses_a_published_split_is_refused_removed_or_kept():
    samples = [
        s._replace(split=("train", "train", "train", "val", "test")[i % 5]) for i, s in enumerate(_samples(40, each=3))
    ]
    crossing = {s.group for s in samples} - {
        g for g in {s.group for s in samples} if len({s.split for s in samples if s.group == g}) == 1
    }
    assert crossing
    with pytest.raises(DataError, match="on two sides"):
        splits.assignments(replace(TWO, protocol=Fixed(published=True)), samples)
    (kept,) = splits.assignments(replace(TWO, protocol=Fixed(published=True, crossing="keep")), samples)
    (clean,) = splits.assignments(replace(TWO, protocol=Fixed(published=True, crossing="remove")), samples)
    assert (kept.variant, clean.variant) == ("published", "clean")
    assert sum(map(len, kept[2:5])) == len(samples)
    np.testing.assert_array_equal(clean.test, kept.test)
    train, val, test = ({samples[i].group for i in part} for part in (clean.train, clean.val, clean.test))
    assert not train & val
    assert not (train | val) & test
    assert set(clean.train.tolist()) == {i for i in kept.train.tolist() if samples[i].group not in val | test}


def test_a_group_on_two_sides_is_refused_with_examples():
    samples = [
        Sample("a", 0, "14-13412", "0" * 64, "train"),
        Sample("b", 1, "14-13412", "1" * 64, "test"),
        Sample("c", 1, "other", "2" * 64, "val"),
    ]
    with pytest.raises(DataError, match=r"1 groups are on two sides.*14-13412.*test has 'b', train has 'a'"):
        splits.check(samples)
    splits.check(samples[1:])


def test_too_few_groups_of_a_class_are_named():
    samples = [s for s in _samples() if s.label == 0] + [Sample("x", 1, "only", "0" * 64)]
    with pytest.raises(
        DataError, match=r"class 'yes' has 1 groups \(near-duplicate.*\) of 1 images, fewer than the 3 parts"
    ):
        splits.assignments(TWO, samples)


def test_a_training_part_without_a_class_is_named_with_counts():
    samples = [
        Sample("a", 0, "a", "0" * 64, "train"),
        Sample("b", 1, "b", "1" * 64, "val"),
        Sample("c", 1, "c", "2" * 64, "test"),
    ]
    with pytest.raises(DataError, match=r"no image of class 'yes' in the training part.*no 1, yes 0"):
        splits.assignments(replace(TWO, protocol=Fixed(published=True)), samples)


def test_only_fixed_tasks_have_a_part_for_a_corpus():
    samples = _samples()
    np.testing.assert_array_equal(splits.train_part(TWO, samples), splits.assignments(TWO, samples)[0].train)
    with pytest.raises(ValueError, match="histo/breakhis_100x is evaluated by folds"):
        splits.train_part(BREAKHIS, samples)


def test_overlap_finds_exact_copies_and_shared_groups():
    corpus = [Sample(f"c{i}", 0, f"g{i}", digest(i)) for i in range(10)]
    test = [Sample(f"t{i}", 0, f"g{i + 2}", digest(i + 5)) for i in range(10)]
    rows = leakage.overlap(corpus, test)
    examples = ("t0", "t1", "t2", "t3", "t4")
    assert [row[:3] for row in rows] == [("exact", 5, examples), ("group", 8, examples)]
    assert {row.between for row in rows} == {"corpus and test"}
    assert leakage.verdict(rows, independent=True) == "warn"
    assert leakage.overlap(corpus, test, same_groups=False) == rows[:1]
    clean = leakage.overlap(corpus[:2], test)
    assert [(row.kind, row.count, row.examples) for row in clean] == [("exact", 0, ()), ("group", 0, ())]
    assert leakage.verdict(clean, independent=True) == "pass"
    assert leakage.verdict([*clean, leakage.Overlap("near", None, ())], independent=True) == "unknown"
