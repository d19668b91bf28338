"""The runs of `make gpu`: estimates from what is measured, as many at once as fit, stores made out of the way."""

import subprocess
import sys
from dataclasses import replace

import pytest

from benchmark import plan, tracks
from benchmark.cost import NOMINAL_FLOPS
from benchmark.lab.gpu import runs, timebox
from benchmark.lab.gpu.timebox import Timebox
from benchmark.recipe import Corpus, Recipe, key, twin
from tasks.base import ProcessError
from tests.system.test_gpu import setup


def recipe(pretext: str = "mae", track: str = "smoke", seed: int = 0, precision: str = "fp32") -> Recipe:
    pinned = Corpus(name="phantom", members=(), digest="0" * 12, images=0)
    return tracks.recipe(track, pretext, modality="histo", corpus=pinned, policy="", seed=seed, precision=precision)


def batch(*recipes: Recipe) -> runs.Batch:
    return runs.Batch(tuple(plan.Job(one, False, []) for one in recipes))


def test_the_rate_of_runs_is_measured_where_it_can_be(monkeypatch):
    monkeypatch.setattr(runs.machine, "processors", lambda: 2)
    asked = recipe("mae")
    speeds = [("eager", 2e-3), ("graphs", 4e-3)]
    rows = [{"piece": f"speed/nano/{m}/mae", "kind": f"speed/nano/{m}", "result": {"TFLOP/s": t}} for m, t in speeds]
    failed = {"piece": "speed/nano/compiled/mae", "kind": "speed/nano/compiled", "result": {"skipped": "no"}}
    run = {"realised_flops": 3e10, "seconds": 10.0, "beside training": 5.0, "run": "a"}
    both = [{"piece": f"run/{n}", "kind": "run/nano/mae", "result": run | {"at once": n}} for n in (2, None)]
    assert runs.find_rate(asked, []) == 2 * NOMINAL_FLOPS
    assert runs.find_rate(asked, [*rows, failed]) == 2e9
    assert runs.find_rate(asked, [*rows, failed, *both]) == 2e9
    assert runs.find_rate(asked, [*rows, *both], shared=True) == 2 * 3e9
    assert runs.find_rate(recipe("ijepa"), [*rows, *both], shared=True) == 2 * NOMINAL_FLOPS


def test_an_estimate_counts_what_is_left_and_what_is_beside_training(tmp_path):
    here, one = setup(tmp_path), recipe("mae")
    run = {"realised_flops": 3e10, "seconds": 10.0, "at once": 1, "run": "a"}
    rows = [{"piece": "run/a", "kind": "run/nano/mae", "result": run | {"beside training": 5.0}}]
    flops = tracks.steps(one) * one.settings.batch * tracks.image_flops(one)
    assert runs.estimate([batch(one, twin(one))], here, rows) == pytest.approx(flops / 3e9 + 5)
    assert runs.estimate([batch(one)] * 3, here, rows) == pytest.approx(3 * flops / 3e9 + 5)
    (here.cache / "checkpoints" / key(one) / f"step-{tracks.steps(one) - 1:08d}").mkdir(parents=True)
    assert runs.count_flops_left(plan.Job(one, False, []), here.cache) == pytest.approx(flops / tracks.steps(one))
    assert runs.count_flops_left(plan.Job(one, True, []), here.cache) == 0


def test_as_many_runs_as_fit_are_started_and_those_of_one_size(tmp_path, monkeypatch):
    here, work = setup(tmp_path), Timebox(tmp_path, 100, print)
    batches = [batch(recipe(seed=seed)) for seed in range(3)] + [batch(recipe(track="demo"))]
    monkeypatch.setattr(runs, "count_at_once", lambda batches, setup: 8)
    for each, count in ((1, 3), (30, 2), (70, 1), (90, 0)):
        monkeypatch.setattr(runs, "estimate", lambda some, *_, each=each: each * len(some))
        assert runs.choose(batches, here, work) == batches[:count]


def test_as_many_runs_are_at_once_as_pack_says(tmp_path, monkeypatch):
    here, asked = setup(tmp_path)._replace(dry=False), []
    card = runs.machine.Device(type="cuda", names=("H100",) * 2, memory=(int(80e9),) * 2)
    monkeypatch.setattr(
        runs.capacity, "best_pack", lambda todo, track, root, gpus: asked.append((len(todo), track, gpus)) or 5
    )
    batches = [batch(recipe("mae", seed=seed), twin(recipe("mae", seed=seed))) for seed in range(3)]
    assert runs.count_at_once(batches, here) == 1
    monkeypatch.setattr(runs.machine, "device", lambda: card)
    assert runs.count_at_once(batches, here) == 2 * 5
    assert asked == [(3, batches[0].jobs[0].recipe.track, 2)]


def test_encoders_are_named_by_their_size():
    assert runs.name_size(recipe("ijepa", "laptop")) == runs.name_size(recipe("mae", "laptop")) == "micro"
    assert runs.name_size(replace(recipe(), encoder=replace(recipe().encoder, depth=3))) == "64x3 at 32 px"


def test_what_does_not_fit_is_named_with_its_estimate(tmp_path, monkeypatch):
    one = recipe("mae")
    waiting = [runs.Batch((plan.Job(one, False, []), plan.Job(twin(one), False, [])))]
    monkeypatch.setattr(runs.Work, "list_missing", lambda self: waiting)
    monkeypatch.setattr(runs, "estimate", lambda *_: 100.0)
    work = Timebox(tmp_path, 120, print)
    runs.train(runs.Work(setup(tmp_path), [], tmp_path / "grid"), work)
    assert work.waiting == {f"run/{key(one)}": timebox.SPARE * 100}


def test_a_wave_that_fails_names_its_logs_and_is_not_tried_twice(tmp_path, monkeypatch):
    one, packed = recipe("mae"), []

    def fails(batches, *_) -> None:
        packed.append(batches)
        raise ProcessError("1 of 1 runs failed: the.log")

    monkeypatch.setattr(runs.Work, "list_missing", lambda self: [batch(one)])
    monkeypatch.setattr(runs, "run_batches", fails)
    work = Timebox(tmp_path, 1e9, print)
    runs.train(runs.Work(setup(tmp_path), [], tmp_path / "grid"), work)
    assert packed == [[(key(one),)]]
    assert work.failed == {f"run/{key(one)}": "ProcessError: 1 of 1 runs failed: the.log"}


def test_the_command_that_publishes_is_exact(tmp_path):
    rows = [
        {"kind": "run/nano/mae", "result": {"run": run, "dirty": dirty}}
        for run, dirty in (("a", False), ("b", False), ("c", True))
    ]
    promote = f"python -m leaderboards promote --results '{tmp_path}/my results' --run"
    unclean, ready = runs.describe_promotion(rows, tmp_path / "my results")
    assert unclean.endswith(": c")
    assert ready == f"2 runs verified and ready: for run in a b; do {promote} $run; done"
    assert runs.describe_promotion(rows[:1], tmp_path / "my results") == [f"1 runs verified and ready: {promote} a"]


@pytest.fixture
def started(tmp_path, monkeypatch):
    """Start a rendering whose command is this Python code."""
    made = []

    def start(code: str) -> tuple[subprocess.Popen, runs.Work]:
        work = runs.Work(setup(tmp_path), [], tmp_path / "grid")
        monkeypatch.setattr(runs.Work, "arguments", lambda self: [])
        popen = subprocess.Popen
        swapped = lambda command, **given: popen([*command[:3], sys.executable, "-c", code], **given)  # noqa: E731
        monkeypatch.setattr(runs.subprocess, "Popen", swapped)
        made.append(runs.start_rendering(work))
        monkeypatch.setattr(runs.subprocess, "Popen", popen)
        return made[-1], work

    yield start
    for process in made:
        process.kill()


def test_stores_are_made_out_of_the_way(tmp_path, started):
    name = "CUDA_VISIBLE_DEVICES"
    process, work = started(f"import os; print(os.getpriority(os.PRIO_PROCESS, 0), [os.environ[{name!r}]])")
    runs.await_rendering(process, work, 60)
    assert (work.setup.out / "logs" / "prepare.log").read_text() == "19 ['']\n"


def test_stores_that_fail_or_take_too_long_are_said(started):
    with pytest.raises(ProcessError, match="error: no images"):
        runs.await_rendering(*started("raise SystemExit('error: no images')"), 60)
    with pytest.raises(ProcessError, match="not whole yet"):
        runs.await_rendering(*started("import time; time.sleep(60)"), 0.1)
