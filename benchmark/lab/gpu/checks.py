"""What a machine is, whether its numbers are the CPU's, and whether a training step waits for the device."""

import json
import traceback
from collections.abc import Callable
from typing import Any

import typer

from benchmark.device import arithmetic, machine
from benchmark.lab.gpu import wheels

TOLERANCE = {"views": 1e-4, "loss": 1e-4, "gradient": 1e-3, "bf16 loss": 3e-2}  # CPU against GPU, see `agreement`
WAITS = "synchronizing"  # torch's word for it


def environment() -> dict[str, Any]:
    import torch

    lacking = wheels.missing()
    if lacking:
        typer.echo(wheels.remedy(lacking))
    found = {"versions": json.loads(machine.versions()), "cpu": machine.cpu(), "processors": machine.processors()}
    found |= {"missing": lacking, "commit": machine.commit()[0], "cuda": torch.version.cuda}
    device = machine.device()
    if device.gpus:
        card = torch.cuda.get_device_properties(torch.cuda.current_device())
        found |= {"gpu": card.name, "gpus": device.gpus, "memory GB": card.total_memory / 1e9}
        found |= {"names": list(device.names)}
        found |= {"capability": f"{card.major}.{card.minor}", "processors of the gpu": card.multi_processor_count}
        found["driver"] = machine._output("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")
    return found


def agreement(pretext: str, size: str) -> dict[str, Any]:
    """One recipe and its draws on the CPU and here, fp32 by the rule of `arithmetic`, at the first step.

    views: mean absolute difference of the images, in [0, 1]. loss, gradient (of all parameters as one vector): relative
    difference on the same views. bf16 loss: relative difference of the loss under autocast from the CPU's fp32.
    """
    import torch

    from benchmark.lab.speed import measure

    here = arithmetic.prepare()
    recipe = measure.recipe(size, pretext, batch=8)
    images = measure.noise(8, recipe.stored_pixels)
    sides = [measure.ours(recipe, images, device, "eager") for device in (torch.device("cpu"), here)]
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
        "gradient": apart(*gradients),
        "bf16 loss": abs(half / losses[0] - 1),
    }
    return found | {"agrees": agrees(found), "tolerance": TOLERANCE}


def apart(first: dict[str, Any], second: dict[str, Any]) -> float:
    """Length of the difference of two named sets of tensors over the length of the first."""
    difference = sum(float((first[name] - second[name]).double().square().sum()) for name in first)
    return (difference / sum(float(value.double().square().sum()) for value in first.values())) ** 0.5


def agrees(found: dict[str, float]) -> bool:
    return all(found[name] <= limit for name, limit in TOLERANCE.items())


def no_sync(pretext: str, size: str, batch: int) -> dict[str, Any]:
    """Whether views and step of a training wait for the device: the second step, as the first sets things up."""
    from benchmark.lab.speed import measure

    device = arithmetic.prepare()
    gpu = device.type == "cuda"
    recipe = measure.recipe(size, pretext, batch=batch, precision="bf16" if gpu else "fp32")
    ours = measure.ours(recipe, measure.noise(4 * batch, recipe.stored_pixels), device, "eager")
    ours.step(ours.views(0))
    return watched(lambda: ours.step(ours.views(1)), gpu)


def watched(step: Callable[[], object], gpu: bool) -> dict[str, Any]:
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
        return {"checked": True, "passes": False, "where": _place(error)}
    finally:
        torch.cuda.set_sync_debug_mode(before)
    return {"checked": True, "passes": True}


def _place(error: BaseException) -> str:
    """The innermost line of ours that an error went through."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if str(machine.ROOT) in frame.filename]
    frames = [frame for frame in frames if "site-packages" not in frame.filename]
    last = frames[-1]
    return f"{last.filename.removeprefix(str(machine.ROOT)).lstrip('/')}:{last.lineno}: {last.line}"


def told(name: str, result: dict[str, Any]) -> str:
    """A line of the report."""
    if name.startswith("agreement/"):
        verdict = "agrees" if result["agrees"] else "DISAGREES"
        return f"{verdict}: " + ", ".join(f"{k} {result[k]:.1e} (≤ {v:g})" for k, v in TOLERANCE.items())
    if not result["checked"]:
        return "not checked: there is no GPU"
    return "no step waits for the device" if result["passes"] else f"WAITS for the device at {result['where']}"
