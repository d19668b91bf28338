"""What ran where: the provenance stored with every number, and what `plan` needs to know of this machine. Imports torch
only to ask for the device."""

import importlib.metadata
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tasks import host
from tasks.store import processors as processors

ROOT = Path(__file__).parents[2]
RESIDENT = 0.25  # of the free memory of a GPU: a corpus up to that size is copied there whole, as uint8
PEAKS = {"H100": 989e12, "H200": 989e12, "A100": 312e12}  # dense bf16 FLOPs per second, by name of the GPU
OURS = (
    "benchmark/device/machine.py",
    "tests/goldens.json",
)  # files of a checkout, of which the second is never installed
PACKAGES = (
    "pretext-bench",
    "torch",
    "torchvision",
    "timm",
    "accelerate",
    "datasets",
    "kornia",
    "numpy",
    "scikit-learn",
    "pyarrow",
)


def _output(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.decode("utf-8", errors="replace").strip()


@cache
def commit() -> tuple[str, bool]:
    """(commit, whether the working tree differs from it); ("unknown", True) outside a checkout of this project."""
    above = host.git(ROOT, "rev-parse", "--show-prefix")
    tracked = host.git(ROOT, "ls-files", "--error-unmatch", *OURS)
    head, changed = host.git(ROOT, "rev-parse", "HEAD"), host.git(ROOT, "status", "--porcelain")
    if above is None or above.strip() or None in (tracked, head, changed):
        return "unknown", True
    return head.strip(), bool(changed)


def is_checkout() -> bool:
    """Whether this code lies in the repository, or was installed without it."""
    return all((ROOT / name).is_file() for name in OURS)


@dataclass(frozen=True, kw_only=True)
class Device:
    """What this process may compute on."""

    type: str  # "cuda" or "cpu", as torch calls it
    names: tuple[str, ...]  # of its GPUs, in torch's order; of a machine without any, of the processor
    memory: tuple[int, ...]  # bytes of each

    @property
    def gpus(self) -> int:
        """How many GPUs."""
        return len(self.names) if self.type == "cuda" else 0


def device() -> Device:
    """Asked of torch, the only authority: a driver knows neither CUDA_VISIBLE_DEVICES nor what torch was built for."""
    import torch

    if not torch.cuda.is_available():
        return Device(type="cpu", names=(cpu(),), memory=(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),))
    cards = [torch.cuda.get_device_properties(place) for place in range(torch.cuda.device_count())]
    names, memory = zip(*((card.name, card.total_memory) for card in cards), strict=True)
    return Device(type="cuda", names=names, memory=memory)


def device_name() -> str:
    """Of the GPU that this process computes on, or of the processor."""
    import torch

    found = device()
    return found.names[torch.cuda.current_device() if found.gpus else 0]


def nominal_peak(name: str) -> float | None:
    """Dense bf16 FLOPs per second that the maker states for a GPU of that name, if known here."""
    return next((flops for known, flops in PEAKS.items() if known in name), None)


def refuse_missing_gpus(processes: int) -> None:
    """Raises ValueError where torch sees GPUs, but fewer than processes. Without any, they share the processors."""
    found = device()
    if 0 < found.gpus < processes:
        raise ValueError(
            f"GPUS={processes}: torch sees {found.gpus} here ({', '.join(found.names)}); ask for no more than that, or "
            "make more visible (CUDA_VISIBLE_DEVICES, the cluster's job)"
        )


def driver() -> tuple[str, ...]:
    """Names of the GPUs that NVIDIA's driver shows, for advice alone: torch may be unable to use them."""
    return tuple(_output("nvidia-smi", "--query-gpu=name", "--format=csv,noheader").splitlines())


def driver_version() -> str:
    """Of NVIDIA's driver."""
    return _output("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")


@cache
def cpu() -> str:
    """The processor's name."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
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
    """Start new high-water marks of this process: of the GPU, and of resident memory where the kernel allows it
    (Linux)."""
    if device().gpus:
        import torch

        torch.cuda.reset_peak_memory_stats()
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    except OSError:
        return


def peak_memory() -> int:
    """Bytes: what this process held at most since the last reset, or since its start: of the GPU that it computes on,
    else resident."""
    if device().gpus:
        import torch

        return torch.cuda.max_memory_allocated()
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def free_memory() -> tuple[int, ...]:
    """Bytes of each GPU that nobody holds."""
    import torch

    return tuple(torch.cuda.mem_get_info(place)[0] for place in range(device().gpus))


def free_resident() -> int:
    """Bytes of memory that more processes of this machine could hold, within the limits of its control groups, which
    containers and job schedulers set."""
    info = Path("/proc/meminfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    available = [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return max(0, min([physical, *available, *_free_of_groups()]))


def _free_of_groups(listed: Path = Path("/proc/self/cgroup"), mounted: Path = Path("/sys/fs/cgroup")) -> list[int]:
    """Bytes left in each control group that holds this process, of either version of them, files in cache not counted
    as held."""
    found = []
    for line in listed.read_text(encoding="utf-8").splitlines() if listed.exists() else []:
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        top = mounted / "memory" if controllers else mounted
        names = ("memory.limit_in_bytes", "memory.usage_in_bytes") if controllers else ("memory.max", "memory.current")
        place = top / path.lstrip("/")
        for group in (place, *place.parents[: len(place.relative_to(top).parts)]):
            try:
                most, held = ((group / name).read_text(encoding="utf-8").strip() for name in names)
                kept = dict(row.split() for row in (group / "memory.stat").read_text(encoding="utf-8").splitlines())
            except OSError:
                continue
            if most != "max":
                cached = kept.get("total_inactive_file" if controllers else "inactive_file", 0)
                found.append(int(most) - int(held) + int(cached))
    return found


def free_disk(path: Path) -> int:
    """Bytes free where path is, or will be."""
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free
