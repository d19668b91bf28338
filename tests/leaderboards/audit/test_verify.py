"""`verify`: a changed digit anywhere is found and named, whatever was changed and in whichever table."""

import json
import math
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from benchmark.recipe import key, twin
from benchmark.storage import results, seals
from leaderboards.audit.directory import Problem
from leaderboards.audit.verify import verify
from tests.helpers.boards import add_cell, add_run, recipe, rewrite, store, tree


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("small") / "store"
    made = recipe("mae", 0, settings={"ratio": 0.75, "batch": 32})
    for one in (made, twin(made)):
        add_run(root, one)
        for probe in ("linear", "knn"):
            add_cell(root, one, "local", probe=probe)
    return root


@pytest.fixture
def root(small, tmp_path) -> Path:
    return Path(shutil.copytree(small, tmp_path / "store"))


def reseal(directory: Path) -> None:
    (directory / seals.FILE).unlink()
    seals.write(directory)


def changed(column: str, table: str = "cells"):
    """Change one column of the first directory that holds the table, and seal it again: what a seal cannot see."""

    def change(root: Path, value: object) -> tuple[Path, list[Problem]]:
        path = results.files(root, table)[0]
        rewrite(path, lambda rows: [row.update({column: value(row[column])}) for row in rows])
        reseal(path.parent)
        return path, list(verify(root).problems)

    return change


# What a column follows from: a metric and its counts from predictions, a verdict from overlaps, an id from what it
# identifies, a cell's columns from its run, a run's from its recipe, or from the form that a reader can act on.
RECOMPUTED = {
    ("cells", "value"): (lambda x: x + 1e-6, "auroc"),
    ("cells", "groups"): (lambda x: x + 1, "groups"),
    ("cells", "samples"): (lambda x: x + 1, "samples"),
    ("cells", "leakage"): (lambda x: "unknown", "leakage of"),
    ("cells", "task"): (lambda x: f"{x}x", "cell id"),
    ("cells", "settings"): (lambda x: '{"folds": 2}', "cell id"),
    ("cells", "seed"): (lambda x: x + 1, "seed of its run"),
    ("cells", "twin"): (lambda x: not x, "twin"),
    ("cells", "weights_sha256"): (lambda x: "0" * 64, "weights SHA-256"),
    ("cells", "predictions_sha256"): (lambda x: "0" * 64, "SHA-256"),
    ("cells", "headline"): (lambda x: True, "headline of"),
    ("cells", "run"): (lambda x: "0" * 12, "run 000000000000"),
    ("predictions", "scores"): (lambda x: x[::-1], "SHA-256"),
    ("predictions", "cell"): (lambda x: f"{x}x", "cell "),
    ("runs", "seed"): (lambda x: x + 1, "seed of its recipe"),
    ("runs", "twin"): (lambda x: "0" * 12, "twin of its recipe"),
    ("runs", "budget_flops"): (lambda x: x + 1, "budget_flops of its recipe"),
    ("runs", "corpus_images"): (lambda x: x + 1, "corpus_images of its recipe"),
    ("runs", "recipe"): (lambda x: x.replace("0.75", "0.76"), "run of its recipe"),
    ("runs", "images_seen"): (lambda x: x + 1, "images_seen"),
    ("runs", "weights_sha256"): (lambda x: "0" * 64, "weights SHA-256"),
    ("runs", "status"): (lambda x: "done", "status"),
    ("runs", "commit"): (lambda x: "yesterday", "commit"),
    ("runs", "versions"): (lambda x: "{}", "versions"),
    ("runs", "created"): (lambda x: "now", "created"),
    ("runs", "seconds"): (lambda x: -1.0, "seconds"),
    ("runs", "realised_flops"): (lambda x: math.inf, "realised_flops"),
}


@pytest.mark.parametrize(("table", "column"), RECOMPUTED, ids=[f"{t}.{c}" for t, c in RECOMPUTED])
def test_a_change_that_is_sealed_again_is_found_by_what_it_contradicts(root, table, column):
    value, what = RECOMPUTED[table, column]
    path, problems = changed(column, table)(root, value)
    assert not any("seal" in one.what for one in problems)
    named = [one for one in problems if one.file.parent == path.parent and one.what.startswith(what)]
    assert named, [str(one) for one in problems]


HELD = {  # a column of every type, in every table: only the seal holds what follows from nothing
    ("runs", "device"): "gpu",  # a text
    ("runs", "threads"): 9,  # a whole number
    ("runs", "dirty"): True,  # a truth value
    ("runs", "peak_memory_bytes"): 1,  # where there was null
    ("curves", "value"): 1 + 1e-15,  # the last bit of a number
    ("cells", "classes"): ["without", "With"],  # a list
    ("predictions", "scores"): [1e-15, 1.0],
    ("fits", "score"): 0.9000000000000001,
}


@pytest.mark.parametrize(("table", "column"), HELD, ids=[f"{t}.{c}" for t, c in HELD])
def test_what_follows_from_nothing_is_held_by_the_seal(root, table, column):
    path = max(results.files(root, table), key=lambda path: path.stat().st_size)
    rewrite(path, lambda rows: rows[0].update({column: HELD[table, column]}))
    assert (path, f"column {column} under its seal") in [(one.file, one.what) for one in verify(root).problems]


def test_an_untouched_store_has_no_problem_and_verify_writes_nothing(root):
    before = tree(root)
    report = verify(root)
    assert report.problems == ()
    assert (report.unsealed, report.metrics, report.verdicts) == (0, 8, 4)
    assert tree(root) == before
    assert "8 metrics with their counts and 4 leakage verdicts recomputed: every number is as stored" in str(report)
    assert "stored, not recomputed, held by their seals alone: 4 validation scores of probe grids" in str(report)


def test_one_run_is_checked_without_the_others(root):
    made = recipe("mae", 0, settings={"ratio": 0.75, "batch": 32})
    other = recipe("mae", 1, settings={"ratio": 0.75, "batch": 32})
    whole = verify(root)
    for one in (other, twin(other)):
        add_run(root, one)
        add_cell(root, one, "local", probe="linear")
    path = results.run_directory(root, other.modality, key(other)) / "runs.parquet"
    rewrite(path, lambda rows: [row.update(images_seen=row["images_seen"] + 1) for row in rows])
    alone, broken = verify(root, run=key(made)), verify(root, run=key(other))
    assert (alone.problems, alone.files, alone.runs, alone.cells) == ((), whole.files, 2, 4)
    assert {problem.file for problem in broken.problems} == {path}
    assert (broken.runs, broken.cells) == (2, 2)
    assert verify(root, run="nothing").files == 0


def test_several_processes_find_the_same(root, monkeypatch):
    path = results.files(root, "cells")[1]
    rewrite(path, lambda rows: rows[0].update(samples=7))
    monkeypatch.setattr("leaderboards.audit.verify.ALONE", 1)
    assert verify(root, processes=2) == verify(root, processes=1)


def test_a_changed_seal_a_lost_table_and_a_stray_file_are_named(root):
    first, second, third = (path.parent for path in results.files(root, "cells")[:3])
    seal = json.loads((first / seals.FILE).read_text())
    seal["fits.parquet"]["sha256"] = "0" * 64
    (first / seals.FILE).write_text(json.dumps(seal))
    (second / "fits.parquet").unlink()
    (third / "notes.txt").write_text("mine")
    found = {(one.file, one.what, one.recomputed) for one in verify(root).problems}
    assert any(file == first / "fits.parquet" and what == "bytes under its seal" for file, what, _ in found)
    assert (second / "fits.parquet", "file under its seal", "missing") in found
    assert (third / "notes.txt", "file under its seal", "there") in found
    (first / seals.FILE).write_text("no seal")
    assert any("delete the directory" in one.stored for one in verify(root).problems)


def test_a_store_without_seals_is_checked_as_far_as_it_goes_and_says_so(root):
    for path in root.rglob(seals.FILE):
        path.unlink()
    report = verify(root)
    assert report.problems == ()
    assert "6 directories carry no seal" in str(report)


def test_all_runs_of_a_store_are_linked(tmp_path):
    made = recipe("mae", 0)
    add_run(tmp_path / "s", made)
    add_cell(tmp_path / "s", made, "local")
    found = {one.what for one in verify(tmp_path / "s").problems}
    assert f"twin {key(twin(made))}" in found
    assert "twin's local, linear, patches" in found


@pytest.mark.parametrize(("stored", "recomputed"), [("unknown", None), ("pass", "unknown")])
def test_nothing_passes_the_leakage_check_where_no_patient_is_known(tmp_path, stored, recomputed):
    made = recipe("mae", 0)
    for one in (made, twin(made)):
        add_run(tmp_path / "s", one)
        add_cell(tmp_path / "s", one, "local", independent=False, group_kind="image", leakage=stored)
    problems = verify(tmp_path / "s").problems
    assert {one.recomputed for one in problems} == ({recomputed} if recomputed else set())
    assert all(one.what.startswith("leakage of") for one in problems)


def test_verify_names_a_changed_value(tmp_path):
    root = store(tmp_path / "store", pretexts=("mae",), seeds=(0,))
    path = min((root / "ultrasound" / "cells").rglob("cells.parquet"))

    def change(rows):
        rows[0]["value"] += 1e-9

    before = pq.read_table(path).to_pylist()[0]
    rewrite(path, change)
    sealed, problem = verify(root).problems
    assert (sealed.file, sealed.what) == (path, "column value under its seal")
    assert (problem.file, problem.what, problem.recomputed) == (path, "auroc", repr(before["value"]))
    assert problem.stored == repr(before["value"] + 1e-9)
