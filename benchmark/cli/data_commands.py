"""`python -m benchmark data`: what datasets there are, how each is obtained, what is here, whether it is whole."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

import tasks
from benchmark import corpus
from benchmark.cli import described
from benchmark.device import machine
from benchmark.metrics import HEADLINES
from benchmark.recipe import Runtime
from benchmark.storage import passports
from tasks import cards, croissant, host, inspect, leakage
from tasks.add import add_dataset
from tasks.base import DataError, NoData, Sample, Task
from tasks.duplicates import scan_grouped
from tasks.obtain import receipts
from tasks.reading import folders, squares

SHOWN = 10  # problems of a kind that are listed
MEMBERS = 4  # images of a group that are listed
BRIEF = 44  # characters of a licence in a list

app = typer.Typer(
    help="What datasets there are, how each is obtained, what of it is here and whether it is whole.",
    no_args_is_help=True,
)

Names = Annotated[str, typer.Argument(metavar="[TASK,...]", help="Comma-separated; empty: all but the simulated ones.")]
Name = Annotated[str, typer.Argument(metavar="TASK,...", help="Comma-separated names of tasks or of their files.")]
Data = Annotated[Path, typer.Option(parser=host.path, help="Folder with datasets in their native layout.")]
Cache = Annotated[Path, typer.Option(parser=host.path, help="Image stores, hashes, what was verified; may be deleted.")]
CACHE = Path(".cache")


@app.command("list")
def list_() -> None:
    """One line for each task."""
    rows = [("TASK", "IMAGES", "CLASSES", "LICENCE", "OBTAINED", "", "PATIENTS OR SLIDES", "GROUP")]
    for task in _all():
        obtained = "simulated" if task.synthetic else "download" if task.access.downloads else "by hand"
        images = f"{task.expected:,}" if task.expected else "?"
        asked = "on request" if task.on_request else ""
        licence = _brief(task.access.licence)
        known = "yes" if task.independent else "not known"
        rows.append((_full(task), images, str(len(task.classes)), licence, obtained, asked, known, task.group_kind))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        typer.echo("  ".join(f"{text:<{width}}" for text, width in zip(row, widths, strict=True)).rstrip())
    _say_broken()


@app.command()
def status(task: Names = "", data: Data = Path("data"), cache: Cache = CACHE) -> None:
    """Found, partial, missing or broken; bytes, images, groups, licence, and when these files were last verified.

    Of all datasets, also what CORPUS=open still needs.
    """
    _folder(data)
    states = {}
    for wanted in _chosen(task) if task else _real():
        found = inspect.status(wanted, data)
        typer.echo(_line(found, cache))
        states[_full(wanted)] = found.state
    if not task:
        _say_broken()
        for modality in tasks.modalities():
            typer.echo(_still_needed(modality, states, data, cache))


@app.command()
def verify(
    task: Names = "",
    data: Data = Path("data"),
    workers: Annotated[int, typer.Option(min=1, help="Images decoded at the same time.")] = machine.processors(),
    cache: Cache = CACHE,
) -> None:
    """Count, compare checksums and decode every image. Exit code 1 if something is broken."""
    _folder(data)
    checked = [_verified(wanted, data, workers, cache) for wanted in (_chosen(task) if task else _real())]
    damaged = not task and _say_broken()
    raise typer.Exit(code=1 if any(checked) or damaged else 0)


@app.command()
def passport(
    task: Names = "",
    data: Data = Path("data"),
    results: Annotated[Path, typer.Option(parser=host.path, help="Where it is stored, as Parquet.")] = Path(
        "results/local"
    ),
    cache: Cache = CACHE,
    turned: Annotated[
        bool, typer.Option(help="Also look for turned, mirrored and zoomed copies: minutes per thousand images.")
    ] = False,
) -> None:
    """What the parts of each split share: exact copies, groups, near-duplicates.

    Of several datasets of a modality, also what they share with each other.
    """
    _folder(data)
    runtime = Runtime(data=data, results=results, cache=cache)
    broken = not task and _say_broken()
    collected: list[tuple[Task, list[Sample]]] = []
    for wanted in _chosen(task) if task else _real():
        try:
            samples = scan_grouped(wanted, data, cache)
            rows = passports.within(wanted, samples, runtime, rotated=turned)
            sizes = passports.image_sizes(wanted, samples, runtime)
        except DataError as error:
            if task:
                raise
            if not isinstance(error, NoData):
                typer.echo(f"broken   {_full(wanted)}: {error}")
                broken = True
            continue
        collected.append((wanted, samples))
        groups = len({sample.group for sample in samples})
        counted = f"{len(samples):,} images, {groups:,} groups ({wanted.group_kind})"
        typer.echo(f"{_full(wanted)}: {leakage.verdict(rows, independent=wanted.independent)}; {counted}")
        released = f", released {sizes['released']:,.0f}" if sizes["released"] else ""
        typer.echo(
            f"  short side in pixels: {sizes['low']:,} to {sizes['high']:,}, median {sizes['median']:,.0f}{released}"
        )
        if not wanted.independent:
            typer.echo("  no patient or slide is known: patients may be on both sides of what looks disjoint")
        if wanted.near:
            typer.echo(f"  {_joined(samples)}")
        _say_overlaps(rows)
    for wanted, samples in collected:
        others = [(one, held) for one, held in collected if one.modality == wanted.modality and one != wanted]
        rows = passports.across(wanted, samples, others, runtime)
        shared = [row for row in rows if row.count != 0]
        looked = f"{len({row.between for row in rows})} other datasets of {wanted.modality}"
        if rows:
            typer.echo(f"{_full(wanted)}: shares {'images' if shared else 'no image'} with {looked}")
        _say_overlaps(shared)
    if broken:
        raise typer.Exit(code=1)


def _say_overlaps(rows: list[leakage.Overlap]) -> None:
    for row in rows:
        count = "not looked for" if row.count is None else f"{row.count:,}"
        shown = f": {'; '.join(row.examples)}" if row.examples else ""
        typer.echo(f"  {row.between:<14}  {row.kind:<5}  {count}{shown}")


@app.command()
def fetch(task: Name, data: Data = Path("data"), cache: Cache = CACHE) -> None:
    """Download what may be downloaded, else say how it is obtained; then verify what is there.

    An archive of a dataset that lies there complete, unpacked by hand, is not fetched.
    """
    from tasks.obtain.fetch import fetch as download

    chosen = _chosen(task)
    for wanted in chosen:
        archives = any(file.unpack for file in wanted.access.downloads)
        whole = archives and inspect.status(wanted, data).state == "found"
        download([file for file in wanted.access.downloads if not (whole and file.unpack)], data, say=typer.echo)
        if not wanted.access.downloads and not wanted.synthetic:
            typer.echo(_steps(wanted))
    broken = [_verified(wanted, data, machine.processors(), cache) for wanted in chosen]
    raise typer.Exit(code=1 if any(broken) else 0)


@app.command()
def show(task: Name) -> None:
    """A dataset's card, and how it is obtained."""
    chosen = _chosen(task)
    for text in dict.fromkeys(cards.text(wanted) for wanted in chosen):
        typer.echo(text + "\n")
    for wanted in chosen:
        lines = [
            f"{_full(wanted)}: {wanted.question}",
            f"  classes  {', '.join(wanted.classes)}",
            f"  groups   {wanted.group_kind}",
            f"  patients or slides: {cards.independence(wanted)}",
        ]
        typer.echo("\n".join(lines))
    for text in dict.fromkeys(_steps(wanted) for wanted in chosen):
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
        inspect.remember(made.verified.status, cache)
    for line in described.lines(made):
        typer.echo(f"  {line}")
    groups = len({sample.group for sample in made.samples})
    typer.echo(_line(replace(made.verified.status, groups=groups, left_out={}), cache))
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
    for wanted in _chosen(task) if task else _real():
        path = out / wanted.modality / f"{wanted.name}.json"
        text = croissant.dumps(wanted)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        except OSError as error:
            raise DataError(f"{path}: cannot be written ({error.strerror}); choose another folder") from error
        typer.echo(path)


def _still_needed(modality: str, states: Mapping[str, inspect.State], data: Path, cache: Path) -> str:
    """One line: what the corpus "open" lacks here. states: modality/name -> of every real task."""
    needed = {}
    for name in corpus.open_list(modality).members:
        task = tasks.get(modality, name)
        why = states[_full(task)]
        if why == "found":
            try:
                receipts.attested(task, data, cache)
                continue
            except DataError:
                why = "not shown to be as published"
        sizes = [file.bytes for file in task.access.downloads]
        needed[name] = f"{name} ({_size(sum(sizes)) + ', ' if all(sizes) else ''}{why})"
    if not needed:
        return f"CORPUS=open of {modality}: all of it is here"
    return f"CORPUS=open of {modality} still needs {', '.join(needed.values())}: `make data TASK={','.join(needed)}`"


def _joined(samples: list[Sample]) -> str:
    """The near-duplicate groups, in words."""
    members: dict[str, list[Sample]] = {}
    for sample in samples:
        members.setdefault(sample.group, []).append(sample)
    several = [group for group in members.values() if len(group) > 1]
    mixed = [group for group in several if len({sample.label for sample in group}) > 1]
    shown = "".join(f"\n    {_linked([sample.id for sample in group])}" for group in mixed[:SHOWN])
    return f"{len(several):,} groups of more than one image, {len(mixed):,} of them with two labels{shown}"


def _linked(names: list[str]) -> str:
    more = f" = {len(names) - MEMBERS:,} more" if len(names) > MEMBERS else ""
    return " = ".join(names[:MEMBERS]) + more


def _full(task: Task) -> str:
    return f"{task.modality}/{task.name}"


def _all() -> list[Task]:
    return [tasks.get(modality, name) for modality in tasks.modalities() for name in tasks.names(modality)]


def _real() -> list[Task]:
    return [task for task in _all() if not task.synthetic]


def _broken() -> dict[str, DataError]:
    """modality/name -> what is wrong with the description of a dataset of one's own."""
    every = {modality: tasks.broken(modality) for modality in tasks.modalities()}
    return {f"{modality}/{name}": error for modality, broken in every.items() for name, error in broken.items()}


def _say_broken() -> bool:
    """Print the broken descriptions; whether there are any."""
    for name, error in _broken().items():
        typer.echo(f"broken   {folders.printable(name)}: {error}")
    return bool(_broken())


def _chosen(text: str) -> list[Task]:
    """The tasks named: by name, by modality/name, or all of a file by its name."""
    every, broken = _all(), _broken()
    names = list(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    if not names:
        raise ValueError("name a task; `python -m benchmark data list` lists them")
    chosen = []
    for name in names:
        by_name = [task for task in every if name in (task.name, _full(task))]
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


def _folder(data: Path) -> None:
    if data != Path("data") and not data.is_dir():
        raise DataError(f"{data}: no such folder; point --data (DATA) at the folder that holds the datasets")


def _brief(text: str) -> str:
    """The first clause, cut to BRIEF characters."""
    clause = text.partition(";")[0].partition(" (")[0]
    return clause if len(clause) <= BRIEF else clause[: BRIEF - 3].rstrip() + "..."


def _steps(task: Task) -> str:
    access = task.access
    lines = [
        f"How to obtain {cards.dataset(task) or task.name}:",
        *(f"  {number}. {step}" for number, step in enumerate(access.steps, 1)),
        *(f"  download {file.url}" for file in access.downloads),
        f"  home     {access.home}",
        f"  licence  {access.licence}",
        f"  cite     {access.citation}",
    ]
    return "\n".join(lines)


def _line(found: inspect.Status, cache: Path) -> str:
    """One line: state, name, what is there, and what to do about what is not."""
    task = found.task
    start = f"{found.state:<8} {_full(task)}: "
    if found.state == "missing":
        return start + found.reason
    whole = f" of {task.expected:,}" if task.expected and found.images != task.expected else ""
    told = [f"{found.images:,}{whole} images, {found.groups:,} groups ({task.group_kind})"] if found.images else []
    told += [_size(found.bytes)] if found.bytes is not None else []
    if found.state != "broken" and not task.synthetic:
        day = inspect.verified(found, cache)
        told += [f"verified {day}" if day else "not verified"]
    told += [f"licence: {_brief(task.access.licence)}"]
    told += [found.reason] if found.reason else []
    told += [unread] if (unread := folders.summarise(found.left_out)) else []
    return start + "; ".join(told)


def _size(count: int) -> str:
    for unit in ("bytes", "kB", "MB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} GB"


def _verified(task: Task, data: Path, workers: int, cache: Path) -> bool:
    """Print what `inspect.verify` finds, and note it if nothing is broken; True if something is."""
    found = inspect.verify(task, data, workers=workers)
    here = bool(found.status.images)
    if here and not found.broken:
        inspect.remember(found.status, cache)
    split = max((len(count.split) for count in found.status.counts), default=0)
    label = max((len(name) for name in task.classes), default=0)
    for count in found.status.counts:
        expected = "      ?" if count.expected is None else f"{count.expected:>7,}"
        mark = (
            ""
            if count.expected in (None, count.found)
            else "  <- more"
            if count.found > count.expected
            else "  <- fewer"
        )
        typer.echo(f"  {count.split:<{split}} {count.name:<{label}} expected {expected}  found {count.found:>7,}{mark}")
    for column, told in found.status.columns.items():
        typer.echo(f"  {column}: {_values(sum(told.values(), Counter()))}")
        for name in told:
            typer.echo(f"    {name:<{label}} {_values(told[name])}")
    for checksum in (checksum for checksum in found.checksums if here or checksum.found):
        right = "right but for its line ends" if checksum.expected not in checksum.found else "right"
        state = "wrong: " + ", ".join(checksum.found) if checksum.wrong else right if checksum.found else "not here"
        typer.echo(
            f"  checksum {checksum.file}: {state}" + (f", expected {checksum.expected}" if checksum.wrong else "")
        )
    if here and task.name in corpus.open_list(task.modality).members:
        typer.echo(f"  receipts {_receipts(task, data, cache)}")
    if found.widths and found.heights:
        (low, middle, high), (flat, half, tall) = found.widths, found.heights
        typer.echo(f"  size     width {low} / {middle:g} / {high}, height {flat} / {half:g} / {tall} (min/median/max)")
        typer.echo("  stored   " + ", ".join(f"{mode} {images:,}" for mode, images in found.modes.items()))
    if found.unreadable is not None:
        typer.echo(f"  decoded  {found.status.images - len(found.unreadable):,} of {found.status.images:,} images")
        _problems("unreadable", list(found.unreadable.values()))
    _problems("one colour", list(found.flat))
    for reason, names in found.status.left_out.items():
        _problems(f"left out, {reason}", names)
    for together, note in ((False, ""), (True, " (one group)")):
        copies = [" = ".join(copy.ids) for copy in found.contradictions if copy.together == together]
        _problems(f"one image, two labels{note}", copies)
    typer.echo(_line(replace(found.status, state="broken") if found.broken else found.status, cache))
    return found.broken


def _receipts(task: Task, data: Path, cache: Path) -> str:
    """Whether the files are as published, in words; writes the receipts of archives that were unpacked by hand."""
    from tasks.obtain.fetch import attest

    try:
        attest(task, data)
        receipts.attested(task, data, cache)
    except DataError as error:
        return f"not as CORPUS=open needs it: {error}; {receipts.remedy(task)}"
    return "every file is as published, as CORPUS=open needs it"


def _values(counts: Mapping[str, int]) -> str:
    """What authors say of images in a column, each with its number of images."""
    ordered = sorted(counts, key=lambda value: (not value, value))
    return ", ".join(f"{value or 'not stated'} {counts[value]:,}" for value in ordered) or "no images"


def _problems(kind: str, found: list[str]) -> None:
    for text in found[:SHOWN]:
        typer.echo(f"  {kind}: {text}")
    if len(found) > SHOWN:
        typer.echo(f"  {kind}: {len(found) - SHOWN:,} more")
