"""`python -m leaderboards`: pages from the store, the check of every number, a table in the terminal."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)

Results = Annotated[Path, typer.Option(help="Folder of finished work.")]
LOCAL = Path("results/local")


def _boards(results: Path, modality: str | None = None, track: str | None = None) -> list:
    from leaderboards.render import EmptyStore, stored

    with _one_line():
        found = stored(results)
        known = ", ".join(f"{board.modality}/{board.track}" for board in found)
        found = [b for b in found if modality in (None, b.modality) and track in (None, b.track)]
        if not found:
            raise EmptyStore(f"no board of modality {modality or 'any'} and track {track or 'any'}; stored: {known}")
        return found


class _one_line:
    """Errors of reading the store as one line and exit code 2."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind, error, trace) -> None:
        from benchmark.results import SchemaError
        from leaderboards.render import EmptyStore

        if isinstance(error, SchemaError | EmptyStore):
            typer.echo(f"error: {error}", err=True)
            raise typer.Exit(2) from None


@app.command()
def build(results: Results = LOCAL, out: Annotated[Path, typer.Option(help="Folder.")] = Path("leaderboards/local")):
    """Write index.html, and a page and a Markdown file per board."""
    from leaderboards import render

    with _one_line():
        for path in render.build(results, out):
            typer.echo(path)


@app.command()
def verify(results: Results = LOCAL):
    """Recompute every stored number; name every difference and exit with 1 if there is one."""
    from leaderboards.render import EmptyStore
    from leaderboards.verify import verify as check

    with _one_line():
        report = check(results)
        if not report.files and not report.problems:
            raise EmptyStore(f"{results}: nothing stored yet; `make bench` runs the embedded phantoms in minutes")
    typer.echo(report)
    raise typer.Exit(1 if report.problems else 0)


@app.command()
def show(
    results: Results = LOCAL,
    modality: Annotated[str | None, typer.Option(help="Only this modality.")] = None,
    track: Annotated[str | None, typer.Option(help="Only this track.")] = None,
):
    """Print the boards as plain text."""
    from leaderboards.render import compact

    typer.echo("\n\n".join(compact(board) for board in _boards(results, modality, track)))


@app.command()
def claims(
    results: Results = LOCAL,
    modality: Annotated[str | None, typer.Option(help="Only this modality.")] = None,
    track: Annotated[str | None, typer.Option(help="Only this track.")] = None,
):
    """Judge the study's claims on every board of the store."""
    from leaderboards.view import claim_found

    for board in _boards(results, modality, track):
        typer.echo(board.title)
        for one in board.claims:
            typer.echo(f"  {one.about}: {one.says}: {one.verdict} ({'; '.join(claim_found(one))})")


@app.command()
def simulate(
    simulations: Annotated[int, typer.Option(min=2, help="Of ten tasks; docs/statistics.md says of what else.")] = 300,
    seed: Annotated[int, typer.Option(help="Of the simulations.")] = 0,
):
    """Measure how often the rules of a board are wrong on equal methods; print the tables of docs/statistics.md."""
    from leaderboards.simulate import report

    for line in report(simulations, seed):
        typer.echo(line)


if __name__ == "__main__":
    app()
