"""An encoder of the user's own, MODULE:FUNCTION: their function is called, and the forward of what it returns is read.

Whatever their code raises is shown as theirs, with their part of the traceback.
"""

import contextlib
import importlib
import inspect
import os
import sys
import traceback
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import torch
from torch import Tensor

from benchmark.encoders.encoder import Tokens
from benchmark.encoders.weights import kind, shape
from tasks.base import DataError

UNTRAINED = "untrained"  # parameter of a function that can make the same encoder with the weights it begins with


class Made(NamedTuple):
    """What their function returned."""

    model: Callable[[Tensor], object]
    floor: Callable[[Tensor], object] | None  # untrained, where the function takes `untrained`
    sources: list[Path]  # files that it is written in, as far as they are known


def make(module: str, name: str, seed: int) -> Made:
    """Call their function; if it has a parameter `untrained`, again with True, for the floor, drawn from a seed. Raises
    ValueError for a name that is not there, DataError where their code raises."""
    imported = _imported(module, name)
    function = getattr(imported, name, None)
    if not callable(function):
        offered = sorted(key for key, value in vars(imported).items() if callable(value) and not key.startswith("_"))
        raise ValueError(
            f"--encoder {module}:{name}: {module} has no function {name}; it has {', '.join(offered) or 'none'}"
        )
    calls = [{}, {UNTRAINED: True}] if UNTRAINED in _parameters(function) else [{}]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model, *floor = [_called(module, name, function, given) for given in calls]
    return Made(model, floor[0] if floor else None, _sources(function, imported))


def _parameters(function: Callable[..., object]) -> Collection[str]:
    try:
        return inspect.signature(function).parameters
    except (TypeError, ValueError):  # built in, without one
        return ()


def _called(
    module: str, name: str, function: Callable[..., object], given: Mapping[str, object]
) -> Callable[[Tensor], object]:
    shown = ", ".join(f"{key}={value}" for key, value in given.items())
    called = f"called with {shown}" if given else "called without arguments"
    try:
        model = function(**given)
    except (Exception, SystemExit) as error:
        raise DataError(_theirs(f"--encoder {module}:{name}: {name}(), {called},", error)) from error
    if not callable(model):
        raise ValueError(
            f"--encoder {module}:{name}: {name}({shown}) returned a {type(model).__name__}, no module or function of "
            "images"
        )
    return model


def tokens(name: str, model: Callable[[Tensor], object], images: Tensor) -> Tokens:
    """What the forward of a model makes of images. Raises DataError for an answer that is not (B, D) or (B, N, D)."""
    try:
        answer = model(images)
    except Exception as error:
        raise DataError(_theirs(f"{name}, given images {shape(images)},", error)) from error
    tensor = _only_tensor(answer)
    if tensor is None or not (
        tensor.ndim in (2, 3) and len(tensor) == len(images) and tensor.numel() and tensor.is_floating_point()
    ):
        raise DataError(
            f"{name} answers images {shape(images)} with {name_kind(answer)}; return one tensor of real numbers, "
            f"(B, D) or patch tokens (B, N, D), here of B = {len(images)}"
        )
    return Tokens(None, tensor[:, None].float() if tensor.ndim == 2 else tensor.float())


def _sources(function: Callable[[], object], module: ModuleType) -> list[Path]:
    files = set()
    for part in (function, module):
        with contextlib.suppress(TypeError):  # built in, or made by another function
            files.add(inspect.getsourcefile(part))
    return sorted(Path(file) for file in files if file)


def _imported(module: str, name: str) -> ModuleType:
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        return importlib.import_module(module)
    except (Exception, SystemExit) as error:
        place = f"--encoder {module}:{name}"
        if isinstance(error, ModuleNotFoundError) and f"{module}.".startswith(f"{error.name}."):
            raise ValueError(f"{place}: {error}; run where {module}.py lies, or install it") from error
        raise DataError(_theirs(f"{place}: importing {module}", error)) from error


def _only_tensor(answer: object) -> Tensor | None:
    """The tensor that an answer is, or the only one that it holds."""
    values = (
        answer.values() if isinstance(answer, Mapping) else answer if isinstance(answer, tuple | list) else [answer]
    )
    held = [value for value in values if value is not None]
    return held[0] if len(held) == 1 and isinstance(held[0], Tensor) else None


def name_kind(answer: object) -> str:
    if isinstance(answer, Tensor):
        return f"a tensor {kind(answer)}"
    if isinstance(answer, Mapping):
        return f"a dict of {', '.join(f'{name} ({name_kind(value)})' for name, value in answer.items()) or 'nothing'}"
    if isinstance(answer, tuple | list):
        return f"a {type(answer).__name__} of {', '.join(map(name_kind, answer)) or 'nothing'}"
    return f"a {type(answer).__name__}"


def _theirs(place: str, error: BaseException) -> str:
    """An exception in code of the user's, with the part of its traceback that is not ours."""
    shown = traceback.TracebackException.from_exception(error)
    frames = [frame for frame in shown.stack if "importlib" not in frame.filename and frame.filename != __file__]
    shown.stack = traceback.StackSummary.from_list(frames)
    return f"{place} raised {type(error).__name__}: {error}\n{''.join(shown.format()).rstrip()}"
