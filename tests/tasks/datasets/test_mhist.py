"""MHIST: a table that must be whole and agree with itself, and names instead of label numbers."""

import shutil

import pytest

from tasks.base import DataError, NoData
from tasks.histo.mhist import TASK
from tests.layouts import mhist


def _edit(folder, old, new):
    table = folder / "annotations.csv"
    text = table.read_text()
    assert old in text
    table.write_text(text.replace(old, new, 1))


def _row(folder, label, part):
    return next(
        line for line in (folder / "annotations.csv").read_text().splitlines() if f",{label}," in line and part in line
    )


def test_labels_and_parts_are_the_tables(tmp_path):
    mhist.write(tmp_path)
    samples = TASK.scan(tmp_path)
    assert len(samples) == mhist.IMAGES
    assert TASK.classes == ("HP", "SSA")
    for (label, part), count in mhist.COUNTS.items():
        assert sum((TASK.classes[s.label], s.split) == (label, part) for s in samples) == count
    name = _row(tmp_path, "SSA", "test").split(",")[0]
    sample = next(sample for sample in samples if sample.id == f"images/{name}")
    assert (TASK.classes[sample.label], sample.split, sample.group) == ("SSA", "test", sample.id)


def test_another_datasets_table_is_not_ours_and_two_of_ours_are_refused(tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "annotations.csv").write_text("image,label\na.png,1\n")
    with pytest.raises(NoData, match="make data TASK=mhist"):
        TASK.scan(tmp_path)
    mhist.write(tmp_path / "one")
    mhist.write(tmp_path / "two")
    with pytest.raises(DataError, match=r"of MHIST is there 2 times .*keep one"):
        TASK.scan(tmp_path)
    (tmp_path / "two" / "annotations.csv").unlink()
    assert len(TASK.scan(tmp_path)) == mhist.IMAGES


@pytest.mark.parametrize("column", mhist.HEADER)
def test_the_header_is_exact(tmp_path, column):
    mhist.write(tmp_path)
    _edit(tmp_path, column, column.lower())
    with pytest.raises(DataError, match=r"annotations.csv: no column '.*, found "):
        TASK.scan(tmp_path)


@pytest.mark.parametrize(("label", "wrong"), [("HP", "SSA"), ("SSA", "HP")])
def test_a_label_against_its_votes_is_refused(tmp_path, label, wrong):
    mhist.write(tmp_path)
    row = _row(tmp_path, label, "train")
    _edit(tmp_path, row, row.replace(f",{label},", f",{wrong},"))
    with pytest.raises(DataError, match=rf"is {wrong} by \d of 7 votes for SSA, against the majority"):
        TASK.scan(tmp_path)


def test_four_votes_are_ssa_and_three_are_not(tmp_path):
    mhist.write(tmp_path)
    name, _, _, part = _row(tmp_path, "SSA", "train").split(",")
    row = _row(tmp_path, "SSA", "train")
    _edit(tmp_path, row, f"{name},SSA,4,{part}")
    assert len(TASK.scan(tmp_path)) == mhist.IMAGES
    _edit(tmp_path, f"{name},SSA,4,{part}", f"{name},SSA,3,{part}")
    with pytest.raises(DataError, match=f"'{name}' is SSA by 3 of 7"):
        TASK.scan(tmp_path)


@pytest.mark.parametrize(
    ("position", "value"), [(1, "1"), (1, "ssa"), (2, "8"), (2, "4.0"), (2, ""), (3, "valid"), (3, "Train")]
)
def test_unknown_values_are_named(tmp_path, position, value):
    mhist.write(tmp_path)
    row = _row(tmp_path, "SSA", "train")
    cells = row.split(",")
    cells[position] = value
    _edit(tmp_path, row, ",".join(cells))
    with pytest.raises(DataError, match=rf"'{cells[0]}' is .*'{value}'.*, not HP or SSA with 0 to 7 votes in train or"):
        TASK.scan(tmp_path)


def test_a_row_twice_is_refused(tmp_path):
    mhist.write(tmp_path)
    row = _row(tmp_path, "HP", "test")
    _edit(tmp_path, row, f"{row}\n{row}")
    with pytest.raises(DataError, match=f"'{row.split(',')[0]}' is listed twice"):
        TASK.scan(tmp_path)


def test_a_part_of_the_images_is_a_partial_dataset_and_none_is_refused(tmp_path):
    mhist.write(tmp_path)
    (tmp_path / "images" / "MHIST_aac.png").unlink()
    assert len(TASK.scan(tmp_path)) == mhist.IMAGES - 1
    for path in (tmp_path / "images").iterdir():
        path.unlink()
    with pytest.raises(DataError, match=f"none of the {mhist.IMAGES} images that annotations.csv lists"):
        TASK.scan(tmp_path)
    (tmp_path / "images").rmdir()
    with pytest.raises(DataError, match=r"no folder 'images', found annotations.csv"):
        TASK.scan(tmp_path)


def test_images_that_no_row_lists_are_refused(tmp_path):
    mhist.write(tmp_path)
    folder = tmp_path / "images"
    shutil.copy(folder / "MHIST_aaa.png", folder / "MHIST_zzz.png")
    with pytest.raises(DataError, match=r"no row for 'MHIST_zzz.png' \(1 such images"):
        TASK.scan(tmp_path)
    (folder / "MHIST_zzz.png").rename(folder / "MHIST_aaa copy.png")
    with pytest.raises(DataError, match=r"MHIST_aaa copy.png: the name is not like 'MHIST_aaa.png'"):
        TASK.scan(tmp_path)
