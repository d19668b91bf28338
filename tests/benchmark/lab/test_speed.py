"""What the speed benchmark times is the training loop's step and a fair other side; memory is as predicted."""

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from benchmark.cost import LIBRARIES_BYTES, peak_memory
from benchmark.lab.speed import measure, probing
from benchmark.lab.speed.__main__ import app
from benchmark.recipe import Runtime
from benchmark.training import loop, optimise

ROOT = Path(__file__).parents[3]
CPU = torch.device("cpu")
PRETEXTS = measure.PRETEXTS


@pytest.mark.parametrize("name", PRETEXTS)
def test_the_step_that_is_timed_is_the_step_of_the_training_loop(name, tmp_path):
    recipe = measure.make_recipe("nano", name)
    images = measure.make_noise(16, 32)
    place = Runtime(data=tmp_path, results=tmp_path, cache=tmp_path)
    trained = loop.train(recipe, place, images).model.state_dict()  # one step: its progress is a half
    ours = measure.make_trainer(recipe, images, CPU)
    ours.step(ours.views(0))
    for parameter, value in ours.model.state_dict().items():
        assert torch.equal(value, trained[parameter]), parameter


@pytest.mark.parametrize("name", PRETEXTS)
def test_the_other_side_trains_the_same_architecture_on_the_same_crops(name):
    baseline = pytest.importorskip("benchmark.lab.speed.baseline", reason="lightly is a development dependency")
    recipe = measure.make_recipe("nano", name)
    ours = measure.make_trainer(recipe, measure.make_noise(16, 32), CPU)
    other = baseline.make_trainer(recipe, CPU)
    batch = other.same(ours.views(0))
    before = [p.detach().clone() for p in other.trained]
    losses = [float(other.step(batch)) for _ in range(2)]
    assert torch.isfinite(torch.tensor(losses)).all()
    moved = sum(p.numel() for p, old in zip(other.trained, before, strict=True) if not torch.equal(p, old))
    count = sum(p.numel() for p in ours.model.parameters() if p.requires_grad)
    theirs = sum(p.numel() for p in other.trained)  # mask tokens and lengths of prototypes differ from ours
    assert theirs == pytest.approx(count, rel=0.02)
    assert moved == pytest.approx(theirs, rel=0.02)


@pytest.mark.parametrize("name", PRETEXTS)
def test_both_sides_race_from_files_and_their_ratio_is_printed(name):
    """Not at the smallest size: lightly's masks do not fit on a grid of 4 x 4."""
    pytest.importorskip("benchmark.lab.speed.baseline", reason="lightly is a development dependency")
    options = ["--workers", "0", "--rounds", "1", "--steps", "2", "--side", "64", "--batch", "4"]
    done = CliRunner().invoke(app, ["compare", "--size", "micro", "--pretext", name, *options])
    assert done.exit_code == 0, done.output
    row = r"\s+[\d,]+\s+[\d,]+\s+\d+\.\d\d"
    assert re.search(rf"micro +{name} +step{row}", done.output), done.output
    assert re.search(rf"micro +{name} +pipeline{row} +\d+\.\d\d", done.output), done.output


def test_without_lightly_the_extra_is_named():
    code = (
        "import sys; sys.modules['lightly'] = None; sys.argv = ['speed', 'compare']\n"
        "from benchmark.lab.speed.__main__ import app; app()"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert 'pip install "pretext-bench[dev]"' in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("name", PRETEXTS)
def test_predicted_activations_are_those_that_backward_keeps(name):
    """The slope of the formula over the batch, against the bytes that autograd saves."""
    recipe = measure.make_recipe("micro", name, batch=8)
    double = replace(recipe, settings=replace(recipe.settings, batch=16))
    predicted = (peak_memory(double) - peak_memory(recipe)) / 8
    ours = measure.make_trainer(recipe, measure.make_noise(8, 64), CPU)
    weights = {p.untyped_storage().data_ptr() for p in ours.model.parameters()}
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.untyped_storage().data_ptr() not in weights:
            kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    views = ours.views(0)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        step = ours.model(views, 0.5)
    assert step.loss.requires_grad
    assert predicted == pytest.approx(sum(t.untyped_storage().nbytes() for t in kept.values()) / 8, rel=0.1)


@pytest.mark.parametrize("name", PRETEXTS)
def test_predicted_weights_are_those_of_the_model(name):
    recipe = measure.make_recipe("Ti", name, batch=256)
    double = replace(recipe, settings=replace(recipe.settings, batch=512))
    predicted = 2 * peak_memory(recipe) - peak_memory(double) - LIBRARIES_BYTES
    model = optimise.build_model(recipe, measure.make_noise(2, 256))
    held = sum(p.numel() * (16 if p.requires_grad else 4) for p in model.parameters())
    assert predicted == pytest.approx(held, rel=0.1)


def test_peak_memory_is_within_a_fifth_of_the_prediction():
    command = [sys.executable, "-m", "benchmark.lab.speed", "memory", "--only", "Ti/dinov3", "--batch", "2"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert float(done.stdout.split("ratio")[1]) == pytest.approx(1, abs=0.2), done.stdout


def test_probing_is_measured_by_the_code_of_a_run_and_extrapolated():
    options = ["--probe", "linear,knn", "--readout", "patches", "--shares", "1/1024,1/512"]
    done = CliRunner().invoke(app, ["probing", *options])
    assert done.exit_code == 0, done.output
    for probe in ("linear", "knn"):
        assert re.search(rf"{probe} +patches +640 images: +\d+\.\d s to fit and ask", done.output), done.output
        assert re.search(rf"{probe} +patches +grows as images\^-?\d\.\d\d; all of PCam: [\d,]+ s", done.output), (
            done.output
        )


@pytest.mark.parametrize(("probe", "power", "expected"), [("knn", 1.5, 2), ("linear", 1.0, 1), ("linear", 1.3, 1.3)])
def test_time_is_extrapolated_by_what_was_measured_or_the_method_whichever_is_more(probe, power, expected):
    images = [327_680 // 32, 327_680 // 16, 327_680 // 8]
    costs = [probing.Cost(n, (n / 1000) ** power, 0.0, 10**9 + 1000 * n) for n in images]
    whole = probing.extrapolate(probe, costs)
    assert whole.exponent == pytest.approx(power)
    assert whole.seconds == pytest.approx(costs[-1].fitted * 8**expected)
    assert whole.peak == pytest.approx(10**9 + 1000 * 327_680)
