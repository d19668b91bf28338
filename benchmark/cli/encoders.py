"""`python -m benchmark probe`, `export`, `maps` and `views`: encoders from outside, for outside, and looked at."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from benchmark import registry
from benchmark.cli.options import (
    CACHE,
    DATA,
    RESULTS,
    Cache,
    Choice,
    CorpusName,
    Data,
    Modality,
    Places,
    Policy,
    Pretext,
    Results,
    TaskNames,
    Threads,
    Track,
    split_names,
)
from benchmark.recipe import Runtime
from tasks import host


def probe(
    encoder: Annotated[
        str, typer.Option(help="timm:NAME, hf-hub:OWNER/NAME, PATH.safetensors, MODULE:FUNCTION or PATH.parquet.")
    ],
    places: Places,
    pretrained_on: Annotated[
        str | None, typer.Option(help="Datasets it has seen, comma-separated, or none: tests on them are flagged.")
    ] = None,
    pixels: Annotated[int | None, typer.Option(min=1, help="Side of its images; default: the model's.")] = None,
    modality: Modality = "",
    track: Track = "demo",
    task: TaskNames = "",
    corpus: CorpusName = None,
    policy: Policy = "",
    threads: Threads = None,
) -> None:
    """Probe a frozen encoder from outside, or a table of embeddings, on the tasks of a board, marked as external."""
    from benchmark.cli import studies
    from benchmark.encoders.external import open_encoder
    from benchmark.plan import recipes
    from benchmark.run_external import probe_external

    choice = Choice(modality=modality, track=track, task=task, corpus=corpus, policy=policy, precision="fp32")
    wanted = studies.read_choice(choice)
    found = [study for study in studies.find_studies(wanted, places.data, places.cache) if study.pinned and study.tasks]
    declared = None if pretrained_on is None else tuple(name for name in split_names(pretrained_on) if name != "none")
    if declared is None:
        typer.echo("--pretrained-on is not given: contamination of every test set is unknown, and shown as such")
    opened = open_encoder(encoder, pixels)
    typer.echo(f"{opened.name}: {opened.loaded}")
    runtime = Runtime(data=places.data, results=places.results, cache=places.cache, threads=threads)
    for study in found:
        (squared,) = {recipe.policy for recipe in recipes(wanted, study, {})}
        done = probe_external(opened, study, track, runtime, declared=declared, policy=squared, say=typer.echo)
        typer.echo(f"{study.modality}: {' and '.join(done)}; `python -m leaderboards show` prints the board")


def export(
    run: Annotated[
        str, typer.Argument(help="Id of a stored run, or its beginning; empty: all, as release files.")
    ] = "",
    results: Results = RESULTS,
    out: Annotated[Path | None, typer.Option(parser=host.path, help="Folder; default: export/<run>.")] = None,
) -> None:
    """Write a stored encoder as a folder that timm and the Hugging Face hub load, with a model card; or every
    pretrained one as a ZIP of such a folder, with a table of their checksums."""
    from benchmark.encoders.export import export as write
    from benchmark.encoders.released import release
    from benchmark.storage import results as store

    if not run:
        typer.echo(release(results, out or Path("export") / "release", typer.echo))
        return
    row = store.find_run(run, results)
    weights = store.run_directory(results, row["modality"], row["run"]) / "encoder.safetensors"
    written = write(row, store.read(results, "cells"), weights, out or Path("export") / row["run"])
    name = json.dumps(f"local-dir:{written}", ensure_ascii=False)
    typer.echo(f"{written}: timm.create_model({name}, pretrained=True)")


def maps(
    runs: Annotated[list[str], typer.Argument(help="Ids of stored runs, or their beginnings.")],
    task: Annotated[str, typer.Option(help="Task whose test images are looked at.")],
    image: Annotated[str, typer.Option(help="Sample ids, comma-separated, instead of the drawn ones.")] = "",
    anchor: Annotated[str, typer.Option(help="X,Y in shares of the side, instead of the drawn anchors.")] = "",
    out: Annotated[Path, typer.Option(parser=host.path, help="Folder of the pictures.")] = Path("maps"),
    data: Data = DATA,
    policy: Policy = "",
    results: Results = RESULTS,
    cache: Cache = CACHE,
) -> None:
    """Show what encoders look at: attention, cosine and PCA maps, reconstructions, and scores of the maps."""
    from benchmark import corpus
    from benchmark.maps import map_sheet, run_maps

    opened = [run_maps.open_run(run, results) for run in runs]
    modality = opened[0].recipe.modality
    if other := next((one for one in opened if one.recipe.modality != modality), None):
        raise ValueError(f"{other.row['run']} is of {other.recipe.modality}, {opened[0].row['run']} of {modality}")
    source, place = corpus.get(modality, task, policy), _read_anchor(anchor)
    for path in map_sheet.show(opened, source, data, cache, results, out, ids=split_names(image), place=place):
        typer.echo(path)


def _read_anchor(text: str) -> tuple[float, float] | None:
    if not text:
        return None
    try:
        x, y = (float(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"--anchor {text}: give two shares of the side, such as 0.5,0.25") from None
    return x, y


def views(
    image: Annotated[str, typer.Argument(help="An image file, or TASK/ID of a dataset under --data.")],
    pretext: Pretext = "",
    track: Track = "laptop",
    modality: Annotated[str, typer.Option(help="How the image is turned, changed and squared.")] = "ultrasound",
    policy: Policy = "",
    draws: Annotated[int, typer.Option(min=1, max=20, help="Epochs that are shown.")] = 3,
    seed: Annotated[int, typer.Option(min=0, help="Of the training.")] = 0,
    data: Data = DATA,
    out: Annotated[Path, typer.Option(parser=host.path, help="The sheet: .png or .webp.")] = Path("views.png"),
) -> None:
    """Show what each pretext sees of an image, as training draws it: crops, visible patches, blocks."""
    from benchmark.maps import view_sheet
    from benchmark.maps import views as drawn

    if out.suffix.lower() not in view_sheet.KINDS:
        raise ValueError(f"--out {out}: give a name that ends in {' or '.join(view_sheet.KINDS)}")
    source, sample = drawn.find_image(image, modality, policy, data)
    names = split_names(pretext) or registry.defaults("pretexts")
    recipes = {name: drawn.make_recipe(name, track, source, seed) for name in names}
    for line in view_sheet.show(recipes, source, sample, data, draws, out):
        typer.echo(line)
