"""Several runs at once, one on each GPU (`PACK=1`): what is small gains little from being cut over GPUs.

Each group, a run and its twin, is `benchmark run --runs … --stage compute` in a process of its own with a log file."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from benchmark import machine
from tasks.base import ProcessError

LOGGED = {"PYTHONIOENCODING": "utf-8:replace"}  # a log file is UTF-8, whatever the terminal is
Group = tuple[str, ...]  # ids of runs that are computed together


def pack(groups: list[Group], arguments: list[str], slots: int, logs: Path, say: Callable[[str], None]) -> None:
    """Compute the groups, `slots` at a time. arguments: those of `benchmark run` without runs and stage. Raises
    ValueError for more slots than GPUs, ProcessError naming the logs of what failed, after everything else is done."""
    machine.refuse_missing_gpus(slots)
    logs.mkdir(parents=True, exist_ok=True)
    if "--threads" not in arguments:
        arguments = [*arguments, "--threads", str(max(1, machine.processors() // slots))]
    gpus = machine.device().gpus
    waiting, free = list(enumerate(groups, 1)), list(range(slots))
    running: dict[subprocess.Popen, tuple[int, int, Path]] = {}
    failed = []
    try:
        while waiting or running:
            while waiting and free:
                (number, group), slot = waiting.pop(0), free.pop(0)
                log = logs / f"{group[0]}.log"
                command = [sys.executable, "-m", "benchmark", "run", *arguments]
                command += ["--runs", ",".join(group), "--stage", "compute"]
                place = {"CUDA_VISIBLE_DEVICES": _device(slot)} if gpus else {}
                with log.open("a", encoding="utf-8") as file:
                    process = subprocess.Popen(command, stdout=file, stderr=file, env=os.environ | place | LOGGED)
                running[process] = number, slot, log
                say(f"[{number}/{len(groups)}] {group[0]} started in slot {slot}; log: {log}")
            time.sleep(0.2)
            for process in [process for process in running if process.poll() is not None]:
                number, slot, log = running.pop(process)
                free.append(slot)
                failed += [log] * (process.returncode != 0)
                say(f"[{number}/{len(groups)}] " + (f"FAILED, see {log}" if process.returncode else "done"))
    except BaseException:
        for process in running:
            process.terminate()
        for process in running:
            process.wait()
        raise
    if failed:
        raise ProcessError(
            f"{len(failed)} of {len(groups)} runs failed, the others are stored: {', '.join(map(str, failed))}"
        )


def _device(slot: int) -> str:
    """What CUDA_VISIBLE_DEVICES names for the slot, within what this process may see."""
    seen = os.environ.get("CUDA_VISIBLE_DEVICES")
    return str(slot) if seen is None else seen.split(",")[slot].strip()
