"""Each pretext as a model: where gradients go, what hidden pixels may influence, what the teacher does."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmark import augment, draws, masks, pretrain, registry, tracks
from benchmark.data import Batches, Images, positions
from benchmark.recipe import Corpus, Recipe

NAMES = registry.names("pretexts")
CORPUS = Corpus(name="phantom", members=(("noise", 1),), digest="0" * 12, images=96)


def recipe(pretext: str, **changes: object) -> Recipe:
    made = tracks.recipe("smoke", pretext, modality="histo", corpus=CORPUS, policy="none", seed=3)
    return replace(made, settings=made.settings | {"batch": 8}, **changes)


@pytest.fixture(scope="module")
def images() -> Images:
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (96, 8, 8, 3), dtype=np.uint8)
    pixels = coarse.repeat(4, axis=1).repeat(4, axis=2)
    return Images([f"noise/{i}" for i in range(96)], [pixels], np.stack([np.zeros(96, int), np.arange(96)], axis=1), ())


def views(pretext: str, images: Images, step: int = 0):
    made = recipe(pretext)
    torch.manual_seed(0)
    model = pretrain.build(made, images)
    pixels, drawn, _ = Batches(images, made, torch.device("cpu"))(step)
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
    first = pretrain.build(recipe("mae"), images).encoder.state_dict()
    other = pretrain.build(recipe(name), images).encoder.state_dict()
    assert all(torch.equal(first[key], other[key]) for key in first)


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


def test_mae_latents_do_not_see_hidden_pixels(images):
    model, seen = views("mae", images)
    mask = masks.random_tokens(seen["noise"], 0.75)
    latents = model.student(seen["images"], keep=mask.keep).patches
    hidden = torch.zeros(8, 16).scatter_(1, mask.hide, 1).reshape(8, 1, 4, 4)
    wide = hidden.repeat_interleave(8, 2).repeat_interleave(8, 3).bool()
    changed = torch.where(wide, 1 - seen["images"], seen["images"])
    assert torch.equal(model.student(changed, keep=mask.keep).patches, latents)
    assert model({"images": changed, "noise": seen["noise"]}, 0.5).loss != model(seen, 0.5).loss


def test_mae_loss_does_not_depend_on_the_order_of_visible_tokens(images):
    model, seen = views("mae", images)
    mask = masks.random_tokens(seen["noise"], 0.75)
    turned = mask.keep.flip(1)
    both = torch.cat([turned, mask.hide], dim=1)
    same = masks.RandomMask(turned, mask.hide, both.argsort(dim=1))
    outputs = [model.decode(*model.student(seen["images"], keep=m.keep), m) for m in (mask, same)]
    assert torch.allclose(*outputs, atol=1e-5)


def test_ijepa_blocks_are_predicted_apart(images):
    model, seen = views("ijepa", images)
    context = model.student(seen["images"], keep=seen["context"]).patches
    before = model.predicted(context, seen["context"], seen["targets"])
    other = seen["targets"].clone()
    other[:, 1] = other[:, 1].flip(1)
    after = model.predicted(context, seen["context"], other)
    rows = torch.arange(len(before)) % model.settings.targets != 1
    assert torch.equal(before[rows], after[rows])
    assert not torch.equal(before[~rows], after[~rows])


def test_ijepa_context_does_not_see_the_rest(images):
    model, seen = views("ijepa", images)
    inside = torch.zeros(8, 16).scatter_(1, seen["context"], 1).reshape(8, 1, 4, 4)
    wide = inside.repeat_interleave(8, 2).repeat_interleave(8, 3).bool()
    changed = torch.where(wide, seen["images"], 1 - seen["images"])
    same = model.student(changed, keep=seen["context"]).patches
    assert torch.equal(same, model.student(seen["images"], keep=seen["context"]).patches)


def test_dinov3_student_does_not_see_hidden_pixels_and_half_the_crops_are_masked(images):
    model, seen = views("dinov3", images)
    hidden = seen["hidden"]
    assert int(hidden.any(dim=1).sum()) == 8
    wide = hidden.reshape(16, 1, 4, 4).repeat_interleave(8, 2).repeat_interleave(8, 3)
    changed = torch.where(wide, 1 - seen["globals"], seen["globals"])
    options = {"hidden": hidden, "mask_token": model.mask_token}
    assert torch.equal(model.student(changed, **options).patches, model.student(seen["globals"], **options).patches)


def test_dinov3_prototypes_are_frozen_at_first(images):
    model, _ = views("dinov3", images)
    assert model.lr_scale("dino_head.last_layer.weight", 0.0) == 0.0
    assert model.lr_scale("dino_head.last_layer.weight", 0.5) == 1.0
    assert model.lr_scale("dino_head.mlp.0.weight", 0.0) == 1.0


def test_gram_term_is_late(images):
    made = recipe("dinov3")
    made = replace(made, settings=made.settings | {"gram_weight": 1.0})
    model = pretrain.build(made, images)
    pixels, drawn, _ = Batches(images, made, torch.device("cpu"))(0)
    seen = model.views(pixels, drawn)
    assert "gram" not in model(seen, 0.5).parts
    assert "gram" in model(seen, 0.9).parts


@pytest.mark.parametrize("name", NAMES)
def test_views_do_not_depend_on_the_number_of_processes(name, images):
    made = recipe(name)
    model = pretrain.build(made, images)
    whole = [Batches(images, made, torch.device("cpu"))(step=5)]
    halves = [Batches(images, made, torch.device("cpu"), rank, 2)(step=5) for rank in range(2)]
    assert whole[0][2] == halves[0][2] + halves[1][2]
    seen = model.views(*whole[0][:2])
    parts = [model.views(*half[:2]) for half in halves]
    for key, value in seen.items():
        crops = len(value) // 8
        pieces = [part[key].reshape(crops, 4, *value.shape[1:]) for part in parts]
        joined = torch.cat(pieces, dim=1).reshape(value.shape)
        assert torch.allclose(joined.float(), value.float(), atol=1e-6), key


def test_epochs_are_permutations():
    seen = [positions(1, step, 8, 20) for step in range(5)]
    first = np.concatenate([part for pieces in seen for epoch, part in pieces if epoch == 0])
    second = np.concatenate([part for pieces in seen for epoch, part in pieces if epoch == 1])
    assert sorted(first) == sorted(second) == list(range(20))
    assert first.tolist() != second.tolist()


def test_ultrasound_is_never_turned_upside_down_and_grey_stays_grey():
    keys = draws.text_keys([str(i) for i in range(64)])
    drawn = draws.Draws(keys, draws.text_keys(["step"]), 0, 64)
    bright_top = torch.zeros(64, 3, 32, 32)
    bright_top[:, :, :16] = 0.8
    seen = augment.view(bright_top, drawn, "x", modality="ultrasound", scale=(0.9, 1.0), pixels=32)
    assert (seen[:, :, :8].mean(dim=(1, 2, 3)) > seen[:, :, -8:].mean(dim=(1, 2, 3))).all()
    assert torch.equal(seen[:, 0], seen[:, 1])
    turned = augment.view(bright_top, drawn, "x", modality="histo", scale=(0.9, 1.0), pixels=32)
    assert (turned[:, :, :8].mean(dim=(1, 2, 3)) < turned[:, :, -8:].mean(dim=(1, 2, 3))).any()


def test_a_crop_of_the_whole_image_is_the_image():
    image = torch.rand(2, 3, 16, 16)
    box, straight = torch.tensor([[0.0, 0.0, 1.0, 1.0]] * 2), torch.eye(2).expand(2, 2, 2)
    assert torch.allclose(augment.crop(image, box, straight, 16), image, atol=1e-5)
    half = augment.crop(image, torch.tensor([[0.5, 0.0, 0.5, 0.5]] * 2), straight, 8)
    assert torch.allclose(half, image[:, :, :8, 8:], atol=1e-5)
