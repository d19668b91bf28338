"""The registry: a folder scan. A file of `tasks/<modality>/` with a `TASK` or `TASKS` is there by being there.

Tasks that a user described without code (`python -m benchmark data add`) are found beside them.
"""

import difflib
import functools
import importlib
import pkgutil

from tasks.base import DataError, Task
from tasks.own import description

NOT_MODALITIES = ("obtain", "own", "phantoms", "reading", "sources")


def unknown(kind: str, value: str, known: tuple[str, ...]) -> ValueError:
    """An error for a misspelt name: the value, the nearest match and the known ones."""
    near = difflib.get_close_matches(value, known, n=1, cutoff=0.4)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return ValueError(f"unknown {kind} {value!r}; {hint}known: {', '.join(known)}")


def modalities() -> tuple[str, ...]:
    found = (m.name for m in pkgutil.iter_modules(__path__) if m.ispkg)
    return tuple(sorted(name for name in found if name not in NOT_MODALITIES))


def names(modality: str) -> tuple[str, ...]:
    """Names of the modality's tasks. Raises ValueError for an unknown modality."""
    return tuple(sorted(_found(modality)))


def get(modality: str, name: str) -> Task:
    """The task of that name. Raises ValueError, with the nearest match, for an unknown one, and DataError for one whose
    description is broken."""
    found = _found(modality)
    if name in found:
        return found[name]
    if name in (damaged := broken(modality)):
        raise damaged[name]
    raise unknown(f"{modality} task", name, tuple(sorted(found)))


def broken(modality: str) -> dict[str, DataError]:
    """Name -> why no task is there, of the files that should describe one: they stop nobody who does not ask for it."""
    return description.read_all(modality, taken=_written(modality)).broken


def _found(modality: str) -> dict[str, Task]:
    if modality not in modalities():
        raise unknown("modality", modality, modalities())
    written = _written(modality)
    return written | description.read_all(modality, taken=written).tasks


@functools.cache
def _written(modality: str) -> dict[str, Task]:
    package = importlib.import_module(f"tasks.{modality}")
    files = [m.name for m in pkgutil.iter_modules(package.__path__) if not m.name.startswith("_")]
    modules = [importlib.import_module(f"tasks.{modality}.{name}") for name in files]
    found = [task for module in modules for task in getattr(module, "TASKS", None) or (module.TASK,)]
    return {task.name: task for task in found}
