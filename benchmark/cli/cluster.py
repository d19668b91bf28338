"""`python -m benchmark slurm …`: what became of a submission."""

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from benchmark.cli.options import CACHE
from benchmark.execution import slurm
from tasks import host

app = typer.Typer(help="Status, logs and cancelling of what LAUNCH=slurm handed over.", no_args_is_help=True)
Cache = Annotated[Path, typer.Option(parser=host.path, help="Cache folder of the submission.")]
Run = Annotated[str, typer.Argument(help="Id of a run, or its beginning; empty: everything.")]


def _elements(cache: Path, run: str) -> list[slurm.Element]:
    """Of the newest submission, or the newest that knows the run. Raises ValueError if there is none."""
    found = slurm.submissions(cache)
    if not found:
        raise ValueError(f"{cache / 'slurm'}: nothing was submitted from here")
    for folder in found if run else found[:1]:
        kept = [one for one in slurm.status(folder) if not run or any(i.startswith(run) for i in one.runs)]
        if kept:
            return kept
    raise ValueError(f"no submission under {cache / 'slurm'} has a run {run!r}")


@app.command()
def status(run: Run = "", cache: Cache = CACHE) -> None:
    """Say where every job stands."""
    elements = _elements(cache, run)
    for one in elements:
        typer.echo(f"{one.stage:<9} {one.job or '-':<12} {one.state:<13} {' '.join(one.runs) or 'all runs'}")
    counts = Counter(one.state for one in elements)
    typer.echo(", ".join(f"{count} {state}" for state, count in counts.items()))


@app.command()
def cancel(run: Run = "", cache: Cache = CACHE) -> None:
    """Take jobs off the queue; what they finished stays."""
    typer.echo(f"{slurm.cancel(_elements(cache, run))} jobs cancelled")


@app.command()
def logs(run: Run, cache: Cache = CACHE) -> None:
    """Print what the jobs of a run said."""
    for one in _elements(cache, run):
        typer.echo(f"== {one.stage} {one.job}, {one.state}: {'' if one.logs else 'nothing said yet'}")
        for log in one.logs:
            typer.echo(f"{log}\n{log.read_text(encoding='utf-8', errors='replace')}")
