"""The production line for a GPU machine, whole: every kind of piece, twice, and what is asked for wrongly."""

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmark import grid, plan
from benchmark.lab.gpu import __main__ as command
from benchmark.lab.gpu import runs
from benchmark.lab.gpu.timebox import Setup, Timebox, read_pieces
from benchmark.recipe import canonical, key, twin
from benchmark.storage import results
from benchmark.study import Wanted, survey
from tasks.phantoms import scenes
from tests.helpers.boards import rewrite

ROOT = Path(__file__).parents[2]
FEW = {"train": 24, "val": 8, "test": 12}  # patients
ABSENT = """
from importlib.machinery import PathFinder

found = PathFinder.find_spec

def find_spec(name, path=None, target=None):
    return None if name.partition(".")[0] in {blocked!r} else found(name, path, target)

PathFinder.find_spec = staticmethod(find_spec)
from tasks.phantoms import scenes
scenes.PATIENTS.update({patients!r})
"""
MAIN = ("mae", "ijepa")
DEVELOPMENT = {"pytest", "lightly", "hypothesis", "pydicom", "openslide", "submitit", "av", "choix", "pingouin"}


def setup(folder: Path) -> Setup:
    return Setup(folder / "data", folder / "out", folder / "results", folder / "cache", dry=True)


def called(*arguments: str):
    app = command.typer.Typer()
    app.command()(command.main)
    return CliRunner().invoke(app, list(arguments))


def noted(folder: Path) -> list[str]:
    return [row["piece"] for row in read_pieces(folder / "out" / "pieces.jsonl") if "result" in row]


@pytest.fixture(scope="module")
def bare(tmp_path_factory) -> dict[str, str]:
    """The environment of a machine without what only development and extras ask for, with few patients."""
    folder = tmp_path_factory.mktemp("bare")
    (folder / "sitecustomize.py").write_text(ABSENT.format(blocked=DEVELOPMENT, patients=FEW), encoding="utf-8")
    return os.environ | {"PYTHONPATH": f"{folder}{os.pathsep}{ROOT}", "TORCH_COMPILE_DISABLE": "1"}


@pytest.fixture(scope="module")
def dry(bare, tmp_path_factory) -> tuple[Path, subprocess.CompletedProcess, list[str]]:
    """(folder, what the first call said, the command): all kinds of pieces, two runs at once."""
    folder = tmp_path_factory.mktemp("dry")
    with pytest.MonkeyPatch.context() as patch:
        for split, patients in FEW.items():
            patch.setitem(scenes.PATIENTS, split, patients)
        wanted = Wanted(modalities=("histo",), track="smoke", pretexts=MAIN, seeds=1, corpus="phantom")
        made = plan.recipes(wanted, survey(wanted, "histo", folder / "data", folder / "cache"), {})
    (folder / "data").mkdir()
    (folder / "grid").write_text("".join(canonical(r) + "\n" for r in made if r.budget), encoding="utf-8")
    asked = ["--dry", "--minutes", "20", "--grid", str(folder / "grid")]
    places = [text for name in ("data", "out", "results", "cache") for text in (f"--{name}", str(folder / name))]
    line = [sys.executable, "-m", "benchmark.lab.gpu", *asked, *places]
    return folder, subprocess.run(line, cwd=ROOT, env=bare, capture_output=True, text=True, check=False), line


def test_a_dry_run_does_every_kind_of_piece(dry):
    folder, said, _ = dry
    assert said.returncode == 0, said.stdout + said.stderr
    rows = {row["piece"]: row["result"] for row in read_pieces(folder / "out" / "pieces.jsonl")}
    kinds = list(dict.fromkeys(name.split("/")[0] for name in rows))
    assert kinds == ["environment", "agreement", "no sync", "speed", "run", "ceiling"]
    assert rows["environment"]["missing"] == []
    for pretext in ("mae", "ijepa", "dinov3"):
        assert rows[f"agreement/{pretext}"]["agrees"]
        assert rows[f"no sync/{pretext}"] == {"checked": False}
        assert 0 < rows[f"speed/nano/eager/{pretext}"]["MFU"] < 1
    assert rows["speed/nano/compiled/mae"]["images/s"] > 0
    assert rows["speed/nano/graphs/mae"] == {"skipped": "CUDA graphs need a GPU"}
    assert sorted(results.read(folder / "results", "ceilings").query("headline").task) == [
        f"phantom_{latent}" for latent in ("global", "local", "regional")
    ]


def test_the_runs_of_a_grid_are_trained_side_by_side_verified_and_ready(dry):
    folder, said, _ = dry
    asked = {key(one): one for one in grid.read(folder / "grid")}
    rows = [row for row in read_pieces(folder / "out" / "pieces.jsonl") if row["piece"].startswith("run/")]
    assert {row["result"]["run"] for row in rows} == set(asked)
    stored = results.read(folder / "results", "runs").set_index("run")
    assert set(stored.index) == {*asked, *(key(twin(one)) for one in asked.values())}
    cells = results.read(folder / "results", "cells")
    assert set(cells.run) == set(stored.index)
    for row in rows:
        found, run = row["result"], stored.loc[row["result"]["run"]]
        assert (found["status"], found["at once"]) == ("finished", 2)
        assert row["kind"] == f"run/nano/{run.pretext}"
        assert 0 < run.seconds < row["seconds"]
        assert found["beside training"] == pytest.approx(row["seconds"] - stored.loc[list(asked)].seconds.max())
    ends = [text for text in said.stdout.splitlines() if "verified" in text]
    assert len(ends) == 3
    assert all(run in ends[-1] for run in asked)
    assert ("leaderboards promote" in ends[-1]) != stored.dirty.any()
    assert "image stores are rendered meanwhile, at the lowest priority" in said.stdout


def test_a_second_call_has_nothing_to_do(dry, bare):
    folder, _, line = dry
    before = (folder / "out" / "pieces.jsonl").read_bytes()
    again = subprocess.run(line, cwd=ROOT, env=bare, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "s left" not in again.stdout
    assert (folder / "out" / "pieces.jsonl").read_bytes() == before


def test_a_run_that_does_not_verify_is_not_ready(dry, tmp_path, monkeypatch):
    folder, _, _ = dry
    shutil.copytree(folder / "results", tmp_path / "results")
    for split, patients in FEW.items():
        monkeypatch.setitem(scenes.PATIENTS, split, patients)
    recipes, said = grid.read(folder / "grid"), []
    good, bad = map(key, recipes)
    path = results.run_directory(tmp_path / "results", "histo", bad) / "runs.parquet"
    rewrite(path, lambda rows: [row.update(images_seen=row["images_seen"] + 1) for row in rows])
    here = setup(tmp_path)
    (tmp_path / "data").mkdir()
    work = Timebox(here.out, 600, said.append)
    runs.train(runs.find_work(recipes, here, said.append), work)
    assert list(work.failed) == [f"run/{bad}"]
    assert "does not verify" in said[-1]
    assert "images_seen" in said[-1]
    assert noted(tmp_path) == [f"run/{good}"]


def test_recipes_whose_corpus_is_not_here_are_named_and_left_out(dry, tmp_path, monkeypatch):
    for split, patients in FEW.items():
        monkeypatch.setitem(scenes.PATIENTS, split, patients)
    good, other = grid.read(dry[0] / "grid")
    other = replace(other, corpus=replace(other.corpus, digest="f" * 12))
    here, said = setup(tmp_path), []
    here.out.mkdir()
    work = runs.find_work([good, other], here, said.append)
    assert [job.recipe for one in work.list_missing() for job in one.jobs] == [good, twin(good)]
    assert work.grid.read_text() == canonical(good) + "\n"
    assert key(other) in said[0]
    assert "left out" in said[0]


def test_without_a_gpu_it_says_so_and_ends_with_one(tmp_path):
    done = called("--out", str(tmp_path / "out"))
    assert done.exit_code == 1
    assert "torch can use no GPU here" in done.stderr
    assert not (tmp_path / "out").exists()


def test_asked_to_stop_it_says_how_to_go_on(tmp_path, monkeypatch):
    def stopped(*_) -> None:
        raise command.stopping.Stopped(15)

    monkeypatch.setattr(command, "go", stopped)
    monkeypatch.setattr(command.stopping, "listen", lambda: None)
    done = called("--dry", "--out", str(tmp_path / "out"))
    assert done.exit_code == 128 + 15
    assert "call again to go on" in done.stderr


def test_a_grid_that_is_none_is_refused_before_anything_is_done(tmp_path):
    (tmp_path / "grid").write_text('{"modality": 1}')
    done = called("--dry", "--out", str(tmp_path / "out"), "--grid", str(tmp_path / "grid"))
    assert done.exit_code == 2
    assert "grid" in done.stderr
    assert not (tmp_path / "out").exists()
