"""What a machine is, whether its numbers are the CPU's, and whether a training step waits for the device."""

import importlib.metadata
import json
import platform
import re
import sys
import tomllib
import traceback
from collections.abc import Callable
from typing import Any

import typer
from packaging.requirements import Requirement

from benchmark.device import arithmetic, machine

TOLERANCE = {
    "views": 1e-4,
    "loss": 1e-4,
    "gradient": 1e-3,
    "bf16 loss": 3e-2,
}  # CPU against GPU, see `compare_with_cpu`
WAITS = "synchronizing"  # torch's word for it


def find_missing() -> list[str]:
    """The requirements of this package that are not installed here, pinned as in the constraints.txt of a checkout."""
    if machine.is_checkout():
        project = tomllib.loads((machine.ROOT / "pyproject.toml").read_text(encoding="utf-8"))
        lines = project["project"]["dependencies"]
        pinned = (machine.ROOT / "constraints.txt").read_text(encoding="utf-8")
    else:
        lines, pinned = importlib.metadata.requires("pretext-bench") or [], ""
    missing = []
    for asked in map(Requirement, lines):
        if asked.marker is None or asked.marker.evaluate({"extra": ""}):
            try:
                importlib.metadata.distribution(asked.name)
            except importlib.metadata.PackageNotFoundError:
                pin = re.search(rf"^{re.escape(asked.name)}==\S+", pinned, re.MULTILINE | re.IGNORECASE)
                missing.append(pin[0] if pin else asked.name)
    return sorted(missing)


def describe_remedy(missing: list[str]) -> str:
    """How they are carried, where this machine has no network."""
    python, kind = f"{sys.version_info.major}.{sys.version_info.minor}", platform.machine()
    return (
        f"missing here, carry their wheels: {' '.join(missing)}\n"
        f"  with a network: python3 -m pip download --only-binary=:all: --python-version {python} "
        f"--platform manylinux_2_28_{kind} --platform manylinux2014_{kind} -d wheels {' '.join(missing)}\n"
        "  here: python3 -m pip install --no-index --no-deps --target site wheels/*.whl, with site on PYTHONPATH"
    )


def describe_machine() -> dict[str, Any]:
    import torch

    if missing := find_missing():
        typer.echo(describe_remedy(missing))
    found = {"versions": json.loads(machine.versions()), "cpu": machine.cpu(), "processors": machine.processors()}
    found |= {"missing": missing, "commit": machine.commit()[0], "cuda": torch.version.cuda}
    device = machine.device()
    if device.gpus:
        card = torch.cuda.get_device_properties(torch.cuda.current_device())
        found |= {"gpu": card.name, "gpus": device.gpus, "names": list(device.names)}
        found |= {"memory GB": card.total_memory / 1e9, "capability": f"{card.major}.{card.minor}"}
        found |= {"processors of the gpu": card.multi_processor_count, "driver": machine.driver_version()}
    return found


def compare_with_cpu(pretext: str, size: str) -> dict[str, Any]:
    """One recipe and its draws on the CPU and here, fp32 by the rule of `arithmetic`, at the first step.

    views: mean absolute difference of the images, in [0, 1]. loss, gradient (of all parameters as one vector): relative
    difference on the same views. bf16 loss: relative difference of the loss under autocast from the CPU's fp32.
    """
    import torch

    from benchmark.lab.speed import measure

    here = arithmetic.prepare()
    recipe = measure.make_recipe(size, pretext, batch=8)
    images = measure.make_noise(8, recipe.stored_pixels)
    sides = [measure.make_trainer(recipe, images, device, "eager") for device in (torch.device("cpu"), here)]
    first, second = (side.views(0) for side in sides)
    same = {name: value.to(here) for name, value in first.items()}
    losses, gradients = [], []
    for side, views in zip(sides, (first, same), strict=True):
        loss = side.model(views, measure.PROGRESS).loss
        loss.backward()
        losses.append(loss.item())
        gradients.append({n: p.grad.cpu() for n, p in side.model.named_parameters() if p.grad is not None})
    with torch.no_grad(), torch.autocast(here.type, torch.bfloat16):
        half = sides[1].model(same, measure.PROGRESS).loss.item()
    shown = [name for name, value in first.items() if value.is_floating_point()]
    found = {
        "views": max(float((first[name] - second[name].cpu()).abs().mean()) for name in shown),
        "loss": abs(losses[1] / losses[0] - 1),
        "gradient": relative_distance(*gradients),
        "bf16 loss": abs(half / losses[0] - 1),
    }
    return found | {"agrees": is_within_tolerance(found), "tolerance": TOLERANCE}


def relative_distance(first: dict[str, Any], second: dict[str, Any]) -> float:
    """Length of the difference of two named sets of tensors over the length of the first."""
    difference = sum(float((first[name] - second[name]).double().square().sum()) for name in first)
    return (difference / sum(float(value.double().square().sum()) for value in first.values())) ** 0.5


def is_within_tolerance(found: dict[str, float]) -> bool:
    return all(found[name] <= limit for name, limit in TOLERANCE.items())


def find_waits(pretext: str, size: str, batch: int) -> dict[str, Any]:
    """Whether views and step of a training wait for the device: the second step, as the first sets things up."""
    from benchmark.lab.speed import measure

    device = arithmetic.prepare()
    gpu = device.type == "cuda"
    recipe = measure.make_recipe(size, pretext, batch=batch, precision="bf16" if gpu else "fp32")
    ours = measure.make_trainer(recipe, measure.make_noise(4 * batch, recipe.stored_pixels), device, "eager")
    ours.step(ours.views(0))
    return forbid_waits(lambda: ours.step(ours.views(1)), gpu)


def forbid_waits(step: Callable[[], object], gpu: bool) -> dict[str, Any]:
    """Do a step while torch refuses to wait for the device; without one nothing is checked."""
    import torch

    if not gpu:
        step()
        return {"checked": False}
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        step()
    except RuntimeError as error:
        if WAITS not in str(error):
            raise
        return {"checked": True, "passes": False, "where": _locate(error)}
    finally:
        torch.cuda.set_sync_debug_mode(before)
    return {"checked": True, "passes": True}


def _locate(error: BaseException) -> str:
    """The innermost line of ours that an error went through."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if str(machine.ROOT) in frame.filename]
    frames = [frame for frame in frames if "site-packages" not in frame.filename]
    last = frames[-1]
    return f"{last.filename.removeprefix(str(machine.ROOT)).lstrip('/')}:{last.lineno}: {last.line}"


def describe(name: str, result: dict[str, Any]) -> str:
    """A line of the report."""
    if name.startswith("agreement/"):
        verdict = "agrees" if result["agrees"] else "DISAGREES"
        return f"{verdict}: " + ", ".join(f"{k} {result[k]:.1e} (≤ {v:g})" for k, v in TOLERANCE.items())
    if not result["checked"]:
        return "not checked: there is no GPU"
    return "no step waits for the device" if result["passes"] else f"WAITS for the device at {result['where']}"
