"""AUL: numbers that repeat across classes, UltraBench's test ids, missing files, a top folder without a name."""

import shutil

import pytest

from tasks.base import DataError, NoData
from tasks.ultrasound.aul import CLASSES, TASK, TEST
from tests.layouts import aul


def test_a_number_names_another_patient_in_every_class(tmp_path):
    aul.write(tmp_path)
    samples = TASK.scan(tmp_path)
    assert len(samples) == aul.IMAGES
    assert len({sample.group for sample in samples}) == aul.GROUPS
    fourths = {sample.id: (sample.label, sample.split) for sample in samples if sample.id.endswith("/4.jpg")}
    assert fourths == {
        "Normal/image/4.jpg": (0, "train"),
        "Benign/image/4.jpg": (1, "test"),
        "Malignant/image/4.jpg": (2, "test"),
    }


def test_the_test_part_is_ultrabenchs():
    numbers = {name: set(map(int, TEST[name].split())) for name in CLASSES}
    assert {name: len(found) for name, found in numbers.items()} == dict(TASK.counts["test"])
    for name in CLASSES:
        assert numbers[name] <= set(range(1, TASK.counts["train"][name] + TASK.counts["test"][name] + 1))
    assert sum(sum(part.values()) for part in TASK.counts.values()) == TASK.expected


def test_polygons_are_never_images_and_may_be_missing(tmp_path):
    aul.write(tmp_path)
    samples = TASK.scan(tmp_path)
    assert not (tmp_path / "aul" / "Malignant" / "segmentation" / "liver" / "374.json").exists()
    assert "Malignant/image/374.jpg" in {sample.id for sample in samples}
    for name in CLASSES:
        shutil.rmtree(tmp_path / "aul" / name / "segmentation")
    assert TASK.scan(tmp_path) == samples


def test_a_missing_image_is_named(tmp_path):
    aul.write(tmp_path)
    for number in (10, 9):
        (tmp_path / "aul" / "Benign" / "image" / f"{number}.jpg").unlink()
    with pytest.raises(DataError, match=r"9\.jpg: no such file, but .*9\.json is there \(2 such.*unpack Benign\.zip"):
        TASK.scan(tmp_path)


def test_a_foreign_name_is_refused(tmp_path):
    aul.write(tmp_path)
    image = tmp_path / "aul" / "Benign" / "image" / "1.jpg"
    shutil.copy(image, image.with_name("01.jpg"))
    with pytest.raises(DataError, match=r"01\.jpg: the name is not like '1\.jpg' \(1 such"):
        TASK.scan(tmp_path)


def test_other_datasets_with_such_folders_are_not_taken(tmp_path):
    for name in (*CLASSES, "InSitu"):
        (tmp_path / "ICIAR2018_BACH_Challenge" / "Photos" / name).mkdir(parents=True)
    with pytest.raises(NoData, match="make data TASK=aul"):
        TASK.scan(tmp_path)
    aul.write(tmp_path)
    assert len(TASK.scan(tmp_path)) == aul.IMAGES


def test_two_copies_or_no_image_is_an_error(tmp_path):
    aul.write(tmp_path / "one")
    for name in CLASSES:
        shutil.rmtree(tmp_path / "one" / "aul" / name / "segmentation")
    for path in tmp_path.rglob("[0-9]*.jpg"):
        path.unlink()
    with pytest.raises(DataError, match=r"no images like 'Benign/image/1\.jpg'"):
        TASK.scan(tmp_path / "one")
    shutil.copytree(tmp_path / "one" / "aul", tmp_path / "two" / "aul")
    with pytest.raises(DataError, match=r"is there 2 times .*keep one"):
        TASK.scan(tmp_path)
