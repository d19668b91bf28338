"""Features: extracted once for weights, transform and images; memory-mapped; another of the three is another file."""

from dataclasses import replace

import numpy as np
import pytest

from benchmark.encoders import encoder
from benchmark.probing import features
from benchmark.recipe import EncoderSpec
from benchmark.storage import feature_store
from tasks.store import Store

SPEC = EncoderSpec(width=16, depth=1, heads=2, patch=8, pixels=16)


@pytest.fixture
def frozen() -> encoder.Encoder:
    return encoder.Encoder(SPEC, seed=0).eval()


@pytest.fixture
def images() -> Store:
    pixels = np.random.default_rng(0).integers(0, 256, (10, 16, 16, 3), np.uint8)
    return Store("abc", tuple(f"i{n}" for n in range(10)), pixels, ())


def test_features_are_extracted_once_and_memory_mapped(tmp_path, frozen, images, monkeypatch):
    first = features.cached(tmp_path, "w" * 64, images, frozen)
    expected = features.extract(frozen, images)
    assert {name: values.shape for name, values in first.items()} == {"patches": (10, 16), "cls": (10, 16)}
    assert all(np.array_equal(first[name], expected[name]) for name in expected)
    assert all(isinstance(values, np.memmap) and not values.flags.writeable for values in first.values())
    saved = next(tmp_path.rglob("patches.npy")).read_bytes()
    np.save(tmp_path / "whole.npy", expected["patches"], allow_pickle=False)
    assert saved == (tmp_path / "whole.npy").read_bytes()
    monkeypatch.setattr(features, "blocks", lambda *_, **__: pytest.fail("extracted again"))
    assert np.array_equal(features.cached(tmp_path, "w" * 64, images, frozen)["cls"], first["cls"])
    assert not list(tmp_path.rglob("*.part"))


def test_features_are_written_block_after_block(tmp_path, frozen, images, monkeypatch):
    whole = features.extract(frozen, images)
    monkeypatch.setattr(features, "BATCH", 4)
    monkeypatch.setattr(features, "extract", lambda *_, **__: pytest.fail("held whole"))
    assert [len(block["cls"]) for block in features.blocks(frozen, images)] == [4, 4, 2]
    found = features.cached(tmp_path, "w", images, frozen)
    for name, values in whole.items():
        np.testing.assert_allclose(found[name], values, atol=1e-6)


def test_tokens_are_the_patches_that_the_mean_is_of(tmp_path, frozen, images):
    tokens = features.cached(tmp_path, "w", images, frozen, tokens=True)["tokens"]
    assert (tokens.shape, tokens.dtype) == ((10, 4, 16), np.float16)
    pooled = features.cached(tmp_path, "w", images, frozen)["patches"]
    np.testing.assert_allclose(tokens.mean(axis=1, dtype=np.float32), pooled, atol=2e-3)


def test_changed_images_of_some_rows(tmp_path, frozen, images):
    seen = []

    def darker(pixels: np.ndarray, ids: list[str]) -> np.ndarray:
        seen.extend(ids)
        return pixels // 2

    rows = np.array([7, 2])
    changed = features.cached(tmp_path, "w", images, frozen, change=features.Change("darker", darker), rows=rows)
    assert seen == ["i7", "i2"]
    dark = images._replace(pixels=images.pixels[rows] // 2, ids=("i7", "i2"))
    np.testing.assert_allclose(changed["patches"], features.extract(frozen, dark)["patches"], atol=1e-6)


def test_weights_transform_and_images_each_have_their_own_folder(tmp_path):
    made = [
        feature_store.folder(tmp_path, "a" * 64, SPEC, "store"),
        feature_store.folder(tmp_path, "b" * 64, SPEC, "store"),
        feature_store.folder(tmp_path, "a" * 64, replace(SPEC, pixels=32), "store"),
        feature_store.folder(tmp_path, "a" * 64, SPEC, "other"),
        feature_store.folder(tmp_path, "a" * 64, SPEC, "store", tokens=True),
        feature_store.folder(tmp_path, "a" * 64, SPEC, "store", change="blur 1"),
        feature_store.folder(tmp_path, "a" * 64, SPEC, "store", rows=np.array([1, 2])),
    ]
    assert len(set(made)) == len(made)
    assert feature_store.read(made[0]) is None
