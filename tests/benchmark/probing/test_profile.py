"""What a dataset's noise is measured to be, on images whose noise is known."""

import numpy as np
import pytest

from benchmark.probing import profile


def scene(rng, images: int = 40, side: int = 64) -> np.ndarray:
    """Smooth brightness (N, S, S) between a third and two thirds of the range."""
    across = np.linspace(60, 180, side)
    return np.stack([np.tile(np.roll(across, int(shift)), (side, 1)) for shift in rng.integers(0, side, images)])


def as_images(grey: np.ndarray) -> np.ndarray:
    return np.clip(grey, 0, 255).astype(np.uint8)[..., None].repeat(3, -1)


def test_additive_noise_does_not_grow_with_brightness():
    rng = np.random.default_rng(0)
    clean = scene(rng)
    found = profile.measure_noise(as_images(clean + 8 * rng.normal(size=clean.shape)))
    assert found.level == pytest.approx(8 / 255, rel=0.3)
    assert abs(found.growth) < 0.2


def test_speckle_grows_in_step_with_brightness():
    rng = np.random.default_rng(0)
    clean = scene(rng)
    found = profile.measure_noise(as_images(clean * (1 + 0.12 * rng.normal(size=clean.shape))))
    assert found.growth == pytest.approx(1, abs=0.2)


def test_a_black_or_a_flat_image_has_no_noise():
    for value in (0, 100):
        found = profile.measure_noise(np.full((3, 64, 64, 3), value, np.uint8))
        assert found == profile.Noise(level=0.0, growth=0.0)
