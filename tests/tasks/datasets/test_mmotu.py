"""MMOTU: lists of names and of classes that must agree, eight classes, outlines in two forms, a copy that crosses."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tasks import splits
from tasks.base import DataError
from tasks.ultrasound.mmotu import ANCHOR, COLOURS, TASK
from tests.layouts import mmotu


@pytest.fixture
def top(tmp_path) -> Path:
    mmotu.write(tmp_path)
    return tmp_path / ANCHOR


def _rows(path: Path) -> list[list[str]]:
    return [line.split("  ") for line in path.read_text(encoding="utf-8").splitlines()]


def test_split_and_class_are_those_of_the_lists(top):
    samples = {sample.id: sample for sample in TASK.scan(top.parent)}
    assert len(samples) == mmotu.IMAGES
    for split, part in (("train", "train"), ("val", "test")):
        for name, label in _rows(top / f"{split}_cls.txt"):
            sample = samples[f"{ANCHOR}/images/{name}"]
            assert (sample.label, sample.split) == (int(label), part)
    for part, sizes in (("train", mmotu.TRAIN), ("test", mmotu.TEST)):
        found = Counter(sample.label for sample in samples.values() if sample.split == part)
        assert tuple(found[label] for label in range(8)) == sizes


def test_classes_are_in_the_order_of_their_numbers():
    assert TASK.classes[0] == "chocolate cyst"
    assert TASK.classes[5] == "normal ovary"
    assert TASK.classes[7] == "high-grade serous cystadenocarcinoma"
    assert len(TASK.classes) == len(COLOURS) == 8
    assert COLOURS == mmotu.COLOURS


def test_a_part_for_choosing_is_cut_from_train_and_the_copy_that_crosses_is_dropped(top):
    samples = TASK.scan(top.parent)
    (division,) = splits.assignments(TASK, samples)
    assert division.variant == "clean"
    train, val, test = ({samples[i].id for i in part} for part in (division.train, division.val, division.test))
    assert test == {sample.id for sample in samples if sample.split == "test"}
    (crossing,) = [s for s in samples if s.split == "train" and s.group in {samples[i].group for i in division.test}]
    assert crossing.label == 7
    assert train | val == {sample.id for sample in samples if sample.split == "train"} - {crossing.id}
    assert not train & val
    assert {samples[i].label for i in division.val} == set(range(8))


def test_copies_share_the_group_of_the_first(top):
    samples = TASK.scan(top.parent)
    groups = Counter(sample.group for sample in samples)
    assert len(groups) == mmotu.GROUPS
    ((group, _),) = [item for item in groups.items() if item[1] > 1]
    copies = [sample for sample in samples if sample.group == group]
    assert {sample.digest for sample in copies} == {copies[0].digest}
    assert group in {sample.id for sample in copies}
    assert TASK.near
    assert not TASK.independent


def test_the_mask_is_the_binary_outline_else_whatever_is_coloured(top):
    samples = TASK.scan(top.parent)
    for label in range(8):
        sample = next(sample for sample in samples if sample.label == label)
        width, height = Image.open(top.parent / sample.id).size
        expected = np.zeros((height, width), bool)
        expected[5:15, 4:10] = True
        np.testing.assert_array_equal(TASK.mask(top.parent, sample, 64), expected)
        binary = top / "annotations" / f"{Path(sample.id).stem}_binary.PNG"
        coloured = binary.with_name(binary.name.replace("_binary", ""))
        Image.new("L", (width, height)).save(binary)  # so that which of the two is read can be told
        assert not TASK.mask(top.parent, sample, 64).any()
        binary.unlink()
        np.testing.assert_array_equal(TASK.mask(top.parent, sample, 64), expected)
        coloured.unlink()
        with pytest.raises(DataError, match=rf"{coloured.name}: unreadable image \(no such file"):
            TASK.mask(top.parent, sample, 64)


def test_a_colour_that_is_no_class_is_background(top):
    sample = TASK.scan(top.parent)[0]
    (top / "annotations" / f"{Path(sample.id).stem}_binary.PNG").unlink()
    Image.new("RGB", (20, 20), (64, 128, 0)).save(top / "annotations" / f"{Path(sample.id).stem}.PNG")
    assert not TASK.mask(top.parent, sample, 64).any()


def test_a_name_in_both_lists_is_refused(top):
    stem = Path(_rows(top / "train_cls.txt")[0][0]).stem
    for name, line in (("val.txt", stem), ("val_cls.txt", f"{stem}.JPG  0")):
        with (top / name).open("a") as file:
            file.write(f"{line}\n")
    with pytest.raises(DataError, match=rf"val_cls\.txt: {stem} is in both lists; restore the authors' lists"):
        TASK.scan(top.parent)


@pytest.mark.parametrize("row", ["1.JPG", "1.JPG  8", "1.JPG  -1", "1.png  2", "one.JPG  2", "1.JPG  2  3"])
def test_a_row_that_does_not_parse_is_refused(top, row):
    with (top / "train_cls.txt").open("a") as file:
        file.write(f"{row}\n")
    with pytest.raises(DataError, match=rf"train_cls\.txt: found '{row}', looked for rows like '1.JPG  2'; restore"):
        TASK.scan(top.parent)


def test_spaces_case_and_empty_lines_do_not_matter(top):
    samples = TASK.scan(top.parent)
    path = top / "train_cls.txt"
    text = path.read_text().replace("  ", "\t").replace(".JPG", ".jpg")
    path.write_bytes(b"\xef\xbb\xbf" + text.replace("\n", " \r\n\r\n").encode())
    assert TASK.scan(top.parent) == samples


def test_lists_that_disagree_are_refused(top):
    rows = (top / "val_cls.txt").read_text().splitlines()
    (top / "val_cls.txt").write_text("\n".join(rows[1:]))
    first = rows[0].partition(".")[0]
    count = len(rows)
    with pytest.raises(
        DataError, match=rf"val_cls\.txt: {count - 1} rows, but val.txt has {count} names; they differ in {first}; rest"
    ):
        TASK.scan(top.parent)
    (top / "val_cls.txt").write_text("\n".join([*rows, rows[0]]))
    with pytest.raises(DataError, match=rf"val_cls\.txt: {count + 1} rows.*they differ in a name twice"):
        TASK.scan(top.parent)
    (top / "val_cls.txt").write_text("\n".join(rows))
    samples = TASK.scan(top.parent)
    (top / "val.txt").unlink()  # names alone: what they would say stands in the list with classes
    assert TASK.scan(top.parent) == samples


@pytest.mark.parametrize("content", [b"", b"\n \n", None, b"\xff\xfe1"])
def test_a_list_that_is_missing_empty_or_not_text_is_named(top, content):
    path = top / "val_cls.txt"
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=r"val_cls\.txt: (found nothing, looked for rows|cannot be read)"):
        TASK.scan(top.parent)


def test_images_and_lists_must_agree(top):
    name = _rows(top / "train_cls.txt")[3][0]
    (top / "images" / name).rename(top / "images" / "9999.JPG")
    with pytest.raises(DataError, match=r"9999\.JPG: not in train_cls.txt or val_cls.txt \(1 such images"):
        TASK.scan(top.parent)
    (top / "images" / "9999.JPG").rename(top / "images" / "scan.JPG")
    with pytest.raises(DataError, match=r"scan\.JPG: the name is not like '1.JPG'"):
        TASK.scan(top.parent)
    (top / "images" / "scan.JPG").unlink()
    assert len(TASK.scan(top.parent)) == mmotu.IMAGES - 1  # partial
