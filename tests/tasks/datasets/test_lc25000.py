"""LC25000: two tables of source tiles, copies on one side, and what it refuses."""

import shutil

import pytest

from tasks.base import DataError
from tasks.histo.lc25000 import TASK as LC25000
from tests.layouts import lc25000


def test_lc25000_groups_by_tile_from_either_table_alike(tmp_path):
    lc25000.write(tmp_path)
    samples = LC25000.scan(tmp_path)
    assert len(samples) == lc25000.IMAGES
    assert len({sample.group for sample in samples}) == lc25000.GROUPS
    assert samples[0].id == "lung_colon_image_set/colon_image_sets/colon_aca/colonca1.jpeg"
    (tmp_path / "lc25000_image_groups.csv").unlink()
    assert LC25000.scan(tmp_path) == samples


def test_lc25000_refuses_without_tiles_and_with_wrong_names(tmp_path):
    lc25000.write(tmp_path)
    folder = tmp_path / "lung_colon_image_set" / "colon_image_sets" / "colon_aca"
    (tmp_path / "groups.csv").unlink()
    shutil.copy(folder / "colonca1.jpeg", folder / "colonca5000.jpeg")
    with pytest.raises(DataError, match=r"lc25000_image_groups.csv: no group for 'colonca5000'"):
        LC25000.scan(tmp_path)
    (tmp_path / "lc25000_image_groups.csv").unlink()
    with pytest.raises(DataError, match=r"no source tiles.*leaks: put https://github.com/GeorgeBatch/LC25000-clean"):
        LC25000.scan(tmp_path)
    (folder / "colonca1.jpeg").rename(folder / "colonaca1.jpeg")
    with pytest.raises(DataError, match=r"colonaca1\.jpeg: the name is not like 'colonca1.jpeg'"):
        LC25000.scan(tmp_path)
