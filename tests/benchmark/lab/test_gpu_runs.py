"""The runs of `make gpu`: estimates from what is measured, as many at once as fit, stores made out of the way."""

import sys
from dataclasses import replace

import pytest

from benchmark import plan, tracks
from benchmark.cost import NOMINAL_FLOPS
from benchmark.lab.gpu import line, runs, stores
from benchmark.lab.gpu.line import Line
from benchmark.recipe import Corpus, Recipe, key, twin
from tasks.base import ProcessError
from tests.benchmark.lab.test_gpu import setup


def recipe(pretext: str = "mae", track: str = "smoke", seed: int = 0, precision: str = "fp32") -> Recipe:
    pinned = Corpus(name="phantom", members=(), digest="0" * 12, images=0)
    return tracks.recipe(track, pretext, modality="histo", corpus=pinned, policy="", seed=seed, precision=precision)


def group(*recipes: Recipe) -> runs.Group:
    return runs.Group(tuple(plan.Job(one, False, []) for one in recipes))


def test_the_rate_of_runs_is_measured_where_it_can_be(monkeypatch):
    monkeypatch.setattr(runs.machine, "processors", lambda: 2)
    asked = recipe("mae")
    speeds = [("eager", 2e-3), ("graphs", 4e-3)]
    rows = [{"piece": f"speed/nano/{m}/mae", "kind": f"speed/nano/{m}", "result": {"TFLOP/s": t}} for m, t in speeds]
    failed = {"piece": "speed/nano/compiled/mae", "kind": "speed/nano/compiled", "result": {"skipped": "no"}}
    run = {"realised_flops": 3e10, "seconds": 10.0, "beside training": 5.0, "run": "a"}
    both = [{"piece": f"run/{n}", "kind": "run/nano/mae", "result": run | {"at once": n}} for n in (2, None)]
    assert runs.rate(asked, []) == 2 * NOMINAL_FLOPS
    assert runs.rate(asked, [*rows, failed]) == 2e9
    assert runs.rate(asked, [*rows, failed, *both]) == 2e9
    assert runs.rate(asked, [*rows, *both], shared=True) == 2 * 3e9
    assert runs.rate(recipe("ijepa"), [*rows, *both], shared=True) == 2 * NOMINAL_FLOPS


def test_an_estimate_counts_what_is_left_and_what_is_beside_training(tmp_path):
    here, one = setup(tmp_path), recipe("mae")
    run = {"realised_flops": 3e10, "seconds": 10.0, "at once": 1, "run": "a"}
    rows = [{"piece": "run/a", "kind": "run/nano/mae", "result": run | {"beside training": 5.0}}]
    flops = tracks.steps(one) * one.settings.batch * tracks.image_flops(one)
    assert runs.estimate([group(one, twin(one))], here, rows) == pytest.approx(flops / 3e9 + 5)
    assert runs.estimate([group(one)] * 3, here, rows) == pytest.approx(3 * flops / 3e9 + 5)
    (here.cache / "checkpoints" / key(one) / f"step-{tracks.steps(one) - 1:08d}").mkdir(parents=True)
    assert runs.left(plan.Job(one, False, []), here.cache) == pytest.approx(flops / tracks.steps(one))
    assert runs.left(plan.Job(one, True, []), here.cache) == 0


def test_as_many_runs_as_fit_are_started_and_those_of_one_size(tmp_path, monkeypatch):
    here, work = setup(tmp_path), Line(tmp_path, 100, print)
    groups = [group(recipe(seed=seed)) for seed in range(3)] + [group(recipe(track="demo"))]
    monkeypatch.setattr(runs, "at_once", lambda groups, setup: 8)
    for each, count in ((1, 3), (30, 2), (70, 1), (90, 0)):
        monkeypatch.setattr(runs, "estimate", lambda some, *_, each=each: each * len(some))
        assert runs.fitting(groups, here, work) == groups[:count]


def test_as_many_runs_are_at_once_as_pack_says(tmp_path, monkeypatch):
    here, asked = setup(tmp_path)._replace(dry=False), []
    card = runs.machine.Device(type="cuda", names=("H100",) * 2, memory=(int(80e9),) * 2)
    monkeypatch.setattr(runs.pack, "most", lambda todo, track, root, gpus: asked.append((len(todo), track, gpus)) or 5)
    groups = [group(recipe("mae", seed=seed), twin(recipe("mae", seed=seed))) for seed in range(3)]
    assert runs.at_once(groups, here) == 1
    monkeypatch.setattr(runs.machine, "device", lambda: card)
    assert runs.at_once(groups, here) == 2 * 5
    assert asked == [(3, groups[0].first.track, 2)]


def test_encoders_are_named_by_their_size():
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
