"""Pretexts and probes register by being there: one file of `benchmark/pretexts/` or `benchmark/probes/` each.

A pretext file opens with its declarations (VERSION, Settings, flops, ...) and imports torch below them, so that
planning reads the declarations without paying for torch.
"""

import importlib
import pkgutil
import re
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import ModuleType

from benchmark.recipe import EncoderSpec, Optim
from tasks import unknown

FOLDER = Path(__file__).parent


@cache
def names(kind: str) -> tuple[str, ...]:
    """File names of benchmark/<kind>/, kind being "pretexts" or "probes"."""
    found = (m.name for m in pkgutil.iter_modules([str(FOLDER / kind)]))
    return tuple(sorted(name for name in found if not name.startswith("_")))


def _check(kind: str, name: str) -> None:
    if name not in names(kind):
        raise unknown(kind.removesuffix("s"), name, names(kind))


def defaults(kind: str) -> tuple[str, ...]:
    """The pretexts or probes that run unless others are asked for: those whose file does not say ON_REQUEST."""
    return tuple(name for name in names(kind) if not getattr(declarations(kind, name), "ON_REQUEST", False))


def default_pretexts() -> tuple[str, ...]:
    return defaults("pretexts")


def settings(pretext: str, encoder: EncoderSpec) -> Optim:
    """The settings of "name" or "name:arm" for an encoder. Raises ValueError, with the nearest match, if unknown."""
    name, _, arm = pretext.partition(":")
    declared = declarations("pretexts", name)
    if not arm:
        return declared.settings(encoder)
    arms = getattr(declared, "ARMS", {})
    if arm not in arms:
        raise unknown(f"arm of {name}", arm, tuple(sorted(arms)))
    return replace(arms[arm](encoder), arm=arm)


@cache
def declarations(kind: str, name: str) -> ModuleType:
    """The part of the file above its first torch import. Raises ValueError, with the nearest match, if unknown."""
    _check(kind, name)
    path = FOLDER / kind / f"{name}.py"
    head = re.split(r"^(?:import|from) torch\b", path.read_text(encoding="utf-8"), maxsplit=1, flags=re.MULTILINE)[0]
    module = ModuleType(f"benchmark.{kind}.{name}:declarations")
    exec(compile(head, str(path), "exec"), module.__dict__)
    return module


def load(kind: str, name: str) -> ModuleType:
    """The whole module. Raises ValueError, with the nearest match, if unknown."""
    _check(kind, name)
    return importlib.import_module(f"benchmark.{kind}.{name}")
