"""Tests see the built-in registry alone, never what the user has added, no GPU, as their numbers are a processor's,
and fewer simulated patients than there are."""

import os
import tempfile
from pathlib import Path

import pytest

_nothing = tempfile.TemporaryDirectory(prefix="pretext-bench-added-")
os.environ["PRETEXT_BENCH_TASKS"] = _nothing.name  # before any test module lists the tasks; children inherit it
os.environ["PRETEXT_BENCH_PATIENTS"] = "240"  # simulated ones, before the phantoms are imported; children inherit it
os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch counts processors: workers run beside each other
os.environ["CUDA_VISIBLE_DEVICES"] = ""  # before torch asks for devices; children inherit it


@pytest.fixture(scope="session")
def stores(tmp_path_factory) -> Path:
    """The image stores of the smoke track of histology, made once: to be copied to <cache>/stores."""
    from tests.helpers import faults

    folder = tmp_path_factory.mktemp("stores")
    faults.finish(folder, "--pretext", "mae", "--task", "phantom_local", "--stage", "prepare")
    return folder / "cache" / "stores"


@pytest.fixture(scope="session")
def images():
    """The coarse noise that golden micro-runs are trained on."""
    from benchmark.lab import goldens

    return goldens.images()
