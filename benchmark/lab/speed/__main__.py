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

import typer

from benchmark import registry
from benchmark.cost import peak_memory
from benchmark.device import arithmetic, machine
from tasks import host

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)
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
        from benchmark.lab.speed import baseline
    except ImportError as error:
        sys.exit(f"error: {error}")
    device = arithmetic.prepare()
    gpu = device.type == "cuda"
    workers = 0 if busy else machine.processors() if workers is None else workers
    clock = time.process_time if busy else time.perf_counter
    name = machine.device_name()
    product = measure.measure_product(device, torch.bfloat16 if gpu else torch.float32, clock)
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
                recipe = measure.make_recipe(scale, chosen, batch=count, precision="bf16" if gpu else "fp32")
                source = data or measure.write_phantoms(Path(folder), recipe.settings.batch * steps, side)
                images, decoding = measure.decode(source, recipe, Path(folder) / "cache")
                mine, other = (
                    measure.make_trainer(recipe, images, device, "compiled" if compiled else "eager"),
                    baseline.make_trainer(recipe, device),
                )
                stream = baseline.read_batches(recipe, other, source, workers, device)
                one, whole = time_both(mine, other, stream, steps, rounds, device, clock)
                show("step", 1, *one)
                a, b, free = whole
                show("pipeline", steps, a, b, f"{b / free:.2f}", f"{max(0.0, 1 - free / a):.0%}")
                if decoding > 1:
                    typer.echo(f"       decoding {len(images.ids):,} images into the store, once: {decoding:.1f} s")
                stream.close()


def time_both(
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
        size = ["--batch", str(batch)] if batch else []
        typer.echo(_run_alone("memory", "--only", case, *size, CUDA_VISIBLE_DEVICES=""))


def _run_alone(*arguments: str, **environment: str) -> str:
    """The last line that a command of this module prints in a process of its own; its errors end this one."""
    command = [sys.executable, "-m", "benchmark.lab.speed", *arguments, "--here"]
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, encoding="utf-8", check=False)
    if done.returncode:
        sys.exit(done.stderr)
    return done.stdout.splitlines()[-1]


def _weigh(size: str, pretext: str, batch: int | None) -> None:
    from benchmark.lab.speed import measure
    from benchmark.recipe import Runtime
    from benchmark.training.loop import train

    recipe = measure.make_recipe(size, pretext, batch=batch, steps=4)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        train(recipe, Runtime(data=place, results=place, cache=place), measure.make_noise(64, recipe.stored_pixels))
    measured = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    predicted = peak_memory(recipe)
    typer.echo(
        f"{size:<6} {pretext:<7} batch {recipe.settings.batch:<4} predicted {predicted / 1e6:7,.0f} MB, "
        f"measured {measured / 1e6:7,.0f} MB, ratio {predicted / measured:.2f}"
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
        return typer.echo(json.dumps(probing.measure_cost(*cases[0], float(Fraction(shares)))))
    for name, kind in cases:
        costs = []
        for share in shares.split(","):
            found = _run_alone("probing", "--probe", name, "--readout", kind, "--shares", share)
            costs.append(cost := probing.Cost(*json.loads(found)))
            typer.echo(
                f"{name:<9} {kind:<8} {cost.images:>8,} images: {cost.fitted:7.1f} s to fit and ask, "
                f"{cost.stored:5.1f} s to store, {cost.peak / 1e9:5.2f} GB"
            )
        if len(costs) > 1:
            whole = probing.extrapolate(name, costs)
            typer.echo(
                f"{name:<9} {kind:<8} grows as images^{whole.exponent:.2f}; all of PCam: {whole.seconds:,.0f} s, "
                f"{whole.peak / 1e9:.1f} GB"
            )


if __name__ == "__main__":
    host.use_utf8()
    app()
