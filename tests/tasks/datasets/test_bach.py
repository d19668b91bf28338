"""BACH: a split by position in the complete list, and a test set without labels that is never read."""

from collections import Counter

import pytest

from tasks import splits
from tasks.base import DataError
from tasks.histo.bach import TASK
from tests.layouts import bach

PHOTOS = "ICIAR2018_BACH_Challenge/Photos"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bach")
    bach.write(folder)
    return folder


def test_the_sorted_list_of_400_is_divided_by_position(data):
    samples = TASK.scan(data)
    assert len(samples) == bach.IMAGES
    ranges = [(0, 15, "train"), (15, 25, "val"), (25, 41, "train"), (41, 59, "test"), (59, 60, "train")]
    ranges += [(60, 90, "test"), (90, 110, "train"), (139, 169, "test"), (240, 258, "test"), (258, 260, "train")]
    ranges += [(260, 273, "test"), (345, 368, "test"), (368, 380, "train"), (380, 390, "val"), (390, 400, "train")]
    for start, stop, split in ranges:
        assert {sample.split for sample in samples[start:stop]} == {split}, (start, stop)
    assert Counter(sample.split for sample in samples) == {"train": 218, "val": 50, "test": 132}
    assert samples[41].id == f"{PHOTOS}/Benign/b042.tif"
    assert samples[367].id == f"{PHOTOS}/Normal/n068.tif"


def test_classes_are_in_the_order_of_the_folders_names(data):
    samples = TASK.scan(data)
    assert TASK.classes == tuple(sorted(bach.FOLDERS))
    assert [sample.label for sample in samples] == [position // 100 for position in range(400)]
    assert all(sample.id.split("/")[2] == TASK.classes[sample.label] for sample in samples)


def test_the_stated_counts_are_those_of_the_split(data):
    found = Counter((sample.split, TASK.classes[sample.label]) for sample in TASK.scan(data))
    assert found == {(split, name): count for split, row in TASK.counts.items() for name, count in row.items()}
    (division,) = splits.assignments(TASK, TASK.scan(data))
    assert (len(division.train), len(division.val), len(division.test)) == (218, 50, 132)


def test_the_test_set_without_labels_is_never_scanned(data):
    assert list(data.glob("ICIAR2018_BACH_Challenge_TestDataset/Photos/*.tif"))
    assert all(sample.id.startswith(f"{PHOTOS}/") for sample in TASK.scan(data))


def test_an_image_keeps_its_native_size(data):
    assert TASK.read(data, TASK.scan(data)[0], 224).shape == (9, 12, 3)


def test_a_part_of_the_dataset_is_refused(tmp_path):
    bach.write(tmp_path)
    path = tmp_path / PHOTOS / "InSitu" / "is057.tif"
    content = path.read_bytes()
    path.unlink()
    with pytest.raises(DataError, match=r"InSitu: 99 images, not is001.tif to is100.tif \(first difference: number 57"):
        TASK.scan(tmp_path)
    path.write_bytes(content)
    (path.parent / "is101.tif").write_bytes(content)
    with pytest.raises(DataError, match=r"101 images.*number 101\); the split is by position.*unpack"):
        TASK.scan(tmp_path)
    (path.parent / "is101.tif").rename(path.parent / "IS057.TIF")
    with pytest.raises(DataError, match=r"101 images, .* \(a number twice\)"):
        TASK.scan(tmp_path)


def test_names_of_another_class_are_refused(tmp_path):
    bach.write(tmp_path)
    folder = tmp_path / PHOTOS / "Invasive"
    (folder / "iv003.tif").rename(folder / "is003.tif")
    with pytest.raises(DataError, match=r"is003.tif: the name is not like 'iv001.tif'"):
        TASK.scan(tmp_path)
