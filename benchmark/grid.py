"""A grid: a frozen list of runs, of any tracks and modalities. JSON Lines, a recipe a line; twins are implied, not
listed. What a later version of this code would compose otherwise is still the run that was written down, or refused."""

from dataclasses import replace
from pathlib import Path

import tasks
from benchmark import ceilings, corpus, registry, tracks
from benchmark.recipe import ENGINE, Recipe, canonical, from_json, key, twin
from benchmark.study import Wanted
from tasks.base import DataError


def write(recipes: list[Recipe], path: Path) -> None:
    """Write the runs among the recipes; twins are left out. Raises DataError for a run listed twice, for none, and for
    a file that holds another grid."""
    listed = [recipe for recipe in recipes if recipe.budget]
    if not listed or len({key(recipe) for recipe in listed}) < len(listed):
        raise DataError(f"{path}: a grid lists at least one run, and each once; got {len(listed)}: nothing is written")
    text = "".join(f"{canonical(recipe)}\n" for recipe in listed)
    if path.exists() and path.read_bytes() != text.encode():
        raise DataError(f"{path}: holds something else, and a grid is frozen once written; name another file")
    path.parent.mkdir(parents=True, exist_ok=True)
    staging = path.with_name(f".{path.name}.writing")
    staging.write_text(text, encoding="utf-8")
    staging.replace(path)


def read(path: Path) -> list[Recipe]:
    """The runs of a grid, in its order. Raises DataError naming file, line and remedy for a broken line, a run listed
    twice, and one that this code could not train as it was frozen."""
    try:
        lines = path.read_bytes().decode().split("\n")
    except (FileNotFoundError, IsADirectoryError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: no grid ({error}); `python -m benchmark plan --write FILE` writes one") from error
    found: dict[str, int] = {}
    recipes = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            recipe = _trainable(from_json(line))
            if canonical(recipe) != line.strip():
                raise ValueError(f"not written as run {key(recipe)} is by this code, so its id may be another")
        except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError) as error:
            raise DataError(f"{path}:{number}: {error}; write the grid again, or take the line out") from error
        if (first := found.setdefault(key(recipe), number)) != number:
            raise DataError(f"{path}:{number}: run {key(recipe)} is on line {first} already; take one of them out")
        recipes.append(recipe)
    if not recipes:
        raise DataError(f"{path}: no run in it; `python -m benchmark plan --write FILE` writes a grid")
    return recipes


def _trainable(recipe: Recipe) -> Recipe:
    """The recipe with its pretext's own settings. Raises ValueError unless this code would train just this."""
    if recipe.modality not in tasks.modalities():
        raise tasks.unknown("modality", recipe.modality, tasks.modalities())
    if recipe.precision not in ("fp32", "bf16"):
        raise tasks.unknown("precision", recipe.precision, ("fp32", "bf16"))
    if type(recipe.budget) is not float or recipe.budget <= 0:
        raise ValueError(f"a budget of {recipe.budget!r}; a grid lists runs with their FLOPs, twins go with them")
    if type(recipe.seed) is not int or recipe.seed < 0:
        raise ValueError(f"seed {recipe.seed!r} is no whole number from 0 on")
    declared = registry.load("pretexts", recipe.pretext)
    if (recipe.engine, recipe.pretext_version) != (ENGINE, declared.VERSION):
        raise ValueError(
            f"frozen for engine {recipe.engine} and {recipe.pretext} {recipe.pretext_version}; this code, of engine "
            f"{ENGINE} and {recipe.pretext} {declared.VERSION}, cannot train it so, but the commit that froze it can"
        )
    if (pixels := tracks.get(recipe.track).stored_pixels) != recipe.stored_pixels:
        raise ValueError(f"images stored at {recipe.stored_pixels} pixels, the {recipe.track} track has {pixels} here")
    typed = registry.typed(recipe)
    if canonical(typed) != canonical(recipe):
        raise ValueError(f"settings of {recipe.pretext} are missing")
    tracks.steps(typed)
    return typed


def asked(recipes: list[Recipe], narrowed: Wanted) -> list[Wanted]:
    """What to work through: a Wanted for each track and corpus of a grid, in its order.

    narrowed: with the modalities (empty: all), tasks, probes and runs that were asked for, and the corpus where the
    grid's own is not known by its name. Raises ValueError where nothing is left, DataError for a corpus to be named."""
    of_no_run = any(name.startswith(ceilings.PREFIX) for name in narrowed.runs)
    kept = [
        recipe
        for recipe in recipes
        if (not narrowed.modalities or recipe.modality in narrowed.modalities)
        and (
            not narrowed.runs or of_no_run or any(key(one).startswith(narrowed.runs) for one in (recipe, twin(recipe)))
        )
    ]
    if not kept:
        raise ValueError("the grid has no such run: --modality or --runs leaves none of it")
    parts: dict[tuple[str, str], list[Recipe]] = {}
    for recipe in kept:
        parts.setdefault((recipe.track, recipe.corpus.name), []).append(recipe)
    return [
        replace(
            narrowed,
            track=track,
            modalities=tuple(dict.fromkeys(recipe.modality for recipe in listed)),
            corpus=narrowed.corpus or _known(name),
            recipes=tuple(listed),
        )
        for (track, name), listed in parts.items()
    ]


def _known(name: str) -> str:
    if name not in corpus.NAMES:
        raise DataError(f"the grid's runs are of the corpus {name!r}; say where it lies, such as CORPUS=folder:/images")
    return name
