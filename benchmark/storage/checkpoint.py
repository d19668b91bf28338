"""Where a pretraining stands, on disk: safetensors and JSON, never pickles.

    <cache>/checkpoints/<run>/step-00001200/   model.safetensors optimiser.safetensors state.json

A checkpoint appears whole by a rename, with the SHA-256 of its files in state.json. The last two are kept: where the
last is damaged, the one before it is gone on from.
"""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from benchmark.storage import seals, temporary

KEPT = 2
FILES = ("model", "optimiser")


def save(folder: Path, step: int, model: nn.Module, optimiser: Optimizer, state: dict[str, Any]) -> Path:
    """state: JSON-able values of the loop that are not a function of the step. Returns the checkpoint."""
    target = folder / f"step-{step:08d}"
    part = temporary.beside(target)
    part.mkdir(parents=True)
    write(model.state_dict(), part / "model.safetensors")
    moments = {
        f"{name}.{moment}": value
        for name, parameter in model.named_parameters()
        for moment, value in optimiser.state.get(parameter, {}).items()
    }
    write(moments, part / "optimiser.safetensors")
    hashes = {name: seals.sha256(part / f"{name}.safetensors") for name in FILES}
    (part / "state.json").write_text(json.dumps({"step": step, "sha256": hashes, **state}), encoding="utf-8")
    if target.exists():
        shutil.rmtree(target)
    part.rename(target)
    kept = {target, *stored(folder)[:KEPT]}
    for old in folder.iterdir():
        if old not in kept:
            shutil.rmtree(old, ignore_errors=True)
    return target


def write(tensors: dict[str, Tensor], path: Path) -> None:
    """As safetensors, whatever device they are on. Raises OSError, where safetensors has an error of its own for a full
    disk."""
    try:
        save_file({name: value.detach().cpu().contiguous() for name, value in tensors.items()}, path)
    except SafetensorError as error:
        raise OSError(f"{path}: {error}") from error


def stored(folder: Path) -> list[Path]:
    """The checkpoints of a run, the newest first."""
    return sorted(folder.glob("step-*"), reverse=True) if folder.is_dir() else []


def load(folder: Path, model: nn.Module, optimiser: Optimizer) -> tuple[Path, dict[str, Any]] | None:
    """Restore model and optimiser from the newest sound checkpoint; returns it and the stored state with its step, or
    None where there is none. What is damaged is named on stderr. Raises ValueError if a sound one does not fit."""
    for path in stored(folder):
        try:
            state, weights, flat = _read(path)
        except (OSError, ValueError, TypeError, LookupError, RecursionError, SafetensorError) as error:
            print(f"{path}: damaged checkpoint, going on from the one before it ({error})", file=sys.stderr)
            continue
        try:
            model.load_state_dict(weights)
            optimiser.load_state_dict(_numbered(flat, model, optimiser))
        except (ValueError, KeyError, RuntimeError) as error:
            raise ValueError(
                f"{path}: not a checkpoint of this run ({str(error).splitlines()[0]}); "
                f"delete {folder} to start the run again"
            ) from error
        return path, state
    return None


def _numbered(flat: dict[str, Tensor], model: nn.Module, optimiser: Optimizer) -> dict[str, Any]:
    """The optimiser's state, which is stored by the names of parameters, by their numbers, as torch wants it. Raises
    KeyError for a name that is not trained here."""
    groups = optimiser.state_dict()["param_groups"]
    trained = [p for group in optimiser.param_groups for p in group["params"]]
    numbers = dict(zip(trained, (number for group in groups for number in group["params"]), strict=True))
    named = {name: numbers[p] for name, p in model.named_parameters() if p in numbers}
    moments: dict[int, dict[str, Tensor]] = {}
    for name, value in flat.items():
        parameter, _, moment = name.rpartition(".")
        moments.setdefault(named[parameter], {})[moment] = value
    return {"state": moments, "param_groups": groups}


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor], dict[str, Tensor]]:
    state = json.loads((path / "state.json").read_text(encoding="utf-8"))
    for name in FILES:
        file = path / f"{name}.safetensors"
        if seals.sha256(file) != state["sha256"][name]:
            raise ValueError(f"{file.name} is not as it was written")
    return state, load_file(path / "model.safetensors"), load_file(path / "optimiser.safetensors")
