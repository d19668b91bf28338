"""PCam: HDF5 read lazily, one handle per process, slides from the meta tables."""

import csv
import gzip
import hashlib

import h5py
import numpy as np
import pytest

from tasks import splits
from tasks.base import DataError, NoData
from tasks.histo import pcam as module
from tasks.histo.pcam import TASK
from tests.layouts import pcam

STEM = "camelyonpatch_level_2_split"


def _patches(folder, part):
    with h5py.File(folder / f"{STEM}_{part}_x.h5") as file:
        return file["x"][:]


def test_every_patch_has_its_label_slide_split_and_digest(tmp_path):
    pcam.write(tmp_path)
    samples = TASK.scan(tmp_path)
    assert len(samples) == pcam.IMAGES
    assert len({sample.group for sample in samples}) == pcam.GROUPS
    sixth = next(sample for sample in samples if sample.id == f"{STEM}_valid_x.h5#000006")
    assert (sixth.label, sixth.group, sixth.split) == (1, "camelyon16_train_tumor_007", "val")
    assert sixth.digest == hashlib.sha256(_patches(tmp_path, "valid")[6].tobytes()).hexdigest()
    np.testing.assert_array_equal(TASK.read(tmp_path, sixth, 224), _patches(tmp_path, "valid")[6])
    sides = {sample.split: sample.id.split("_")[4] for sample in samples}
    assert sides == {"train": "train", "val": "valid", "test": "test"}


def test_a_patch_drawn_twice_stays_two_samples_of_one_digest(tmp_path):
    pcam.write(tmp_path)
    twice = [s for s in TASK.scan(tmp_path) if s.id in [f"{STEM}_train_x.h5#{i:06d}" for i in pcam.TWICE]]
    assert len(twice) == 2
    assert len({sample.digest for sample in twice}) == 1


def test_digests_do_not_depend_on_the_chunk_and_are_remembered_until_the_file_changes(tmp_path, monkeypatch):
    pcam.write(tmp_path)
    module._digests.cache_clear()
    samples = TASK.scan(tmp_path)
    assert TASK.scan(tmp_path) == samples
    assert module._digests.cache_info().misses == 3
    monkeypatch.setattr(module, "CHUNK", 5)
    module._digests.cache_clear()
    assert TASK.scan(tmp_path) == samples
    with h5py.File(tmp_path / f"{STEM}_test_x.h5", "a") as file:
        file["x"][3] = 0
    changed = [sample.id for sample, before in zip(TASK.scan(tmp_path), samples, strict=True) if sample != before]
    assert changed == [f"{STEM}_test_x.h5#000003"]


def test_a_handle_is_kept_by_its_process_and_never_used_by_a_fork(tmp_path, monkeypatch):
    pcam.write(tmp_path)
    opened = []
    original = module._dataset
    monkeypatch.setattr(module, "_dataset", lambda path, *rest: opened.append(path) or original(path, *rest))
    sample = TASK.scan(tmp_path)[0]
    opened.clear()
    first = TASK.read(tmp_path, sample, 96)
    TASK.read(tmp_path, sample._replace(id=sample.id.replace("#000000", "#000001")), 96)
    assert len(opened) == 1
    monkeypatch.setattr(module.os, "getpid", lambda: -1)
    np.testing.assert_array_equal(TASK.read(tmp_path, sample, 96), first)
    assert len(opened) == 2


def test_a_split_called_val_is_not_taken(tmp_path):
    pcam.write(tmp_path)
    for rest in ("x.h5", "y.h5", "meta.csv"):
        (tmp_path / f"{STEM}_valid_{rest}").rename(tmp_path / f"{STEM}_val_{rest}")
    with pytest.raises(DataError, match=f"no '{STEM}_valid_x.h5' beside the other files of PCam; fetch it"):
        TASK.scan(tmp_path)


def test_packed_files_are_to_be_unpacked(tmp_path):
    pcam.write(tmp_path)
    plain = tmp_path / f"{STEM}_test_y.h5"
    (tmp_path / f"{plain.name}.gz").write_bytes(gzip.compress(plain.read_bytes()))
    assert len(TASK.scan(tmp_path)) == pcam.IMAGES
    plain.unlink()
    with pytest.raises(DataError, match=r"test_y\.h5\.gz: still packed; unpack it where it is, with gunzip") as error:
        TASK.scan(tmp_path)
    assert not isinstance(error.value, NoData)


def test_without_slides_it_refuses(tmp_path):
    pcam.write(tmp_path)
    meta = tmp_path / f"{STEM}_train_meta.csv"
    rows = list(csv.reader(meta.open()))
    meta.unlink()
    with pytest.raises(DataError, match="only its column wsi tells patches of one slide; fetch it from https") as error:
        TASK.scan(tmp_path)
    assert not isinstance(error.value, NoData)

    def write(changed):
        with meta.open("w", newline="") as file:
            csv.writer(file).writerows(changed)

    write([row[:-1] for row in rows])
    with pytest.raises(DataError, match="no column 'wsi', found , coord_y, coord_x"):
        TASK.scan(tmp_path)
    write([*rows[:3], [*rows[3][:-1], ""], *rows[4:]])
    with pytest.raises(DataError, match="no slide in data row 3"):
        TASK.scan(tmp_path)
    write(rows[:-1])
    with pytest.raises(DataError, match=r"16 patches, but 16 labels in .* and 15 rows in"):
        TASK.scan(tmp_path)


def test_a_slide_on_two_sides_is_refused(tmp_path):
    pcam.write(tmp_path)
    meta = tmp_path / f"{STEM}_test_meta.csv"
    meta.write_text(meta.read_text().replace("camelyon16_test_009", "camelyon16_train_tumor_001"))
    with pytest.raises(DataError, match=r"1 groups are on two sides.*camelyon16_train_tumor_001"):
        splits.assignments(TASK, TASK.scan(tmp_path))


@pytest.mark.parametrize(
    ("name", "key", "content", "message"),
    [
        ("train_x", "images", np.zeros((16, 96, 96, 3), np.uint8), "no key 'x', found images"),
        (
            "train_x",
            "x",
            np.zeros((16, 3, 96, 96), np.uint8),
            r"is uint8 \(16, 3, 96, 96\), not uint8 \(N, 96, 96, 3\)",
        ),
        ("train_x", "x", np.zeros((16, 96, 96, 3), np.float32), "key 'x' is float32"),
        ("valid_y", "y", np.zeros(16, np.uint8), r"is uint8 \(16,\), not uint8 \(N, 1, 1, 1\)"),
        ("valid_y", "y", np.full((16, 1, 1, 1), 2, np.uint8), "label 2, where only 0 and 1 are known"),
        ("test_y", "y", np.zeros((15, 1, 1, 1), np.uint8), "16 patches, but 15 labels"),
    ],
)
def test_other_contents_are_named(tmp_path, name, key, content, message):
    pcam.write(tmp_path)
    with h5py.File(tmp_path / f"{STEM}_{name}.h5", "w") as file:
        file[key] = content
    with pytest.raises(DataError, match=message):
        TASK.scan(tmp_path)


def test_a_truncated_file_is_named(tmp_path):
    pcam.write(tmp_path)
    path = tmp_path / f"{STEM}_train_x.h5"
    path.write_bytes(path.read_bytes()[:100_000])
    with pytest.raises(DataError, match=rf"{STEM}_train_x.h5: unreadable HDF5 \(.*\); fetch it again"):
        TASK.scan(tmp_path)


def test_checksums_and_downloads_are_of_the_nine_files(tmp_path):
    pcam.write(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == set(TASK.access.checksums)
    assert {file.name.removesuffix(".gz") for file in TASK.access.downloads} == set(TASK.access.checksums)
    assert all(file.unpack == file.name.endswith(".gz") for file in TASK.access.downloads)
    for file in TASK.access.downloads:
        if not file.unpack:
            assert file.checksum == TASK.access.checksums[file.name]
