"""Runs side by side, of a grid, or of several processes give the numbers of runs one after the other."""

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from benchmark.storage import results
from tests.helpers import faults
from tests.system.test_end_to_end import ask, run
from tests.system.test_slurm import same

ROOT = Path(__file__).parents[2]


def test_packed_runs_equal_runs_in_turn(tmp_path, stores):
    asked = ["--track", "smoke", "--modality", "histo", "--task", "phantom_local", "--pretext", "mae,ijepa"]
    asked += ["--seeds", "1", "--threads", "1", "--cache", str(tmp_path / "cache")]
    shutil.copytree(stores, tmp_path / "cache" / "stores")
    for name, more in (
        ("in turn", []),
        ("two on one", ["--pack", "2"]),
        ("one on two", ["--pack", "1", "--gpus", "2"]),
    ):
        said = run("run", *asked, *more, "--results", f"{tmp_path}/{name}", "--boards", f"{tmp_path}/boards")
        assert "leaderboard:" in said
        same(tmp_path / name, tmp_path / "in turn")
        assert len(results.read(tmp_path / name, "runs")) == 4


def test_a_pack_that_is_stopped_stops_its_runs_and_goes_on(tmp_path, stores):
    shutil.copytree(stores, tmp_path / "cache" / "stores")
    asked = ["--pretext", "mae,ijepa", "--task", "phantom_local", "--pack", "2"]
    process = faults.start(tmp_path, *asked)
    while process.poll() is None and not list((tmp_path / "cache").rglob("*.safetensors")):  # a checkpoint or encoder
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=120) == 128 + signal.SIGTERM
    faults._gone(process.pid)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "results").glob("*/runs/*/*.parquet")}
    faults.finish(tmp_path, *asked)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert len(results.read(tmp_path / "results", "runs")) == 4


def test_a_grid_of_tracks_and_modalities_gives_what_its_runs_give_alone(tmp_path, stores):
    shutil.copytree(stores, tmp_path / "cache" / "stores")
    cache, path = ["--cache", str(tmp_path / "cache")], tmp_path / "runs.jsonl"
    alone = (
        ["--track", "smoke", "--modality", "histo", "--pretext", "ijepa", "--seeds", "1"],
        ["--track", "smoke-images", "--modality", "histo,ultrasound", "--pretext", "mae", "--seeds", "1"],
    )
    lines = []
    for number, options in enumerate(alone):
        said = ask("plan", *options, *cache, "--write", f"{path}.{number}", "--results", f"{tmp_path}/none")
        assert f"a grid of {1 + number} runs and their twins" in said
        lines += (tmp_path / f"runs.jsonl.{number}").read_text(encoding="utf-8").splitlines()
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    narrow = ["--task", "phantom_local", "--probe", "knn", *cache]
    compute = [*narrow, "--threads", "1", "--boards", f"{tmp_path}/boards"]
    for options in alone:
        run("run", *options, *compute, "--results", f"{tmp_path}/alone")
    said = run("run", "--grid", str(path), *compute, "--pack", "2", "--results", f"{tmp_path}/grid")
    assert "Ultrasound: phantom corpus, smoke-images track" in said
    assert "Histology: phantom corpus, smoke track" in said
    same(tmp_path / "grid", tmp_path / "alone")
    assert len(results.read(tmp_path / "grid", "runs")) == 6
    said = ask("plan", "--grid", str(path), *narrow, "--results", f"{tmp_path}/grid")
    assert "12 cells are there already; 0 missing, 0 runs to pretrain" in said
    said = ask("plan", "--grid", str(path), *narrow, "--modality", "ultrasound", "--results", f"{tmp_path}/none")
    assert "0 cells are there already; 4 missing, 1 runs to pretrain" in said


def test_several_processes_keep_threads_and_micro_batches_and_say_so(stores, tmp_path):
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "stores").symlink_to(stores)
    asked = ["--track", "smoke", "--modality", "histo", "--pretext", "mae", "--task", "phantom_local"]
    places = [word for name in ("results", "cache") for word in (f"--{name}", str(tmp_path / name))]
    command = [sys.executable, "-m", "benchmark", "run", *asked, *places, "--stage", "pretrain"]
    command += ["--gpus", "2", "--threads", "2", "--micro", "24"]
    subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    rows = results.read(tmp_path / "results", "runs").set_index("budget_flops")
    trained, floor = rows[rows.index > 0].iloc[0], rows.loc[0.0]
    assert (trained.processes, trained.threads, trained.micro, trained.compiled) == (2, 2, 24, False)
    assert (floor.processes, floor.threads, np.isnan(floor.micro)) == (1, 2, True)
