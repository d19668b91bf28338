"""The registry: a folder scan. A file of `tasks/<modality>/` with a module-level `TASK` is a task by being there."""

import difflib
import importlib
import pkgutil

from tasks.base import Task

NOT_MODALITIES = ("phantoms",)


def unknown(kind: str, value: str, known: tuple[str, ...]) -> ValueError:
    """An error for a misspelt name: the value, the nearest match and the known ones."""
    near = difflib.get_close_matches(value, known, n=1, cutoff=0.4)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return ValueError(f"unknown {kind} {value!r}; {hint}known: {', '.join(known)}")


def modalities() -> tuple[str, ...]:
    found = (m.name for m in pkgutil.iter_modules(__path__) if m.ispkg)
    return tuple(sorted(name for name in found if name not in NOT_MODALITIES))


def names(modality: str) -> tuple[str, ...]:
    """Names of the modality's tasks, without importing them. Raises ValueError for an unknown modality."""
    if modality not in modalities():
        raise unknown("modality", modality, modalities())
    package = importlib.import_module(f"tasks.{modality}")
    return tuple(sorted(m.name for m in pkgutil.iter_modules(package.__path__) if not m.name.startswith("_")))


def get(modality: str, name: str) -> Task:
    """The task of that name. Raises ValueError, with the nearest match, for an unknown one."""
    if name not in names(modality):
        raise unknown(f"{modality} task", name, names(modality))
    return importlib.import_module(f"tasks.{modality}.{name}").TASK
