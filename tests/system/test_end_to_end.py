"""The smoke track through the command line, twice; bad input; and a dataset, a pretext and a probe as one file each."""

import io
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import numpy as np
import pytest

from benchmark.__main__ import app, end
from benchmark.storage import results, schema
from tests.helpers.faults import heard
from tests.layouts import breakhis, lc25000

ROOT = Path(__file__).parents[2]


def run(*arguments: str, cwd: Path = ROOT, module: str = "benchmark", expect: int = 0) -> str:
    """stdout and stderr of `python -m <module> <arguments>`, the exit code checked."""
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(cwd)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == expect, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout + done.stderr


def ask(*arguments: str, expect: int = 0) -> str:
    """As `run`, in this process: for what computes nothing."""
    said = io.StringIO()
    with redirect_stdout(said), redirect_stderr(said):
        try:
            app(arguments)
        except SystemExit as ended:
            code = ended.code
        except Exception as error:
            code = end(error)
    assert code == expect, said.getvalue()
    return said.getvalue()


def places(folder: Path, cache: Path) -> list[str]:
    return ["--results", str(folder / "results"), "--cache", str(cache), "--boards", str(folder / "boards")]


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    """Image stores are addressed by content, so all runs of this file share them."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def smoke(tmp_path_factory, cache) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("smoke")
    return folder, run("run", "--track", "smoke", *places(folder, cache))


def test_the_smoke_track_fills_every_table_and_page(smoke):
    folder, said = smoke
    assert "0 cells are there already; 144 to compute, 6 runs to pretrain" in said
    assert "SYNTHETIC: simulated phantoms" in said
    assert re.search(r"busi.*: no data: `make data` says how to get them", said)
    runs = results.read(folder / "results", "runs")
    assert len(runs) == 12
    assert set(runs.status) == {"finished"}
    assert (runs.realised_flops == runs.expected_flops).all()
    trained = runs[runs.budget_flops > 0]
    assert (trained.realised_flops > 0.8 * trained.budget_flops).all()
    assert results.read(folder / "results", "curves").run.nunique() == 6
    assert results.read(folder / "results", "cells").cell.nunique() == 144
    assert set(results.read(folder / "results", "leakage")["count"]) == {0}
    cells, ceilings = (results.read(folder / "results", name) for name in ("cells", "ceilings"))
    about = ["modality", "task", "task_version", "data", "track", "groups", "samples"]
    assert set(ceilings[about].itertuples(index=False)) == set(cells[about].itertuples(index=False))
    assert f"{len(ceilings[['modality', 'family']].drop_duplicates())} ceilings to train, with labels" in said
    pages = {path.name for path in (folder / "boards").iterdir()}
    assert {"index.html", "histo-phantom-smoke.html", "ultrasound-phantom-smoke.md"} <= pages


def test_the_second_call_does_nothing(smoke, cache):
    folder, _ = smoke
    before = {path: path.stat().st_mtime_ns for path in (folder / "results").rglob("*")}
    said = run("run", "--track", "smoke", *places(folder, cache))
    assert "nothing to do: all 144 cells are there already" in said
    assert {path: path.stat().st_mtime_ns for path in (folder / "results").rglob("*")} == before


def test_verify_passes_and_finds_a_changed_digit(smoke, tmp_path):
    folder, _ = smoke
    run("verify", "--results", str(folder / "results"), module="leaderboards")
    copy = tmp_path / "results"
    shutil.copytree(folder / "results", copy)
    path = next(copy.rglob("predictions.parquet"))
    table = results.read_file(path)
    rows = table.to_pylist()
    rows[0]["scores"][0] += 1e-3
    import pyarrow.parquet as pq

    pq.write_table(schema.table("predictions", rows), path)
    said = run("verify", "--results", str(copy), module="leaderboards", expect=1)
    assert path.parent.name in said


def test_another_seed_computes_only_what_is_missing(smoke, cache):
    folder, _ = smoke
    said = ask("plan", "--track", "smoke", "--seeds", "2", "--modality", "histo", "--results", str(folder / "results"))
    assert "72 cells are there already; 72 missing, 3 runs to pretrain, 0 ceilings" in said
    assert "features of 6 pairs of encoder and images are needed, 0 of them reused" in said
    assert "speed of 6 earlier runs here" in said


@pytest.mark.parametrize(("asked", "told"), [("0", "0 ceilings"), ("1", "1 ceilings"), ("2", "2 ceilings")])
def test_a_plan_counts_ceilings_and_what_they_take(cache, tmp_path, asked, told):
    options = ["--track", "smoke", "--modality", "histo", "--task", "phantom_local", "--pretext", "mae"]
    said = ask("plan", *options, "--ceilings", asked, "--results", str(tmp_path), "--cache", str(cache))
    assert f"8 missing, 1 runs to pretrain, {told}" in said
    assert said.count("with labels: phantom_local") == int(asked)
    flops = float(re.search(r"about (\S+) training FLOPs", said)[1])
    assert flops == pytest.approx(3e10 * (1 + int(asked)), rel=0.1)


def test_a_ceiling_is_computed_alone_by_its_name_and_by_one_process_of_many(cache, tmp_path):
    """As the jobs of a pack and of a cluster do."""
    options = ["--track", "smoke", "--modality", "histo", "--task", "phantom_local", "--pretext", "mae"]
    run("run", *options, *places(tmp_path, cache), "--runs", "ceiling-", "--stage", "compute")
    assert set(results.read(tmp_path / "results", "ceilings").task) == {"phantom_local"}
    assert len(results.read(tmp_path / "results", "runs")) == 0
    for more in (["--stage", "prepare"], ["--runs", "none", "--stage", "compute"], ["--stage", "probe"]):
        run("run", *options, *more, *places(tmp_path / "none", cache))
    assert len(results.read(tmp_path / "none" / "results", "ceilings")) == 0


def test_a_dataset_a_pretext_and_a_probe_are_one_file_each(tmp_path, cache):
    """Those of CONTRIBUTING.md, dropped into a copy of the project with no other change, appear on the board."""
    copy, data = tmp_path / "copy", tmp_path / "data"
    skip = shutil.ignore_patterns(".*", "local", "data", "results", "site", "*.egg-info", "__pycache__")
    shutil.copytree(ROOT, copy, ignore=skip)
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n# (\S+)\n(.*?)```", page, re.DOTALL)
    assert len(blocks) == 4
    for path, code in blocks:
        assert not (copy / path).exists()
        (copy / path).write_text(code, encoding="utf-8")
    code = f"from pathlib import Path\nfrom tests.layouts import toy_glands\ntoy_glands.write(Path({str(data)!r}))"
    subprocess.run([sys.executable, "-c", code], cwd=copy, check=True)
    arguments = ["--track", "smoke", "--modality", "histo", "--task", "toy_glands", "--pretext", "tint"]
    arguments += ["--probe", "linear,means", "--data", str(data), *places(tmp_path, cache)]
    run("run", *arguments, cwd=copy)
    cells = results.read(tmp_path / "results", "cells")
    assert set(cells.task) == {"toy_glands"}
    assert set(cells.probe) == {"linear", "means"}
    page = (tmp_path / "boards" / "histo-local-smoke.html").read_text().lower()
    assert all(word in page for word in ("toy glands", "tint", "means"))
    contracts = ["tasks/test_tasks.py", "benchmark/pretexts/test_pretexts.py", "benchmark/probes/test_probes.py"]
    selected = ["-v", "-k", "toy_glands or tint or means", *(f"tests/{name}" for name in contracts)]
    said = run(*selected, cwd=copy, module="pytest")
    assert int(re.search(r"(\d+) passed", said)[1]) > 10


@pytest.fixture(scope="module")
def native(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("native")
    lc25000.write(folder)
    breakhis.write(folder, scales=(100,))
    return folder


def test_real_layouts_make_a_board_of_their_own(native, tmp_path, cache):
    arguments = ["--track", "smoke", "--modality", "histo", "--pretext", "mae", "--data", str(native)]
    said = run("run", *arguments, *places(tmp_path, cache))
    assert "partial" in said
    cells = results.read(tmp_path / "results", "cells")
    assert set(cells.task) == {"lc25000", "breakhis_100x"}
    assert set(cells.corpus) == {"local"}
    assert not cells.synthetic.any()
    assert set(cells[cells.task == "breakhis_100x"].protocol) == {"folds(5, 3)"}
    runs = results.read(tmp_path / "results", "runs")
    assert all('"members":[["lc25000"' in recipe for recipe in runs.recipe)
    run("verify", "--results", str(tmp_path / "results"), module="leaderboards")


def test_an_unreadable_image_is_an_error_unless_skipped_and_then_recorded(native, tmp_path, cache):
    folder = tmp_path / "native"
    shutil.copytree(native, folder)
    broken = sorted(folder.rglob("colonca*.jpeg"))[0]
    broken.write_bytes(b"")
    arguments = ["run", "--track", "smoke", "--modality", "histo", "--pretext", "mae", "--task", "lc25000"]
    arguments += ["--data", str(folder), *places(tmp_path, cache)]
    said = run(*arguments, expect=2)
    assert "Traceback" not in said
    assert broken.name in said
    assert "--skip-unreadable" in said
    said = run(*arguments, "--skip-unreadable")
    assert "1 unreadable images left out" in said
    recipes = results.read(tmp_path / "results", "runs").recipe
    assert broken.name in recipes[0]
    run(*arguments, "--skip-unreadable", "--pack", "2", "--results", str(tmp_path / "packed"))
    assert set(results.read(tmp_path / "packed", "runs").recipe) == set(recipes)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--modality", "hist"], "unknown modality 'hist'; did you mean 'histo'?"),
        (["--task", "bussi"], "unknown task 'bussi'; did you mean 'busi'?"),
        (["--pretext", "maee"], "unknown pretext 'maee'; did you mean 'mae'?"),
        (["--track", "lap"], "unknown track 'lap'"),
        (["--corpus", "lokal"], "unknown corpus 'lokal'; did you mean 'local'?"),
        (["--seeds", "0"], "SEEDS must be at least 1"),
        (["--data", "/nowhere"], "/nowhere: no such folder"),
    ],
)
def test_bad_input_is_one_clear_line(arguments, words):
    *_, last = ask("run", *arguments, expect=2).splitlines()
    assert last.startswith("error: ")
    assert words in last


def test_ctrl_c_says_how_to_go_on(tmp_path, cache):
    arguments = ["run", "--track", "demo", "--modality", "histo", "--task", "phantom_local", "--pretext", "mae"]
    command = [sys.executable, "-m", "benchmark", *arguments, *places(tmp_path, cache)]
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=heard
    )
    process.stdout.readline()
    time.sleep(2)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "stopped; everything finished is kept. To go on: python -m benchmark run --track demo" in said
    assert "Traceback" not in said


def test_a_wrong_layout_says_what_was_looked_for_and_found(tmp_path):
    (tmp_path / "Dataset_BUSI_with_GT" / "harmless").mkdir(parents=True)
    said = ask("plan", "--task", "busi", "--data", str(tmp_path), expect=2)
    assert "benign" in said
    assert "harmless" in said


def test_doctor_and_data_answer(tmp_path):
    said = run("doctor", "--data", str(tmp_path))
    assert "torch" in said
    assert "make data TASK=busi" in said
    assert "make data TASK=busi" in run("data", "status", "busi", "--data", str(tmp_path))


def test_two_processes_train_a_run_and_say_so(tmp_path, cache):
    arguments = [
        "--track",
        "smoke",
        "--modality",
        "histo",
        "--task",
        "phantom_local",
        "--pretext",
        "mae",
        "--gpus",
        "2",
    ]
    run("run", *arguments, *places(tmp_path, cache))
    runs = results.read(tmp_path / "results", "runs").sort_values("budget_flops")
    assert runs.processes.tolist() == [1, 2]
    assert np.isfinite(results.read(tmp_path / "results", "cells").value).all()
