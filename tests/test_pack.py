"""PACK=1: runs side by side give the numbers of runs one after the other; what fails is named and costs no other."""

import pytest

from benchmark import pack, plan, results
from benchmark.goldens import short
from tests.test_end_to_end import run
from tests.test_slurm import same


def test_packed_runs_equal_runs_in_turn(tmp_path):
    asked = ["--track", "smoke", "--modality", "histo", "--task", "phantom_local", "--pretext", "mae,ijepa"]
    asked += ["--seeds", "1", "--threads", "1", "--cache", str(tmp_path / "cache")]
    for name, more in (("packed", ["--pack", "--gpus", "2"]), ("in turn", [])):
        said = run("run", *asked, *more, "--results", f"{tmp_path}/{name}", "--boards", f"{tmp_path}/boards")
        assert "leaderboard:" in said
    same(tmp_path / "packed", tmp_path / "in turn")
    assert len(results.read(tmp_path / "packed", "runs")) == 4


def test_a_run_that_fails_is_named_after_the_others_are_done(tmp_path):
    said = []
    with pytest.raises(RuntimeError, match=r"1 of 1 runs failed, the others are stored: .*zzzz\.log"):
        pack.pack([("zzzz",)], ["--track", "nothing"], 2, tmp_path, said.append)
    assert "unknown track 'nothing'" in (tmp_path / "zzzz.log").read_text()
    assert said[-1].startswith("[1/1] FAILED, see")


@pytest.mark.parametrize(
    ("runs", "one", "two", "said"),
    [
        (4, 1.0, 1.2, "PACK=1 is faster: 4 runs in 2 rounds of 2, against 3.3 run times (a run on 2 is 1.20 times"),
        (1, 1.0, 1.8, "PACK=1 is slower: 1 rounds of 2 leave GPUs idle, against 0.6 run times"),
        (
            4,
            0.0,
            0.0,
            "PACK=1 is faster: 4 runs in 2 rounds of 2, against 2.0 run times (a run on 2 is at best 2 times",
        ),
        (0, 1.0, 1.0, "PACK changes nothing: no run is to be pretrained"),
    ],
)
def test_the_planner_says_which_is_faster_and_why(tmp_path, monkeypatch, runs, one, two, said):
    speeds = {1: (one, int(one > 0)), 2: (two, int(two > 0))}
    monkeypatch.setattr(plan, "measured_speed", lambda root, track, processes: speeds[processes])
    missing = [plan.Job(short("mae"), False, [])] * runs
    assert plan.packing(missing, "smoke", tmp_path, 2).startswith(said)
