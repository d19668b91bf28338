"""The command line: parses, calls, prints. No logic."""

import json
import os
import shlex
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

import tasks
from benchmark import ceilings as labelled
from benchmark import grid, plan, registry, tracks
from benchmark.cli import data_commands, slurm_commands
from benchmark.cost import Cost, count_cached_features, estimate_cost, sum_costs
from benchmark.device import doctor as checks
from benchmark.device import machine
from benchmark.execution import pack as packing
from benchmark.execution import slurm
from benchmark.maps.reader import cli as reader_commands
from benchmark.recipe import Runtime
from benchmark.storage.schema import SchemaError
from benchmark.study import Study, Wanted, absent_by_reason, expand_names, survey, validate
from benchmark.training import stopping
from tasks import host
from tasks.base import DataError, ProcessError
from tasks.reading import folders

INTERRUPTED = 130  # exit code of a command stopped by Ctrl-C
STAGES = ("", "prepare", "compute", "pretrain", "probe", "report")
LAUNCHES = ("local", "slurm", "sbatch")

app = typer.Typer(
    help="Pretext Bench: pretrain every pretext on every modality, probe the frozen encoders, rank them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(data_commands.app, name="data")
app.add_typer(reader_commands.app, name="reader")
app.add_typer(slurm_commands.app, name="slurm")

Modality = Annotated[str, typer.Option(help="Comma-separated; empty: all.")]
Track = Annotated[str, typer.Option(help=f"Budget: {', '.join(tracks.TRACKS)}, or <track>-images.")]
Pretext = Annotated[str, typer.Option(help="Comma-separated, name or name:arm; empty: the three of the study.")]
TaskNames = Annotated[str, typer.Option("--task", help="Comma-separated; empty: those that go with the corpus.")]
Probe = Annotated[
    str, typer.Option(help=f"Comma-separated: {', '.join(registry.names('probes'))}, or all; empty: linear and kNN.")
]
Seeds = Annotated[int | None, typer.Option(help="Pretraining seeds; default: the track's.")]
Ceilings = Annotated[
    int | None,
    typer.Option("--ceilings", help="Seeds of the models trained with labels; 0: none; default: the track's."),
]
Gpus = Annotated[int, typer.Option(min=1, help="Processes of this machine, one a GPU (gloo where it has none).")]
Data = Annotated[Path, typer.Option(parser=host.path, help="Folder with datasets in their native layout.")]
CorpusName = Annotated[
    str | None,
    typer.Option("--corpus", help="phantom, open, local or kind:location; default: local where data are found."),
]
Policy = Annotated[str, typer.Option(help="How real images are squared: pad, crop or sector; default: the dataset's.")]
Results = Annotated[Path, typer.Option(parser=host.path, help="Store of finished work.")]
Published = Annotated[Path, typer.Option(parser=host.path, help="Store of published runs.")]
Cache = Annotated[Path, typer.Option(parser=host.path, help="Image stores, features, checkpoints; may be deleted.")]
Boards = Annotated[Path, typer.Option(parser=host.path, help="Where pages are written.")]
Precision = Annotated[
    str | None, typer.Option(help="fp32 or bf16; default: bf16 on a GPU, fp32 on tracks of 64 pixels.")
]
Threads = Annotated[int | None, typer.Option(help="Torch threads per process.")]
Skip = Annotated[bool, typer.Option(help="Leave unreadable images out, and record it.")]
Micro = Annotated[int | None, typer.Option(min=1, help="Images at once of a larger batch (MAE, I-JEPA): less memory.")]
Runs = Annotated[
    str, typer.Option(help="Ids of runs, names of ceilings, or their beginnings, comma-separated; empty: all.")
]
Grid = Annotated[
    Path | None,
    typer.Option("--grid", parser=host.path, help="A grid: a file of frozen runs, instead of track, pretext, seeds."),
]
Compile = Annotated[
    str | None,
    typer.Option("--compile", help="0, 1 (torch.compile) or graphs (CUDA); default: 1 on a GPU above 64 pixels."),
]


def _listed(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))


def _wanted(
    modality: str,
    track: str,
    pretext: str,
    task: str,
    probe: str,
    seeds: int | None,
    corpus: str | None,
    policy: str,
    precision: str | None,
    ceilings: int | None = None,
    runs: tuple[str, ...] = (),
) -> Wanted:
    wanted = Wanted(
        modalities=_listed(modality) or tasks.modalities(),
        track=track,
        pretexts=_listed(pretext) or registry.defaults("pretexts"),
        tasks=expand_names(_listed(task)),
        probes=registry.names("probes") if probe == "all" else _listed(probe),
        seeds=seeds,
        ceilings=ceilings,
        corpus=corpus,
        policy=policy,
        precision=precision or tracks.default_precision(track),
        runs=runs,
    )
    validate(wanted)
    return wanted


Part = tuple[Wanted, list[Study]]  # of a grid: what is of one track and corpus


def _asked(
    ctx: typer.Context, file: Path | None, modality: str, task: str, probe: str, runs: str, **more: object
) -> list[Wanted]:
    """What to work through: what the options say, or what a grid lists of it. more: options of `_wanted`."""
    if file is None:
        return [_wanted(modality, more.pop("track"), more.pop("pretext"), task, probe, runs=_listed(runs), **more)]
    for name in ("track", "pretext", "seeds", "precision"):
        if ctx.get_parameter_source(name).name == "COMMANDLINE" and ctx.params[name] not in ("", None):
            raise ValueError(
                f"--{name} has no say beside --grid: {file} says it for every run; leave it out, or narrow the grid by "
                "--modality, --task, --probe or --runs"
            )
    recipes = grid.read(file)
    narrowed = replace(
        _wanted(
            *(modality, recipes[0].track, "", task, probe, None),
            *(more["corpus"], more["policy"], "fp32", more["ceilings"]),
        ),
        modalities=_listed(modality),
        runs=_listed(runs),
    )
    return grid.asked(recipes, narrowed)


def _parts(asked: list[Wanted], data: Path, cache: Path) -> list[Part]:
    parts, known = [], {}
    for wanted in asked:
        new = tuple(modality for modality in wanted.modalities if (modality, wanted.corpus) not in known)
        known |= {(s.modality, wanted.corpus): s for s in _studies(replace(wanted, modalities=new), data, cache)}
        parts.append((wanted, [known[modality, wanted.corpus] for modality in wanted.modalities]))
    return parts


def _studies(wanted: Wanted, data: Path, cache: Path) -> list[Study]:
    if data != Path("data") and not data.is_dir():
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
        sources = {
            source.name: source for source in [d.task for d in study.tasks.values()] + [m.source for m in members]
        }
        for name, source in sources.items():
            if source.left_out and (unread := folders.summarise(source.left_out(data))):
                typer.echo(f"{study.modality}/{name}: {unread}")
    return studies


@app.command()
def run(
    ctx: typer.Context,
    modality: Modality = "",
    track: Track = "demo",
    pretext: Pretext = "",
    task: TaskNames = "",
    probe: Probe = "",
    seeds: Seeds = None,
    ceilings: Ceilings = None,
    gpus: Gpus = 1,
    data: Data = Path("data"),
    corpus: CorpusName = None,
    policy: Policy = "",
    results: Results = Path("results/local"),
    cache: Cache = Path(".cache"),
    boards: Boards = Path("leaderboards/local"),
    precision: Precision = None,
    threads: Threads = None,
    checkpoint_seconds: Annotated[float, typer.Option(help="Between checkpoints.")] = 120.0,
    skip_unreadable: Skip = False,
    micro: Micro = None,
    compile_: Compile = None,
    pack: Annotated[
        int | None, typer.Option(min=1, help="So many runs at once on each GPU, instead of each run on all GPUs.")
    ] = None,
    nodes: Annotated[int, typer.Option(min=1, help="Machines that train each run together.")] = 1,
    node: Annotated[int, typer.Option(min=0, help="Which of them this is.")] = 0,
    head: Annotated[str, typer.Option(help="address:port of node 0.")] = "",
    launch: Annotated[str, typer.Option(help="local, slurm (through submitit) or sbatch (write scripts).")] = "local",
    profile: Annotated[
        Path | None, typer.Option(parser=host.path, help="TOML file: what the SLURM site wants to know.")
    ] = None,
    runs: Runs = "",
    file: Grid = None,
    stage: Annotated[str, typer.Option(help=f"A part of the work: {', '.join(STAGES[1:])}; empty: all of it.")] = "",
) -> None:
    """Compute what is missing, then write and print the leaderboard."""
    if stage not in STAGES:
        raise tasks.unknown("stage", stage, STAGES[1:])
    if launch not in LAUNCHES:
        raise tasks.unknown("launch", launch, LAUNCHES)
    if launch == "local" and stage in ("", "compute", "pretrain"):
        machine.refuse_missing_gpus(gpus)
    elif launch != "local" and not precision and file is None:
        there = slurm.profiles(profile)["pretrain"].gpus > 0
        precision = tracks.default_precision(track, there)
    if pack and (launch != "local" or nodes > 1 or stage):
        raise ValueError("PACK= is for all the work of one machine: leave out LAUNCH, NODES and --stage, or PACK")
    options = {"track": track, "pretext": pretext, "seeds": seeds, "ceilings": ceilings}
    options |= {"corpus": corpus, "policy": policy}
    asked = _asked(ctx, file, modality, task, probe, runs, precision=precision, **options)
    runtime = Runtime(
        data=data,
        results=results,
        cache=cache,
        processes=gpus * nodes,
        nodes=nodes,
        node=node,
        head=head,
        threads=threads,
        checkpoint_seconds=checkpoint_seconds,
        skip_unreadable=skip_unreadable,
        micro=micro,
        compile=compile_,
    )
    parts = _parts(asked, data, cache)
    _refuse_full_disk(parts, runtime)
    if launch != "local" or pack:
        missing = [job for wanted, studies in parts for job in _jobs(wanted, studies, results)[0]]
        lacking = [one for wanted, studies in parts for one in _lacking(wanted, studies, results)]
        if launch != "local":
            given = _given(ctx, "launch", "profile", "runs", "stage", "precision")
            given += [] if file else ["--precision", precision]
            return _hand_over(_groups(missing, lacking), given, launch, profile, cache)
        packing.refuse_full_memory(missing, gpus, pack, micro)
        *_, missing, lacking = _bench(parts, replace(runtime, processes=1), "prepare")
        given = _given(ctx, "pack", "gpus", "runs", "stage")
        packing.pack(_groups(missing, lacking), given, gpus, pack, cache / "logs", typer.echo)
        stage = "report"
    if stage != "report":
        computed, present, *_ = _bench(parts, runtime, stage)
        if stage or node:
            return None
        typer.echo(f"\n{computed} cells computed, {present} were there already.")
    _report(parts, results, boards)


def _jobs(wanted: Wanted, studies: list[Study], results: Path) -> tuple[list[plan.Job], int]:
    """(jobs with something missing, cells that are there) before it is known which images cannot be read."""
    found = [plan.jobs(wanted, study, results, None) for study in studies]
    return [job for jobs, _ in found for job in jobs], sum(there for _, there in found)


def _lacking(wanted: Wanted, studies: list[Study], results: Path) -> list[labelled.Ceiling]:
    """Ceilings that are not stored, likewise."""
    return [ceiling for study in studies for ceiling in labelled.missing(wanted, study, results)]


def _groups(missing: list[plan.Job], lacking: list[labelled.Ceiling]) -> list[packing.Group]:
    """What one job of many computes: a run with its twin, or a ceiling."""
    return plan.batches(missing) + [(ceiling.name,) for ceiling in lacking]


def _bench(parts: list[Part], runtime: Runtime, stage: str) -> tuple[int, int, list[plan.Job], list[labelled.Ceiling]]:
    """(cells computed, cells present before, what there was to do, ceilings there were to train).

    Raises ValueError for a mode of computing that a track cannot have."""
    from benchmark.run import bench
    from benchmark.training import modes

    for wanted, _ in parts:
        pixels = tracks.get(wanted.track).encoder.pixels
        modes.choose(runtime.compile, pixels, machine.device().gpus > 0, runtime.micro)
    computed, present, missing, lacking = 0, 0, [], []
    for wanted, studies in parts:
        outcome = bench(wanted, studies, runtime, tracks.get(wanted.track).stored_pixels, typer.echo, stage)
        for label in outcome.diverged:
            typer.echo(f"{label}: diverged, not probed")
        computed, present = computed + outcome.computed, present + outcome.present
        missing, lacking = missing + outcome.missing, lacking + outcome.ceilings
    return computed, present, missing, lacking


def _report(parts: list[Part], results: Path, boards: Path) -> None:
    from leaderboards.pages.terminal import format_boards
    from leaderboards.publish import site

    absent: dict[str, dict[str, str]] = {}
    for study in (study for _, studies in parts for study in studies):
        absent.setdefault(study.modality, {}).update(study.absent)
    found = site.load_boards(results, absent)
    pages = site.build(results, boards, absent, found)
    places = {(modality, wanted.track) for wanted, _ in parts for modality in wanted.modalities}
    typer.echo("\n" + format_boards([board for board in found if (board.modality, board.track) in places]))
    typer.echo(f"leaderboard: {(boards / 'index.html').resolve()} (and {len(pages) - 1} pages beside it)")


def _given(ctx: typer.Context, *leave: str) -> list[str]:
    """The options that this command was given, as they may be given again, but for some."""
    given = []
    for option in ctx.command.params:
        if option.name in leave or ctx.get_parameter_source(option.name).name != "COMMANDLINE":
            continue
        value = ctx.params[option.name]
        given += ([option.opts[0]] * bool(value)) if option.is_flag else [option.opts[0], str(value)]
    return given


def _hand_over(groups: list, arguments: list[str], launch: str, profile: Path | None, cache: Path) -> None:
    asked = slurm.profiles(profile)
    if not groups:
        typer.echo("nothing to do: everything is there already")
        return
    stages = slurm.stages(groups, asked)
    folder = slurm.new_folder(cache, stages)
    if launch == "sbatch":
        script = slurm.scripts(stages, arguments, folder)
        typer.echo(f"written; hand it to SLURM with: {shlex.quote(str(script))}")
    else:
        typer.echo("\n".join(slurm.submit(stages, arguments, folder)))
    place = "" if cache == Path(".cache") else f" --cache {shlex.quote(str(cache))}"
    typer.echo(f"then: python -m benchmark slurm status{place}, logs RUN{place}, cancel [RUN]{place}")


def _refuse_full_disk(parts: list[Part], runtime: Runtime) -> None:
    missing = [_jobs(wanted, studies, runtime.results)[0] for wanted, studies in parts]
    needed = _cost(parts, missing, runtime).disk
    free = machine.free_disk(runtime.cache.absolute())
    if needed > free:
        raise DataError(
            f"{runtime.cache}: {needed / 1e9:.1f} GB are needed, {free / 1e9:.1f} GB are free; "
            "make room, or set --cache and --results"
        )


def _cost(parts: list[Part], missing: list[list[plan.Job]], runtime: Runtime) -> Cost:
    costs = []
    for (wanted, studies), jobs in zip(parts, missing, strict=True):
        lacking = _lacking(wanted, studies, runtime.results)
        costs.append(estimate_cost(jobs, studies, wanted.track, runtime, lacking))
    return sum_costs(costs)


@app.command("plan")
def plan_(
    ctx: typer.Context,
    modality: Modality = "",
    track: Track = "demo",
    pretext: Pretext = "",
    task: TaskNames = "",
    probe: Probe = "",
    seeds: Seeds = None,
    ceilings: Ceilings = None,
    gpus: Gpus = 1,
    data: Data = Path("data"),
    corpus: CorpusName = None,
    policy: Policy = "",
    results: Results = Path("results/local"),
    cache: Cache = Path(".cache"),
    precision: Precision = None,
    runs: Runs = "",
    file: Grid = None,
    write: Annotated[
        Path | None, typer.Option(parser=host.path, help="Write the grid of what is asked for into this file.")
    ] = None,
) -> None:
    """Print the missing cells with estimated FLOPs, time, memory and disk. Computes nothing."""
    machine.refuse_missing_gpus(gpus)
    options = {"track": track, "pretext": pretext, "seeds": seeds, "ceilings": ceilings}
    options |= {"corpus": corpus, "policy": policy}
    asked = _asked(ctx, file, modality, task, probe, runs, precision=precision, **options)
    runtime = Runtime(data=data, results=results, cache=cache, processes=gpus)
    parts = _parts(asked, data, cache)
    if write:
        listed = [recipe for wanted, studies in parts for one in studies for recipe in plan.recipes(wanted, one, None)]
        grid.write(listed, write)
        typer.echo(f"{write}: a grid of {sum(recipe.budget > 0 for recipe in listed)} runs and their twins")
    found = [_jobs(wanted, studies, results) for wanted, studies in parts]
    missing, present = [jobs for jobs, _ in found], sum(there for _, there in found)
    for job in (job for jobs in missing for job in jobs):
        recipe = job.recipe
        kind = "twin" if recipe.budget == 0 else f"{recipe.budget:.2g} FLOPs, {tracks.steps(recipe):,} steps"
        state = "trained" if job.trained else kind
        lacking = ", ".join(sorted({cell.task for cell in job.cells})) or "none"
        typer.echo(
            f"{recipe.modality:<11} {recipe.pretext:<8} seed {recipe.seed}  "
            f"{state:<28} {len(job.cells):>3} cells: {lacking}"
        )
    lacking = [one for wanted, studies in parts for one in _lacking(wanted, studies, results)]
    for one in lacking:
        typer.echo(
            f"{one.recipe.modality:<11} ceiling  seed {one.recipe.seed}  {one.flops:.2g} FLOPs, "
            f"{len(one.family.divisions) * one.steps:,} steps, with labels: {', '.join(one.family.heads)}"
        )
    reused = [count_cached_features(jobs, studies, runtime) for (_, studies), jobs in zip(parts, missing, strict=True)]
    ready, needed = map(sum, zip(*reused, strict=True))
    cells = sum(len(job.cells) for jobs in missing for job in jobs)
    pretrained = sum(not job.trained and job.recipe.budget > 0 for jobs in missing for job in jobs)
    typer.echo(
        f"{present} cells are there already; {cells} missing, {pretrained} runs to pretrain, {len(lacking)} ceilings"
    )
    typer.echo(f"features of {needed} pairs of encoder and images are needed, {ready} of them reused from the cache")
    for (wanted, _), jobs in zip(parts, missing, strict=True):
        said = packing.advice(jobs, wanted.track, results, gpus)
        typer.echo(f"{wanted.track}: {said}" if len(parts) > 1 else said)
    cost = _cost(parts, missing, runtime)
    typer.echo(
        f"about {cost.flops:.2g} training FLOPs, {cost.seconds / 60:.0f} minutes ({cost.basis}), "
        f"{cost.memory / 1e9:.1f} GB of memory, {cost.disk / 1e9:.2f} GB of disk"
    )


@app.command("tracks")
def tracks_() -> None:
    """Print what every track is: encoder, budget, and the batch, steps and images of each pretext."""
    typer.echo("\n".join(tracks.table()))


@app.command()
def doctor(data: Data = Path("data"), cache: Cache = Path(".cache")) -> None:
    """Say what works on this machine, and what to do about what does not."""
    failed = False
    for check in checks.run(data, cache):
        failed |= check.state == "fail"
        typer.echo(f"{check.state:<5} {check.name}: {check.found}" + (f" -> {check.remedy}" if check.remedy else ""))
    raise typer.Exit(code=1 if failed else 0)


@app.command()
def regression(
    cache: Cache = Path(".cache"),
    record: Annotated[
        bool, typer.Option("--record", help="Store what this code gives, with three smoke seeds.")
    ] = False,
) -> None:
    """Run the goldens, retrain the smoke track: say which number moved and what to bump. Exit code 1 if one did."""
    from benchmark.lab import regression as numbers

    if record:
        numbers.record(cache, typer.echo)
        return
    failed = numbers.check(cache, typer.echo)
    raise typer.Exit(code=1 if failed else 0)


@app.command()
def reproduce(
    run: Annotated[str, typer.Argument(help="Id of a stored run, or its beginning.")],
    published: Published = Path("results/published"),
    data: Data = Path("data"),
    cache: Cache = Path(".cache"),
    threads: Threads = None,
) -> None:
    """Run a published run and its twin again from the stored recipe, and compare. Exit code 1 if a number moved."""
    from benchmark.lab import reproduce

    with tempfile.TemporaryDirectory() as folder:
        runtime = Runtime(data=data, results=Path(folder), cache=cache, threads=threads)
        moved = _told(reproduce.reproduce_run(run, published, runtime, typer.echo))
    raise typer.Exit(code=1 if moved else 0)


@app.command()
def export(
    run: Annotated[str, typer.Argument(help="Id of a stored run, or its beginning.")],
    results: Results = Path("results/local"),
    out: Annotated[Path | None, typer.Option(parser=host.path, help="Folder; default: export/<run>.")] = None,
) -> None:
    """Write a stored encoder as a folder that timm and the Hugging Face hub load, with a model card."""
    from benchmark.encoders import export
    from benchmark.storage import results as store

    row = store.find_run(run, results)
    weights = store.run_directory(results, row["modality"], row["run"]) / "encoder.safetensors"
    written = export.export(row, store.read(results, "cells"), weights, out or Path("export") / row["run"])
    name = json.dumps(f"local-dir:{written}", ensure_ascii=False)
    typer.echo(f"{written}: timm.create_model({name}, pretrained=True)")


@app.command("maps")
def maps_(
    runs: Annotated[list[str], typer.Argument(help="Ids of stored runs, or their beginnings.")],
    task: Annotated[str, typer.Option(help="Task whose test images are looked at.")],
    image: Annotated[str, typer.Option(help="Sample ids, comma-separated, instead of the drawn ones.")] = "",
    anchor: Annotated[str, typer.Option(help="X,Y in shares of the side, instead of the drawn anchors.")] = "",
    out: Annotated[Path, typer.Option(parser=host.path, help="Folder of the pictures.")] = Path("maps"),
    data: Data = Path("data"),
    policy: Policy = "",
    results: Results = Path("results/local"),
    cache: Cache = Path(".cache"),
) -> None:
    """Show what encoders look at: attention, cosine and PCA maps, reconstructions, and scores of the maps."""
    from benchmark import corpus
    from benchmark.maps import map_sheet, run_maps

    opened = [run_maps.open_run(run, results) for run in runs]
    modality = opened[0].recipe.modality
    if other := next((one for one in opened if one.recipe.modality != modality), None):
        raise ValueError(f"{other.row['run']} is of {other.recipe.modality}, {opened[0].row['run']} of {modality}")
    asked = corpus.get(modality, task, policy)
    place = _place(anchor)
    for path in map_sheet.show(opened, asked, data, cache, results, out, ids=_listed(image), place=place):
        typer.echo(path)


@app.command("views")
def views_(
    image: Annotated[str, typer.Argument(help="An image file, or TASK/ID of a dataset under --data.")],
    pretext: Pretext = "",
    track: Track = "laptop",
    modality: Annotated[str, typer.Option(help="How the image is turned, changed and squared.")] = "ultrasound",
    policy: Policy = "",
    draws: Annotated[int, typer.Option(min=1, max=20, help="Epochs that are shown.")] = 3,
    seed: Annotated[int, typer.Option(min=0, help="Of the training.")] = 0,
    data: Data = Path("data"),
    out: Annotated[Path, typer.Option(parser=host.path, help="The sheet: .png or .webp.")] = Path("views.png"),
) -> None:
    """Show what each pretext sees of an image, as training draws it: crops, visible patches, blocks."""
    from benchmark.maps import view_sheet, views

    if out.suffix.lower() not in view_sheet.KINDS:
        raise ValueError(f"--out {out}: give a name that ends in {' or '.join(view_sheet.KINDS)}")
    source, sample = views.find_image(image, modality, policy, data)
    names = _listed(pretext) or registry.defaults("pretexts")
    recipes = {name: views.make_recipe(name, track, source, seed) for name in names}
    for line in view_sheet.show(recipes, source, sample, data, draws, out):
        typer.echo(line)


def _place(text: str) -> tuple[float, float] | None:
    if not text:
        return None
    try:
        x, y = (float(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"--anchor {text}: give two shares of the side, such as 0.5,0.25") from None
    return x, y


@app.command()
def probe(
    encoder: Annotated[
        str, typer.Option(help="timm:NAME, hf-hub:OWNER/NAME, PATH.safetensors, MODULE:FUNCTION or PATH.parquet.")
    ],
    pretrained_on: Annotated[
        str | None, typer.Option(help="Datasets it has seen, comma-separated, or none: tests on them are flagged.")
    ] = None,
    pixels: Annotated[int | None, typer.Option(min=1, help="Side of its images; default: the model's.")] = None,
    modality: Modality = "",
    track: Track = "demo",
    task: TaskNames = "",
    data: Data = Path("data"),
    corpus: CorpusName = None,
    policy: Policy = "",
    results: Results = Path("results/local"),
    cache: Cache = Path(".cache"),
    threads: Threads = None,
) -> None:
    """Probe a frozen encoder from outside, or a table of embeddings, on the tasks of a board, marked as external."""
    wanted = _wanted(modality, track, "", task, "", None, corpus, policy, "fp32")
    studies = [study for study in _studies(wanted, data, cache) if study.pinned and study.tasks]
    declared = None if pretrained_on is None else tuple(name for name in _listed(pretrained_on) if name != "none")
    if declared is None:
        typer.echo("--pretrained-on is not given: contamination of every test set is unknown, and shown as such")
    from benchmark.encoders import external

    opened = external.open_encoder(encoder, pixels)
    typer.echo(f"{opened.name}: {opened.loaded}")
    runtime = Runtime(data=data, results=results, cache=cache, threads=threads)
    for study in studies:
        (squared,) = {made.policy for made in plan.recipes(wanted, study, {})}
        done = external.probe(opened, study, track, runtime, declared=declared, policy=squared, say=typer.echo)
        typer.echo(f"{study.modality}: {' and '.join(done)}; `python -m leaderboards show` prints the board")


def _told(comparison) -> int:
    """Print a comparison; the number of moved numbers."""
    for line in (*comparison.notes, *map(str, comparison.moved)):
        typer.echo(line)
    if comparison.compared:
        typer.echo(f"{comparison.compared} numbers computed again, {len(comparison.moved)} moved")
    return len(comparison.moved)


def main() -> None:
    """Errors of input are one clear line and exit code 2; who stops it is told how to go on."""
    stopping.listen()
    try:
        app()
    except BaseException as error:
        sys.exit(_ended(stopping.find_request(error)))


def _ended(error: BaseException) -> int:
    """Say why the command ends; its exit code. Raises what is neither bad input nor a wish to stop."""
    if isinstance(error, (DataError, SchemaError, ValueError, ProcessError, MemoryError)):
        print(f"error: {error}", file=sys.stderr)
        return 2
    if isinstance(error, OSError):  # a full disk, a folder that may not be written to, a share that went away
        print(f"error: {error}; everything finished is kept: mend that, then repeat the command", file=sys.stderr)
        return 2
    interrupted = isinstance(error, SystemExit) and error.code == INTERRUPTED  # what typer makes of Ctrl-C
    if not interrupted and not isinstance(error, (KeyboardInterrupt, stopping.Stopped)):
        raise error
    stopping.ignore()
    by_make = shlex.split(os.environ.get("PRETEXT_BENCH_COMMAND", ""))
    again = shlex.join(by_make or ["python", "-m", "benchmark", *sys.argv[1:]])
    print(f"\nstopped; everything finished is kept. To go on: {again}", file=sys.stderr)
    if isinstance(error, stopping.Stopped) and (queued := slurm.requeue()):
        print(queued, file=sys.stderr)
    return getattr(error, "code", INTERRUPTED)


if __name__ == "__main__":
    host.use_utf8()
    main()
