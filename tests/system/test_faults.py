"""Faults, put in on purpose: the command says what happened, keeps what it has, and, repeated, ends with the numbers of
an undisturbed run. Random kills are in tests/helpers/faults.py; hostile input in test_hostile and test_fuzz."""

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from benchmark.storage import results, schema, seals, temporary
from leaderboards.audit.repair import ASIDE, repair
from leaderboards.audit.verify import verify
from tasks import store
from tests.helpers import faults

ROOT = Path(__file__).parents[2]
LONG = partial(pytest.param, marks=pytest.mark.long)
SMALL = ("--pretext", "mae", "--task", "phantom_local")


@pytest.fixture(scope="module")
def whole(smoke_run) -> Path:
    return smoke_run


@pytest.fixture
def part(whole, tmp_path) -> Path:
    """A folder with the image stores of `whole`, and nothing else."""
    shutil.copytree(whole / "cache" / "stores", tmp_path / "cache" / "stores")
    return tmp_path


@contextmanager
def mounted(place: Path, options: str):
    """A small file system of its own at that place. Skips where that is not allowed."""
    place.mkdir(parents=True)
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "none", place], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"a file system of its own needs the right to mount: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", place], check=True)


def fails(folder: Path, *more: str, **options: object) -> str:
    """What the command says when it fails as it should: one line, no traceback."""
    done = subprocess.run(
        faults.command(folder, *SMALL, *more), cwd=ROOT, capture_output=True, text=True, check=False, **options
    )
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    return done.stderr.replace("\r", "\n").strip().split("\n")[-1]


def test_kills_at_random_moments_move_no_number():
    seen = faults.kill(5, 1, *SMALL)
    assert sum(seen.values()) == 5


@pytest.mark.parametrize("where", ["results", *map(LONG, ("cache/checkpoints", "cache/features"))])
def test_a_full_disk_is_said_and_nothing_is_lost(whole, part, where):
    with mounted(part / where, "size=200k"):
        said = fails(part, "--checkpoint-seconds", "0")
        assert "space left on" in said
        assert where in said
        assert "everything finished is kept" in said
        subprocess.run(["mount", "-o", "remount,size=100m", part / where], check=True)
        faults.finish(part, *SMALL)
        faults.equal(whole / "results", part / "results")


def test_a_folder_that_may_not_be_written_to_is_named(part):
    with mounted(part / "results", "size=1m,ro"):
        said = fails(part)
        assert "Read-only file system" in said
        assert str(part / "results") in said


def test_permission_denied_is_named(tmp_path):
    """In this process' own code: a user who is nobody could not read the environment of the tests."""
    (tmp_path / "store").mkdir()
    child = os.fork()
    if child == 0:
        os.setuid(65534) if os.geteuid() == 0 else (tmp_path / "store").chmod(0o500)
        try:
            results.write(tmp_path / "store" / "histo" / "cells" / "a", {})
        except PermissionError as error:
            os._exit(0 if str(tmp_path / "store") in str(error) else 1)
        os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_clock_set_back_removes_nothing_and_changes_nothing(tmp_path, monkeypatch):
    live = temporary.beside(tmp_path / "results" / "histo" / "cells" / "a").with_name(
        f".a~elsewhere~{os.getpid()}~01234567.part"
    )
    live.mkdir(parents=True)
    monkeypatch.setattr(time, "time", lambda: 0.0)
    temporary.remove_leftovers(tmp_path / "results", tmp_path / "cache")
    assert live.exists()
    monkeypatch.setattr(time, "time", lambda: 4e9)
    temporary.remove_leftovers(tmp_path / "results", tmp_path / "cache")
    assert not live.exists()


def test_what_a_killed_process_left_is_removed_and_what_a_living_one_writes_is_not(tmp_path):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    place = tmp_path / "results" / "histo" / "cells" / "a"
    here = temporary.beside(place)
    parent = here.with_name(here.name.replace(f"~{os.getpid()}~", f"~{os.getppid()}~"))
    dead = here.with_name(here.name.replace(f"~{os.getpid()}~", f"~{gone.pid}~"))
    for path in (parent, dead):
        path.mkdir(parents=True)
    temporary.remove_leftovers(tmp_path / "results", tmp_path / "cache")
    assert parent.exists()
    assert not dead.exists()


def test_two_commands_for_the_same_grid_share_the_work(whole, part):
    logs = [part / "one", part / "two"]
    for log in logs:
        log.mkdir()
    started = [
        subprocess.Popen(
            faults.command(part, *SMALL), cwd=ROOT, stdout=(log / "log").open("w"), stderr=subprocess.STDOUT
        )
        for log in logs
    ]
    assert [process.wait(timeout=300) for process in started] == [0, 0]
    assert any("another process is at it, waiting" in (log / "log").read_text() for log in logs)
    faults.equal(whole / "results", part / "results")
    shutil.rmtree(part / "one")
    shutil.rmtree(part / "two")
    faults.clean(part)


def _write(root: Path, number: int) -> None:
    row = dict.fromkeys(schema.TABLES["curves"].names) | {"run": f"{number}", "step": 1, "name": "x"}
    for directory in (root / "own" / str(number), root / "shared" / "one"):
        results.write(directory, {"curves": schema.table("curves", [row] * 1000)})


def test_ten_processes_write_at_once(tmp_path):
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_write, args=(tmp_path, number)) for number in range(10)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(timeout=120)
    assert [writer.exitcode for writer in writers] == [0] * 10
    assert sorted(path.name for path in (tmp_path / "own").iterdir()) == sorted(map(str, range(10)))
    assert [path.name for path in (tmp_path / "shared").iterdir()] == ["one"]
    assert all(seals.broken(path.parent) == [] for path in tmp_path.rglob(seals.FILE))
    assert len(results.read(tmp_path / "shared", "curves").run.unique()) == 1


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


CELL, RUN = "cells/*/predictions.parquet", "runs/*/encoder.safetensors"
IN_SHORT, IN_FULL = [(CELL, flip), (RUN, cut)], [(CELL, cut), (CELL, Path.unlink), (RUN, flip), (RUN, Path.unlink)]


@pytest.mark.parametrize(("pattern", "damage"), [*IN_SHORT, *(LONG(*pair) for pair in IN_FULL)])
def test_a_damaged_file_is_named_and_repair_recomputes_just_that(whole, part, damage, pattern):
    shutil.copytree(whole / "results", part / "results")
    shutil.copytree(whole / "cache" / "features", part / "cache" / "features")
    path = sorted((part / "results" / "histo").glob(pattern))[0]
    before = {one: one.stat().st_mtime_ns for one in (part / "results").glob("histo/*/*/seal.json")}
    damage(path)
    if path.suffix == ".parquet" or path.exists():  # published runs have no weights, so that is no difference
        assert any(str(path.parent) in str(problem) for problem in verify(part / "results").problems)
    damaged = repair(part / "results")
    assert list(damaged) == [path.parent]
    assert any(path.name in line for line in damaged[path.parent])
    assert list((part / "results" / ASIDE).glob(f"*/histo/*/{path.parent.name}"))
    faults.finish(part, *SMALL)
    faults.equal(whole / "results", part / "results")
    assert verify(part / "results").problems == ()
    again = {one: one.stat().st_mtime_ns for one in (part / "results").glob("histo/*/*/seal.json")}
    assert [one.parent for one in before if again[one] != before[one]] == [path.parent]
    assert repair(part / "results") == {}


def children(process: int) -> list[int]:
    said = subprocess.run(["ps", "-o", "pid=", "--ppid", str(process)], capture_output=True, text=True, check=False)
    return [int(line) for line in said.stdout.split()]


def workers(process: int) -> list[int]:
    """Training processes that torchrun, a child of this one, has started."""
    found = [worker for launcher in children(process) for worker in children(launcher)]
    return [
        one
        for one in found
        if "benchmark.execution.torchrun" in Path(f"/proc/{one}/cmdline").read_text(encoding="utf-8")
    ]


def training_pair(part: Path) -> tuple[subprocess.Popen, list[int]]:
    """The command with two processes, once they train."""
    process = faults.start(part, *SMALL, "--gpus", "2")
    end = time.monotonic() + 120
    while not list((part / "cache" / "checkpoints").glob("*/step-*")):
        assert time.monotonic() < end
        assert process.poll() is None, (part / "log").read_text()
        time.sleep(0.05)
    return process, workers(process.pid)


def test_a_killed_rank_is_named_and_the_other_does_not_hang(part):
    process, ranks = training_pair(part)
    os.kill(ranks[1], signal.SIGKILL)
    began = time.monotonic()
    assert process.wait(timeout=60) == 2
    assert time.monotonic() - began < 60
    said = (part / "log").read_text()
    assert "rank      : 1" in said or "local_rank: 1" in said
    assert "Signal 9 (SIGKILL)" in said
    assert "go on from the last checkpoint" in said
    faults._gone(process.pid)
    faults.finish(part, *SMALL, "--gpus", "2")
    assert verify(part / "results").problems == ()


def test_training_processes_end_with_the_command_that_started_them(part):
    process, ranks = training_pair(part)
    process.kill()
    process.wait()
    end = time.monotonic() + 60
    while any(Path(f"/proc/{rank}").exists() for rank in ranks):
        assert time.monotonic() < end
        time.sleep(0.1)


def test_images_that_vanish_after_the_store_is_built_cost_nothing(tmp_path):
    from tasks.ultrasound.busi import TASK as BUSI
    from tests.layouts import busi

    busi.write(tmp_path / "data")
    samples = BUSI.scan(tmp_path / "data")
    built = store.build(BUSI, tmp_path / "data", samples, 16, tmp_path / "cache")
    first = built.pixels.copy()
    shutil.rmtree(tmp_path / "data")
    again = store.build(BUSI, tmp_path / "data", samples, 16, tmp_path / "cache")
    assert again.ids == built.ids
    assert (again.pixels == first).all()


@pytest.mark.parametrize("how", ["decoding", "answering"])
def test_a_dead_decoding_worker_is_said_and_the_next_call_goes_on(tmp_path, how):
    """One of the processes that decode kills itself, as the kernel does to one that takes too much memory."""
    script = tmp_path / "build.py"
    script.write_text(DYING)
    command = [sys.executable, str(script), str(tmp_path)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    first = subprocess.run([*command, how], env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert "ProcessError: a decoding process died" in first.stderr
    second = subprocess.run([*command, "live"], env=environment, capture_output=True, text=True, check=True)
    assert json.loads(second.stdout) == 600


DYING = """
import json, os, sys
from multiprocessing.connection import Connection
from pathlib import Path
import numpy as np
from tasks import store
from tasks.base import Access, Sample, Source

def read(data, sample, pixels):
    if sample.id == "0300" and (data / "decoding").exists():
        os._exit(9)
    if sample.id == "0300" and (data / "answering").exists():
        Connection._send = lambda lane, content: (os.write(lane.fileno(), content[:1]), os._exit(9))
    return np.zeros((pixels, pixels, 3), np.uint8)

SAMPLES = [Sample(f"{n:04}", 0, str(n), f"{n:064x}", "train") for n in range(600)]
SOURCE = Source(
    name="made", title="Made", modality="histo", group_kind="image", version=1, images="made", family="made",
    policy="pad", access=Access(home="", licence="", citation=""), read=read, scan=lambda data: SAMPLES,
)

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    for how in ("decoding", "answering"):
        (folder / how).touch() if sys.argv[2] == how else (folder / how).unlink(missing_ok=True)
    print(json.dumps(len(store.build(SOURCE, folder, SAMPLES, 8, folder / "cache", workers=2).ids)))
"""
