"""hub: a local folder takes the place of a dataset's name."""

import subprocess
import sys

import numpy as np
import pytest

from tasks import sources
from tasks.base import DataError
from tasks.reading import checksums, layout
from tasks.sources import hub
from tests.helpers.corpora import opened
from tests.layouts import source_parquet


@pytest.fixture
def dataset(tmp_path):
    """A dataset of 23 images in 3 files, and their digests."""
    draws = np.random.default_rng(1)
    rows = [(f"slide-{number % 5}/{number}.jpg", source_parquet.jpeg(draws)) for number in range(23)]
    for part in range(3):
        source_parquet.shard(tmp_path / "dataset" / f"train-{part}.parquet", rows[part::3])
    source = opened("parquet", "dataset")
    return f"{tmp_path}/dataset@jpeg", sorted(sample.digest for sample in source.scan(tmp_path))


def _digests(data, location):
    return sorted(sample.digest for sample in sources.open(f"hub:{location}", "histo").scan(data))


def test_hub_copies_the_encoded_images_once(dataset, tmp_path, monkeypatch):
    import datasets

    location, digests = dataset
    assert _digests(tmp_path, location) == digests
    monkeypatch.setattr(datasets, "load_dataset", None)
    assert _digests(tmp_path, location) == digests
    groups = {sample.group for sample in sources.open(f"hub:{location}", "histo").scan(tmp_path)}
    assert groups == {f"slide-{number}" for number in range(5)}


def test_hub_copies_a_folder_of_image_files_as_they_are(tmp_path):
    draws = np.random.default_rng(2)
    for number in range(5):
        path = tmp_path / "pictures" / "train" / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(source_parquet.jpeg(draws))
    expected = checksums.hash_files(layout.list_images(tmp_path / "pictures" / "train"))
    assert _digests(tmp_path, f"{tmp_path}/pictures") == sorted(expected)


def test_hub_refuses_the_parts_of_several_machines(dataset, tmp_path):
    location, digests = dataset
    assert _digests(tmp_path, location) == digests
    (shard,) = tmp_path.glob("hub/*/*/*.parquet")
    shard.rename(shard.with_name("shard-00001-of-00002-00000.parquet"))
    with pytest.raises(DataError, match=r"shard-00001-of-00002-00000.parquet is a part of several machines' copy"):
        _digests(tmp_path, location)


def test_hub_goes_on_at_the_exact_image(dataset, tmp_path, monkeypatch):
    location, digests = dataset
    monkeypatch.setattr(hub, "ROWS", 3)
    encoded, left = hub._encoded, [0]

    def stopping(*arguments):
        left[0] -= 1
        if left[0] < 0:
            raise SystemExit
        return encoded(*arguments)

    monkeypatch.setattr(hub, "_encoded", stopping)
    for shards in (1, 2):
        left[0] = 3
        with pytest.raises(SystemExit):
            hub.materialise(location, tmp_path)
        assert len(list(tmp_path.glob("hub/*/*/*.parquet"))) == shards  # the fourth image stops it
    left[0] = len(digests) - 6  # not one image is taken twice
    assert _digests(tmp_path, location) == digests


def test_hub_ends_a_shard_by_its_bytes_too(dataset, tmp_path, monkeypatch):
    location, digests = dataset
    monkeypatch.setattr(hub, "BYTES", 5000)
    assert _digests(tmp_path, location) == digests
    sizes = [path.stat().st_size for path in tmp_path.glob("hub/*/*/*.parquet")]
    assert len(sizes) > 3
    assert max(sizes) < 15_000


def test_hub_goes_on_after_a_kill_in_the_middle_of_writing(dataset, tmp_path):
    location, digests = dataset
    code = (
        "import os, sys, pathlib, pyarrow.parquet\nfrom tasks.sources import hub\n"
        "write, hub.ROWS = pyarrow.parquet.write_table, 9\n"
        "def dying(table, path, **options):\n    write(table, path, **options)\n"
        "    if '-00001.' in path.name:\n        os.truncate(path, 100)\n        os._exit(9)\n"
        "pyarrow.parquet.write_table = dying\nhub.materialise(sys.argv[1], pathlib.Path(sys.argv[2]))\n"
    )
    command = [sys.executable, "-c", code, location, str(tmp_path)]
    assert subprocess.run(command, check=False, capture_output=True).returncode == 9
    assert sorted(path.suffix for path in tmp_path.glob("hub/*/*/*shard*")) == [".parquet", ".part"]
    assert _digests(tmp_path, location) == digests


def test_hub_stops_at_its_limit_and_keeps_what_was_asked_apart(dataset, tmp_path, monkeypatch):
    location, digests = dataset
    monkeypatch.setattr(hub, "ROWS", 3)
    seven = _digests(tmp_path, f"{location}?limit=7")
    assert len(seven) == 7 < len(digests) == len(_digests(tmp_path, location))
    assert set(seven) < set(digests)
    assert len(set(_digests(tmp_path, f"{location}?limit=9"))) == 9  # a limit that ends with a shard


def test_hub_names_columns_when_in_doubt(dataset, tmp_path):
    location, _ = dataset
    with pytest.raises(DataError, match=r"no column '' of images, found path, jpeg; say @<column>"):
        _digests(tmp_path, location.removesuffix("@jpeg"))
    with pytest.raises(DataError, match=r"no column 'image' of images, found path, jpeg"):
        _digests(tmp_path, location.replace("@jpeg", "@image"))
    with pytest.raises(DataError, match=r"column 'path' holds str, not encoded images"):
        _digests(tmp_path, location.replace("@jpeg", "@path"))


def test_hub_says_what_to_do_when_the_dataset_cannot_be_read(dataset, tmp_path, monkeypatch):
    import datasets

    location, _ = dataset
    with pytest.raises(DataError, match=r"cannot be streamed \(ValueError: Bad split: test.*check the name"):
        _digests(tmp_path, location.replace("@", ":test@"))
    with pytest.raises(DataError, match=r"hub:a/b\?limit=0 is not like hub:owner/name"):
        sources.open("hub:a/b?limit=0", "histo")

    def refuse(*_, **__):
        raise datasets.exceptions.DatasetNotFoundError("'owner/name' is a gated dataset on the Hub")

    monkeypatch.setattr(datasets, "load_dataset", refuse)
    source = sources.open("hub:owner/name", "ultrasound")
    assert (source.name, source.access.home) == ("hub-name", "https://huggingface.co/datasets/owner/name")
    with pytest.raises(DataError, match=r"hub:owner/name: cannot be streamed \(DatasetNotFoundError.*hf auth login"):
        source.scan(tmp_path)
