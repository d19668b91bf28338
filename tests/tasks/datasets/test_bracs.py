"""BRACS: slides or patients as groups, a patient on two sides, names against folders, the workbook."""

import shutil

import pytest

from tasks import splits
from tasks.base import DataError
from tasks.histo.bracs import TASK, TASKS
from tests.layouts import bracs

PUBLISHED = TASKS[1]


def _groups(task, samples):
    (division,) = splits.assignments(task, samples)
    return [{samples[i].group for i in part} for part in (division.train, division.val, division.test)]


def test_bracs_groups_by_the_workbooks_patients_in_the_authors_split(tmp_path):
    bracs.write(tmp_path)
    samples = TASK.scan(tmp_path)
    assert len(samples) == bracs.IMAGES
    assert {sample.group for sample in samples} == set(map(str, bracs.PATIENTS.values()))
    assert all(f"/{sample.split}/{sample.label}_{TASK.classes[sample.label]}/" in sample.id for sample in samples)
    assert samples[0].id == "BRACS_RoI/latest_version/test/0_N/BRACS_264_N_1.png"
    assert samples[0].group == "4"


def test_bracs_drops_a_patient_that_crosses_and_its_published_variant_keeps_it(tmp_path):
    bracs.write(tmp_path)
    samples = TASK.scan(tmp_path)
    with pytest.raises(DataError, match=r"1 groups are on two sides of the split .'67'"):
        splits.check(samples)
    train, val, test = _groups(TASK, samples)
    assert (train, val, test) == ({"1", "2"}, {"3", "67"}, {"4", "5"})
    assert _groups(PUBLISHED, samples) == [{"1", "2", "67"}, val, test]
    assert (TASK.on_request, PUBLISHED.on_request) == (False, True)


def test_bracs_without_the_workbook_groups_by_slide(tmp_path):
    bracs.write(tmp_path)
    (tmp_path / "BRACS.xlsx").unlink()
    samples = TASK.scan(tmp_path)
    assert {sample.group for sample in samples} == set(map(str, bracs.PATIENTS))
    splits.check(samples)
    assert _groups(TASK, samples) == _groups(PUBLISHED, samples)
    assert "slide, where BRACS.xlsx is missing" in TASK.group_kind


def test_bracs_is_also_found_without_the_version_folder(tmp_path):
    bracs.write(tmp_path)
    before = TASK.scan(tmp_path)
    top = tmp_path / "BRACS_RoI"
    for split in bracs.SLIDES:
        (top / "latest_version" / split).rename(top / split)
    (top / "latest_version").rmdir()
    samples = TASK.scan(tmp_path)
    assert [s._replace(id=s.id.replace("RoI/", "RoI/latest_version/")) for s in samples] == before
    assert TASK.read(tmp_path, samples[0], 8).shape[2] == 3


def test_bracs_refuses_a_label_that_contradicts_its_folder_and_strange_names(tmp_path):
    bracs.write(tmp_path)
    path = tmp_path / "BRACS_RoI" / "latest_version" / "val" / "1_PB" / "BRACS_265_PB_2.png"
    path = path.rename(path.with_name("BRACS_265_N_2.png"))
    with pytest.raises(DataError, match=r"BRACS_265_N_2.png: the name says 'N', the folder 'PB'"):
        TASK.scan(tmp_path)
    path = path.rename(path.with_name("265_PB_2.png"))
    with pytest.raises(DataError, match=r"265_PB_2.png: the name is not like 'BRACS_1003675_N_1.png'"):
        TASK.scan(tmp_path)
    shutil.rmtree(path.parent)
    with pytest.raises(DataError, match="no folder '1_PB', found 0_N, 2_UDH"):
        TASK.scan(tmp_path)


@pytest.mark.parametrize(
    "patients", [{**bracs.PATIENTS, 265: None}, {k: v for k, v in bracs.PATIENTS.items() if k != 265}]
)
def test_bracs_names_a_slide_without_a_patient(tmp_path, patients):
    bracs.write(tmp_path)
    bracs.workbook(tmp_path / "BRACS.xlsx", patients=patients)
    with pytest.raises(DataError, match=rf"BRACS.xlsx: no group for '265' \({sum(bracs.REGIONS[265])} images"):
        TASK.scan(tmp_path)


def test_bracs_finds_columns_by_name(tmp_path):
    bracs.write(tmp_path)
    samples = TASK.scan(tmp_path)
    bracs.workbook(tmp_path / "BRACS.xlsx", columns=("WSI filename ", "Patient ID"))
    assert TASK.scan(tmp_path) == samples


def test_bracs_refuses_a_workbook_that_it_cannot_read(tmp_path):
    bracs.write(tmp_path)
    bracs.workbook(tmp_path / "BRACS.xlsx", columns=("WSI Filename", "Case"))
    with pytest.raises(DataError, match=r"no row with the columns 'WSI Filename' and 'Patient Id'.*'Case'"):
        TASK.scan(tmp_path)
    (tmp_path / "BRACS.xlsx").write_bytes(b"not a workbook")
    with pytest.raises(DataError, match=r"BRACS.xlsx: sheet 'WSI_Information' cannot be read \(BadZipFile"):
        TASK.scan(tmp_path)
