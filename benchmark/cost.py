"""What a plan costs: training FLOPs, seconds at a measured or nominal speed, memory and disk. Asks torch what device is
here."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from benchmark import registry, tracks
from benchmark.ceilings import Ceiling
from benchmark.device import machine
from benchmark.parts.memory import Held, trunk
from benchmark.plan import Job
from benchmark.recipe import Recipe, Runtime, key
from benchmark.storage import feature_store, results
from benchmark.study import Study
from tasks import store

NOMINAL_FLOPS = 40e9  # per core and second, used only before anything has been measured here
NOMINAL_GPU_FLOPS = 60e12  # per GPU and second
PROBE_SECONDS = 3.0  # per cell, a generous guess
LIBRARIES_BYTES = 1.0e9  # resident size of a process that has imported everything


class Cost(NamedTuple):
    flops: float
    seconds: float
    memory: float  # bytes, peak of the largest run
    stores: dict[tuple[str, int, int], float]  # (images, count, pixels) of what is decoded -> bytes
    stored: float  # bytes of results and checkpoints
    basis: str  # where the speed comes from

    @property
    def disk(self) -> float:
        """Bytes."""
        return sum(self.stores.values()) + self.stored


def sum_costs(costs: list[Cost]) -> Cost:
    """Of what is worked through one after the other; images stored for several are stored once."""
    flops, seconds, peaks, stores, stored, bases = zip(*costs, strict=True)
    shared = {place: held for one in stores for place, held in one.items()}
    return Cost(sum(flops), sum(seconds), max(peaks), shared, sum(stored), "; ".join(dict.fromkeys(bases)))


def measured_speed(root: Path, track: str, processes: int) -> tuple[float, int]:
    """(median training FLOPs per second of this track's runs stored here, how many); (0, 0) before the first."""
    rows = results.read(root, "runs")
    rows = rows[(rows.track == track) & (rows.seconds > 0) & (rows.processes == processes) & (rows.realised_flops > 0)]
    return (float((rows.realised_flops / rows.seconds).median()), len(rows)) if len(rows) else (0.0, 0)


def estimate_cost(
    missing: list[Job], studies: list[Study], track: str, runtime: Runtime, lacking: Sequence[Ceiling] = ()
) -> Cost:
    """lacking: missing ceilings, each trained by one process."""
    todo = [job.recipe for job in missing if not job.trained]
    flops = sum(tracks.steps(r) * r.settings.batch * tracks.image_flops(r) for r in todo)
    speed, count = measured_speed(runtime.results, track, runtime.processes)
    basis = f"speed of {count} earlier runs here"
    if not count:
        gpus = machine.device().gpus
        speed = NOMINAL_GPU_FLOPS * runtime.processes if gpus else NOMINAL_FLOPS * machine.processors()
        basis = f"a nominal {speed / 1e9:,.0f} GFLOP/s; nothing measured here yet"
    cell_count = sum(len(job.cells) for job in missing)
    side = tracks.get(track).stored_pixels
    found = [data for study in studies for data in study.tasks.values()]
    stores = {store.address(d.task, d.samples, side): 3.0 * len(d.samples) * side * side for d in found}
    peak = max([*map(peak_memory, todo), *(_ceiling_memory(ceiling) for ceiling in lacking)], default=0.0)
    stored = 0.1e6 * cell_count + 4e6 * len(missing)
    taught = sum(ceiling.flops for ceiling in lacking)
    seconds = (flops + taught * runtime.processes) / speed + PROBE_SECONDS * cell_count
    return Cost(flops + taught, seconds, peak, stores, stored, basis)


def _ceiling_memory(ceiling: Ceiling) -> float:
    """Bytes: the highest resident size of its training on the CPU, by the formula of `peak_memory`."""
    e = ceiling.recipe.encoder
    values = 17 * (e.grid**2 + e.prefix) * e.width * e.depth
    return LIBRARIES_BYTES + 20 * trunk(e) + 4 * ceiling.recipe.settings.batch * values


def peak_memory(recipe: Recipe) -> float:
    """Bytes: the highest resident size of a run on the CPU, within a fifth (`python -m benchmark.lab.speed memory`).

    The libraries; 16 bytes per trained parameter (weight, gradient, AdamW's two moments) and 4 per teacher's; and what
    backward needs: about 17·width values per token and block, and the rows of the heads. For a pretext without a
    `memory`, a guess from its FLOPs. On a GPU the libraries do not count.
    """
    pretext = registry.load("pretexts", recipe.pretext)
    if hasattr(pretext, "memory"):
        held = pretext.memory(recipe.settings, recipe.encoder)
    else:
        blocks = tracks.image_flops(recipe) / 3 / (24 * recipe.encoder.width)
        held = Held(trained=1.5 * trunk(recipe.encoder), frozen=trunk(recipe.encoder), blocks=blocks, rows=0)
    width = 2 if recipe.precision == "bf16" else 4
    values = recipe.settings.batch * (17 * held.blocks + held.rows)
    return LIBRARIES_BYTES + 16 * held.trained + 4 * held.frozen + values * width


def count_cached_features(missing: list[Job], studies: list[Study], runtime: Runtime) -> tuple[int, int]:
    """(features in the cache, features needed) of the missing cells: one for each encoder and store of clean images,
    pooled or as tokens."""
    needed, addresses = set(), {}
    for job in missing:
        recipe, weights = job.recipe, key(job.recipe)
        if job.trained:
            row = results.read_file(results.run_directory(runtime.results, recipe.modality, weights) / "runs.parquet")
            weights = row["weights_sha256"][0].as_py()
        asked = {(cell.task, getattr(registry.load("probes", cell.probe), "TOKENS", False)) for cell in job.cells}
        for study in studies:
            for name, tokens in asked if study.modality == recipe.modality else ():
                found, place = study.tasks[name], (study.modality, name, recipe.stored_pixels)
                if place not in addresses:
                    addresses[place] = store.address(found.task, found.samples, recipe.stored_pixels)
                images = addresses[place]
                needed.add(feature_store.folder(runtime.cache, weights, recipe.encoder, images, tokens=tokens))
    return sum(folder.exists() for folder in needed), len(needed)
