"""Where a pretraining stands, on disk: safetensors and JSON, never pickles.

    <cache>/checkpoints/<run>/step-00001200/   model.safetensors optimiser.safetensors state.json

A checkpoint appears whole by a rename; older ones are deleted after it.
"""

import json
import shutil
import uuid
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from torch.optim import Optimizer


def save(folder: Path, step: int, model: nn.Module, optimiser: Optimizer, state: dict[str, Any]) -> None:
    """state: JSON-able values of the loop that are not a function of the step."""
    part = folder / f".step-{uuid.uuid4().hex[:8]}.part"
    part.mkdir(parents=True)
    save_file({k: v.detach().cpu().contiguous() for k, v in model.state_dict().items()}, part / "model.safetensors")
    moments = {
        f"{index}.{name}": value.detach().cpu().contiguous()
        for index, values in optimiser.state_dict()["state"].items()
        for name, value in values.items()
    }
    save_file(moments, part / "optimiser.safetensors")
    (part / "state.json").write_text(json.dumps({"step": step, **state}))
    target = folder / f"step-{step:08d}"
    if target.exists():
        shutil.rmtree(target)
    part.rename(target)
    for old in folder.iterdir():
        if old != target:
            shutil.rmtree(old, ignore_errors=True)


def latest(folder: Path) -> Path | None:
    found = sorted(folder.glob("step-*")) if folder.is_dir() else []
    return found[-1] if found else None


def load(path: Path, model: nn.Module, optimiser: Optimizer) -> dict[str, Any]:
    """Restore model and optimiser; returns the stored state with its step. Raises ValueError naming a broken file."""
    try:
        state = json.loads((path / "state.json").read_text())
        model.load_state_dict(load_file(path / "model.safetensors"))
        stored: dict[int, dict[str, Any]] = {}
        for key, value in load_file(path / "optimiser.safetensors").items():
            index, name = key.split(".", 1)
            stored.setdefault(int(index), {})[name] = value
        optimiser.load_state_dict({"state": stored, "param_groups": optimiser.state_dict()["param_groups"]})
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise ValueError(
            f"{path}: not a usable checkpoint ({error}); delete this folder to start the run again"
        ) from error
    return state
