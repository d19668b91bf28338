"""PACK=k: runs side by side give the numbers of runs one after the other; what fails, or does not fit, is named and
costs no other."""

import os
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from benchmark import plan, tracks
from benchmark.cost import LIBRARIES_BYTES, peak_memory
from benchmark.device import machine
from benchmark.execution import batches, capacity
from benchmark.lab.goldens import CORPUS, short
from benchmark.recipe import twin
from benchmark.storage import results
from tasks.base import DataError
from tests.system.test_end_to_end import run

GIGABYTE = 10**9


@pytest.fixture
def cards(monkeypatch):
    """Let torch have GPUs of these free gigabytes, in a machine of 16 processors."""

    def play(*free: float, name: str = "NVIDIA H100 80GB HBM3") -> None:
        made = [SimpleNamespace(name=name, total_memory=80 * GIGABYTE)] * len(free)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: bool(free))
        monkeypatch.setattr(torch.cuda, "device_count", lambda: len(free))
        monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
        monkeypatch.setattr(torch.cuda, "get_device_properties", made.__getitem__)
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda place: (int(free[place] * GIGABYTE), 80 * GIGABYTE))
        monkeypatch.setattr(machine, "free_resident", lambda: 128 * GIGABYTE)
        monkeypatch.setattr(machine, "processors", lambda: 16)

    return play


def missing(track: str, *pretexts: str, seeds: int = 9, precision: str = "bf16") -> list[plan.Job]:
    asked = {"modality": "histo", "corpus": CORPUS, "policy": "none", "precision": precision}
    made = [tracks.recipe(track, name, seed=seed, **asked) for name in pretexts for seed in range(seeds)]
    return [plan.Job(one, False, []) for recipe in made for one in (recipe, twin(recipe))]


def test_a_run_that_fails_is_named_after_the_others_are_done(tmp_path):
    said = []
    with pytest.raises(RuntimeError, match=r"1 of 1 runs failed, the others are stored: .*zzzz\.log$"):
        batches.run_batches([("zzzz",)], ["--track", "nothing"], 1, 2, tmp_path, said.append)
    assert "unknown track 'nothing'" in (tmp_path / "zzzz.log").read_text()
    assert said[-1].startswith("[1/1] FAILED: error: unknown track 'nothing'")


def children(tmp_path, monkeypatch, script: str) -> None:
    """Let the processes of a pack be this shell script; $RUNS is what they are asked to compute."""
    program = tmp_path / "program"
    program.write_text(f'#!/bin/sh\nRUNS=$(echo "$*" | sed "s/.*--runs \\([^ ]*\\) .*/\\1/")\n{script}\n')
    program.chmod(0o755)
    monkeypatch.setattr(batches.sys, "executable", str(program))


def test_runs_that_run_out_of_memory_are_told_and_the_others_go_on(tmp_path, monkeypatch):
    children(
        tmp_path,
        monkeypatch,
        'case $RUNS in killed) kill -9 $$;; large) echo "error: out of memory at step 3" >&2; exit 2;; esac\n'
        f"touch {tmp_path}/$RUNS",
    )
    said = []
    with pytest.raises(RuntimeError, match=r"2 of 4 runs failed.*; 2 of them ran out of memory: .* PACK below 2"):
        batches.run_batches([("killed",), ("large",), ("one",), ("two",)], [], 1, 2, tmp_path / "logs", said.append)
    assert (tmp_path / "one").exists()
    assert (tmp_path / "two").exists()
    assert "killed, as the system does when memory runs out" in (tmp_path / "logs" / "killed.log").read_text()
    assert sum("out of memory at step 3" in line for line in said) == 1


def test_slots_share_the_gpus_and_the_threads(tmp_path, monkeypatch, cards):
    cards(79, 79)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    children(tmp_path, monkeypatch, f'echo "$CUDA_VISIBLE_DEVICES $*" > {tmp_path}/$RUNS.said\nsleep 1')
    jobs = [(f"run{number}",) for number in range(6)]
    batches.run_batches(jobs, ["--data", "x"], 2, 3, tmp_path / "logs", print)
    said = [(tmp_path / f"run{number}.said").read_text().split() for number in range(6)]
    assert [words[0] for words in said] == ["0", "1"] * 3
    assert {words[words.index("--threads") + 1] for words in said} == {"2"}  # of 16 processors
    batches.run_batches(jobs[:1], ["--threads", "5"], 2, 40, tmp_path / "logs", print)
    assert "--threads 5" in (tmp_path / "run0.said").read_text()
    batches.run_batches(jobs[:1], [], 2, 40, tmp_path / "logs", print)
    assert "--threads 1 " in (tmp_path / "run0.said").read_text()


def test_what_does_not_fit_on_a_gpu_is_refused_with_what_does(cards):
    jobs = missing("1e16", "dinov3")
    one = pack_needs(cards, jobs)
    cards(79, 3.5 * one / GIGABYTE)
    capacity.refuse_full_memory(jobs, 2, 3)
    with pytest.raises(DataError, match=r"^PACK=4: 4 runs at once take .* of NVIDIA H100.*; PACK=3 fits$"):
        capacity.refuse_full_memory(jobs, 2, 4)
    capacity.refuse_full_memory(jobs, 1, 4)  # the other card is not asked for
    capacity.refuse_full_memory(jobs[:6], 1, 40)  # three runs are no more at once than three
    cards(0.5 * one / GIGABYTE)
    with pytest.raises(DataError, match=r"not even PACK=1 fits: use a smaller TRACK, or MICRO="):
        capacity.refuse_full_memory(jobs, 1, 1)
    capacity.refuse_full_memory(jobs, 1, 1, micro=16)
    capacity.refuse_full_memory([job._replace(trained=True) for job in jobs], 1, 9)


def pack_needs(cards, jobs: list[plan.Job]) -> float:
    cards(79)
    return max(capacity.needed_memory(job.recipe) for job in jobs)


def test_a_gpu_holds_a_corpus_and_a_context_for_every_process_but_no_libraries(cards):
    recipe = short("mae")
    on_processor = capacity.needed_memory(recipe)
    cards(79)
    images = 3 * recipe.corpus.images * recipe.stored_pixels**2
    alone = on_processor - LIBRARIES_BYTES + capacity.CONTEXT_BYTES
    assert capacity.needed_memory(recipe) == pytest.approx(alone + images)
    large = replace(recipe, corpus=replace(recipe.corpus, images=10**9))  # is read from memory, not held
    assert capacity.needed_memory(large) == pytest.approx(alone)


def test_processes_of_a_machine_without_a_gpu_share_its_memory(monkeypatch):
    jobs = missing("demo", "mae", precision="fp32")
    monkeypatch.setattr(machine, "free_resident", lambda: int(6.5 * peak_memory(jobs[0].recipe)))
    capacity.refuse_full_memory(jobs, 1, 6)
    capacity.refuse_full_memory(jobs, 2, 3)
    for gpus, each, fitting in ((1, 7, 6), (2, 4, 3)):
        with pytest.raises(DataError, match=rf"PACK={each}: .* memory of this machine.*; PACK={fitting} fits"):
            capacity.refuse_full_memory(jobs, gpus, each)


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
    monkeypatch.setattr(capacity, "measured_speed", lambda root, track, processes: speeds[processes])
    jobs = [plan.Job(short("mae"), False, [])] * runs
    assert capacity.advise(jobs, "smoke", tmp_path, 2).startswith(said)


STUDY = ("mae", "ijepa", "dinov3")


@pytest.mark.parametrize(
    ("track", "precision", "gpus", "said"),
    [
        ("demo", "fp32", 1, f"PACK={capacity.MOST}: "),
        ("laptop", "bf16", 1, f"PACK={capacity.MOST}: a run alone uses less than 1% of NVIDIA H100"),
        ("laptop", "bf16", 4, f"PACK={16 // 4}: "),
        ("1e16", "fp32", 1, "no more than one run at once on this machine"),
        ("1e17", "bf16", 1, "no more than one run at once on this machine"),
        ("1e18", "bf16", 2, "no more than one run at once on a GPU"),
    ],
)
def test_small_encoders_share_a_gpu_and_large_ones_do_not(tmp_path, cards, track, precision, gpus, said):
    cards(*[79] * gpus)
    line = capacity.advise(missing(track, *STUDY, precision=precision), track, tmp_path, gpus).splitlines()[-1]
    assert line.startswith(said)
    assert "(predicted from the FLOPs of a step)" in line


def test_advice_keeps_to_memory_and_to_the_number_of_runs(tmp_path, cards):
    jobs = missing("laptop", "mae", seeds=3)
    cards(79)
    assert capacity.advise(jobs, "laptop", tmp_path, 1).startswith("PACK=3: ")
    cards(2.5 * capacity.needed_memory(jobs[0].recipe) / GIGABYTE)
    assert capacity.advise(jobs, "laptop", tmp_path, 1).startswith("PACK=2: ")


def test_what_was_measured_here_goes_before_what_is_predicted(tmp_path, cards, monkeypatch):
    cards(79)
    jobs = missing("1e17", "mae")
    reached = capacity._reached_flops("NVIDIA H100", "bf16")
    rows = pd.DataFrame(
        {
            "track": "1e17",
            "pretext": "mae",
            "processes": [1, 1, 2, 1],
            "device": ["NVIDIA H100 80GB HBM3"] * 3 + ["another"],
            "seconds": 1.0,
            "realised_flops": np.array([0.02, 0.09, 0.9, 0.9]) * reached,  # one that had company, one alone, two others
        }
    )
    monkeypatch.setattr(results, "read", lambda root, table: rows)
    line = capacity.advise(jobs, "1e17", tmp_path, 1)
    assert line.startswith("PACK=5: a run alone uses about 9% of NVIDIA H100 80GB HBM3 (measured here for mae)")


def test_memory_that_control_groups_grant_is_what_is_left_of_it(tmp_path):
    listed, mounted = tmp_path / "cgroup", tmp_path / "mounted"
    listed.write_text("5:cpu:/job\n4:memory:/job/step\n0::/other\n")

    def group(place, most, held, most_name, held_name, cached):
        (mounted / place).mkdir(parents=True, exist_ok=True)
        (mounted / place / most_name).write_text(f"{most}\n")
        (mounted / place / held_name).write_text(f"{held}\n")
        (mounted / place / "memory.stat").write_text(f"{cached} 10\nanon 5\n")

    assert machine._free_of_groups(listed, mounted) == []
    first = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
    second = ("memory.max", "memory.current", "inactive_file")
    group("memory/job", 1000, 400, *first)
    group("memory", 5000, 500, *first)
    group("other", "max", 400, *second)
    group(".", 900, 400, *second)
    assert machine._free_of_groups(listed, mounted) == [610, 4510, 510]
    assert 0 < machine.free_resident() <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def test_a_pack_is_of_one_machine(tmp_path):
    for more in (["--launch", "slurm"], ["--nodes", "2"], ["--stage", "probe"]):
        said = run("run", "--track", "smoke", "--pack", "2", *more, "--cache", str(tmp_path), expect=2)
        assert "PACK= is for all the work of one machine" in said
    assert not list(tmp_path.iterdir())
