"""The scanned area of an ultrasound image is kept, and what surrounds it is not."""

import numpy as np
from PIL import Image, ImageDraw

from tasks.reading import sector, squares


def _sector(text: bool = True) -> np.ndarray:
    drawn = Image.new("RGB", (400, 300))
    pen = ImageDraw.Draw(drawn)
    pen.pieslice((80, -120, 320, 280), 50, 130, fill=(120, 120, 120))
    if text:
        pen.text((4, 4), "GAIN 52 dB", fill=(255, 255, 255))
        pen.line((390, 10, 390, 290), fill=(255, 255, 255))
    image = np.asarray(drawn).copy()
    image[image.any(axis=2) & (image[..., 0] == 120)] += np.random.default_rng(0).integers(
        0, 60, (int((image[..., 0] == 120).sum()), 1), np.uint8
    )
    return image


def test_a_sector_is_cut_out_and_text_beside_it_is_gone():
    whole, bare = _sector(), _sector(text=False)
    cut = sector.cut(whole)
    rows, columns = np.flatnonzero(bare.any(axis=(1, 2))), np.flatnonzero(bare.any(axis=(0, 2)))
    assert abs(cut.shape[0] - (rows[-1] - rows[0])) < 12
    assert abs(cut.shape[1] - (columns[-1] - columns[0])) < 12
    assert 255 not in cut
    kept = (cut.any(axis=2)).sum() / bare.any(axis=2).sum()
    assert kept > 0.97
    assert not cut[-1, 0].any()  # outside of the arc


def test_a_rectangular_scan_loses_its_black_border_alone():
    image = np.zeros((200, 300, 3), np.uint8)
    inner = np.random.default_rng(0).integers(40, 200, (150, 260, 3), np.uint8)
    image[20:170, 30:290] = inner
    cut = sector.cut(image)
    assert cut.min() >= 40
    assert all(0 <= whole - kept <= 4 for whole, kept in zip(inner.shape[:2], cut.shape[:2], strict=True))


def test_an_image_without_a_scanned_area_stays_whole():
    for image in (np.zeros((50, 60, 3), np.uint8), np.eye(64, dtype=np.uint8)[..., None].repeat(3, axis=2) * 255):
        np.testing.assert_array_equal(sector.cut(image), image)


def test_the_policy_is_another_store_and_another_picture():
    image = _sector()
    padded, sector = (squares.to_square(image, 64, policy) for policy in ("pad", "sector"))
    assert sector.shape == padded.shape
    assert sector.any(axis=2).sum() > 1.2 * padded.any(axis=2).sum()
    assert squares.POLICIES["sector"] != squares.POLICIES["pad"]
