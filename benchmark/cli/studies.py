"""What a command is asked for, and what of it is found, missing and needed."""

from dataclasses import dataclass, replace
from pathlib import Path

import typer

import tasks
from benchmark import ceilings, grid, plan, registry, tracks
from benchmark.ceilings import Ceiling
from benchmark.cli.options import DATA, Choice, split_names
from benchmark.cost import Cost, estimate_cost, sum_costs
from benchmark.device import machine
from benchmark.plan import Job
from benchmark.recipe import Runtime
from benchmark.study import Study, Wanted, absent_by_reason, expand_names, survey, validate
from tasks.base import DataError
from tasks.reading import folders


@dataclass(frozen=True)
class Part:
    """Of what is asked for, what is of one track and corpus; before it is known which images cannot be read."""

    wanted: Wanted
    studies: list[Study]

    def list_jobs(self, results: Path) -> tuple[list[Job], int]:
        """(jobs with something missing, cells that are there)."""
        found = [plan.jobs(self.wanted, study, results, None) for study in self.studies]
        return [job for jobs, _ in found for job in jobs], sum(present for _, present in found)

    def list_ceilings(self, results: Path) -> list[Ceiling]:
        """Ceilings that are not stored."""
        return [ceiling for study in self.studies for ceiling in ceilings.missing(self.wanted, study, results)]


def read_choice(choice: Choice) -> Wanted:
    """What the options ask for, grids apart. Raises ValueError for anything misspelt."""
    wanted = Wanted(
        modalities=split_names(choice.modality) or tasks.modalities(),
        track=choice.track,
        pretexts=split_names(choice.pretext) or registry.defaults("pretexts"),
        tasks=expand_names(split_names(choice.task)),
        probes=registry.names("probes") if choice.probe == "all" else split_names(choice.probe),
        seeds=choice.seeds,
        ceilings=choice.ceilings,
        corpus=choice.corpus,
        policy=choice.policy,
        precision=choice.precision or tracks.default_precision(choice.track),
        runs=split_names(choice.runs),
    )
    validate(wanted)
    return wanted


def find_parts(ctx: typer.Context, choice: Choice, data: Path, cache: Path) -> list[Part]:
    """What is asked for by options, or by a grid and the options that narrow it, with what of it is here."""
    parts: list[Part] = []
    known: dict[tuple[str, str | None], Study] = {}
    for wanted in _read_grid(ctx, choice) if choice.grid else [read_choice(choice)]:
        new = tuple(modality for modality in wanted.modalities if (modality, wanted.corpus) not in known)
        found = find_studies(replace(wanted, modalities=new), data, cache)
        known |= {(study.modality, wanted.corpus): study for study in found}
        parts.append(Part(wanted, [known[modality, wanted.corpus] for modality in wanted.modalities]))
    return parts


def _read_grid(ctx: typer.Context, choice: Choice) -> list[Wanted]:
    for name in ("track", "pretext", "seeds", "precision"):
        if ctx.get_parameter_source(name).name == "COMMANDLINE" and ctx.params[name] not in ("", None):
            raise ValueError(
                f"--{name} has no say beside --grid: {choice.grid} says it for every run; leave it out, or narrow the "
                "grid by --modality, --task, --probe or --runs"
            )
    recipes = grid.read(choice.grid)
    narrowed = read_choice(replace(choice, track=recipes[0].track, pretext="", seeds=None, precision="fp32"))
    return grid.asked(recipes, replace(narrowed, modalities=split_names(choice.modality)))


def find_studies(wanted: Wanted, data: Path, cache: Path) -> list[Study]:
    """A study of each modality; prints what is absent, partial or left out. Raises DataError."""
    if data != DATA and not data.is_dir():
        raise DataError(f"{data}: no such folder; point DATA at the folder that holds the datasets")
    studies = [survey(wanted, modality, data, cache) for modality in wanted.modalities]
    for study in studies:
        for reason, names in absent_by_reason(study).items():
            typer.echo(f"{study.modality}/{', '.join(names)}: {reason}")
        for name, found in study.tasks.items():
            expected, count = found.task.expected, len(found.samples)
            if expected and count < expected:
                typer.echo(f"{study.modality}/{name}: partial, {count:,} of {expected:,} images")
        members = study.pinned.members if study.pinned else []
        sources = [found.task for found in study.tasks.values()] + [member.source for member in members]
        for name, source in {source.name: source for source in sources}.items():
            if source.left_out and (unread := folders.summarise(source.left_out(data))):
                typer.echo(f"{study.modality}/{name}: {unread}")
    return studies


def estimate(parts: list[Part], runtime: Runtime) -> Cost:
    """What all that is missing costs."""
    return sum_costs(
        [
            estimate_cost(
                part.list_jobs(runtime.results)[0],
                part.studies,
                part.wanted.track,
                runtime,
                part.list_ceilings(runtime.results),
            )
            for part in parts
        ]
    )


def refuse_full_disk(parts: list[Part], runtime: Runtime) -> None:
    """Raises DataError where more is needed than is free."""
    needed, free = estimate(parts, runtime).disk, machine.free_disk(runtime.cache.absolute())
    if needed > free:
        raise DataError(
            f"{runtime.cache}: {needed / 1e9:.1f} GB are needed, {free / 1e9:.1f} GB are free; "
            "make room, or set --cache and --results"
        )
