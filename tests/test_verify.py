"""`verify`: a changed digit anywhere is found and named, whatever was changed and in whichever table."""

import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from benchmark import results
from benchmark.recipe import key, twin
from leaderboards.verify import verify
from tests.test_leaderboards import add_cell, add_run, recipe, rewrite, store, tree


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Path:
    return store(tmp_path_factory.mktemp("small") / "store", pretexts=("mae",), seeds=(0,), tasks=("local",))


@pytest.fixture
def root(small, tmp_path) -> Path:
    return Path(shutil.copytree(small, tmp_path / "store"))


def other(value: object) -> object:
    """A value of the same type that differs in one place."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, float):
        return value * (1 + 1e-9) + 1e-9
    if isinstance(value, int):
        return value + 1
    if isinstance(value, list):
        return [other(value[0]), *value[1:]]
    return "x" if value is None else f"{value}x"


HELD = [
    (table, column)
    for table in ("runs", "curves", "cells", "predictions", "fits")
    for column in results.TABLES[table].names
]


@pytest.mark.parametrize(("table", "column"), HELD, ids=[f"{t}.{c}" for t, c in HELD])
def test_a_change_in_any_column_names_file_and_column(small, tmp_path, table, column):
    """Only the directory that is changed is copied: what it lacks of its run is not looked for here."""
    source = max(results.files(small, table), key=lambda path: path.stat().st_size).parent
    copy = Path(shutil.copytree(source, tmp_path / "one"))
    path = copy / f"{table}.parquet"
    content = pq.read_table(path)
    rows = content.to_pylist()
    if rows[0][column] is None:
        rows[0][column] = {"int64": 1, "double": 1.0}[str(content.schema.field(column).type)]
    else:
        rows[0][column] = other(rows[0][column])
    pq.write_table(content.from_pylist(rows, schema=content.schema), path)
    found = [(one.file, one.what) for one in verify(tmp_path).problems]
    assert (path, f"column {column} under its seal") in found


def test_an_untouched_store_has_no_problem_and_verify_writes_nothing(root):
    before = tree(root)
    report = verify(root)
    assert report.problems == ()
    assert (report.unsealed, report.metrics, report.intervals) == (0, 8, 4)
    assert tree(root) == before


def test_several_processes_find_the_same(root, monkeypatch):
    path = results.files(root, "cells")[1]
    rewrite(path, lambda rows: rows[0].update(samples=7))
    monkeypatch.setattr("leaderboards.verify.ALONE", 1)
    assert verify(root, processes=2) == verify(root, processes=1)


def test_a_changed_seal_a_lost_table_and_a_stray_file_are_named(root):
    first, second, third = (path.parent for path in results.files(root, "cells")[:3])
    seal = json.loads((first / results.SEAL).read_text())
    seal["fits.parquet"]["sha256"] = "0" * 64
    (first / results.SEAL).write_text(json.dumps(seal))
    (second / "fits.parquet").unlink()
    (third / "notes.txt").write_text("mine")
    found = {(one.file, one.what, one.recomputed) for one in verify(root).problems}
    assert any(file == first / "fits.parquet" and what == "bytes under its seal" for file, what, _ in found)
    assert (second / "fits.parquet", "file under its seal", "missing") in found
    assert (third / "notes.txt", "file under its seal", "there") in found
    (first / results.SEAL).write_text("no seal")
    assert any("delete the directory" in one.stored for one in verify(root).problems)


def test_a_store_without_seals_is_checked_as_far_as_it_goes_and_says_so(root):
    for path in root.rglob(results.SEAL):
        path.unlink()
    report = verify(root)
    assert report.problems == ()
    assert "6 directories carry no seal" in str(report)


def test_a_leakage_verdict_that_does_not_follow_is_named(root):
    path = results.files(root, "cells")[0]
    rewrite(path, lambda rows: [row.update(leakage="unknown") for row in rows])
    problem = next(one for one in verify(root).problems if one.what.startswith("leakage of"))
    assert (problem.file, problem.stored, problem.recomputed) == (path, "unknown", "pass")


def test_provenance_is_checked(root):
    path = results.files(root, "runs")[0]
    wrong = {"commit": "yesterday", "versions": "{}", "created": "now", "images_seen": 3, "status": "done"}
    for column, value in wrong.items():
        keep = path.read_bytes()
        rewrite(path, lambda rows, c=column, v=value: rows[0].update({c: v}))
        named = {one.what for one in verify(root).problems if one.file == path}
        assert (column in named) or column == "images_seen"
        path.write_bytes(keep)


def test_a_cell_that_disagrees_with_its_run_is_named(root):
    path = results.files(root, "cells")[0]
    rewrite(path, lambda rows: [row.update(seed=5) for row in rows])
    assert (path, "seed of its run") in [(one.file, one.what) for one in verify(root).problems]


def test_all_runs_of_a_store_are_linked(tmp_path):
    made = recipe("mae", 0)
    add_run(tmp_path / "s", made)
    add_cell(tmp_path / "s", made, "local")
    found = {one.what for one in verify(tmp_path / "s").problems}
    assert f"twin {key(twin(made))}" in found
    assert "twin's local, linear, patches" in found
