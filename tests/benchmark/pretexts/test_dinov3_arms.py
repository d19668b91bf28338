"""DINOv3: its arms, what they cost, and the crops and colours that they see."""

import math
from dataclasses import asdict, replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmark import registry, tracks
from benchmark.encoders.encoder import Encoder
from benchmark.parts import augment, draws, flops
from benchmark.pretexts import dinov3
from benchmark.training import optimise
from benchmark.training.data import Batches
from tests.benchmark.pretexts.test_pretexts import recipe
from tests.helpers.seen import views
from tests.parity import shake

ARMS = ("", "official", "native", "dino", "gram")


@pytest.fixture
def colours(monkeypatch):
    """Calls of ImageNet's colour policy, which here changes nothing."""
    calls = []

    def apply(policy, crops, drawn, purpose, fuse):
        calls.append((purpose, crops.shape[-1], policy.blur, policy.solarise))
        return crops

    monkeypatch.setattr(augment.Imagenet, "apply", apply)
    return calls


def build(images, arm="", **changes):
    made = recipe(f"dinov3:{arm}" if arm else "dinov3")
    made = replace(made, settings=replace(made.settings, **changes))
    model = optimise.build_model(made, images)
    return model, model.views(*Batches(images, made, model.draw, torch.device("cpu"))(0)[:2])


def test_the_recommended_settings_stand():
    micro, base = (registry.settings("dinov3", spec) for spec in (tracks.MICRO, tracks.BASE))
    shared = {"weight_decay": 0.04, "end_weight_decay": 0.4, "clip": 3.0, "beta2": 0.999}
    shared |= {"ibot_weight": 1.0, "koleo_weight": 0.1, "gram_weight": 0.0, "freeze_last_layer": 0.01}
    shared |= {"layer_decay": 1.0, "patch_embed_rate": 1.0, "head_spread": None, "imagenet_blur": None, "arm": ""}
    small = {"local_crops": 4, "local_pixels": 24, "prototypes": 64, "centring": "mean"}
    large = {"local_crops": 8, "local_pixels": 96, "prototypes": 8192, "centring": "sinkhorn"}
    assert shared.items() | small.items() <= asdict(micro).items()
    assert shared.items() | large.items() <= asdict(base).items()
    assert dinov3.GLOBALS * micro.batch >= micro.prototypes, "fewer cls tokens than Sinkhorn-Knopp has prototypes"
    model = dinov3.Model(micro, Encoder(tracks.MICRO, seed=0), "histo", seed=0)
    assert {model.lr_scale(model.rate_group(name), 0.5) for name, _ in model.named_parameters()} == {1.0}


def test_the_official_arm_is_the_repository_recipe_at_our_batch():
    made = registry.settings("dinov3:official", tracks.BASE)
    assert made.lr == pytest.approx(1e-3 * 4 * math.sqrt(made.batch / 1024)) == 2e-3
    expected = {
        "horizon": None,
        "momentum": 0.992,
        "layer_decay": 0.9,
        "patch_embed_rate": 0.2,
        "prototypes": 65536,
        "head_width": 2048,
        "bottleneck": 256,
        "local_crops": 8,
        "local_pixels": 96,
        "global_scale": (0.32, 1.0),
        "local_scale": (0.05, 0.32),
        "teacher_temperature": (0.04, 0.07),
        "clip": 3.0,
        "freeze_last_layer": 0.01,
        "warmup": 0.1,
        "end_lr": 1e-6,
        "imagenet_blur": dinov3.INVERTED_BLUR,
    }
    assert expected.items() <= asdict(made).items()
    small = registry.settings("dinov3:official", tracks.MICRO)
    assert (small.prototypes, small.centring) == (64, "sinkhorn")


def test_the_authors_trunk_is_part_of_the_recipe():
    trunks = {arm: recipe(f"dinov3:{arm}" if arm else "dinov3").encoder.trunk for arm in ARMS}
    assert trunks == {"": "common", "official": "rope", "native": "rope", "dino": "common", "gram": "common"}
    assert replace(recipe("dinov3").settings, arm="native") == recipe("dinov3:native").settings


@pytest.mark.parametrize("arm", ARMS)
def test_flops_of_a_training_step_equal_the_counter(arm, images, colours):
    """Forward and backward, but for the gradient that pixels do not need; losses are not counted."""
    model, seen = build(images, arm, gram_start=0.0)
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(seen, 0.5).loss.backward()
    patches = 2 * dinov3.global_grid(model.settings, model.spec) ** 2 + model.settings.local_crops * 4
    formula = 8 * (dinov3.flops(model.settings, model.spec) - flops.patch_embed(patches, model.spec))
    assert counter.get_total_flops() == pytest.approx(formula, rel=0.003)


@pytest.mark.parametrize("arm", ARMS)
def test_forward_flops_equal_the_counter(arm, images, colours):
    """Exactly, once the matrix products of the losses are taken off: pairs of crops, neighbours, similarities."""
    model, seen = build(images, arm, gram_start=0.0)
    s, spec = model.settings, model.spec
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(seen, 0.5)
    pairs = 2 * (2 + s.local_crops) * 2 * 8 * s.prototypes
    neighbours = 2 * 2 * 8 * 8 * spec.width
    patches = dinov3.global_grid(s, spec) ** 2
    whole = flops.encode(spec, patches=patches)
    once = 8 * 2 * (whole + flops.linear(patches, spec.width, patches) * 2) if s.gram_weight else 0
    trained_once = replace(s, gram_weight=0.0)
    teacher = 2 * whole + head_flops(s, spec) * (2 + dinov3.hidden_per_image(s, spec))
    student = (dinov3.flops(trained_once, spec) - teacher) / 3
    assert counter.get_total_flops() == pytest.approx(8 * (teacher + student) + once + pairs + neighbours, rel=1e-12)


def head_flops(s, spec):
    sides = (spec.width, s.head_width, s.head_width, s.bottleneck, s.prototypes)
    return sum(flops.linear(1, *pair) for pair in pairwise(sides))


def test_global_crops_can_be_smaller_than_what_probes_read(images):
    model, seen = build(images, global_pixels=24)
    assert seen["globals"].shape == (16, 3, 24, 24)
    assert seen["hidden"].shape == (16, 9)
    assert model(seen, 0.5).pooled.shape == (8, model.spec.width)
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(seen, 0.5).loss.backward()
    formula = dinov3.flops(model.settings, model.spec) - flops.patch_embed(2 * 9 + 4 * 4, model.spec)
    assert counter.get_total_flops() == pytest.approx(8 * formula, rel=0.003)


def test_the_dino_arm_has_no_masks_no_mask_token_and_no_ibot_head(images):
    model, seen = build(images, "dino")
    assert set(seen) == {"globals", "locals"}
    assert not [name for name in model.state_dict() if "ibot" in name or "mask" in name]
    shake(model)
    parts = model(seen, 0.5).parts
    assert set(parts) == {"dino", "trivial dino", "koleo", "teacher entropy / ln K", "loss"}
    assert parts["loss"].item() == pytest.approx((parts["dino"] + 0.1 * parts["koleo"]).item(), rel=1e-6)
    full, both = build(images)
    shake(full)
    both["hidden"] = torch.zeros_like(both["hidden"])
    assert torch.equal(both["globals"], seen["globals"])
    full.student.load_state_dict(model.student.state_dict())
    full.dino_head.load_state_dict(model.dino_head.state_dict())
    assert full(both, 0.5).parts["dino"].item() == pytest.approx(parts["dino"].item(), rel=1e-6)


@pytest.mark.parametrize(("arm", "whole", "count", "side"), [("", 24, 4, 16), ("official", 32, 8, 16)])
def test_crops_have_their_number_size_and_scale(arm, whole, count, side, images, colours, monkeypatch):
    boxes, seen_boxes = augment.boxes, {}

    def spy(draws, purpose, *given):
        seen_boxes[purpose] = boxes(draws, purpose, *given)
        return seen_boxes[purpose]

    monkeypatch.setattr(augment, "boxes", spy)
    _, seen = build(images, arm)
    assert seen["globals"].shape == (16, 3, whole, whole)
    assert seen["locals"].shape == (count * 8, 3, side, side)
    assert {name: box.shape for name, box in seen_boxes.items()} == {"globals": (8, 2, 4), "locals": (8, count, 4)}
    for name, box in seen_boxes.items():
        low, high = (0.32, 1.0) if name == "globals" else (0.05, 0.32)
        found = box[..., 2] * box[..., 3]
        assert (found <= high + 1e-5).all()
        assert (found >= low * (0.85 if name == "globals" else 1) - 1e-5).all()  # sides are cut to the image
    every = np.concatenate([box.reshape(-1, 4) for box in seen_boxes.values()])
    assert len(np.unique(every, axis=0)) == 8 * (2 + count)


def test_the_official_arm_blurs_as_the_released_models_did(images, colours):
    """The authors' code hands 1 - p to the random blur: nominally 1.0, 0.1 and 0.5."""
    build(images, "official")
    assert colours == [("globals", 32, (0.0, 0.9), (0.0, 0.2)), ("locals", 16, (0.5,) * 8, (0.0,) * 8)]
    colours.clear()
    build(images)
    assert not colours


def test_official_crops_are_flipped_left_right_and_never_turned(colours):
    made = registry.settings("dinov3:official", tracks.NANO)
    model = dinov3.Model(made, Encoder(tracks.NANO, seed=0), "other", seed=0)
    corner = torch.zeros(64, 32, 32, 3, dtype=torch.uint8)
    corner[:, :16], corner[:, :16, :16] = 100, 255
    keys = draws.text_keys([str(i) for i in range(64)])
    crops = views(model, corner, draws.Draws(keys, draws.text_keys(["s"]), 0, 64))
    top, bottom = crops["globals"][:, :, :8].mean((1, 2, 3)), crops["globals"][:, :, -8:].mean((1, 2, 3))
    left, right = crops["globals"][..., :8].mean((1, 2, 3)), crops["globals"][..., -8:].mean((1, 2, 3))
    assert (top >= bottom).all()
    assert 0.3 < (left > right).float().mean() < 0.7


def test_official_crops_are_images(images):
    _, seen = build(images, "official")
    for crops in (seen["globals"], seen["locals"]):
        assert crops.min() >= 0
        assert crops.max() <= 1
        assert crops.std() > 0.05


def test_only_the_gram_arm_keeps_a_third_encoder(images):
    for arm in ARMS:
        model = optimise.build_model(recipe(f"dinov3:{arm}" if arm else "dinov3"), images)
        assert any("gram" in name for name in model.state_dict()) == (arm == "gram")
