"""The production line for a GPU machine: resumable, never late, plain about what is not there."""

import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from typer.testing import CliRunner

from benchmark import plan, results, tracks
from benchmark.gpu import __main__ as command
from benchmark.gpu import checks, line, runs, stores, trials, wheels
from benchmark.gpu.line import Line, Piece, Setup, finished
from benchmark.recipe import Corpus, Recipe, canonical, key, twin
from tasks.base import ProcessError
from tasks.phantoms import scenes
from tests.test_leaderboards import rewrite

ROOT = Path(__file__).parent.parent
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
MAIN, TRIAL = ("mae", "ijepa"), "mae --twin --track smoke --modality histo"


def setup(folder: Path) -> Setup:
    return Setup(folder / "data", folder / "out", folder / "results", folder / "cache", dry=True)


def called(*arguments: str):
    app = command.typer.Typer()
    app.command()(command.main)
    return CliRunner().invoke(app, list(arguments))


def noted(folder: Path) -> list[str]:
    return [row["piece"] for row in finished(folder / "out" / "pieces.jsonl") if "result" in row]


def recipe(pretext: str = "mae", track: str = "smoke", seed: int = 0, precision: str = "fp32") -> Recipe:
    pinned = Corpus(name="phantom", members=(), digest="0" * 12, images=0)
    return tracks.recipe(track, pretext, modality="histo", corpus=pinned, policy="", seed=seed, precision=precision)


def group(*recipes: Recipe) -> runs.Group:
    return runs.Group(tuple(plan.Job(one, False, []) for one in recipes))


@pytest.fixture(scope="module")
def bare(tmp_path_factory) -> dict[str, str]:
    """The environment of a machine that has what pyproject.toml asks for, and nothing else, with few patients."""
    allowed = wheels.needed(wheels.asked()).found
    installed = importlib.metadata.packages_distributions()
    others = {
        module for module, given in installed.items() if not {wheels.canonicalize_name(one) for one in given} & allowed
    }
    folder = tmp_path_factory.mktemp("bare")
    blocked = others - {"benchmark", "tasks", "leaderboards", "sitecustomize"}
    (folder / "sitecustomize.py").write_text(ABSENT.format(blocked=blocked, patients=FEW), encoding="utf-8")
    assert {"pytest", "lightly", "hypothesis", "pydicom"} <= blocked
    assert not {"torch", "timm", "accelerate", "sklearn", "datasets", "dill", "kornia_rs", "et_xmlfile"} & blocked
    return os.environ | {"PYTHONPATH": f"{folder}{os.pathsep}{ROOT}", "TORCH_COMPILE_DISABLE": "1"}


@pytest.fixture(scope="module")
def dry(bare, tmp_path_factory) -> tuple[Path, subprocess.CompletedProcess, list[str]]:
    """(folder, what the first call said, the command): all kinds of pieces, two runs at once."""
    folder = tmp_path_factory.mktemp("dry")
    with pytest.MonkeyPatch.context() as patch:
        for split, patients in FEW.items():
            patch.setitem(scenes.PATIENTS, split, patients)
        wanted = plan.Wanted(modalities=("histo",), track="smoke", pretexts=MAIN, seeds=1, corpus="phantom")
        made = plan.recipes(wanted, plan.survey(wanted, "histo", folder / "data", folder / "cache"), {})
    (folder / "data").mkdir()
    (folder / "grid").write_text("".join(canonical(r) + "\n" for r in made if r.budget), encoding="utf-8")
    asked = ["--dry", "--minutes", "20", "--grid", str(folder / "grid"), "--trials", TRIAL]
    places = [text for name in ("data", "out", "results", "cache") for text in (f"--{name}", str(folder / name))]
    line = [sys.executable, "-m", "benchmark.gpu", *asked, *places]
    return folder, subprocess.run(line, cwd=ROOT, env=bare, capture_output=True, text=True, check=False), line


def test_a_dry_run_does_every_kind_of_piece(dry):
    folder, said, _ = dry
    assert said.returncode == 0, said.stdout + said.stderr
    rows = {row["piece"]: row["result"] for row in finished(folder / "out" / "pieces.jsonl")}
    kinds = list(dict.fromkeys(name.split("/")[0] for name in rows))
    assert kinds == ["environment", "agreement", "no sync", "speed", "trial", "run"]
    assert rows["environment"]["missing"] == []
    for pretext in ("mae", "ijepa", "dinov3"):
        assert rows[f"agreement/{pretext}"]["agrees"]
        assert rows[f"no sync/{pretext}"] == {"checked": False}
        assert 0 < rows[f"speed/nano/eager/{pretext}"]["MFU"] < 1
    assert rows["speed/nano/compiled/mae"]["images/s"] > 0
    assert rows["speed/nano/graphs/mae"] == {"skipped": "CUDA graphs need a GPU"}
    assert any("phantom_local" in score for score in rows[f"trial/{TRIAL}"]["scores"])
    assert len(results.read(folder / "results", "trials")) == 3


def test_the_runs_of_a_grid_are_trained_side_by_side_verified_and_ready(dry):
    folder, said, _ = dry
    asked = {key(one): one for one in command.runs.read(folder / "grid")}
    rows = [row for row in finished(folder / "out" / "pieces.jsonl") if row["piece"].startswith("run/")]
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
    recipes, said = runs.read(folder / "grid"), []
    good, bad = map(key, recipes)
    path = results.run_directory(tmp_path / "results", "histo", bad) / "runs.parquet"
    rewrite(path, lambda rows: [row.update(images_seen=row["images_seen"] + 1) for row in rows])
    here = setup(tmp_path)
    (tmp_path / "data").mkdir()
    work = Line(here.out, 600, said.append)
    runs.train(runs.survey(recipes, here, said.append), work)
    assert list(work.failed) == [f"run/{bad}"]
    assert "does not verify" in said[-1]
    assert "images_seen" in said[-1]
    assert noted(tmp_path) == [f"run/{good}"]


def test_recipes_whose_corpus_is_not_here_are_named_and_left_out(dry, tmp_path, monkeypatch):
    for split, patients in FEW.items():
        monkeypatch.setitem(scenes.PATIENTS, split, patients)
    good, other = runs.read(dry[0] / "grid")
    other = replace(other, corpus=replace(other.corpus, digest="f" * 12))
    here, said = setup(tmp_path), []
    here.out.mkdir()
    work = runs.survey([good, other], here, said.append)
    assert [job.recipe for one in work.missing() for job in one.jobs] == [good, twin(good)]
    assert work.grid.read_text() == canonical(good) + "\n"
    assert key(other) in said[0]
    assert "left out" in said[0]


def test_without_a_gpu_it_says_so_and_ends_with_one(tmp_path):
    done = called("--out", str(tmp_path / "out"))
    assert done.exit_code == 1
    assert "torch can use no GPU here" in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--grid", '{"modality": 1}', "grid"),
        ("--trials", "mea", "did you mean 'mae'"),
        ("--trials", "mae --change lrr=1", "unknown setting of mae 'lrr'"),
        ("--trials", "mae --seed 0", "--seed"),
        ("--trials", "mae; --track smoke", "name a pretext"),
    ],
)
def test_what_is_asked_for_wrongly_is_refused_before_anything_is_done(tmp_path, option, value, said):
    if option == "--grid":
        (tmp_path / "grid").write_text(value)
        value = str(tmp_path / "grid")
    done = called("--dry", "--out", str(tmp_path / "out"), option, value)
    assert done.exit_code == 2
    assert said in done.stderr
    assert not (tmp_path / "out").exists()


def test_trials_are_given_as_their_command_takes_them():
    changed, floor = trials.read("mae --change lr=2e-3 --modality histo ; ijepa --twin --track smoke;")
    assert [one.settings["lr"] for one in changed.recipes] == [2e-3]
    assert [one.budget for one in floor.recipes] == [0, 0]
    assert (changed.name, floor.name) == (
        "trial/mae --change lr=2e-3 --modality histo",
        "trial/ijepa --twin --track smoke",
    )


# --- the line


@pytest.fixture
def script(monkeypatch):
    """Fake measurements on a fake clock: name -> (guess, seconds it takes)."""
    clock = [0.0]
    monkeypatch.setattr(line.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(command, "environment", lambda: Piece("environment", 0, dict))

    def write(**wanted: tuple[float, float]) -> None:
        def run(seconds: float) -> dict:
            clock[0] += seconds
            return {}

        made = [Piece(n.replace("_", "/"), g, lambda s=s: run(s)) for n, (g, s) in wanted.items()]
        monkeypatch.setattr(command, "measurements", lambda dry: iter(made))

    return write


def names(folder: Path) -> list[str]:
    return [name for name in noted(folder) if name != "environment"]


def test_a_piece_that_cannot_end_in_time_is_not_started(tmp_path, script):
    script(a=(10, 40), long=(50, 50), b=(10, 10))
    said = []
    assert command.go(setup(tmp_path), 60, said.append) == []
    assert names(tmp_path) == ["a", "b"]
    assert "left for a later call: long, about 62 s" in said
    command.go(setup(tmp_path), 60, said.append)
    assert names(tmp_path) == ["a", "b"]
    command.go(setup(tmp_path), 63, said.append)
    assert names(tmp_path) == ["a", "b", "long"]


def test_finished_pieces_of_a_kind_replace_the_guess(tmp_path, script):
    script(**{f"warm_{number}": (1, 30) for number in range(3)})
    command.go(setup(tmp_path), 50, print)
    assert names(tmp_path) == ["warm/0"]
    command.go(setup(tmp_path), 80, print)
    assert names(tmp_path) == ["warm/0", "warm/1", "warm/2"]


def test_time_can_be_reserved_for_what_comes_after(tmp_path, script):
    work = Line(tmp_path, 100, print)
    work.do(Piece("a", 40, dict), reserved=51)
    assert list(work.waiting) == ["a"]
    work.do(Piece("a", 40, dict), reserved=50)
    assert not work.waiting
    assert list(work.done) == ["a"]


def test_a_failed_piece_takes_no_other_with_it_and_is_tried_again(tmp_path, monkeypatch):
    healthy = [False]

    def sick() -> dict:
        if not healthy[0]:
            raise ModuleNotFoundError("No module named 'kornia'", name="kornia")
        return {}

    made = [Piece("sick", 1, sick), Piece("well", 1, dict)]
    monkeypatch.setattr(command, "measurements", lambda dry: iter(made))
    said = []
    assert command.go(setup(tmp_path), 60, said.append) == ["sick"]
    assert any("carry its wheel: kornia" in text for text in said)
    assert names(tmp_path) == ["well"]
    assert list(Line(tmp_path / "out", 60, print).errors) == ["sick"]
    healthy[0] = True
    assert command.go(setup(tmp_path), 60, said.append) == []
    assert names(tmp_path) == ["well", "sick"]
    assert not Line(tmp_path / "out", 60, print).errors


def test_a_line_that_a_killed_call_left_half_written_is_done_again(tmp_path, script):
    script(a=(1, 1), b=(1, 1))
    command.go(setup(tmp_path), 60, print)
    file = tmp_path / "out" / "pieces.jsonl"
    file.write_text(file.read_text()[:-20])
    assert names(tmp_path) == ["a"]
    command.go(setup(tmp_path), 60, print)
    assert names(tmp_path) == ["a", "b"]


def test_another_device_is_measured_anew_and_its_times_are_not_estimates(tmp_path, monkeypatch):
    for device, seconds in (("one", 5.0), ("other", 7.0)):
        monkeypatch.setattr(line.machine, "device_name", lambda d=device: d)
        work = Line(tmp_path, 60, print)
        assert work.done == {}
        assert work.estimate(Piece("speed/a", 3.0, dict)) == 3.0
        work.note("speed/a", "speed", seconds, {"of": device})
        assert work.done == {"speed/a": {"of": device}}
        assert work.estimate(Piece("speed/b", 3.0, dict)) == seconds


def test_every_line_of_the_notes_stands_alone(tmp_path, script):
    script(a=(1, 2), b=(1, 3))
    command.go(setup(tmp_path), 60, print)
    lines = (tmp_path / "out" / "pieces.jsonl").read_text().splitlines()
    assert [json.loads(text)["seconds"] for text in lines] == [0, 2, 3]


# --- runs


def test_the_rate_of_runs_is_measured_where_it_can_be(monkeypatch):
    monkeypatch.setattr(runs.machine, "processors", lambda: 2)
    asked = recipe("mae")
    speeds = [("eager", 2e-3), ("graphs", 4e-3)]
    rows = [{"piece": f"speed/nano/{m}/mae", "kind": f"speed/nano/{m}", "result": {"TFLOP/s": t}} for m, t in speeds]
    failed = {"piece": "speed/nano/compiled/mae", "kind": "speed/nano/compiled", "result": {"skipped": "no"}}
    run = {"realised_flops": 3e10, "seconds": 10.0, "beside training": 5.0, "run": "a"}
    both = [{"piece": f"run/{n}", "kind": "run/nano/mae", "result": run | {"at once": n}} for n in (2, None)]
    assert runs.rate(asked, []) == 2 * plan.NOMINAL_FLOPS
    assert runs.rate(asked, [*rows, failed]) == 2e9
    assert runs.rate(asked, [*rows, failed, *both]) == 2e9
    assert runs.rate(asked, [*rows, *both], shared=True) == 2 * 3e9
    assert runs.rate(recipe("ijepa"), [*rows, *both], shared=True) == 2 * plan.NOMINAL_FLOPS


def test_an_estimate_counts_what_is_left_and_what_is_beside_training(tmp_path):
    here, one = setup(tmp_path), recipe("mae")
    run = {"realised_flops": 3e10, "seconds": 10.0, "at once": 1, "run": "a"}
    rows = [{"piece": "run/a", "kind": "run/nano/mae", "result": run | {"beside training": 5.0}}]
    flops = tracks.steps(one) * one.settings["batch"] * tracks.image_flops(one)
    assert runs.estimate([group(one, twin(one))], here, rows) == pytest.approx(flops / 3e9 + 5)
    assert runs.estimate([group(one)] * 3, here, rows) == pytest.approx(3 * flops / 3e9 + 5)
    (here.cache / "checkpoints" / key(one) / f"step-{tracks.steps(one) - 1:08d}").mkdir(parents=True)
    assert runs.left(plan.Job(one, False, []), here.cache) == pytest.approx(flops / tracks.steps(one))
    assert runs.left(plan.Job(one, True, []), here.cache) == 0


def test_as_many_runs_as_fit_are_started_and_those_of_one_size(tmp_path, monkeypatch):
    here, work = setup(tmp_path), Line(tmp_path, 100, print)
    groups = [group(recipe(seed=seed)) for seed in range(3)] + [group(recipe(track="demo"))]
    monkeypatch.setattr(runs, "at_once", lambda recipe, dry: 8)
    for each, count in ((1, 3), (30, 2), (70, 1), (90, 0)):
        monkeypatch.setattr(runs, "estimate", lambda some, *_, each=each: each * len(some))
        assert runs.fitting(groups, here, work) == groups[:count]


def test_small_encoders_share_a_gpu_and_large_ones_do_not(monkeypatch):
    card = runs.machine.Device(type="cuda", names=("H100",), memory=(int(80e9),))
    monkeypatch.setattr(runs.machine, "device", lambda: card)
    monkeypatch.setattr(runs.machine, "processors", lambda: 16)
    assert runs.at_once(recipe(track="laptop")) == 16 - runs.KEPT
    assert runs.at_once(recipe(track="1e16", precision="bf16")) == 1
    monkeypatch.setattr(runs.machine, "device", lambda: replace(card, names=("H100",) * 2, memory=(int(80e9),) * 2))
    assert runs.at_once(recipe(track="laptop")) == 2 * ((16 - runs.KEPT) // 2)
    monkeypatch.setattr(runs.plan, "memory", lambda recipe: 30e9)
    assert runs.at_once(recipe(track="laptop")) == 2 * 2
    assert runs.size(recipe("ijepa", "laptop")) == runs.size(recipe("mae", "laptop")) == "micro"
    assert runs.size(replace(recipe(), encoder=replace(recipe().encoder, depth=3))) == "64x3 at 32 px"


def test_what_does_not_fit_is_named_with_its_estimate(tmp_path, monkeypatch):
    one = recipe("mae")
    waiting = [runs.Group((plan.Job(one, False, []), plan.Job(twin(one), False, [])))]
    monkeypatch.setattr(runs.Work, "missing", lambda self: waiting)
    monkeypatch.setattr(runs, "estimate", lambda *_: 100.0)
    work = Line(tmp_path, 120, print)
    runs.train(runs.Work(setup(tmp_path), [], tmp_path / "grid"), work)
    assert work.waiting == {f"run/{key(one)}": line.SPARE * 100}


def test_a_wave_that_fails_names_its_logs_and_is_not_tried_twice(tmp_path, monkeypatch):
    one, packed = recipe("mae"), []

    def fails(groups, *_) -> None:
        packed.append(groups)
        raise ProcessError("1 of 1 runs failed: the.log")

    monkeypatch.setattr(runs.Work, "missing", lambda self: [group(one)])
    monkeypatch.setattr(runs.pack, "pack", fails)
    work = Line(tmp_path, 1e9, print)
    runs.train(runs.Work(setup(tmp_path), [], tmp_path / "grid"), work)
    assert packed == [[(key(one),)]]
    assert work.failed == {f"run/{key(one)}": "ProcessError: 1 of 1 runs failed: the.log"}


def test_the_command_that_publishes_is_exact(tmp_path):
    rows = [
        {"kind": "run/nano/mae", "result": {"run": run, "dirty": dirty}}
        for run, dirty in (("a", False), ("b", False), ("c", True))
    ]
    promote = f"python -m leaderboards promote --results '{tmp_path}/my results' --run"
    unclean, ready = runs.promotion(rows, tmp_path / "my results")
    assert unclean.endswith(": c")
    assert ready == f"2 runs verified and ready: for run in a b; do {promote} $run; done"
    assert runs.promotion(rows[:1], tmp_path / "my results") == [f"1 runs verified and ready: {promote} a"]


# --- stores


def test_stores_are_made_out_of_the_way(tmp_path):
    name = "CUDA_VISIBLE_DEVICES"
    code = f"import os, time; time.sleep(1); print(os.getpriority(os.PRIO_PROCESS, 0), [os.environ[{name!r}]])"
    made = stores.Rendering([sys.executable, "-c", code], tmp_path / "logs" / "prepare.log")
    made.wait(60)
    assert (tmp_path / "logs" / "prepare.log").read_text() == f"{stores.PRIORITY} ['']\n"


def test_processors_are_left_to_what_measures(monkeypatch):
    given = {}
    monkeypatch.setattr(stores.os, "setpriority", lambda *_: None)
    monkeypatch.setattr(stores.os, "sched_setaffinity", lambda process, cores: given.update({process: cores}))
    for count, left in ((16, 14), (2, 2)):
        monkeypatch.setattr(stores.os, "sched_getaffinity", lambda _, count=count: set(range(count)))
        assert stores._step_back(7) == left == len(given[7])


def test_stores_that_fail_or_take_too_long_are_said(tmp_path):
    failing = [sys.executable, "-c", "raise SystemExit('error: no images')"]
    with pytest.raises(ProcessError, match="error: no images"):
        stores.Rendering(failing, tmp_path / "log").wait(60)
    slow = stores.Rendering([sys.executable, "-c", "import time; time.sleep(60)"], tmp_path / "log")
    with pytest.raises(ProcessError, match="not whole yet"):
        slow.wait(0.1)
    slow.stop()
    assert slow.process.returncode < 0


# --- wheels and checks


def test_missing_packages_are_named_with_their_pins(monkeypatch):
    assert wheels.missing() == []
    known = importlib.metadata.distribution

    def distribution(name: str) -> importlib.metadata.Distribution:
        if name in ("kornia", "datasets"):
            raise importlib.metadata.PackageNotFoundError(name)
        return known(name)

    monkeypatch.setattr(importlib.metadata, "distribution", distribution)
    pins = (ROOT / "constraints.txt").read_text()
    found = wheels.missing()
    assert [text.split("==")[0] for text in found] == ["datasets", "kornia"]
    assert all(f"\n{text}\n" in pins for text in found)
    assert all(text in wheels.remedy(found) for text in (*found, "pip download", "--no-index"))


def test_what_is_missing_of_what_is_installed_is_found_with_markers_and_extras(monkeypatch):
    there = {
        "first": ['Second_Part[fast]>=1; python_version >= "3"', 'never; python_version < "3"', 'x; extra == "dev"'],
        "second-part": ['gone-by-extra; extra == "fast"', 'not-asked; extra == "slow"', "First"],
        "bare": None,
    }

    def distribution(name: str) -> SimpleNamespace:
        if name not in there:
            raise importlib.metadata.PackageNotFoundError(name)
        return SimpleNamespace(requires=there[name])

    monkeypatch.setattr(importlib.metadata, "distribution", distribution)
    found = wheels.needed(["First", "bare", "Gone.Too", "z; extra == 'dev'"])
    assert found == ({"first", "second-part", "bare"}, {"gone-by-extra", "gone-too"})


def test_it_starts_without_the_packages_that_such_machines_lack(tmp_path):
    code = (
        "import sys\nfor name in ('datasets', 'kornia', 'lightly', 'imagehash', 'defusedxml', 'openpyxl'):\n"
        "    sys.modules[name] = None\n"
        "from pathlib import Path\nfrom benchmark.gpu import __main__ as gpu\n"
        f"top = Path({str(tmp_path)!r})\n"
        "failed = gpu.go(gpu.Setup(top / 'data', top / 'out', top / 'results', top / 'cache', True), 600, print)\n"
        "sys.exit(0 if 'agreement/mae' in failed and 'environment' not in failed else 1)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    assert "carry its wheel: kornia" in done.stdout


def test_agreement_is_a_relative_distance_and_can_fail():
    first = {"a": torch.tensor([3.0, 0.0]), "b": torch.tensor([4.0])}
    second = {"a": torch.tensor([3.0, 0.3]), "b": torch.tensor([4.4])}
    assert checks.apart(first, first) == 0
    assert checks.apart(first, second) == pytest.approx(0.1)
    good = dict.fromkeys(checks.TOLERANCE, 0.0)
    assert checks.agrees(good)
    for name, limit in checks.TOLERANCE.items():
        assert not checks.agrees(good | {name: 2 * limit})
        assert not checks.agrees(good | {name: float("nan")})


def test_a_step_that_waits_for_the_device_is_found_and_the_mode_restored(monkeypatch):
    modes = [1]
    monkeypatch.setattr(torch.cuda, "get_sync_debug_mode", lambda: modes[-1])
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", modes.append)

    def waits() -> None:
        assert modes[-1] == "error"
        raise RuntimeError("called a synchronizing CUDA operation")

    found = checks.watched(waits, gpu=True)
    assert (found["checked"], found["passes"]) == (True, False)
    assert "tests/test_gpu.py" in found["where"]
    assert "raise RuntimeError" in found["where"]
    assert "WAITS" in checks.told("no sync/mae", found)
    assert modes == [1, "error", 1]
    assert checks.watched(lambda: None, gpu=True) == {"checked": True, "passes": True}

    def other() -> None:
        raise RuntimeError("out of luck")

    with pytest.raises(RuntimeError, match="out of luck"):
        checks.watched(other, gpu=True)
    assert modes == [1, "error", 1, "error", 1, "error", 1]
    assert checks.watched(lambda: None, gpu=False) == {"checked": False}
    assert len(modes) == 7
