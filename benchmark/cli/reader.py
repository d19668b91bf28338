"""`python -m benchmark reader`: make blinded packs, check what comes back, analyse it, simulate readers."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from tasks import host

app = typer.Typer(
    help="A reading study of maps: blinded packs for experts, their answers, and what they say.", no_args_is_help=True
)

PackFolder = Annotated[Path, typer.Argument(parser=host.path, help="Folder that `reader make` wrote.")]
Files = Annotated[list[Path], typer.Argument(parser=host.path, help="JSON files that readers sent back.")]
Results = Annotated[Path, typer.Option(parser=host.path, help="Store of finished work.")]


@app.command()
def make(
    runs: Annotated[list[str], typer.Argument(help="Ids of stored runs, or their beginnings: the methods.")],
    task: Annotated[str, typer.Option(help="Task whose test images are shown.")],
    readers: Annotated[str, typer.Option(help="Codes of the readers, comma-separated; never names.")] = "a,b,c",
    cases: Annotated[int, typer.Option(min=2, help="Images, one a patient.")] = 40,
    seed: Annotated[
        int | None, typer.Option(help="Of every draw; by default drawn anew, and sealed with the key.")
    ] = None,
    kind: Annotated[str, typer.Option(help="attention (mean of heads) or rollout.")] = "attention",
    primary: Annotated[
        str, typer.Option(help="The two pretexts of the primary comparison; empty: the first two.")
    ] = "",
    out: Annotated[Path, typer.Option(parser=host.path, help="Folder of the pack.")] = Path("pack"),
    data: Annotated[Path, typer.Option(parser=host.path, help="Folder with datasets in their native layout.")] = Path(
        "data"
    ),
    results: Results = Path("results/local"),
    cache: Annotated[Path, typer.Option(parser=host.path, help="Image stores; may be deleted.")] = Path(".cache"),
) -> None:
    """Write one self-contained page for each reader, and the sealed key."""
    from benchmark.maps import run_maps
    from benchmark.maps.reader import design, pack
    from benchmark.maps.reader.cases import collect_cases

    seed = secrets.randbits(48) if seed is None else seed
    opened = [run_maps.open_run(run, results) for run in runs]
    methods = {one.recipe.pretext: one.row["run"] for one in opened}
    if len(methods) < len(runs):
        raise ValueError("two runs of one pretext: give one run for each method")
    asked = tuple(part.strip() for part in primary.split(",")) if primary else tuple(methods)[:2]
    if len(asked) != 2 or set(asked) - set(methods):
        raise ValueError(f"--primary {primary}: name two of {', '.join(methods)}")
    found = collect_cases(opened, task, cases + design.PRACTICE, seed, kind, data, cache)
    shown = design.add_other_images(found, asked[0])
    codes = [code.strip() for code in readers.split(",") if code.strip()]
    parts = shown[: -design.PRACTICE], shown[-design.PRACTICE :]
    written = pack.make(*parts, codes, seed, out, arms=methods, modality=opened[0].recipe.modality, primary=asked)
    for path in sorted(written.glob("reader-*.html")):
        typer.echo(f"{path}: {path.stat().st_size / 1e6:.1f} MB, to the reader of that code")
    typer.echo(f"{written / pack.KEY}: keep it closed until the answers are in")


@app.command()
def check(folder: PackFolder, files: Files) -> None:
    """Say what is wrong, missing or odd in the answers. Exit code 1 where a file cannot be used."""
    from benchmark.maps.reader import answers, pack
    from tasks.base import DataError

    opened, failed = pack.read(folder), False
    for path in files:
        try:
            reader, rows = answers.read(path, opened)
        except DataError as error:
            typer.echo(str(error))
            failed = True
            continue
        for line in answers.flag(reader, rows, opened) or ["complete, nothing odd"]:
            typer.echo(f"{path}: reader {reader}: {line}")
    raise typer.Exit(code=1 if failed else 0)


@app.command()
def analyse(
    folder: PackFolder,
    files: Files,
    out: Annotated[Path, typer.Option(parser=host.path, help="Folder of the report.")] = Path("reading"),
    results: Results = Path("results/local"),
) -> None:
    """Unblind the answers: report and figure, and the ratings into the store."""
    import pandas as pd

    from benchmark.maps.reader import analysis, answers, pack, report
    from benchmark.storage import results as store
    from benchmark.storage import schema

    opened = pack.read(folder)
    read = [answers.read(path, opened) for path in files]
    codes = [code for code, _ in read]
    if twice := sorted({code for code in codes if codes.count(code) > 1}):
        raise ValueError(f"two files are of reader {twice[0]}: give the last one alone")
    rows = pd.concat([own for _, own in read], ignore_index=True)
    found = analysis.analyse(rows, opened)
    text = report.write(found, {code: answers.flag(code, own, opened) for code, own in read})
    out.mkdir(parents=True, exist_ok=True)
    (out / "report.md").write_text(text, encoding="utf-8")
    report.draw(found).savefig(out / "strengths.svg", metadata={"Date": None})
    target = results / opened.about["modality"] / "ratings" / opened.about["pack"]
    kept = answers.list_ratings(rows, opened, datetime.now(UTC).isoformat(timespec="seconds"))
    new = store.write(target, {"ratings": schema.table("ratings", kept)})
    typer.echo(text)
    typer.echo(
        f"{out / 'report.md'} and strengths.svg; "
        + (f"{len(kept)} ratings stored" if new else f"{target} is there already, and stays as it is")
    )


@app.command()
def simulate(
    quality: Annotated[
        str,
        typer.Option(help="True quality of each arm, comma-separated; `untrained` and `another image` are controls."),
    ] = "mae=0,ijepa=0.7,dinov3=1.4,untrained=-1,another image=-1",
    readers: Annotated[int, typer.Option(min=1)] = 3,
    cases: Annotated[int, typer.Option(min=2)] = 40,
    studies: Annotated[int, typer.Option(min=1, help="How many are simulated.")] = 50,
    seed: int = 0,
) -> None:
    """Readers whose preference is known: does the analysis find it, and with what power? Nothing is stored."""
    from benchmark.maps.reader.simulate import recover

    try:
        qualities = {name.strip(): float(value) for name, value in (part.split("=") for part in quality.split(","))}
    except ValueError as error:
        raise ValueError(f"--quality {quality}: give arm=number, comma-separated, such as mae=0,ijepa=0.5") from error
    found = recover(qualities, readers, cases, studies, seed)
    typer.echo(
        f"SIMULATED readers, no one was asked: {found.studies} studies of {readers} readers and {cases} cases\n"
        f"intervals of differences hold the truth in {found.coverage:.0%} (95 % wanted)\n"
        f"the truly best method comes first in {found.order:.0%}\n"
        f"power: the best is shown above the second best in {found.power:.0%}\n"
        f"mean alpha of the choices {found.alpha:.2f}"
    )
