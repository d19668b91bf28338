"""Release files of a store's encoders."""

import csv
import shutil
import zipfile

import pytest
from safetensors.torch import load_file

from benchmark.encoders import encoder, released
from benchmark.recipe import key, twin
from benchmark.storage import seals
from leaderboards.boards.listed import read_released
from tasks.base import DataError
from tests.helpers import boards


def a_store(tmp_path):
    """One pretrained run, with weights that load, and its twin."""
    made = boards.recipe("mae", 0)
    weights = tmp_path / "encoder.safetensors"
    encoder.save(encoder.Encoder(made.encoder, seed=1), weights)
    for one in (made, twin(made)):
        boards.add_run(tmp_path / "store", one, encoder=weights)
    return made, weights


def test_every_pretrained_encoder_becomes_a_file_with_its_card(tmp_path):
    made, weights = a_store(tmp_path)
    table = released.release(tmp_path / "store", tmp_path / "out", print)
    (row,) = csv.DictReader(table.open())
    path = tmp_path / "out" / row["file"]
    assert row == {
        "file": f"{made.modality}-{made.corpus.name}-{made.track}-mae-seed0-{key(made)}.zip",
        "bytes": str(path.stat().st_size),
        "sha256": seals.sha256(path),
        "run": key(made),
        "weights_sha256": seals.sha256(weights),
    }
    assert sorted(one.name for one in (tmp_path / "out").iterdir()) == sorted([row["file"], "weights.csv"])
    with zipfile.ZipFile(path) as packed:
        packed.extractall(tmp_path / "unpacked")
    folder = tmp_path / "unpacked" / path.stem
    assert {one.name for one in folder.iterdir()} == {"README.md", "config.json", "model.safetensors", "recipe.json"}
    assert key(made) in (folder / "README.md").read_text()
    assert load_file(folder / "model.safetensors")


def test_the_same_store_gives_the_same_bytes_and_pages_read_the_table(tmp_path):
    _, weights = a_store(tmp_path)
    first = released.release(tmp_path / "store", tmp_path / "out", print)
    assert first.read_bytes() == released.release(tmp_path / "store", tmp_path / "other", print).read_bytes()
    (said,) = read_released(tmp_path / "out" / "published").items()
    assert said[0] == seals.sha256(weights)
    assert said[1].startswith(next((tmp_path / "out").glob("*.zip")).name)


def test_an_encoder_that_was_trained_again_replaces_its_file(tmp_path):
    made, _ = a_store(tmp_path)
    released.release(tmp_path / "store", tmp_path / "out", print)
    shutil.rmtree(tmp_path / "store")
    other = tmp_path / "other.safetensors"
    encoder.save(encoder.Encoder(made.encoder, seed=2), other)
    boards.add_run(tmp_path / "store", made, encoder=other)
    (row,) = csv.DictReader(released.release(tmp_path / "store", tmp_path / "out", print).open())
    assert row["weights_sha256"] == seals.sha256(other)
    assert row["sha256"] == seals.sha256(tmp_path / "out" / row["file"])
    with zipfile.ZipFile(tmp_path / "out" / row["file"]) as packed:
        assert seals.sha256(other) in packed.read(f"{row['file'].removesuffix('.zip')}/README.md").decode()


def test_a_store_without_pretrained_encoders_is_refused(tmp_path):
    with pytest.raises(DataError, match="no encoder is pretrained"):
        released.release(tmp_path / "store", tmp_path / "out", print)


def test_weights_that_are_not_those_of_the_run_are_refused(tmp_path):
    made, _ = a_store(tmp_path)
    stored = tmp_path / "store" / made.modality / "runs" / key(made) / "encoder.safetensors"
    stored.write_bytes(stored.read_bytes()[:-1] + b"\x7f")
    with pytest.raises(DataError, match="SHA-256 differs"):
        released.release(tmp_path / "store", tmp_path / "out", print)
    assert not list((tmp_path / "out").glob("*.zip"))
    assert not (tmp_path / "out" / "weights.csv").exists()
