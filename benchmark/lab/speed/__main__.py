"""Speed side by side with the usual arrangement, as ratios within one run, and memory against its prediction.

Benchmarks, not tests: the two sides alternate, and medians of several rounds are printed. On a machine that others
use too, ratios mean more than times.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

import tasks
from benchmark import registry
from benchmark.cost import peak_memory
from benchmark.device import arithmetic, machine
from tasks import host, store
from tasks.reading import layout

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)
BATCH = 64
LINE = "{:<6} {:<7} {:<9} {:>8} {:>8} {:>6} {:>6} {:>9} {:>6} {:>6}"
HEADS = ("size", "pretext", "", "ours ms", "usual ms", "ratio", "limit", "GFLOP/s", "peak", "data")
WEIGHED = [f"{size}/{pretext}" for size in ("micro", "Ti", "S") for pretext in registry.defaults("pretexts")]


@app.callback()
def speed() -> None:
    """Speed side by side with the usual arrangement, and memory against its prediction."""


@app.command()
def compare(
    size: Annotated[str, typer.Option(help="Comma-separated; default: micro,Ti on a CPU, B on a GPU.")] = "",
    pretext: Annotated[str, typer.Option(help="Comma-separated.")] = "mae,ijepa,dinov3",
    data: Annotated[
        Path | None, typer.Option(parser=host.path, help="Image files, a folder per class; default: phantoms.")
    ] = None,
    side: Annotated[int, typer.Option(help="Side of the phantom files, pixels.")] = 256,
    workers: Annotated[int | None, typer.Option(help="DataLoader workers; default: one a processor.")] = None,
    batch: Annotated[int | None, typer.Option(help="Images per step; default: 64 micro, 8 Ti, 64 on a GPU.")] = None,
    rounds: Annotated[int, typer.Option(help="Alternations that count.")] = 7,
    steps: Annotated[int, typer.Option(help="Steps in one round of the pipeline.")] = 4,
    compiled: Annotated[bool, typer.Option("--compile", help="torch.compile on our side.")] = False,
    busy: Annotated[bool, typer.Option("--busy", help="Time of this process alone, without workers.")] = False,
) -> None:
    """Our step and our whole pipeline against lightly's building blocks with ImageFolder and DataLoader.

    Step: the same crops and masks on both sides. Pipeline: from files to the optimiser step, each side with its own
    crops and masks; our files were decoded into the store before, once. Limit: the ratio if our data cost nothing.
    """
    import torch

    from benchmark import tracks
    from benchmark.lab.speed import measure

    try:
        from benchmark.lab.speed import usual
    except ImportError as error:
        sys.exit(f"error: {error}")
    device = arithmetic.prepare()
    gpu = device.type == "cuda"
    workers = 0 if busy else machine.processors() if workers is None else workers
    clock = time.process_time if busy else time.perf_counter
    name = machine.device_name()
    product = measure.peak(device, clock=clock)
    top = machine.nominal_peak(name) or product
    typer.echo(
        f"{name}: {torch.get_num_threads()} threads, {workers} DataLoader workers, load {os.getloadavg()[0]:.1f} on "
        f"{machine.processors()} processors{', time of this process' if busy else ''}; "
        f"matrix product {product / 1e9:,.0f} GFLOP/s, peak {top / 1e9:,.0f}"
    )

    def show(kind: str, steps: int, ours: float, other: float, limit: str = "", data: str = "") -> None:
        rate = tracks.image_flops(recipe) * recipe.settings.batch * steps / ours
        times = (f"{seconds * 1e3 / steps:,.0f}" for seconds in (ours, other))
        figures = (f"{other / ours:.2f}", limit, f"{rate / 1e9:,.0f}", f"{rate / top:.0%}", data)
        typer.echo(LINE.format(scale, chosen, kind, *times, *figures))

    typer.echo(LINE.format(*HEADS))
    with tempfile.TemporaryDirectory() as folder:
        for scale in (size or ("B" if gpu else "micro,Ti")).split(","):
            for chosen in pretext.split(","):
                count = batch or (64 if gpu else None)
                recipe = measure.recipe(scale, chosen, batch=count, precision="bf16" if gpu else "fp32")
                source = data or measure.phantom_files(Path(folder), recipe.settings.batch * steps, side)
                images, decoding = measure.decoded(source, recipe, Path(folder) / "cache")
                mine, other = (
                    measure.ours(recipe, images, device, "compiled" if compiled else "eager"),
                    usual.usual(recipe, device),
                )
                stream = usual.batches(recipe, other, source, workers, device)
                one, whole = race(mine, other, stream, steps, rounds, device, clock)
                show("step", 1, *one)
                a, b, free = whole
                show("pipeline", steps, a, b, f"{b / free:.2f}", f"{max(0.0, 1 - free / a):.0%}")
                if decoding > 1:
                    typer.echo(f"       decoding {len(images.ids):,} images into the store, once: {decoding:.1f} s")
                stream.close()


def race(
    mine: Any, other: Any, stream: Iterator, steps: int, rounds: int, device: Any, clock: Callable[[], float]
) -> tuple[list[float], list[float]]:
    """Seconds of a step (ours, other), and of `steps` steps from files (ours, other, ours if data cost nothing)."""
    from benchmark.lab.speed.measure import alternate

    def repeat(work: Callable[[int], object]) -> Callable[[], None]:
        return lambda: [work(number) for number in range(steps)] and None

    views = mine.views(0)
    same = other.same(views)
    one = alternate(lambda: mine.step(views), lambda: other.step(same), rounds=rounds, device=device, clock=clock)
    from_files = (lambda n: mine.step(mine.views(n)), lambda _: other.step(next(stream)), lambda _: mine.step(views))
    return one, alternate(*map(repeat, from_files), rounds=max(2, rounds // 2), device=device, clock=clock)


@app.command()
def memory(
    only: Annotated[str, typer.Option(help="Comma-separated size/pretext; default: three sizes of the three.")] = "",
    batch: Annotated[int | None, typer.Option(help="Images per step; default: 64 micro, 8 Ti, 4 S.")] = None,
    here: Annotated[bool, typer.Option(hidden=True)] = False,
) -> None:
    """Peak resident size of short runs on the CPU, each in a process of its own, against `peak_memory`."""
    for case in filter(None, only.split(",")) if only else WEIGHED:
        if here:
            return _weigh(*case.split("/"), batch)
        command = [sys.executable, "-m", "benchmark.lab.speed", "memory", "--here", "--only", case]
        command += ["--batch", str(batch)] if batch else []
        hidden = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
        done = subprocess.run(command, env=hidden, capture_output=True, encoding="utf-8", check=False)
        if done.returncode:
            sys.exit(done.stderr)
        typer.echo(done.stdout.splitlines()[-1])


def _weigh(size: str, pretext: str, batch: int | None) -> None:
    from benchmark.lab.speed import measure
    from benchmark.recipe import Runtime
    from benchmark.training.loop import train

    recipe = measure.recipe(size, pretext, batch=batch, steps=4)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        train(recipe, Runtime(data=place, results=place, cache=place), measure.noise(64, recipe.stored_pixels))
    measured = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    predicted = peak_memory(recipe)
    typer.echo(
        f"{size:<6} {pretext:<7} batch {recipe.settings.batch:<4} predicted {predicted / 1e6:7,.0f} MB, "
        f"measured {measured / 1e6:7,.0f} MB, ratio {predicted / measured:.2f}"
    )


@app.command("store")
def store_(
    task: Annotated[str, typer.Option(help="A task whose samples are image files in one folder per class.")],
    data: Annotated[Path, typer.Option(parser=host.path, help="Folder with datasets in their native layout.")],
    pixels: Annotated[int, typer.Option(help="Side of the stored square image.")] = 224,
    workers: Annotated[int, typer.Option(help="Processes of either side.")] = 2,
    rounds: Annotated[int, typer.Option(help="Alternations that count.")] = 3,
) -> None:
    """Building and reading the store against torchvision's ImageFolder with PIL on the same files."""
    import torch  # here, so that the processes that decode do not import it
    from torch.utils.data import DataLoader
    from torchvision import datasets, transforms

    from benchmark.lab.speed.measure import alternate
    from benchmark.parts.augment import to_float
    from benchmark.training.data import Images

    modality = next(m for m in tasks.modalities() if task in tasks.names(m))
    asked = tasks.get(modality, task)
    samples = asked.scan(data)
    root = layout.find_top(data, samples[0].id.partition("/")[0], task).parent
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
        images = Images(stored.ids, [stored.pixels], np.array([(0, row) for row in range(len(stored.ids))]), ())

        def read() -> None:
            order = np.random.default_rng(0).permutation(len(images.rows))
            for start in range(0, len(order), BATCH):
                to_float(torch.from_numpy(images.take(order[start : start + BATCH])))

        def usual_epoch() -> None:
            for _ in usual():
                pass

        works = (fresh_build, read, usual_epoch)
        built, taken, usual = (len(samples) / s for s in alternate(*works, rounds=rounds, device=torch.device("cpu")))
        typer.echo(f"{len(samples):,} images of {modality}/{task} at {pixels} px, {workers} processes, {rounds} rounds")
        for name, rate in (("build the store", built), ("read the store", taken)):
            ratio = f"ImageFolder: {usual:,.0f} images/s; ratio {rate / usual:.2f}"
            typer.echo(f"{name}: {rate:,.0f} images/s; one epoch of {ratio}")


@app.command()
def probe(
    samples: Annotated[int, typer.Option(help="Rows of features.")] = 20_000,
    width: Annotated[int, typer.Option(help="Features of each.")] = 384,
    classes: int = 10,
    penalties: Annotated[int, typer.Option(help="Values of C, from 1e-4 to 10.")] = 10,
    tolerance: Annotated[float, typer.Option(help="Of the largest component of the gradient, for both.")] = 1e-6,
) -> None:
    """The linear probe's solver against scikit-learn's L-BFGS, to the same gradient: time of this process, and ratio.

    The features are drawn with a spectrum that falls as 1/rank, as encoders' do. scikit-learn is given them
    standardised; what both then reach is measured alike, on its own objective.
    """
    from sklearn.linear_model import LogisticRegression

    from benchmark.probes import _logistic

    rng = np.random.default_rng(0)
    y = rng.integers(classes, size=samples)
    mixing = rng.normal(size=(width, width)) / np.arange(1, width + 1)[:, None]
    x = (rng.normal(size=(samples, width)) + 0.5 * rng.normal(size=(classes, width))[y]) @ mixing
    x, grid = x.astype(np.float32), np.logspace(-4, 1, penalties).tolist()
    z = (x - x.mean(axis=0, dtype=float)) / x.std(axis=0, dtype=float)

    def largest(weights: np.ndarray, logits: np.ndarray, c: float) -> float:
        """Of the gradient of mean loss + |weights|² / (2·C·N) in the standardised features."""
        from scipy.special import softmax

        wrong = softmax(logits, axis=1) - np.eye(classes)[y]
        return float(np.abs(z.T @ wrong / samples + weights / (c * samples)).max())

    wall, busy = time.perf_counter(), time.process_time()
    ours = _logistic.fit(x, y, classes, grid, tolerance=tolerance, iterations=100)
    times = [(time.perf_counter() - wall, time.process_time() - busy)]
    wall, busy = time.perf_counter(), time.process_time()
    usual = [LogisticRegression(C=c, tol=tolerance, max_iter=100_000).fit(z, y) for c in grid]
    times.append((time.perf_counter() - wall, time.process_time() - busy))
    reached = [max(largest(m.weights, m.logits(x), c) for m, c in zip(ours, grid, strict=True))]
    reached.append(max(largest(m.coef_.T, m.decision_function(z), c) for m, c in zip(usual, grid, strict=True)))
    for name, (elapsed, worked), gradient in zip(("ours", "scikit-learn"), times, reached, strict=True):
        typer.echo(f"{name:<13} {elapsed:8.1f} s, {worked:8.1f} s of processors, largest gradient {gradient:.1e}")
    typer.echo(
        f"{samples:,} x {width}, {classes} classes, {penalties} values of C: ratio {times[1][0] / times[0][0]:.1f} by "
        f"the clock, {times[1][1] / times[0][1]:.1f} in processor time"
    )


@app.command("probing")
def probing_(
    probe: Annotated[str, typer.Option(help="Comma-separated.")] = ",".join(registry.defaults("probes")),
    shares: Annotated[str, typer.Option(help="Parts of PCam, smallest first.")] = "1/32,1/16,1/8",
    readout: Annotated[str, typer.Option(help="Comma-separated.")] = "patches,native",
    here: Annotated[bool, typer.Option(hidden=True)] = False,
) -> None:
    """Probes on parts of PCam's size, each in a process of its own, and what they come to for the whole of it.

    Seconds are of this process on all its processors together, whatever else the machine does meanwhile.
    """
    from benchmark.lab.speed import probing

    cases = [(name, kind) for name in probe.split(",") for kind in readout.split(",")]
    if here:
        return typer.echo(json.dumps(probing.weigh(*cases[0], float(Fraction(shares)))))
    for name, kind in cases:
        costs = []
        for share in shares.split(","):
            command = [sys.executable, "-m", "benchmark.lab.speed", "probing", "--here"]
            command += ["--probe", name, "--readout", kind, "--shares", share]
            done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
            if done.returncode:
                sys.exit(done.stderr)
            costs.append(cost := probing.Cost(*json.loads(done.stdout.splitlines()[-1])))
            typer.echo(
                f"{name:<9} {kind:<8} {cost.images:>8,} images: {cost.fitted:7.1f} s to fit and ask, "
                f"{cost.stored:5.1f} s to store, {cost.peak / 1e9:5.2f} GB"
            )
        if len(costs) > 1:
            whole = probing.extrapolated(name, costs)
            typer.echo(
                f"{name:<9} {kind:<8} grows as images^{whole.exponent:.2f}; all of PCam: {whole.seconds:,.0f} s, "
                f"{whole.peak / 1e9:.1f} GB"
            )


if __name__ == "__main__":
    host.use_utf8()
    app()
