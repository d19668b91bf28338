"""What a machine with a GPU is asked first: `make gpu`. Resumable, without network, useful at any length.

Pieces of work in order of value: what the machine is, whether its numbers agree with the CPU's, how fast the pretexts
train, then boards, seed by seed. Every finished piece is a line of <out>/pieces.jsonl; a later call goes on after it.
A piece is started only if it should end in the time left, judged by finished pieces of its kind. Boards are ordinary
results under --results, written by `benchmark.run`, to be verified and promoted as any other.
"""

import importlib.metadata
import json
import os
import re
import sys
import time
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Annotated, Any, NamedTuple

import typer

from benchmark import arithmetic, machine, plan, registry, tracks
from benchmark.recipe import Runtime, key
from tasks import host

SPARE = 1.25  # an estimate times this must fit in the time left
SEEDS = 3
BATCH = 256  # images per step of the speed table, halved until it fits
EVALUATION = 90.0  # seconds that a first board takes beside training: features, probes, twin
IMAGES, RENDERING = 5400, 0.25  # of a phantom family, and seconds of one processor for each at 256 px
TOLERANCE = {"views": 1e-4, "loss": 1e-4, "gradient": 1e-3, "bf16 loss": 3e-2}  # CPU against GPU, see `agreement`
ROWS = ("images per second", "TFLOP/s", "MFU", "data share", "memory GB", "batch")


class Setup(NamedTuple):
    data: Path
    out: Path
    results: Path
    cache: Path
    dry: bool  # tiny pieces, on the CPU


class Piece(NamedTuple):
    name: str
    guess: float  # seconds, before one of its kind has been finished here
    run: Callable[[], dict[str, Any]]

    @property
    def kind(self) -> str:
        return re.sub(r"/seed \d+$", "", self.name)


def pieces(setup: Setup, done: dict[str, dict]) -> Iterator[Piece]:
    """All of them, the most valuable first."""
    sizes, track, batch, seeds = (("nano",), "smoke", 8, 1) if setup.dry else (("Ti", "S", "B"), "1e16", BATCH, SEEDS)
    pretexts = registry.default_pretexts()
    yield Piece("environment", 5, environment)
    for pretext in pretexts:
        yield Piece(f"agreement/{pretext}", 30, lambda p=pretext: agreement(p, sizes[0]))
    for size in sizes:
        for pretext in pretexts:
            yield Piece(f"speed/{size}/{pretext}", 30, lambda s=size, p=pretext: speed(s, p, batch))
    boards = [("phantom", "histo")] if setup.dry else _boards(setup.data)
    for name, modality in boards:
        guess = 30 if setup.dry else RENDERING * IMAGES / machine.processors()
        yield Piece(f"store/{name}/{modality}", guess, lambda n=name, m=modality: decode(setup, track, n, m))
    for seed in range(seeds):
        for name, modality in boards:
            for pretext in pretexts[:1] if setup.dry else pretexts:
                rate = done.get(f"speed/{sizes[0]}/{pretext}", {"TFLOP/s": plan.NOMINAL_GPU_FLOPS / 1e12})["TFLOP/s"]
                yield Piece(
                    f"board/{name}/{modality}/{pretext}/seed {seed}",
                    tracks.get(track).budget / (rate * 1e12) + EVALUATION,
                    lambda n=name, m=modality, p=pretext, s=seed: board(setup, track, n, m, p, s),
                )
    for pretext in () if setup.dry else pretexts:
        yield Piece(f"compiled/B/{pretext}", 150, lambda p=pretext: speed("B", p, BATCH, compiled=True))


def _boards(data: Path) -> list[tuple[str, str]]:
    """(corpus, modality): the phantoms first, then what real sets are found under data."""
    import tasks
    from benchmark import corpus

    real = [("local", m) for m in tasks.modalities() if corpus.default(m, data) == "local"]
    return [*(("phantom", m) for m in tasks.modalities()), *real]


def environment() -> dict[str, Any]:
    import torch

    lacking = missing()
    found = {"versions": json.loads(machine.versions()), "cpu": machine.cpu(), "processors": machine.processors()}
    found |= {"missing": lacking, "commit": machine.commit()[0], "cuda": torch.version.cuda}
    if lacking:
        typer.echo(f"missing here, carry their wheels: {' '.join(lacking)}")
    device = machine.device()
    if device.gpus:
        card = torch.cuda.get_device_properties(torch.cuda.current_device())
        found |= {"gpu": card.name, "gpus": device.gpus, "memory GB": card.total_memory / 1e9}
        found |= {"names": list(device.names)}
        found |= {"capability": f"{card.major}.{card.minor}", "processors of the gpu": card.multi_processor_count}
        found["driver"] = machine._output("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")
    return found


def missing() -> list[str]:
    """Packages that this one asks for and that are not installed, pinned as in the constraints.txt of a checkout."""
    pinned = ""
    if machine.is_checkout():
        project = tomllib.loads((machine.ROOT / "pyproject.toml").read_text(encoding="utf-8"))
        wanted = project["project"]["dependencies"]
        pinned = (machine.ROOT / "constraints.txt").read_text(encoding="utf-8").lower()
    else:
        wanted = [line for line in importlib.metadata.requires("pretext-bench") or () if "extra ==" not in line]
    pins = dict(re.findall(r"^([\w.-]+)==(\S+)", pinned, re.MULTILINE))
    lacking = []
    for name in (re.match(r"[\w.-]+", line)[0].lower() for line in wanted):
        try:
            importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            lacking.append(f"{name}=={pins[name]}" if name in pins else name)
    return lacking


def agreement(pretext: str, size: str) -> dict[str, Any]:
    """One recipe and its draws on the CPU and here, fp32 by the rule of `arithmetic`, at the first step.

    views: mean absolute difference of the images, in [0, 1]. loss, gradient (of all parameters as one vector): relative
    difference on the same views. bf16 loss: relative difference of the loss under autocast from the CPU's fp32.
    """
    import torch

    from benchmark.speed import measure

    here = arithmetic.prepare()
    recipe = measure.recipe(size, pretext, batch=8)
    images = measure.noise(8, recipe.stored_pixels)
    sides = [measure.ours(recipe, images, device) for device in (torch.device("cpu"), here)]
    first, second = (side.views(0) for side in sides)
    same = {name: value.to(here) for name, value in first.items()}
    losses, gradients = [], []
    for side, views in zip(sides, (first, same), strict=True):
        loss = side.model(views, measure.PROGRESS).loss
        loss.backward()
        losses.append(loss.item())
        gradients.append({n: p.grad.cpu() for n, p in side.model.named_parameters() if p.grad is not None})
    with torch.no_grad(), torch.autocast(here.type, torch.bfloat16):
        half = sides[1].model(same, measure.PROGRESS).loss.item()
    shown = [name for name, value in first.items() if value.is_floating_point()]
    found = {
        "views": max(float((first[name] - second[name].cpu()).abs().mean()) for name in shown),
        "loss": abs(losses[1] / losses[0] - 1),
        "gradient": apart(*gradients),
        "bf16 loss": abs(half / losses[0] - 1),
    }
    return found | {"agrees": agrees(found), "tolerance": TOLERANCE}


def apart(first: dict[str, Any], second: dict[str, Any]) -> float:
    """Length of the difference of two named sets of tensors over the length of the first."""
    difference = sum(float((first[name] - second[name]).double().square().sum()) for name in first)
    return (difference / sum(float(value.double().square().sum()) for value in first.values())) ** 0.5


def agrees(found: dict[str, float]) -> bool:
    return all(found[name] <= limit for name, limit in TOLERANCE.items())


def speed(size: str, pretext: str, batch: int, compiled: bool = False) -> dict[str, Any]:
    """Whole training steps, bf16 on a GPU; the batch is halved until it fits. MFU: share of the maker's dense bf16 peak
    where it is known, else of the matrix product measured now. Data share: batch, crops and masks of a step."""
    import torch

    from benchmark.speed import measure

    device = arithmetic.prepare()
    gpu = device.type == "cuda"
    product = measure.peak(device)
    top = measure.nominal_peak(machine.device_name()) or product
    while True:
        recipe = measure.recipe(size, pretext, batch=batch, precision="bf16" if gpu else "fp32")
        try:
            if gpu:
                torch.cuda.empty_cache()
                machine.reset_peak_memory()
            ours = measure.ours(recipe, measure.noise(2 * batch, recipe.stored_pixels), device, compiled)
            views = ours.views(0)
            steps = (lambda: ours.step(ours.views(0)), lambda: ours.step(views))  # noqa: B023
            whole, alone = measure.alternate(*steps, rounds=3 if compiled or not gpu else 10, device=device)
            break
        except torch.cuda.OutOfMemoryError:
            if batch == 1:
                raise
            ours, views, batch = None, None, batch // 2
    rate = tracks.image_flops(recipe) * batch / whole
    return {
        "batch": batch,
        "images per second": batch / whole,
        "TFLOP/s": rate / 1e12,
        "MFU": rate / top,
        "MFU of the step": rate * whole / alone / top,
        "data share": max(0.0, 1 - alone / whole),
        "memory GB": machine.peak_memory() / 1e9,
        "matrix product TFLOP/s": product / 1e12,
    }


def _study(
    setup: Setup, track: str, name: str, modality: str, pretexts: tuple[str, ...] = (), seeds: int = 1
) -> tuple[plan.Wanted, plan.Study, Runtime]:
    wanted = plan.Wanted(
        modalities=(modality,),
        track=track,
        pretexts=pretexts or registry.default_pretexts(),
        seeds=seeds,
        corpus=name,
        precision=plan.default_precision(track),
    )
    runtime = Runtime(data=setup.data, results=setup.results, cache=setup.cache, checkpoint_seconds=60.0)
    return wanted, plan.survey(wanted, modality, setup.data, setup.cache), runtime


def decode(setup: Setup, track: str, name: str, modality: str) -> dict[str, Any]:
    """Simulate or decode every image of a board into its store."""
    from benchmark.run import prepare
    from tasks import store

    _, study, runtime = _study(setup, track, name, modality)
    pixels = tracks.get(track).stored_pixels
    prepare(study, runtime, pixels)
    return {"stores": sorted({store.address(d.task, d.samples, pixels) for d in study.tasks.values()})}


def board(setup: Setup, track: str, name: str, modality: str, pretext: str, seed: int) -> dict[str, Any]:
    """One run, its twin and their cells, through the same door as `make bench`."""
    from benchmark import results
    from benchmark.run import bench

    wanted, study, runtime = _study(setup, track, name, modality, (pretext,), seed + 1)
    bench(wanted, [study], runtime, tracks.get(track).stored_pixels, typer.echo)
    recipe, floor = plan.recipes(wanted, study, {})[-2:]
    ours = results.read(setup.results, "runs").set_index("run").loc[key(recipe)]
    cells = results.read(setup.results, "cells")
    shown = cells[cells.run.isin([key(recipe), key(floor)]) & cells.headline & (cells.readout == "patches")]
    scores = [{"task": c.task, "probe": c.probe, "twin": bool(c.twin), c.metric: c.value} for c in shown.itertuples()]
    figures = {
        column: ours[column].item() for column in ("seconds", "realised_flops", "images_seen", "peak_memory_bytes")
    }
    return {"run": key(recipe), "status": ours.status, **figures, "scores": scores}


def finished(file: Path) -> list[dict[str, Any]]:
    """Lines of finished pieces. A last line that a killed call left half-written is not one."""
    rows = []
    for line in file.read_text(encoding="utf-8").splitlines() if file.exists() else []:
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return rows


def still(rows: list[dict[str, Any]], cache: Path) -> dict[str, dict[str, Any]]:
    """Piece -> result, less those whose stores are no longer in the cache."""
    kept = (row for row in rows if all((cache / "stores" / a).exists() for a in row["result"].get("stores", ())))
    return {row["piece"]: row["result"] for row in kept}


def estimate(piece: Piece, rows: list[dict[str, Any]]) -> float:
    """Seconds: the median of finished pieces of its kind, else its guess."""
    taken = [row["seconds"] for row in rows if row["kind"] == piece.kind]
    return median(taken) if taken else piece.guess


def go(setup: Setup, seconds: float, say: Callable[[str], None]) -> list[str]:
    """Run what is missing and fits. Returns the names of pieces that failed; they are tried again by the next call."""
    started, failed, left = time.monotonic(), [], []
    file = setup.out / "pieces.jsonl"
    setup.out.mkdir(parents=True, exist_ok=True)
    rows = finished(file)
    whole = "".join(json.dumps(row) + "\n" for row in rows)  # without a half-written last line
    file.write_text(whole, encoding="utf-8")
    done = still(rows, setup.cache)
    for piece in pieces(setup, done):
        if piece.name in done:
            continue
        needed, remaining = SPARE * estimate(piece, rows), seconds - (time.monotonic() - started)
        if needed > remaining:
            left.append((piece.name, needed))
            continue
        say(f"{piece.name}: about {needed / SPARE:,.0f} s, {remaining:,.0f} s left")
        began = time.monotonic()
        try:
            result = piece.run()
        except Exception as error:  # one piece must not take the others with it
            lacks = f"; carry its wheel: {error.name}" if isinstance(error, ModuleNotFoundError) else ""
            say(f"{piece.name}: failed: {type(error).__name__}: {error}{lacks}")
            failed.append(piece.name)
            continue
        row = {"piece": piece.name, "kind": piece.kind, "seconds": time.monotonic() - began, "result": result}
        rows.append(row)
        done[piece.name] = result
        with file.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(row) + "\n")
            stream.flush()
            os.fsync(stream.fileno())
    table(rows, say)
    for name, needed in left:
        say(f"left for a later call: {name}, about {needed:,.0f} s")
    return failed


def table(rows: list[dict[str, Any]], say: Callable[[str], None]) -> None:
    """What is known so far, a line a piece."""
    for row in rows:
        name, result = row["piece"], row["result"]
        if name.startswith("agreement/"):
            verdict = "agrees" if result["agrees"] else "DISAGREES"
            say(f"{name:<24} {verdict}: " + ", ".join(f"{k} {result[k]:.1e} (≤ {v:g})" for k, v in TOLERANCE.items()))
        elif name.startswith(("speed/", "compiled/")):
            say(f"{name:<24} " + ", ".join(f"{column} {result[column]:.3g}" for column in ROWS))
        elif name.startswith("board/"):
            say(f"{name:<24} {result['status']} in {result['seconds']:,.0f} s, {len(result['scores'])} scores")


def main(
    minutes: Annotated[float, typer.Option(help="No piece is started that should end later than this.")] = 8.5,
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
    """Measure this machine's GPU and fill its boards, as far as the time goes; call again to go on."""
    if not dry and not machine.device().gpus:
        print("error: torch can use no GPU here; --dry tries the pieces on the CPU", file=sys.stderr)
        raise typer.Exit(1)
    if failed := go(Setup(data, out, results, cache, dry), 60 * minutes, typer.echo):
        print(f"error: {len(failed)} pieces failed: {', '.join(failed)}", file=sys.stderr)
        raise typer.Exit(2)


if __name__ == "__main__":
    host.use_utf8()
    typer.run(main)
