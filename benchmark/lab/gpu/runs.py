"""The missing runs of a list of frozen recipes: the cheapest first, several at once, each verified when it is done."""

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from benchmark import ceilings, plan, tracks
from benchmark.cost import NOMINAL_FLOPS, NOMINAL_GPU_FLOPS
from benchmark.device import machine
from benchmark.execution import capacity
from benchmark.execution.batches import LOGGED, run_batches
from benchmark.lab.gpu.speed import SIZES
from benchmark.lab.gpu.timebox import SPARE, Piece, Setup, Timebox, run_command
from benchmark.recipe import Recipe, canonical, key, twin
from benchmark.storage import results
from benchmark.study import Study, Wanted, expand_names, survey, validate
from tasks.base import ProcessError

EVALUATION = (90.0, 30.0)  # seconds of runs beside training before any is finished: start, probes, twins; when dry
NOMINAL_FP32 = 4e12  # FLOPs per second of a GPU in fp32, small encoders; bf16: NOMINAL_GPU_FLOPS


class Batch(NamedTuple):
    """What one process computes: a run and its twin, or several that share a twin, as far as they are missing."""

    jobs: tuple[plan.Job, ...]

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(key(job.recipe) for job in self.jobs)

    @property
    def names(self) -> list[str]:
        """Of the pieces: its runs, or its twin where that alone is missing."""
        return [f"run/{key(job.recipe)}" for job in self.jobs if job.recipe.budget] or [f"run/{self.ids[0]}"]


class Work(NamedTuple):
    """What a grid asks for here."""

    setup: Setup
    parts: list[tuple[Wanted, Study]]  # recipes of one modality, track and corpus
    grid: Path  # file of its recipes, less those that cannot be trained here

    @property
    def recipes(self) -> list[Recipe]:
        return [recipe for wanted, _ in self.parts for recipe in wanted.recipes]

    def list_missing(self) -> list[Batch]:
        jobs = [job for wanted, study in self.parts for job in plan.jobs(wanted, study, self.setup.results, {})[0]]
        by_id = {key(job.recipe): job for job in jobs}
        return [Batch(tuple(by_id[run] for run in ids)) for ids in plan.batches(jobs)]

    def arguments(self) -> list[str]:
        """Of `benchmark run`."""
        given = {"grid": self.grid, "data": self.setup.data, "results": self.setup.results, "cache": self.setup.cache}
        given |= {"task": ",".join(self.setup.tasks), "probe": ",".join(self.setup.probes)}
        return [text for name, value in given.items() if str(value) for text in (f"--{name}", str(value))]


def start_rendering(work: Work) -> subprocess.Popen:
    """Make the image stores while the GPU is measured: `benchmark run --stage prepare` in a process of the lowest
    priority that sees no GPU. Killed, it goes on where it was."""
    log = work.setup.out / "logs" / "prepare.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    command = ["nice", "-n", "19", sys.executable, "-m", "benchmark", "run", *work.arguments(), "--stage", "prepare"]
    with log.open("a", encoding="utf-8") as file:
        hidden = os.environ | {"CUDA_VISIBLE_DEVICES": ""} | LOGGED
        return subprocess.Popen(command, stdout=file, stderr=file, env=hidden)


def await_rendering(process: subprocess.Popen, work: Work, seconds: float) -> None:
    """Until the image stores are whole. Raises ProcessError where they are not by then."""
    log = work.setup.out / "logs" / "prepare.log"
    try:
        code = process.wait(max(0.0, seconds))
    except subprocess.TimeoutExpired:
        raise ProcessError(f"the image stores are not whole yet; the next call goes on ({log})") from None
    if code:
        lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        raise ProcessError(f"the image stores: {lines[-1] if lines else f'exit code {code}'} (see {log})")


def find_work(recipes: Iterable[Recipe], setup: Setup, say: Callable[[str], None]) -> Work:
    """Find the corpora and tasks of the recipes. Recipes whose corpus is not here are named, and left out."""
    asked: dict[tuple[str, str, str], list[Recipe]] = {}
    for recipe in recipes:
        asked.setdefault((recipe.modality, recipe.track, recipe.corpus.name), []).append(recipe)
    parts = []
    for (modality, track, name), own in asked.items():
        wanted = Wanted(
            modalities=(modality,),
            track=track,
            pretexts=(),
            tasks=expand_names(setup.tasks),
            probes=setup.probes,
            corpus=name,
            recipes=tuple(own),
        )
        validate(wanted)
        study = survey(wanted, modality, setup.data, setup.cache)
        there = study.pinned.corpus if study.pinned and study.tasks else None
        if strange := [key(recipe) for recipe in own if recipe.corpus != there]:
            found = f"{name} {there.digest} of {there.images:,} images" if there else "no such corpus, or no task"
            say(
                f"grid: {len(strange)} recipes of {modality} want {name} {own[0].corpus.digest} of "
                f"{own[0].corpus.images:,} images, under {setup.data} is {found}: left out: {', '.join(strange)}"
            )
        if kept := tuple(recipe for recipe in own if recipe.corpus == there):
            parts.append((replace(wanted, recipes=kept), study))
    work = Work(setup, parts, setup.out / "grid.jsonl")
    work.grid.write_text("".join(canonical(recipe) + "\n" for recipe in work.recipes), encoding="utf-8")
    return work


def train(work: Work, box: Timebox) -> None:
    """Compute what is missing, several batches at once, as long as they should end in the time left."""
    verify(work, box)
    tried: set[str] = set()
    while batches := [batch for batch in work.list_missing() if not tried & {*batch.ids}]:
        batches.sort(key=lambda batch: estimate([batch], work.setup, box.finished))
        chosen = choose(batches, work.setup, box)
        if not chosen:
            for batch in batches:
                box.waiting[", ".join(batch.names)] = SPARE * estimate([batch], work.setup, box.finished)
            return
        tried |= {run for batch in chosen for run in batch.ids}
        _train_at_once(work, chosen, box)


def list_ceilings(work: Work, box: Timebox) -> Iterator[Piece]:
    """The ceilings of the runs, in a process each."""
    for wanted, study in work.parts:
        for ceiling in ceilings.missing(wanted, study, work.setup.results):
            command = [sys.executable, "-m", "benchmark", "run", *work.arguments(), "--runs", ceiling.name]
            guess = ceiling.flops / find_rate(ceiling.recipe, box.finished) + EVALUATION[work.setup.dry]
            yield Piece(f"ceiling/{ceiling.name}", guess, lambda c=command: _run_ceiling(c))


def _run_ceiling(command: list[str]) -> dict[str, Any]:
    return {"said": [line for line in run_command(command) if " ceiling seed " in line]}


def choose(batches: list[Batch], setup: Setup, box: Timebox) -> list[Batch]:
    """As many of the cheapest, with encoders of one size, as run at once and should end in the time left."""
    sizes = [name_size(batch.jobs[0].recipe) for batch in batches]
    alike = [batch for batch, size in zip(batches, sizes, strict=True) if size == sizes[0]]
    chosen = alike[: count_at_once(alike, setup)]
    while chosen and SPARE * estimate(chosen, setup, box.finished) > box.left:
        chosen.pop()
    return chosen


def count_at_once(batches: list[Batch], setup: Setup) -> int:
    """How many of these, whose encoders are of one size, run at once on all GPUs, see `capacity`."""
    gpus = machine.device().gpus
    if not gpus:
        return 2 if setup.dry else 1
    todo = [job.recipe for batch in batches for job in batch.jobs if not job.trained and job.recipe.budget]
    return gpus * capacity.best_pack(todo, batches[0].jobs[0].recipe.track, setup.results, gpus) if todo else gpus


def name_size(recipe: Recipe) -> str:
    """Name of its encoder in the speed table, if it has one there."""
    e = recipe.encoder
    known = {(s.width, s.depth, s.patch, s.pixels): name for name, s in SIZES.items()}
    return known.get((e.width, e.depth, e.patch, e.pixels), f"{e.width}x{e.depth} at {e.pixels} px")


def estimate(batches: Iterable[Batch], setup: Setup, rows: list[dict[str, Any]]) -> float:
    """Seconds of these at once: FLOPs left over the measured rate that they share, but no less than the longest alone
    would take, and what finished runs took beside training."""
    todo = [(job.recipe, count_flops_left(job, setup.cache)) for batch in batches for job in batch.jobs]
    shared = sum(flops / find_rate(recipe, rows, shared=True) for recipe, flops in todo)
    longest = max(flops / find_rate(recipe, rows) for recipe, flops in todo)
    taken = [row["result"]["beside training"] for row in rows if row["kind"].startswith("run/")]
    taken = [seconds for seconds in taken if seconds is not None] or [EVALUATION[setup.dry]]
    return max(shared / max(1, machine.device().gpus), longest) + median(taken)


def count_flops_left(job: plan.Job, cache: Path) -> float:
    """Of training, from the last checkpoint on."""
    recipe = job.recipe
    if job.trained or not recipe.budget:
        return 0.0
    made = [int(path.name.removeprefix("step-")) for path in (cache / "checkpoints" / key(recipe)).glob("step-*")]
    return (tracks.steps(recipe) - max(made, default=0)) * recipe.settings.batch * tracks.image_flops(recipe)


def find_rate(recipe: Recipe, rows: list[dict[str, Any]], shared: bool = False) -> float:
    """FLOPs per second of one GPU: of finished runs of this pretext and size, of all that were at once together if it
    is shared; else of the slowest mode in the speed table; else nominal."""
    size = name_size(recipe)
    runs = [row["result"] for row in rows if row["kind"] == f"run/{size}/{recipe.pretext}"]
    runs = [run for run in runs if run["at once"] and (shared or run["at once"] == 1)]  # else it may be another's
    if rates := [run["realised_flops"] / run["seconds"] * run["at once"] for run in runs if run["realised_flops"]]:
        return median(rates)
    speeds = [
        row["result"]
        for row in rows
        if row["piece"].startswith(f"speed/{size}/") and row["piece"].endswith(f"/{recipe.pretext}")
    ]
    if rates := [speed["TFLOP/s"] * 1e12 for speed in speeds if "TFLOP/s" in speed]:
        return min(rates)
    if not machine.device().gpus:
        return NOMINAL_FLOPS * machine.processors()
    return NOMINAL_FP32 if recipe.precision == "fp32" else NOMINAL_GPU_FLOPS


def _train_at_once(work: Work, chosen: list[Batch], box: Timebox) -> None:
    gpus = max(1, min(machine.device().gpus, len(chosen)))
    each = -(-len(chosen) // gpus)
    box.say(
        f"{len(chosen)} runs at once, {', '.join(name for batch in chosen for name in batch.names)}: about "
        f"{estimate(chosen, work.setup, box.finished):,.0f} s, {box.left:,.0f} s left"
    )
    began, logs, failure = time.monotonic(), work.setup.out / "logs", None
    try:
        arguments = [*work.arguments(), "--checkpoint-seconds", "60"]
        run_batches([batch.ids for batch in chosen], arguments, gpus, each, logs, box.say)
    except ProcessError as error:
        failure = error
    lacking = {run for batch in work.list_missing() for run in batch.ids}
    for batch in chosen:
        for name in batch.names if lacking & {*batch.ids} else ():
            box.fail(name, failure or ProcessError(f"it ended, and is not whole: see {logs / batch.ids[0]}.log"))
    verify(work, box, {run for batch in chosen for run in batch.ids}, each, began)


def verify(work: Work, box: Timebox, fresh: Iterable[str] = (), each: int = 1, began: float = 0.0) -> None:
    """Verify and note every run that is whole and was not noted before.

    fresh: ids of runs that were just computed, `each` at once on a GPU; began: when, by the monotonic clock."""
    root, fresh = work.setup.results, set(fresh)
    lacking = {run for batch in work.list_missing() for run in batch.ids}
    noted = {row["result"]["run"] for row in box.rows if row.get("kind", "").startswith("run/")}
    whole = {key(recipe): recipe for recipe in work.recipes if not lacking & {key(recipe), key(twin(recipe))}}
    due = {run: recipe for run, recipe in whole.items() if run in fresh or run not in noted}
    with ThreadPoolExecutor(max(1, min(len(due), machine.processors()))) as pool:
        faults = dict(zip(due, pool.map(lambda run: _find_fault(run, root), due), strict=True))
    taken = time.monotonic() - began
    places = {run: results.run_directory(root, recipe.modality, run) for run, recipe in due.items() if not faults[run]}
    rows = {run: results.read_file(place / "runs.parquet").to_pylist()[0] for run, place in places.items()}
    longest = max((rows[run]["seconds"] for run in rows.keys() & fresh), default=0.0)
    for run, recipe in due.items():
        if faults[run]:
            box.fail(f"run/{run}", ProcessError(f"it does not verify: {faults[run]}"))
            continue
        kept = ("status", "modality", "track", "pretext", "seed", "seconds", "realised_flops", "images_seen", "dirty")
        result = {"run": run, **{column: rows[run][column] for column in kept}}
        own = run in fresh  # and its time is known to be of this call, unless it was only gone on with
        result |= {"at once": each if own else None}
        result |= {"beside training": taken - longest if own and longest < taken else None}
        seconds = taken if own else result["seconds"]
        box.note(f"run/{run}", f"run/{name_size(recipe)}/{recipe.pretext}", seconds, result)


def _find_fault(run: str, root: Path) -> str:
    """What `leaderboards verify` finds wrong with a run, its twin and their cells; nothing if it is as stored."""
    command = [sys.executable, "-m", "leaderboards", "verify", "--results", str(root), "--run", run]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", env=os.environ | LOGGED)
    return "" if done.returncode == 0 else (done.stdout + done.stderr).strip() or f"exit code {done.returncode}"


def describe_promotion(rows: list[dict[str, Any]], root: Path) -> list[str]:
    """What to do with the verified runs: lines for the terminal."""
    dirty = {row["result"]["run"]: row["result"]["dirty"] for row in rows if row.get("kind", "").startswith("run/")}
    lines, ready = [], [run for run, uncommitted in dirty.items() if not uncommitted]
    if any(dirty.values()):
        unclean = ", ".join(run for run, uncommitted in dirty.items() if uncommitted)
        lines.append(f"verified, but made from uncommitted code, which is never published: {unclean}")
    if ready:
        command = f"python -m leaderboards promote --results {shlex.quote(str(root))} --run"
        each = f"for run in {' '.join(ready)}; do {command} $run; done" if len(ready) > 1 else f"{command} {ready[0]}"
        lines.append(f"{len(ready)} runs verified and ready: {each}")
    return lines


def describe(result: dict[str, Any]) -> str:
    """A line of the report."""
    beside = f", {result['at once']} at once" if (result["at once"] or 1) > 1 else ""
    return (
        f"{result['modality']} {result['track']} {result['pretext']} seed {result['seed']}: {result['status']} in "
        f"{result['seconds']:,.0f} s of training{beside}, verified"
    )
