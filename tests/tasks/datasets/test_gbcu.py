"""GBCU: labels and splits from lists without a header, and what contradicts them."""

import json
import shutil
from collections import Counter
from pathlib import Path

import pytest

from tasks.base import DataError
from tasks.ultrasound.gbcu import TASK
from tests.layouts import gbcu


@pytest.fixture
def top(tmp_path) -> Path:
    gbcu.write(tmp_path)
    return tmp_path / "GBCU-Shared"


def test_label_and_split_come_from_the_lists(top):
    samples = TASK.scan(top.parent)
    counts = Counter((sample.split, TASK.classes[sample.label]) for sample in samples)
    assert counts == {
        (split, name): count
        for split, classes in (("train", gbcu.TRAIN), ("test", gbcu.TEST))
        for name, count in zip(TASK.classes, classes, strict=True)
    }
    listed = dict(line.split(",") for line in (top / "train.txt").read_text().split())
    for sample in samples:
        if sample.split == "train":
            assert listed[Path(sample.id).name] == str(sample.label)
    assert samples[0].id == "GBCU-Shared/imgs/im00000.jpg"


def test_normal_is_0_benign_1_and_malignant_2(top):
    boxes = json.loads((top / "bbox_annot.json").read_text())
    for sample in TASK.scan(top.parent):
        kinds = {kind for kind, _ in boxes[Path(sample.id).name]["bbs"]}
        assert ("nml" in kinds, "malg" in kinds) == (sample.label == 0, sample.label == 2)


def test_images_are_read_whole_at_their_own_size(top):
    sizes = {TASK.read(top.parent, sample, 32).shape for sample in TASK.scan(top.parent)}
    assert len(sizes) > 5
    assert min(shape[0] for shape in sizes) >= 70


def test_a_set_that_lacks_listed_images_is_partial_and_one_without_any_is_refused(top):
    whole = TASK.scan(top.parent)
    (top / "imgs" / "im00003.jpg").unlink()
    assert TASK.scan(top.parent) == [sample for sample in whole if "im00003" not in sample.id]
    for path in (top / "imgs").iterdir():
        path.unlink()
    with pytest.raises(DataError, match=rf"none of the {len(whole)} images in train.txt or test.txt is here"):
        TASK.scan(top.parent)


def test_an_image_in_no_list_is_named(top):
    shutil.copy(top / "imgs" / "im00003.jpg", top / "imgs" / "im09999.jpg")
    (top / "imgs" / "._im00003.jpg").write_bytes(b"")
    with pytest.raises(DataError, match=r"im09999\.jpg: not in train.txt or test.txt \(1 such"):
        TASK.scan(top.parent)


def test_a_listed_image_without_boxes_is_named(top):
    boxes = json.loads((top / "bbox_annot.json").read_text())
    del boxes["im00005.jpg"]
    (top / "bbox_annot.json").write_text(json.dumps(boxes))
    with pytest.raises(DataError, match=r"bbox_annot.json: no boxes for im00005\.jpg"):
        TASK.scan(top.parent)


def test_boxes_that_contradict_the_label_are_refused(top):
    boxes = json.loads((top / "bbox_annot.json").read_text())
    normal = next(name for name, of in boxes.items() if of["bbs"][0][0] == "nml")
    boxes[normal]["bbs"] = [["malg", [1, 2, 3, 4]], ["abn", [1, 2, 30, 40]]]
    (top / "bbox_annot.json").write_text(json.dumps(boxes))
    with pytest.raises(DataError, match=f"{normal} has a box 'abn', but (train|test).txt calls it normal"):
        TASK.scan(top.parent)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"im00000.jpg": {"dim": [1, 2]}}', '{"im00000.jpg": {"bbs": [1]}}'])
def test_a_broken_box_file_is_named(top, text):
    (top / "bbox_annot.json").write_text(text)
    with pytest.raises(DataError, match=r"bbox_annot.json: not the authors' boxes"):
        TASK.scan(top.parent)


def test_the_json_files_may_be_missing(top):
    samples = TASK.scan(top.parent)
    (top / "bbox_annot.json").unlink()
    (top / "roi_pred.json").unlink()
    assert TASK.scan(top.parent) == samples


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("im00001.jpg,3", "'im00001.jpg,3' is not like 'im00049.jpg,0'"),
        ("im00001.jpg", "'im00001.jpg' is not like"),
        ("file,label", "'file,label' is not like"),
        ("../im00001.jpg,0", "is not like"),
    ],
)
def test_a_foreign_line_is_named(top, line, message):
    with (top / "test.txt").open("a") as file:
        file.write(f"{line}\n")
    with pytest.raises(DataError, match=rf"test\.txt: .*{message}"):
        TASK.scan(top.parent)


def test_an_image_in_both_lists_is_refused(top):
    first = (top / "train.txt").read_text().split()[0]
    with (top / "test.txt").open("a") as file:
        file.write(f"{first}\r\n")
    with pytest.raises(DataError, match=rf"test\.txt: {first[:-2]} is listed a second time"):
        TASK.scan(top.parent)


@pytest.mark.parametrize("content", [None, "", "\n"])
def test_a_list_that_is_missing_or_empty_is_named(top, content):
    (top / "test.txt").unlink()
    if content is not None:
        (top / "test.txt").write_text(content)
    with pytest.raises(DataError, match=r"test\.txt: empty or not there"):
        TASK.scan(top.parent)
