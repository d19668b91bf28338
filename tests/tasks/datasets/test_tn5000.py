"""TN5000: VOC annotations with digits for classes, three lists, and copies that cross the published split."""

import shutil
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from tasks import splits
from tasks.base import DataError
from tasks.ultrasound.tn5000 import ANCHOR, TASK, TASKS
from tests.layouts import tn5000


@pytest.fixture
def top(tmp_path) -> Path:
    tn5000.write(tmp_path)
    return tmp_path / ANCHOR / ANCHOR


def _by_name(data: Path) -> dict:
    return {Path(sample.id).stem: sample for sample in TASK.scan(data)}


def test_split_from_the_lists_and_label_from_the_annotation(top):
    samples = _by_name(top.parents[1])
    assert {split: sum(s.split == split for s in samples.values()) for split in tn5000.COUNTS} == tn5000.COUNTS
    assert samples["000003"][:2] == (f"{ANCHOR}/JPEGImages/000003.jpg", TASK.classes.index("benign"))
    assert samples["000004"].label == TASK.classes.index("malignant")


def test_a_folder_in_a_folder_of_its_name_is_the_same_dataset(top, tmp_path):
    data = top.parents[1]
    samples = TASK.scan(data)
    image = TASK.read(data, samples[0], 32)
    assert image.shape == (50, 72, 3)
    shutil.move(top, tmp_path / "plain" / ANCHOR)
    assert TASK.scan(tmp_path / "plain") == samples
    assert (TASK.read(tmp_path / "plain", samples[0], 32) == image).all()


def test_copies_share_the_group_of_the_first(top):
    samples = _by_name(top.parents[1])
    for copy, original in tn5000.COPIES.items():
        assert samples[copy].group == samples[original].group == samples[original].id
    assert len({sample.group for sample in samples.values()}) == tn5000.GROUPS


def test_copies_cross_the_published_split(top):
    sides = defaultdict(set)
    for sample in TASK.scan(top.parents[1]):
        sides[sample.group].add(sample.split)
    crossing = [sorted(side) for side in sides.values() if len(side) > 1]
    assert sorted(crossing) == [["test", "train"], ["test", "val"]]
    clean, published = TASKS
    assert (clean.protocol.crossing, clean.on_request) == ("remove", False)
    assert (published.protocol.crossing, published.on_request) == ("keep", True)
    assert published.scan is clean.scan


def test_the_clean_split_leaves_out_copies_and_the_published_one_keeps_them(top):
    samples = TASK.scan(top.parents[1])
    (clean,), (published,) = (splits.assignments(task, samples) for task in TASKS)
    assert [len(part) for part in published[2:5]] == list(tn5000.COUNTS.values())
    left_out = set(range(len(samples))) - set(np.concatenate(clean[2:5]).tolist())
    assert [Path(samples[i].id).stem for i in sorted(left_out)] == ["000004", "000022"]
    assert clean.test.tolist() == published.test.tolist()


OBJECT = "<object><name>{}</name></object>"
BOMB = '<!DOCTYPE a [<!ENTITY b "bbbb"><!ENTITY c "&b;&b;">]><annotation><object><name>&c;</name></object></annotation>'
OUTSIDE = (
    '<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/hostname">]><annotation><object><name>&b;</name></object></annotation>'
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"<annotation>{OBJECT.format(1)}{OBJECT.format(1)}</annotation>", r"one object .*found \['1', '1'\]"),
        ("<annotation></annotation>", "one object .*found none"),
        (f"<annotation>{OBJECT.format('nodule')}</annotation>", r"one object .*found \['nodule'\]"),
        ("<annotation><object><bndbox/></object></annotation>", r"one object .*found \[''\]"),
        ("<annotation><object>", "unreadable annotation .ParseError"),
        ("", "unreadable annotation .ParseError"),
        ('<?xml version="1.0" encoding="no-such"?><annotation/>', "unreadable annotation"),
        (BOMB, "unreadable annotation .EntitiesForbidden"),
        (OUTSIDE, "unreadable annotation .EntitiesForbidden"),
        (None, "unreadable annotation .FileNotFoundError"),
    ],
)
def test_an_annotation_that_is_not_one_nodule_is_refused(top, text, message):
    path = top / "Annotations" / "000007.xml"
    path.unlink()
    if text is not None:
        path.write_text(text)
    with pytest.raises(DataError, match=rf"000007\.xml: .*{message}"):
        TASK.scan(top.parents[1])


def test_unknown_tags_and_space_do_not_matter(top):
    samples = TASK.scan(top.parents[1])
    text = (
        "<annotation><folder>x</folder><object><pose/><name> 1\n</name><difficult>0</difficult></object></annotation>"
    )
    (top / "Annotations" / "000008.xml").write_text(text)
    assert TASK.scan(top.parents[1]) == samples


def test_images_and_lists_must_agree(top):
    images = top / "JPEGImages"
    shutil.copy(images / "000007.jpg", images / "005001.jpg")
    with pytest.raises(DataError, match=r"005001\.jpg: not in train.txt, val.txt or test.txt \(1 such"):
        TASK.scan(top.parents[1])
    (images / "005001.jpg").unlink()
    (images / "000007.jpg").unlink()
    assert len(TASK.scan(top.parents[1])) == tn5000.IMAGES - 1  # partial


def test_an_image_in_two_lists_is_refused(top):
    with (top / "ImageSets" / "Main" / "test.txt").open("a") as file:
        file.write("000007\n")
    with pytest.raises(DataError, match=r"test\.txt: '000007' is also in train\.txt"):
        TASK.scan(top.parents[1])


def test_a_missing_list_is_named_and_trainval_is_not_needed(top):
    lists = top / "ImageSets" / "Main"
    (lists / "trainval.txt").unlink()
    assert len(TASK.scan(top.parents[1])) == tn5000.IMAGES
    (lists / "val.txt").unlink()
    with pytest.raises(DataError, match=r"val\.txt: empty or not there"):
        TASK.scan(top.parents[1])
