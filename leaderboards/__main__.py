"""`python -m leaderboards`: pages from the store, the check of every number, tables, and what is published."""

import json
import sys
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from tasks import host

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)

Results = Annotated[Path, typer.Option(parser=host.path, help="Folder of finished work.")]
Only = Annotated[str | None, typer.Option(help="Only this one.")]
LOCAL, PUBLISHED = Path("results/local"), Path("results/published")
SITE = Path("leaderboards/site")


def _boards(results: Path, modality: str | None = None, track: str | None = None) -> list:
    from leaderboards.publish.site import EmptyStore, load_boards

    with _one_line():
        found = load_boards(results)
        known = ", ".join(f"{board.modality}/{board.track}" for board in found)
        found = [b for b in found if modality in (None, b.modality) and track in (None, b.track)]
        if not found:
            raise EmptyStore(f"no board of modality {modality or 'any'} and track {track or 'any'}; stored: {known}")
        return found


@contextmanager
def _one_line():
    """Errors of reading the store as one line and exit code 2."""
    from benchmark.storage.schema import SchemaError
    from leaderboards.audit.promote import Refused
    from leaderboards.publish.site import EmptyStore

    try:
        yield
    except (SchemaError, EmptyStore, Refused, ValueError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from None


@app.command()
def build(
    results: Results = LOCAL,
    out: Annotated[Path, typer.Option(parser=host.path, help="Folder.")] = Path("leaderboards/local"),
):
    """Write the site of a local store: pages for boards, tasks, pretexts and runs, with figures and data."""
    from leaderboards.publish.site import build as build_pages

    with _one_line():
        _report_written(build_pages(results, out))


@app.command(hidden=True)
def report(
    results: Results,
    out: Annotated[Path, typer.Option(parser=host.path, help="Folder.")],
    board: Annotated[list[str], typer.Option(help="modality/track of a board that is printed.")],
):
    """Write the site of a local store, then print boards; how `benchmark run` ends. Standard input: JSON of what was
    absent, {modality: {task: reason}}, as the run has printed already."""
    from leaderboards.pages.terminal import format_boards
    from leaderboards.publish.site import build as build_pages
    from leaderboards.publish.site import load_boards

    with _one_line():
        absent = json.load(sys.stdin)
        found = load_boards(results, absent)
        written = build_pages(results, out, absent, found)
    known = {gap for gaps in absent.values() for gap in gaps.items()}
    shown = [
        replace(one, missing=tuple(gap for gap in one.missing if gap not in known))
        for one in found
        if f"{one.modality}/{one.track}" in board
    ]
    typer.echo("\n" + format_boards(shown))
    typer.echo(f"leaderboard: {(out / 'index.html').resolve()} (and {len(written) - 1} pages beside it)")


@app.command()
def site(
    results: Results = PUBLISHED,
    out: Annotated[Path, typer.Option(parser=host.path, help="Folder.")] = SITE,
):
    """Write the published site. The same store gives the same bytes; frozen releases are left alone."""
    from leaderboards.publish.releases import build_site

    with _one_line():
        _report_written(build_site(results, out))


@app.command()
def release(
    version: Annotated[str, typer.Argument(help="Of the release, such as 0.1.0.")],
    results: Results = PUBLISHED,
    out: Annotated[Path, typer.Option(parser=host.path, help="Folder of the site.")] = SITE,
):
    """Freeze the published boards as a release, Markdown and tables, and name it in the current pages."""
    from leaderboards.publish import releases

    with _one_line():
        _report_written(releases.freeze(results, out, version))


def _report_written(paths: list[Path]) -> None:
    typer.echo(
        f"{paths[0]} (and {len(paths) - 1} files beside it, {sum(p.stat().st_size for p in paths) / 1e6:.1f} MB)"
    )


@app.command()
def verify(
    results: Annotated[
        list[Path] | None, typer.Option(parser=host.path, help="Folder of finished work; default: local, published.")
    ] = None,
    site: Annotated[
        Path | None,
        typer.Option(help="Pages of the last of these folders; default: the published site, of results/published."),
    ] = None,
    run: Annotated[str, typer.Option(help="Only the run with this id, its twin and their cells; no pages.")] = "",
):
    """Recompute what is stored, and what the pages print; name every difference and exit with 1 if there is one.

    From the stored predictions: metrics, counts and leakage verdicts, against the store; intervals, gains, shares,
    adjusted p-values, letters, contrasts, slopes and claims, against the pages. Measured locality, scores of trials
    and of maps are stored without what they were computed from: they are held by their seals alone.
    """
    from benchmark.storage.schema import SchemaError
    from leaderboards.audit.verify import verify as check
    from leaderboards.publish import printed
    from leaderboards.publish.site import EmptyStore

    roots = results or [LOCAL, PUBLISHED]
    public = [root for root in roots if root.resolve() == PUBLISHED.resolve() and SITE.is_dir()]
    pages = {} if run else {roots[-1]: site} if site else dict.fromkeys(public, SITE)
    failed, files = False, 0
    for root in roots:
        report = check(root, run=run)
        files += report.files + len(report.problems)
        failed |= bool(report.problems)
        typer.echo(report if report.files or report.problems else f"{root}: nothing stored" + f" of {run}" * bool(run))
        if root in pages:
            try:
                compared = printed.check(root, pages[root])
            except SchemaError as error:
                failed = True
                typer.echo(f"{pages[root]}: not compared, as the store cannot be read: {error}")
                continue
            failed |= bool(compared.misprints)
            typer.echo(compared)
    with _one_line():
        if not files:
            if run:
                raise EmptyStore(f"no run {run} is stored; give its whole id, and the folder with --results")
            raise EmptyStore("nothing stored yet; `make bench` runs the embedded phantoms in minutes")
    raise typer.Exit(1 if failed else 0)


@app.command()
def repair(results: Annotated[Path, typer.Option(parser=host.path, help="Folder of finished work.")] = LOCAL):
    """Set damaged directories aside, so that the command that computed them computes just them again."""
    from leaderboards.audit.repair import ASIDE
    from leaderboards.audit.repair import repair as mend

    damaged = mend(results)
    for problems in damaged.values():
        typer.echo("\n".join(problems))
    typer.echo(
        f"{len(damaged)} damaged directories set aside in {results / ASIDE}; run again what computed them"
        if damaged
        else f"{results}: nothing is damaged"
    )


@app.command()
def show(
    results: Results = LOCAL,
    modality: Annotated[str | None, typer.Option(help="Only this modality.")] = None,
    track: Annotated[str | None, typer.Option(help="Only this track.")] = None,
):
    """Print the boards as plain text."""
    from leaderboards.pages.terminal import format_boards

    typer.echo(format_boards(_boards(results, modality, track)))


@app.command()
def claims(
    results: Results = LOCAL,
    modality: Annotated[str | None, typer.Option(help="Only this modality.")] = None,
    track: Annotated[str | None, typer.Option(help="Only this track.")] = None,
):
    """Judge the study's claims on every board of the store."""
    from leaderboards.tables.claims import explain_verdict

    for board in _boards(results, modality, track):
        typer.echo(board.title)
        for one in board.claims:
            typer.echo(f"  {one.about}: {one.says}: {one.verdict} ({'; '.join(explain_verdict(one))})")


@app.command()
def regression(
    results: Results = PUBLISHED,
    record: Annotated[bool, typer.Option("--record", help="Store the verdicts of now.")] = False,
):
    """Judge the claims again, against stored verdicts, and look for published files lost; exit with 1 for any."""
    from leaderboards.audit import regression as verdicts
    from leaderboards.audit.history import changed_files
    from leaderboards.publish.site import load_public_boards

    with _one_line():
        now = verdicts.judge(load_public_boards(results))
        if record:
            verdicts.record(now, verdicts.FILE)
            typer.echo(f"{verdicts.FILE.name}: {len(now)} claims")
            return
        found = [*changed_files(results), *verdicts.compare(now, verdicts.read(verdicts.FILE))]
    typer.echo("\n".join([*found, f"{len(now)} claims judged again, {len(found) or 'no'} differences"]))
    raise typer.Exit(1 if found else 0)


@app.command()
def simulate(
    simulations: Annotated[int, typer.Option(min=2, help="Of ten tasks; docs/statistics.md says of what else.")] = 300,
    seed: Annotated[int, typer.Option(help="Of the simulations.")] = 0,
):
    """Measure how often the rules of a board are wrong on equal methods; print the tables of docs/statistics.md."""
    from leaderboards.stats.simulate import report

    for line in report(simulations, seed):
        typer.echo(line)


@app.command()
def promote(
    results: Results = LOCAL,
    published: Annotated[Path, typer.Option(parser=host.path, help="Folder of published runs.")] = PUBLISHED,
    modality: Only = None,
    track: Only = None,
    pretext: Only = None,
    run: Annotated[str | None, typer.Option(help="Only the run with this id.")] = None,
    trials: Annotated[bool, typer.Option("--trials", help="Tuning trials instead of runs.")] = False,
):
    """Publish verified runs, with their twins and cells, packed; or tuning trials. Nothing published changes."""
    from leaderboards.audit.promote import promote as publish
    from leaderboards.audit.promote import promote_trials

    if trials and run:
        raise typer.BadParameter("a trial is no run: --trials goes with --modality, --track and --pretext")
    publish = promote_trials if trials else publish
    asked = {"modality": modality, "track": track, "pretext": pretext, "run": run}
    with _one_line():
        packed = publish(results, published, {name: value for name, value in asked.items() if value})
    for one in packed:
        typer.echo(f"{one.directory}: {one.cells} cells, {one.bytes / 1e6:.2f} MB")
    typer.echo(f"{len(packed)} directories written; commit them" if packed else "all of it is published already")


@app.command()
def submission(
    base: Annotated[str, typer.Option(help="The branch that it is to be merged into.")] = "origin/main",
    published: Annotated[Path, typer.Option(parser=host.path, help="Folder of published runs.")] = PUBLISHED,
):
    """Check what this branch adds to the published store, and show its rows, or say why they cannot be taken."""
    from leaderboards.audit.submission import check, format_submission

    with _one_line():
        found = check(published, base)
    typer.echo(format_submission(found))
    raise typer.Exit(1 if found.problems else 0)


@app.command()
def archive(
    published: Annotated[Path, typer.Option(parser=host.path, help="Folder of published runs.")] = PUBLISHED,
):
    """Take away what earlier engines published and what no board shows, and list which commit holds it."""
    from leaderboards.audit.archive import FILE
    from leaderboards.audit.archive import archive as take_away

    with _one_line():
        gone = take_away(published)
    typer.echo(
        f"{len(gone)} directories taken away and listed in {published.parent / FILE}; commit that"
        if gone
        else f"{published}: nothing of an earlier engine, nothing that boards pass over"
    )


@app.command()
def trials(results: Results = LOCAL):
    """Print the tuning trials of a store, with the mean gain over latents that recipes are chosen by."""
    from leaderboards.boards import trials
    from leaderboards.pages import trials_page

    with _one_line():
        typer.echo(trials_page.format_trials(trials.read(results)) or f"{results}: no trial is stored")


@app.command()
def advise(
    results: Results = PUBLISHED,
    check: Annotated[
        bool, typer.Option("--check", help="For every simulated task, without it, beside what it showed.")
    ] = False,
):
    """What the boards support for a dataset, whose profile is read as JSON from standard input: `python -m benchmark
    advise` measures one."""
    from leaderboards.export import advice

    boards = _boards(results)
    if check:
        typer.echo(advice.format_left_out(advice.leave_out(boards)))
        return
    typer.echo(advice.format_advice(boards, advice.Profile(**json.load(sys.stdin))))


@app.command()
def export(
    results: Results = LOCAL,
    out: Annotated[Path, typer.Option(parser=host.path, help="Folder.")] = Path("leaderboards/local/export"),
    formats: Annotated[str, typer.Option("--format", help="Of csv, parquet, latex.")] = "csv,parquet,latex",
):
    """Write every number with its interval as CSV and Parquet, and each board as LaTeX."""
    from leaderboards.export.store_tables import write_tables
    from leaderboards.publish.site import load_boards

    with _one_line():
        for path in write_tables(results, out, [name.strip() for name in formats.split(",")], load_boards):
            typer.echo(path)


@app.command()
def compare(
    a: Annotated[str, typer.Argument(help="A run's id or its beginning, or a pretext: mae, mae:official, mae:twin.")],
    b: Annotated[str, typer.Argument(help="What it is compared with.")],
    results: Results = LOCAL,
    modality: Only = None,
    track: Only = None,
    probe: Annotated[str, typer.Option(help="Probe.")] = "linear",
    readout: Annotated[str, typer.Option(help="patches or native.")] = "patches",
):
    """Print the paired difference of two encoders on every task that both were probed on."""
    from leaderboards.export import two_encoders

    board = {name: value for name, value in (("modality", modality), ("track", track)) if value}
    with _one_line():
        typer.echo(two_encoders.format_comparison(two_encoders.compare(results, a, b, probe, readout, **board), a, b))


if __name__ == "__main__":
    host.use_utf8()
    app()
