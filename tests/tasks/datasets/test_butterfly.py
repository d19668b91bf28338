"""Butterfly: patients as groups, two training archives under any name, and what is refused."""

import shutil

import pytest

from tasks import splits
from tasks.base import DataError, NoData
from tasks.ultrasound.butterfly import CLASSES, TASK
from tests.layouts import butterfly


def test_patients_are_groups_and_the_owners_split_is_kept(tmp_path):
    butterfly.write(tmp_path)
    samples = TASK.scan(tmp_path)
    assert len(samples) == butterfly.IMAGES
    assert len({sample.group for sample in samples}) == butterfly.GROUPS
    assert samples[0].id == "test/26/2ch/000.png"
    assert {sample.group for sample in samples if sample.split == "test"} == {"26", "27"}
    for sample in samples:
        assert sample.id.split("/")[2] == CLASSES[sample.label]
        assert (sample.split == "test") == sample.id.startswith("test/")


def test_the_class_order_is_alphabetical():
    assert sorted(CLASSES) == list(CLASSES)
    assert set(CLASSES) == set(butterfly.CLASSES)


def test_a_patient_on_both_sides_is_refused(tmp_path):
    butterfly.write(tmp_path)
    top = tmp_path / "butterfly_dataset"
    shutil.copytree(top / "test" / "26", top / "training2" / "26")
    with pytest.raises(DataError, match="'26'"):
        splits.assignments(TASK, TASK.scan(tmp_path))


def test_one_training_folder_is_enough_and_a_part_may_be_missing(tmp_path):
    butterfly.write(tmp_path)
    top = tmp_path / "butterfly_dataset"
    shutil.rmtree(top / "training2")
    assert {sample.group for sample in TASK.scan(tmp_path)} == {"1", "2", "3", "26", "27"}
    (top / "training1").rename(top / "training")
    assert {sample.group for sample in TASK.scan(tmp_path)} == {"1", "2", "3", "26", "27"}
    shutil.rmtree(top / "test")
    with pytest.raises(DataError, match="no folder 'test', found training; unpack the dataset again"):
        TASK.scan(tmp_path)


def test_an_unknown_class_is_named(tmp_path):
    butterfly.write(tmp_path)
    (tmp_path / "butterfly_dataset" / "training1" / "2" / "liver").mkdir()
    with pytest.raises(DataError, match=r"training1.2.liver: no such class; known: 2ch, 4ch, bladder"):
        TASK.scan(tmp_path)


def test_other_datasets_with_training_folders_are_not_taken(tmp_path):
    for name in ("training/benign/1", "test/benign/1"):
        (tmp_path / "other" / name).mkdir(parents=True)
    with pytest.raises(NoData, match="make data TASK=butterfly"):
        TASK.scan(tmp_path)
    butterfly.write(tmp_path)
    assert len(TASK.scan(tmp_path)) == butterfly.IMAGES


def test_two_copies_or_no_image_is_an_error(tmp_path):
    butterfly.write(tmp_path / "one")
    for path in tmp_path.rglob("*.png"):
        path.unlink()
    with pytest.raises(DataError, match=r"no images like 'training1/1/carotid/000\.png'"):
        TASK.scan(tmp_path / "one")
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    with pytest.raises(DataError, match=r"is there 2 times .*keep one"):
        TASK.scan(tmp_path)
