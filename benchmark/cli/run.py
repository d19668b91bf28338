"""`python -m benchmark run`, `plan` and `tracks`: compute what is missing, or say what that is."""

from __future__ import annotations

import json
import shlex
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import tasks
from benchmark import tracks
from benchmark.cli.boards import run_leaderboards
from benchmark.cli.options import CACHE, Choice, Computing, Places
from benchmark.device import machine
from benchmark.recipe import Runtime
from tasks import host

if TYPE_CHECKING:
    from benchmark.ceilings import Ceiling
    from benchmark.cli.studies import Part
    from benchmark.plan import Job

STAGES = ("", "prepare", "compute", "pretrain", "probe", "report")
LAUNCHES = ("local", "slurm")
Gpus = Annotated[int, typer.Option(min=1, help="Processes of this machine, one a GPU (gloo where it has none).")]


def run(
    ctx: typer.Context,
    choice: Choice,
    places: Places,
    computing: Computing,
    gpus: Gpus = 1,
    boards: Annotated[Path, typer.Option(parser=host.path, help="Where pages are written.")] = Path(
        "leaderboards/local"
    ),
    pack: Annotated[
        int | None, typer.Option(min=1, help="So many runs at once on each GPU, instead of each run on all GPUs.")
    ] = None,
    launch: Annotated[str, typer.Option(help="local, or slurm (through submitit).")] = "local",
    profile: Annotated[
        Path | None, typer.Option(parser=host.path, help="TOML file: what the SLURM site wants to know.")
    ] = None,
    stage: Annotated[str, typer.Option(help=f"A part of the work: {', '.join(STAGES[1:])}; empty: all of it.")] = "",
) -> None:
    """Compute what is missing, then write and print the leaderboard."""
    from benchmark.cli import studies
    from benchmark.execution import batches, capacity, slurm

    if stage not in STAGES:
        raise tasks.unknown("stage", stage, STAGES[1:])
    if launch not in LAUNCHES:
        raise tasks.unknown("launch", launch, LAUNCHES)
    if pack and (launch != "local" or computing.nodes > 1 or stage):
        raise ValueError("PACK= is for all the work of one machine: leave out LAUNCH, NODES and --stage, or PACK")
    if launch == "local" and stage in ("", "compute", "pretrain"):
        machine.refuse_missing_gpus(gpus)
    elif launch == "slurm" and not choice.precision and not choice.grid:
        on_gpus = slurm.profiles(profile)["pretrain"].gpus > 0
        choice = replace(choice, precision=tracks.default_precision(choice.track, on_gpus))
    parts = studies.find_parts(ctx, choice, places.data, places.cache)
    runtime = Runtime(**asdict(places), **asdict(computing), processes=gpus * computing.nodes)
    studies.refuse_full_disk(parts, runtime)
    if launch == "slurm":
        given = list_given(ctx, "launch", "profile", "runs", "stage", "precision")
        given += [] if choice.grid else ["--precision", choice.precision]
        missing = [job for part in parts for job in part.list_jobs(places.results)[0]]
        lacking = [ceiling for part in parts for ceiling in part.list_ceilings(places.results)]
        return submit(list_batches(missing, lacking), given, profile, places.cache)
    if pack:
        missing = [job for part in parts for job in part.list_jobs(places.results)[0]]
        capacity.refuse_full_memory(missing, gpus, pack, computing.micro)
        *_, missing, lacking = compute(parts, replace(runtime, processes=1), "prepare")
        given = list_given(ctx, "pack", "gpus", "runs", "stage")
        batches.run_batches(list_batches(missing, lacking), given, gpus, pack, places.cache / "logs", typer.echo)
    elif stage != "report":
        computed, present, *_ = compute(parts, runtime, stage)
        if stage or computing.node:
            return None
        typer.echo(f"\n{computed} cells computed, {present} were there already.")
    report(parts, places.results, boards)


def compute(parts: list[Part], runtime: Runtime, stage: str) -> tuple[int, int, list[Job], list[Ceiling]]:
    """(cells computed, cells present before, what there was to do, ceilings there were to train).

    Raises ValueError for a mode of computing that a track cannot have."""
    from benchmark.run import bench
    from benchmark.training import modes

    for part in parts:
        pixels = tracks.get(part.wanted.track).encoder.pixels
        modes.choose(runtime.compile, pixels, machine.device().gpus > 0, runtime.micro)
    computed, present, missing, lacking = 0, 0, [], []
    for part in parts:
        pixels = tracks.get(part.wanted.track).stored_pixels
        outcome = bench(part.wanted, part.studies, runtime, pixels, typer.echo, stage)
        for label in outcome.diverged:
            typer.echo(f"{label}: diverged, not probed")
        computed, present = computed + outcome.computed, present + outcome.present
        missing, lacking = missing + outcome.missing, lacking + outcome.ceilings
    return computed, present, missing, lacking


def report(parts: list[Part], results: Path, boards: Path) -> None:
    """Write the pages of the store, and print the boards of these parts; ends with the exit code of that."""
    absent: dict[str, dict[str, str]] = {}
    for study in (study for part in parts for study in part.studies):
        absent.setdefault(study.modality, {}).update(study.absent)
    shown = {f"{modality}/{part.wanted.track}" for part in parts for modality in part.wanted.modalities}
    given = [word for name in sorted(shown) for word in ("--board", name)]
    code = run_leaderboards("report", "--results", results, "--out", boards, *given, text=json.dumps(absent))
    if code:
        raise typer.Exit(code)


def list_batches(missing: list[Job], lacking: list[Ceiling]) -> list[tuple[str, ...]]:
    """What one job of many computes: a run with its twin, or a ceiling."""
    from benchmark import plan

    return plan.batches(missing) + [(ceiling.name,) for ceiling in lacking]


def list_given(ctx: typer.Context, *leave: str) -> list[str]:
    """The options that this command was given, as they may be given again, but for some."""
    given = []
    for option in ctx.command.params:
        if option.name in leave or ctx.get_parameter_source(option.name).name != "COMMANDLINE":
            continue
        value = ctx.params[option.name]
        given += ([option.opts[0]] * bool(value)) if option.is_flag else [option.opts[0], str(value)]
    return given


def submit(batches: list[tuple[str, ...]], arguments: list[str], profile: Path | None, cache: Path) -> None:
    """Hand the batches to SLURM, and say how to go on."""
    from benchmark.execution import slurm

    profiles = slurm.profiles(profile)
    if not batches:
        typer.echo("nothing to do: everything is there already")
        return
    stages = slurm.stages(batches, profiles)
    typer.echo("\n".join(slurm.submit(stages, arguments, slurm.new_folder(cache, stages))))
    place = "" if cache == CACHE else f" --cache {shlex.quote(str(cache))}"
    typer.echo(f"then: python -m benchmark slurm status{place}, logs RUN{place}, cancel [RUN]{place}")


def plan(
    ctx: typer.Context,
    choice: Choice,
    places: Places,
    gpus: Gpus = 1,
    write: Annotated[
        Path | None, typer.Option(parser=host.path, help="Write the grid of what is asked for into this file.")
    ] = None,
) -> None:
    """Print the missing cells with estimated FLOPs, time, memory and disk. Computes nothing."""
    from benchmark import grid
    from benchmark.cli import studies
    from benchmark.cost import count_cached_features
    from benchmark.execution import capacity
    from benchmark.plan import recipes

    machine.refuse_missing_gpus(gpus)
    runtime = Runtime(**asdict(places), processes=gpus)
    parts = studies.find_parts(ctx, choice, places.data, places.cache)
    if write:
        listed = [recipe for part in parts for study in part.studies for recipe in recipes(part.wanted, study, None)]
        grid.write(listed, write)
        typer.echo(f"{write}: a grid of {sum(recipe.budget > 0 for recipe in listed)} runs and their twins")
    jobs, counts = zip(*(part.list_jobs(places.results) for part in parts), strict=True)
    missing = [job for of_part in jobs for job in of_part]
    for job in missing:
        typer.echo(describe_job(job))
    lacking = [ceiling for part in parts for ceiling in part.list_ceilings(places.results)]
    for ceiling in lacking:
        family = ceiling.family
        typer.echo(
            f"{ceiling.recipe.modality:<11} ceiling  seed {ceiling.recipe.seed}  {ceiling.flops:.2g} FLOPs, "
            f"{len(family.divisions) * ceiling.steps:,} steps, with labels: {', '.join(family.heads)}"
        )
    cached = [count_cached_features(of_part, part.studies, runtime) for part, of_part in zip(parts, jobs, strict=True)]
    ready, needed = map(sum, zip(*cached, strict=True))
    pretrained = sum(not job.trained and job.recipe.budget > 0 for job in missing)
    typer.echo(
        f"{sum(counts)} cells are there already; {sum(len(job.cells) for job in missing)} missing, {pretrained} runs "
        f"to pretrain, {len(lacking)} ceilings"
    )
    typer.echo(f"features of {needed} pairs of encoder and images are needed, {ready} of them reused from the cache")
    for part, of_part in zip(parts, jobs, strict=True):
        advice = capacity.advise(of_part, part.wanted.track, places.results, gpus)
        typer.echo(f"{part.wanted.track}: {advice}" if len(parts) > 1 else advice)
    cost = studies.estimate(parts, runtime)
    typer.echo(
        f"about {cost.flops:.2g} training FLOPs, {cost.seconds / 60:.0f} minutes ({cost.basis}), "
        f"{cost.memory / 1e9:.1f} GB of memory, {cost.disk / 1e9:.2f} GB of disk"
    )


def describe_job(job: Job) -> str:
    """A line: the run, its state, and the tasks that it lacks cells of."""
    recipe = job.recipe
    kind = "twin" if recipe.budget == 0 else f"{recipe.budget:.2g} FLOPs, {tracks.steps(recipe):,} steps"
    state = "trained" if job.trained else kind
    lacking = ", ".join(sorted({cell.task for cell in job.cells})) or "none"
    start = f"{recipe.modality:<11} {recipe.pretext:<8} seed {recipe.seed}  {state:<28}"
    return f"{start} {len(job.cells):>3} cells: {lacking}"


def print_tracks() -> None:
    """Print what every track is: encoder, budget, and the batch, steps and images of each pretext."""
    typer.echo("\n".join(tracks.table()))
