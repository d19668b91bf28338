"""The commands `data ...`: what they print, and how they end."""

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import typer
from PIL import Image

import tasks
from benchmark.cli import data as data_commands
from benchmark.cli import data_report
from tasks import inspect
from tasks.base import DataError, Download
from tasks.ultrasound.busi import TASK as BUSI
from tests.layouts import busi

ROOT = Path(__file__).parents[3]
WHOLE = replace(BUSI, expected=busi.IMAGES, counts={"": busi.COUNTS})  # the layout's own card


@pytest.fixture
def data(tmp_path) -> Path:
    busi.write(tmp_path)
    return tmp_path


def image(data: Path, name: str) -> Path:
    return data / "Dataset_BUSI_with_GT" / name.partition(" ")[0] / f"{name}.png"


def run(*arguments: str, expect: int = 0) -> str:
    command = [sys.executable, "-m", "benchmark", "data", *arguments]
    done = subprocess.run(command, cwd=ROOT, env=os.environ, capture_output=True, text=True, check=False)
    assert done.returncode == expect, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


def test_verify_exits_with_1_only_for_what_is_broken(data, capsys):
    with pytest.raises(typer.Exit) as end:
        data_commands.verify("busi", data, 1, data / "cache")
    assert end.value.exit_code == 0
    said = capsys.readouterr().out
    assert f"partial  ultrasound/busi: {busi.IMAGES} of 780 images, {busi.GROUPS} groups" in said
    assert "stored   RGB 37, RGBA 2" in said
    image(data, "benign (6)").write_bytes(b"")
    with pytest.raises(typer.Exit) as end:
        data_commands.verify("busi", data, 1, data / "cache")
    assert end.value.exit_code == 1
    said = capsys.readouterr().out
    assert "unreadable: " in said
    assert "broken   ultrasound/busi" in said


def test_status_says_when_these_very_images_were_verified(data, capsys):
    def said() -> str:
        data_commands.status("busi", data, data / "cache")
        return capsys.readouterr().out

    assert "; not verified; licence" in said()
    with pytest.raises(typer.Exit):
        data_commands.verify("busi", data, 1, data / "cache")
    assert re.search(r"; verified 20\d\d-\d\d-\d\d; licence", capsys.readouterr().out)
    assert re.search(r"; verified 20\d\d-\d\d-\d\d; licence", said())
    Image.new("RGB", (30, 30)).save(image(data, "benign (6)"))  # another image under an old name
    assert "; not verified; licence" in said()
    image(data, "benign (6)").write_bytes(b"")
    with pytest.raises(typer.Exit):
        data_commands.verify("busi", data, 1, data / "cache")
    capsys.readouterr()
    assert "; not verified; licence" in said()


def test_of_a_missing_dataset_no_checksums_are_listed(tmp_path, capsys):
    data_report.print_verification(tasks.get("histo", "pcam"), tmp_path, 1, tmp_path / "cache")
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("missing  histo/pcam")


def test_a_passport_is_told_with_the_kind_of_group_and_the_groups_of_two_labels(data, capsys):
    data_commands.passport("busi", data, data / "results", data / "cache")
    said = capsys.readouterr().out
    assert f"ultrasound/busi: unknown; {busi.IMAGES} images, {busi.GROUPS} groups ({BUSI.group_kind})" in said
    assert f"{len(busi.NEAR)} groups of more than one image, 1 of them with two labels" in said
    assert "benign (3).png = Dataset_BUSI_with_GT/malignant/malignant (3).png" in said
    assert re.search("train and test +near +0$", said, re.MULTILINE)


def test_status_is_of_real_datasets_unless_named(data, capsys):
    data_commands.status("", data)
    said = capsys.readouterr().out
    assert "partial  ultrasound/busi" in said
    assert "missing  histo/lc25000" in said
    assert "phantom" not in said
    data_commands.status("histo/phantom_local", data)
    assert capsys.readouterr().out.startswith("found    histo/phantom_local: 1,440 images")


def test_fetch_of_a_gated_dataset_gives_numbered_steps_and_ends_with_the_status(data, capsys):
    with pytest.raises(typer.Exit) as end:
        data_commands.fetch("busi", data, data / "cache")
    assert end.value.exit_code == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.strip()[:2] for line in lines[1:4]] == ["1.", "2.", "3."]
    assert lines[-1].startswith("partial  ultrasound/busi")


def test_fetch_downloads_what_may_be_downloaded(data, capsys, monkeypatch):
    asked = []
    download = Download(url="https://example.org/busi.zip", name="busi.zip", unpack=True)
    open_task = replace(BUSI, access=replace(BUSI.access, downloads=(download,)))
    monkeypatch.setattr(data_commands, "choose_tasks", lambda text: [open_task])
    monkeypatch.setattr("tasks.obtain.fetch.fetch", lambda downloads, data, say: asked.append((downloads, data)))
    with pytest.raises(typer.Exit):
        data_commands.fetch("busi", data, data / "cache")
    assert asked == [([download], data)]
    said = capsys.readouterr().out
    assert f"decoded  {busi.IMAGES} of {busi.IMAGES} images" in said  # what was fetched is verified, too
    assert said.splitlines()[-1].startswith("partial  ultrasound/busi")


def test_an_archive_is_not_fetched_where_its_content_lies_complete(data, monkeypatch):
    asked = []
    archive, table = Download(url="", name="busi.zip", unpack=True), Download(url="", name="groups.csv")
    whole = replace(WHOLE, access=replace(BUSI.access, downloads=(archive, table)))
    monkeypatch.setattr(data_commands, "choose_tasks", lambda text: [whole])
    monkeypatch.setattr("tasks.obtain.fetch.fetch", lambda downloads, data, say: asked.append(downloads))
    for present in (True, False):
        if not present:
            image(data, "benign (1)").unlink()
        with pytest.raises(typer.Exit):
            data_commands.fetch("busi", data, data / "cache")
    assert asked == [[table], [archive, table]]


def test_files_that_are_no_part_of_the_task_are_listed_by_reason(data, capsys):
    partial = replace(BUSI, left_out=lambda data: {"linear": ["a.mp4", "b.mp4"]})
    assert not data_report.print_verification(partial, data, 1, data / "cache")
    assert "left out, linear: b.mp4" in capsys.readouterr().out
    assert "; 2 not read: 2 linear (a.mp4, b.mp4)" in data_report.describe_status(
        inspect.status(partial, data), data / "cache"
    )


def test_a_file_of_several_tasks_answers_to_its_name(capsys):
    data_commands.show("breakhis")
    said = capsys.readouterr().out
    assert said.count("BreaKHis at one magnification") == 1
    assert "histo/breakhis_100x: " in said
    assert said.count("How to obtain breakhis") == 1


def test_a_list_has_one_line_for_each_task(capsys):
    data_commands.list_tasks()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(data_commands.all_tasks()) + 1
    (line,) = (line for line in lines if line.startswith("ultrasound/busi "))
    assert "  by hand  " in line
    assert " 780 " in line
    for line, task in zip(lines[1:], data_commands.all_tasks(), strict=True):
        assert line.endswith(f"  {task.group_kind}")  # uncut: what stands for a patient is said wherever groups are


@pytest.mark.parametrize("command", [data_commands.status, data_commands.verify])
def test_a_folder_that_is_not_there_is_an_error(command):
    with pytest.raises(DataError, match="/nowhere: no such folder"):
        command("busi", Path("/nowhere"))


@pytest.mark.parametrize("text", ["", " , "])
def test_fetch_never_means_everything(text, tmp_path):
    with pytest.raises(ValueError, match="name a task"):
        data_commands.fetch(text, tmp_path)


def test_the_command_line_names_the_nearest_task_and_make_reaches_it(data):
    assert "unknown task 'bussi'; did you mean 'busi'?" in run("status", "bussi", expect=2)
    assert "partial  ultrasound/busi" in run("status", "busi", "--data", str(data))
    dry = ["make", "-n", "data", f"DATA={data}"]
    asked = subprocess.run([*dry, "TASK=busi"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "benchmark data fetch 'busi' --data" in asked
    asked = subprocess.run(dry, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "benchmark data status --data" in asked
