"""Shards read while training: which row comes when, what is read for it, and runs through the command line."""

import os
import shutil
import signal
import time
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmark.storage import results
from benchmark.training.data import Streamed
from tasks import sources
from tasks.base import DataError, NoData
from tasks.reading import squares
from tasks.sources import parquet, stream
from tests.helpers import faults
from tests.layouts import source_parquet

SHARDS, ROWS = 6, 50  # 13 row groups of up to 4 rows in each shard


def fill(folder, seed=0):
    draws = np.random.default_rng(seed)
    for number in range(SHARDS):
        rows = [(f"s{number}/{row}.jpg", source_parquet.jpeg(draws)) for row in range(ROWS)]
        source_parquet.shard(folder / f"{number}.parquet", rows)


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    fill(folder)
    return folder


@pytest.fixture
def small(monkeypatch):
    """Windows of a few row groups."""
    monkeypatch.setattr(stream, "WINDOW", 40)
    stream._opened.cache_clear()
    yield
    stream._opened.cache_clear()


def opened(folder):
    return sources.open(f"stream:{folder}", "histo").stream(folder)


@given(
    sizes=st.lists(st.integers(0, 3000), min_size=1, max_size=60).filter(any),
    batch=st.integers(1, 96),
    window=st.integers(1, 5000),
    cuts=st.lists(st.floats(0, 1, allow_subnormal=False), max_size=4),
)
@settings(max_examples=60, deadline=None)
def test_an_epoch_holds_every_row_once_and_can_be_read_from_anywhere(sizes, batch, window, cuts):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stream, "WINDOW", window)
        order, count = stream.Order(sizes), sum(sizes)
        whole = order(3, 1, 0, count, batch)
        assert sorted(whole) == list(range(count))
        ends = sorted({0, count, *(int(cut * count) for cut in cuts)})
        parts = [order(3, 1, *pair, batch) for pair in pairwise(ends)]
        assert np.concatenate(parts).tolist() == whole.tolist()
        if count > 20:
            assert order(3, 2, 0, count, batch).tolist() != whole.tolist()
            assert order(4, 1, 0, count, batch).tolist() != whole.tolist()


def test_a_batch_mixes_row_groups_and_a_process_reads_its_share_of_them():
    order = stream.Order([100] * 400)
    groups = order(0, 0, 0, 16_384, 64) // 100
    by_batch = groups.reshape(-1, 64)
    assert np.mean([len(set(batch)) for batch in by_batch]) > 40
    everything = len(set(groups))
    for world in (2, 4, 8):
        seen = [len(set(part.ravel())) for part in np.split(by_batch, world, axis=1)]
        assert max(seen) < 1.3 * everything / world


def test_images_are_those_of_the_shards_however_they_are_taken(shards, small):
    found = opened(shards)
    assert found.count == SHARDS * ROWS
    order = found.order(0, 0, 0, found.count, 8)
    source = sources.open(f"parquet:{shards}", "histo")
    by_name = {sample.id: sample for sample in source.scan(shards)}
    images = found.take(order, 16, "crop")
    assert len(found.held) * 4 <= 2 * 40 + 4
    for name, image in zip(found.names(order), images, strict=True):
        shard, place = name.split("#")
        group, row = map(int, place.split("."))
        sample = by_name[f"s{shard.removesuffix('.parquet')}/{4 * group + row}.jpg"]
        np.testing.assert_array_equal(image, squares.to_square(source.read(shards, sample, 16), 16, "crop"))


def test_what_is_expected_is_what_is_taken(shards):
    images = Streamed(sources.open(f"stream:{shards}", "histo"), shards, 16)
    one, other = np.arange(5), np.arange(7, 3, -1)
    images.expect(one)
    np.testing.assert_array_equal(images.take(other), images.stream.take(other, 16, "crop"))
    np.testing.assert_array_equal(images.take(one), images.stream.take(one, 16, "crop"))
    mean, std = images.moments()
    assert np.abs(mean - 0.5).max() < 0.05
    assert (std > 0.1).all()


def test_each_row_group_is_read_once_in_a_window(shards, small, monkeypatch):
    found, read = opened(shards), []
    column = parquet.column
    monkeypatch.setattr(parquet, "column", lambda *place: read.append(place) or column(*place))
    for start in range(0, found.count, 10):
        found.take(found.order(0, 0, start, start + 10, 10), 8, "crop")
    assert len(read) == len(set(read)) == len(found.shard)


def test_identity_follows_the_shards(tmp_path):
    fill(tmp_path / "a")
    fill(tmp_path / "b")
    assert opened(tmp_path / "a").digest == opened(tmp_path / "b").digest
    source_parquet.shard(tmp_path / "b" / "0.parquet", [("s/1.jpg", b"x")])
    assert opened(tmp_path / "a").digest != opened(tmp_path / "b").digest


def test_what_is_wrong_is_named(tmp_path):
    with pytest.raises(NoData, match=r"nowhere: no such folder"):
        opened(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"no images in 0 files"):
        opened(tmp_path)
    source_parquet.shard(tmp_path / "0.parquet", [("a.jpg", b"broken"), ("b.jpg", b"x")])
    with pytest.raises(DataError, match=r"0\.parquet#0\.1: unreadable image \(1 bytes"):
        opened(tmp_path).take(np.array([1]), 8, "crop")
    found = opened(tmp_path)
    found.held.clear()
    source_parquet.shard(tmp_path / "0.parquet", [("a.jpg", b"other"), ("b.jpg", b"x")])
    os.utime(tmp_path / "0.parquet", (1, 1))
    with pytest.raises(DataError, match=r"0\.parquet: changed since this corpus was opened"):
        found.take(np.array([0]), 8, "crop")
    (tmp_path / "1.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(DataError, match=r"1\.parquet: unreadable Parquet file"):
        opened(tmp_path)


@pytest.fixture(scope="module")
def streamed(shards, stores, tmp_path_factory):
    folder = tmp_path_factory.mktemp("streamed")
    shutil.copytree(stores, folder / "cache" / "stores")
    faults.finish(folder, *asked(shards))
    return folder


@pytest.fixture
def part(stores, tmp_path):
    """A folder with the image stores of the task."""
    shutil.copytree(stores, tmp_path / "cache" / "stores")
    return tmp_path


def asked(shards):
    return "--corpus", f"stream:{shards}", "--pretext", "mae", "--task", "phantom_local"


def test_a_run_on_a_stream_says_that_leakage_is_unknown(shards, stores, streamed):
    run = results.read(streamed / "results", "runs").query("run != twin").iloc[0]
    assert (run.corpus, run.corpus_images) == (f"stream-{shards.name}", SHARDS * ROWS)
    assert set(results.read(streamed / "results", "cells").leakage) == {"unknown"}
    assert os.listdir(streamed / "cache" / "stores") == os.listdir(stores)  # the task's: the corpus was not stored


def test_a_killed_run_goes_on_at_the_exact_sample(shards, streamed, part):
    process = faults.start(part, *asked(shards))
    while not list((part / "cache" / "checkpoints").glob("*/step-*")):
        assert process.poll() is None, (part / "log").read_text()
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    faults.finish(part, *asked(shards))
    faults.equal(streamed / "results", part / "results")


@pytest.mark.long
def test_two_processes_train_on_the_same_sequence(shards, streamed, part):
    faults.finish(part, *asked(shards), "--gpus", "2")

    def losses(folder):
        curves = results.read(folder / "results", "curves")
        return curves[curves["name"] == "loss"].value.to_numpy()

    np.testing.assert_allclose(losses(part), losses(streamed), rtol=1e-5)
