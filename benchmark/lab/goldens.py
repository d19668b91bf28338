"""Golden micro-runs: six steps of every pretext from a fixed seed, whose losses are written down.

They are computed on the processor, whatever GPUs there are. Other instructions (SSE to AVX-512, of torch, oneDNN and
MKL) and two threads move them by 4.5e-7 at most, relative; TOLERANCE is 20 times that, on any processor. A loss
that moved needs a higher VERSION of its pretext, or ENGINE where a shared part moved.
"""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from benchmark import registry, tracks
from benchmark.device import machine
from benchmark.recipe import ENGINE, Corpus, Recipe, Runtime
from benchmark.training import loop
from benchmark.training.data import Images
from tasks import host

FILE = machine.ROOT / "tests" / "goldens.json"
STEPS, BATCH, COUNT = 6, 8, 96
TOLERANCE = 1e-5  # relative
HIDDEN = {"CUDA_VISIBLE_DEVICES": ""}  # an environment without GPUs
CORPUS = Corpus(name="phantom", members=(("noise", 1),), digest="0" * 12, images=COUNT)


@dataclass(frozen=True, kw_only=True)
class Moved:
    """A number that is not what was stored."""

    what: str
    stored: float
    found: float
    tolerance: float
    bump: str  # which version, if it was meant

    def __str__(self) -> str:
        return (
            f"{self.what}: stored {self.stored:.10g}, now {self.found:.10g}: moved by {self.found - self.stored:+.3g}, "
            f"tolerance {self.tolerance:.3g}; if it was meant, bump {self.bump}"
        )


def images() -> Images:
    """Coarse noise: 96 images of 32 pixels, made of squares of 4."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (COUNT, 8, 8, 3), dtype=np.uint8)
    pixels = coarse.repeat(4, axis=1).repeat(4, axis=2)
    rows = np.stack([np.zeros(COUNT, int), np.arange(COUNT)], axis=1)
    return Images([f"noise/{i}" for i in range(COUNT)], [pixels], rows, ())


def recipe(pretext: str) -> Recipe:
    """A smoke recipe on that noise, in batches of 8."""
    made = tracks.recipe("smoke", pretext, modality="histo", corpus=CORPUS, policy="none", seed=3)
    return replace(made, settings=replace(made.settings, batch=BATCH))


def short(pretext: str, steps: int = STEPS) -> Recipe:
    made = recipe(pretext)
    return replace(made, budget=(steps + 0.5) * BATCH * tracks.image_flops(made))


def losses(pretext: str) -> list[float]:
    """The loss of every step, by one thread of the processor: in a process that sees no GPU."""
    if machine.device().gpus:
        command = [sys.executable, "-m", "benchmark.lab.goldens", pretext]
        done = subprocess.run(command, env=os.environ | HIDDEN, stdout=subprocess.PIPE, encoding="utf-8", check=True)
        return json.loads(done.stdout.splitlines()[-1])
    return _computed(pretext)


def _computed(pretext: str) -> list[float]:
    with tempfile.TemporaryDirectory() as folder, _one_thread():
        place = Path(folder)
        runtime = Runtime(data=place / "data", results=place / "results", cache=place / "cache")
        trained = loop.train(short(pretext), runtime, images(), f"golden {pretext}")
    return [row["value"] for row in trained.curves if row["name"] == "loss"]


@contextmanager
def _one_thread() -> Iterator[None]:
    """Sums are of the same parts in the same order, whatever the number of processors."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def fingerprint() -> str:
    """What decides the last digit: the processor with its instructions, and torch."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    flags = [line for line in lines if line.startswith("flags")]
    known = hashlib.sha256(" ".join(sorted(flags[0].split())).encode()).hexdigest()[:8] if flags else "unknown"
    return f"{machine.cpu()} (instructions {known}), torch {torch.__version__}"


def version(pretext: str) -> str:
    return f"{registry.load('pretexts', pretext).VERSION}.{ENGINE}"


def golden(pretext: str, found: list[float]) -> dict[str, object]:
    """What is written down of a pretext."""
    return {"version": version(pretext), "machine": fingerprint(), "losses": found}


def compare(pretext: str, found: list[float]) -> list[Moved]:
    """The losses that moved. Raises ValueError where none are written down for this version."""
    stored = json.loads(FILE.read_text(encoding="utf-8")).get(pretext, {})
    if stored.get("version") != version(pretext):
        text = json.dumps({pretext: golden(pretext, found)})
        raise ValueError(
            f"{FILE.name}: {pretext} is written down in version {stored.get('version', 'none')}, the code is in "
            f"{version(pretext)}; once checked, put in: {text}"
        )
    moved = []
    for step, (a, b) in enumerate(zip(stored["losses"], found, strict=True)):
        tolerance = TOLERANCE * abs(a)
        if not abs(a - b) <= tolerance:
            bump = f"VERSION in benchmark/pretexts/{pretext}.py, or ENGINE in benchmark/recipe.py for a shared part"
            what = f"golden {pretext}, loss of step {step}"
            moved.append(Moved(what=what, stored=a, found=b, tolerance=tolerance, bump=bump))
    return moved


if __name__ == "__main__":
    host.use_utf8()
    print(json.dumps(_computed(sys.argv[1])))
