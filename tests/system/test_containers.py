"""What can be said of the container files without an engine: they build alike, and their command works anywhere."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCKER, APPTAINER = (ROOT / "Dockerfile").read_text(), (ROOT / "apptainer.def").read_text()


def sections() -> dict[str, str]:
    """{name: text} of the Apptainer definition."""
    pieces = re.split(r"^%(\w+)$", APPTAINER, flags=re.MULTILINE)
    return dict(zip(pieces[1::2], pieces[2::2], strict=True))


def test_both_start_from_the_same_image_and_install_by_the_makefile():
    assert (
        re.search(r"^FROM (\S+)$", DOCKER, re.MULTILINE)[1] == re.search(r"^From: (\S+)$", APPTAINER, re.MULTILINE)[1]
    )
    for text in (DOCKER, sections()["post"]):
        assert "make setup" in text
    assert "--constraint constraints.txt" in DOCKER


@pytest.mark.parametrize("name", ["post", "environment", "runscript", "test"])
def test_sections_are_shell(name):
    done = subprocess.run(["sh", "-n"], input=sections()[name], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_nothing_of_this_machine_enters_the_image():
    ignored = (ROOT / ".dockerignore").read_text().split()
    listed = [line.strip("/") for line in (ROOT / ".gitignore").read_text().split()]
    assert {line.removeprefix("**/") for line in ignored} >= set(listed)


@pytest.mark.skipif(not shutil.which("hadolint"), reason="hadolint is not here")
def test_hadolint_finds_nothing():
    done = subprocess.run(["hadolint", ROOT / "Dockerfile"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def commands() -> list[list[str]]:
    """The entry points of both, with this checkout in the place of the image's."""
    docker = re.search(r"^ENTRYPOINT \[(.*)\]$", DOCKER, re.MULTILINE)[1]
    apptainer = re.search(r'exec (.*) "\$@"', sections()["runscript"])[1]
    both = [[word.strip('"') for word in docker.split(", ")], shlex.split(apptainer)]
    python = "PY=/opt/pretext-bench/.venv/bin/python"
    return [
        [word.replace(python, f"PY={sys.executable}").replace("/opt/pretext-bench", str(ROOT)) for word in words]
        for words in both
    ]


@pytest.mark.parametrize("words", commands())
def test_the_command_works_in_a_foreign_folder(tmp_path, words):
    (tmp_path / "leaderboards").mkdir()
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [*words, "plan", "MODALITY=histo", "TRACK=smoke"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "3 runs to pretrain" in done.stdout
