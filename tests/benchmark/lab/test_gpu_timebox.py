"""The line of `make gpu`: resumable, never late, and what fails takes nothing with it."""

import json
from pathlib import Path

import pytest

from benchmark.lab.gpu import __main__ as command
from benchmark.lab.gpu import timebox
from benchmark.lab.gpu.timebox import Piece, Timebox
from tests.system.test_gpu import noted, setup


@pytest.fixture
def script(monkeypatch):
    """Fake measurements on a fake clock: name -> (guess, seconds it takes)."""
    clock = [0.0]
    monkeypatch.setattr(timebox.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(command, "list_environment", lambda: Piece("environment", 0, dict))

    def write(**wanted: tuple[float, float]) -> None:
        def run(seconds: float) -> dict:
            clock[0] += seconds
            return {}

        made = [Piece(n.replace("_", "/"), g, lambda s=s: run(s)) for n, (g, s) in wanted.items()]
        monkeypatch.setattr(command, "list_measurements", lambda dry: iter(made))

    return write


def names(folder: Path) -> list[str]:
    return [name for name in noted(folder) if name != "environment"]


def test_a_piece_that_cannot_end_in_time_is_not_started(tmp_path, script):
    script(a=(10, 40), long=(50, 50), b=(10, 10))
    said = []
    assert command.go(setup(tmp_path), 60, said.append) == []
    assert names(tmp_path) == ["a", "b"]
    assert "left for a later call: long, about 62 s" in said
    command.go(setup(tmp_path), 60, said.append)
    assert names(tmp_path) == ["a", "b"]
    command.go(setup(tmp_path), 63, said.append)
    assert names(tmp_path) == ["a", "b", "long"]


def test_finished_pieces_of_a_kind_replace_the_guess(tmp_path, script):
    script(**{f"warm_{number}": (1, 30) for number in range(3)})
    command.go(setup(tmp_path), 50, print)
    assert names(tmp_path) == ["warm/0"]
    command.go(setup(tmp_path), 80, print)
    assert names(tmp_path) == ["warm/0", "warm/1", "warm/2"]


def test_pieces_can_be_chosen_by_how_their_names_begin(tmp_path, script):
    script(one_mae=(1, 1), one_ijepa=(1, 1), other_mae=(1, 1), other_ijepa=(1, 1))
    command.go(setup(tmp_path), 60, print, only=("one/mae", "other"))
    assert names(tmp_path) == ["one/mae", "other/mae", "other/ijepa"]


def test_time_can_be_reserved_for_what_comes_after(tmp_path, script):
    work = Timebox(tmp_path, 100, print)
    work.do(Piece("a", 40, dict), reserved=51)
    assert list(work.waiting) == ["a"]
    work.do(Piece("a", 40, dict), reserved=50)
    assert not work.waiting
    assert list(work.done) == ["a"]


def test_a_failed_piece_takes_no_other_with_it_and_is_tried_again(tmp_path, monkeypatch):
    healthy = [False]

    def sick() -> dict:
        if not healthy[0]:
            raise ModuleNotFoundError("No module named 'kornia'", name="kornia")
        return {}

    made = [Piece("sick", 1, sick), Piece("well", 1, dict)]
    monkeypatch.setattr(command, "list_measurements", lambda dry: iter(made))
    said = []
    assert command.go(setup(tmp_path), 60, said.append) == ["sick"]
    assert any("carry its wheel: kornia" in text for text in said)
    assert names(tmp_path) == ["well"]
    assert list(Timebox(tmp_path / "out", 60, print).errors) == ["sick"]
    healthy[0] = True
    assert command.go(setup(tmp_path), 60, said.append) == []
    assert names(tmp_path) == ["well", "sick"]
    assert not Timebox(tmp_path / "out", 60, print).errors


def test_a_line_that_a_killed_call_left_half_written_is_done_again(tmp_path, script):
    script(a=(1, 1), b=(1, 1))
    command.go(setup(tmp_path), 60, print)
    file = tmp_path / "out" / "pieces.jsonl"
    file.write_text(file.read_text()[:-20])
    assert names(tmp_path) == ["a"]
    command.go(setup(tmp_path), 60, print)
    assert names(tmp_path) == ["a", "b"]


def test_another_device_is_measured_anew_and_its_times_are_not_estimates(tmp_path, monkeypatch):
    for device, seconds in (("one", 5.0), ("other", 7.0)):
        monkeypatch.setattr(timebox.machine, "device_name", lambda d=device: d)
        work = Timebox(tmp_path, 60, print)
        assert work.done == {}
        assert work.estimate(Piece("speed/a", 3.0, dict)) == 3.0
        work.note("speed/a", "speed", seconds, {"of": device})
        assert work.done == {"speed/a": {"of": device}}
        assert work.estimate(Piece("speed/b", 3.0, dict)) == seconds


def test_every_line_of_the_notes_stands_alone(tmp_path, script):
    script(a=(1, 2), b=(1, 3))
    command.go(setup(tmp_path), 60, print)
    lines = (tmp_path / "out" / "pieces.jsonl").read_text().splitlines()
    assert [json.loads(text)["seconds"] for text in lines] == [0, 2, 3]
