"""BrEaST: labels from the workbook, normal scans left out, outlines that are no images, BI-RADS as a column."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tasks import splits
from tasks.base import DataError, Folds
from tasks.ultrasound.breast_usg import ANCHOR, TASK, WORKBOOK
from tests.layouts import breast_usg


@pytest.fixture
def top(tmp_path) -> Path:
    breast_usg.write(tmp_path)
    return tmp_path / ANCHOR


def _cases(samples) -> dict:
    return {int(Path(sample.id).stem.removeprefix("case")): sample for sample in samples}


def test_the_workbook_labels_each_scan_and_each_is_a_patient(top):
    samples = _cases(TASK.scan(top.parent))
    assert {case: TASK.classes[sample.label] for case, sample in samples.items()} == {
        case: kind for case, kind in breast_usg.SCANS.items() if kind != "normal"
    }
    assert samples[1].id == f"{ANCHOR}/case001.png"
    assert len({sample.group for sample in samples.values()}) == len(samples) == breast_usg.IMAGES
    assert TASK.protocol == Folds(k=5, repeats=3, seed=0)
    assert len(splits.assignments(TASK, list(samples.values()))) == 15


def test_scans_of_normal_tissue_are_left_out_and_said(top):
    normal = [f"case{case:03d}.png" for case in breast_usg.NORMAL]
    assert not {Path(sample.id).name for sample in TASK.scan(top.parent)} & set(normal)
    assert TASK.left_out(top.parent) == {"normal": normal}
    (top / "case005.png").unlink()
    assert TASK.left_out(top.parent) == {"normal": normal[1:]}


def test_outlines_are_never_images(top):
    samples = TASK.scan(top.parent)
    assert len(list(top.glob("*_other*.png"))) == sum(breast_usg.OTHER.values()) == 3
    assert len(list(top.glob("*_tumor.png"))) == breast_usg.IMAGES
    assert not any("_" in Path(sample.id).stem for sample in samples)
    for path in top.glob("*_*.png"):
        path.unlink()
    assert TASK.scan(top.parent) == samples


def test_the_mask_is_the_outline_of_the_classified_lesion_alone(top):
    samples = _cases(TASK.scan(top.parent))
    width, height = Image.open(top / "case002.png").size
    expected = np.zeros((height, width), bool)
    expected[3:9, 2:7] = True
    shown = TASK.mask(top.parent, samples[2], 64)
    np.testing.assert_array_equal(shown, expected)
    assert shown.shape == TASK.read(top.parent, samples[2], 64).shape[:2]
    other = np.asarray(Image.open(top / "case002_other1.png"))[..., 0] > 0
    assert other.any()
    assert not (shown & other).any()
    (top / "case002_tumor.png").unlink()
    with pytest.raises(DataError, match=r"case002_tumor\.png: unreadable image \(no such file"):
        TASK.mask(top.parent, samples[2], 64)


def test_birads_is_a_column_as_the_workbook_writes_it(top):
    (column,) = TASK.columns
    assert column == "BI-RADS"
    told = TASK.columns[column](top.parent)
    assert told == {f"{ANCHOR}/case{n:03d}.png": str(breast_usg.birads(n)) for n in breast_usg.CASES}
    assert {"2", "4a", "5"} <= set(told.values())  # numbers without a fraction, and letters
    assert {sample.id for sample in TASK.scan(top.parent)} < set(told)


@pytest.mark.parametrize("value", ["Benign", "suspicious", None])
def test_a_classification_that_is_no_class_is_refused(top, value):
    breast_usg.workbook(top.parent / WORKBOOK, kinds={**breast_usg.SCANS, 7: value})
    said = f"case007.png has Classification '{value or ''}', looked for benign, malignant or normal; restore"
    for read in (TASK.scan, TASK.left_out, TASK.columns["BI-RADS"]):
        with pytest.raises(DataError, match=rf"{WORKBOOK}: {said}"):
            read(top.parent)


def test_a_workbook_that_is_missing_or_another_is_named(top):
    columns = tuple("Class" if name == "Classification" else name for name in breast_usg.COLUMNS)
    breast_usg.workbook(top.parent / WORKBOOK, columns=columns)
    with pytest.raises(DataError, match="its first sheet has no row with the columns 'Image_filename' and 'Classif"):
        TASK.scan(top.parent)
    (top.parent / WORKBOOK).write_bytes(b"not a workbook")
    with pytest.raises(DataError, match=rf"{WORKBOOK}: its first sheet cannot be read \(BadZipFile.*fetch the workboo"):
        TASK.scan(top.parent)
    (top.parent / WORKBOOK).unlink()
    with pytest.raises(DataError, match=rf"{WORKBOOK}: not there, and it holds the labels; get it from the archive's"):
        TASK.scan(top.parent)


def test_scans_and_workbook_must_agree(top):
    shutil.copy(top / "case001.png", top / "case999.png")
    with pytest.raises(DataError, match=rf"case999\.png: not in {WORKBOOK} \(1 such images"):
        TASK.scan(top.parent)
    (top / "case999.png").rename(top / "scan.png")
    with pytest.raises(DataError, match=r"scan\.png: the name is not like 'case001.png'"):
        TASK.scan(top.parent)
    (top / "scan.png").unlink()
    (top / "case001.png").unlink()
    assert len(TASK.scan(top.parent)) == breast_usg.IMAGES - 1  # partial
