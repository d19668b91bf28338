"""`python -m benchmark data`: what datasets there are, how each is obtained, what is here, whether it is whole."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

import tasks
from benchmark.cli.added_report import describe_added
from benchmark.cli.data_report import (
    describe_access,
    describe_near_groups,
    describe_open_corpus,
    describe_status,
    full_name,
    print_overlaps,
    print_verification,
    shorten_licence,
)
from benchmark.cli.options import CACHE, DATA, RESULTS, Data
from benchmark.device import machine
from benchmark.metrics import HEADLINES
from benchmark.recipe import Runtime
from tasks import cards, croissant, host, inspect, leakage
from tasks.add import add_dataset
from tasks.base import DataError, NoData, Sample, Task
from tasks.duplicates import scan_grouped
from tasks.reading import folders, squares

app = typer.Typer(
    help="What datasets there are, how each is obtained, what of it is here and whether it is whole.",
    no_args_is_help=True,
)

Names = Annotated[str, typer.Argument(metavar="[TASK,...]", help="Comma-separated; empty: all but the simulated ones.")]
Name = Annotated[str, typer.Argument(metavar="TASK,...", help="Comma-separated names of tasks or of their files.")]
Cache = Annotated[Path, typer.Option(parser=host.path, help="Image stores, hashes, what was verified; may be deleted.")]


@app.command("list")
def list_tasks() -> None:
    """One line for each task."""
    rows = [("TASK", "IMAGES", "CLASSES", "LICENCE", "OBTAINED", "", "PATIENTS OR SLIDES", "GROUP")]
    for task in all_tasks():
        obtained = "simulated" if task.synthetic else "download" if task.access.downloads else "by hand"
        counts = f"{task.expected:,}" if task.expected else "?", str(len(task.classes))
        how = shorten_licence(task.access.licence), obtained, "on request" if task.on_request else ""
        rows.append((full_name(task), *counts, *how, "yes" if task.independent else "not known", task.group_kind))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        typer.echo("  ".join(f"{text:<{width}}" for text, width in zip(row, widths, strict=True)).rstrip())
    print_broken()


@app.command()
def status(task: Names = "", data: Data = DATA, cache: Cache = CACHE) -> None:
    """Found, partial, missing or broken; bytes, images, groups, licence, and when these files were last verified.

    Of all datasets, also what CORPUS=open still needs.
    """
    refuse_missing_folder(data)
    states = {}
    for wanted in choose_tasks(task) if task else real_tasks():
        found = inspect.status(wanted, data)
        typer.echo(describe_status(found, cache))
        states[full_name(wanted)] = found.state
    if not task:
        print_broken()
        for modality in tasks.modalities():
            typer.echo(describe_open_corpus(modality, states, data, cache))


@app.command()
def verify(
    task: Names = "",
    data: Data = DATA,
    workers: Annotated[int, typer.Option(min=1, help="Images decoded at the same time.")] = machine.processors(),
    cache: Cache = CACHE,
) -> None:
    """Count, compare checksums and decode every image. Exit code 1 if something is broken."""
    refuse_missing_folder(data)
    checked = [
        print_verification(wanted, data, workers, cache) for wanted in (choose_tasks(task) if task else real_tasks())
    ]
    damaged = not task and print_broken()
    raise typer.Exit(code=1 if any(checked) or damaged else 0)


@app.command()
def passport(
    task: Names = "",
    data: Data = DATA,
    results: Annotated[Path, typer.Option(parser=host.path, help="Where it is stored, as Parquet.")] = RESULTS,
    cache: Cache = CACHE,
    turned: Annotated[
        bool, typer.Option(help="Also look for turned, mirrored and zoomed copies: minutes per thousand images.")
    ] = False,
) -> None:
    """What the parts of each split share: exact copies, groups, near-duplicates.

    Of several datasets of a modality, also what they share with each other.
    """
    from benchmark.storage import passports

    refuse_missing_folder(data)
    runtime = Runtime(data=data, results=results, cache=cache)
    broken = not task and print_broken()
    collected: list[tuple[Task, list[Sample]]] = []
    for wanted in choose_tasks(task) if task else real_tasks():
        try:
            samples = scan_grouped(wanted, data, cache)
            rows = passports.within(wanted, samples, runtime, rotated=turned)
            sizes = passports.image_sizes(wanted, samples, runtime)
        except DataError as error:
            if task:
                raise
            if not isinstance(error, NoData):
                typer.echo(f"broken   {full_name(wanted)}: {error}")
                broken = True
            continue
        collected.append((wanted, samples))
        groups = len({sample.group for sample in samples})
        counted = f"{len(samples):,} images, {groups:,} groups ({wanted.group_kind})"
        typer.echo(f"{full_name(wanted)}: {leakage.verdict(rows, independent=wanted.independent)}; {counted}")
        released = f", released {sizes['released']:,.0f}" if sizes["released"] else ""
        typer.echo(
            f"  short side in pixels: {sizes['low']:,} to {sizes['high']:,}, median {sizes['median']:,.0f}{released}"
        )
        if not wanted.independent:
            typer.echo("  no patient or slide is known: patients may be on both sides of what looks disjoint")
        if wanted.near:
            typer.echo(f"  {describe_near_groups(samples)}")
        print_overlaps(rows)
    for wanted, samples in collected:
        others = [(one, held) for one, held in collected if one.modality == wanted.modality and one != wanted]
        rows = passports.across(wanted, samples, others, runtime)
        shared = [row for row in rows if row.count != 0]
        looked = f"{len({row.between for row in rows})} other datasets of {wanted.modality}"
        if rows:
            typer.echo(f"{full_name(wanted)}: shares {'images' if shared else 'no image'} with {looked}")
        print_overlaps(shared)
    if broken:
        raise typer.Exit(code=1)


@app.command()
def fetch(task: Name, data: Data = DATA, cache: Cache = CACHE) -> None:
    """Download what may be downloaded, else say how it is obtained; then verify what is there.

    An archive of a dataset that lies there complete, unpacked by hand, is not fetched.
    """
    from tasks.obtain.fetch import fetch as download

    chosen = choose_tasks(task)
    for wanted in chosen:
        archives = any(file.unpack for file in wanted.access.downloads)
        whole = archives and inspect.status(wanted, data).state == "found"
        download([file for file in wanted.access.downloads if not (whole and file.unpack)], data, say=typer.echo)
        if not wanted.access.downloads and not wanted.synthetic:
            typer.echo(describe_access(wanted))
    broken = [print_verification(wanted, data, machine.processors(), cache) for wanted in chosen]
    raise typer.Exit(code=1 if any(broken) else 0)


@app.command()
def show(task: Name) -> None:
    """A dataset's card, and how it is obtained."""
    chosen = choose_tasks(task)
    for text in dict.fromkeys(cards.text(wanted) for wanted in chosen):
        typer.echo(text + "\n")
    for wanted in chosen:
        lines = [
            f"{full_name(wanted)}: {wanted.question}",
            f"  classes  {', '.join(wanted.classes)}",
            f"  groups   {wanted.group_kind}",
            f"  patients or slides: {cards.independence(wanted)}",
        ]
        typer.echo("\n".join(lines))
    for text in dict.fromkeys(describe_access(wanted) for wanted in chosen):
        typer.echo("\n" + text)


@app.command()
def add(
    name: Annotated[str, typer.Argument(help="How the task is called: small letters, digits, underscores.")],
    modality: Annotated[str, typer.Option(help="Its modality.")],
    title: Annotated[str, typer.Option(help="For people.")],
    question: Annotated[str, typer.Option(help="One sentence: what the label means.")],
    group_kind: Annotated[str, typer.Option(help="What a group is: patient, slide, ...; verdicts need one of these.")],
    metric: Annotated[str, typer.Option(help=f"Headline metric: {', '.join(HEADLINES)}.")],
    policy: Annotated[str, typer.Option(help=f"How images are squared: {', '.join(squares.SQUARES)}.")],
    licence: Annotated[str, typer.Option(help="As its owner states it.")],
    folder: Annotated[
        Path | None,
        typer.Option(parser=host.path, help="[train, val, test folders of] class folders, of images or groups."),
    ] = None,
    csv: Annotated[
        Path | None, typer.Option(parser=host.path, help="A table: file,label and perhaps group,split.")
    ] = None,
    skip_unreadable: Annotated[bool, typer.Option(help="Describe it though images cannot be read.")] = False,
    cache: Cache = CACHE,
    home: Annotated[str, typer.Option(help="Address of its page.")] = "not published",
    citation: Annotated[str, typer.Option(help="Authors, title, venue, year, DOI.")] = "not published",
) -> None:
    """Describe a dataset of one's own, without code; its images are all decoded once, and stay where they are."""
    if (folder is None) == (csv is None):
        raise ValueError("give either --folder or --csv")
    made = add_dataset(
        name=name,
        modality=modality,
        form="csv" if csv else "folder",
        path=csv or folder,
        policy=policy,
        metric=metric,
        metrics=HEADLINES,
        cache=cache,
        workers=machine.processors(),
        skip_unreadable=skip_unreadable,
        home=home,
        citation=citation,
        title=title,
        question=question,
        group_kind=group_kind,
        licence=licence,
    )
    if not made.verified.broken:
        inspect.note_verified(made.verified.status, cache)
    for line in describe_added(made):
        typer.echo(f"  {line}")
    groups = len({sample.group for sample in made.samples})
    typer.echo(describe_status(replace(made.verified.status, groups=groups, left_out={}), cache))
    typer.echo(f"described in {made.path}; to forget it, delete that file")


@app.command("croissant")
def croissant_(
    out: Annotated[
        Path, typer.Option(parser=host.path, help="Folder; each dataset is written to <modality>/<name>.json in it.")
    ],
    task: Names = "",
    every: Annotated[bool, typer.Option("--all", help="Every dataset but the simulated ones.")] = False,
) -> None:
    """Write cards as Croissant 1.0 metadata (JSON-LD)."""
    if every == bool(task):
        raise ValueError("give either a TASK or --all")
    for wanted in choose_tasks(task) if task else real_tasks():
        path = out / wanted.modality / f"{wanted.name}.json"
        text = croissant.dumps(wanted)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        except OSError as error:
            raise DataError(f"{path}: cannot be written ({error.strerror}); choose another folder") from error
        typer.echo(path)


def all_tasks() -> list[Task]:
    return [tasks.get(modality, name) for modality in tasks.modalities() for name in tasks.names(modality)]


def real_tasks() -> list[Task]:
    return [task for task in all_tasks() if not task.synthetic]


def broken_descriptions() -> dict[str, DataError]:
    """modality/name -> what is wrong with the description of a dataset of one's own."""
    every = {modality: tasks.broken(modality) for modality in tasks.modalities()}
    return {f"{modality}/{name}": error for modality, broken in every.items() for name, error in broken.items()}


def print_broken() -> bool:
    """Print the broken descriptions; whether there are any."""
    for name, error in broken_descriptions().items():
        typer.echo(f"broken   {folders.printable(name)}: {error}")
    return bool(broken_descriptions())


def choose_tasks(text: str) -> list[Task]:
    """The tasks named: by name, by modality/name, or all of a file by its name."""
    every, broken = all_tasks(), broken_descriptions()
    names = list(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    if not names:
        raise ValueError("name a task; `python -m benchmark data list` lists them")
    chosen = []
    for name in names:
        by_name = [task for task in every if name in (task.name, full_name(task))]
        found = by_name or [
            task for task in every if name in (cards.dataset(task), f"{task.modality}/{cards.dataset(task)}")
        ]
        damaged = [error for full, error in broken.items() if name in (full, full.partition("/")[2])]
        if damaged and not by_name:
            raise damaged[0]
        if not found:
            raise tasks.unknown("task", name, tuple(dict.fromkeys(task.name for task in every)))
        chosen += [task for task in found if task not in chosen]
    return chosen


def refuse_missing_folder(data: Path) -> None:
    if data != DATA and not data.is_dir():
        raise DataError(f"{data}: no such folder; point --data (DATA) at the folder that holds the datasets")
