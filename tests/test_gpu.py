"""The script for a GPU machine: resumable, never late, plain about what is not there."""

import importlib.metadata
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import typer
from typer.testing import CliRunner

from benchmark import gpu, results
from tasks.phantoms import scenes

ROOT = Path(__file__).parent.parent


def setup(folder: Path) -> gpu.Setup:
    return gpu.Setup(folder / "data", folder / "out", folder / "results", folder / "cache", dry=True)


def command(*arguments: str):
    app = typer.Typer()
    app.command()(gpu.main)
    return CliRunner().invoke(app, list(arguments))


def noted(folder: Path) -> list[str]:
    return [row["piece"] for row in gpu.finished(folder / "out" / "pieces.jsonl")]


@pytest.fixture
def script(monkeypatch):
    """Fake pieces on a fake clock: name -> (guess, seconds it takes)."""
    clock = [0.0]
    monkeypatch.setattr(gpu.time, "monotonic", lambda: clock[0])

    def write(**wanted: tuple[float, float]) -> None:
        def run(seconds: float) -> dict:
            clock[0] += seconds
            return {}

        made = [gpu.Piece(n.replace("_", "/"), g, lambda s=s: run(s)) for n, (g, s) in wanted.items()]
        monkeypatch.setattr(gpu, "pieces", lambda setup, done: iter(made))

    return write


def test_a_dry_run_does_every_piece_and_a_second_call_none(tmp_path, monkeypatch):
    for split, patients in {"train": 24, "val": 8, "test": 12}.items():
        monkeypatch.setitem(scenes.PATIENTS, split, patients)
    places = [x for name in ("data", "out", "results", "cache") for x in (f"--{name}", str(tmp_path / name))]
    first = command("--dry", "--minutes", "60", *places)
    assert first.exit_code == 0, first.output
    names = noted(tmp_path)
    assert names[0] == "environment"
    assert {name.split("/")[0] for name in names} == {"environment", "agreement", "speed", "store", "board"}
    rows = {row["piece"]: row["result"] for row in gpu.finished(tmp_path / "out" / "pieces.jsonl")}
    for pretext in ("mae", "ijepa", "dinov3"):
        assert rows[f"agreement/{pretext}"]["agrees"]
        assert 0 < rows[f"speed/nano/{pretext}"]["MFU"] < 1
    board = next(result for name, result in rows.items() if name.startswith("board/"))
    stored = results.read(tmp_path / "results", "cells")
    assert board["status"] == "finished"
    assert len(board["scores"]) == (stored.headline & (stored.readout == "patches")).sum()
    again = command("--dry", "--minutes", "60", *places)
    assert again.exit_code == 0
    assert "s left" not in again.output
    assert noted(tmp_path) == names


def test_without_a_gpu_it_says_so_and_ends_with_one(tmp_path):
    done = command("--out", str(tmp_path / "out"))
    assert done.exit_code == 1
    assert "torch can use no GPU here" in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_piece_that_cannot_end_in_time_is_not_started(tmp_path, script):
    script(a=(10, 40), long=(50, 50), b=(10, 10))
    said = []
    assert gpu.go(setup(tmp_path), 60, said.append) == []
    assert noted(tmp_path) == ["a", "b"]
    assert "left for a later call: long, about 62 s" in said
    gpu.go(setup(tmp_path), 60, said.append)
    assert noted(tmp_path) == ["a", "b"]
    gpu.go(setup(tmp_path), 63, said.append)
    assert noted(tmp_path) == ["a", "b", "long"]


def test_finished_pieces_of_a_kind_replace_the_guess(tmp_path, script):
    names = {f"run_seed {seed}": (1, 30) for seed in range(3)}
    script(**names)
    gpu.go(setup(tmp_path), 50, print)
    assert noted(tmp_path) == ["run/seed 0"]
    gpu.go(setup(tmp_path), 80, print)
    assert noted(tmp_path) == ["run/seed 0", "run/seed 1", "run/seed 2"]


def test_a_failed_piece_takes_no_other_with_it_and_is_tried_again(tmp_path, monkeypatch):
    healthy = [False]

    def sick() -> dict:
        if not healthy[0]:
            raise ModuleNotFoundError("No module named 'kornia'", name="kornia")
        return {}

    made = [gpu.Piece("sick", 1, sick), gpu.Piece("well", 1, dict)]
    monkeypatch.setattr(gpu, "pieces", lambda setup, done: iter(made))
    said = []
    assert gpu.go(setup(tmp_path), 60, said.append) == ["sick"]
    assert any("carry its wheel: kornia" in line for line in said)
    assert noted(tmp_path) == ["well"]
    healthy[0] = True
    assert gpu.go(setup(tmp_path), 60, said.append) == []
    assert noted(tmp_path) == ["well", "sick"]


def test_a_line_that_a_killed_call_left_half_written_is_done_again(tmp_path, script):
    script(a=(1, 1), b=(1, 1))
    gpu.go(setup(tmp_path), 60, print)
    file = tmp_path / "out" / "pieces.jsonl"
    file.write_text(file.read_text()[:-20])
    assert noted(tmp_path) == ["a"]
    gpu.go(setup(tmp_path), 60, print)
    assert noted(tmp_path) == ["a", "b"]


def test_a_store_that_was_deleted_is_built_again(tmp_path):
    rows = [{"piece": "store/phantom/histo", "result": {"stores": ["gone"]}}, {"piece": "environment", "result": {}}]
    assert set(gpu.still(rows, tmp_path)) == {"environment"}
    (tmp_path / "stores" / "gone").mkdir(parents=True)
    assert set(gpu.still(rows, tmp_path)) == {"environment", "store/phantom/histo"}


def test_missing_packages_are_named_with_their_pins(monkeypatch):
    assert gpu.missing() == []
    known = importlib.metadata.version

    def version(name: str) -> str:
        if name in ("kornia", "datasets"):
            raise importlib.metadata.PackageNotFoundError(name)
        return known(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    pins = (ROOT / "constraints.txt").read_text()
    found = gpu.missing()
    assert [line.split("==")[0] for line in found] == ["datasets", "kornia"]
    assert all(f"\n{line}\n" in pins for line in found)


def test_it_starts_without_the_packages_that_such_machines_lack(tmp_path):
    code = (
        "import sys\nfor name in ('datasets', 'kornia', 'lightly', 'imagehash', 'defusedxml', 'openpyxl'):\n"
        "    sys.modules[name] = None\n"
        "from pathlib import Path\nfrom benchmark import gpu\n"
        f"top = Path({str(tmp_path)!r})\n"
        "failed = gpu.go(gpu.Setup(top / 'data', top / 'out', top / 'results', top / 'cache', True), 600, print)\n"
        "sys.exit(0 if 'agreement/mae' in failed and 'environment' not in failed else 1)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    assert "carry its wheel: kornia" in done.stdout


def test_agreement_is_a_relative_distance_and_can_fail():
    first = {"a": torch.tensor([3.0, 0.0]), "b": torch.tensor([4.0])}
    second = {"a": torch.tensor([3.0, 0.3]), "b": torch.tensor([4.4])}
    assert gpu.apart(first, first) == 0
    assert gpu.apart(first, second) == pytest.approx(0.1)
    good = dict.fromkeys(gpu.TOLERANCE, 0.0)
    assert gpu.agrees(good)
    for name, limit in gpu.TOLERANCE.items():
        assert not gpu.agrees(good | {name: 2 * limit})
        assert not gpu.agrees(good | {name: float("nan")})


def test_every_line_of_the_notes_stands_alone(tmp_path, script):
    script(a=(1, 2), b=(1, 3))
    gpu.go(setup(tmp_path), 60, print)
    lines = (tmp_path / "out" / "pieces.jsonl").read_text().splitlines()
    assert [json.loads(line)["seconds"] for line in lines] == [2, 3]
