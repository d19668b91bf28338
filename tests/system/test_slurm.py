"""A plan through SLURM: what is handed over; and, where one can be started here, a grid through it with a job
preempted on its way. `make test-slurm` installs Debian's SLURM and runs all of it."""

import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from benchmark.execution import slurm
from benchmark.storage import results
from tests.helpers import slurm_cluster

ROOT = Path(__file__).parents[2]
GROUPS = [("aaaa", "bbbb"), ("cccc", "dddd")]


def planned(path: Path | None = None) -> list[slurm.Stage]:
    return slurm.stages(GROUPS, slurm.profiles(path))


def test_each_stage_waits_for_the_one_before_and_each_probing_for_its_own_run():
    assert [(stage.name, stage.after) for stage in planned()] == [
        ("prepare", ""),
        ("pretrain", "afterok:{}"),
        ("probe", "aftercorr:{}"),
        ("report", "afterany:{}"),
    ]
    assert slurm.commands(planned()[1], ["--track", "smoke"]) == [
        ["run", "--track", "smoke", "--runs", "aaaa,bbbb", "--stage", "pretrain"],
        ["run", "--track", "smoke", "--runs", "cccc,dddd", "--stage", "pretrain"],
    ]


HOSTILE = ("Crohn's disease", "a & touch made", "$(touch made) `touch made` $HOME", 'say "x"', "# % *", "é 图")


def sbatch_words(line: str) -> list[str]:
    """An #SBATCH line as SLURM divides it: quotes hold spaces, a backslash keeps the next sign, a bare # ends it."""
    words, word, quote, kept = [], None, "", False
    for sign in line.removeprefix("#SBATCH"):
        if kept:
            word, kept = word + sign, False
        elif sign == "\\":
            word, kept = word or "", True
        elif quote and sign == quote:
            quote = ""
        elif not quote and sign in "'\"":
            word, quote = word or "", sign
        elif not quote and sign == "#":
            break
        elif not quote and sign.isspace():
            words, word = words + [word] * (word is not None), None
        else:
            word = (word or "") + sign
    return words + [word] * (word is not None)


@pytest.fixture
def sbatch(tmp_path, monkeypatch):
    """Programs in the place of SLURM's, of which sbatch keeps what it is given: {stage: lines of #SBATCH}."""
    programs, given = tmp_path / "programs", tmp_path / "given"
    programs.mkdir()
    given.mkdir()
    keep = f'cp "$1" {given}/$(ls {given} | wc -l)\necho "Submitted batch job $(ls {given} | wc -l)"'
    for name, body in {"sbatch": keep, "srun": "", "scontrol": f'echo "$@" >> {tmp_path}/asked'}.items():
        (programs / name).write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    return lambda: dict(zip(slurm.NAMES, [path.read_text() for path in sorted(given.iterdir())], strict=True))


def options_of(script: str) -> list[str]:
    (words,) = zip(*(sbatch_words(line) for line in script.splitlines() if line.startswith("#SBATCH")), strict=True)
    return list(words)


def test_a_profile_says_what_the_site_wants_and_where_a_stage_differs(tmp_path, sbatch):
    path = tmp_path / "site.toml"
    path.write_text(
        'partition = "gpu"\ngpus = 1\nsetup = ["module load x"]\nextra = {constraint = "a100"}\n[probe]\ngpus = 0\n'
    )
    plan = planned(path)
    said = slurm.submit(plan, ["--track", "a b"], slurm.new_folder(tmp_path / "cache", plan))
    assert said[1] == "pretrain: job 2, 2 elements"
    pretrain, probe = (options_of(sbatch()[name]) for name in ("pretrain", "probe"))
    wanted = ["--partition=gpu", "--gpus-per-node=1", "--constraint=a100", "--array=0-1%2", "--requeue"]
    assert {*wanted, "--dependency=afterok:1", "--kill-on-invalid-dep=yes"} <= set(pretrain)
    assert "--dependency=aftercorr:2" in probe
    assert not any(option.startswith("--gpus-per-node") for option in probe)
    assert "\nmodule load x\n" in sbatch()["pretrain"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("partitoin = 'x'", "unknown key 'partitoin'"),
        ("cpus = 'four'", "cpus = 'four'; expected something like 4"),
        ("minutes = -1", "minutes = -1"),
        ("[probe]\ngpu = 1", "unknown key 'gpu'"),
        ("cpus = ", "not a readable profile"),
    ],
)
def test_a_wrong_profile_is_one_clear_line(tmp_path, text, said):
    path = tmp_path / "site.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match=said):
        slurm.profiles(path)


@pytest.mark.parametrize("value", HOSTILE)
def test_options_and_arguments_reach_a_job_as_they_were_meant(tmp_path, value, sbatch):
    from submitit.core.utils import DelayedSubmission

    plan = [replace(one, profile=replace(one.profile, account=value, extra={"comment": value})) for one in planned()]
    folder = slurm.new_folder(tmp_path / "it's #1 & 2", plan)
    slurm.submit(plan, ["--data", value], folder)
    assert {f"--account={value}", f"--comment={value}"} <= set(options_of(sbatch()["prepare"]))
    work = DelayedSubmission.load(folder / "logs" / "2_1_submitted.pkl")
    assert work.function is slurm.work
    assert work.args == (["run", "--data", value, "--runs", "cccc,dddd", "--stage", "pretrain"],)
    assert "pretrain 1 2_1" in (folder / "ids").read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize(
    "text",
    [
        'account = "a\\nb"',
        'extra = {"a b" = "c"}',
        'extra = {comment = "a\\n#SBATCH --b"}',
        "[probe]\nextra = {'' = 'a'}",
        "account = 'a\\\\b'",
    ],
)
def test_a_profile_that_would_write_other_lines_is_refused(tmp_path, text):
    path = tmp_path / "site.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match="one word, its value one line"):
        slurm.profiles(path)


@pytest.mark.parametrize("name", ["50 % off", "back\\slash", "two\nlines"])
def test_a_folder_that_slurm_would_rename_is_refused(tmp_path, name):
    with pytest.raises(ValueError, match="set --cache"):
        slurm.new_folder(tmp_path / name, planned())
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("sbatch")
def test_a_job_asks_for_the_queue_only_as_often_as_it_may(monkeypatch, tmp_path):
    for name, value in {"SLURM_JOB_ID": "7", "SLURM_ARRAY_JOB_ID": "5", "SLURM_ARRAY_TASK_ID": "2"}.items():
        monkeypatch.setenv(name, value)
    assert slurm.requeue() == ""
    monkeypatch.setenv(slurm.REQUEUE, "3")
    assert slurm.requeue() == "job 5_2 queued again"
    assert (tmp_path / "asked").read_text() == "requeue 5_2\n"
    monkeypatch.setenv("SLURM_RESTART_COUNT", "3")
    assert "left stopped" in slurm.requeue()


def run(folder: Path, *more: str, environment: dict[str, str] | None = None) -> str:
    command = [sys.executable, "-m", "benchmark", "run", "--track", "smoke", "--modality", "histo", "--seeds", "1"]
    command += ["--pretext", "mae,ijepa", "--threads", "1", "--checkpoint-seconds", "0"]
    command += ["--results", f"{folder}/results", "--cache", f"{folder}/cache", "--boards", f"{folder}/boards", *more]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def until(what, seconds: float = 240.0):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := what():
            return found
        time.sleep(0.1)
    raise AssertionError("waited in vain")


TIMES = ["created", "seconds", "peak_memory_bytes"]


def same(one: Path, other: Path) -> None:
    """Both stores hold the same runs, cells and predictions, but for when and how fast."""
    for name in ("runs", "cells", "predictions"):
        a, b = (results.read(root, name).drop(columns=TIMES, errors="ignore") for root in (one, other))
        assert len(a) > 0
        assert a.equals(b), name


@pytest.fixture(scope="module")
def local(stores, tmp_path_factory):
    folder = tmp_path_factory.mktemp("local")
    shutil.copytree(stores, folder / "cache" / "stores")
    run(folder)
    return folder


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    if said := slurm_cluster.missing():
        pytest.skip(said)
    with slurm_cluster.cluster(tmp_path_factory.mktemp("slurm")) as environment:
        yield environment


@pytest.mark.slurm
def test_a_grid_through_slurm_with_a_job_preempted_equals_the_local_one(local, stores, cluster, tmp_path, monkeypatch):
    shutil.copytree(stores, tmp_path / "cache" / "stores")
    monkeypatch.setenv("SLURM_CONF", cluster["SLURM_CONF"])
    profile = tmp_path / "site.toml"
    profile.write_text("cpus = 1\nminutes = 20\nmemory_gb = 3\nat_once = 2\n")
    run(tmp_path, "--launch", "slurm", "--profile", str(profile), environment=cluster)
    (folder,) = slurm.submissions(tmp_path / "cache")
    until(lambda: list((tmp_path / "cache" / "checkpoints").glob("*/step-*")))
    running = [one for one in slurm.status(folder) if one.state == "RUNNING"]
    victim = next(one for one in running if list((tmp_path / "cache" / "checkpoints" / one.runs[0]).glob("step-*")))
    subprocess.run(["scancel", "--signal=USR1", victim.job], env=cluster, check=True)
    until(lambda: any("queued again" in log.read_text() for log in victim.logs))
    until(lambda: all(one.state in ("COMPLETED", "ended") for one in slurm.status(folder)))
    same(local / "results", tmp_path / "results")
    boards = [next((one / "boards").glob("*.csv")).read_text() for one in (local, tmp_path)]
    assert untimed(boards[0]) == untimed(boards[1])
    assert "nothing to do" in run(tmp_path, "--launch", "slurm", environment=cluster)
    assert not list((tmp_path / "cache" / "checkpoints").iterdir())


def untimed(text: str) -> list[dict]:
    import csv
    import io

    return [
        {name: value for name, value in row.items() if "second" not in name and "memory" not in name}
        for row in csv.DictReader(io.StringIO(text))
    ]


@pytest.mark.slurm
def test_what_is_cancelled_leaves_the_queue(cluster, tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_CONF", cluster["SLURM_CONF"])
    run(tmp_path, "--launch", "slurm", environment=cluster)
    (folder,) = slurm.submissions(tmp_path / "cache")
    elements = slurm.status(folder)
    assert {one.stage for one in elements} == {"prepare", "pretrain", "probe", "report"}
    only = [one for one in elements if one.stage == "probe"][:1]
    assert slurm.cancel(only) == 1
    place = elements.index(only[0])
    until(lambda: slurm.status(folder)[place].state not in slurm.WAITING)
    assert any(one.state in slurm.WAITING for one in slurm.status(folder))
    slurm.cancel(slurm.status(folder))
    until(lambda: not any(one.state in slurm.WAITING for one in slurm.status(folder)))
