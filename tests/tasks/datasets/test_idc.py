"""IDC: patient and class from folders and names that must agree, patches cut off by the slide's edge, a copy within."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tasks.base import DataError
from tasks.histo.idc import ANCHOR, SIDE, TASK
from tasks.reading import layout, squares
from tests.layouts import idc

FIRST = "10253_idx5_x1001_y751_class0.png"


@pytest.fixture
def top(tmp_path) -> Path:
    idc.write(tmp_path)
    return tmp_path / ANCHOR


def test_the_patient_is_the_group_and_the_class_the_label(top):
    samples = TASK.scan(top.parent)
    found = {}
    for sample in samples:
        counts = found.setdefault(int(sample.group), [0, 0])
        counts[sample.label] += 1
    assert found == {patient: list(counts) for patient, counts in idc.PATIENTS.items()}
    (sample,) = [sample for sample in samples if sample.id.endswith(f"/{FIRST}")]
    assert sample.id == f"{ANCHOR}/10253/0/{FIRST}"
    assert (sample.group, TASK.classes[sample.label]) == ("10253", "no carcinoma")
    (sample,) = [sample for sample in samples if sample.id.endswith("/9290_idx5_x1001_y801_class1.png")]
    assert TASK.classes[sample.label] == "invasive ductal carcinoma"


@pytest.mark.parametrize(("width", "height"), [(50, 1), (1, 50), (1, 1), (2, 26), (50, 49)])
def test_what_the_slides_edge_cut_off_is_completed_with_white(top, width, height):
    patch = np.random.default_rng(0).integers(0, 200, (height, width, 3), np.uint8)
    path = top / "10253" / "0" / FIRST
    Image.fromarray(patch).save(path)
    (sample,) = [sample for sample in TASK.scan(top.parent) if sample.id.endswith(FIRST)]
    shown = TASK.read(top.parent, sample, 64)
    assert shown.shape == (SIDE, SIDE, 3)
    np.testing.assert_array_equal(shown[:height, :width], patch)
    shown[:height, :width] = 255
    assert (shown == 255).all()


def test_a_whole_patch_is_read_as_it_is_and_a_cut_one_is_of_one_scale_with_it(top):
    samples = {sample.id.rpartition("/")[2]: sample for sample in TASK.scan(top.parent)}
    whole = TASK.read(top.parent, samples[FIRST], 64)
    np.testing.assert_array_equal(whole, np.asarray(Image.open(top / "10253" / "0" / FIRST)))
    row = samples["8863_idx5_x1001_y751_class0.png"]
    assert Image.open(top.parent / row.id).size == idc.CUT[8863, 0] == (50, 1)
    square = squares.to_square(TASK.read(top.parent, row, 64), 25, TASK.policy)
    assert (square[4:] == 255).all()  # its one row is half a row here; resizing reaches three further
    assert (square[0] < 255).any()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("10254_idx5_x1001_y751_class0.png", "patient 10254 and class 0"),
        ("10253_idx5_x1001_y751_class1.png", "patient 10253 and class 1"),
    ],
)
def test_a_name_that_its_folders_contradict_is_refused(top, name, said):
    path = top / "10253" / "0" / FIRST
    path.rename(path.with_name(name))
    with pytest.raises(DataError, match=rf"10253/0/{name}: the name says {said}, its folders do not; unpack"):
        TASK.scan(top.parent)


def test_foreign_names_and_folders_are_refused(top):
    path = top / "10253" / "0" / FIRST
    shutil.copy(path, path.with_name("10253_copy.png"))
    with pytest.raises(DataError, match=r"10253_copy\.png: the name is not like '10253_idx5_x1001_y751_class0.png'"):
        TASK.scan(top.parent)
    path.with_name("10253_copy.png").unlink()
    (top / "notes" / "0").mkdir(parents=True)
    with pytest.raises(DataError, match=r"notes: no patient's number; remove what"):
        TASK.scan(top.parent)
    (top / "notes").rename(top / "99999")
    (top / "99999" / "0").rename(top / "99999" / "2")
    with pytest.raises(DataError, match=r"99999: no folder '0' or '1' of patches; unpack"):
        TASK.scan(top.parent)


def test_a_tree_without_patches_is_refused(top):
    shutil.rmtree(top)
    (top / "10253" / "0").mkdir(parents=True)
    with pytest.raises(DataError, match=rf"{ANCHOR}: no patches like '10253/0/10253_idx5"):
        TASK.scan(top.parent)


def test_the_copy_that_the_kaggle_mirror_holds_within_is_not_counted_twice(top):
    samples = TASK.scan(top.parent)
    shutil.copytree(top, top.parent / "copy")
    (top.parent / "copy").rename(top / ANCHOR)
    layout.find_top.cache_clear()
    mirrored = TASK.scan(top.parent)
    assert mirrored == samples
    np.testing.assert_array_equal(TASK.read(top.parent, mirrored[0], 64).shape, (SIDE, SIDE, 3))
