"""A production line: `make gpu`. Resumable, without network, useful at any length.

What the machine is, whether its numbers agree with the CPU's, whether a step waits for the device, how fast the
pretexts train, the development trials that were asked for, then the missing runs of a list of frozen recipes and
their ceilings, while the processors render their images. Every finished piece is a line of <out>/pieces.jsonl; a later
call goes on after it. A piece is started only if it should end in the time left, judged by finished pieces of its kind.
Runs are ordinary results under --results, written by `benchmark run`, verified as they come, to be promoted as any
other.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from benchmark import registry
from benchmark.device import arithmetic, machine
from benchmark.lab.gpu import checks, runs, speed, trials
from benchmark.lab.gpu.line import Line, Piece, Setup
from benchmark.recipe import Recipe
from benchmark.training import stopping
from tasks import host
from tasks.base import DataError, ProcessError

RESERVED = 0.5  # share of the whole time that measurements leave to runs that are missing


def environment() -> Piece:
    return Piece("environment", 10, checks.environment)


def wanted(pieces: Iterator[Piece], only: Sequence[str]) -> Iterator[Piece]:
    """Those whose names begin with one of these; all of them if none is named."""
    return (piece for piece in pieces if not only or piece.name.startswith(tuple(only)))


def measurements(dry: bool) -> Iterator[Piece]:
    """What is asked of the GPU, the most valuable first."""
    size, batch, table = ("nano", 8, speed.DRY) if dry else ("Ti", speed.BATCH, speed.TABLE)
    block = 0.0 if dry else speed.SECONDS
    pretexts = registry.defaults("pretexts")
    for pretext in pretexts:
        yield Piece(f"agreement/{pretext}", 30, lambda p=pretext: checks.agreement(p, size))
    for pretext in pretexts:
        yield Piece(f"no sync/{pretext}", 10, lambda p=pretext: checks.no_sync(p, size, min(batch, 32)))
    for scale, mode in table:
        for pretext in pretexts if mode == "eager" or not dry else ("mae",):
            run = lambda s=scale, m=mode, p=pretext: speed.measured(s, m, p, batch, block)  # noqa: E731
            yield Piece(f"speed/{scale}/{mode}/{pretext}", speed.GUESS[mode], run)


def tuning(asked: Sequence[trials.Trial], setup: Setup, line: Line) -> Iterator[Piece]:
    for trial in asked:
        training = sum(r.budget / runs.rate(r, line.here) for r in trial.recipes)
        guess = training + runs.EVALUATION[setup.dry] * len(trial.recipes)
        yield Piece(trial.name, guess, lambda t=trial: trials.run(t, setup.results, setup.cache))


def go(
    setup: Setup,
    seconds: float,
    say: Callable[[str], None],
    recipes: Sequence[Recipe] = (),
    asked: Sequence[trials.Trial] = (),
    only: Sequence[str] = (),
) -> list[str]:
    """Do what is missing and fits, of pieces whose names begin with one of `only`. Returns the names of pieces that
    failed; they are tried again by the next call."""
    line = Line(setup.out, seconds, say)
    line.do(environment())
    work, rendering = None, None
    try:
        if recipes:
            work = runs.find_work(recipes, setup, say)
            rendering = work.render() if work.missing() else None
    except Exception as error:  # what is broken about the runs takes no measurement with it
        line.fail("grid", error)
    try:
        if rendering:
            say(f"image stores are rendered meanwhile, at the lowest priority, on {rendering.processors} processors")
        reserved = RESERVED * seconds if rendering else 0.0
        for piece in wanted(measurements(setup.dry), only):
            line.do(piece, reserved)
        for piece in tuning(asked, setup, line):
            line.do(piece)
        if work and (not only or "run" in only):
            _runs(work, rendering, line, only)
        for piece in wanted(measurements(setup.dry), only):
            line.do(piece)
    finally:
        if rendering:
            rendering.stop()
    report(line, setup)
    return list(line.failed)


def _runs(work: runs.Work, rendering: runs.Rendering | None, line: Line, only: Sequence[str]) -> None:
    if rendering:
        try:
            rendering.wait(line.left)
        except ProcessError as error:
            line.fail("stores", error)
            return
    with suppress(RuntimeError):  # a measurement may have left the device unusable for this process, and for no other
        arithmetic.release()
    runs.train(work, line)
    for piece in wanted(runs.teaching(work, line), only):
        line.do(piece)


def report(line: Line, setup: Setup) -> None:
    """What is known so far, a line a piece; what is left, and what to do next."""
    done = line.done
    for name, result in done.items():
        kind = name.partition("/")[0]
        if kind in ("agreement", "no sync"):
            line.say(f"{name:<24} {checks.told(name, result)}")
        elif kind == "speed":
            line.say(f"{name:<24} {speed.told(name, result)}")
        elif kind == "trial":
            line.say("\n".join([name, *(f"  {score}" for score in result["scores"])]))
        elif kind == "ceiling":
            line.say("\n".join([name, *(f"  {said}" for said in result["said"])]))
        elif kind == "run":
            line.say(f"{name:<24} {runs.told(result)}")
    for name, error in line.errors.items():
        line.say(f"{name:<24} FAILED: {error}")
    speed.write(line.here, line.errors, setup.out / "speed.md")
    line.say(f"speed table: {setup.out / 'speed.md'}")
    for name, needed in line.waiting.items():
        line.say(f"left for a later call: {name}, about {needed:,.0f} s")
    for said in runs.promotion(line.rows, setup.results):
        line.say(said)


def main(
    minutes: Annotated[float, typer.Option(help="No piece is started that should end later than this.")] = 8.5,
    grid: Annotated[
        Path | None, typer.Option(parser=host.path, help="Frozen recipes, a JSON line each, whose runs are wanted.")
    ] = None,
    asked: Annotated[
        str, typer.Option("--trials", help='As benchmark.lab.trials takes them: "mae --change lr=2e-3; ijepa --twin".')
    ] = "",
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
        recipes, asked_trials = runs.read(grid), trials.read(asked)
    except (ValueError, DataError) as error:
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(2) from None
    stopping.listen()
    try:
        named = (tuple(filter(None, text.split(","))) for text in (task, probe))
        setup = Setup(data, out, results, cache, dry, *named)
        failed = go(setup, 60 * minutes, typer.echo, recipes, asked_trials, tuple(filter(None, only.split(","))))
    except (stopping.Stopped, KeyboardInterrupt) as end:
        print("\nstopped; what is finished is noted: call again to go on", file=sys.stderr)
        raise typer.Exit(getattr(end, "code", 130)) from None
    if failed:
        print(f"error: {len(failed)} pieces failed: {', '.join(failed)}", file=sys.stderr)
        raise typer.Exit(2)


if __name__ == "__main__":
    host.use_utf8()
    typer.run(main)
