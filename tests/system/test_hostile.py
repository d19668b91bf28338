"""Input made to harm: refused by name, within bounded time and memory. Archives are in test_fetch, pages in test_site,
pickles and random damage in test_fuzz."""

import json
import re
import struct
import time
import zlib

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import tasks
from benchmark.lab.goldens import short
from benchmark.recipe import canonical, from_json, key
from benchmark.storage import results, schema
from leaderboards.export.board_tables import inert
from tasks import store
from tasks.base import DataError
from tasks.histo.pcam import TASK as PCAM
from tasks.own import images
from tasks.reading import decoding, tables
from tasks.ultrasound import gbcu
from tasks.ultrasound.fatty_liver import TASK as FATTY_LIVER
from tasks.ultrasound.tn5000 import TASK as TN5000
from tests.layouts import fatty_liver, pcam, tn5000


def soon(work, seconds: float = 10.0):
    began = time.monotonic()
    with pytest.raises(DataError) as caught:
        work()
    assert time.monotonic() - began < seconds
    return str(caught.value)


def png(width: int, height: int) -> bytes:
    """A PNG that says it is that large, with one row of black in it."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(3 * width + 1))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def test_an_image_bomb_is_refused_before_it_is_decoded(tmp_path):
    path = tmp_path / "bomb.png"
    path.write_bytes(png(100_000, 100_000))
    assert "bomb.png: unreadable image" in (said := soon(lambda: decoding.decode(path)))
    assert "100000 x 100000 pixels" in said


@pytest.mark.parametrize(
    "bomb",
    [
        '<!DOCTYPE a [<!ENTITY x0 "x">'
        + "".join(f'<!ENTITY x{i} "{f"&x{i - 1};" * 10}">' for i in range(1, 12))
        + "]><annotation>&x11;</annotation>",
        '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><annotation><object><name>&x;</name></object></annotation>',
        "<a>" * 200_000,
    ],
    ids=["billion laughs", "external entity", "deep"],
)
def test_an_xml_bomb_in_an_annotation_is_refused(tmp_path, bomb):
    tn5000.write(tmp_path)
    path = next(tmp_path.rglob("Annotations")) / "000003.xml"
    path.write_text(bomb)
    assert f"{path}: unreadable annotation" in soon(lambda: TN5000.scan(tmp_path))


def test_a_table_of_a_million_columns_is_refused_in_a_line(tmp_path):
    path = tmp_path / "groups.csv"
    path.write_text(",".join(map(str, range(1_000_000))) + "\n" + "1," * 1_000_000)
    assert len(said := soon(lambda: tables.read_csv(path, "file"))) < 500
    assert "no column 'file'" in said
    path.write_text("file\n" + '"' + "x" * 200_000)
    assert "not a CSV file" in soon(lambda: tables.read_csv(path, "file"))


def test_text_that_a_spreadsheet_takes_for_a_formula_is_made_inert():
    texts = ["=HYPERLINK(1)", "+1", "-1", "@x", "\t=1", "MAE", ""]
    assert [inert(text) for text in texts] == ["'=HYPERLINK(1)", "'+1", "'-1", "'@x", "'\t=1", "MAE", ""]
    assert inert(-0.5) == -0.5


def test_garbage_that_calls_itself_mat_or_hdf5_is_named(tmp_path):
    draws = np.random.default_rng(0)
    fatty_liver.write(tmp_path)
    path = tmp_path / fatty_liver.FILE
    for content in (draws.bytes(10_000), b"MATLAB 5.0 MAT-file" + bytes(109) + b"\x00\x01IM" + draws.bytes(500), b""):
        path.write_bytes(content)
        assert str(path) in soon(lambda: FATTY_LIVER.scan(tmp_path))
    pcam.write(tmp_path / "pcam")
    path = next((tmp_path / "pcam").rglob("*train_x*.h5"))
    path.write_bytes(draws.bytes(10_000))
    assert path.name in soon(lambda: PCAM.scan(tmp_path / "pcam"))
    with h5py.File(path, "w") as file:
        file["x"] = h5py.ExternalLink("/etc/passwd", "x")
    assert path.name in soon(lambda: PCAM.scan(tmp_path / "pcam"))


@pytest.mark.parametrize("name", ["../../etc", "a/b", "..", "phantom_local/../../x", "", "a\x00b"])
def test_a_task_name_is_a_name_and_no_path(name):
    with pytest.raises((ValueError, DataError), match=f"unknown histo task {re.escape(repr(name))}"):
        tasks.get("histo", name)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_a_recipe_holds_no_number_that_is_none(number):
    raw = json.loads(canonical(short("mae")))
    text = json.dumps(raw | {"budget": "HERE"}).replace('"HERE"', number)
    with pytest.raises(ValueError, match="not a recipe that this code knows"):
        from_json(text)
    assert key(from_json(canonical(short("mae")))) == key(short("mae"))


def test_a_file_that_changes_between_scan_and_store_is_named(tmp_path):
    """What was scanned is what is stored: a file that is another by then, or gone, is no silent other number."""
    from tasks.ultrasound.busi import TASK as BUSI
    from tests.layouts import busi

    busi.write(tmp_path / "data")
    samples = BUSI.scan(tmp_path / "data")
    changed = tmp_path / "data" / samples[0].id
    content = changed.read_bytes()
    for damage in (changed.unlink, lambda: changed.write_bytes(content[:-40])):
        damage()
        with pytest.raises(DataError, match=changed.name.replace("(", r"\(").replace(")", r"\)")):
            store.build(BUSI, tmp_path / "data", samples, 16, tmp_path / "cache")


def test_json_that_is_too_deep_a_name_that_is_too_long_and_a_column_that_is_no_text_are_named(tmp_path):
    (tmp_path / "bbox_annot.json").write_text("[" * 100_000)
    assert "bbox_annot.json: not the authors' boxes (RecursionError" in soon(
        lambda: gbcu._boxes(tmp_path / "bbox_annot.json", 0)
    )
    (tmp_path / "table.csv").write_text("file,label\n" + "9" * 5000 + ",a\n")
    assert "listed in table.csv, not there" in soon(lambda: images.of_table(tmp_path / "table.csv"))
    path = tmp_path / "cells.parquet"
    pq.write_table(pa.table({"strange": [1]}), path)
    path.write_bytes(path.read_bytes().replace(b"strange", b"\xb2trange"))
    with pytest.raises(schema.SchemaError, match=r"cells\.parquet: not a readable Parquet file"):
        results.read_file(path)
