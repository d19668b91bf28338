"""How many runs fit on a card at once (`PACK=`), by memory and by how busy one run keeps it, and which PACK is best."""

from dataclasses import replace
from pathlib import Path

from benchmark import tracks
from benchmark.cost import LIBRARIES_BYTES, NOMINAL_FLOPS, NOMINAL_GPU_FLOPS, measured_speed, peak_memory
from benchmark.device import machine
from benchmark.plan import Job
from benchmark.recipe import Recipe
from benchmark.storage import results
from tasks.base import DataError

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


def refuse_full_memory(missing: list[Job], gpus: int, each: int, micro: int | None = None) -> None:
    """Raises DataError, naming what fits, where so many of the largest of the runs do not fit into what is free."""
    if not (todo := _to_train(missing)):
        return
    together, fitting = min(each, -(-len(todo) // gpus)), count_fitting(todo, gpus, micro)
    for place, free, one in _list_memory(todo, gpus, micro):
        if together * one > free:
            remedy = f"PACK={fitting} fits" if fitting else "not even PACK=1 fits: use a smaller TRACK, or MICRO="
            raise DataError(
                f"PACK={each}: {together} runs at once take about {together * one / 1e9:.1f} GB of the memory of "
                f"{place}, of which {free / 1e9:.1f} GB are free; {remedy}"
            )


def count_fitting(todo: list[Recipe], gpus: int, micro: int | None = None) -> int:
    """How many of the largest of the recipes may train at once on each of the GPUs, by memory."""
    return min(int(free / one) for _, free, one in _list_memory(todo, gpus, micro))


def _list_memory(todo: list[Recipe], gpus: int, micro: int | None) -> list[tuple[str, int, float]]:
    """Memory as (whose, bytes free, bytes of it that PACK=1 takes): of the fullest GPU and of the machine."""
    largest, found = max(needed_memory(recipe, micro) for recipe in todo), machine.device()
    if not found.gpus:
        return [("this machine", machine.free_resident(), gpus * largest)]
    free, name = min(zip(machine.free_memory()[:gpus], found.names, strict=False))
    return [(name, free, largest), ("this machine", machine.free_resident(), gpus * LIBRARIES_BYTES)]


def needed_memory(recipe: Recipe, micro: int | None = None) -> float:
    """Bytes that the training of a recipe takes of a GPU, with its corpus and its context, or of a machine without."""
    batch = min(recipe.settings.batch, micro or recipe.settings.batch)
    whole = peak_memory(replace(recipe, settings=replace(recipe.settings, batch=batch)))
    if not machine.device().gpus:
        return whole
    corpus = 3 * recipe.corpus.images * recipe.stored_pixels**2
    resident = corpus <= machine.RESIDENT * min(machine.free_memory())
    return whole - LIBRARIES_BYTES + CONTEXT_BYTES + (corpus if resident else 0)


def _to_train(missing: list[Job]) -> list[Recipe]:
    return [job.recipe for job in missing if not job.trained and job.recipe.budget > 0]


def advise(missing: list[Job], track: str, root: Path, gpus: int) -> str:
    """Which PACK is sooner done, and why; on several GPUs, also whether one run on each is sooner done than each run
    on all."""
    todo = _to_train(missing)
    if not todo:
        return "PACK changes nothing: no run is to be pretrained"
    room, busy, basis = _list_bounds(todo, track, root, gpus)
    each = max(1, min(room.values()))
    where = "a GPU" if gpus > 1 else "this machine"
    said = f"PACK={each}" if each > 1 else f"no more than one run at once on {where}"
    share = f"about {busy:.0%}" if busy >= 0.01 else "less than 1%"
    said += f": a run alone uses {share} of {_name_device()} ({basis}); room for "
    said += ", ".join(f"{count} {bound}" for bound, count in room.items())
    return said if gpus == 1 else f"{_compare_with_joint(todo, track, root, gpus)}\n{said}"


def best_pack(todo: list[Recipe], track: str, root: Path, gpus: int) -> int:
    """How many of the runs are best trained at once on each of the GPUs: the PACK that `advise` names."""
    return max(1, min(_list_bounds(todo, track, root, gpus)[0].values()))


def _list_bounds(todo: list[Recipe], track: str, root: Path, gpus: int) -> tuple[dict[str, int], float, str]:
    """(runs at once by each bound, share of the device's time that one uses, where that comes from)."""
    busy, basis = _estimate_use(todo, track, root)
    room = {
        "by that": max(1, int(SHARED / busy)),
        "by memory": count_fitting(todo, gpus),
        "by processors": machine.processors() // gpus,
        "by runs": -(-len(todo) // gpus),
        "as far as was measured": MOST,
    }
    return room, busy, basis


def _estimate_use(todo: list[Recipe], track: str, root: Path) -> tuple[float, str]:
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
        alone = flops / _reached_flops(here if found.gpus else "", recipe.precision)
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


def _reached_flops(gpu: str, precision: str) -> float:
    """FLOPs per second of a large encoder on a GPU of that name, or on this machine's processors."""
    if not gpu:
        return NOMINAL_FLOPS * machine.processors()
    peak = machine.nominal_peak(gpu)
    reached = REACHED * peak if peak else NOMINAL_GPU_FLOPS
    return reached * (FP32 if precision == "fp32" else 1.0)


def _name_device() -> str:
    return machine.device_name() if machine.device().gpus else f"{machine.processors()} processors"


def _compare_with_joint(todo: list[Recipe], track: str, root: Path, gpus: int) -> str:
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
