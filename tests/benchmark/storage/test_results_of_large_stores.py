"""Large stores: what is kept together says what the files say, whatever is added, changed, removed or broken."""

import os
import shutil

import pytest

from benchmark.storage import results, schema


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "COMPACTED_FROM", 3)
    for number in range(5):
        write(tmp_path, number)
    return tmp_path


def write(root, number, value=0.0):
    blank = dict.fromkeys(schema.TABLES["predictions"].names)
    rows = [blank | {"cell": f"r{number}", "sample": f"s{i}", "scores": [value, float(i)]} for i in range(3)]
    results.write(root / "histo" / "cells" / f"r{number}", {"predictions": schema.table("predictions", rows)})


def directly(root, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(results, "COMPACTED_FROM", 10**9)
        return results.rows(root, "predictions")


@pytest.mark.parametrize("change", ["add", "remove", "rewrite", "spoil the copy", "nothing"])
def test_it_says_what_the_files_say(root, monkeypatch, change):
    first = results.rows(root, "predictions")
    assert first.equals(directly(root, monkeypatch))
    if change == "add":
        write(root, 7)
        write(root, -1)
    elif change == "remove":
        shutil.rmtree(root / "histo" / "cells" / "r2")
    elif change == "rewrite":
        shutil.rmtree(root / "histo" / "cells" / "r2")
        write(root, 2, value=5.0)
    elif change == "spoil the copy":
        (root / results.COMPACTED / "predictions.parquet").write_bytes(b"broken")
    found = results.rows(root, "predictions")
    assert found.equals(directly(root, monkeypatch))
    assert found.equals(first) == (change in ("nothing", "spoil the copy"))
    assert results.read(root, "predictions").cell.tolist() == found["cell"].to_pylist()


def test_unchanged_files_are_not_read_again(root, monkeypatch):
    results.rows(root, "predictions")
    write(root, 9)
    read, keep = [], results.read_file
    monkeypatch.setattr(results, "read_file", lambda path: read.append(path.parent.name) or keep(path))
    results.rows(root, "predictions")
    results.rows(root, "predictions")
    assert read == ["r9"]


def test_a_broken_file_is_named_although_there_is_a_copy(root):
    results.rows(root, "predictions")
    path = root / "histo" / "cells" / "r1" / "predictions.parquet"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(schema.SchemaError, match=str(path)):
        results.rows(root, "predictions")


def test_a_store_that_may_not_be_written_to_is_read_all_the_same(root, monkeypatch):
    def refuse(*_):
        raise PermissionError("read-only")

    monkeypatch.setattr(os, "replace", refuse)
    assert len(results.rows(root, "predictions")) == 15
    assert not list((root / results.COMPACTED).glob("*"))
