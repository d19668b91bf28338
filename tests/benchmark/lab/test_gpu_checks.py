"""What `make gpu` asks of a machine: missing packages, agreement with the CPU, steps that wait for the device."""

import importlib.metadata
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmark.lab.gpu import checks

ROOT = Path(__file__).parents[3]


def test_missing_packages_are_named_with_their_pins(monkeypatch):
    assert checks.find_missing() == []
    known = importlib.metadata.distribution

    def distribution(name: str) -> importlib.metadata.Distribution:
        if name in ("kornia", "datasets"):
            raise importlib.metadata.PackageNotFoundError(name)
        return known(name)

    monkeypatch.setattr(importlib.metadata, "distribution", distribution)
    pins = (ROOT / "constraints.txt").read_text()
    found = checks.find_missing()
    assert [text.split("==")[0] for text in found] == ["datasets", "kornia"]
    assert all(f"\n{text}\n" in pins for text in found)
    assert all(text in checks.describe_remedy(found) for text in (*found, "pip download", "--no-index"))


def test_it_starts_without_the_packages_that_such_machines_lack(tmp_path):
    code = (
        "import sys\nfor name in ('datasets', 'kornia', 'lightly', 'imagehash', 'defusedxml', 'openpyxl'):\n"
        "    sys.modules[name] = None\n"
        "from pathlib import Path\nfrom benchmark.lab.gpu import __main__ as gpu\n"
        f"top = Path({str(tmp_path)!r})\n"
        "failed = gpu.go(gpu.Setup(top / 'data', top / 'out', top / 'results', top / 'cache', True), 600, print)\n"
        "sys.exit(0 if 'measurements' in failed and 'environment' not in failed else 1)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    assert "carry its wheel: kornia" in done.stdout


def test_agreement_is_a_relative_distance_and_can_fail():
    first = {"a": torch.tensor([3.0, 0.0]), "b": torch.tensor([4.0])}
    second = {"a": torch.tensor([3.0, 0.3]), "b": torch.tensor([4.4])}
    assert checks.relative_distance(first, first) == 0
    assert checks.relative_distance(first, second) == pytest.approx(0.1)
    good = dict.fromkeys(checks.TOLERANCE, 0.0)
    assert checks.is_within_tolerance(good)
    for name, limit in checks.TOLERANCE.items():
        assert not checks.is_within_tolerance(good | {name: 2 * limit})
        assert not checks.is_within_tolerance(good | {name: float("nan")})


def test_a_step_that_waits_for_the_device_is_found_and_the_mode_restored(monkeypatch):
    modes = [1]
    monkeypatch.setattr(torch.cuda, "get_sync_debug_mode", lambda: modes[-1])
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", modes.append)

    def waits() -> None:
        assert modes[-1] == "error"
        raise RuntimeError("called a synchronizing CUDA operation")

    found = checks.forbid_waits(waits, gpu=True)
    assert (found["checked"], found["passes"]) == (True, False)
    assert "tests/benchmark/lab/test_gpu_checks.py" in found["where"]
    assert "raise RuntimeError" in found["where"]
    assert "WAITS" in checks.describe("no sync/mae", found)
    assert modes == [1, "error", 1]
    assert checks.forbid_waits(lambda: None, gpu=True) == {"checked": True, "passes": True}

    def other() -> None:
        raise RuntimeError("out of luck")

    with pytest.raises(RuntimeError, match="out of luck"):
        checks.forbid_waits(other, gpu=True)
    assert modes == [1, "error", 1, "error", 1, "error", 1]
    assert checks.forbid_waits(lambda: None, gpu=False) == {"checked": False}
    assert len(modes) == 7
