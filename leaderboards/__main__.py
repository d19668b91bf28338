"""`python -m leaderboards`: pages from the store, the check of every number, a table in the terminal."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)

Results = Annotated[Path, typer.Option(help="Folder of finished work.")]
LOCAL, PUBLISHED = Path("results/local"), Path("results/published")


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
def verify(
    results: Annotated[
        list[Path] | None, typer.Option(help="Folder of finished work; default: local, published.")
    ] = None,
):
    """Recompute every stored number; name every difference and exit with 1 if there is one."""
    from leaderboards.render import EmptyStore
    from leaderboards.verify import verify as check

    failed, files = False, 0
    for root in results or (LOCAL, PUBLISHED):
        report = check(root)
        files += report.files + len(report.problems)
        failed |= bool(report.problems)
        typer.echo(report if report.files or report.problems else f"{root}: nothing stored")
    with _one_line():
        if not files:
            raise EmptyStore("nothing stored yet; `make bench` runs the embedded phantoms in minutes")
    raise typer.Exit(1 if failed else 0)


@app.command()
def show(
    results: Results = LOCAL,
    modality: Annotated[str | None, typer.Option(help="Only this modality.")] = None,
    track: Annotated[str | None, typer.Option(help="Only this track.")] = None,
):
    """Print the boards as plain text."""
    from leaderboards.render import compact

    typer.echo("\n\n".join(compact(board) for board in _boards(results, modality, track)))


if __name__ == "__main__":
    app()
