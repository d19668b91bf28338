"""`python -m benchmark doctor`, `regression` and `reproduce`: does this machine work, and does a number move?"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from benchmark.cli.options import CACHE, DATA, PUBLISHED, Cache, Data, Published, Run, Threads
from benchmark.recipe import Runtime

if TYPE_CHECKING:
    from benchmark.lab.reproduce import Comparison


def doctor(data: Data = DATA, cache: Cache = CACHE) -> None:
    """Say what works on this machine, and what to do about what does not."""
    from benchmark.device.doctor import examine

    failed = False
    for check in examine(data, cache):
        failed |= check.state == "fail"
        typer.echo(f"{check.state:<5} {check.name}: {check.found}" + (f" -> {check.remedy}" if check.remedy else ""))
    raise typer.Exit(code=1 if failed else 0)


def regression(
    cache: Cache = CACHE,
    record: Annotated[
        bool, typer.Option("--record", help="Store what this code gives, with three smoke seeds.")
    ] = False,
) -> None:
    """Run the goldens, retrain the smoke track: say which number moved and what to bump. Exit code 1 if one did."""
    from benchmark.lab import regression as numbers

    if record:
        numbers.record(cache, typer.echo)
        return
    raise typer.Exit(code=1 if numbers.check(cache, typer.echo) else 0)


def reproduce(
    run: Run, published: Published = PUBLISHED, data: Data = DATA, cache: Cache = CACHE, threads: Threads = None
) -> None:
    """Run a published run and its twin again from the stored recipe, and compare. Exit code 1 if a number moved."""
    from benchmark.lab.reproduce import reproduce_run

    with tempfile.TemporaryDirectory() as folder:
        runtime = Runtime(data=data, results=Path(folder), cache=cache, threads=threads)
        moved = print_comparison(reproduce_run(run, published, runtime, typer.echo))
    raise typer.Exit(code=1 if moved else 0)


def print_comparison(comparison: Comparison) -> int:
    """Print a comparison; the number of moved numbers."""
    for line in (*comparison.notes, *map(str, comparison.moved)):
        typer.echo(line)
    if comparison.compared:
        typer.echo(f"{comparison.compared} numbers computed again, {len(comparison.moved)} moved")
    return len(comparison.moved)
