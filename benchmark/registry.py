"""Pretexts and probes register by being there: one file of `benchmark/pretexts/` or `benchmark/probes/` each.

A pretext file opens with its declarations (VERSION, Settings, flops, ...) and imports torch below them, so that
planning reads the declarations without paying for torch.
"""

import importlib
import pkgutil
import re
from functools import cache
from pathlib import Path
from types import ModuleType

from tasks import unknown

FOLDER = Path(__file__).parent


def names(kind: str) -> tuple[str, ...]:
    """File names of benchmark/<kind>/, kind being "pretexts" or "probes"."""
    found = (m.name for m in pkgutil.iter_modules([str(FOLDER / kind)]))
    return tuple(sorted(name for name in found if not name.startswith("_")))


def _check(kind: str, name: str) -> None:
    if name not in names(kind):
        raise unknown(kind.removesuffix("s"), name, names(kind))


@cache
def declarations(kind: str, name: str) -> ModuleType:
    """The part of the file above its first torch import. Raises ValueError, with the nearest match, if unknown."""
    _check(kind, name)
    path = FOLDER / kind / f"{name}.py"
    head = re.split(r"^(?:import|from) torch\b", path.read_text(), maxsplit=1, flags=re.MULTILINE)[0]
    module = ModuleType(f"benchmark.{kind}.{name}:declarations")
    exec(compile(head, str(path), "exec"), module.__dict__)
    return module


def load(kind: str, name: str) -> ModuleType:
    """The whole module. Raises ValueError, with the nearest match, if unknown."""
    _check(kind, name)
    return importlib.import_module(f"benchmark.{kind}.{name}")
