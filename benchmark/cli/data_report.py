"""What `python -m benchmark data` says of a dataset: its state, what verifying it found, and what its parts share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import typer

import tasks
from benchmark import corpus
from tasks import cards, inspect, leakage
from tasks.base import DataError, Sample, Task
from tasks.obtain import receipts
from tasks.reading import folders

SHOWN = 10  # problems of a kind that are listed
MEMBERS = 4  # images of a group that are listed
BRIEF = 44  # characters of a licence in a list


def full_name(task: Task) -> str:
    return f"{task.modality}/{task.name}"


def describe_status(found: inspect.Status, cache: Path) -> str:
    """One line: state, name, what is there, and what to do about what is not."""
    task = found.task
    start = f"{found.state:<8} {full_name(task)}: "
    if found.state == "missing":
        return start + found.reason
    whole = f" of {task.expected:,}" if task.expected and found.images != task.expected else ""
    told = [f"{found.images:,}{whole} images, {found.groups:,} groups ({task.group_kind})"] if found.images else []
    told += [format_bytes(found.bytes)] if found.bytes is not None else []
    if found.state != "broken" and not task.synthetic:
        day = inspect.verified_on(found, cache)
        told += [f"verified {day}" if day else "not verified"]
    told += [f"licence: {shorten_licence(task.access.licence)}"]
    told += [found.reason] if found.reason else []
    told += [unread] if (unread := folders.summarise(found.left_out)) else []
    return start + "; ".join(told)


def describe_open_corpus(modality: str, states: Mapping[str, inspect.State], data: Path, cache: Path) -> str:
    """One line: what the corpus "open" lacks here. states: modality/name -> of every real task."""
    needed = {}
    for name in corpus.open_list(modality).members:
        task = tasks.get(modality, name)
        why = states[full_name(task)]
        if why == "found":
            try:
                receipts.attested_files(task, data, cache)
                continue
            except DataError:
                why = "not shown to be as published"
        sizes = [file.bytes for file in task.access.downloads]
        needed[name] = f"{name} ({format_bytes(sum(sizes)) + ', ' if all(sizes) else ''}{why})"
    if not needed:
        return f"CORPUS=open of {modality}: all of it is here"
    return f"CORPUS=open of {modality} still needs {', '.join(needed.values())}: `make data TASK={','.join(needed)}`"


def describe_access(task: Task) -> str:
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


def describe_near_groups(samples: list[Sample]) -> str:
    """The near-duplicate groups, in words."""
    members: dict[str, list[Sample]] = {}
    for sample in samples:
        members.setdefault(sample.group, []).append(sample)
    several = [group for group in members.values() if len(group) > 1]
    mixed = [group for group in several if len({sample.label for sample in group}) > 1]
    shown = "".join(f"\n    {_join_names([sample.id for sample in group])}" for group in mixed[:SHOWN])
    return f"{len(several):,} groups of more than one image, {len(mixed):,} of them with two labels{shown}"


def print_overlaps(rows: list[leakage.Overlap]) -> None:
    for row in rows:
        count = "not looked for" if row.count is None else f"{row.count:,}"
        shown = f": {'; '.join(row.examples)}" if row.examples else ""
        typer.echo(f"  {row.between:<14}  {row.kind:<5}  {count}{shown}")


def print_verification(task: Task, data: Path, workers: int, cache: Path) -> bool:
    """Print what `inspect.verify` finds, and note it if nothing is broken; True if something is."""
    found = inspect.verify(task, data, workers=workers)
    here = bool(found.status.images)
    if here and not found.broken:
        inspect.note_verified(found.status, cache)
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
        typer.echo(f"  {column}: {_count_values(sum(told.values(), Counter()))}")
        for name in told:
            typer.echo(f"    {name:<{label}} {_count_values(told[name])}")
    for checksum in (checksum for checksum in found.checksums if here or checksum.found):
        right = "right but for its line ends" if checksum.expected not in checksum.found else "right"
        state = "wrong: " + ", ".join(checksum.found) if checksum.wrong else right if checksum.found else "not here"
        typer.echo(
            f"  checksum {checksum.file}: {state}" + (f", expected {checksum.expected}" if checksum.wrong else "")
        )
    if here and task.name in corpus.open_list(task.modality).members:
        typer.echo(f"  receipts {_describe_receipts(task, data, cache)}")
    if found.widths and found.heights:
        (low, middle, high), (flat, half, tall) = found.widths, found.heights
        typer.echo(f"  size     width {low} / {middle:g} / {high}, height {flat} / {half:g} / {tall} (min/median/max)")
        typer.echo("  stored   " + ", ".join(f"{mode} {images:,}" for mode, images in found.modes.items()))
    if found.unreadable is not None:
        typer.echo(f"  decoded  {found.status.images - len(found.unreadable):,} of {found.status.images:,} images")
        _print_problems("unreadable", list(found.unreadable.values()))
    _print_problems("one colour", list(found.flat))
    for reason, names in found.status.left_out.items():
        _print_problems(f"left out, {reason}", names)
    for together, note in ((False, ""), (True, " (one group)")):
        copies = [" = ".join(copy.ids) for copy in found.contradictions if copy.together == together]
        _print_problems(f"one image, two labels{note}", copies)
    typer.echo(describe_status(replace(found.status, state="broken") if found.broken else found.status, cache))
    return found.broken


def _print_problems(kind: str, found: list[str]) -> None:
    for text in found[:SHOWN]:
        typer.echo(f"  {kind}: {text}")
    if len(found) > SHOWN:
        typer.echo(f"  {kind}: {len(found) - SHOWN:,} more")


def _count_values(counts: Mapping[str, int]) -> str:
    """What authors say of images in a column, each with its number of images."""
    ordered = sorted(counts, key=lambda value: (not value, value))
    return ", ".join(f"{value or 'not stated'} {counts[value]:,}" for value in ordered) or "no images"


def _describe_receipts(task: Task, data: Path, cache: Path) -> str:
    """Whether the files are as published, in words; writes the receipts of archives that were unpacked by hand."""
    from tasks.obtain.fetch import attest

    try:
        attest(task, data)
        receipts.attested_files(task, data, cache)
    except DataError as error:
        return f"not as CORPUS=open needs it: {error}; {receipts.remedy(task)}"
    return "every file is as published, as CORPUS=open needs it"


def _join_names(names: list[str]) -> str:
    more = f" = {len(names) - MEMBERS:,} more" if len(names) > MEMBERS else ""
    return " = ".join(names[:MEMBERS]) + more


def shorten_licence(text: str) -> str:
    """The first clause, cut to BRIEF characters."""
    clause = text.partition(";")[0].partition(" (")[0]
    return clause if len(clause) <= BRIEF else clause[: BRIEF - 3].rstrip() + "..."


def format_bytes(count: int) -> str:
    for unit in ("bytes", "kB", "MB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} GB"
