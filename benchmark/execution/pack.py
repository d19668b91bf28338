"""Several runs at once (`PACK=k`: k on each GPU, or k on a machine without one). A small encoder leaves a GPU idle
while the next step is prepared, and gains little from being cut over GPUs.

Each group, a run and its twin, is `benchmark run --runs … --stage compute` in a process of its own with a log file."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from benchmark import plan, tracks
from benchmark.cost import LIBRARIES_BYTES, NOMINAL_FLOPS, NOMINAL_GPU_FLOPS, measured_speed, peak_memory
from benchmark.device import machine
from benchmark.recipe import Recipe
from benchmark.storage import results
from tasks.base import DataError, ProcessError

LOGGED = {"PYTHONIOENCODING": "utf-8:replace"}  # a log file is UTF-8, whatever the terminal is
OUT_OF_MEMORY = ("out of memory", "allocate memory", "MemoryError")  # what the last words of such a run hold
Group = tuple[str, ...]  # ids of runs that are computed together

CONTEXT_BYTES = 0.7e9  # what CUDA takes of a GPU for a process, beside its tensors

# How busy one run keeps an H100, from the speeds of ViT-Ti, S and B (batch 256, bf16: 3 to 5, 8 to 12 and 19 to 25 % of
# its peak): a step of MAE or I-JEPA takes about HOST_SECONDS, and its FLOPs at REACHED of the peak. Seven runs of the
# micro encoder were three times as fast together as in turn, and thirteen, the most that were tried, did more a second
# than seven. Sharing has its price, so SHARED of the GPU's time is given away at most.
REACHED = 0.25  # share of the peak that large encoders reach
HOST_SECONDS = 0.04  # of a step, in which the GPU waits for what it is to do
SHARED = 0.5
MOST = 13
FP32 = 1 / 16  # the peak without TF32, of that of bf16


def pack(
    groups: list[Group], arguments: list[str], gpus: int, each: int, logs: Path, say: Callable[[str], None]
) -> None:
    """Compute the groups, `each` at a time on every one of the GPUs, or gpus × each on a machine without one.

    arguments: those of `benchmark run` without runs and stage. Raises ValueError for more GPUs than there are,
    ProcessError naming the logs of what failed, after everything else is done."""
    machine.refuse_missing_gpus(gpus)
    logs.mkdir(parents=True, exist_ok=True)
    slots = gpus * each
    if "--threads" not in arguments:
        arguments = [*arguments, "--threads", str(max(1, machine.processors() // slots))]
    on_gpus = machine.device().gpus > 0
    waiting, free = list(enumerate(groups, 1)), list(range(slots))
    running: dict[subprocess.Popen, tuple[int, int, Path]] = {}
    failed, starved = [], 0
    try:
        while waiting or running:
            while waiting and free:
                (number, group), slot = waiting.pop(0), free.pop(0)
                log = logs / f"{group[0]}.log"
                command = [sys.executable, "-m", "benchmark", "run", *arguments]
                command += ["--runs", ",".join(group), "--stage", "compute"]
                place = {"CUDA_VISIBLE_DEVICES": _device(slot % gpus)} if on_gpus else {}
                with log.open("a", encoding="utf-8") as file:
                    process = subprocess.Popen(command, stdout=file, stderr=file, env=os.environ | place | LOGGED)
                running[process] = number, slot, log
                say(f"[{number}/{len(groups)}] {group[0]} started in slot {slot}; log: {log}")
            time.sleep(0.2)
            for process in [process for process in running if process.poll() is not None]:
                number, slot, log = running.pop(process)
                free.append(slot)
                if process.returncode == 0:
                    say(f"[{number}/{len(groups)}] done")
                    continue
                failed.append(log)
                starved += _out_of_memory(process.returncode, log, each)
                say(f"[{number}/{len(groups)}] FAILED: {_last(log)}; see {log}")
    except BaseException:
        for process in running:
            process.terminate()
        for process in running:
            process.wait()
        raise
    if failed:
        hint = f"; {starved} of them ran out of memory: repeat with a PACK below {each}" if starved and each > 1 else ""
        raise ProcessError(
            f"{len(failed)} of {len(groups)} runs failed, the others are stored: {', '.join(map(str, failed))}{hint}"
        )


def _device(gpu: int) -> str:
    """What CUDA_VISIBLE_DEVICES names for a GPU, within what this process may see."""
    seen = os.environ.get("CUDA_VISIBLE_DEVICES")
    return str(gpu) if seen is None else seen.split(",")[gpu].strip()


def _last(log: Path) -> str:
    """The last words in a log."""
    lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"


def _out_of_memory(code: int, log: Path, each: int) -> bool:
    """Whether a run that failed ran out of memory; its log is told, for what the system kills says nothing."""
    killed = code == -signal.SIGKILL
    if not killed and not any(words in _last(log) for words in OUT_OF_MEMORY):
        return False
    why = "killed, as the system does when memory runs out" if killed else _last(log)
    with log.open("a", encoding="utf-8") as file:
        file.write(f"{why} ({each} runs shared it by PACK={each})\n")
    return True


def refuse_full_memory(missing: list[plan.Job], gpus: int, each: int, micro: int | None = None) -> None:
    """Raises DataError, naming what fits, where so many of the largest of the runs do not fit into what is free."""
    if not (todo := _to_train(missing)):
        return
    together, fitting = min(each, -(-len(todo) // gpus)), fits(todo, gpus, micro)
    for place, free, one in _rooms(todo, gpus, micro):
        if together * one > free:
            remedy = f"PACK={fitting} fits" if fitting else "not even PACK=1 fits: use a smaller TRACK, or MICRO="
            raise DataError(
                f"PACK={each}: {together} runs at once take about {together * one / 1e9:.1f} GB of the memory of "
                f"{place}, of which {free / 1e9:.1f} GB are free; {remedy}"
            )


def fits(todo: list[Recipe], gpus: int, micro: int | None = None) -> int:
    """How many of the largest of the recipes may train at once on each of the GPUs, by memory."""
    return min(int(free / one) for _, free, one in _rooms(todo, gpus, micro))


def _rooms(todo: list[Recipe], gpus: int, micro: int | None) -> list[tuple[str, int, float]]:
    """Memory as (whose, bytes free, bytes of it that PACK=1 takes): of the fullest GPU and of the machine."""
    largest, found = max(needed(recipe, micro) for recipe in todo), machine.device()
    if not found.gpus:
        return [("this machine", machine.free_resident(), gpus * largest)]
    free, name = min(zip(machine.free_memory()[:gpus], found.names, strict=False))
    return [(name, free, largest), ("this machine", machine.free_resident(), gpus * LIBRARIES_BYTES)]


def needed(recipe: Recipe, micro: int | None = None) -> float:
    """Bytes that the training of a recipe takes of a GPU, with its corpus and its context, or of a machine without."""
    batch = min(recipe.settings.batch, micro or recipe.settings.batch)
    whole = peak_memory(replace(recipe, settings=replace(recipe.settings, batch=batch)))
    if not machine.device().gpus:
        return whole
    corpus = 3 * recipe.corpus.images * recipe.stored_pixels**2
    resident = corpus <= machine.RESIDENT * min(machine.free_memory())
    return whole - LIBRARIES_BYTES + CONTEXT_BYTES + (corpus if resident else 0)


def _to_train(missing: list[plan.Job]) -> list[Recipe]:
    return [job.recipe for job in missing if not job.trained and job.recipe.budget > 0]


def advice(missing: list[plan.Job], track: str, root: Path, gpus: int) -> str:
    """Which PACK is sooner done, and why; on several GPUs, also whether one run on each is sooner done than each run
    on all."""
    todo = _to_train(missing)
    if not todo:
        return "PACK changes nothing: no run is to be pretrained"
    room, busy, basis = _room(todo, track, root, gpus)
    each = max(1, min(room.values()))
    where = "a GPU" if gpus > 1 else "this machine"
    said = f"PACK={each}" if each > 1 else f"no more than one run at once on {where}"
    share = f"about {busy:.0%}" if busy >= 0.01 else "less than 1%"
    said += f": a run alone uses {share} of {_device_words()} ({basis}); room for "
    said += ", ".join(f"{count} {bound}" for bound, count in room.items())
    return said if gpus == 1 else f"{_together(todo, track, root, gpus)}\n{said}"


def most(todo: list[Recipe], track: str, root: Path, gpus: int) -> int:
    """How many of the runs are best trained at once on each of the GPUs: the PACK that `advice` names."""
    return max(1, min(_room(todo, track, root, gpus)[0].values()))


def _room(todo: list[Recipe], track: str, root: Path, gpus: int) -> tuple[dict[str, int], float, str]:
    """(runs at once by each bound, share of the device's time that one uses, where that comes from)."""
    busy, basis = _busy(todo, track, root)
    room = {
        "by that": max(1, int(SHARED / busy)),
        "by memory": fits(todo, gpus),
        "by processors": machine.processors() // gpus,
        "by runs": -(-len(todo) // gpus),
        "as far as was measured": MOST,
    }
    return room, busy, basis


def _busy(todo: list[Recipe], track: str, root: Path) -> tuple[float, str]:
    """(share of the device's time that one run at a time uses, where that comes from).

    The runs' FLOPs at the speed that large encoders reach, over the time that the runs take: as stored here, else that
    and what a GPU waits in every step. Of what is stored the fastest counts, for runs that shared the device are stored
    as those that had it alone."""
    found, here = machine.device(), machine.device_name()
    rows = results.read(root, "runs")
    rows = rows[(rows.track == track) & (rows.processes == 1) & (rows.device == here) & (rows.seconds > 0)]
    rows = rows[rows.realised_flops > 0]
    speeds = (rows.realised_flops / rows.seconds).groupby(rows.pretext).max()
    worked = taken = 0.0
    for recipe in todo:
        steps = tracks.steps(recipe)
        flops = steps * recipe.settings.batch * tracks.image_flops(recipe)
        alone = flops / _reached(here if found.gpus else "", recipe.precision)
        waited = steps * HOST_SECONDS if found.gpus else 0.0
        worked += alone
        taken += flops / speeds[recipe.pretext] if recipe.pretext in speeds else alone + waited
    known = {recipe.pretext for recipe in todo} & set(speeds.index)
    basis = (
        f"measured here for {', '.join(sorted(known))}"
        if known
        else "predicted from the FLOPs of a step"
        if found.gpus
        else "nothing measured here yet"
    )
    return min(1.0, worked / taken), basis


def _reached(gpu: str, precision: str) -> float:
    """FLOPs per second of a large encoder on a GPU of that name, or on this machine's processors."""
    if not gpu:
        return NOMINAL_FLOPS * machine.processors()
    peak = machine.nominal_peak(gpu)
    reached = REACHED * peak if peak else NOMINAL_GPU_FLOPS
    return reached * (FP32 if precision == "fp32" else 1.0)


def _device_words() -> str:
    return machine.device_name() if machine.device().gpus else f"{machine.processors()} processors"


def _together(todo: list[Recipe], track: str, root: Path, gpus: int) -> str:
    """Whether one run on each GPU or each run on all GPUs is sooner done, and why."""
    one, seen = measured_speed(root, track, 1)
    joint, seen_together = measured_speed(root, track, gpus)
    rounds = -(-len(todo) // gpus)
    gain = joint / one if seen and seen_together else float(gpus)
    basis = (
        f"a run on {gpus} is {gain:.2f} times as fast as on one, measured here"
        if seen and seen_together
        else f"a run on {gpus} is at best {gpus} times as fast as on one; not measured here, and small runs stay below"
    )
    cut = len(todo) / gain  # as `rounds`, in units of one run on one GPU
    if rounds <= cut:
        return f"PACK=1 is faster: {len(todo)} runs in {rounds} rounds of {gpus}, against {cut:.1f} run times ({basis})"
    return f"PACK=1 is slower: {rounds} rounds of {gpus} leave GPUs idle, against {cut:.1f} run times ({basis})"
