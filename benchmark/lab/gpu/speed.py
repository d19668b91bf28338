"""The speed table: whole training steps of every size and pretext, beside what was aimed at."""

import itertools
import time
from pathlib import Path
from typing import Any, NamedTuple

from benchmark import tracks
from benchmark.device import arithmetic, machine

SIZES = {"nano": tracks.NANO, "micro": tracks.MICRO, "Ti": tracks.TINY, "S": tracks.SMALL, "B": tracks.BASE}
BATCH = 256  # images of a step, halved until it fits
TABLE = (  # (size, mode), the most telling first; graphs last, as a capture that fails may take the device with it
    ("micro", "eager"),
    ("B", "compiled"),
    ("S", "compiled"),
    ("Ti", "compiled"),
    ("B", "eager"),
    ("micro", "graphs"),
    ("B", "graphs"),
)
DRY = (("nano", "eager"), ("nano", "compiled"), ("nano", "graphs"))
GUESS = {"eager": 15.0, "graphs": 25.0, "compiled": 75.0}  # seconds of a row, before one of its kind is finished
WARM = 3  # steps before the clock: torch compiles at the first, and again for what changes at the second
ROUNDS, SECONDS = 3, 0.5  # blocks of steps that count, and about how long each is
MFU = {  # share of the peak that whole steps aim at, 224 px in bf16
    **{("B", pretext): aim for pretext, aim in {"mae": 0.35, "ijepa": 0.35, "dinov3": 0.33}.items()},
    **{("S", pretext): 0.20 for pretext in ("mae", "ijepa", "dinov3")},
    **{("Ti", pretext): 0.10 for pretext in ("mae", "ijepa", "dinov3")},
}
STEP = {("micro", "mae"): 8.0, ("micro", "ijepa"): 10.0, ("micro", "dinov3"): 20.0}  # ms of a step, 64 px in fp32
DATA = {"micro": 0.10, "Ti": 0.03, "S": 0.03, "B": 0.03}  # share of a step that data may take
COLUMNS = {  # of the table: result -> format
    "ms a step": ",.1f",
    "images/s": ",.0f",
    "TFLOP/s": ".1f",
    "MFU": ".1%",
    "MFU of the step": ".1%",
    "data share": ".1%",
    "memory GB": ".1f",
    "warm-up s": ".0f",
}


class Timed(NamedTuple):
    whole: float  # seconds of a step with its data
    alone: float  # seconds of a step on views that are there
    warm_up: float  # seconds that the first steps took beyond the usual


def measure_speed(size: str, mode: str, pretext: str, batch: int, seconds: float = SECONDS) -> dict[str, Any]:
    """Whole training steps in one mode; the batch is halved until it fits. Data share: batch, crops and masks of a
    step, as far as they are not prepared while the device is at the step before.

    MFU: share of the maker's dense bf16 peak where the card is known, else of the bf16 matrix product measured now; for
    fp32, which runs without tensor cores here, of the fp32 matrix product measured now.
    """
    import torch

    from benchmark.lab.speed import measure

    device = arithmetic.prepare()
    gpu = device.type == "cuda"
    if mode == "graphs" and not gpu:
        return {"skipped": "CUDA graphs need a GPU"}
    half = gpu and SIZES[size].pixels > tracks.FP32_PIXELS
    product = measure.measure_product(device, torch.bfloat16 if half else torch.float32)
    stated = machine.nominal_peak(machine.device_name()) if half else None
    while True:
        recipe = measure.make_recipe(size, pretext, batch=batch, precision="bf16" if half else "fp32")
        try:
            arithmetic.release_memory()
            machine.reset_peak_memory()
            timed = _time_steps(recipe, device, mode, seconds)
            break
        except torch.cuda.OutOfMemoryError:
            if batch == 1:
                raise
        finally:
            torch.compiler.reset()  # what it knows of one encoder is of no use to the next, and its memory is small
        batch //= 2  # here, where the error no longer holds what did not fit
    top, flops = stated or product, tracks.image_flops(recipe) * batch
    origin = "as its maker states" if stated else "a matrix product measured here"
    return {
        "batch": batch,
        "precision": recipe.precision,
        "ms a step": 1e3 * timed.whole,
        "images/s": batch / timed.whole,
        "TFLOP/s": flops / timed.whole / 1e12,
        "MFU": flops / timed.whole / top,
        "MFU of the step": flops / timed.alone / top,
        "data share": max(0.0, 1 - timed.alone / timed.whole),
        "memory GB": machine.peak_memory() / 1e9,
        "warm-up s": timed.warm_up,
        "product TFLOP/s": product / 1e12,
        "peak": f"{top / 1e12:,.4g} TFLOP/s, {origin}",
    }


def _time_steps(recipe: Any, device: Any, mode: str, block: float) -> Timed:
    """Steps one after the other as in training, so that what is prepared ahead is ahead here too. block: about how
    many seconds of steps are timed together."""
    from benchmark.lab.speed import measure

    images = measure.make_noise(4 * recipe.settings.batch, recipe.stored_pixels)
    ours = measure.make_trainer(recipe, images, device, mode)
    number = itertools.count()

    def step(count: int) -> None:
        for _ in range(count):
            ours.step(ours.views(next(number)))

    def time_steps(count: int) -> float:
        measure.synchronise(device)
        start = time.perf_counter()
        step(count)
        measure.synchronise(device)
        return time.perf_counter() - start

    first, usual = time_steps(WARM), time_steps(1)
    count = max(2, min(50, round(block / usual)))
    views = ours.views(next(number))
    works = (lambda: step(count), lambda: [ours.step(views) for _ in range(count)])
    whole, alone = (taken / count for taken in measure.alternate(*works, rounds=ROUNDS, device=device))
    return Timed(whole, alone, max(0.0, first - WARM * whole))


def judge_aims(size: str, pretext: str, result: dict[str, Any]) -> str:
    """What was aimed at, and whether it is met; nothing where there is no aim."""
    if size not in DATA or "MFU" not in result:
        return ""
    if result["batch"] != BATCH:
        return f"aims are of batch {BATCH}"
    found = []
    if aim := MFU.get((size, pretext)):
        found.append((f"MFU ≥ {aim:.0%}", result["MFU"] >= aim))
    if aim := STEP.get((size, pretext)):
        found.append((f"≤ {aim:g} ms", result["ms a step"] <= aim))
    found.append((f"data < {DATA[size]:.0%}", result["data share"] < DATA[size]))
    return ", ".join(f"{what} {'met' if met else 'MISSED'}" for what, met in found)


def describe(name: str, result: dict[str, Any]) -> str:
    """A line of the report."""
    if "skipped" in result:
        return result["skipped"]
    _, size, _, pretext = name.split("/")
    figures = ", ".join(f"{column} {result[column]:{form}}" for column, form in COLUMNS.items())
    aims = judge_aims(size, pretext, result)
    return f"batch {result['batch']}, {figures}" + (f"; {aims}" if aims else "")


def write_page(rows: list[dict[str, Any]], errors: dict[str, str], path: Path) -> None:
    """The table as Markdown. rows: of finished pieces, of one device; errors: of those that failed, by name."""
    about = next((row["result"] for row in rows if row["piece"] == "environment"), {})
    rows = [row for row in rows if row["piece"].startswith("speed/")]
    results = {row["piece"]: row["result"] for row in rows}
    results |= {name: {"skipped": f"failed: {why}"} for name, why in errors.items() if name.startswith("speed/")}
    versions = about.get("versions", {})
    parts = [about.get("gpu") or about.get("cpu", "an unknown machine")]
    parts += [f"driver {about['driver']}"] if about.get("driver") else []
    parts += [f"{name} {versions[name]}" for name in ("torch", "python") if name in versions]
    parts += [f"CUDA {about['cuda']}"] if about.get("cuda") else []
    parts += [f"commit {commit[:12]}" for commit in sorted({row["commit"] for row in rows})]
    lines = [f"{', '.join(parts)}.", "", f"| size | pretext | mode | batch | {' | '.join(COLUMNS)} | aims |"]
    lines.append("|---" * (5 + len(COLUMNS)) + "|")
    for name in sorted(results, key=_rank):
        (_, size, mode, pretext), result = name.split("/"), results[name]
        if "batch" in result:
            cells = [str(result["batch"]), *(f"{result[column]:{form}}" for column, form in COLUMNS.items())]
            cells.append(judge_aims(size, pretext, result))
        else:
            cells = [*"–" * (1 + len(COLUMNS)), " ".join(result["skipped"].replace("|", "/").split())[:200]]
        lines.append(f"| {' | '.join([size, pretext, mode, *cells])} |")
    peaks = {result["precision"]: result["peak"] for result in results.values() if "peak" in result}
    lines += ["", *(f"MFU in {precision}: share of {peak}." for precision, peak in sorted(peaks.items()))]
    lines.append(
        "A step is whole: batch, views, forward, backward, optimiser, teacher. Data share: what it takes beyond one "
        f"on views that are there. Warm-up: what the first {WARM} steps take beyond the usual."
    )
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _rank(name: str) -> tuple[int, str, str]:
    _, size, mode, pretext = name.split("/")
    return list(SIZES).index(size), pretext, mode
