"""Datasets described without code: what is found in a folder or a table, how it is divided, and what is refused."""

import csv
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
from PIL import Image

import tasks
from benchmark.cli.added_report import lines
from benchmark.study import Wanted, survey, validate
from tasks import inspect, splits, store
from tasks.add import add_dataset
from tasks.base import DataError, Fixed, Folds, NoData, identity
from tasks.duplicates import scan_grouped
from tasks.own import description
from tests.helpers.permissions import barred

ROOT = Path(__file__).parents[3]
METRICS = ("auroc", "accuracy")
PARTS = splits.PARTS
TEXTS = {
    "title": "Mine",
    "question": "Which is it?",
    "group_kind": "patient",
    "licence": "not public",
}


@pytest.fixture(autouse=True)
def described(tmp_path, monkeypatch) -> Path:
    """The folder of descriptions, alone to each test."""
    folder = tmp_path / "described"
    monkeypatch.setenv("PRETEXT_BENCH_TASKS", str(folder))
    return folder


def draw(*paths: Path) -> None:
    for number, path in enumerate(paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng([number, *os.fsencode(path)]).integers(0, 256, (9, 12, 3), np.uint8)
        Image.fromarray(pixels).save(path)


def classes(top: Path, **counts: int) -> Path:
    """A folder for each class with that many images."""
    draw(*(top / name / f"{i:03d}.png" for name, count in counts.items() for i in range(count)))
    return top


def table(top: Path, rows: list[tuple[str, ...]], columns: tuple[str, ...] = ("file", "label")) -> Path:
    path = top / "list.csv"
    top.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([columns, *rows])
    return path


def add(path: Path, name: str = "mine", modality: str = "ultrasound", **changes: object) -> tasks.Task:
    form = "folder" if path.is_dir() else "csv"
    given = TEXTS | {"metric": "auroc", "policy": "pad"} | changes
    add_dataset(
        name=name, modality=modality, form=form, path=path, metrics=METRICS, cache=path.parent / ".cache", **given
    )
    return tasks.get(modality, name)


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


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([("../out.png", "x")], r"row 2: '../out.png' leads out of the table's folder"),
        ([("in/../../out.png", "x")], "leads out of"),
        ([("/etc/out.png", "x")], "leads out of"),
        ([("0.png", "x"), ("./0.png", "y")], r"row 3: './0.png' is listed twice"),
        ([("0.png", "")], "row 2: file '0.png', label ''; both are needed"),
        ([("gone.png", "x")], r"gone.png: listed in list.csv, not there \(1 such\)"),
        ([("0.png", "x", "p1", "dev")], "split 'dev'; known: train, val, test"),
        ([("0.png", "x", "p1"), ("1.png", "y")], r"1.png: no group \(1 such images\)"),
        ([("0.png", "x", "p1", "train"), ("1.png", "y", "p2")], "1.png: no split"),
        ([], "list.csv: no images"),
        ([("0.png", "x"), ("1.png", "x")], r"1 class \(x\); a task needs two or more"),
    ],
)
def test_a_table_that_cannot_be_meant_is_refused(tmp_path, described, rows, words):
    draw(tmp_path / "out.png", tmp_path / "set" / "0.png", tmp_path / "set" / "1.png")
    with pytest.raises(DataError, match=words):
        add(table(tmp_path / "set", rows, ("file", "label", "group", "split")))
    assert not described.exists()


def test_a_published_split_that_cannot_be_is_refused(tmp_path, described):
    rows = [(f"{i}.png", "xy"[i % 2], f"p{i // 2}", "train" if i < 6 else "test") for i in range(10)]
    draw(*(tmp_path / "set" / row[0] for row in rows))
    columns = ("file", "label", "group", "split")
    leaking = [*rows[:-1], ("9.png", "y", "p0", "test")]
    with pytest.raises(DataError, match=r"'p0'.*mend the split"):
        add(table(tmp_path / "set", leaking, columns))
    with pytest.raises(DataError, match="no test part, only train"):
        add(table(tmp_path / "set", rows[:6], columns))
    assert not described.exists()


def test_a_table_without_its_columns_or_in_another_encoding_is_refused(tmp_path):
    with pytest.raises(DataError, match="no column 'label', found file, class"):
        add(table(tmp_path, [("0.png", "x")], ("file", "class")))
    (tmp_path / "list.csv").write_bytes("file,label\nä.png,x\n".encode("latin-1"))
    with pytest.raises(DataError, match="not a CSV file in UTF-8"):
        add(tmp_path / "list.csv")


def test_a_folder_that_cannot_be_meant_is_refused(tmp_path):
    top = classes(tmp_path / "set", x=5, y=5)
    draw(top / "loose.png")
    with pytest.raises(DataError, match=r"loose.png: an image beside the classes"):
        add(top)
    (top / "loose.png").unlink()
    draw(top / "x" / "p1" / "0.png")
    with pytest.raises(DataError, match=r"no group \(10 such images\)"):
        add(top)
    shutil.rmtree(top / "x" / "p1")
    (top / "z").mkdir()
    with pytest.raises(DataError, match="z: no image"):
        add(top)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty: no images"):
        add(tmp_path / "empty")


@pytest.mark.parametrize(
    ("rare", "common", "protocol"),
    [
        (3, 30, Folds(k=3, repeats=3)),
        (4, 300, Folds(k=4, repeats=3)),
        (5, 244, Folds(k=5, repeats=3)),
        (5, 245, Fixed(published=False)),
    ],
)
def test_the_protocol_follows_from_the_groups(tmp_path, rare, common, protocol):
    task = add(classes(tmp_path / "set", rare=rare, common=common))
    assert task.protocol == protocol
    for division in splits.assignments(task, task.scan(tmp_path)):
        assert min(map(len, (division.train, division.val, division.test))) > 0


def test_a_class_too_rare_to_train_choose_and_test_is_refused(tmp_path, described):
    with pytest.raises(DataError, match="class 'rare' has 2 groups; 3 are needed"):
        add(classes(tmp_path / "set", rare=2, common=9))
    assert not described.exists()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"name": "My-Task"}, "use small letters"),
        ({"name": "../evil"}, "use small letters"),
        ({"modality": "ultrasond"}, "unknown modality 'ultrasond'; did you mean 'ultrasound'"),
        ({"metric": "aurok"}, "unknown metric 'aurok'; did you mean 'auroc'"),
        ({"policy": "padd"}, "unknown policy 'padd'; did you mean 'pad'"),
        ({"title": "  "}, "title '  ': one line of text is needed"),
        ({"question": "a\nb"}, "one line of text"),
        ({"name": "busi"}, "the name 'busi' is taken by ultrasound/busi"),
        ({"name": "lc25000"}, "taken by histo/lc25000"),
    ],
)
def test_arguments_are_checked_before_anything_is_written(tmp_path, described, changes, words):
    top = classes(tmp_path / "set", x=5, y=5)
    with pytest.raises(ValueError, match=words):
        add(top, **changes)
    assert not described.exists()


def test_a_name_is_described_once(tmp_path):
    top = classes(tmp_path / "set", x=5, y=5)
    add(top)
    with pytest.raises(ValueError, match=r"ultrasound/mine is described already; delete .*mine\.json first"):
        add(top)


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


def test_the_report_says_what_was_read_and_what_was_not(tmp_path):
    rows = [(f"{i}.png", "xy"[i % 2], f"p{i // 3}", PARTS[i // 12], "40") for i in range(36)]
    draw(*(tmp_path / row[0] for row in rows), tmp_path / "unlisted.png")
    shutil.copy(tmp_path / "0.png", tmp_path / "2.png")
    Image.new("RGB", (12, 9), (9, 9, 9)).save(tmp_path / "35.png")
    path = table(tmp_path, rows, ("file", "label", "Group", "Split", "age"))
    given = TEXTS | {"metric": "auroc", "policy": "pad"}
    made = add_dataset(
        name="mine",
        modality="histo",
        form="csv",
        path=path,
        metrics=METRICS,
        cache=tmp_path / "cache",
        **given,
    )
    report = "\n".join(lines(made))
    assert "groups: 12 (patient), images in each: 3" in report
    assert "verdicts: given where there are enough groups" in report
    assert "split: as given" in report
    rows = {tuple(line.split()[:2]): line.split()[2:] for line in report.splitlines() if line.startswith("  ")}
    assert rows[("all", "x")] == ["18", "12"]
    assert all(rows[(part, label)] == ["6", "4"] for part in PARTS for label in "xy")
    assert "decoded: 36 of 36 images" in report
    assert "one colour: " + f"{tmp_path.name}/35.png" in report
    assert "copies: 1 images are there more than once, 0 of them in several groups" in report
    assert "1 column(s) not called file, label, group or split (age)" in report
    assert "1 images beside the listed ones, without a row (unlisted.png)" in report


def frames(top: Path, **clips: int) -> Path:
    """Clips of ten frames each, alike within a clip, for each class."""
    draws = np.random.default_rng(0)
    for name, count in clips.items():
        for clip in range(count):
            small = draws.integers(0, 256, (8, 8), np.uint8)
            scene = np.asarray(Image.fromarray(small).resize((96, 96), Image.Resampling.BICUBIC)).astype(int)
            (top / name).mkdir(parents=True, exist_ok=True)
            for frame in range(10):
                noisy = np.clip(scene + draws.normal(0, 4, scene.shape), 0, 255).astype(np.uint8)
                Image.fromarray(noisy).save(top / name / f"{clip}_{frame}.png")
    return top


def test_frames_of_one_clip_are_one_group_and_the_folds_are_of_clips(tmp_path, described):
    with pytest.raises(DataError, match=r"class 'a' has 1 group: its 10 images are near-duplicates.*were joined"):
        add(frames(tmp_path / "one", a=1, b=4))
    assert not described.exists()
    given = TEXTS | {"metric": "auroc", "policy": "pad", "cache": tmp_path / "cache", "metrics": METRICS}
    made = add_dataset(
        name="clips", modality="ultrasound", form="folder", path=frames(tmp_path / "four", a=4, b=5), **given
    )
    assert made.task.protocol == Folds(k=4, repeats=3)
    assert len({sample.group for sample in made.samples}) == 9
    report = "\n".join(lines(made))
    assert "90 near-duplicate images were joined into 9, 0 of these with several labels, and 9 groups remain" in report
    assert "verdicts: none, and no rank: no patient is known" in report
    divided = splits.assignments(made.task, scan_grouped(made.task, tmp_path, tmp_path / "cache"))
    assert len(divided) == 12


def test_near_duplicates_across_a_given_split_are_refused_with_the_right_reason(tmp_path, described):
    top = frames(tmp_path / "train", x=6, y=6)
    frames(tmp_path / "test", x=6, y=6)
    set_ = tmp_path / "set"
    set_.mkdir()
    top.rename(set_ / "train")
    (tmp_path / "test").rename(set_ / "test")
    with pytest.raises(DataError, match="parts of the split share 12 near-duplicate images"):
        add(set_)
    assert not described.exists()


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>", b"version https://git-lfs.github.com/spec/v1\n"])
@pytest.mark.parametrize("groups", ["", "p"])
def test_an_unreadable_image_is_refused_by_name_unless_it_may_be_skipped(tmp_path, described, content, groups):
    top = tmp_path / "set"
    draw(*(top / label / (f"p{i}" if groups else "") / f"{i}.png" for label in "xy" for i in range(5)))
    torn = next((top / "x").rglob("3.png"))
    torn.write_bytes(content)
    with pytest.raises(DataError, match=r"1 of 10 images are unreadable, such as .*3\.png.*--skip-unreadable"):
        add(top)
    assert not described.exists()
    task = add(top, skip_unreadable=True)
    assert task.protocol == Folds(k=4, repeats=3)
    assert task.expected == 10


def test_one_image_with_two_labels_is_refused(tmp_path, described):
    top = classes(tmp_path / "set", x=5, y=5)
    shutil.copy(top / "x" / "000.png", top / "y" / "000.png")
    with pytest.raises(DataError, match=r"x/000.png = set/y/000.png: one image, byte by byte, with two labels"):
        add(top)
    assert not described.exists()


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


def test_a_path_that_cannot_be_stored_is_refused(tmp_path, described):
    top = classes(tmp_path / os.fsdecode(b"caf\xe9") / "set", x=5, y=5)
    with pytest.raises(DataError, match=r"caf\\xe9/set: the path has characters that cannot be shown") as caught:
        add(top)
    str(caught.value).encode()
    assert not described.exists()


def test_a_folder_that_cannot_be_written_to_is_named_with_the_remedy(tmp_path, described):
    described.write_text("no folder")
    with pytest.raises(DataError, match=r"cannot be written .*PRETEXT_BENCH_TASKS"):
        add(classes(tmp_path / "set", x=5, y=5))


def test_a_table_is_read_beside_the_name_it_is_given_by(tmp_path):
    rows = [(f"{i}.png", "xy"[i % 2], f"p{i}") for i in range(10)]
    draw(*(tmp_path / "images" / row[0] for row in rows))
    kept = table(tmp_path / "tables", rows, ("file", "label", "group"))
    (tmp_path / "images" / "list.csv").symlink_to(kept)
    assert len(add(tmp_path / "images" / "list.csv").scan(tmp_path)) == 10


def test_files_that_may_not_be_read_are_named(tmp_path, described):
    top = tmp_path / "set"
    draw(*(top / label / f"p{i}" / "0.png" for label in "xy" for i in range(4)))
    with barred(top / "x" / "p1" / "0.png"), pytest.raises(DataError, match=r"x/p1/0\.png"):
        add(top)
    assert not described.exists()
    task = add(top)
    with barred(top / "x" / "p1" / "0.png"):
        assert list(inspect.verify(task, tmp_path).unreadable) == ["set/x/p1/0.png"]
    with barred(described / "ultrasound" / "mine.json"):
        assert "cannot be read" in str(tasks.broken("ultrasound")["mine"])
        assert "busi" in tasks.names("ultrasound")
