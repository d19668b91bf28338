"""What ran where: the provenance stored with every number, and what `plan` needs to know of this machine. No torch."""

import importlib.metadata
import json
import platform
import resource
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

from tasks.store import processors as processors

ROOT = Path(__file__).parent.parent
PACKAGES = ("torch", "torchvision", "timm", "accelerate", "datasets", "kornia", "numpy", "scikit-learn", "pyarrow")


def _output(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=30, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


@cache
def commit() -> tuple[str, bool]:
    """(commit, whether the working tree differs from it); ("unknown", True) outside a checkout."""
    found = _output("git", "rev-parse", "HEAD")
    return (found, bool(_output("git", "status", "--porcelain"))) if found else ("unknown", True)


@cache
def gpus() -> tuple[str, ...]:
    """Names of the NVIDIA GPUs that the driver shows."""
    return tuple(_output("nvidia-smi", "--query-gpu=name", "--format=csv,noheader").splitlines())


@cache
def cpu() -> str:
    """The processor's name."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    named = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()


def versions() -> str:
    """JSON of Python and the packages that can move a number."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "missing"
    return json.dumps(found, sort_keys=True)


def reset_peak_memory() -> None:
    """Start a new high-water mark of this process where the kernel allows it (Linux)."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def peak_memory() -> int:
    """Bytes: the highest resident size of this process since the last reset, or since its start."""
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def free_disk(path: Path) -> int:
    """Bytes free where path is, or will be."""
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free
