"""`python -m benchmark advise`: what a dataset is like, and what the boards support for such data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from benchmark.cli.boards import run_leaderboards
from benchmark.cli.options import Choice, Modality, Places, TaskNames
from benchmark.recipe import Runtime
from tasks import host

PUBLISHED = Path("results/published")


def advise(
    places: Places,
    task: TaskNames,
    modality: Modality = "",
    boards: Annotated[Path, typer.Option(parser=host.path, help="Store whose boards are asked.")] = PUBLISHED,
) -> None:
    """Measure a dataset, a known one or your own (`data add`), and say what the boards support for it, or that nothing
    does."""
    import tasks
    from benchmark.cli import studies
    from benchmark.lab import locality
    from benchmark.probing import profile
    from benchmark.storage import results
    from tasks import store

    wanted = studies.read_choice(Choice(modality=modality, task=task))
    runtime = Runtime(data=places.data, results=places.results, cache=places.cache)
    for study in studies.find_studies(wanted, places.data, places.cache):
        for name, found in study.tasks.items():
            known = [tasks.get(study.modality, other) for other in tasks.names(study.modality)]
            family = [one for one in known if one.images == found.task.images] if found.task.synthetic else [found.task]
            typer.echo(
                f"{study.modality}/{name}: reading windows of its images, ten minutes or more of a core the first time"
            )
            locality.store_family(family, places.data, places.cache, places.results)
            rows = results.rows(places.results, "locality").to_pylist()
            (located,) = [
                r for r in rows if (r["task"], r["data"], r["version"]) == (name, found.identity, locality.VERSION)
            ]
            built = store.build(found.task, places.data, found.samples, locality.PIXELS, places.cache / "stores")
            seen = profile.measure(found, built, located, runtime)
            typer.echo(profile.describe(seen))
            if run_leaderboards("advise", "--results", boards, text=profile.as_json(seen)):
                raise typer.Exit(2)
