"""The options that commands share: which work (`Choice`), where it lies (`Places`), how it is computed (`Computing`).

`with_options` makes each field of such a parameter an option of the command.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Annotated, get_type_hints

import typer

from benchmark import registry, tracks
from tasks import host

Modality = Annotated[str, typer.Option(help="Comma-separated; empty: all.")]
Track = Annotated[
    str,
    typer.Option(help=f"Budget: {', '.join(tracks.TRACKS)}, or <track>-images; `python -m benchmark tracks`: each."),
]
Pretext = Annotated[str, typer.Option(help="Comma-separated, name or name:arm; empty: the three of the study.")]
TaskNames = Annotated[str, typer.Option("--task", help="Comma-separated; empty: those that go with the corpus.")]
CorpusName = Annotated[
    str | None,
    typer.Option("--corpus", help="phantom, open, local or kind:location; default: local where data are found."),
]
Policy = Annotated[str, typer.Option(help="How real images are squared: pad, crop or sector; default: the dataset's.")]
Threads = Annotated[int | None, typer.Option(help="Torch threads per process.")]
Data = Annotated[Path, typer.Option(parser=host.path, help="Folder with datasets in their native layout.")]
Results = Annotated[Path, typer.Option(parser=host.path, help="Store of finished work.")]
Published = Annotated[Path, typer.Option(parser=host.path, help="Store of published runs.")]
Cache = Annotated[Path, typer.Option(parser=host.path, help="Image stores, features, checkpoints; may be deleted.")]
Run = Annotated[str, typer.Argument(help="Id of a stored run, or its beginning.")]

DATA, RESULTS, PUBLISHED, CACHE = Path("data"), Path("results/local"), Path("results/published"), Path(".cache")


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Which runs, tasks and probes."""

    modality: Modality = ""
    track: Track = "demo"
    pretext: Pretext = ""
    task: TaskNames = ""
    probe: Annotated[
        str,
        typer.Option(help=f"Comma-separated: {', '.join(registry.names('probes'))}, or all; empty: linear and kNN."),
    ] = ""
    seeds: Annotated[int | None, typer.Option(help="Pretraining seeds; default: the track's.")] = None
    ceilings: Annotated[
        int | None, typer.Option(help="Seeds of the models trained with labels; 0: none; default: the track's.")
    ] = None
    corpus: CorpusName = None
    policy: Policy = ""
    precision: Annotated[
        str | None, typer.Option(help="fp32 or bf16; default: bf16 on a GPU, fp32 on tracks of 64 pixels.")
    ] = None
    runs: Annotated[
        str, typer.Option(help="Ids of runs, names of ceilings, or their beginnings, comma-separated; empty: all.")
    ] = ""
    grid: Annotated[
        Path | None,
        typer.Option(parser=host.path, help="A grid: a file of frozen runs, instead of track, pretext, seeds."),
    ] = None


@dataclass(frozen=True, kw_only=True)
class Places:
    data: Data = DATA
    results: Results = RESULTS
    cache: Cache = CACHE


@dataclass(frozen=True, kw_only=True)
class Computing:
    """How it is computed, which moves no number of a recipe's."""

    threads: Threads = None
    checkpoint_seconds: Annotated[float, typer.Option(help="Between checkpoints.")] = 120.0
    skip_unreadable: Annotated[bool, typer.Option(help="Leave unreadable images out, and record it.")] = False
    micro: Annotated[
        int | None, typer.Option(min=1, help="Images at once of a larger batch (MAE, I-JEPA): less memory.")
    ] = None
    compile: Annotated[
        str | None, typer.Option(help="0, 1 (torch.compile) or graphs (CUDA); default: 1 on a GPU above 64 pixels.")
    ] = None
    nodes: Annotated[int, typer.Option(min=1, help="Machines that train each run together.")] = 1
    node: Annotated[int, typer.Option(min=0, help="Which of them this is.")] = 0
    head: Annotated[str, typer.Option(help="address:port of node 0.")] = ""


def with_options(command: Callable[..., None]) -> Callable[..., None]:
    """The command as typer takes it: a parameter whose type is a dataclass becomes an option for each field."""
    hints = get_type_hints(command, include_extras=True)
    groups = {name: kind for name, kind in hints.items() if is_dataclass(kind)}
    parameters, keyword = [], inspect.Parameter.KEYWORD_ONLY
    for name, parameter in inspect.signature(command).parameters.items():
        if name in groups:
            kinds = get_type_hints(groups[name], include_extras=True)
            for field in fields(groups[name]):
                parameters.append(
                    inspect.Parameter(field.name, keyword, default=field.default, annotation=kinds[field.name])
                )
        else:
            parameters.append(parameter.replace(kind=keyword, annotation=hints[name]))

    @functools.wraps(command)
    def unfolded(**given: object) -> None:
        made = {
            name: kind(**{field.name: given.pop(field.name) for field in fields(kind)}) for name, kind in groups.items()
        }
        command(**given, **made)

    unfolded.__signature__ = inspect.Signature(parameters)
    unfolded.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return unfolded


def split_names(text: str) -> tuple[str, ...]:
    """The names in a comma-separated text, each once."""
    return tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
