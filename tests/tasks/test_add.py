"""`data add`: what is read, how it is divided, and what is refused before anything is written."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import tasks
from benchmark.cli.added_report import describe_added
from tasks import inspect, splits
from tasks.add import add_dataset
from tasks.base import DataError, Fixed, Folds
from tasks.duplicates import scan_grouped
from tests.helpers.own_data import METRICS, TEXTS, add, classes, draw, table
from tests.helpers.permissions import barred

PARTS = splits.PARTS


@pytest.fixture(autouse=True)
def described(tmp_path, monkeypatch) -> Path:
    """The folder of descriptions, alone to each test."""
    folder = tmp_path / "described"
    monkeypatch.setenv("PRETEXT_BENCH_TASKS", str(folder))
    return folder


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
    report = "\n".join(describe_added(made))
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
    report = "\n".join(describe_added(made))
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
