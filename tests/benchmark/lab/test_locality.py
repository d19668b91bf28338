"""Measured locality: near 1 where a patch decides, near 0 where the arrangement does, omitted where neither is read."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

import tasks
from benchmark.lab import locality
from benchmark.storage import results
from tasks.base import Sample
from tasks.phantoms import scenes


def images(kind: str, count: int = 160) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """uint8 images, labels and groups: noise, and a signal of some patches, of the arrangement, or none."""
    rng = np.random.default_rng(0)
    made = rng.normal(120, 20, size=(count, 64, 64, 3))
    labels, groups = np.arange(count) % 2, np.array([f"p{i // 2:03d}/{i % 2}" for i in range(count)])
    for image, label in zip(made, labels, strict=True):
        if kind == "patch":
            for row, column in 8 * rng.integers(0, 8, (16, 2)):
                image[row : row + 8, column : column + 8, 0] += 120 if label else -120
        if kind == "arrangement":
            image[:32] += 60 if label else -60
            image[32:] -= 60 if label else -60
    return made.clip(0, 255).astype(np.uint8), labels, groups


def test_a_small_field_sees_nothing_larger():
    torch.manual_seed(0)
    model = locality.Bag(8, 2, seed=0).eval()
    one = torch.rand(1, 3, 64, 64)
    tiles = one.unfold(2, 8, 8).unfold(3, 8, 8).reshape(3, 64, 8, 8)
    order = torch.randperm(64)
    moved = tiles[:, order].reshape(3, 8, 8, 8, 8).permute(0, 1, 3, 2, 4).reshape(1, 3, 64, 64)
    torch.testing.assert_close(model(one), model(moved))
    whole = locality.Bag(64, 2, seed=0).eval()
    assert not torch.allclose(whole(one), whole(moved))
    assert [p.shape for p in model.parameters()] == [p.shape for p in whole.parameters()]


def aligned(monkeypatch):
    """Windows that begin on the grid alone: between the halves of an arrangement lies an edge, which says it all."""
    monkeypatch.setattr(locality, "move", lambda images, *_: images)


def test_both_fields_see_images_moved_by_half_a_small_window_at_most():
    image = torch.rand(1, 3, 64, 64)
    assert torch.equal(locality.move(image, 4, 4), image)
    up = locality.move(image, 7, 0)  # three rows on, four columns back
    assert torch.equal(up[..., :61, 4:], image[..., 3:, :60])
    assert torch.equal(up[..., :61, 3], image[..., 3:, 1]), "mirrored, without the edge twice"
    assert locality.move(image, 0, 7).shape == image.shape


@pytest.mark.parametrize(("kind", "low", "high"), [("patch", 0.8, 1.5), ("arrangement", -0.4, 0.4)])
def test_signals_of_known_scale(kind, low, high, monkeypatch):
    aligned(monkeypatch)
    monkeypatch.setattr(locality, "FOLDS", 2)
    monkeypatch.setattr(locality.classifier, "BATCH", 32)
    found = locality.measure(*images(kind), classes=2, steps=50)
    assert found.full > 0.8
    assert low < found.value < high
    assert found.low <= found.value <= found.high
    assert (found.groups, found.samples) == (160, 160)


def test_tasks_of_a_family_are_learnt_together_and_judged_apart(monkeypatch):
    aligned(monkeypatch)
    pictures, labels, groups = images("patch", 320)
    arrangement, other, _ = images("arrangement", 320)
    both = np.concatenate([pictures, arrangement])
    truth = np.full((640, 2), -1)
    truth[:320, 0], truth[320:, 1] = labels, other
    part = locality.Part(both, truth, np.concatenate([groups, groups]))
    patch, whole = locality.measure_together(part, part, (2, 2), steps=60)
    assert patch.full > 0.8
    assert whole.full > 0.8
    assert patch.value > 0.8 > 0.4 > whole.value
    assert (patch.samples, whole.samples) == (320, 320)


def test_a_family_is_stored_task_by_task_and_once(tmp_path, monkeypatch):
    monkeypatch.setattr(scenes, "PATIENTS", {"train": 16, "val": 8, "test": 16})
    family = [card for card in map(partial(tasks.get, "histo"), tasks.names("histo")) if "relation" in card.images]
    assert len(family) == 9
    asked = (tmp_path, tmp_path / "cache", tmp_path / "results")
    assert set(locality.store_family(family, *asked, steps=2)) == {card.name for card in family}
    rows = results.read(tmp_path / "results", "locality")
    assert sorted(rows.task) == sorted(card.name for card in family)
    assert (rows.samples == 16).all()
    assert locality.store_family(family, *asked, steps=2) == {}


def test_no_signal_is_omitted_and_nothing_is_measured_twice(tmp_path, monkeypatch):
    monkeypatch.setattr(locality, "IMAGES", 100)
    asked = replace(tasks.get("histo", "phantom_global"), synthetic=False)
    monkeypatch.setattr(locality, "measure", lambda *given: locality.Measured(None, None, None, 0.5, 0.6, 50, 100))
    monkeypatch.setattr(
        locality.store, "build", lambda task, data, samples, *_: FakeStore(sorted(s.id for s in samples))
    )
    places = tmp_path, tmp_path / "cache", tmp_path / "results"
    found = locality.store_family([asked], *places)
    assert locality.describe(found["phantom_global"]).startswith("omitted: AUROC 0.500")
    assert locality.store_family([asked], *places) == {}
    row = results.read(tmp_path / "results", "locality").iloc[0]
    assert (row.modality, row.task, row.full) == ("histo", "phantom_global", 0.6)
    assert np.isnan(row.value)


class FakeStore:
    """Ids without images."""

    def __init__(self, ids: list[str]):
        self.ids, self.pixels = ids, np.zeros((len(ids), 1), dtype=np.uint8)


def test_whole_groups_are_kept():
    samples = [Sample(f"{g}/{i}", g % 2, f"p{g}", "") for g in range(3000) for i in range(2)]
    kept = locality.choose_groups(samples)
    assert len(kept) == locality.IMAGES
    assert len({sample.group for sample in kept}) == locality.IMAGES // 2
