"""A plan on a SLURM cluster: prepare → pretrain (array) → probe (array, each element after its own run) → report.

An element of an array is one run and its twin: `benchmark run --runs … --stage …`. The store makes finished work a
no-op and a pretraining goes on from its checkpoint, so an element may be requeued at any time. Through submitit.
"""

import dataclasses
import json
import os
import re
import runpy
import subprocess
import sys
import tomllib
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from tasks.base import ProcessError

REQUEUE = "PRETEXT_BENCH_REQUEUE"  # in the environment of a job: how often it may ask to be queued again
WAITING = ("PENDING", "RUNNING", "REQUEUED", "REQUEUE_HOLD", "SUSPENDED", "CONFIGURING", "COMPLETING")
WARNING = 90  # seconds before its time limit at which a job is told
UTF8 = "export PYTHONUTF8=1 PYTHONIOENCODING=utf-8:replace"  # a job writes into a log, whatever the locale of its node


@dataclass(frozen=True, kw_only=True)
class Profile:
    """What a site wants to know of a job; a TOML file, with a table [probe], [prepare] or [report] where that stage
    differs. Empty and 0: not said."""

    partition: str = ""
    account: str = ""
    gpus: int = 0  # per job
    cpus: int = 4
    minutes: int = 240
    memory_gb: int = 16
    at_once: int = 32  # elements of an array that may run together
    requeues: int = 20  # of one job
    setup: tuple[str, ...] = ()  # shell lines before the command, such as "module load cuda"
    extra: dict[str, str] = field(default_factory=dict)  # further options of sbatch


@dataclass(frozen=True, kw_only=True)
class Stage:
    name: str
    after: str  # option of --dependency, "{}" for the id of the stage before; "" for the first
    runs: list[tuple[str, ...]]  # of each element
    profile: Profile


NAMES = ("prepare", "pretrain", "probe", "report")


def profiles(path: Path | None) -> dict[str, Profile]:
    """By stage. Raises ValueError naming what is wrong in the file."""
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8")) if path else {}
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: not a readable profile ({error}); docs/clusters.md shows one") from error
    tables = {name: raw.pop(name, {}) for name in NAMES}
    return {name: _profile(path, raw | table) for name, table in tables.items()}


def _profile(path: Path | None, raw: dict[str, object]) -> Profile:
    known = {entry.name: entry.type for entry in dataclasses.fields(Profile)}
    for name, value in raw.items():
        if name not in known:
            raise ValueError(f"{path}: unknown key {name!r}; known: {', '.join(known)}, and tables {', '.join(NAMES)}")
        default = getattr(Profile(), name) if name != "setup" else []
        if type(value) is not type(default) or (type(value) is int and value < 0):
            raise ValueError(f"{path}: {name} = {value!r}; expected something like {default!r}")
    made = Profile(**raw)
    made = replace(made, setup=tuple(map(str, made.setup)), extra={k: str(v) for k, v in made.extra.items()})
    for name, value in {"partition": made.partition, "account": made.account, **made.extra}.items():
        if not re.fullmatch(r"[\w-]+", name) or not value.isprintable() or "\\" in value:
            raise ValueError(
                f"{path}: {name!r} = {value!r}; an option of sbatch is one word, its value one line of text without \\"
            )
    return made


def stages(batches: list[tuple[str, ...]], asked: dict[str, Profile]) -> list[Stage]:
    """batches: ids that one element computes together, a run with its twin."""
    after = {"prepare": "", "pretrain": "afterok:{}", "probe": "aftercorr:{}", "report": "afterany:{}"}
    runs = {"prepare": [()], "pretrain": batches, "probe": batches, "report": [()]}
    return [Stage(name=name, after=after[name], runs=runs[name], profile=asked[name]) for name in NAMES]


def commands(stage: Stage, arguments: list[str]) -> list[list[str]]:
    """Of each element, after `python -m benchmark`."""
    return [
        ["run", *arguments, *(["--runs", ",".join(batch)] if batch else []), "--stage", stage.name]
        for batch in stage.runs
    ]


def new_folder(cache: Path, plan: list[Stage]) -> Path:
    """Where logs and job ids of one submission are. Raises ValueError for a name that SLURM would change."""
    folder = cache.absolute() / "slurm" / datetime.now(UTC).strftime("%Y%m%d-%H%M%S-%f")
    if not str(folder).isprintable() or set("%\\") & set(str(folder)):
        raise ValueError(
            f"{str(cache)!r}: SLURM takes no log in a folder with %, \\ or a line break in its name; set --cache"
        )
    (folder / "logs").mkdir(parents=True)
    (folder / "plan.json").write_text(json.dumps({stage.name: stage.runs for stage in plan}), encoding="utf-8")
    return folder


def submit(plan: list[Stage], arguments: list[str], folder: Path) -> list[str]:
    """Hand everything to SLURM through submitit. Returns a line for each stage. Raises ProcessError if it refuses."""
    try:
        import submitit
    except ImportError as error:
        raise ValueError("LAUNCH=slurm needs submitit: pip install 'pretext-bench[slurm]'") from error
    os.environ["SUBMITIT_PREEMPT_SIGNAL"] = "USR1"  # `stopping` hears it
    lines, before = [], ""
    for stage in plan:
        executor = submitit.AutoExecutor(folder=folder / "logs", cluster="slurm")
        p = stage.profile
        extra = {**p.extra, "open_mode": "append", "requeue": True, "kill_on_invalid_dep": "yes"}
        extra |= {"dependency": stage.after.format(before)} if before else {}
        executor.update_parameters(
            name=f"pretext-{stage.name}",
            timeout_min=p.minutes,
            cpus_per_task=p.cpus,
            mem_gb=p.memory_gb or None,
            slurm_array_parallelism=p.at_once,
            slurm_signal_delay_s=WARNING,
            slurm_setup=[UTF8, f"export {REQUEUE}={p.requeues}", *p.setup],
            slurm_additional_parameters=extra,
            **({"slurm_partition": p.partition} if p.partition else {}),
            **({"slurm_account": p.account} if p.account else {}),
            **({"gpus_per_node": p.gpus} if p.gpus else {}),
        )
        try:
            jobs = executor.map_array(work, commands(stage, arguments))
        except (submitit.core.utils.FailedJobError, FileNotFoundError, OSError) as error:
            raise ProcessError(f"SLURM did not take the stage {stage.name}: {error}") from error
        before = jobs[0].job_id.partition("_")[0]
        with (folder / "ids").open("a", encoding="utf-8") as file:
            file.writelines(f"{stage.name} {number} {job.job_id}\n" for number, job in enumerate(jobs))
        lines.append(f"{stage.name}: job {before}, {len(jobs)} element{'s' * (len(jobs) > 1)}")
    return lines


def work(command: list[str]) -> None:
    """What submitit runs: `python -m benchmark`, in its own process so that signals reach it."""
    sys.argv = ["benchmark", *command]
    runpy.run_module("benchmark", run_name="__main__", alter_sys=True)


def requeue() -> str:
    """Within a job that was asked to stop: put it back in the queue. Returns what happened, "" elsewhere."""
    allowed, job = os.environ.get(REQUEUE), os.environ.get("SLURM_JOB_ID")
    if not allowed or not job:
        return ""
    if (array := os.environ.get("SLURM_ARRAY_JOB_ID")) is not None:
        job = f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    if int(os.environ.get("SLURM_RESTART_COUNT", "0")) >= int(allowed):
        return f"job {job} was queued again {allowed} times already (requeues in the profile); left stopped"
    done = subprocess.run(
        ["scontrol", "requeue", job], capture_output=True, check=False, encoding="utf-8", errors="replace"
    )
    return f"job {job} queued again" if done.returncode == 0 else f"job {job} not queued again: {done.stderr.strip()}"


@dataclass(frozen=True)
class Element:
    """One job of a submission."""

    stage: str
    job: str  # <array>_<element>
    runs: tuple[str, ...]
    state: str  # SLURM's word; "ended" where it has forgotten the job, or "not submitted"
    logs: tuple[Path, ...]


def submissions(cache: Path) -> list[Path]:
    """The newest first."""
    return sorted((path.parent for path in (cache / "slurm").glob("*/plan.json")), reverse=True)


def status(folder: Path) -> list[Element]:
    """Of every element of a submission. Raises ProcessError if SLURM does not answer."""
    plan = json.loads((folder / "plan.json").read_text(encoding="utf-8"))
    lines = (folder / "ids").read_text(encoding="utf-8").split("\n") if (folder / "ids").exists() else []
    jobs = {(stage, int(number)): job for stage, number, job in (line.split() for line in lines if line)}
    queued = _queued() if jobs else {}
    found = []
    for name, runs in plan.items():
        for number, batch in enumerate(runs):
            job = jobs.get((name, number), "")
            state = queued.get(job, "ended") if job else "not submitted"
            logs = (f"{job}_0_log.out", f"{job}_0_log.err")
            there = tuple(path for log in logs if (path := folder / "logs" / log).exists())
            found.append(Element(name, job, tuple(batch), state, there))
    return found


def _queued() -> dict[str, str]:
    """{job: state} of what SLURM still knows of this user's jobs."""
    command = ["squeue", "--me", "--noheader", "--array", "--states=all", "--format=%F_%K %T"]
    try:
        done = subprocess.run(command, capture_output=True, check=False, encoding="utf-8", errors="replace")
    except FileNotFoundError as error:
        raise ProcessError("squeue is not here: ask on a machine of the cluster") from error
    if done.returncode:
        raise ProcessError(f"squeue: {done.stderr.strip()}")
    return dict(line.replace("_N/A", "").split(maxsplit=1) for line in done.stdout.splitlines() if line.strip())


def cancel(elements: list[Element]) -> int:
    """Returns how many jobs were waiting or running."""
    jobs = [element.job for element in elements if element.job and element.state in WAITING]
    if jobs:
        subprocess.run(["scancel", *jobs], check=True)
    return len(jobs)
