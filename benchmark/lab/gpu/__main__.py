"""A production line: `make gpu`. Resumable, without network, useful at any length.

What the machine is, whether its numbers agree with the CPU's, whether a step waits for the device, how fast the
pretexts train, then the missing runs of a list of frozen recipes and
their ceilings, while the processors render their images. Every finished piece is a line of <out>/pieces.jsonl; a later
call goes on after it. A piece is started only if it should end in the time left, judged by finished pieces of its kind.
Runs are ordinary results under --results, written by `benchmark run`, verified as they come, to be promoted as any
other.
"""

import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from benchmark import grid as grids
from benchmark import registry
from benchmark.device import arithmetic, machine
from benchmark.lab.gpu import checks, runs, speed
from benchmark.lab.gpu.timebox import Piece, Setup, Timebox
from benchmark.recipe import Recipe
from benchmark.training import stopping
from tasks import host
from tasks.base import DataError, ProcessError

RESERVED = 0.5  # share of the whole time that measurements leave to runs that are missing
SHOWN = {  # kind of a piece -> what is said of its result
    "agreement": checks.describe,
    "no sync": checks.describe,
    "speed": speed.describe,
    "run": lambda _, result: runs.describe(result),
    "ceiling": lambda _, result: "\n  ".join(["", *result["said"]]),
}


def list_environment() -> Piece:
    return Piece("environment", 10, checks.describe_machine)


def list_measurements(dry: bool) -> Iterator[Piece]:
    """What is asked of the GPU, the most valuable first."""
    size, batch, table = ("nano", 8, speed.DRY) if dry else ("Ti", speed.BATCH, speed.TABLE)
    block = 0.0 if dry else speed.SECONDS
    pretexts = registry.defaults("pretexts")
    for pretext in pretexts:
        yield Piece(f"agreement/{pretext}", 30, lambda p=pretext: checks.compare_with_cpu(p, size))
    for pretext in pretexts:
        yield Piece(f"no sync/{pretext}", 10, lambda p=pretext: checks.find_waits(p, size, min(batch, 32)))
    for scale, mode in table:
        for pretext in pretexts if mode == "eager" or not dry else ("mae",):
            run = lambda s=scale, m=mode, p=pretext: speed.measure_speed(s, m, p, batch, block)  # noqa: E731
            yield Piece(f"speed/{scale}/{mode}/{pretext}", speed.GUESS[mode], run)


def go(
    setup: Setup,
    seconds: float,
    say: Callable[[str], None],
    recipes: Sequence[Recipe] = (),
    only: Sequence[str] = (),
) -> list[str]:
    """Do what is missing and fits, of pieces whose names begin with one of `only`. Returns the names of pieces that
    failed; they are tried again by the next call."""
    box = Timebox(setup.out, seconds, say)
    box.do(list_environment())

    def do(pieces: Iterable[Piece], reserved: float = 0.0) -> None:
        for piece in pieces:
            if not only or piece.name.startswith(tuple(only)):
                box.do(piece, reserved)

    measurements, work, rendering = [], None, None
    try:
        measurements = list(list_measurements(setup.dry))
    except ImportError as error:  # a pretext needs what this machine lacks
        box.fail("measurements", error)
    try:
        if recipes:
            work = runs.find_work(recipes, setup, say)
            rendering = runs.start_rendering(work) if work.list_missing() else None
    except Exception as error:  # what is broken about the runs takes no measurement with it
        box.fail("grid", error)
    try:
        if rendering:
            say("image stores are rendered meanwhile, at the lowest priority")
        do(measurements, RESERVED * seconds if rendering else 0.0)
        if work and (not only or "run" in only) and _are_stores_whole(work, rendering, box):
            with suppress(RuntimeError):  # a measurement may have left the device unusable for this process alone
                arithmetic.release_memory()
            runs.train(work, box)
            do(runs.list_ceilings(work, box))
        do(measurements)
    finally:
        if rendering:
            rendering.terminate()
            rendering.wait()
    report(box, setup)
    return list(box.failed)


def _are_stores_whole(work: runs.Work, rendering: subprocess.Popen | None, box: Timebox) -> bool:
    """Wait for the image stores as long as there is time."""
    try:
        if rendering:
            runs.await_rendering(rendering, work, box.left)
    except ProcessError as error:
        box.fail("stores", error)
        return False
    return True


def report(box: Timebox, setup: Setup) -> None:
    """What is known so far, a line a piece; what is left, and what to do next."""
    for name, result in box.done.items():
        if show := SHOWN.get(name.partition("/")[0]):
            box.say(f"{name:<24} {show(name, result)}")
    for name, error in box.errors.items():
        box.say(f"{name:<24} FAILED: {error}")
    speed.write_page(box.finished, box.errors, setup.out / "speed.md")
    box.say(f"speed table: {setup.out / 'speed.md'}")
    for name, needed in box.waiting.items():
        box.say(f"left for a later call: {name}, about {needed:,.0f} s")
    for line in runs.describe_promotion(box.rows, setup.results):
        box.say(line)


def main(
    minutes: Annotated[float, typer.Option(help="No piece is started that should end later than this.")] = 8.5,
    grid: Annotated[
        Path | None, typer.Option(parser=host.path, help="Frozen recipes, a JSON line each, whose runs are wanted.")
    ] = None,
    task: Annotated[str, typer.Option(help="Tasks that runs are probed on; empty: those of their corpus.")] = "",
    probe: Annotated[str, typer.Option(help="Probes, comma-separated; empty: linear and kNN.")] = "",
    only: Annotated[
        str, typer.Option(help='Pieces to do, by how their names begin: "agreement,speed/micro,run"; empty: all.')
    ] = "",
    data: Annotated[Path, typer.Option(parser=host.path, help="Folder with datasets in their native layout.")] = Path(
        "data"
    ),
    out: Annotated[Path, typer.Option(parser=host.path, help="Where finished pieces are noted.")] = Path("results/gpu"),
    results: Annotated[Path, typer.Option(parser=host.path, help="Store of finished runs and cells.")] = Path(
        "results/local"
    ),
    cache: Annotated[
        Path, typer.Option(parser=host.path, help="Image stores, features, checkpoints; may be deleted.")
    ] = Path(".cache"),
    dry: Annotated[bool, typer.Option("--dry", help="Tiny pieces, on the CPU where there is no GPU.")] = False,
) -> None:
    """Measure this machine's GPU and train what is missing, as far as the time goes; call again to go on."""
    if not dry and not machine.device().gpus:
        print("error: torch can use no GPU here; --dry tries the pieces on the CPU", file=sys.stderr)
        raise typer.Exit(1)
    try:
        recipes = grids.read(grid) if grid else []
    except (ValueError, DataError) as error:
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(2) from None
    stopping.listen()
    try:
        named = (tuple(filter(None, text.split(","))) for text in (task, probe))
        setup = Setup(data, out, results, cache, dry, *named)
        failed = go(setup, 60 * minutes, typer.echo, recipes, tuple(filter(None, only.split(","))))
    except (stopping.Stopped, KeyboardInterrupt) as end:
        print("\nstopped; what is finished is noted: call again to go on", file=sys.stderr)
        raise typer.Exit(getattr(end, "code", 130)) from None
    if failed:
        print(f"error: {len(failed)} pieces failed: {', '.join(failed)}", file=sys.stderr)
        raise typer.Exit(2)


if __name__ == "__main__":
    host.use_utf8()
    typer.run(main)
