"""The speed table of `make gpu`: every mode a row, what fails too, and the aims beside the figures."""

import pytest
import torch

from benchmark.lab.gpu import __main__ as command
from benchmark.lab.gpu import speed, timebox
from benchmark.lab.gpu.speed import Timed
from benchmark.lab.speed import measure

GOOD = {
    "batch": 256,
    "precision": "bf16",
    "ms a step": 7.0,
    "images/s": 1000.0,
    "TFLOP/s": 350.0,
    "MFU": 0.36,
    "MFU of the step": 0.37,
    "data share": 0.02,
    "memory GB": 14.0,
    "warm-up s": 60.0,
    "product TFLOP/s": 775.0,
    "peak": "989 TFLOP/s, as its maker states",
}


def row(piece: str, result: dict, commit: str = "c" * 40) -> dict:
    return {"piece": piece, "result": result, "commit": commit}


def test_the_table_is_of_all_sizes_compiled_and_of_two_in_the_other_modes():
    names = [piece.name for piece in command.list_measurements(dry=False) if piece.name.startswith("speed/")]
    assert {tuple(name.split("/")[1:3]) for name in names} == {
        *((size, "compiled") for size in ("Ti", "S", "B")),
        *((size, mode) for size in ("micro", "B") for mode in ("eager", "graphs")),
    }
    assert len(names) == 7 * 3 == len(set(names))
    assert all("graphs" in name for name in names[-6:])


@pytest.mark.parametrize(
    ("size", "pretext", "changes", "said"),
    [
        ("B", "mae", {}, "MFU ≥ 35% met, data < 3% met"),
        ("B", "dinov3", {"MFU": 0.329}, "MFU ≥ 33% MISSED, data < 3% met"),
        ("S", "ijepa", {"MFU": 0.2, "data share": 0.03}, "MFU ≥ 20% met, data < 3% MISSED"),
        ("Ti", "mae", {"MFU": 0.09}, "MFU ≥ 10% MISSED, data < 3% met"),
        ("micro", "mae", {"data share": 0.09}, "≤ 8 ms met, data < 10% met"),
        ("micro", "ijepa", {"ms a step": 10.1}, "≤ 10 ms MISSED, data < 10% met"),
        ("micro", "dinov3", {"ms a step": 20.0}, "≤ 20 ms met, data < 10% met"),
        ("B", "mae", {"batch": 128}, "aims are of batch 256"),
        ("nano", "mae", {}, ""),
    ],
)
def test_aims_are_met_or_missed(size, pretext, changes, said):
    assert speed.judge_aims(size, pretext, GOOD | changes) == said


def test_the_page_has_a_row_for_every_mode_and_says_what_failed(tmp_path):
    about = {"gpu": "NVIDIA H100", "driver": "580.1", "cuda": "13.0", "versions": {"torch": "2.11.0", "python": "3.12"}}
    rows = [
        row("environment", about),
        row("speed/B/compiled/mae", GOOD, "d" * 40),
        row(
            "speed/micro/eager/mae", GOOD | {"precision": "fp32", "peak": "50 TFLOP/s, a matrix product measured here"}
        ),
        row("speed/nano/graphs/mae", {"skipped": "CUDA graphs need a GPU"}),
    ]
    failed = {"speed/B/graphs/mae": "RuntimeError: capture | of\na graph", "agreement/mae": "no"}
    speed.write_page(rows, failed, tmp_path / "speed.md")
    first, *_ = lines = (tmp_path / "speed.md").read_text().splitlines()
    for word in ("NVIDIA H100", "driver 580.1", "torch 2.11.0", "CUDA 13.0", f"commit {'c' * 12}, commit {'d' * 12}"):
        assert word in first
    table = [text for text in lines if text.startswith("|")]
    assert len({text.count("|") for text in table}) == 1
    assert [text.split(" | ")[:3] for text in table[2:]] == [
        ["| nano", "mae", "graphs"],
        ["| micro", "mae", "eager"],
        ["| B", "mae", "compiled"],
        ["| B", "mae", "graphs"],
    ]
    assert "| 256 | 7.0 | 1,000 | 350.0 | 36.0% | 37.0% | 2.0% | 14.0 | 60 | MFU ≥ 35% met" in table[4]
    assert "failed: RuntimeError: capture / of a graph |" in table[5]
    assert "MFU in bf16: share of 989 TFLOP/s, as its maker states." in lines
    assert "MFU in fp32: share of 50 TFLOP/s, a matrix product measured here." in lines


def test_a_mode_that_fails_is_a_row_with_its_error_and_stops_nothing(tmp_path, monkeypatch):
    def ours(recipe, images, device, mode):
        if mode == "compiled":
            raise RuntimeError("no compiler")
        return measure.Trainer(None, lambda number: {}, lambda views: None)

    monkeypatch.setattr(measure, "make_trainer", ours)
    monkeypatch.setattr(measure, "measure_product", lambda *_: 1e12)
    monkeypatch.setattr(command, "list_environment", lambda: timebox.Piece("environment", 1, dict))
    kept = [piece for piece in command.list_measurements(dry=True) if piece.name.startswith("speed/nano")]
    monkeypatch.setattr(command, "list_measurements", lambda dry: iter(kept))
    said = []
    places = [tmp_path / name for name in ("data", "out", "results", "cache")]
    assert command.go(timebox.Setup(*places, dry=True), 1000, said.append) == ["speed/nano/compiled/mae"]
    page = (tmp_path / "out" / "speed.md").read_text()
    assert "failed: RuntimeError: no compiler" in page
    assert page.count("| eager | 8 |") == 3
    assert any("speed/nano/compiled/mae" in text and "FAILED" in text for text in said)


def test_the_batch_is_halved_until_it_fits(monkeypatch):
    tried = []

    def timed(recipe, device, mode, block) -> Timed:
        tried.append(recipe.settings.batch)
        if tried[-1] > 2:
            raise torch.cuda.OutOfMemoryError("too large")
        return Timed(0.2, 0.15, 1.0)

    monkeypatch.setattr(speed, "_time_steps", timed)
    monkeypatch.setattr(measure, "measure_product", lambda *_: 1e12)
    found = speed.measure_speed("nano", "eager", "mae", 8)
    assert tried == [8, 4, 2]
    assert (found["batch"], found["ms a step"], found["images/s"]) == (2, 200, 10)
    assert found["data share"] == pytest.approx(0.25)
    assert found["MFU of the step"] == pytest.approx(found["MFU"] / 0.75)
    tried.clear()
    monkeypatch.setattr(speed, "_time_steps", lambda *_: (_ for _ in ()).throw(torch.cuda.OutOfMemoryError("never")))
    with pytest.raises(torch.cuda.OutOfMemoryError):
        speed.measure_speed("nano", "eager", "mae", 2)


def test_steps_are_timed_as_in_training_one_after_the_other(monkeypatch):
    asked = []
    monkeypatch.setattr(
        measure,
        "make_trainer",
        lambda *_: measure.Trainer(None, lambda number: asked.append(number) or {}, lambda views: None),
    )
    monkeypatch.setattr(measure, "alternate", lambda whole, alone, **_: [whole(), alone()] and [2.0, 1.0])
    found = speed._time_steps(measure.make_recipe("nano", "mae"), torch.device("cpu"), "eager", 1e-3)
    assert asked == list(range(len(asked)))
    count = len(asked) - speed.WARM - 2
    assert count >= 2
    assert found[:2] == (2.0 / count, 1.0 / count)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_product_is_of_the_precision_that_is_asked_for(dtype, monkeypatch):
    clock, made = iter([0.0, 9.0, 10.0, 12.0, 20.0, 21.0, 30.0, 33.0]), []
    drawn = torch.randn
    monkeypatch.setattr(
        measure.torch, "randn", lambda *size, **kind: made.append(kind["dtype"]) or drawn(*size, **kind)
    )
    assert measure.measure_product(torch.device("cpu"), dtype, lambda: next(clock), side=8) == 2 * 8**3 / 1
    assert made == [dtype] * 2
