"""What works on this machine, and what to do about what does not. Imports torch only inside its check."""

import importlib.util
import os
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

import tasks
from benchmark.device import machine
from tasks import inspect
from tasks.base import Task
from tasks.reading import folders

NEEDED_DISK = 2e9  # bytes for stores, checkpoints and results of the laptop track


class Check(NamedTuple):
    state: Literal["ok", "note", "fail"]
    name: str
    found: str
    remedy: str = ""


def examine(data: Path, cache: Path) -> Iterator[Check]:
    """Every check, as it is made."""
    version = ".".join(map(str, sys.version_info[:3]))
    good = sys.version_info >= (3, 11)
    yield Check("ok" if good else "fail", "Python", version, "" if good else "install Python 3.11 or newer")
    yield from _torch()
    free = machine.free_disk(cache.absolute())
    enough = free > NEEDED_DISK
    yield Check(
        "ok" if enough else "fail", "disk", f"{free / 1e9:.1f} GB free", "" if enough else "make room, or set --cache"
    )
    yield Check("ok", "processors", f"{machine.processors()} x {machine.cpu()}")
    yield _commit()
    for modality in tasks.modalities():
        for name in tasks.names(modality):
            task = tasks.get(modality, name)
            if not task.synthetic:
                yield _data(task, data)
        for name, error in tasks.broken(modality).items():
            yield Check("fail", f"data {modality}/{folders.printable(name)}", str(error))


def _commit() -> Check:
    """Whether results will name the commit that computed them."""
    commit, dirty = machine.commit()
    if commit != "unknown":
        return Check("ok", "git", f"commit {commit[:12]}{', with local changes' if dirty else ''}")
    if not shutil.which("git"):
        return Check("note", "git", "missing", "install git, or results will lack the commit")
    if machine.is_checkout():
        remedy = f"see `git -C {shlex.quote(str(machine.ROOT))} status`, or results will lack the commit"
        return Check("note", "git", f"does not read {machine.ROOT}", remedy)
    return Check(
        "note", "git", "installed outside a checkout", "results will name the package's version, not the commit"
    )


def _torch() -> Iterator[Check]:
    if importlib.util.find_spec("torch") is None:
        yield Check("fail", "torch", "not installed", "run `make setup`")
        return
    try:
        import torch
        import torchvision

        device = machine.device()
    except (ImportError, OSError, RuntimeError) as error:
        yield Check("fail", "torch", str(error), "install torch and torchvision from the same source: `make setup`")
        return
    yield Check("ok", "torch", f"{torch.__version__}, torchvision {torchvision.__version__}")
    if device.gpus:
        for place, (name, memory) in enumerate(zip(device.names, device.memory, strict=True)):
            yield Check("ok", f"GPU {place}", f"{name}, {memory / 1e9:.0f} GB")
    elif os.environ.get("CUDA_VISIBLE_DEVICES", "all").strip() in ("", "-1"):
        yield Check("note", "GPU", "CUDA_VISIBLE_DEVICES hides all; training runs on the processors")
    elif shown := machine.driver():
        remedy = "install a torch that is built for CUDA, and a driver for it"
        yield Check("fail", "GPU", f"{shown[0]} is there, torch cannot use it", remedy)
    else:
        yield Check("note", "GPU", "none; training runs on the processors")


def _data(task: Task, data: Path) -> Check:
    name, remedy = f"data {task.modality}/{task.name}", f"make data TASK={task.name}"
    found = inspect.status(task, data)
    if found.state == "missing":
        return Check("note", name, f"not under {data}", remedy)
    if found.state == "broken":
        return Check("fail", name, found.reason, remedy)
    whole = f" of {task.expected:,} (partial)" if found.state == "partial" else ""
    return Check(
        "ok", name, f"{found.images:,}{whole} images, {found.groups:,} groups ({task.group_kind})", found.reason
    )
