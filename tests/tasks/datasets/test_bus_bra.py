"""BUS-BRA: patients by the `Case` column, masks that are no images, folds that must keep patients whole, BI-RADS."""

import csv
import hashlib
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from benchmark.cli import data_report
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


def test_birads_is_a_column_of_every_image_listed(top):
    (column,) = TASK.columns
    with (top / "bus_data.csv").open(newline="") as file:
        listed = {row["ID"]: row["BIRADS"] for row in csv.DictReader(file)}
    told = TASK.columns[column](top.parent)
    assert column == "BI-RADS"
    assert told == {f"BUSBRA/Images/{name}.png": category for name, category in listed.items()}
    assert {sample.id for sample in TASK.scan(top.parent)} == set(told)
    _replace(top / "bus_data.csv", "BIRADS", "Category")
    assert set(TASK.columns[column](top.parent).values()) == {""}  # the labels are there; the column is not


@pytest.mark.parametrize("published", [b"\r\n", b"\n"])
@pytest.mark.parametrize("here", [b"\r\n", b"\n"])
def test_the_fold_file_is_verified_whichever_line_ends_it_travelled_with(top, here, published, capsys):
    path = top / "5-fold-cv.csv"
    lines = path.read_bytes().replace(b"\r\n", b"\n")
    checksum = "sha256:" + hashlib.sha256(lines.replace(b"\n", published)).hexdigest()
    access = replace(TASK.access, checksums={path.name: checksum})
    task = replace(TASK, access=access, expected=bus_bra.IMAGES, counts={})
    path.write_bytes(lines.replace(b"\n", here))
    assert not data_report.print_verification(task, top.parent, 1, top.parent / "cache")
    line_ends = "" if here == published else " but for its line ends"
    assert f"  checksum 5-fold-cv.csv: right{line_ends}\n" in capsys.readouterr().out
    first, rest = lines.split(b"\n", 1)
    path.write_bytes(first.replace(b"Pathology", b"pathology") + here + rest.replace(b"\n", here))
    assert data_report.print_verification(task, top.parent, 1, top.parent / "cache")
    assert "  checksum 5-fold-cv.csv: wrong: sha256:" in capsys.readouterr().out


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


@pytest.mark.parametrize("name", ["5-fold-cv.csv", "10-fold-cv.csv"])
def test_a_patient_in_two_folds_is_refused(top, name):
    _replace(top / name, "bus_0001-r,benign,2", "bus_0001-r,benign,4")
    with pytest.raises(DataError, match=rf"{name}: patient 1 is in folds 2 and 4 \(at bus_0001-r\)"):
        TASK.scan(top.parent)


def test_inner_validation_flags_play_no_part(top):
    samples = TASK.scan(top.parent)
    for name in ("5-fold-cv.csv", "10-fold-cv.csv"):
        folds = top / name
        assert "NaN" in folds.read_text()
        folds.write_text(folds.read_text().replace("NaN", ""))
        assert TASK.scan(top.parent) == samples
        folds.unlink()
        assert TASK.scan(top.parent) == samples
