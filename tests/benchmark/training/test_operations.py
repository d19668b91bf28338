"""What a step asks of a GPU, told without one: operations are counted, fake CUDA tensors refuse to be waited for."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
)
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from benchmark import registry, tracks
from benchmark.lab.speed import measure
from benchmark.parts import draws
from benchmark.pretexts._base import Pretext, Step
from benchmark.recipe import Recipe
from benchmark.training import data, modes, optimise
from benchmark.training.data import Batches

CPU = torch.device("cpu")
EVERY = (*registry.names("pretexts"), *(f"{name}:official" for name in measure.PRETEXTS))


class Counted(TorchDispatchMode):
    """Counts the operations that are dispatched, and those whose tensors lie on two devices: copies between them."""

    def __init__(self):
        super().__init__()
        self.operations, self.crossings = 0, []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        self.operations += 1
        places = {x.device.type for x in tree_leaves((args, kwargs, out)) if isinstance(x, torch.Tensor)}
        if len(places) > 1:
            self.crossings.append(str(function))
        return out


def batch(recipe: Recipe) -> tuple[Pretext, torch.Tensor, dict[str, torch.Tensor]]:
    images = measure.make_noise(8, recipe.stored_pixels)
    model = optimise.build_model(recipe, images)
    pixels, drawn, _ = Batches(images, recipe, model.draw, CPU)(0)
    return model, pixels, drawn


@pytest.mark.parametrize(("pretext", "most"), [("dinov3", 280), ("ijepa", 130), ("mae", 110)])
def test_operations_of_views(pretext, most):
    model, pixels, drawn = batch(measure.make_recipe("micro", pretext, batch=4))
    with Counted() as counted:
        model.views(pixels, drawn)
    assert 50 < counted.operations <= most


@pytest.mark.parametrize("pretext", registry.names("pretexts"))
@pytest.mark.parametrize("size", ["micro", "Ti"])
def test_one_parameter_group_for_each_decay_and_rate(pretext, size):
    model, *_ = batch(measure.make_recipe(size, pretext, batch=4))
    groups = optimise.parameter_groups(model)
    assert len(groups) == len({(group["decays"], group["rate"]) for group in groups})
    assert len(groups) <= 4
    trained = [p for p in model.parameters() if p.requires_grad]
    assert len(trained) == len({id(p) for group in groups for p in group["params"]})


# ---------------------------------------------------------------------------------------------- no waiting


@contextmanager
def on_fake_gpu(recipe: Recipe) -> Iterator[tuple[Pretext, torch.Tensor, dict[str, torch.Tensor]]]:
    """Model and batch as CUDA tensors without values: `.item()`, truth values, `nonzero` and boolean indices raise."""
    model, pixels, drawn = batch(recipe)

    def moved(x: torch.Tensor) -> torch.Tensor:
        return torch.empty(x.shape, dtype=x.dtype, device="cuda")

    before = torch.__future__.get_overwrite_module_params_on_conversion()
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    try:
        with FakeTensorMode():
            yield model._apply(moved), moved(pixels), {name: moved(value) for name, value in drawn.items()}
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(before)


def take_step(model: Pretext, optimiser: torch.optim.Optimizer, pixels: torch.Tensor, drawn: dict) -> Step:
    """As the training loop does between two log points, but for backward, which needs a device that is there."""
    optimise.set_schedules(optimiser, model, 0.5)
    step = model(model.views(pixels, drawn), 0.5)
    for parameter in model.parameters():
        parameter.grad = torch.empty_like(parameter) if parameter.requires_grad else None
    optimise.clip(model)
    optimiser.step()
    optimiser.zero_grad()
    model.after_step(0.5)
    return step


@pytest.mark.parametrize(
    ("pretext", "changes"),
    [
        *((pretext, {}) for pretext in EVERY),
        ("dinov3", {"centring": "mean"}),
        ("mae", {"target": "mean-kept"}),
        ("mae", {"target": "raw"}),
    ],
)
def test_no_step_waits_for_the_device_or_copies_to_it(pretext, changes):
    recipe = measure.make_recipe("micro", pretext, batch=4)
    recipe = replace(recipe, settings=replace(recipe.settings, **changes))
    with on_fake_gpu(recipe) as (model, pixels, drawn):
        optimiser = torch.optim.AdamW(optimise.parameter_groups(model), lr=1e-3, fused=True)
        take_step(model, optimiser, pixels, drawn)  # tables of positions go there in the first one
        with Counted() as counted:
            step = take_step(model, optimiser, pixels, drawn)
    assert counted.crossings == []
    assert counted.operations > 500
    assert step.loss.device.type == "cuda"


@pytest.mark.parametrize(
    ("wait", "error"),
    [
        (lambda x: x.sum().item(), DataDependentOutputException),
        (lambda x: bool(x.any()), DataDependentOutputException),
        (lambda x: x.nonzero(), DynamicOutputShapeException),
        (lambda x: x[x > 0], DynamicOutputShapeException),
    ],
)
def test_what_waits_is_found(wait, error):
    with FakeTensorMode(), pytest.raises(error):
        wait(torch.empty(3, device="cuda"))


def test_what_crosses_is_found():
    with FakeTensorMode(), Counted() as counted:
        torch.zeros(3).to("cuda")
    assert len(counted.crossings) == 1


# ------------------------------------------------------------------------------- one upload, a step ahead


def arrays() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "flags": rng.random((5, 3)) < 0.5,
        "index": rng.integers(0, 99, (4, 7)),
        "none": np.zeros((0, 9), np.float32),
        "bytes": rng.integers(0, 256, (2, 3, 3, 3), dtype=np.uint8),
        "turned": rng.random((3, 4), dtype=np.float32).T,
    }


def test_packed_arrays_come_back_as_they_were():
    given, packed = arrays(), draws.pack(arrays())
    found = packed.on(CPU)
    assert found.keys() == given.keys()
    for name, array in given.items():
        assert np.array_equal(found[name].numpy(), array), name
        assert torch.equal(draws.tensors(given)[name], found[name])
        assert found[name].untyped_storage().data_ptr() == packed.buffer.untyped_storage().data_ptr(), name


def test_packed_arrays_travel_in_one_copy():
    packed = draws.pack(arrays())
    mode = FakeTensorMode()
    buffer = mode.from_tensor(packed.buffer)
    with mode, Counted() as counted:
        found = packed._replace(buffer=buffer).on(torch.device("cuda"))
    assert {value.device.type for value in found.values()} == {"cuda"}
    assert counted.crossings == ["aten._to_copy.default"]


@pytest.mark.parametrize("pretext", measure.PRETEXTS)
def test_a_gpu_gets_the_same_batches_prepared_a_step_ahead_in_one_buffer(pretext, monkeypatch):
    """With memory that is not pinned and a CPU in the place of the GPU."""
    recipe = measure.make_recipe("nano", pretext)
    images = measure.make_noise(16, 32)
    model, copies, pack = optimise.build_model(recipe, images), [], draws.pack
    monkeypatch.setattr(data, "pack", lambda given, pinned: copies.append(pinned) or pack(given))
    plain, played = (Batches(images, recipe, model.draw, CPU) for _ in range(2))
    played.gpu, played.worker = True, data.ThreadPoolExecutor(1)
    for step in (0, 1, 2, 7):
        pixels, drawn, names = plain(step)
        there, moved, same = played(step)
        assert (names, drawn.keys()) == (same, moved.keys())
        assert torch.equal(pixels, there)
        assert all(torch.equal(drawn[name], moved[name]) for name in drawn)
        assert played.ahead[0] == step + 1
        played.ahead[1].result()
    assert copies == [True] * 6  # steps 0 to 3, then 7, which nobody foresaw, and 8


# --------------------------------------------------------------------------------------- modes of a step


def test_the_mode_of_a_run_follows_its_pixels_and_its_device():
    for pixels in (32, tracks.FP32_PIXELS):
        assert modes.choose(None, pixels, gpu=True) == modes.choose(None, pixels, gpu=False) == "eager"
        assert modes.choose("graphs", pixels, gpu=True) == "graphs"
        with pytest.raises(ValueError, match="their seeds are one row; leave COMPILE out"):
            modes.choose("1", pixels, gpu=True)
    assert modes.choose(None, 224, gpu=True) == modes.choose("1", 224, gpu=False) == "compiled"
    assert modes.choose(None, 224, gpu=False) == modes.choose("0", 224, gpu=True) == "eager"
    with pytest.raises(ValueError, match="COMPILE=yes: known are 0, 1, graphs"):
        modes.choose("yes", 224, gpu=True)
    with pytest.raises(ValueError, match="CUDA graphs need a GPU"):
        modes.choose("graphs", 224, gpu=False)
    with pytest.raises(ValueError, match="cut by MICRO"):
        modes.choose("graphs", 224, gpu=True, micro=8)


def test_a_run_is_stored_as_compiled_where_torch_wrote_its_kernels():
    stored = {(mode, pixels): modes.compiles(mode, pixels) for mode in modes.ASKED.values() for pixels in (64, 224)}
    assert {place for place, compiled in stored.items() if compiled} == {("compiled", 224), ("graphs", 224)}


@pytest.mark.parametrize("pretext", measure.PRETEXTS)
def test_a_step_prepared_for_graphs_is_bit_by_bit_the_eager_one(pretext):
    """Up to 64 pixels, where seeds from a GPU and from a processor are one row. On a CPU the graphs are made and not
    captured, so this holds the operations in them, not their replay."""
    recipe, images = measure.make_recipe("nano", pretext), measure.make_noise(16, 32)
    eager, graphs = (measure.make_trainer(recipe, images, CPU, mode) for mode in ("eager", "graphs"))
    for step in range(3):
        losses = [float(side.step(side.views(step))) for side in (eager, graphs)]
        assert losses[0] == losses[1]
    state = eager.model.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in graphs.model.state_dict().items())
