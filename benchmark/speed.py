"""Speed side by side with the usual arrangement, as ratios within one run: `python -m benchmark.speed store ...`.

A benchmark, not a test: the two sides alternate, and medians of several rounds are printed.
"""

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Annotated

import numpy as np
import typer

import tasks
from tasks import files, store

app = typer.Typer(add_completion=False, no_args_is_help=True)
BATCH = 64


@app.callback()
def speed() -> None:
    """Speed side by side with the usual arrangement."""


@app.command("store")
def store_(
    task: Annotated[str, typer.Option(help="A task whose samples are image files in one folder per class.")],
    data: Annotated[Path, typer.Option(help="Folder with datasets in their native layout.")],
    pixels: Annotated[int, typer.Option(help="Side of the stored square image.")] = 224,
    workers: Annotated[int, typer.Option(help="Processes of either side.")] = 2,
    rounds: Annotated[int, typer.Option(help="Alternations; the first round of each is not counted.")] = 4,
) -> None:
    """Building and reading the store against torchvision's ImageFolder with PIL on the same files."""
    import torch  # here, so that the processes that decode do not import it
    from torch.utils.data import DataLoader
    from torchvision import datasets, transforms

    modality = next(m for m in tasks.modalities() if task in tasks.names(m))
    asked = tasks.get(modality, task)
    samples = asked.scan(data)
    root = files.anchor(data, samples[0].id.partition("/")[0], task).parent
    paths = {str(root / sample.id) for sample in samples}
    folder = os.path.commonpath([os.path.dirname(os.path.dirname(path)) for path in paths])

    def usual() -> DataLoader:
        resize = transforms.Resize((pixels, pixels), transforms.InterpolationMode.LANCZOS)
        images = datasets.ImageFolder(
            folder, transforms.Compose([resize, transforms.ToTensor()]), is_valid_file=lambda path: path in paths
        )
        return DataLoader(images, BATCH, shuffle=True, num_workers=workers)

    def build(cache: str) -> store.Store:
        return store.build(asked, data, samples, pixels, Path(cache), workers=workers)

    def fresh_build() -> None:
        with tempfile.TemporaryDirectory() as cache:
            build(cache)

    with tempfile.TemporaryDirectory() as cache:
        stored = build(cache)

        def read() -> None:
            order = np.random.default_rng(0).permutation(len(stored.ids))
            for start in range(0, len(order), BATCH):
                batch = torch.from_numpy(stored.pixels[np.sort(order[start : start + BATCH])])
                batch.permute(0, 3, 1, 2).float().div_(255).contiguous()

        def usual_epoch() -> None:
            for _ in usual():
                pass

        typer.echo(f"{len(samples):,} images of {modality}/{task} at {pixels} px, {workers} processes, {rounds} rounds")
        _compare("build the store", fresh_build, "one ImageFolder epoch", usual_epoch, len(samples), rounds)
        _compare("read the store", read, "one ImageFolder epoch", usual_epoch, len(samples), rounds)


def _compare(name: str, ours: Callable, other: str, theirs: Callable, images: int, rounds: int) -> None:
    taken: dict[Callable, list[float]] = {ours: [], theirs: []}
    for number in range(rounds):
        for work in (ours, theirs):
            start = time.perf_counter()
            work()
            if number:
                taken[work].append(time.perf_counter() - start)
    first, second = (images / median(taken[work]) for work in (ours, theirs))
    typer.echo(f"{name}: {first:,.0f} images/s; {other}: {second:,.0f} images/s; ratio {first / second:.2f}")


if __name__ == "__main__":
    app()
