"""Several runs at once (`PACK=k`: k on each GPU, or k on a machine without one). A small encoder leaves a GPU idle
while the next step is prepared, and gains little from being cut over GPUs.

Each batch, a run and its twin, is `benchmark run --runs … --stage compute` in a process of its own with a log file.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from benchmark.device import machine
from tasks.base import ProcessError

LOGGED = {"PYTHONIOENCODING": "utf-8:replace"}  # a log file is UTF-8, whatever the terminal is
OUT_OF_MEMORY = ("out of memory", "allocate memory", "MemoryError")  # what the last line of such a run holds
Batch = tuple[str, ...]  # ids of runs that are computed together


def run_batches(
    batches: list[Batch], arguments: list[str], gpus: int, each: int, logs: Path, say: Callable[[str], None]
) -> None:
    """Compute the batches, `each` at a time on every one of the GPUs, or gpus × each on a machine without one.

    arguments: those of `benchmark run` without runs and stage. Raises ValueError for more GPUs than there are,
    ProcessError naming the logs of what failed, after everything else is done."""
    machine.refuse_missing_gpus(gpus)
    logs.mkdir(parents=True, exist_ok=True)
    slots = gpus * each
    if "--threads" not in arguments:
        arguments = [*arguments, "--threads", str(max(1, machine.processors() // slots))]
    on_gpus = machine.device().gpus > 0
    waiting, free = list(enumerate(batches, 1)), list(range(slots))
    running: dict[subprocess.Popen, tuple[int, int, Path]] = {}
    failed, starved = [], 0
    try:
        while waiting or running:
            while waiting and free:
                (number, batch), slot = waiting.pop(0), free.pop(0)
                log = logs / f"{batch[0]}.log"
                command = [sys.executable, "-m", "benchmark", "run", *arguments]
                command += ["--runs", ",".join(batch), "--stage", "compute"]
                place = {"CUDA_VISIBLE_DEVICES": _name_gpu(slot % gpus)} if on_gpus else {}
                with log.open("a", encoding="utf-8") as file:
                    process = subprocess.Popen(command, stdout=file, stderr=file, env=os.environ | place | LOGGED)
                running[process] = number, slot, log
                say(f"[{number}/{len(batches)}] {batch[0]} started in slot {slot}; log: {log}")
            time.sleep(0.2)
            for process in [process for process in running if process.poll() is not None]:
                number, slot, log = running.pop(process)
                free.append(slot)
                if process.returncode == 0:
                    say(f"[{number}/{len(batches)}] done")
                    continue
                failed.append(log)
                starved += _note_out_of_memory(process.returncode, log, each)
                say(f"[{number}/{len(batches)}] FAILED: {_last_line(log)}; see {log}")
    except BaseException:
        for process in running:
            process.terminate()
        for process in running:
            process.wait()
        raise
    if failed:
        hint = f"; {starved} of them ran out of memory: repeat with a PACK below {each}" if starved and each > 1 else ""
        raise ProcessError(
            f"{len(failed)} of {len(batches)} runs failed, the others are stored: {', '.join(map(str, failed))}{hint}"
        )


def _name_gpu(gpu: int) -> str:
    """What CUDA_VISIBLE_DEVICES names for a GPU, within what this process may see."""
    seen = os.environ.get("CUDA_VISIBLE_DEVICES")
    return str(gpu) if seen is None else seen.split(",")[gpu].strip()


def _last_line(log: Path) -> str:
    """The last line in a log."""
    lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"


def _note_out_of_memory(code: int, log: Path, each: int) -> bool:
    """Whether a run that failed ran out of memory; its log is told, for what the system kills says nothing."""
    killed = code == -signal.SIGKILL
    if not killed and not any(words in _last_line(log) for words in OUT_OF_MEMORY):
        return False
    why = "killed, as the system does when memory runs out" if killed else _last_line(log)
    with log.open("a", encoding="utf-8") as file:
        file.write(f"{why} ({each} runs shared it by PACK={each})\n")
    return True
