"""parquet: a folder of shards, its groups, and what is refused."""

import os

import pytest

from tasks.base import DataError, Sample
from tasks.sources import parquet
from tests.helpers.corpora import first_file, opened
from tests.layouts import source_parquet


def test_shards_in_folders_below_are_said(tmp_path):
    source_parquet.write(tmp_path / "set")
    shard = first_file(tmp_path / "set")
    shard.rename(shard.with_suffix(".PARQUET"))
    images = len(opened("parquet", tmp_path / "set").scan(tmp_path))
    source_parquet.write(tmp_path / "set" / "below")
    source = opened("parquet", tmp_path / "set")
    assert len(source.scan(tmp_path)) == images
    assert "below/" + shard.name in source.left_out(tmp_path)["in folders below"]


def test_parquet_groups_by_patient_else_slide_else_image(tmp_path):
    source_parquet.write(tmp_path)
    source = opened("parquet", tmp_path)
    samples = source.scan(tmp_path)
    assert len(samples) == len(source_parquet.SLIDES) * source_parquet.TILES
    assert {sample.group for sample in samples} == source_parquet.GROUPS
    source_parquet.shard(tmp_path / "flat.parquet", [("one.jpg", b"x"), ("TCGA-AB-9999-01A_0_0.jpg", b"x")])
    assert {sample.group for sample in source.scan(tmp_path)} - source_parquet.GROUPS == {"one.jpg", "TCGA-AB-9999"}


def test_parquet_takes_the_shards_of_one_folder_only(tmp_path):
    source_parquet.write(tmp_path)
    before = opened("parquet", tmp_path).scan(tmp_path)
    source_parquet.shard(tmp_path / "probes" / "test.parquet", [("benchmark.jpg", b"x")])
    (tmp_path / ".shard-00002.parquet").write_bytes(b"half")
    os.utime(tmp_path)
    assert opened("parquet", tmp_path).scan(tmp_path) == before


def test_parquet_reads_one_row_group_at_a_time(tmp_path, monkeypatch):
    source_parquet.write(tmp_path)
    source = opened("parquet", tmp_path)
    kept = []
    rows = parquet._rows.__wrapped__
    monkeypatch.setattr(parquet, "_rows", lambda *place: kept.append(len(rows(*place))) or rows(*place))
    samples = source.scan(tmp_path)
    assert kept == [4, 2, 4, 2]
    kept.clear()
    source.read(tmp_path, samples[-1], 8)
    assert kept in ([4], [2])


def test_parquet_refuses_doubled_paths_missing_columns_and_broken_files(tmp_path):
    rows = [("a/1.jpg", b"1"), ("a/2.jpg", b"2")]
    source = opened("parquet", tmp_path)
    source_parquet.shard(tmp_path / "0.parquet", rows)
    source_parquet.shard(tmp_path / "1.parquet", rows[1:])
    with pytest.raises(DataError, match=r"1\.parquet: 'a/2\.jpg' is also in 0\.parquet; give every row its own path"):
        source.scan(tmp_path)
    source_parquet.shard(tmp_path / "1.parquet", [("b", b"")])
    with pytest.raises(DataError, match=r"1\.parquet: no jpeg in row 0 of row group 0"):
        source.scan(tmp_path)
    source_parquet.shard(tmp_path / "1.parquet", [("b", b"3")], columns=("path", "image"))
    with pytest.raises(DataError, match=r"1\.parquet: no column 'jpeg' of type binary, found .*image"):
        source.scan(tmp_path)
    whole = (tmp_path / "0.parquet").read_bytes()
    (tmp_path / "1.parquet").write_bytes(whole[:-9])
    with pytest.raises(DataError, match=r"1\.parquet: unreadable Parquet file \(.*fetch it again"):
        source.scan(tmp_path)


def test_parquet_notices_other_shards_and_broken_images(tmp_path):
    source_parquet.write(tmp_path)
    source = opened("parquet", tmp_path)
    samples = source.scan(tmp_path)
    shard = tmp_path / "shard-00000.parquet"
    source_parquet.shard(tmp_path / "new", [(samples[0].id, b"not a picture")])
    (tmp_path / "new").replace(shard)
    with pytest.raises(DataError, match=r"shard-00000\.parquet: .* is not as it was scanned; run again"):
        source.read(tmp_path, samples[0], 8)
    broken = next(sample for sample in source.scan(tmp_path) if sample.id == samples[0].id)
    with pytest.raises(DataError, match=r"shard-00000\.parquet.*jpg: unreadable image \(13 bytes"):
        source.read(tmp_path, broken, 8)
    with pytest.raises(DataError, match="'gone' is not as it was scanned"):
        source.read(tmp_path, Sample("gone", -1, "gone", samples[0].digest, "train"), 8)
