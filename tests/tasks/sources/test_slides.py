"""slides: which tiles are cut, at which resolution."""

import numpy as np
import pytest
from PIL import Image

from tasks.base import DataError
from tasks.sources import slides
from tests.helpers.corpora import opened
from tests.layouts import source_slides


def test_slides_are_cut_where_at_least_half_is_tissue(tmp_path):
    pytest.importorskip("openslide")
    source_slides.write(tmp_path)
    source = opened("slides", tmp_path)
    samples = source.scan(tmp_path)
    assert [sample.id for sample in samples] == [
        f"{name}#000896_{y:06d}" for name in source_slides.SLIDES for y in (0, 448)
    ]
    assert {sample.group for sample in samples} == {"TCGA-AB-1234", "slide"}
    tile = source.read(tmp_path, samples[-1], 8)  # 0.25 microns a pixel, so read from the half-size level, not resized
    np.testing.assert_array_equal(tile, source_slides.picture(1)[448:896:2, 896:1344:2])


@pytest.mark.parametrize(("microns", "levels", "side"), [(0.25, 1, 448), (0.4, 2, 280), (None, 2, 224), (1.0, 2, 224)])
def test_tiles_have_the_stated_resolution(tmp_path, microns, levels, side):
    pytest.importorskip("openslide")
    picture = source_slides.picture()
    source_slides.slide(tmp_path / "one.tif", picture, microns=microns, levels=levels)
    source = opened("slides", tmp_path)
    sample = source.scan(tmp_path)[-1]
    x, y = (int(part) for part in sample.id.rpartition("#")[2].split("_"))
    assert x % side == y % side == 0
    expected = Image.fromarray(picture[y : y + side, x : x + side])
    expected = np.asarray(expected.resize((slides.TILE, slides.TILE), Image.Resampling.LANCZOS))
    np.testing.assert_array_equal(source.read(tmp_path, sample, 8), expected)


def test_slides_refuse_glass_and_what_is_no_slide(tmp_path):
    pytest.importorskip("openslide")
    source = opened("slides", tmp_path)
    source_slides.slide(tmp_path / "good.tif", source_slides.picture())
    noise = np.random.default_rng(0).integers(238, 248, (1024, 1024, 3)).astype(np.uint8)
    source_slides.slide(tmp_path / "glass.tif", noise)
    source_slides.slide(tmp_path / "small.tif", source_slides.picture()[:200, -200:], levels=1)
    with pytest.raises(DataError, match=r"2 slides without a tile of tissue: glass\.tif, small\.tif; move them out"):
        source.scan(tmp_path)
    (tmp_path / "bad.svs").write_bytes(b"not a slide")
    with pytest.raises(DataError, match=r"bad\.svs: not a slide that OpenSlide reads"):
        source.scan(tmp_path)
