"""Datasets described without code: what is found in a folder or a table, how it is divided, and what is refused."""

import csv
import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import tasks
from tasks import added, describe, inspect, splits, store
from tasks.base import DataError, Fixed, Folds, NoData, identity

ROOT = Path(__file__).parent.parent
METRICS = ("auroc", "accuracy")
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
        pixels = np.random.default_rng([number, *str(path).encode()]).integers(0, 256, (9, 12, 3), np.uint8)
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


def add(path: Path, name: str = "mine", modality: str = "ultrasound", **changes: str) -> tasks.Task:
    form = "folder" if path.is_dir() else "csv"
    given = TEXTS | {"metric": "auroc", "policy": "pad"} | changes
    describe.add(
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


def test_without_a_folder_of_descriptions_nothing_is_added(monkeypatch):
    assert added.found("ultrasound") == ({}, {})
    monkeypatch.delenv("PRETEXT_BENCH_TASKS")
    assert added.folder() == ROOT / "tasks" / "added"


def test_the_command_line_describes_a_dataset_and_finds_it(tmp_path):
    top = classes(tmp_path / "set", x=5, y=5)

    def run(*arguments: str, expect: int = 0) -> str:
        command = [sys.executable, "-m", "benchmark", "data", *arguments]
        done = subprocess.run(command, cwd=ROOT, env=os.environ, capture_output=True, text=True, check=False)
        assert done.returncode == expect, done.stdout + done.stderr
        return done.stdout + done.stderr

    texts = ["--title", "Mine", "--question", "x or y?", "--group-kind", "image", "--licence", "not public"]
    arguments = ["add", "mine", "--modality", "ultrasound", *texts, "--metric", "auroc", "--policy", "pad"]
    assert "give either --folder or --csv" in run(*arguments, expect=2)
    said = run(*arguments, "--folder", str(top))
    assert "mine.json" in said
    assert "found    ultrasound/mine: 10 images, 10 groups (near-duplicate cluster (no patient is known))" in said
    assert "x or y?" in run("show", "mine")
