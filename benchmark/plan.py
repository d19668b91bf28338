"""Which runs and cells are wanted, which are missing, and what they cost. Pure but for scanning folders, and for asking
torch what device is here."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

import tasks
from benchmark import corpus, registry, tracks
from benchmark.device import machine
from benchmark.parts import mask_sizes
from benchmark.probing.subset import FOLDS, LIMIT, subset
from benchmark.recipe import Cell, Corpus, Recipe, Runtime, key, twin
from benchmark.storage import feature_store, results
from tasks import splits, store
from tasks.base import DataError, NoData, Sample, Task, identity
from tasks.collect import collect
from tasks.reading import files

if TYPE_CHECKING:
    from benchmark.ceilings import Ceiling

NO_DATA = "no data: `make data` says how to get them"
READOUTS = ("patches", "native")
TOKENS = ("tokens", "masks")  # what a probe needs that reads every patch token
NOMINAL_FLOPS = 40e9  # per core and second, used only before anything has been measured here
NOMINAL_GPU_FLOPS = 60e12  # per GPU and second
FP32_PIXELS = 64  # side of the images of tracks that train in fp32 on every device
PROBE_SECONDS = 3.0  # per cell, a generous guess
LIBRARIES_BYTES = 1.0e9  # resident size of a process that has imported everything


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What the user asked for. Names are checked by `validate`."""

    modalities: tuple[str, ...]
    track: str
    pretexts: tuple[str, ...]  # "name" or "name:arm"
    tasks: tuple[str, ...] = ()  # empty: those that go with the corpus
    probes: tuple[str, ...] = ()  # empty: those that do not say ON_REQUEST
    seeds: int | None = None  # None: the track's
    ceilings: int | None = None  # seeds of the ceilings; None: the track's
    corpus: str | None = None  # None: local where real data are found, else phantom; or `kind:location`
    policy: str = ""  # how real images are brought to a square; "": as their dataset says
    precision: str = "fp32"
    runs: tuple[str, ...] = ()  # beginnings of ids of runs and twins, and of names of ceilings; empty: all
    recipes: tuple[Recipe, ...] = ()  # of a grid: these runs, whatever track, pretexts, seeds and precision say


@dataclass(frozen=True, eq=False)
class TaskData:
    task: Task
    samples: list[Sample]  # readable ones

    @cached_property
    def identity(self) -> str:
        return identity(self.task, self.samples)

    @cached_property
    def divisions(self) -> list[splits.Assignment]:
        """Raises DataError where the samples cannot be divided."""
        return splits.assignments(self.task, self.samples)


class Job(NamedTuple):
    """One run (or twin), and the cells that still lack a result."""

    recipe: Recipe
    trained: bool  # the run is stored already
    cells: list[Cell]


@dataclass(frozen=True, kw_only=True)
class Study:
    """One modality of a plan: its corpus, its tasks, and why others are absent."""

    modality: str
    pinned: corpus.Pinned | None
    spec: str = ""  # what the corpus is resolved from, as asked for
    tasks: dict[str, TaskData] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)  # task -> reason


def named(asked: tuple[str, ...]) -> tuple[str, ...]:
    """Names of tasks, with each beginning that several share, such as "phantom_relation", as those.

    What is neither stays, for `validate` to refuse."""
    known = sorted({name for modality in tasks.modalities() for name in tasks.names(modality)})
    found = [
        [name] if name in known else [one for one in known if one.startswith(f"{name}_")] or [name] for name in asked
    ]
    return tuple(dict.fromkeys(name for some in found for name in some))


def validate(wanted: Wanted) -> None:
    """Raises ValueError, with the nearest match and the known names, for anything misspelt."""
    known = {name for modality in tasks.modalities() for name in tasks.names(modality)}
    for modality in wanted.modalities:
        tasks.names(modality)
    broken = {name: error for modality in tasks.modalities() for name, error in tasks.broken(modality).items()}
    for name in wanted.tasks:
        if name not in known and name in broken:
            raise broken[name]
        if name not in known:
            raise tasks.unknown("task", name, tuple(sorted(known)))
    for pretext in wanted.pretexts:
        registry.settings(pretext, tracks.get(wanted.track).encoder)
    for probe in wanted.probes:
        registry.load("probes", probe)
    tracks.get(wanted.track)
    if wanted.corpus and ":" not in wanted.corpus and wanted.corpus not in corpus.NAMES:
        raise tasks.unknown("corpus", wanted.corpus, corpus.NAMES)
    if wanted.policy not in ("", *files.SQUARES):
        raise tasks.unknown("policy", wanted.policy, files.SQUARES)
    if wanted.precision not in ("fp32", "bf16"):
        raise tasks.unknown("precision", wanted.precision, ("fp32", "bf16"))
    if wanted.seeds is not None and wanted.seeds < 1:
        raise ValueError(f"SEEDS must be at least 1, got {wanted.seeds}")
    if wanted.ceilings is not None and wanted.ceilings < 0:
        raise ValueError(f"CEILINGS must be at least 0, got {wanted.ceilings}")


def default_precision(track: str, gpu: bool | None = None) -> str:
    """The precision of a track's training where nothing else is asked for: fp32 on every device up to FP32_PIXELS, so
    that seeds from a card and from a processor are one row; above, bf16 on a GPU.

    gpu: whether it trains on one; None: here, so torch is asked."""
    if tracks.get(track).encoder.pixels <= FP32_PIXELS:
        return "fp32"
    gpu = machine.device().gpus > 0 if gpu is None else gpu
    return "bf16" if gpu else "fp32"


def survey(wanted: Wanted, modality: str, data: Path, cache: Path) -> Study:
    """Find a modality's corpus and tasks. What is not there is named in `absent`, never an error.

    Raises DataError for a dataset that is broken, and for one that could not be probed once encoders were pretrained.
    """
    name = wanted.corpus or corpus.default(modality, data)
    chosen = [
        n for n in tasks.names(modality) if n in wanted.tasks or not (wanted.tasks or tasks.get(modality, n).on_request)
    ]
    if wanted.tasks and not chosen:
        return Study(modality=modality, pinned=None)
    found, absent = {}, {}
    if not wanted.tasks:
        absent |= {broken: str(error) for broken, error in tasks.broken(modality).items()}
    for task_name in chosen:
        task = corpus.get(modality, task_name, wanted.policy)
        off_board = not wanted.tasks and task.synthetic != (name == "phantom")
        if off_board and task.synthetic:
            continue
        try:
            samples = collect(task, data, cache)
        except NoData:
            absent[task_name] = NO_DATA
            continue
        except DataError as error:
            if not off_board:
                raise
            absent[task_name] = str(error)
            continue
        if off_board:
            absent[task_name] = "found, but real data have a board of their own: `make bench CORPUS=local`"
        else:
            found[task_name] = TaskData(task, samples)
            divide(found[task_name], wanted.probes)
    try:
        pinned = corpus.resolve(modality, name, data, cache, wanted.policy)
    except NoData as error:
        if ":" in name:
            raise
        return Study(modality=modality, pinned=None, absent=absent | {"corpus": str(error)})
    return Study(modality=modality, pinned=pinned, spec=name, tasks=found, absent=absent)


def divide(found: TaskData, probes: tuple[str, ...]) -> None:
    """Divide the samples as probing will. Raises DataError where it would."""
    task, samples, divisions = found.task, found.samples, found.divisions
    for probe in probes:
        if registry.load("probes", probe).NEEDS == "nuisances":
            tested = np.unique(np.concatenate([division.test for division in divisions]))
            altered = {samples[i].group for i in subset([sample.group for sample in samples], tested)}
            if len(altered) < FOLDS.k:
                raise DataError(
                    f"{task.modality}/{task.name}: {len(altered)} groups ({task.group_kind}) are among the {LIMIT:,} "
                    f"test images that the {probe} probe alters, {FOLDS.k} are needed; leave out one of them, "
                    "by TASK= or by PROBE="
                )


def reasons(study: Study) -> dict[str, list[str]]:
    """Why tasks are absent -> which."""
    grouped: dict[str, list[str]] = {}
    for name, reason in study.absent.items():
        grouped.setdefault(reason, []).append(name)
    return grouped


def without(study: Study, skipped: dict[str, tuple[str, ...]], probes: tuple[str, ...] = ()) -> Study:
    """The study less the unreadable samples {task: ids} that were left out on request. Raises DataError where a task
    can no longer be divided, or where dividing what is left would test on groups that the corpus holds."""
    kept = {
        name: TaskData(d.task, [s for s in d.samples if s.id not in set(skipped.get(name, ()))])
        for name, d in study.tasks.items()
    }
    for name in kept.keys() & skipped.keys():
        divide(kept[name], probes)
    for member in study.pinned.members if study.pinned else ():
        name = member.source.name
        if name in kept and name in skipped:
            _refuse_moved(kept[name], {sample.group for sample in member.train}, skipped[name])
    return replace(study, tasks=kept)


def _refuse_moved(found: TaskData, held: set[str], lost: tuple[str, ...]) -> None:
    """held: groups that the corpus holds of the task, as it was divided whole."""
    tested = {found.samples[i].group for one in found.divisions for i in one.test}
    if moved := sorted(held & tested):
        raise DataError(
            f"{found.task.modality}/{found.task.name}: divided without its {len(lost)} unreadable images, such as "
            f"{lost[0]}, it would be tested on {len(moved)} groups that the corpus holds, such as {moved[0]!r}; fetch "
            "the images again, or remove them from the folder, so that all is divided without them"
        )


def recipes(wanted: Wanted, study: Study, skipped: dict[str, tuple[str, ...]] | None) -> list[Recipe]:
    """Every run asked for, each followed by its twin, seed by seed so that early results cover all pretexts; those of a
    grid in its order. skipped: unreadable samples {task: ids}, left out on request; None: not known yet.

    Raises DataError for a run of a grid that was frozen over other images than are here."""
    if wanted.recipes and "corpus" in study.absent:
        raise DataError(f"the corpus of the grid's {study.modality} runs is not here: {study.absent['corpus']}")
    if study.pinned is None or not study.tasks:
        return []
    members = {m.source.name for m in study.pinned.members}
    left_out = tuple(f"{name}/{i}" for name in sorted(members) for i in (skipped or {}).get(name, ()))
    policy = "; ".join(sorted({files.described(m.source.policy) for m in study.pinned.members}))
    if wanted.recipes:
        made = [recipe for recipe in wanted.recipes if recipe.modality == study.modality]
        for recipe in made:
            _refuse_other_images(recipe, study.pinned.corpus, policy, recipe.skipped if skipped is None else left_out)
    else:
        seeds = tracks.get(wanted.track).seeds if wanted.seeds is None else wanted.seeds
        made = [
            tracks.recipe(
                wanted.track,
                pretext,
                modality=study.modality,
                corpus=study.pinned.corpus,
                policy=policy,
                seed=seed,
                precision=wanted.precision,
            )
            for seed in range(seeds)
            for pretext in wanted.pretexts
        ]
        made = [replace(recipe, skipped=left_out) for recipe in made]
    unique = {key(one): one for recipe in made for one in (recipe, twin(recipe))}
    return [recipe for name, recipe in unique.items() if not wanted.runs or name.startswith(wanted.runs)]


def _refuse_other_images(recipe: Recipe, found: Corpus, policy: str, left_out: tuple[str, ...]) -> None:
    """Raises DataError where a frozen recipe would be trained on other images than it was frozen over."""
    frozen, run = recipe.corpus, f"run {key(recipe)} of the grid ({recipe.modality}, {recipe.track})"
    if found != frozen:
        raise DataError(
            f"{run} was frozen over the corpus {frozen.name} {frozen.digest} of {frozen.images:,} images, here it is "
            f"{found.name} {found.digest} of {found.images:,}; name the same images by --data or --corpus, or write "
            "the grid again"
        )
    if policy != recipe.policy:
        raise DataError(f"{run} was frozen with images squared by {recipe.policy!r}, here by {policy!r}; set --policy")
    if left_out != recipe.skipped:
        raise DataError(
            f"{run} was frozen with {len(recipe.skipped)} unreadable images left out, here they are {len(left_out)}: "
            f"{', '.join(sorted(set(left_out) ^ set(recipe.skipped))[:5])}; mend these, or write the grid again"
        )


def cells(recipe: Recipe, study: Study, probes: tuple[str, ...] = ()) -> list[Cell]:
    """A cell for every task, probe and readout that go together; probes: empty for the default ones."""
    made = []
    for name, found in study.tasks.items():
        for probe in probes or registry.defaults("probes"):
            declared = registry.load("probes", probe)
            if declared.NEEDS == "masks" and found.task.mask is None:
                continue
            for readout in getattr(declared, "READOUTS", READOUTS):
                made.append(
                    Cell(
                        recipe=recipe,
                        task=name,
                        task_version=found.task.version,
                        data=found.identity,
                        probe=probe,
                        probe_version=declared.VERSION,
                        settings=asdict(declared.Settings()),
                        readout=readout,
                    )
                )
    return made


def jobs(wanted: Wanted, study: Study, root: Path, skipped: dict[str, tuple[str, ...]] | None) -> tuple[list[Job], int]:
    """(jobs with something missing, number of cells that are there already). skipped: as in `recipes`."""
    missing, present = [], 0
    for recipe in recipes(wanted, study, skipped):
        asked = cells(recipe, study, wanted.probes)
        lacking = [c for c in asked if not results.cell_directory(root, recipe.modality, key(c)).exists()]
        present += len(asked) - len(lacking)
        directory = results.run_directory(root, recipe.modality, key(recipe))
        if directory.exists() and not (directory / "encoder.safetensors").exists():
            if lacking and results.read_file(directory / "runs.parquet")["status"][0].as_py() == "finished":
                raise results.SchemaError(
                    f"{directory}: its encoder is gone, and {len(lacking)} cells need it; "
                    "`python -m leaderboards repair` sets the run aside, then run again"
                )
            continue  # a diverged run has no encoder to probe
        if lacking or not directory.exists():
            missing.append(Job(recipe, directory.exists(), lacking))
    return missing, present


def groups(missing: list[Job]) -> list[tuple[str, ...]]:
    """Ids of what is missing, each run with its twin: what one job of many computes."""
    found: dict[str, list[str]] = {}
    for job in missing:
        found.setdefault(key(twin(job.recipe)), []).append(key(job.recipe))
    return [tuple(ids) for ids in found.values()]


def reused(missing: list[Job], studies: list[Study], runtime: Runtime) -> tuple[int, int]:
    """(features in the cache, features needed) of the missing cells: one for each encoder and store of clean images,
    pooled or as tokens."""
    needed, addresses = set(), {}
    for job in missing:
        recipe, weights = job.recipe, key(job.recipe)
        if job.trained:
            row = results.read_file(results.run_directory(runtime.results, recipe.modality, weights) / "runs.parquet")
            weights = row["weights_sha256"][0].as_py()
        asked = {(cell.task, registry.load("probes", cell.probe).NEEDS in TOKENS) for cell in job.cells}
        for study in studies:
            for name, tokens in asked if study.modality == recipe.modality else ():
                found, place = study.tasks[name], (study.modality, name, recipe.stored_pixels)
                if place not in addresses:
                    addresses[place] = store.address(found.task, found.samples, recipe.stored_pixels)
                images = addresses[place]
                needed.add(feature_store.folder(runtime.cache, weights, recipe.encoder, images, tokens=tokens))
    return sum(folder.exists() for folder in needed), len(needed)


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


def total(costs: list[Cost]) -> Cost:
    """Of what is worked through one after the other; images stored for several are stored once."""
    flops, seconds, peaks, stores, stored, bases = zip(*costs, strict=True)
    shared = {place: held for one in stores for place, held in one.items()}
    return Cost(sum(flops), sum(seconds), max(peaks), shared, sum(stored), "; ".join(dict.fromkeys(bases)))


def measured_speed(root: Path, track: str, processes: int) -> tuple[float, int]:
    """(median training FLOPs per second of this track's runs stored here, how many); (0, 0) before the first."""
    rows = results.read(root, "runs")
    rows = rows[(rows.track == track) & (rows.seconds > 0) & (rows.processes == processes) & (rows.realised_flops > 0)]
    return (float((rows.realised_flops / rows.seconds).median()), len(rows)) if len(rows) else (0.0, 0)


def cost(
    missing: list[Job], studies: list[Study], track: str, runtime: Runtime, lacking: Sequence["Ceiling"] = ()
) -> Cost:
    """lacking: missing ceilings, each trained by one process."""
    todo = [job.recipe for job in missing if not job.trained]
    flops = sum(tracks.steps(r) * r.settings["batch"] * tracks.image_flops(r) for r in todo)
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
    peak = max([*map(memory, todo), *(ceiling.memory for ceiling in lacking)], default=0.0)
    stored = 0.1e6 * cell_count + 4e6 * len(missing)
    taught = sum(ceiling.flops for ceiling in lacking)
    seconds = (flops + taught * runtime.processes) / speed + PROBE_SECONDS * cell_count
    return Cost(flops + taught, seconds, peak, stores, stored, basis)


def memory(recipe: Recipe) -> float:
    """Bytes: the highest resident size of a run on the CPU, within a fifth (`python -m benchmark.lab.speed memory`).

    The libraries; 16 bytes per trained parameter (weight, gradient, AdamW's two moments) and 4 per teacher's; and what
    backward needs: about 17·width values per token and block, and the rows of the heads. For a pretext that is not
    known here, a guess from its FLOPs. On a GPU the libraries do not count.
    """
    e, s = recipe.encoder, recipe.settings
    patches, pixels = e.grid**2, 3 * e.patch**2
    trunk = 12 * e.depth * e.width**2 + pixels * e.width
    if recipe.pretext == "mae":
        hidden = patches - int(patches * (1 - s["mask_ratio"]))
        blocks = (patches - hidden + 1) * e.width * e.depth + (patches + 1) * s["decoder_width"] * s["decoder_depth"]
        trained, frozen = trunk + 12 * s["decoder_depth"] * s["decoder_width"] ** 2, 0
        rows = 3 * hidden * pixels  # prediction, target, error
    elif recipe.pretext == "ijepa":
        hidden = mask_sizes.mean_target_tokens(e.grid, tuple(s["target_scale"]), tuple(s["target_aspect"]))
        context = s["context_tokens"]
        asked = s["targets"] * (context + hidden)
        blocks = context * e.width * e.depth + asked * s["predictor_width"] * s["predictor_depth"]
        trained, frozen = trunk + 12 * s["predictor_depth"] * s["predictor_width"] ** 2, trunk
        rows = 3 * s["targets"] * hidden * e.width
    elif recipe.pretext == "dinov3":
        declared = registry.load("pretexts", "dinov3")
        declaration = declared.Settings(**s)
        crops, local = declared.GLOBALS, (s["local_pixels"] // e.patch) ** 2
        patches = declared.global_grid(declaration, e) ** 2
        blocks = (crops * (patches + 1) + s["local_crops"] * (local + 1)) * e.width * e.depth
        layers = (e.width, s["head_width"], s["head_width"], s["bottleneck"], s["prototypes"])
        trained = frozen = trunk + (1 + bool(s["ibot_weight"])) * sum(a * b for a, b in pairwise(layers))
        heads = crops + s["local_crops"] + declared.hidden_per_image(declaration, e)
        rows = heads * (5 * s["head_width"] + 3 * s["bottleneck"] + 4 * s["prototypes"])
    else:
        blocks, rows = tracks.image_flops(recipe) / 3 / (24 * e.width), 0
        trained, frozen = 1.5 * trunk, trunk
    width = 2 if recipe.precision == "bf16" else 4
    return LIBRARIES_BYTES + 16 * trained + 4 * frozen + s["batch"] * (17 * blocks + rows) * width
