"""BreaKHis: one magnification a task, patients by number, the published split of four subtypes and its leak."""

import shutil

import pytest

from tasks import splits
from tasks.base import DataError, NoData
from tasks.histo.breakhis import TASKS
from tests.layouts import breakhis

TASK = {task.name: task for task in TASKS}
BREAKHIS = TASK["breakhis_100x"]
CLEAN, PUBLISHED = TASK["breakhis_40x_4class"], TASK["breakhis_40x_4class_published"]


@pytest.mark.parametrize("scale", breakhis.SCALES)
def test_breakhis_takes_one_magnification_and_groups_blocks_by_patient(tmp_path, scale):
    breakhis.write(tmp_path)
    samples = TASK[f"breakhis_{scale}x"].scan(tmp_path)
    assert len(samples) == breakhis.IMAGES
    assert all(f"/{scale}X/" in sample.id for sample in samples)
    groups = {sample.group for sample in samples}
    assert len(groups) == breakhis.GROUPS
    assert {"14-22549", "14-29960", "14-13412", "14-18842"} <= groups
    assert not any(group[-1].isalpha() for group in groups)
    shared = [sample for sample in samples if sample.group == "14-13412"]
    assert {sample.id.split("/")[5] for sample in shared} == {"ductal_carcinoma", "lobular_carcinoma"}
    assert {BREAKHIS.classes[sample.label] for sample in shared} == {"malignant"}


def test_breakhis_at_a_magnification_that_is_not_there_is_no_data(tmp_path):
    breakhis.write(tmp_path, scales=(100,))
    assert len(BREAKHIS.scan(tmp_path)) == breakhis.IMAGES
    for name in sorted(TASK.keys() - {"breakhis_100x"}):
        with pytest.raises(NoData, match=f"no images of {name} at .*make data TASK={name}`"):
            TASK[name].scan(tmp_path)


def test_breakhis_refuses_a_name_that_contradicts_its_folders(tmp_path):
    breakhis.write(tmp_path)
    slide = next(tmp_path.rglob("SOB_B_A_14-22549AB"))
    path = slide / "100X" / "SOB_B_A-14-22549AB-100-001.png"
    for name, said in (
        ("SOB_M_DC-14-22549AB-100-001.png", "malignant, ductal_carcinoma, 100X"),
        ("SOB_B_F-14-22549AB-100-001.png", "benign, fibroadenoma, 100X"),
        ("SOB_B_A-14-22549AB-40-001.png", "benign, adenosis, 40X"),
    ):
        path = path.rename(path.with_name(name))
        with pytest.raises(DataError, match=f"{name}: the name says {said}, the folders do not"):
            BREAKHIS.scan(tmp_path)
    path.rename(path.with_name("SOB_B_A_14-22549AB-100-001.png"))  # as folders join it, not files
    with pytest.raises(DataError, match=r"the name is not like 'SOB_B_A-14-22549AB-100-001.png'"):
        BREAKHIS.scan(tmp_path)


def test_breakhis_subtypes_follow_the_published_slides(tmp_path):
    breakhis.write(tmp_path)
    samples = PUBLISHED.scan(tmp_path)
    assert samples == CLEAN.scan(tmp_path)
    assert CLEAN.classes == ("fibroadenoma", "tubular_adenoma", "ductal_carcinoma", "mucinous_carcinoma")
    assert all("/40X/" in sample.id and f"/{CLEAN.classes[sample.label]}/" in sample.id for sample in samples)
    sides = {side: [s for s in samples if s.split == side] for side in ("train", "val", "test")}
    assert {side: len({s.id.split("/")[-3] for s in found}) for side, found in sides.items()} == breakhis.SIDES
    by_slide = {sample.id.split("/")[-3].rpartition("_14-")[2]: sample.split for sample in samples}
    assert (by_slide["18842"], by_slide["18842D"]) == ("val", "test")
    assert (by_slide["16184"], by_slide["16184CD"]) == ("train", "test")
    assert by_slide["13412"] == "val"


def test_breakhis_subtypes_leak_as_published_and_not_by_default(tmp_path):
    breakhis.write(tmp_path)
    samples = CLEAN.scan(tmp_path)
    with pytest.raises(DataError, match="4 groups are on two sides"):
        splits.check(samples)
    (kept,), (clean,) = splits.assignments(PUBLISHED, samples), splits.assignments(CLEAN, samples)
    kept, clean = (
        [{samples[i].group for i in part} for part in (division.train, division.val, division.test)]
        for division in (kept, clean)
    )
    assert (kept[0] | kept[1]) & kept[2] == breakhis.CROSSING
    assert clean[2] == kept[2]
    assert clean[0] == kept[0] - breakhis.CROSSING
    assert clean[1] == kept[1] - breakhis.CROSSING
    assert PUBLISHED.on_request
    assert CLEAN.on_request  # or the local corpus would hold images that the folds of breakhis_40x test on


def test_breakhis_reads_names_in_any_case(tmp_path):
    breakhis.write(tmp_path)
    path = next(tmp_path.rglob("SOB_M_MC-14-18842D-40-001.png"))
    shutil.move(path, path.with_name("sob_m_mc-14-18842d-40-001.PNG"))
    assert {s.split for s in CLEAN.scan(tmp_path) if "18842d-" in s.id} == {"test"}
