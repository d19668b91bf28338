"""Tests see the built-in registry alone, never what the user has added."""

import os
import tempfile

_nothing = tempfile.TemporaryDirectory(prefix="pretext-bench-added-")
os.environ["PRETEXT_BENCH_TASKS"] = _nothing.name  # before any test module lists the tasks; children inherit it
