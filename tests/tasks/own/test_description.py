"""Datasets described without code: what is found in a folder or a table, how it is divided, and what is refused."""

import json
import os
import pickle
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import tasks
from benchmark.study import Wanted, survey, validate
from tasks import inspect, splits, store
from tasks.base import DataError, Fixed, Folds, NoData, identity
from tasks.own import description
from tests.helpers.own_data import add, classes, draw, table

ROOT = Path(__file__).parents[3]
PARTS = splits.PARTS


@pytest.fixture(autouse=True)
def described(tmp_path, monkeypatch) -> Path:
    """The folder of descriptions, alone to each test."""
    folder = tmp_path / "described"
    monkeypatch.setenv("PRETEXT_BENCH_TASKS", str(folder))
    return folder


def test_a_folder_for_each_class_is_a_task(tmp_path):
    task = add(classes(tmp_path / "set", malignant=6, benign=7))
    assert task.classes == ("benign", "malignant")
    samples = task.scan(tmp_path)
    assert samples == sorted(samples)
    assert samples[0][:3] == ("set/benign/000.png", 0, "set/benign/000.png")
    assert not any(str(tmp_path) in str(value) for sample in samples for value in sample)
    assert task.near
    assert task.protocol == Folds(k=5, repeats=3)
    assert (task.expected, task.counts) == (13, {"": {"benign": 7, "malignant": 6}})
    assert task.read(tmp_path, samples[0], 64).shape == (9, 12, 3)
    assert "mine" in tasks.names("ultrasound")
    assert "mine" not in tasks.names("histo")


def test_it_stays_the_same_wherever_data_is_and_when_it_moves(tmp_path):
    task = add(classes(tmp_path / "a" / "set", x=5, y=5))
    samples = task.scan(tmp_path)
    assert samples == task.scan(Path("/nowhere"))
    again = add(tmp_path / "a" / "set" / "x" / "..", name="again")
    assert again.scan(tmp_path) == samples
    shutil.move(tmp_path / "a" / "set", tmp_path / "b" / "set")
    moved = add(tmp_path / "b" / "set", name="moved")
    assert identity(moved, moved.scan(tmp_path)) == identity(task, samples)


def test_folders_in_a_class_are_groups_and_one_name_is_one_group_in_all_classes(tmp_path):
    top = tmp_path / "set"
    draw(*(top / name / f"p{p}" / f"{i}.png" for name in ("x", "y") for p in range(4) for i in range(2)))
    draw(top / "x" / "p9" / "visit 1" / "0.png", top / "x" / ".hidden.png", top / ".git" / "0.png")
    task = add(top)
    samples = task.scan(tmp_path)
    assert len(samples) == 17
    assert {sample.group for sample in samples} == {"p0", "p1", "p2", "p3", "p9"}
    assert not task.near
    assert task.protocol == Folds(k=4, repeats=3)
    assert {s.label for s in samples if s.group == "p0"} == {0, 1}


def test_a_table_gives_labels_groups_and_a_published_split(tmp_path):
    parts = {"train": range(6), "val": range(6, 8), "test": range(8, 10)}
    rows = [(f"in/{i}_{c}.png", c, f"p{i}", part) for part, held in parts.items() for i in held for c in "ba"]
    draw(*(tmp_path / "set" / row[0] for row in rows))
    task = add(table(tmp_path / "set", rows, ("file", "label", "group", "split")))
    assert task.classes == ("a", "b")
    assert (task.protocol, task.near) == (Fixed(published=True), False)
    samples = task.scan(tmp_path)
    assert samples[0][:3] == ("set/in/0_a.png", 0, "p0")
    assert task.counts["val"] == {"a": 2, "b": 2}
    (division,) = splits.assignments(task, samples)
    assert {samples[i].group for i in division.test} == {"p8", "p9"}


def test_a_table_without_groups_has_each_image_for_itself(tmp_path):
    rows = [(f"{i}.png", "xy"[i % 2], "") for i in range(10)]
    draw(*(tmp_path / "set" / row[0] for row in rows))
    task = add(table(tmp_path / "set", rows, ("file", "label", "split")))
    assert task.near
    assert {sample.group for sample in task.scan(tmp_path)} == {f"set/{i}.png" for i in range(10)}


def test_what_is_gone_is_no_data_and_what_came_is_told(tmp_path):
    top = classes(tmp_path / "set", x=5, y=5)
    task = add(top)
    (top / "x" / "000.png").unlink()
    assert inspect.status(task, tmp_path).state == "partial"
    draw(top / "x" / "000.png", top / "x" / "extra.png")
    assert inspect.status(task, tmp_path).state == "broken"
    (top / "x" / "extra.png").unlink()
    found = inspect.verify(task, tmp_path / "elsewhere")
    assert (found.status.state, found.broken, found.modes) == ("found", False, {"RGB": 10})
    assert found.status.bytes == sum(path.stat().st_size for path in top.rglob("*.png"))
    draw(top / "z" / "0.png")
    with pytest.raises(DataError, match="class 'z' is not among x, y"):
        task.scan(tmp_path)
    shutil.rmtree(top)
    with pytest.raises(NoData, match="make data TASK=mine"):
        task.scan(tmp_path)


def test_a_file_unlike_what_is_written_is_refused(tmp_path, described):
    add(classes(tmp_path / "set", x=5, y=5))
    path = described / "ultrasound" / "mine.json"
    content = json.loads(path.read_text())
    damaged = {
        "unexpected keyword": content | {"colour": "red"},
        "missing 1 required": {key: value for key, value in content.items() if key != "title"},
        "schema 2, this version reads 1": content | {"schema": 2},
        "title is 3, not a str": content | {"title": 3},
        "near is 'yes', not a bool": content | {"near": "yes"},
        "form 'zip' or policy": content | {"form": "zip"},
        "unexpected keyword argument 'fold'": content | {"protocol": {"k": 5, "fold": 3}},
        "describes ultrasound/other": content | {"name": "other"},
    }
    for words, changed in damaged.items():
        path.write_text(json.dumps(changed))
        with pytest.raises(DataError, match=words):
            tasks.get("ultrasound", "mine")
        assert "mine" not in tasks.names("ultrasound")
    path.write_bytes(b'{"title": "\xff"}')
    with pytest.raises(DataError, match="not a description of a dataset"):
        tasks.get("ultrasound", "mine")
    path.unlink()
    (described / "ultrasound" / "busi.json").write_text(json.dumps(content | {"name": "busi"}))
    assert "ultrasound/busi is a built-in task" in str(tasks.broken("ultrasound")["busi"])
    assert tasks.get("ultrasound", "busi").title != "Mine"


def test_it_can_be_stored_and_sent_to_other_processes(tmp_path):
    task = add(classes(tmp_path / "set", x=5, y=5))
    assert tasks.get("ultrasound", "mine") is task
    samples = task.scan(tmp_path)
    sent = pickle.loads(pickle.dumps(task))
    assert sent.scan(tmp_path) == samples
    np.testing.assert_array_equal(sent.read(tmp_path, samples[0], 8), task.read(tmp_path, samples[0], 8))
    built = store.build(task, tmp_path, samples, 16, tmp_path / "cache", workers=1)
    assert built.pixels.shape == (10, 16, 16, 3)


def test_descriptions_are_kept_where_the_user_may_write(tmp_path, monkeypatch):
    assert description.read_all("ultrasound") == ({}, {})
    monkeypatch.setenv("PRETEXT_BENCH_TASKS", "~/mine")
    assert description.folder() == Path.home() / "mine"
    monkeypatch.delenv("PRETEXT_BENCH_TASKS")
    assert description.folder() == ROOT / "tasks" / "added"
    installed = tmp_path / "site-packages" / "tasks" / "added.py"
    monkeypatch.setattr(description, "__file__", str(installed))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "settings"))
    assert not description.folder().is_relative_to(tmp_path / "site-packages")
    assert description.folder().parts[-2:] == ("pretext-bench", "tasks")


def benchmark(*arguments: str, expect: int = 0) -> str:
    command = [sys.executable, "-m", "benchmark", *arguments]
    done = subprocess.run(command, cwd=ROOT, env=os.environ, capture_output=True, text=True, check=False)
    assert done.returncode == expect, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_the_command_line_describes_a_dataset_and_finds_it(tmp_path):
    top = classes(tmp_path / "set", x=5, y=5)
    texts = ["--title", "Mine", "--question", "x or y?", "--group-kind", "image", "--licence", "not public"]
    arguments = ["data", "add", "mine", "--modality", "ultrasound", *texts, "--metric", "auroc", "--policy", "pad"]
    arguments += ["--cache", str(tmp_path / "cache")]
    assert "give either --folder or --csv" in benchmark(*arguments, expect=2)
    report = benchmark(*arguments, "--folder", str(top))
    assert "mine.json" in report
    assert "found    ultrasound/mine: 10 images, 10 groups (near-duplicate cluster (no patient is known))" in report
    assert "x or y?" in benchmark("data", "show", "mine")


@pytest.mark.parametrize("part", PARTS)
def test_a_part_that_lost_a_class_is_broken_when_it_is_scanned(tmp_path, part):
    parts = {"train": range(6), "val": range(6, 8), "test": range(8, 10)}
    rows = [(f"{i}_{c}.png", c, f"p{i}", part) for part, held in parts.items() for i in held for c in "ba"]
    draw(*(tmp_path / row[0] for row in rows))
    task = add(table(tmp_path, rows, ("file", "label", "group", "split")))
    table(tmp_path, [row for row in rows if row[1::2] != ("a", part)], ("file", "label", "group", "split"))
    found = inspect.status(task, tmp_path)
    assert found.state == "broken"
    assert f"no image of class 'a' in the {part} part" in found.reason
    with pytest.raises(DataError, match="no image of class 'a'"):
        task.scan(tmp_path)


@pytest.mark.parametrize(
    ("kind", "independent"),
    [
        *((kind, True) for kind in ("patient", "Patients", "slide", "case", "subject id", "animal", "WSI", "biopsy")),
        *((kind, True) for kind in ("patient (by name)", "patient or slide", "whole-slide image")),
        *(
            (kind, False)
            for kind in ("image", "video", "tile", "cluster", "frame", "patient or image", "lesion", "eye")
        ),
        ("near-duplicate cluster (no patient ids exist)", False),
        ("image of a patient", False),
    ],
)
def test_groups_are_independent_where_they_are_patients_or_slides(kind, independent):
    assert description.is_independent(kind) == independent


def test_without_groups_no_patient_is_claimed(tmp_path):
    task = add(classes(tmp_path / "set", x=5, y=5), group_kind="patient")
    assert not task.independent
    assert task.group_kind == description.NEAR_KIND
    draw(*(tmp_path / "grouped" / label / f"p{i}" / "0.png" for label in "xy" for i in range(4)))
    assert add(tmp_path / "grouped", name="grouped").independent
    assert not add(tmp_path / "grouped", name="clips", group_kind="clip").independent


def test_a_broken_description_stops_no_command_but_its_own(tmp_path, described):
    add(classes(tmp_path / "set", x=5, y=5))
    (described / "ultrasound" / "torn.json").write_text("{")
    (described / "ultrasound" / "._mine.json").write_bytes(b"\0\x05\x16\x07")  # a Mac's companion file
    (described / "histo").mkdir()
    (described / "histo" / os.fsdecode(b"caf\xe9.json")).write_text("{}")
    report = benchmark("data", "status", "--data", str(tmp_path))
    assert "found    ultrasound/mine" in report
    assert "broken   ultrasound/torn: " in report
    assert "broken   histo/caf\\xe9: " in report
    assert "ultrasound/mine" in benchmark("data", "list")
    checked = benchmark("doctor", "--data", str(tmp_path), expect=1)
    assert "data ultrasound/mine" in checked
    assert "fail  data ultrasound/torn: " in checked
    assert "torn.json: not a description of a dataset" in benchmark("data", "status", "torn", expect=2)
    wanted = Wanted(modalities=("ultrasound",), track="smoke", pretexts=("mae",))
    study = survey(wanted, "ultrasound", tmp_path, tmp_path / "cache")
    assert "torn.json: not a description" in study.absent["torn"]
    with pytest.raises(DataError, match=r"torn\.json: not a description"):
        validate(replace(wanted, tasks=("torn",)))


def test_a_described_dataset_that_broke_stops_no_command(tmp_path):
    top = classes(tmp_path / "set", x=5, y=5)
    add(top)
    other = classes(tmp_path / "other", x=5, y=5)
    add(other, name="other")
    (top / "x" / "000.png").rename(top / "x" / os.fsdecode(b"caf\xe9.png"))
    report = benchmark("data", "status", "--data", str(tmp_path))
    assert "broken   ultrasound/mine: " in report
    assert "caf\\xe9.png: its name is not UTF-8" in report
    assert "found    ultrasound/other" in report
    assert "fail  data ultrasound/mine: " in benchmark("doctor", "--data", str(tmp_path), expect=1)
    places = ["--data", str(tmp_path), "--cache", str(tmp_path / "cache"), "--results", str(tmp_path / "results")]
    report = benchmark("data", "passport", *places, expect=1)
    assert "broken   ultrasound/mine: " in report
    assert "\nultrasound/other: " in report
    wanted = Wanted(modalities=("ultrasound",), track="smoke", pretexts=("mae",), corpus="phantom")
    study = survey(wanted, "ultrasound", tmp_path, tmp_path / "cache")
    assert "its name is not UTF-8" in study.absent["mine"]
    assert "phantom_local" in study.tasks
