"""Pretexts and probes register by being there: one file of `benchmark/pretexts/` or `benchmark/probes/` each, a plain
module that is imported, and torch with it, when it is first asked for."""

import importlib
import pkgutil
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import ModuleType

from benchmark.recipe import EncoderSpec, Optim, Recipe
from tasks import unknown

FOLDER = Path(__file__).parent


@cache
def names(kind: str) -> tuple[str, ...]:
    """File names of benchmark/<kind>/, kind being "pretexts" or "probes"."""
    found = (module.name for module in pkgutil.iter_modules([str(FOLDER / kind)]))
    return tuple(sorted(name for name in found if not name.startswith("_")))


def load(kind: str, name: str) -> ModuleType:
    """The module of a pretext or probe. Raises ValueError, with the nearest match, if unknown."""
    if name not in names(kind):
        raise unknown(kind.removesuffix("s"), name, names(kind))
    return importlib.import_module(f"benchmark.{kind}.{name}")


def defaults(kind: str) -> tuple[str, ...]:
    """The pretexts or probes that run unless others are asked for: those whose file does not say ON_REQUEST."""
    return tuple(name for name in names(kind) if not getattr(load(kind, name), "ON_REQUEST", False))


def settings(pretext: str, encoder: EncoderSpec) -> Optim:
    """The settings of "name" or "name:arm" for an encoder. Raises ValueError, with the nearest match, if unknown."""
    name, _, arm = pretext.partition(":")
    module = load("pretexts", name)
    if not arm:
        return module.settings(encoder)
    arms = getattr(module, "ARMS", {})
    if arm not in arms:
        raise unknown(f"arm of {name}", arm, tuple(sorted(arms)))
    return replace(arms[arm](encoder), arm=arm)


def typed(recipe: Recipe) -> Recipe:
    """A recipe that was read from JSON, with the Settings of its pretext, by which it can be trained. Raises ValueError
    for settings that this version does not know or lacks."""
    module = load("pretexts", recipe.pretext)
    given = {name: tuple(value) if isinstance(value, list) else value for name, value in vars(recipe.settings).items()}
    try:
        return replace(recipe, settings=module.Settings(**given))
    except TypeError as error:
        raise ValueError(f"not the settings of {recipe.pretext} {module.VERSION} ({error})") from error
