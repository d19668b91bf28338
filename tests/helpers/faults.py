"""Kill the benchmark at random moments, repeat the command, and see whether a number moved.

    python -m tests.helpers.faults kill --kills 50  one grid, killed until it has happened that often, then finished
    python -m tests.helpers.faults soak --runs 200  whole grids one after another, most of them killed on their way

Signals are SIGKILL, SIGTERM and SIGINT in turn, to the whole process group (every process of the command at once) or to
the command alone, at a random moment of every stage in turn. Afterwards every number has to be bit-identical to an
uninterrupted run's, times aside, with nothing half-written and no leftover in store or cache.
"""

import argparse
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from benchmark.storage import results, schema
from leaderboards.audit.verify import verify
from tasks import host

ROOT = Path(__file__).parents[2]
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
TIMES = ["created", "seconds", "peak_memory_bytes"]
STAGES = {  # what a command has written once it is there; probing: features, probes and the writing of results
    "start": "",
    "image store": r"at \d+ px",
    "pretraining": r"seed \d+: +0%",
    "probing": r"seed \d+: 100%|; \d+ to compute, 0 runs to pretrain",
    "rendering": "cells computed",
}


def command(folder: Path, *more: str) -> list[str]:
    asked = [sys.executable, "-m", "benchmark", "run", "--track", "smoke", "--modality", "histo", "--seeds", "1"]
    asked += ["--threads", "1", "--checkpoint-seconds", "0.2", "--results", f"{folder}/results"]
    return [*asked, "--cache", f"{folder}/cache", "--boards", f"{folder}/boards", *more]


def start(folder: Path, *more: str) -> subprocess.Popen:
    log = (folder / "log").open("w")
    return subprocess.Popen(
        command(folder, *more), cwd=ROOT, stdout=log, stderr=log, start_new_session=True, preexec_fn=heard
    )


def heard() -> None:
    """In a new process: Ctrl-C is heard, even if what started the tests has it ignored, as shells do in background."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def finish(folder: Path, *more: str) -> None:
    process = start(folder, *more)
    if process.wait(timeout=900):
        raise AssertionError((folder / "log").read_text()[-3000:])


def reached(folder: Path) -> str:
    """The stage that a command is in."""
    said = (folder / "log").read_text(errors="replace")
    return [name for name, mark in STAGES.items() if re.search(mark, said)][-1]


def lengths(folder: Path, *more: str) -> dict[str, float]:
    """Run the command to its end; the seconds that each stage took."""
    process, took, before = start(folder, *more), dict.fromkeys(STAGES, 0.0), time.monotonic()
    while process.poll() is None:
        time.sleep(0.02)
        stage, now = reached(folder), time.monotonic()
        took[stage] += now - before
        before = now
    if process.returncode:
        raise AssertionError((folder / "log").read_text()[-3000:])
    return took


def interrupted(folder: Path, stage: str, after: float, number: int, everyone: bool, *more: str) -> str:
    """Start the command and send it a signal so many seconds into a stage; the stage it was in, or "finished"."""
    process = start(folder, *more)
    while process.poll() is None and list(STAGES).index(reached(folder)) < list(STAGES).index(stage):
        time.sleep(0.005)
    try:
        process.wait(timeout=after)
    except subprocess.TimeoutExpired:
        found = reached(folder)
        os.killpg(process.pid, number) if everyone else process.send_signal(number)
        process.wait(timeout=120)
        _gone(process.pid)
    if process.returncode == 0:
        return "finished"
    said = (folder / "log").read_text(errors="replace")
    expected = {signal.SIGKILL: -signal.SIGKILL, signal.SIGTERM: 143, signal.SIGINT: 130}
    allowed = {expected[number], -number}  # -number: before Python listened
    if number == signal.SIGINT and "init_import_site" in said:  # while Python itself starts, before any code of ours
        allowed.add(1)
    if process.returncode not in allowed:
        raise AssertionError(f"exit code {process.returncode} after {signal.Signals(number).name}:\n{said[-3000:]}")
    return found


def _gone(group: int, seconds: float = 60.0) -> None:
    """Wait for the helpers of a killed command, which end by themselves."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    raise AssertionError(f"processes of a killed command still run after {seconds:.0f} seconds")


def numbers(store: Path) -> dict[str, object]:
    """Every table of a store without times and the hashes of files that hold them."""
    found = {}
    for name in schema.TABLES:
        table = results.read(store, name)
        kept = [column for column in table if column not in (*TIMES, "dirty")]
        if name == "curves":
            table = table[~table["name"].str.contains("second|share")]
        found[name] = table[kept].reset_index(drop=True)
    return found


def equal(one: Path, other: Path) -> None:
    """Raises AssertionError where a number of two stores differs by a bit."""
    a, b = numbers(one), numbers(other)
    for name, table in a.items():
        if not table.equals(b[name]):
            raise AssertionError(f"{name} differs:\n{table.compare(b[name]) if len(table) == len(b[name]) else ''}")
    if not len(a["cells"]):
        raise AssertionError("nothing was compared")


def clean(folder: Path) -> None:
    """Raises AssertionError for what is half-written, left over, or not as sealed."""
    left = [
        path for path in folder.rglob("*") if path.suffix in (".part", ".building") or path.parent.name == "checkpoints"
    ]
    if left:
        raise AssertionError(f"left over: {left}")
    if problems := verify(folder / "results").problems:
        raise AssertionError("\n".join(map(str, problems)))


def kill(kills: int, seed: int, *more: str) -> Counter:
    """{(signal, to whom, stage): times}"""
    draw, seen = random.Random(seed), Counter()
    with tempfile.TemporaryDirectory() as top:
        whole, part = Path(top) / "whole", Path(top) / "part"
        whole.mkdir()
        took = lengths(whole, *more)
        while sum(seen.values()) < kills:
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir()
            for wanted in STAGES:
                if sum(seen.values()) == kills:
                    break
                number, everyone = SIGNALS[sum(seen.values()) % len(SIGNALS)], draw.random() < 0.5
                stage = interrupted(part, wanted, draw.uniform(0, took[wanted]), number, everyone, *more)
                if stage == "finished":
                    continue
                seen[signal.Signals(number).name, "all" if everyone else "one", stage] += 1
                print(f"{sum(seen.values())} of {kills}: {stage}", file=sys.stderr, flush=True)
            finish(part, *more)
            equal(whole / "results", part / "results")
            clean(part)
    return seen


def soak(runs: int, seed: int, *more: str) -> dict[str, object]:
    """Grids in fresh stores that share one cache, three of four killed once on their way."""
    draw, peaks, disk = random.Random(seed), [], []
    killed = 0
    with tempfile.TemporaryDirectory() as top:
        whole, part = Path(top) / "whole", Path(top) / "part"
        whole.mkdir()
        part.mkdir()
        finish(whole, *more)
        shutil.rmtree(whole / "results")
        took = lengths(whole, *more)  # with stores and features there, as in all runs but the first
        for number in range(runs):
            for name in ("results", "boards"):
                shutil.rmtree(part / name, ignore_errors=True)
            if number % 4:
                after = draw.uniform(0, sum(took.values()))
                stage = interrupted(part, "start", after, SIGNALS[number % 3], draw.random() < 0.5, *more)
                killed += stage != "finished"
            peaks.append(_peak(part, *more))
            equal(whole / "results", part / "results")
            clean(part)
            disk.append(sum(path.stat().st_size for path in part.rglob("*") if path.is_file()))
            if number % 10 == 0:
                print(json.dumps({"run": number, "peak": peaks[-1], "disk": disk[-1]}), file=sys.stderr, flush=True)
    return {"runs": runs, "killed": killed, "peak bytes": _ends(peaks), "disk bytes": _ends(disk)}


def _peak(folder: Path, *more: str) -> int:
    """Finish the command; the most memory it held, in bytes."""
    process = start(folder, *more)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise AssertionError((folder / "log").read_text()[-3000:])
    return usage.ru_maxrss * 1024


def _ends(values: list[int]) -> dict[str, int]:
    tenth = max(1, len(values) // 10)
    first, last = sorted(values[:tenth]), sorted(values[-tenth:])
    return {"first tenth": first[tenth // 2], "last tenth": last[tenth // 2], "most": max(values)}


if __name__ == "__main__":
    host.use_utf8()
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=("kill", "soak"))
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    asked, more = parser.parse_known_args()
    if asked.what == "kill":
        for (name, whom, stage), times in sorted(kill(asked.kills, asked.seed, *more).items()):
            print(f"{name:<8} to {whom:<4} during {stage:<12} {times}")
        print(f"{asked.kills} kills: every number as uninterrupted, nothing left over")
    else:
        print(json.dumps(soak(asked.runs, asked.seed, *more)))
