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

from benchmark import ceilings, grid, plan, tracks
from benchmark.cost import NOMINAL_FLOPS, NOMINAL_GPU_FLOPS
from benchmark.device import machine
from benchmark.execution import pack
from benchmark.lab.gpu.line import SPARE, Line, Piece, Setup, called
from benchmark.lab.gpu.speed import SIZES
from benchmark.lab.gpu.stores import Rendering
from benchmark.recipe import Recipe, canonical, key, twin
from benchmark.storage import results
from benchmark.study import Study, Wanted, expand_names, survey, validate
from tasks.base import ProcessError

EVALUATION = (90.0, 30.0)  # seconds of runs beside training before any is finished: start, probes, twins; when dry
NOMINAL_FP32 = 4e12  # FLOPs per second of a GPU in fp32, small encoders; bf16: NOMINAL_GPU_FLOPS


class Part(NamedTuple):
    """Recipes of one modality, track and corpus."""

    wanted: Wanted
    study: Study


class Group(NamedTuple):
    """What one process computes: a run and its twin, or several that share a twin, as far as they are missing."""

    jobs: tuple[plan.Job, ...]

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(key(job.recipe) for job in self.jobs)

    @property
    def names(self) -> list[str]:
        """Of the pieces: its runs, or its twin where that alone is missing."""
        return [f"run/{key(job.recipe)}" for job in self.jobs if job.recipe.budget] or [f"run/{self.ids[0]}"]

    @property
    def first(self) -> Recipe:
        return self.jobs[0].recipe


class Work(NamedTuple):
    """What a grid asks for here."""

    setup: Setup
    parts: list[Part]
    grid: Path  # file of its recipes, less those that cannot be trained here

    def missing(self) -> list[Group]:
        jobs = [job for part in self.parts for job in plan.jobs(part.wanted, part.study, self.setup.results, {})[0]]
        by_id = {key(job.recipe): job for job in jobs}
        return [Group(tuple(by_id[run] for run in ids)) for ids in plan.batches(jobs)]

    def arguments(self) -> list[str]:
        """Of `benchmark run`."""
        places = {"grid": self.grid, "data": self.setup.data, "results": self.setup.results, "cache": self.setup.cache}
        asked = {"task": ",".join(self.setup.tasks), "probe": ",".join(self.setup.probes)}
        given = places | {name: text for name, text in asked.items() if text}
        return [text for name, value in given.items() for text in (f"--{name}", str(value))]

    def render(self) -> Rendering:
        command = [sys.executable, "-m", "benchmark", "run", *self.arguments(), "--stage", "prepare"]
        return Rendering(command, self.setup.out / "logs" / "prepare.log")


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
            parts.append(Part(replace(wanted, recipes=kept), study))
    file = setup.out / "grid.jsonl"
    file.write_text("".join(canonical(r) + "\n" for part in parts for r in part.wanted.recipes), encoding="utf-8")
    return Work(setup, parts, file)


def train(work: Work, line: Line) -> None:
    """Compute what is missing, wave by wave, as long as a wave should end in the time left."""
    settle(work, line)
    tried: set[str] = set()
    while groups := [group for group in work.missing() if not tried & {*group.ids}]:
        groups.sort(key=lambda group: estimate([group], work.setup, line.here))
        chosen = fitting(groups, work.setup, line)
        if not chosen:
            for group in groups:
                line.waiting[", ".join(group.names)] = SPARE * estimate([group], work.setup, line.here)
            return
        tried |= {run for group in chosen for run in group.ids}
        _wave(work, chosen, line)


def teaching(work: Work, line: Line) -> Iterator[Piece]:
    """The ceilings of the runs, in a process each."""
    for part in work.parts:
        for ceiling in ceilings.missing(part.wanted, part.study, work.setup.results):
            command = [sys.executable, "-m", "benchmark", "run", *work.arguments(), "--runs", ceiling.name]
            guess = ceiling.flops / rate(ceiling.recipe, line.here) + EVALUATION[work.setup.dry]
            yield Piece(f"ceiling/{ceiling.name}", guess, lambda c=command: {"said": _of_ceilings(called(c))})


def _of_ceilings(said: list[str]) -> list[str]:
    return [line for line in said if " ceiling seed " in line]


def fitting(groups: list[Group], setup: Setup, line: Line) -> list[Group]:
    """As many of the cheapest, with encoders of one size, as run at once and should end in the time left."""
    alike = [group for group in groups if size(group.first) == size(groups[0].first)]
    chosen = alike[: at_once(alike, setup)]
    while chosen and SPARE * estimate(chosen, setup, line.here) > line.left:
        chosen.pop()
    return chosen


def at_once(groups: list[Group], setup: Setup) -> int:
    """How many of these, whose encoders are of one size, run at once on all GPUs, see `pack`."""
    gpus = machine.device().gpus
    if not gpus:
        return 2 if setup.dry else 1
    todo = [job.recipe for group in groups for job in group.jobs if not job.trained and job.recipe.budget]
    return gpus * pack.most(todo, groups[0].first.track, setup.results, gpus) if todo else gpus


def size(recipe: Recipe) -> str:
    """Name of its encoder in the speed table, if it has one there."""
    e = recipe.encoder
    known = {(s.width, s.depth, s.patch, s.pixels): name for name, s in SIZES.items()}
    return known.get((e.width, e.depth, e.patch, e.pixels), f"{e.width}x{e.depth} at {e.pixels} px")


def estimate(groups: Iterable[Group], setup: Setup, rows: list[dict[str, Any]]) -> float:
    """Seconds of these at once: FLOPs left over the measured rate that they share, but no less than the longest alone
    would take, and what finished runs took beside training."""
    gpus = max(1, machine.device().gpus)
    todo = [(job.recipe, left(job, setup.cache)) for group in groups for job in group.jobs]
    shared = sum(flops / rate(recipe, rows, shared=True) for recipe, flops in todo) / gpus
    longest = max(flops / rate(recipe, rows) for recipe, flops in todo)
    taken = [row["result"]["beside training"] for row in rows if row["kind"].startswith("run/")]
    taken = [seconds for seconds in taken if seconds is not None]
    return max(shared, longest) + (median(taken) if taken else EVALUATION[setup.dry])


def left(job: plan.Job, cache: Path) -> float:
    """Training FLOPs from the last checkpoint on."""
    recipe = job.recipe
    if job.trained or not recipe.budget:
        return 0.0
    made = [int(path.name.removeprefix("step-")) for path in (cache / "checkpoints" / key(recipe)).glob("step-*")]
    return (tracks.steps(recipe) - max(made, default=0)) * recipe.settings.batch * tracks.image_flops(recipe)


def rate(recipe: Recipe, rows: list[dict[str, Any]], shared: bool = False) -> float:
    """FLOPs per second of one GPU: of finished runs of this pretext and size, of all that were at once together if it
    is shared; else of the slowest mode in the speed table; else nominal."""
    named = size(recipe)
    runs = [row["result"] for row in rows if row["kind"] == f"run/{named}/{recipe.pretext}"]
    runs = [run for run in runs if run["at once"] and (shared or run["at once"] == 1)]  # else it may be another's
    if rates := [run["realised_flops"] / run["seconds"] * run["at once"] for run in runs if run["realised_flops"]]:
        return median(rates)
    speeds = [row for row in rows if row["piece"].startswith(f"speed/{named}/")]
    speeds = [row["result"] for row in speeds if row["piece"].endswith(f"/{recipe.pretext}")]
    if rates := [speed["TFLOP/s"] * 1e12 for speed in speeds if "TFLOP/s" in speed]:
        return min(rates)
    if not machine.device().gpus:
        return NOMINAL_FLOPS * machine.processors()
    return NOMINAL_FP32 if recipe.precision == "fp32" else NOMINAL_GPU_FLOPS


def _wave(work: Work, chosen: list[Group], line: Line) -> None:
    gpus = max(1, min(machine.device().gpus, len(chosen)))
    each = -(-len(chosen) // gpus)
    line.say(
        f"{len(chosen)} runs at once, {', '.join(name for group in chosen for name in group.names)}: about "
        f"{estimate(chosen, work.setup, line.here):,.0f} s, {line.left:,.0f} s left"
    )
    began, logs, failure = time.monotonic(), work.setup.out / "logs", None
    arguments = [*work.arguments(), "--checkpoint-seconds", "60"]
    try:
        pack.pack([group.ids for group in chosen], arguments, gpus, each, logs, line.say)
    except ProcessError as error:
        failure = error
    still = {run for group in work.missing() for run in group.ids}
    for group in chosen:
        for name in group.names if still & {*group.ids} else ():
            line.fail(name, failure or ProcessError(f"it ended, and is not whole: see {logs / group.ids[0]}.log"))
    settle(work, line, Wave(frozenset(run for group in chosen for run in group.ids), each, began))


class Wave(NamedTuple):
    """Runs that were just computed."""

    ids: frozenset[str] = frozenset()
    each: int = 1  # at once on a GPU
    began: float = 0.0  # by the monotonic clock


def settle(work: Work, line: Line, wave: Wave = Wave()) -> None:
    """Verify and note every run that is whole and was not noted before."""
    lacking = {run for group in work.missing() for run in group.ids}
    noted = {row["result"]["run"] for row in line.rows if row.get("kind", "").startswith("run/")}
    whole = {key(recipe): recipe for part in work.parts for recipe in part.wanted.recipes}
    whole = {run: r for run, r in whole.items() if not lacking & {run, key(twin(r))}}
    fresh = {run: recipe for run, recipe in whole.items() if run in wave.ids or run not in noted}
    with ThreadPoolExecutor(max(1, min(len(fresh), machine.processors()))) as pool:
        wrong = dict(zip(fresh, pool.map(lambda run: _wrong(run, work.setup.results), fresh), strict=True))
    seconds, root = time.monotonic() - wave.began, work.setup.results
    places = {run: results.run_directory(root, recipe.modality, run) for run, recipe in fresh.items() if not wrong[run]}
    rows = {run: results.read_file(place / "runs.parquet").to_pylist()[0] for run, place in places.items()}
    longest = max((rows[run]["seconds"] for run in rows.keys() & wave.ids), default=0.0)
    kept = ("status", "modality", "track", "pretext", "seed", "seconds", "realised_flops", "images_seen", "dirty")
    for run, recipe in fresh.items():
        if wrong[run]:
            line.fail(f"run/{run}", ProcessError(f"it does not verify: {wrong[run]}"))
            continue
        row, own = rows[run], run in wave.ids
        beside = seconds - longest if own and longest < seconds else None  # not of runs that were only gone on with
        result = {"run": run, **{column: row[column] for column in kept}}
        result |= {"at once": wave.each if own else None, "beside training": beside}
        line.note(f"run/{run}", f"run/{size(recipe)}/{recipe.pretext}", seconds if own else row["seconds"], result)


def _wrong(run: str, root: Path) -> str:
    """What `leaderboards verify` finds wrong with a run, its twin and their cells; nothing if it is as stored."""
    command = [sys.executable, "-m", "leaderboards", "verify", "--results", str(root), "--run", run]
    done = subprocess.run(
        command, capture_output=True, encoding="utf-8", errors="replace", env=os.environ | pack.LOGGED
    )
    return "" if done.returncode == 0 else (done.stdout + done.stderr).strip() or f"exit code {done.returncode}"


def promotion(rows: list[dict[str, Any]], root: Path) -> list[str]:
    """What to do with the verified runs: lines for the terminal."""
    runs = {row["result"]["run"]: row["result"] for row in rows if row.get("kind", "").startswith("run/")}
    ready = [run for run, result in runs.items() if not result["dirty"]]
    said = []
    if dirty := [run for run, result in runs.items() if result["dirty"]]:
        said.append(f"verified, but made from uncommitted code, which is never published: {', '.join(dirty)}")
    if ready:
        command = f"python -m leaderboards promote --results {shlex.quote(str(root))} --run"
        each = f"for run in {' '.join(ready)}; do {command} $run; done" if len(ready) > 1 else f"{command} {ready[0]}"
        said.append(f"{len(ready)} runs verified and ready: {each}")
    return said


def read(path: Path | None) -> list[Recipe]:
    """Raises DataError for a file that is no grid of this code."""
    return grid.read(path) if path else []


def told(result: dict[str, Any]) -> str:
    """A line of the report."""
    beside = f", {result['at once']} at once" if (result["at once"] or 1) > 1 else ""
    return (
        f"{result['modality']} {result['track']} {result['pretext']} seed {result['seed']}: {result['status']} in "
        f"{result['seconds']:,.0f} s of training{beside}, verified"
    )
