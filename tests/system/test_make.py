"""What a user gives make reaches the command as it is, in every variable of every target; nothing else is run.

Every call names a PY and a PYTHON of the test, in a folder of the test: nothing is installed, and nothing here removed.
"""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from benchmark import __main__ as command_line

ROOT = Path(__file__).parents[2]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
HOSTILE = (
    "Crohn's disease",
    "a & touch made",
    "a; touch made",
    "$HOME $(HOME) ${HOME} $$",
    "$(shell touch made)",
    "`touch made` $$(touch made)",
    'say "touch made" | tee made > made',
    "--help",
    "~/x * ? [a] {a,b} !x #x %x",
    "ends in a backslash\\",
    "two  spaces, ümlaut, 图",
    "'",
)
SELECT = {
    "MODALITY": "--modality",
    "TRACK": "--track",
    "PRETEXT": "--pretext",
    "TASK": "--task",
    "GPUS": "--gpus",
    "DATA": "--data",
    "RESULTS": "--results",
    "SEEDS": "--seeds",
    "CEILINGS": "--ceilings",
    "CORPUS": "--corpus",
    "PROBE": "--probe",
    "POLICY": "--policy",
    "PRECISION": "--precision",
    "GRID": "--grid",
}
TARGETS = {
    "bench": SELECT
    | {
        "THREADS": "--threads",
        "MICRO": "--micro",
        "NODES": "--nodes",
        "NODE": "--node",
        "HEAD": "--head",
        "LAUNCH": "--launch",
        "PROFILE": "--profile",
        "PACK": "--pack",
    },
    "plan": SELECT,
    "data": {"TASK": "fetch", "DATA": "--data"},
    "doctor": {"DATA": "--data"},
    "verify": {"RESULTS": "--results"},
    "promote": {"RESULTS": "--results", "TRACK": "--track", "MODALITY": "--modality"},
    "export": {"RESULTS": "--results"},
    "calibrate": {"MODALITY": "--modality"},
    "gpu": {
        "MINUTES": "--minutes",
        "DATA": "--data",
        "RESULTS": "--results",
        "GRID": "--grid",
        "TASK": "--task",
        "PROBE": "--probe",
    },
}
PROGRAM = f"""#!{sys.executable}
import json, os, sys
kept = {{name: os.environ.get(name) for name in ("PRETEXT_BENCH_COMMAND", "CHROMIUM", "PRETEXT_BENCH_FUZZ")}}
print("called", json.dumps([sys.argv, kept]))
"""


@pytest.fixture
def program(tmp_path) -> Path:
    """Prints what it was called with; its own path is no plain word either."""
    path = tmp_path / "it's $HOME" / "a program"
    path.parent.mkdir()
    path.write_text(PROGRAM, encoding="utf-8")
    path.chmod(0o755)
    return path


@pytest.fixture
def make(tmp_path, program):
    folder = tmp_path / "folder"
    folder.mkdir()

    def call(target: str, variables: dict[str, str], expect: int = 0) -> list[tuple[list[str], dict]] | str:
        given = {"READY": "", "PY": str(program), "PYTHON": str(program)} | variables
        words = ["make", "-f", ROOT / "Makefile", target, *(f"{name}={value}" for name, value in given.items())]
        done = subprocess.run(words, cwd=folder, capture_output=True, encoding="utf-8", check=False)
        assert (done.returncode != 0) == bool(expect), done.stdout + done.stderr
        assert not (folder / "made").exists()
        lines = done.stdout.splitlines()
        called = [json.loads(line.removeprefix("called ")) for line in lines if line.startswith("called ")]
        return done.stderr if expect else called

    return call


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("value", HOSTILE)
def test_every_variable_of_a_target_arrives_as_it_was_given(target, value, make, program):
    variables = dict.fromkeys(TARGETS[target], value)
    ((argv, environment),) = make(target, variables)
    assert argv[0] == str(program)
    for option in TARGETS[target].values():
        assert argv[argv.index(option) + 1] == value
    assert sum(word == value for word in argv) == len(variables)
    if target == "bench":
        repeated = shlex.split(environment["PRETEXT_BENCH_COMMAND"])
        assert repeated[:2] == ["make", "bench"]
        assert {f"{name}={value}" for name in variables} < set(repeated)


@pytest.mark.parametrize("value", HOSTILE)
def test_variables_in_the_environment_of_a_command_arrive_too(value, make):
    assert make("test-browser", {"CHROMIUM": value})[-1][1]["CHROMIUM"] == value
    assert make("test-faults", {"FUZZ": value})[0][1]["PRETEXT_BENCH_FUZZ"] == value


def test_variables_may_come_from_the_environment_of_make(make, monkeypatch):
    monkeypatch.setenv("DATA", "$(shell touch made) Crohn's")
    ((argv, _),) = make("plan", {})
    assert argv[argv.index("--data") + 1] == "$(shell touch made) Crohn's"


def test_flags_are_given_only_where_they_are_asked_for(make):
    flags = {"SKIP_UNREADABLE": "--skip-unreadable"}
    ((argv, _),) = make("bench", dict.fromkeys(flags, "$(shell touch made)"))
    assert set(flags.values()) < set(argv)
    ((argv, _),) = make("bench", {})
    assert not set(flags.values()) & set(argv)


def test_a_grid_goes_without_the_default_track(make, monkeypatch):
    for variables, given in (({}, False), ({"TRACK": "laptop"}, True)):
        ((argv, _),) = make("bench", {"GRID": "runs.jsonl"} | variables)
        assert ("--track" in argv) == given
    monkeypatch.setenv("TRACK", "laptop")
    ((argv, _),) = make("plan", {})
    assert argv[argv.index("--track") + 1] == "laptop"


@pytest.mark.parametrize("name", [*SELECT, "PROFILE", "PYTHON", "VENV"])
def test_a_line_break_is_refused(name, make):
    assert f"{name} has a line break in it" in make("bench", {name: "a\ntouch made"}, expect=2)


@pytest.mark.parametrize("name", ["VENV", "READY"])
@pytest.mark.parametrize("value", ["my venv", "a;touch${IFS}made", "$(shell touch made)"])
def test_a_name_that_no_target_can_have_is_refused(name, value, make):
    assert name in make("clean", {name: value}, expect=2)


def test_another_environment_is_made_and_removed_by_its_name(tmp_path, make, program):
    folder = tmp_path / "folder"
    for needed in ("pyproject.toml", "constraints.txt", "benchmark/device/install.py"):
        (folder / needed).parent.mkdir(parents=True, exist_ok=True)
        (folder / needed).touch()
    for value in ("it's", "a&touch${IFS}made", "`touch${IFS}made`"):
        ((argv, _),) = make("setup", {"READY": f"{value}/.installed", "VENV": value})
        assert argv == [str(program), "benchmark/device/install.py", value]
        (folder / value / "bin").mkdir(parents=True)
        make("clean", {"VENV": value})
        assert not (folder / value).exists()


def test_no_recipe_lets_make_expand_what_a_user_gave():
    (names,) = re.findall(r"^NAMES := ((?:.*\\\n)*.*)$", MAKEFILE, re.MULTILINE)
    assert set(re.findall(r"\$\(([A-Z_]+)\)", MAKEFILE)) == {"RUN", "SELECT", "GIVEN", "NAMES", "PARALLEL"}
    used = set(re.findall(r"(?:value |call quoted,|call option,--[\w-]+,)([A-Z_]+)\)", MAKEFILE))
    assert used == set(names.replace("\\", " ").split())


@pytest.mark.parametrize("value", HOSTILE)
def test_the_command_to_go_on_with_may_be_pasted(value, monkeypatch, capsys):
    monkeypatch.setattr(command_line.stopping, "ignore", lambda: None)  # it would silence the signals of the tests
    monkeypatch.setattr(sys, "argv", ["benchmark", "run", "--data", value])
    monkeypatch.delenv("PRETEXT_BENCH_COMMAND", raising=False)
    command_line.end(KeyboardInterrupt())
    monkeypatch.setenv("PRETEXT_BENCH_COMMAND", shlex.join(["make", "bench", f"DATA={value}"]))
    command_line.end(KeyboardInterrupt())
    said = [line.partition("To go on: ")[2] for line in capsys.readouterr().err.splitlines() if line]
    expected = [["python", "-m", "benchmark", "run", "--data", value], ["make", "bench", f"DATA={value}"]]
    for command, words in zip(said, expected, strict=True):
        program, *arguments = shlex.split(command)
        printed = subprocess.run(
            ["sh", "-c", f"{program}() {{ printf '%s\\n' \"$@\"; }}; {command}"],
            capture_output=True,
            encoding="utf-8",
            check=True,
        )
        assert printed.stdout.splitlines() == arguments == words[1:]
