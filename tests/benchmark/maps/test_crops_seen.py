"""Which crops hold the structures that a label relates: by hand, by the pixels of crops, and by distance."""

import numpy as np
import pytest
import torch

from benchmark import registry, tracks
from benchmark.maps import crops_seen
from benchmark.parts import augment
from benchmark.parts.draws import Draws, tensors, text_keys

SETTINGS = registry.settings("dinov3", tracks.MICRO)


def apart(distance: float, count: int = 200) -> np.ndarray:
    """Two structures beside each other, anywhere in the image: (count, 2, 2)."""
    rng = np.random.default_rng(0)
    left = rng.uniform((0.1, 0.1), (0.9 - distance, 0.9), (count, 2))
    return np.stack([left, left + np.array([distance, 0.0])], axis=1)


def test_a_crop_holds_what_lies_in_its_box_mirrored_or_not():
    axes = np.array([[[[0.2, 0.5], [0.7, -0.5]]], [[[0.1, 0.3], [0.4, -0.3]]]])  # twice the box .2 to .7, .1 to .4
    points = np.array([[[0.3, 0.2], [0.3, 0.5], [0.8, 0.2], [0.66, 0.39]]])
    assert crops_seen.find_held(axes, points).tolist() == [[[True, False, False, True]] * 2]
    assert crops_seen.find_held(axes, points, radius=0.05).tolist() == [[[True, False, False, False]] * 2]


@pytest.mark.parametrize("modality", ["histo", "ultrasound"])
def test_a_structure_that_is_held_is_seen_in_the_pixels_of_the_crop(modality):
    """A white pixel in black images, with flips and quarter turns, but for those within a pixel of a crop's rim."""
    places = np.random.default_rng(1).integers(0, 64, (40, 2))
    images = torch.zeros(40, 64, 64, 3, dtype=torch.uint8)
    for image, (x, y) in zip(images, places, strict=True):
        image[y, x] = 255
    crops = augment.Crops(purpose="c", count=6, pixels=48, scale=(0.05, 0.32), orientations=modality, policy=None)
    drawn = crops.draw(Draws(text_keys([str(i) for i in range(40)]), text_keys(["step"]), 0, 40))
    bright = crops(images, tensors(drawn)).amax(dim=(1, 2, 3)).unflatten(0, (6, 40)).T > 0.3
    points = (places[:, None] + 0.5) / 64
    surely, perhaps = (crops_seen.find_held(drawn["c/axes"], points, radius)[..., 0] for radius in (1 / 64, -1 / 64))
    assert bright[surely].all()
    assert not bright[~perhaps].any()
    assert surely.sum() > 20
    assert (~perhaps).sum() > 20


@pytest.mark.parametrize("modality", ["histo", "ultrasound"])
def test_the_further_apart_two_structures_lie_the_fewer_crops_hold_both(modality):
    found = [crops_seen.measure_dinov3(apart(d), SETTINGS, tracks.MICRO, modality) for d in (0.0, 0.125, 0.375, 0.75)]
    for kind in ("globals", "locals"):
        shares = [share[kind] for share in found]
        assert shares == sorted(shares, reverse=True)
        assert shares[0] > shares[-1]
    assert all(share["globals"] > share["locals"] for share in found)
    assert found[-1]["locals"] == 0.0, "no local crop is wider than three quarters of the image"
    assert found[0] == crops_seen.measure_dinov3(apart(0.0), SETTINGS, tracks.MICRO, modality)
