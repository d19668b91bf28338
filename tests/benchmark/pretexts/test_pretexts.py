"""Each pretext as a model: where gradients go, what hidden pixels may influence, what the teacher does."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmark import registry
from benchmark.lab import goldens
from benchmark.pretexts import dinov3
from benchmark.recipe import Recipe
from benchmark.training import health, optimise
from benchmark.training.data import Batches, Images, positions

NAMES = registry.names("pretexts")


def recipe(pretext: str, **changes: object) -> Recipe:
    return replace(goldens.recipe(pretext), **changes)


@pytest.fixture(scope="module")
def images() -> Images:
    return goldens.images()


def views(pretext: str, images: Images, step: int = 0):
    made = recipe(pretext)
    torch.manual_seed(0)
    model = optimise.build_model(made, images)
    pixels, drawn, _ = Batches(images, made, model.draw, torch.device("cpu"))(step)
    return model, model.views(pixels, drawn)


@pytest.mark.parametrize("name", NAMES)
def test_every_trained_parameter_gets_a_gradient_and_no_teacher_does(name, images):
    model, seen = views(name, images)
    step = model(seen, 0.5)
    step.loss.backward()
    for parameter, value in model.named_parameters():
        if value.requires_grad:
            assert value.grad is not None, parameter
            assert torch.isfinite(value.grad).all(), parameter
        if parameter.startswith("teacher"):
            assert value.grad is None, parameter
            assert not value.requires_grad
    assert torch.isfinite(step.loss)
    assert step.pooled.shape == (8, model.spec.width)


@pytest.mark.parametrize("name", NAMES)
def test_all_pretexts_start_from_the_same_encoder(name, images):
    first = optimise.build_model(recipe("mae"), images).encoder.state_dict()
    other = optimise.build_model(recipe(name), images).encoder.state_dict()
    assert all(torch.equal(first[key], other[key]) for key in first)


def test_curves_say_how_far_each_term_has_come(images):
    """What a board asks of a run: each term's share below what knows nothing, and the entropy of DINOv3's teacher."""
    expected = {
        "mae": {"loss below trivial"},
        "ijepa": {"loss below trivial", "between-image share of target variance"},
        "dinov3": {"dino below trivial", "ibot below trivial", "teacher entropy / ln K"},
    }
    for name in registry.defaults("pretexts"):
        model, seen = views(name, images)
        step = model(seen, 0.5)
        parts = {part: float(value) for part, value in step.parts.items()}
        told = parts | health.below_trivial(parts) | model.figures(dict(step.means))
        assert expected[name] <= told.keys()
        assert all(0 <= told[figure] <= 1.05 for figure in expected[name] if not figure.endswith("below trivial"))


@pytest.mark.parametrize("name", ["ijepa", "dinov3"])
def test_the_teacher_follows_the_student_after_the_step(name, images):
    model, _ = views(name, images)
    with torch.no_grad():
        for parameter in model.student.parameters():
            parameter += 1.0
    before = [p.clone() for p in model.teacher.parameters()]
    model.after_step(0.0)
    moved = [(p - b) for p, b in zip(model.teacher.parameters(), before, strict=True)]
    expected = 1 - model.settings.momentum
    assert all(torch.allclose(m, torch.full_like(m, expected), atol=1e-4) for m in moved)
    model.after_step(1.0)
    assert all(torch.allclose(p - b, m) for p, b, m in zip(model.teacher.parameters(), before, moved, strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_views_do_not_depend_on_the_number_of_processes(name, images):
    made = recipe(name)
    model = optimise.build_model(made, images)
    whole = [Batches(images, made, model.draw, torch.device("cpu"))(step=5)]
    halves = [Batches(images, made, model.draw, torch.device("cpu"), rank, 2)(step=5) for rank in range(2)]
    assert whole[0][2] == halves[0][2] + halves[1][2]
    seen = model.views(*whole[0][:2])
    parts = [model.views(*half[:2]) for half in halves]
    for key, value in seen.items():
        if key in dinov3.OF_TOKENS and name == "dinov3":
            continue  # follows from hidden
        crops = len(value) // 8
        pieces = [part[key].reshape(crops, 4, *value.shape[1:]) for part in parts]
        joined = torch.cat(pieces, dim=1).reshape(value.shape)
        assert torch.allclose(joined.float(), value.float(), atol=1e-6), key


@pytest.mark.parametrize("progress", [0.1, 0.9])
@pytest.mark.parametrize("name", NAMES)
def test_bf16_is_finite_and_near_fp32(name, progress, images):
    model, seen = views(name, images)
    full = model(seen, progress)
    with torch.autocast("cpu", torch.bfloat16):
        half = model(seen, progress)
    half.loss.backward()
    assert half.loss.item() == pytest.approx(full.loss.item(), rel=0.02)
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def test_epochs_are_permutations():
    images = Images([], [], np.zeros((20, 2), int), ())
    seen = [positions(images, 1, step, 8) for step in range(5)]
    first = np.concatenate([part for pieces in seen for epoch, part in pieces if epoch == 0])
    second = np.concatenate([part for pieces in seen for epoch, part in pieces if epoch == 1])
    assert sorted(first) == sorted(second) == list(range(20))
    assert first.tolist() != second.tolist()
