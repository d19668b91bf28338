"""The store: decoded once, shared by content, whole or absent, and clear about what it could not read."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tasks import store
from tasks.base import DataError
from tasks.reading import squares
from tasks.ultrasound.busi import TASK as BUSI
from tasks.ultrasound.phantom_local import TASK as LOCAL
from tasks.ultrasound.phantom_regional import TASK as REGIONAL
from tests.layouts import busi

PIXELS = 32


@pytest.fixture
def data(tmp_path):
    busi.write(tmp_path / "data")
    return tmp_path / "data"


def _build(data, pixels=PIXELS, **options):
    return store.build(BUSI, data, BUSI.scan(data), pixels, data.parent / "cache", **options)


def _spoil(data, *names):
    for name in names:
        (data / "Dataset_BUSI_with_GT" / name).write_bytes(b"")


def test_rows_are_the_images_in_the_order_of_their_ids(data):
    built = _build(data)
    samples = {sample.id: sample for sample in BUSI.scan(data)}
    assert built.ids == tuple(sorted(samples))
    assert built.skipped == ()
    assert built.pixels.shape == (busi.IMAGES, PIXELS, PIXELS, 3)
    assert built.pixels.dtype == np.uint8
    assert not built.pixels.flags.writeable
    assert not built.pixels.flags.owndata
    for row, name in enumerate(built.ids):
        square = squares.to_square(BUSI.read(data, samples[name], PIXELS), PIXELS, "pad")
        np.testing.assert_array_equal(built.pixels[row], square)


def test_the_arrow_file_opens_with_hugging_face_datasets(data):
    from datasets import Dataset

    built = _build(data)
    rows = Dataset.from_file(str(data.parent / "cache" / built.address / store.IMAGES))
    assert tuple(rows["id"]) == built.ids
    np.testing.assert_array_equal(np.frombuffer(rows[3]["pixels"], np.uint8), built.pixels[3].ravel())


def test_a_second_build_reads_and_writes_nothing(data, monkeypatch):
    first = _build(data)
    folder = data.parent / "cache" / first.address
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    samples = BUSI.scan(data)
    shutil.rmtree(data)
    second = store.build(BUSI, data, samples[::-1], PIXELS, data.parent / "cache")
    assert second.ids == first.ids
    np.testing.assert_array_equal(second.pixels, first.pixels)
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before
    assert [path.name for path in folder.parent.iterdir()] == [first.address]


def test_the_address_follows_content_size_and_policy_but_not_order_or_labels(data):
    samples = BUSI.scan(data)
    address = store.address(BUSI, samples, PIXELS)
    assert len(address) == 12
    assert store.address(BUSI, [sample._replace(label=0) for sample in samples[::-1]], PIXELS) == address
    path = data / samples[0].id
    path.write_bytes(path.read_bytes() + b"\0")
    others = {
        store.address(BUSI, BUSI.scan(data), PIXELS),
        store.address(BUSI, samples, PIXELS + 1),
        store.address(BUSI, samples[1:], PIXELS),
        store.address(replace(BUSI, policy="crop"), samples, PIXELS),
        store.address(replace(BUSI, images="other"), samples, PIXELS),
    }
    assert len(others | {address}) == 6


def test_tasks_of_one_image_family_share_a_store(tmp_path):
    one = store.build(LOCAL, tmp_path, LOCAL.scan(tmp_path)[:4], PIXELS, tmp_path / "cache")
    other = store.build(REGIONAL, tmp_path, REGIONAL.scan(tmp_path)[:4], PIXELS, tmp_path / "cache")
    assert one.address == other.address


@pytest.mark.parametrize("task", [BUSI, LOCAL])
def test_processes_give_the_same_pixels_as_one(data, monkeypatch, task):
    monkeypatch.setattr(store, "PARALLEL_FROM", 2)
    samples = task.scan(data)[:70]
    serial = store.build(task, data, samples, PIXELS, data.parent / "one", workers=1)
    pooled = store.build(task, data, samples, PIXELS, data.parent / "two", workers=2)
    assert serial.ids == pooled.ids
    np.testing.assert_array_equal(serial.pixels, pooled.pixels)


def test_unreadable_images_are_all_named_with_the_remedy(data):
    _spoil(data, *(f"benign/benign ({number}).png" for number in range(1, 13)))
    with pytest.raises(DataError, match=r"12 unreadable images.*--skip-unreadable") as caught:
        _build(data)
    assert str(caught.value).count("benign (") >= 10
    assert "0 bytes" in str(caught.value)
    assert str(caught.value).endswith("and 2 more")
    assert [path.suffix for path in (data.parent / "cache").iterdir()] == [".lock"]


def test_unreadable_images_are_left_out_and_recorded_on_request(data):
    _spoil(data, "benign/benign (1).png", "normal/normal (3).png")
    skipped = ("Dataset_BUSI_with_GT/benign/benign (1).png", "Dataset_BUSI_with_GT/normal/normal (3).png")
    for _ in range(2):  # decoded, then opened
        built = _build(data, skip_unreadable=True)
        assert built.skipped == skipped
        assert len(built.ids) == len(built.pixels) == busi.IMAGES - 2
        assert not set(built.ids) & set(skipped)
    about = json.loads((data.parent / "cache" / built.address / store.ABOUT).read_text())
    assert tuple(about["skipped"]) == skipped
    with pytest.raises(DataError, match=f"2 unreadable images.*{built.address}; delete it"):
        _build(data)


def test_no_readable_image_at_all_is_refused(data):
    _spoil(data, *(sample.id.partition("/")[2] for sample in BUSI.scan(data)))
    with pytest.raises(DataError, match=f"{busi.IMAGES} unreadable images"):
        _build(data, skip_unreadable=True)


@pytest.mark.parametrize("spoilt", ["truncated images", "truncated about", "no images", "other bytes"])
def test_a_spoilt_store_names_the_folder_to_delete(data, spoilt):
    folder = data.parent / "cache" / _build(data).address
    images, about = folder / store.IMAGES, folder / store.ABOUT
    if spoilt == "truncated images":
        images.write_bytes(images.read_bytes()[:-1000])
    elif spoilt == "truncated about":
        about.write_text(about.read_text()[:-20])
    elif spoilt == "no images":
        images.unlink()
    else:
        images.write_bytes(bytes(images.stat().st_size))
    with pytest.raises(DataError, match=f"{folder}: not a whole store .*delete this folder"):
        _build(data)
    shutil.rmtree(folder)
    assert len(_build(data).ids) == busi.IMAGES


def _interrupting(asked, at):
    def read(data, sample, pixels):
        asked.append(sample.id)
        if sample.id.endswith(at):
            raise KeyboardInterrupt
        return BUSI.read(data, sample, pixels)

    return read


def test_an_interrupted_build_goes_on_where_it_was(data, monkeypatch):
    monkeypatch.setattr(store, "CHUNK", 4)
    whole, cache = _build(data), data.parent / "other"
    samples, first, second = BUSI.scan(data), [], []
    with pytest.raises(KeyboardInterrupt):
        store.build(replace(BUSI, read=_interrupting(first, "malignant (9).png")), data, samples, PIXELS, cache)
    assert not (cache / whole.address).exists()
    built = store.build(replace(BUSI, read=_interrupting(second, "never")), data, samples, PIXELS, cache)
    done = len(first) // 4 * 4 if len(first) % 4 else len(first) - 4
    assert 0 < done < busi.IMAGES
    assert second == [sample.id for sample in samples[done:]]
    assert built.ids == whole.ids
    np.testing.assert_array_equal(built.pixels, whole.pixels)
    assert [path.name for path in cache.iterdir()] == [whole.address]


@pytest.mark.parametrize("spoilt", ["torn line", "lost pixels", "pixels nobody vouches for", "another image", "no raw"])
def test_a_spoilt_journal_is_believed_only_as_far_as_it_is_whole(data, monkeypatch, spoilt):
    monkeypatch.setattr(store, "CHUNK", 4)
    whole, cache = _build(data), data.parent / "other"
    samples, again = BUSI.scan(data), []
    with pytest.raises(KeyboardInterrupt):
        store.build(replace(BUSI, read=_interrupting([], "malignant (9).png")), data, samples, PIXELS, cache)
    building = cache / f".{whole.address}.building"
    raw, journal = building / store.RAW, building / store.JOURNAL
    if spoilt == "torn line":
        journal.write_bytes(journal.read_bytes()[:-3])
    elif spoilt == "lost pixels":
        raw.write_bytes(raw.read_bytes()[:-1])
    elif spoilt == "pixels nobody vouches for":
        raw.write_bytes(raw.read_bytes() + b"\0" * 5000)
    elif spoilt == "another image":
        journal.write_text(journal.read_text().replace("benign (3).png", "benign (x).png"))
    else:
        raw.unlink()
    built = store.build(replace(BUSI, read=_interrupting(again, "never")), data, samples, PIXELS, cache)
    np.testing.assert_array_equal(built.pixels, whole.pixels)
    assert built.ids == whole.ids
    assert len(again) < busi.IMAGES or spoilt == "no raw"


def test_what_a_killed_build_left_is_removed_after_a_week(data, monkeypatch):
    cache = data.parent / "cache"
    killed = cache / ".0123456789ab.building"
    killed.mkdir(parents=True)
    (killed / "pixels").write_bytes(b"half")
    address = _build(data).address
    assert killed.is_dir()
    shutil.rmtree(cache / address)
    monkeypatch.setattr(store, "ABANDONED", -1.0)
    _build(data)
    assert [path.name for path in cache.iterdir()] == [address]


def test_a_full_disk_is_refused_before_decoding(data, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10, 0, 10))
    with pytest.raises(DataError, match=r"1,\d+,\d+ bytes needed .* 10 bytes free"):
        _build(data)


def test_wrong_samples_and_wrong_readers_are_refused(data):
    samples = BUSI.scan(data)
    with pytest.raises(DataError, match="ids must be unique"):
        store.build(BUSI, data, [*samples, samples[0]], PIXELS, data.parent / "cache")
    with pytest.raises(DataError, match="no samples"):
        store.build(BUSI, data, [], PIXELS, data.parent / "cache")
    wrong = replace(BUSI, read=lambda data, sample, pixels: np.zeros((pixels, pixels, 3)))
    with pytest.raises(TypeError, match="read gave float64"):
        store.build(wrong, data, samples, PIXELS, data.parent / "cache")
    with pytest.raises(ValueError, match="a bug, not a bad file"):
        store.build(replace(BUSI, read=_broken), data, samples, PIXELS, data.parent / "cache")


def _broken(data, sample, pixels):
    raise ValueError("a bug, not a bad file")


UNGUARDED = {
    "store": """
import tasks
from tasks import store
from tasks.ultrasound.busi import TASK
store.PARALLEL_FROM = 2
store.build(TASK, data, TASK.scan(data), 32, data / "cache", workers=2)
""",
    "verify": """
from leaderboards.audit import verify
verify._examined([data] * (verify.ALONE + 1), 2)
""",
}


@pytest.mark.parametrize("name", UNGUARDED)
def test_a_script_without_a_main_guard_ends_with_an_error_that_says_to_add_it(data, tmp_path, name):
    """The processes that it starts import it, and so come to the same call: they must not wait for it, either."""
    script = tmp_path / "unguarded.py"
    script.write_text(f"from pathlib import Path\ndata = Path({str(data)!r})\n{UNGUARDED[name]}")
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, script]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode != 0
    last = done.stderr.splitlines()[-1]
    assert last.startswith("tasks.base.ProcessError: ")
    assert 'unguarded.py: put what this script does below a line `if __name__ == "__main__":`' in last


def test_what_asks_to_stop_is_heard_here_and_never_by_workers(tmp_path):
    """In a new process, where the first start of a worker also starts multiprocessing's resource tracker."""
    script = tmp_path / "sees.py"
    script.write_text(SEES)
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["SIGINT", "SIGUSR1", "SIGTERM"]

    def interrupted():
        with store._deaf():
            os.kill(os.getpid(), signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    signal.signal(signal.SIGINT, before)


SEES = """
import multiprocessing, signal
from tasks import store

def see(lane):
    lane.send([number.name for number in sorted(signal.pthread_sigmask(signal.SIG_BLOCK, []))])

if __name__ == "__main__":
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    with store._deaf():
        context.Process(target=see, args=(there,)).start()
    print(*here.recv())
"""
