"""Nuisances: pure, the same for every encoder, growing with their strength, and kind to what carries the label."""

import numpy as np
import pytest

from benchmark.parts import corruptions, subset

CASES = [(modality, name) for modality, suite in corruptions.SUITES.items() for name in suite]
IDS = [f"patient{i // 2}/{i}" for i in range(6)]


def images(modality: str, side: int = 48) -> np.ndarray:
    """Smooth shapes with grain: a grey fan on black, or pink tissue with violet nuclei."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:side, :side] / side
    fan = (np.abs(x - 0.5) < 0.15 + 0.35 * y) * (0.5 + 0.3 * np.sin(9 * x + 5 * y))
    if modality == "ultrasound":
        grey = fan * rng.rayleigh(0.7, (len(IDS), side, side))
        return np.repeat((grey.clip(0, 1) * 255).astype(np.uint8)[..., None], 3, axis=3)
    colours = np.where((np.sin(30 * x) * np.sin(30 * y) > 0.5)[..., None], [90, 60, 140], [220, 150, 190])
    return (colours + rng.normal(0, 6, (len(IDS), side, side, 3))).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize(("modality", "name"), CASES)
def test_a_nuisance_grows_with_its_strength_and_stays_an_image(modality, name):
    clean = images(modality)
    kept = clean.copy()
    change = [np.abs(corruptions.apply(clean, IDS, modality, name, s).astype(int) - clean).mean() for s in (1, 2, 3)]
    assert 0.2 < change[0] < change[1] < change[2] < 80
    assert np.array_equal(clean, kept)
    made = corruptions.apply(clean, IDS, modality, name, 3)
    assert (made.shape, made.dtype) == (clean.shape, np.uint8)


@pytest.mark.parametrize(("modality", "name"), CASES)
def test_an_image_is_changed_alike_in_any_company(modality, name):
    clean = images(modality)
    together = corruptions.apply(clean, IDS, modality, name, 2)
    assert np.array_equal(corruptions.apply(clean, IDS, modality, name, 2), together)
    alone = corruptions.apply(clean[3:4], IDS[3:4], modality, name, 2)
    assert np.abs(alone[0].astype(int) - together[3]).max() <= 1


@pytest.mark.parametrize("name", [name for name in corruptions.SUITES["ultrasound"] if name != "blur"])
def test_what_is_black_in_ultrasound_stays_black_and_grey_stays_grey(name):
    clean = images("ultrasound")
    made = corruptions.apply(clean, IDS, "ultrasound", name, 3)
    assert not made[clean == 0].any()
    assert np.array_equal(made[..., 0], made[..., 2])


def test_gain_and_time_gain_of_known_size():
    flat = np.full((1, 9, 9, 3), 102, np.uint8)  # level 0.4
    assert set(np.unique(corruptions.apply(flat, ["a"], "ultrasound", "gain", 2)).tolist()) <= {61, 143}  # 0.4 ± 0.16
    column = corruptions.apply(flat, ["a"], "ultrasound", "tgc", 2)[0, :, 0, 0].astype(int)
    assert {column[0], column[-1]} == {61, 143}
    assert column[4] == 102


def test_brightness_of_known_size_and_stain_leaves_white_white():
    flat = np.full((1, 8, 8, 3), 100, np.uint8)
    assert set(np.unique(corruptions.apply(flat, ["a"], "histo", "brightness", 1)).tolist()) <= {89, 113}  # exp(±0.12)
    white = np.full((1, 8, 8, 3), 255, np.uint8)
    assert np.array_equal(corruptions.apply(white, ["a"], "histo", "stain", 3), white)


def test_an_unknown_nuisance_is_named_with_what_is_known():
    with pytest.raises(ValueError, match=r"no alteration 'stain' of strength 1 for ultrasound: gain, tgc"):
        corruptions.apply(images("ultrasound"), IDS, "ultrasound", "stain", 1)


def test_the_altered_part_is_whole_groups_and_does_not_depend_on_order(monkeypatch):
    monkeypatch.setattr(subset, "LIMIT", 40)
    groups = [f"g{i // 4}" for i in range(200)]
    some = subset.subset(groups, np.arange(100, 200))
    assert len(some) == 40
    assert some.min() >= 100
    assert len({groups[i] for i in some}) == 10
    turned = subset.subset(groups[::-1], np.arange(100))
    assert {groups[::-1][i] for i in turned} == {groups[i] for i in some}


@pytest.mark.parametrize("strength", corruptions.STRENGTHS)
def test_shuffled_squares_are_the_same_squares_elsewhere(strength):
    rng = np.random.default_rng(0)
    clean, cut = rng.integers(0, 256, (3, 64, 64, 3), np.uint8), 2**strength

    def squares(image):
        side = 64 // cut
        return [image[y : y + side, x : x + side].tobytes() for y in range(0, 64, side) for x in range(0, 64, side)]

    made = corruptions.apply(clean, ["a", "b", "c"], "histo", "shuffled", strength)
    for image, moved in zip(clean, made, strict=True):
        assert sorted(squares(image)) == sorted(squares(moved))
    assert np.mean([a == b for i in range(3) for a, b in zip(squares(clean[i]), squares(made[i]), strict=True)]) < 0.5
    again = corruptions.apply(clean[1:2], ["b"], "ultrasound", "shuffled", strength)
    assert np.array_equal(again[0], made[1])  # by the image alone: the same for every encoder and modality


def test_a_low_pass_keeps_what_is_large_and_takes_what_is_small():
    x = np.arange(64)
    waves = {period: 127.5 + 120 * np.sin(2 * np.pi * (x + 0.5) / period) for period in (4, 64)}
    for period, wave in waves.items():
        image = np.repeat(np.tile(wave, (64, 1)).astype(np.uint8)[None, ..., None], 3, axis=3)
        left = [
            corruptions.apply(image, ["a"], "histo", "low-pass", strength)[0, :, 16:48].std() / image[0, :, 16:48].std()
            for strength in corruptions.STRENGTHS
        ]
        gaussian = [np.exp(-0.5 * (2 * np.pi * 2**strength / period) ** 2) for strength in corruptions.STRENGTHS]
        assert left == pytest.approx(gaussian, abs=0.06 if period == 4 else 0.2)
        assert (left[0] < 0.02) if period == 4 else (left[0] > 0.9)
