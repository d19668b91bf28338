"""Tests see the built-in registry alone, never what the user has added, no GPU, as their numbers are a processor's,
and fewer simulated patients than there are."""

import os
import shutil
import tempfile
from pathlib import Path

import pytest
from filelock import FileLock

_nothing = tempfile.TemporaryDirectory(prefix="pretext-bench-added-")
os.environ["PRETEXT_BENCH_TASKS"] = _nothing.name  # before any test module lists the tasks; children inherit it
os.environ["PRETEXT_BENCH_PATIENTS"] = "240"  # simulated ones, before the phantoms are imported; children inherit it
os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch counts processors: workers run beside each other
os.environ["CUDA_VISIBLE_DEVICES"] = ""  # before torch asks for devices; children inherit it


def made_once(factory: pytest.TempPathFactory, name: str, *arguments: str, stores: Path | None = None) -> Path:
    """The folder of a finished command of tests/helpers/faults.py, made by the first worker of a session to ask."""
    from tests.helpers import faults

    root = factory.getbasetemp().parent if "PYTEST_XDIST_WORKER" in os.environ else factory.getbasetemp()
    folder = root / name
    with FileLock(root / f"{name}.lock"):
        if not (folder / "finished").exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            if stores:
                shutil.copytree(stores, folder / "cache" / "stores")
            faults.finish(folder, *arguments)
            (folder / "finished").touch()
    return folder


@pytest.fixture(scope="session")
def stores(tmp_path_factory) -> Path:
    """The image stores of the smoke track of histology: to be copied to <cache>/stores."""
    asked = ("--pretext", "mae", "--task", "phantom_local", "--stage", "prepare")
    return made_once(tmp_path_factory, "stores", *asked) / "cache" / "stores"


@pytest.fixture(scope="session")
def smoke_run(tmp_path_factory, stores) -> Path:
    """Results and cache of MAE on one task of the smoke track of histology: to be read, and copied from."""
    return made_once(tmp_path_factory, "smoke", "--pretext", "mae", "--task", "phantom_local", stores=stores)


@pytest.fixture(scope="session")
def images():
    """The coarse noise that golden micro-runs are trained on."""
    from benchmark.lab import goldens

    return goldens.images()
