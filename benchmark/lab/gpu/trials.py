"""The development trials that were asked for: `python -m benchmark.lab.trials`, each in a process of its own."""

import shlex
import sys
from pathlib import Path
from typing import Any, NamedTuple

from benchmark import tracks
from benchmark.lab.gpu.line import called
from benchmark.recipe import Corpus, Recipe, twin
from tasks.phantoms import scenes

ANY = Corpus(name="development", members=(), digest="", images=0)


class Trial(NamedTuple):
    arguments: tuple[str, ...]  # of `python -m benchmark.lab.trials`
    recipes: tuple[Recipe, ...]  # what it trains, but for its changes: one for each modality

    @property
    def name(self) -> str:
        return f"trial/{shlex.join(self.arguments)}"


def read(text: str) -> list[Trial]:
    """Trials between semicolons, each as `benchmark.lab.trials` takes it: "mae --change lr=2e-3; ijepa --twin".
    Raises ValueError for what that would refuse."""
    return [_trial(part) for part in text.split(";") if part.strip()]


def _trial(text: str) -> Trial:
    import typer

    from benchmark.lab import trials

    try:
        arguments = shlex.split(text)
        given = typer.main.get_command(trials.app).make_context("trials", list(arguments)).params
    except Exception as error:  # typer's own: their common base is public in no version
        said = error.format_message() if hasattr(error, "format_message") else str(error)
        raise ValueError(f"trial {text.strip()!r}: {said or 'name a pretext and its changes'}") from error
    modalities = given["modality"].split(",") if given["modality"] else scenes.MODALITIES
    recipes = [
        tracks.recipe(given["track"], given["pretext"], modality=m, corpus=ANY, policy="", seed=given["seed"])
        for m in modalities
    ]
    changed = [trials.changed(recipe, given["change"] or []) for recipe in recipes]
    return Trial(tuple(arguments), tuple(map(twin, changed) if given["floor"] else changed))


def run(trial: Trial, results: Path, cache: Path) -> dict[str, Any]:
    """Raises ProcessError with what it said last."""
    command = [sys.executable, "-m", "benchmark.lab.trials", *trial.arguments]
    command += ["--root", str(results), "--cache", str(cache)]
    return {"scores": called(command)}
