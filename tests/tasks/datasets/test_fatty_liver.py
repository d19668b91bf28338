"""Fatty liver: one MATLAB file sorted by class, read by patient."""

import functools
import os

import numpy as np
import pytest
import scipy.io

from tasks import splits
from tasks.base import DataError
from tasks.ultrasound import fatty_liver as module
from tasks.ultrasound.fatty_liver import TASK, TASKS, ULTRABENCH_TEST
from tests.layouts import fatty_liver
from tests.layouts.fatty_liver import FILE, FRAMES, NORMAL, PATIENTS

PUBLISHED = TASKS[1]


def test_every_frame_is_a_sample_of_its_patient(tmp_path):
    fatty_liver.write(tmp_path)
    samples = TASK.scan(tmp_path)
    assert len(samples) == fatty_liver.IMAGES
    assert [sample.id for sample in samples[:2]] == [f"{FILE}#01_00", f"{FILE}#01_01"]
    assert len({sample.group for sample in samples}) == PATIENTS
    assert {sample.split for sample in samples} == {""}
    for sample in samples:
        assert sample.label == (int(sample.group) > NORMAL)
        assert sample.id.startswith(f"{FILE}#{sample.group}_")


def test_frames_are_read_as_stored(tmp_path):
    fatty_liver.write(tmp_path)
    array = fatty_liver.records()
    for sample in TASK.scan(tmp_path)[::97]:
        patient, frame = map(int, sample.id.rpartition("#")[2].split("_"))
        expected = array[0, patient - 1]["images"][frame]
        np.testing.assert_array_equal(TASK.read(tmp_path, sample, 32), np.repeat(expected[..., None], 3, axis=2))


def test_exact_copies_of_a_frame_are_found_by_digest(tmp_path):
    fatty_liver.write(tmp_path)
    samples = TASK.scan(tmp_path)
    assert samples[3].digest == samples[4].digest
    assert len({sample.digest for sample in samples}) == len(samples) - 1


def test_ultrabench_tests_on_its_eleven_patients(tmp_path):
    fatty_liver.write(tmp_path)
    samples = PUBLISHED.scan(tmp_path)
    assert {int(sample.group) for sample in samples if sample.split == "test"} == ULTRABENCH_TEST
    assert len(ULTRABENCH_TEST) == 11
    for split, counts in PUBLISHED.counts.items():
        for label, name in enumerate(PUBLISHED.classes):
            assert sum((s.split, s.label) == (split, label) for s in samples) == counts[name]
    (division,) = splits.assignments(PUBLISHED, samples)
    assert {int(samples[i].group) for i in division.test} == ULTRABENCH_TEST
    assert PUBLISHED.on_request
    assert not TASK.on_request


def test_both_tasks_share_their_images(tmp_path):
    fatty_liver.write(tmp_path)
    assert [s._replace(split="") for s in PUBLISHED.scan(tmp_path)] == TASK.scan(tmp_path)
    assert PUBLISHED.images == TASK.images


def test_the_file_is_loaded_once_and_again_when_it_changed(tmp_path, monkeypatch):
    fatty_liver.write(tmp_path)
    loads = []
    load = scipy.io.loadmat
    monkeypatch.setattr(scipy.io, "loadmat", lambda *a, **k: loads.append(a) or load(*a, **k))
    samples = TASK.scan(tmp_path)
    for sample in samples[:20]:
        TASK.read(tmp_path, sample, 32)
    assert len(loads) == 1
    fatty_liver.write(tmp_path, seed=1)
    os.utime(tmp_path / FILE, ns=(0, 0))
    assert TASK.scan(tmp_path) != samples
    assert len(loads) == 2


def test_scalars_without_their_matrices_are_understood(tmp_path, monkeypatch):
    fatty_liver.write(tmp_path)
    samples = TASK.scan(tmp_path)
    monkeypatch.setattr(scipy.io, "loadmat", functools.partial(scipy.io.loadmat, squeeze_me=True))
    module._load.cache_clear()
    assert TASK.scan(tmp_path) == samples


@pytest.mark.parametrize("kind", [np.uint16, np.int64, np.float64])
def test_numbers_of_any_type_are_understood(tmp_path, kind):
    array = fatty_liver.records()
    for index in range(PATIENTS):
        for field in ("id", "class", "fat"):
            array[0, index][field] = kind(array[0, index][field])
    fatty_liver.save(tmp_path / FILE, array)
    assert len({sample.group for sample in TASK.scan(tmp_path)}) == PATIENTS


def test_a_file_of_some_patients_is_still_scanned(tmp_path):
    fatty_liver.save(tmp_path / FILE, fatty_liver.records()[:, :20])
    assert len(TASK.scan(tmp_path)) == 20 * FRAMES


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("class", 2, "patient 7 has class 2, looked for 0 or 1"),
        ("id", 1, "patient 1 is there twice"),
        ("images", np.zeros((10, 14, 20)), r"images of patient 7 are float64 \(10, 14, 20\), looked for uint8"),
        ("images", np.zeros((14, 20), np.uint8), r"images of patient 7 are uint8 \(14, 20\)"),
        ("id", np.arange(3), "looked for a MATLAB 5 struct array"),
    ],
)
def test_what_a_patient_cannot_be_is_refused(tmp_path, field, value, message):
    array = fatty_liver.records()
    array[0, 6][field] = value
    fatty_liver.save(tmp_path / FILE, array)
    with pytest.raises(DataError, match=f"{FILE}: .*{message}"):
        TASK.scan(tmp_path)


def test_another_or_a_cut_file_is_named(tmp_path):
    path = tmp_path / FILE
    fatty_liver.save(path, fatty_liver.records(), name="other")
    with pytest.raises(DataError, match=f"{FILE}: looked for a MATLAB 5 struct array .*KeyError: 'data'; fetch it"):
        TASK.scan(tmp_path)
    fatty_liver.save(path, np.zeros((1, 3)))
    with pytest.raises(DataError, match="looked for a MATLAB 5 struct array"):
        TASK.scan(tmp_path)
    fatty_liver.write(tmp_path)
    for content in (b"", b"<html>not found</html>", b"\x89HDF\r\n\x1a\n" + bytes(600), path.read_bytes()[:5000]):
        path.write_bytes(content)
        with pytest.raises(DataError, match=f"looked for a MATLAB 5 .*{len(content)} bytes"):
            TASK.scan(tmp_path)
