"""BUS-BRA: patients by the `Case` column, masks that are no images, folds that must keep patients whole."""

import shutil
from pathlib import Path

import pytest

from tasks import splits
from tasks.base import DataError
from tasks.ultrasound.bus_bra import TASK
from tests.layouts import bus_bra


@pytest.fixture
def top(tmp_path) -> Path:
    bus_bra.write(tmp_path)
    return tmp_path / "BUSBRA"


def _replace(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def test_both_views_of_a_patient_are_one_group(top):
    samples = {Path(sample.id).stem: sample for sample in TASK.scan(top.parent)}
    assert len(samples) == bus_bra.IMAGES
    assert len({sample.group for sample in samples.values()}) == bus_bra.GROUPS
    assert samples["bus_0001-l"].group == samples["bus_0001-r"].group != samples["bus_0002-l"].group
    assert samples["bus_0001-l"].id == "BUSBRA/Images/bus_0001-l.png"
    assert [TASK.classes[samples[name].label] for name in ("bus_0002-l", "bus_0003-l")] == ["benign", "malignant"]


def test_masks_are_not_images(top):
    samples = TASK.scan(top.parent)
    assert not any("mask" in sample.id.lower() for sample in samples)
    shutil.rmtree(top / "Masks")
    assert TASK.scan(top.parent) == samples
    shutil.copy(top / "Images" / "bus_0001-l.png", top / "Images" / "mask_0001-l.png")
    with pytest.raises(DataError, match=r"mask_0001-l\.png: not in bus_data\.csv"):
        TASK.scan(top.parent)


def test_no_patient_is_on_two_sides(top):
    samples = TASK.scan(top.parent)
    (division,) = splits.assignments(TASK, samples)
    sides = [{Path(samples[i].id).stem[4:8] for i in part} for part in (division.train, division.val, division.test)]
    assert sum(map(len, sides)) == len(set.union(*sides)) == bus_bra.PATIENTS


def test_the_counts_of_the_card_add_up():
    assert sum(TASK.counts[""].values()) == TASK.expected == 1_875


@pytest.mark.parametrize("value", ["Benign", "normal", ""])
def test_a_pathology_that_is_not_a_class_is_refused(top, value):
    _replace(top / "bus_data.csv", "bus_0002-l,2,Fibroadenoma,benign", f"bus_0002-l,2,Fibroadenoma,{value}")
    with pytest.raises(DataError, match=f"bus_0002-l has Pathology '{value}', looked for benign or malignant"):
        TASK.scan(top.parent)


def test_images_and_table_must_agree(top):
    images = top / "Images"
    shutil.copy(images / "bus_0001-l.png", images / "bus_9999-s.png")
    with pytest.raises(DataError, match=r"bus_9999-s\.png: not in bus_data\.csv \(1 such images"):
        TASK.scan(top.parent)
    (images / "bus_9999-s.png").unlink()
    (images / "bus_0001-l.png").unlink()
    assert len(TASK.scan(top.parent)) == bus_bra.IMAGES - 1  # partial


def test_an_image_without_a_patient_is_refused(top):
    _replace(top / "bus_data.csv", "bus_0002-l,2,", "bus_0002-l,,")
    with pytest.raises(DataError, match=r"bus_data\.csv: no group for 'bus_0002-l'"):
        TASK.scan(top.parent)


def test_an_image_listed_twice_is_refused(top):
    with (top / "bus_data.csv").open("a") as file:
        file.write("bus_0002-l,3,,malignant,5,,1,1,left,\n")
    with pytest.raises(DataError, match=rf"bus_data\.csv: {bus_bra.IMAGES + 1} rows for {bus_bra.IMAGES} images"):
        TASK.scan(top.parent)


def test_a_table_that_is_missing_or_another_is_named(top):
    _replace(top / "bus_data.csv", "Case", "Patient")
    with pytest.raises(DataError, match=r"bus_data\.csv: no column 'Case', found ID, Patient"):
        TASK.scan(top.parent)
    (top / "bus_data.csv").unlink()
    with pytest.raises(DataError, match=r"bus_data\.csv: not there"):
        TASK.scan(top.parent)


def test_a_patient_in_two_folds_is_refused(top):
    _replace(top / "5-fold-cv.csv", "bus_0001-r,benign,2", "bus_0001-r,benign,4")
    with pytest.raises(DataError, match=r"5-fold-cv\.csv: patient 1 is in folds 2 and 4 \(at bus_0001-r\)"):
        TASK.scan(top.parent)


def test_inner_validation_flags_play_no_part(top):
    samples = TASK.scan(top.parent)
    folds = top / "5-fold-cv.csv"
    assert "NaN" in folds.read_text()
    folds.write_text(folds.read_text().replace("NaN", ""))
    assert TASK.scan(top.parent) == samples
    folds.unlink()
    assert TASK.scan(top.parent) == samples
