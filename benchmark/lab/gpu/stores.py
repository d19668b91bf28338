"""Image stores are made by the processors while the GPU is measured: in a process of its own, of low priority."""

import os
import subprocess
import time
from pathlib import Path

from benchmark.execution.pack import LOGGED
from tasks.base import ProcessError

KEPT = 2  # processors that are left to what measures the GPU
PRIORITY = 19  # the lowest


class Rendering:
    """`benchmark run --stage prepare` in the background. It sees no GPU; killed, it goes on where it was."""

    def __init__(self, command: list[str], log: Path):
        self.log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        unseen = os.environ | {"CUDA_VISIBLE_DEVICES": ""} | LOGGED
        with log.open("a", encoding="utf-8") as file:
            self.process = subprocess.Popen(command, stdout=file, stderr=file, env=unseen)
        self.processors = _step_back(self.process.pid)

    def wait(self, seconds: float) -> float:
        """Until the stores are whole; seconds that it took. Raises ProcessError where they are not by then."""
        began = time.monotonic()
        try:
            code = self.process.wait(max(0.0, seconds))
        except subprocess.TimeoutExpired:
            raise ProcessError(
                f"the image stores are not whole yet; the next call goes on with them ({self.log})"
            ) from None
        if code:
            said = self.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            raise ProcessError(f"the image stores: {said[-1] if said else f'exit code {code}'} (see {self.log})")
        return time.monotonic() - began

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait()


def _step_back(process: int) -> int:
    """Give a process that has just started the lowest priority, and all processors but those that are kept. Returns how
    many it has."""
    os.setpriority(os.PRIO_PROCESS, process, PRIORITY)
    if not hasattr(os, "sched_setaffinity"):
        return os.cpu_count() or 1
    cores = sorted(os.sched_getaffinity(0))
    cores = cores[KEPT:] if len(cores) > KEPT else cores
    os.sched_setaffinity(process, cores)
    return len(cores)
