"""What changes when the same grid runs otherwise: `python -m tests.helpers.reproducibility [--python OTHER …]`.

The smoke grid of three seeds with one thread is compared with the same grid again, with two threads, in two processes,
on a GPU where there is one, and by other interpreters (`--python`: each another environment with the same packages).
Differences of the headline metrics are held against their standard deviation over seeds. Minutes for each line.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd

from benchmark.device import machine
from benchmark.storage import results
from tasks import host
from tests.helpers import faults

SEEDS = 3
CPU = {"CUDA_VISIBLE_DEVICES": ""}


def grid(folder: Path, python: str, environment: dict[str, str], *more: str) -> pd.Series:
    """Headline metrics of the grid, computed under `folder`."""
    folder.mkdir()
    asked = ["run", "--track", "smoke", "--modality", "histo", "--seeds", str(SEEDS)]
    places = [word for name in ("results", "cache", "boards") for word in (f"--{name}", str(folder / name))]
    subprocess.run(
        [python, "-m", "benchmark", *asked, *places, *more],
        cwd=faults.ROOT,
        env=os.environ | environment,
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    cells = results.read(folder / "results", "cells")
    keys = ["pretext", "seed", "twin", "task", "probe", "readout"]
    return cells[cells.headline].set_index(keys).value.sort_index()


def losses(folder: Path) -> pd.Series:
    curves = results.read(folder / "results", "curves")
    return curves[curves["name"] == "loss"].set_index(["run", "step"]).value.sort_index()


def main(others: list[str]) -> None:
    one = ("--threads", "1")
    variants = {"again": (sys.executable, CPU, one)}
    variants |= {f"environment {number}": (python, CPU, one) for number, python in enumerate(others, 2)}
    variants |= {"two threads": (sys.executable, CPU, ("--threads", "2"))}
    variants |= {"two processes": (sys.executable, CPU, ("--threads", "1", "--gpus", "2"))}
    if machine.device().gpus:
        variants |= {"GPU": (sys.executable, {}, one)}
    with tempfile.TemporaryDirectory() as top:
        base = grid(Path(top) / "base", sys.executable, CPU, *one)
        trained = base[~base.index.get_level_values("twin")]
        spread = trained.groupby(["pretext", "task", "probe", "readout"]).std().median()
        print(f"{len(base)} headline cells; median standard deviation over {SEEDS} seeds: {spread:.4f}", flush=True)
        for name, (python, environment, more) in variants.items():
            values = grid(Path(top) / name, python, environment, *more)
            apart = (values - base).abs()
            loss = (losses(Path(top) / name) / losses(Path(top) / "base") - 1).abs()
            said = (
                f"{(apart > 0).sum():>3} cells differ, by {apart.median():.0e} in the median, {apart.max():.1e} at most"
            )
            said += f" ({apart.max() / spread:.1%} of the spread); losses by {loss.max():.1e} at most"
            print(f"{name:<14} {said}", flush=True)


if __name__ == "__main__":
    host.use_utf8()
    parser = argparse.ArgumentParser()
    parser.add_argument("--python", action="append", default=[])
    main(parser.parse_args().python)
