"""The command line as a whole: what `--help` shows and costs, and the words that scripts and the Makefile use."""

import resource
import subprocess
import sys

import pytest
import typer

from benchmark import __main__ as command_line

SHARED = "modality track pretext task probe seeds ceilings corpus policy precision runs grid data results cache"
OPTIONS = {
    "run": f"{SHARED} threads checkpoint-seconds skip-unreadable micro compile nodes node head gpus boards pack launch "
    "profile stage",
    "plan": f"{SHARED} gpus write",
    "probe": "encoder pretrained-on pixels modality track task data corpus policy results cache threads",
    "export": "results out",
    "maps": "task image anchor out data policy results cache",
    "views": "pretext track modality policy draws seed data out",
    "doctor": "data cache",
    "regression": "cache record",
    "reproduce": "published data cache threads",
    "tracks": "",
}


def cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def test_help_shows_thirteen_commands_in_under_a_second_of_processor_time():
    before = cpu_seconds()
    said = subprocess.run(
        [sys.executable, "-m", "benchmark", "--help"], capture_output=True, encoding="utf-8", check=True
    ).stdout
    assert cpu_seconds() - before < 1.0
    shown = {name for commands in command_line.PANELS.values() for name in commands}
    assert len(shown) <= 13
    assert all(f"│ {name} " in said for name in shown)
    assert all(panel in said for panel in command_line.PANELS)


@pytest.mark.parametrize("name", OPTIONS)
def test_a_command_takes_the_words_it_always_took(name):
    command = typer.main.get_command(command_line.app).commands[name]
    options = {word for option in command.params for word in option.opts if word.startswith("--")}
    assert options == {f"--{word}" for word in OPTIONS[name].split()}
