"""DINOv3: the arms, and what must hold of teacher, heads, crops, masks and schedules whatever is learnt."""

import math
import subprocess
import sys
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from torch.utils.flop_counter import FlopCounterMode

from benchmark import registry, tracks
from benchmark.encoders.encoder import Encoder
from benchmark.parts import augment, draws, flops, losses, mask_sizes
from benchmark.pretexts import dinov3
from benchmark.recipe import EncoderSpec
from benchmark.storage import checkpoint
from benchmark.training import health, optimise
from benchmark.training.data import Batches, Images
from tests.benchmark.pretexts.test_pretexts import images, recipe  # noqa: F401
from tests.helpers.seen import views
from tests.parity import det, shake

ROOT = Path(__file__).parents[3]
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


def build(images, arm="", **changes):  # noqa: F811
    made = recipe(f"dinov3:{arm}" if arm else "dinov3")
    made = replace(made, settings=replace(made.settings, **changes))
    model = optimise.build_model(made, images)
    return model, model.views(*Batches(images, made, model.draw, torch.device("cpu"))(0)[:2])


# The arms


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


@pytest.mark.parametrize("track", ["smoke", "demo", "1e16"])
@pytest.mark.parametrize("arm", ARMS[1:])
def test_every_track_pays_for_every_arm(track, arm):
    corpus = recipe("dinov3").corpus
    made = tracks.recipe(track, f"dinov3:{arm}", modality="histo", corpus=corpus, policy="none", seed=0)
    assert made.settings.arm == arm
    assert tracks.steps(made) > 5


def test_the_authors_trunk_is_part_of_the_recipe():
    trunks = {arm: recipe(f"dinov3:{arm}" if arm else "dinov3").encoder.trunk for arm in ARMS}
    assert trunks == {"": "common", "official": "rope", "native": "rope", "dino": "common", "gram": "common"}
    assert replace(recipe("dinov3").settings, arm="native") == recipe("dinov3:native").settings


@pytest.mark.parametrize("arm", ARMS)
def test_every_trained_parameter_of_every_arm_gets_a_gradient(arm, images, colours):  # noqa: F811
    model, seen = build(images, arm)
    step = model(seen, 0.9)
    step.loss.backward()
    for name, value in model.named_parameters():
        assert (value.grad is not None) == value.requires_grad, name
        assert value.requires_grad != ("teacher" in name), name
    assert torch.isfinite(step.loss)


@pytest.mark.parametrize("arm", ARMS)
def test_two_halves_of_a_batch_see_what_the_whole_batch_sees(arm, images, colours):  # noqa: F811
    made = recipe(f"dinov3:{arm}" if arm else "dinov3")
    model = optimise.build_model(made, images)
    whole = model.views(*Batches(images, made, model.draw, torch.device("cpu"))(step=5)[:2])
    halves = [
        model.views(*Batches(images, made, model.draw, torch.device("cpu"), rank, 2)(step=5)[:2]) for rank in range(2)
    ]
    of_crops = (name for name in whole if name not in dinov3.OF_TOKENS)
    for key, value in ((name, whole[name]) for name in of_crops):
        joined = torch.cat([half[key].unflatten(0, (-1, 4)) for half in halves], dim=1).flatten(0, 1)
        assert torch.allclose(joined.float(), value.float(), atol=1e-6), key


def one_step_of_every_arm() -> dict[str, torch.Tensor]:
    """Losses and gradients, late in training, over all processes of this world; and centres after the step."""
    options = DistributedDataParallelKwargs(broadcast_buffers=False)
    accelerator = Accelerator(cpu=True, kwargs_handlers=[options])
    pixels = np.random.default_rng(0).integers(0, 256, (96, 32, 32, 3), dtype=np.uint8)
    noise = Images(
        [f"noise/{i}" for i in range(96)], [pixels], np.stack([np.zeros(96, int), np.arange(96)], axis=1), ()
    )
    found = {}
    for arm in (*ARMS, "centred"):
        made = recipe(f"dinov3:{arm}" if arm in ARMS[1:] else "dinov3")
        model = optimise.build_model(centred(made) if arm == "centred" else made, noise)
        shake(model)
        batches = Batches(
            noise, made, model.draw, accelerator.device, accelerator.process_index, accelerator.num_processes
        )
        wrapped = accelerator.prepare(model)
        step = wrapped(model.views(*batches(2)[:2]), 0.9)
        accelerator.backward(step.loss)
        found[f"{arm} loss"] = accelerator.reduce(step.loss.detach(), "mean")
        found |= {f"{arm} {name}": p.grad for name, p in model.named_parameters() if p.grad is not None}
        model.after_step(0.9)
        found |= {f"{arm} {name}": value for name, value in model.state_dict().items() if "centre" in name}
    return found


def test_two_processes_equal_one_in_every_arm(tmp_path):
    script, out = tmp_path / "worker.py", tmp_path / "found.pt"
    script.write_text(
        "import sys; sys.path.insert(0, '.')\n"
        "import os, torch\n"
        "from tests.benchmark.pretexts.test_dinov3 import one_step_of_every_arm\n"
        "found = one_step_of_every_arm()\n"
        "if os.environ['RANK'] == '0': torch.save(found, sys.argv[1])\n"
    )
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    done = subprocess.run([*launch, script, out], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    one, two = one_step_of_every_arm(), torch.load(out)
    assert one.keys() == two.keys()
    assert all(one[f"centred {term}_centre.mean"].abs().min() > 0 for term in ("dino", "ibot"))
    for name, value in one.items():
        assert torch.allclose(two[name], value, rtol=1e-5, atol=1e-5), name


@pytest.mark.parametrize("arm", ARMS)
def test_flops_of_a_training_step_equal_the_counter(arm, images, colours):  # noqa: F811
    """Forward and backward, but for the gradient that pixels do not need; losses are not counted."""
    model, seen = build(images, arm, gram_start=0.0)
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(seen, 0.5).loss.backward()
    patches = 2 * dinov3.global_grid(model.settings, model.spec) ** 2 + model.settings.local_crops * 4
    formula = 8 * (dinov3.flops(model.settings, model.spec) - flops.patch_embed(patches, model.spec))
    assert counter.get_total_flops() == pytest.approx(formula, rel=0.003)


@pytest.mark.parametrize("arm", ARMS)
def test_forward_flops_equal_the_counter(arm, images, colours):  # noqa: F811
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


def test_global_crops_can_be_smaller_than_what_probes_read(images):  # noqa: F811
    model, seen = build(images, global_pixels=24)
    assert seen["globals"].shape == (16, 3, 24, 24)
    assert seen["hidden"].shape == (16, 9)
    assert model(seen, 0.5).pooled.shape == (8, model.spec.width)
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(seen, 0.5).loss.backward()
    formula = dinov3.flops(model.settings, model.spec) - flops.patch_embed(2 * 9 + 4 * 4, model.spec)
    assert counter.get_total_flops() == pytest.approx(8 * formula, rel=0.003)


def test_the_dino_arm_has_no_masks_no_mask_token_and_no_ibot_head(images):  # noqa: F811
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


# Optimisation


@pytest.fixture(scope="module")
def deep():
    """Twelve layers on the full 14 x 14 grid, at a width that costs nothing."""
    spec = EncoderSpec(width=32, depth=12, heads=2, patch=16, pixels=224)
    made = replace(registry.settings("dinov3:official", spec), batch=64)
    return dinov3.Model(made, Encoder(spec, seed=0), "histo", seed=0)


def test_layer_wise_learning_rates_of_twelve_layers(deep):
    trained = [name for name, value in deep.named_parameters() if value.requires_grad]
    found = {name: deep.lr_scale(deep.rate_group(name), 0.5) for name in trained}
    expected = {
        "mask_token": 0.254187,
        "student.vit.cls_token": 0.254187,
        "student.vit.patch_embed.proj.weight": 0.050837,
        "student.vit.patch_embed.proj.bias": 0.050837,
        "student.vit.blocks.0.attn.qkv.weight": 0.28243,
        "student.vit.blocks.11.norm2.bias": 0.9,
        "student.vit.norm.weight": 1.0,
        "dino_head.mlp.0.weight": 1.0,
        "ibot_head.last_layer.weight": 1.0,
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=5e-7)
    per_block = [{v for name, v in found.items() if f".blocks.{i}." in name} for i in range(12)]
    assert [len(values) for values in per_block] == [1] * 12
    assert [values.pop() for values in per_block] == pytest.approx([0.9**k for k in range(12, 0, -1)])
    rest = {name: v for name, v in found.items() if ".blocks." not in name and name not in expected}
    assert set(rest.values()) == {1.0}
    assert deep.rate_group("student.vit.reg_token") == deep.rate_group("student.vit.cls_token")


def test_weight_decay_spares_biases_and_norms_but_not_the_cls_token(deep):
    names = {id(parameter): name for name, parameter in deep.named_parameters()}
    groups = optimise.parameter_groups(deep)
    decays = {names[id(p)]: group["decays"] for group in groups for p in group["params"]}
    assert decays["student.vit.cls_token"]
    assert not decays["mask_token"], "the authors' mask token decays: a difference the module's docstring states"
    assert not any(on for name, on in decays.items() if name.endswith("bias") or "norm" in name)
    assert all(decays[f"{head}.last_layer.weight"] for head in ("dino_head", "ibot_head"))


def test_prototypes_stand_still_and_then_move(images):  # noqa: F811
    model, seen = build(images)
    optimiser = optimise.build_optimiser(model)
    for progress, moves in ((0.005, False), (0.5, True)):
        before = {name: value.clone() for name, value in model.named_parameters() if "_head" in name}
        optimise.set_schedules(optimiser, model, progress)
        optimiser.zero_grad()
        model(seen, progress).loss.backward()
        optimiser.step()
        for head in ("dino_head", "ibot_head"):
            state = model.get_submodule(head).state_dict()
            assert torch.equal(state["last_layer.weight"], before[f"{head}.last_layer.weight"]) != moves
            assert not torch.equal(state["mlp.0.weight"], before[f"{head}.mlp.0.weight"])


def test_student_and_heads_are_clipped_apart(images):  # noqa: F811
    model, seen = build(images)
    (1e4 * model(seen, 0.5).loss).backward()
    norms = optimise.clip(model, resting=())
    assert set(norms) == {f"gradient norm {name}" for name in ("student", "dino_head", "ibot_head")}
    assert all(norm > 3 for norm in norms.values())
    for name in ("student", "dino_head", "ibot_head"):
        clipped = torch.stack([p.grad.norm() for p in model.get_submodule(name).parameters()]).norm()
        assert clipped.item() == pytest.approx(3.0, rel=1e-4)


# Heads


def test_prototypes_start_at_length_one_and_officially_at_a_third():
    recommended = replace(registry.settings("dinov3", tracks.SMALL), prototypes=4096)
    official = replace(registry.settings("dinov3:official", tracks.SMALL), prototypes=4096)
    for made, length in ((recommended, 1.0), (official, 0.32)):
        head = dinov3.Head(made, 384, seed=0)
        assert head.last_layer.weight.norm(dim=1).mean().item() == pytest.approx(length, rel=0.01)
    assert [head.mlp[i].weight.std().item() for i in (0, 2, 4)] == pytest.approx([0.02] * 3, rel=0.02)
    assert all(not head.mlp[i].bias.any() for i in (0, 2, 4))
    logits = head(det((64, 384), 0.7, 0.1).float())
    assert logits.std().item() == pytest.approx(0.02, rel=0.05)


@pytest.mark.parametrize("arm", ["", "dino"])
def test_the_loss_does_not_know_the_order_of_prototypes(arm, images):  # noqa: F811
    model, seen = build(images, arm)
    shake(model)
    before = model(seen, 0.5).loss.item()
    order = torch.randperm(model.settings.prototypes, generator=torch.Generator().manual_seed(0))
    heads = [module for name, module in model.named_children() if "head" in name]
    assert len(heads) == (2 if arm else 4)
    with torch.no_grad():
        for head in heads:
            head.last_layer.weight.copy_(head.last_layer.weight[order])
    assert model(seen, 0.5).loss.item() == pytest.approx(before, rel=1e-5)
    with torch.no_grad():
        model.dino_head.last_layer.weight.copy_(model.dino_head.last_layer.weight[order])
    assert model(seen, 0.5).loss.item() != pytest.approx(before, rel=1e-5)


def test_one_pass_of_all_crops_equals_a_pass_per_crop(images):  # noqa: F811
    model, seen = build(images)
    shake(model)
    crops = [*seen["globals"].chunk(2), *seen["locals"].chunk(4)]
    apart = [model.dino_head(model.student(crop).cls) for crop in crops]
    together = model.student.run_together([model.student.sequence(seen[name]) for name in ("globals", "locals")])
    assert torch.allclose(model.dino_head(torch.cat([tokens.cls for tokens in together])), torch.cat(apart), atol=1e-6)


# Crops and colours


@pytest.mark.parametrize(("arm", "whole", "count", "side"), [("", 24, 4, 16), ("official", 32, 8, 16)])
def test_crops_have_their_number_size_and_scale(arm, whole, count, side, images, colours, monkeypatch):  # noqa: F811
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


def test_the_official_arm_blurs_as_the_released_models_did(images, colours):  # noqa: F811
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


def test_official_crops_are_images(images):  # noqa: F811
    _, seen = build(images, "official")
    for crops in (seen["globals"], seen["locals"]):
        assert crops.min() >= 0
        assert crops.max() <= 1
        assert crops.std() > 0.05


# Masks and the two cross-entropies


def test_mask_counts_of_a_batch_of_64(deep):
    keys = draws.text_keys([f"s{i}" for i in range(64)])
    drawn = draws.tensors(deep.hide(draws.Draws(keys, draws.text_keys(["step"]), 0, 64)))
    hidden, counts = drawn["hidden"], drawn["hidden"].sum(1)
    assert torch.equal(drawn["index"], hidden.flatten().nonzero()[:, 0])
    assert torch.equal(drawn["weights"], (1 / counts)[:, None].expand_as(hidden)[hidden])
    assert hidden.shape == (128, 196)
    assert int(counts.sum()) == 3771
    assert sorted(counts[counts > 0].tolist()) == mask_sizes.ibot_counts(128, 196)
    assert (int(counts[counts > 0].min()), int(counts.max()), int((counts > 0).sum())) == (20, 98, 64)
    assert dinov3.hidden_per_image(deep.settings, deep.spec) == 3771 / 64
    other = torch.from_numpy(deep.hide(draws.Draws(keys, draws.text_keys(["next"]), 0, 64))["hidden"])
    assert not torch.equal(other.sum(1), counts)
    assert int(other.sum()) == 3771


def test_hidden_pixels_reach_the_teacher_alone(images):  # noqa: F811
    model, seen = build(images)
    shake(model)
    wide = seen["hidden"].reshape(16, 1, 3, 3).repeat_interleave(8, 2).repeat_interleave(8, 3)
    changed = seen | {"globals": torch.where(wide, 1 - seen["globals"], seen["globals"])}
    masked = seen["hidden"].any(dim=1)
    difference = (model.teacher(changed["globals"]).cls - model.teacher(seen["globals"]).cls).abs().amax(dim=1)
    assert (difference[masked] > 0).all()
    assert not difference[~masked].any()
    assert model(changed, 0.5).parts["ibot"] != model(seen, 0.5).parts["ibot"]
    assert torch.equal(model(changed, 0.5).parts["koleo"], model(seen, 0.5).parts["koleo"])


def test_every_masked_crop_counts_its_mean_and_every_other_nothing():
    """Hand-computed: crops with 3, 0, 1 and 0 hidden tokens."""
    student, teacher = det((4, 5), 0.41, 0.2), torch.softmax(det((4, 5), 0.61, 0.1) / 0.2, -1)
    rows = losses.cross_entropy(student, teacher)
    weights = torch.tensor([1 / 3, 1 / 3, 1 / 3, 1.0], dtype=torch.float64)
    expected = (rows[:3].mean() + 0 + rows[3] + 0) / 4
    assert losses.ibot(student, teacher, weights, crops=4).item() == pytest.approx(expected.item(), abs=1e-12)
    assert rows.mean().item() == pytest.approx(4.063682, abs=1e-6)


def test_a_process_without_hidden_patches_adds_nothing():
    none = torch.zeros(0, 5, requires_grad=True)
    loss = losses.ibot(none, losses.sinkhorn_knopp(none, 0.07), torch.zeros(0), crops=4)
    loss.backward()
    assert loss.item() == 0.0
    assert none.grad.shape == (0, 5)


def test_global_and_local_pairs():
    """Two global pairs and sixteen local ones: the total is their mean, and a crop never meets its own teacher."""
    student = det((10, 3, 5), 0.31, 0.2).requires_grad_()
    teacher = torch.softmax(det((2, 3, 5), 0.53, 0.4) / 0.2, -1)
    rows = [[losses.cross_entropy(student[s], teacher[t]).mean() for t in range(2)] for s in range(10)]
    of_globals = (rows[0][1] + rows[1][0]) / 2
    of_locals = sum(sum(row) for row in rows[2:]) / 16
    assert of_globals.item() == pytest.approx(6.574441, abs=1e-6)
    assert of_locals.item() == pytest.approx(4.143640, abs=1e-6)
    assert losses.dino(student, teacher).item() == pytest.approx((2 * of_globals + 16 * of_locals).item() / 18)
    (before,) = torch.autograd.grad(losses.dino(student, teacher), student)
    for view in range(2):
        changed = teacher.clone()
        changed[view] = 0.2
        (after,) = torch.autograd.grad(losses.dino(student, changed), student)
        moved = [not torch.equal(a, b) for a, b in zip(after, before, strict=True)]
        assert moved == [view != 0, view != 1, *[True] * 8]


# Teacher and collapse


def test_the_teacher_is_the_student_at_first_and_then_follows_it(images):  # noqa: F811
    model, seen = build(images)
    pairs = [(model.teacher, model.student), (model.teacher_dino_head, model.dino_head)]
    pairs.append((model.teacher_ibot_head, model.ibot_head))

    def same():
        state = [zip(t.parameters(), s.parameters(), strict=True) for t, s in pairs]
        return all(torch.equal(a, b) for values in state for a, b in values)

    assert same()
    for mine, theirs in zip(model.teacher(seen["globals"]), model.student(seen["globals"]), strict=True):
        assert torch.equal(mine, theirs)
    frozen = {name: value.clone() for name, value in model.named_parameters() if name.startswith("teacher")}
    optimiser = optimise.build_optimiser(model)
    optimise.set_schedules(optimiser, model, 0.5)
    model(seen, 0.5).loss.backward()
    optimiser.step()
    model.after_step(1.0)
    assert not same()
    assert all(torch.equal(model.get_parameter(name), value) for name, value in frozen.items())
    model.settings = replace(model.settings, momentum=0.0)
    model.after_step(0.0)
    assert same()
    assert model.encoder is model.teacher


def test_alarms_sound_for_a_uniform_and_for_a_constant_model(images):  # noqa: F811
    model, seen = build(images)

    def alarms():
        step = model(seen, 0.5)
        parts = {name: float(value) for name, value in step.parts.items()}
        row = parts | health.below_trivial(parts) | health.figures(step.pooled)
        curves = [{"progress": k / 20, "name": name, "value": value} for k in range(21) for name, value in row.items()]
        return parts, health.alarms(curves)

    shake(model)
    assert not [sentence for sentence in alarms()[1] if "teacher entropy" in sentence or "same features" in sentence]
    with torch.no_grad():
        for head in (model.dino_head, model.teacher_dino_head, model.ibot_head, model.teacher_ibot_head):
            head.last_layer.weight.zero_()
        model.teacher.vit.norm.weight.zero_()
    parts, found = alarms()
    uniform = math.log(model.settings.prototypes)
    assert parts["dino"] == pytest.approx(uniform, rel=1e-5) == parts["trivial dino"]
    assert parts["ibot"] == pytest.approx(uniform / 2, rel=1e-5) == parts["trivial ibot"]  # half are masked
    for sign in ("DINO loss is at ln K", "iBOT loss is at ln K", "teacher entropy is at ln K", "same features"):
        assert sum(sign in sentence for sentence in found) == 1, sign


# Centring


def centred(made):
    return replace(made, settings=replace(made.settings, centring="mean"))


def test_centring_takes_the_moving_average_of_the_logits_before_this_step():
    centre, steps = dinov3.Centre(5), [det((4, 5), a, 0.2).float() for a in (0.3, 0.7, 1.1)]
    mean = torch.zeros(5)
    for logits in steps:
        targets = centre(logits, 0.04)
        assert torch.allclose(targets, torch.softmax((logits - mean) / 0.04, dim=1), atol=1e-6)
        assert torch.equal(centre(logits, 0.04), targets), "the average moves between steps alone"
        centre.move()
        mean = 0.9 * mean + 0.1 * logits.mean(dim=0)
        assert torch.allclose(centre.mean, mean, atol=1e-7)
    centre(torch.zeros(0, 5), 0.04)
    centre.move()
    assert torch.allclose(centre.mean, mean, atol=1e-7), "no logits, no move"


def test_centring_equals_the_centre_of_lightly():
    center = pytest.importorskip("lightly.models.modules.center")
    theirs, ours = center.Center((1, 5), momentum=dinov3.CENTRE_MOMENTUM), dinov3.Centre(5)
    for a in (0.3, 0.7, 1.1):
        logits = det((4, 5), a, 0.2).float()
        theirs.update(logits)
        ours(logits, 0.04)
        ours.move()
    assert torch.allclose(ours.mean, theirs.value[0], atol=1e-6)


def test_centres_are_gone_on_with(images, tmp_path):  # noqa: F811
    made = centred(recipe("dinov3"))
    model, again = (optimise.build_model(made, images) for _ in range(2))
    optimiser, other = (optimise.build_optimiser(one) for one in (model, again))
    seen = model.views(*Batches(images, made, model.draw, torch.device("cpu"))(0)[:2])
    shake(model)
    model(seen, 0.5)
    model.after_step(0.5)
    checkpoint.save(tmp_path, 1, model, optimiser, {})
    assert checkpoint.load(tmp_path, again, other)
    for term in ("dino", "ibot"):
        centre = model.get_submodule(f"{term}_centre")
        assert centre.mean.abs().max() > 0
        assert torch.equal(again.get_submodule(f"{term}_centre").mean, centre.mean)
    assert again(seen, 0.6).loss.item() == model(seen, 0.6).loss.item()


def test_an_unknown_centring_is_refused(images):  # noqa: F811
    with pytest.raises(ValueError, match=r"unknown centring of dinov3 'average'.*known: sinkhorn, mean"):
        build(images, centring="average")


# KoLeo and Gram


def test_koleo_does_not_know_the_order_of_images_and_stays_in_fp32():
    x = det((6, 8), 0.9, 0.1).float()
    loss = losses.koleo(x)
    assert losses.koleo(x.flip(0)).item() == pytest.approx(loss.item(), rel=1e-6)
    assert losses.koleo(7 * x).item() == pytest.approx(loss.item(), rel=1e-6)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(losses.koleo(x), loss)
    same = torch.ones(4, 384, requires_grad=True)
    collapsed = losses.koleo(same)
    collapsed.backward()
    assert collapsed.item() == pytest.approx(15.40, abs=0.02)
    assert torch.isfinite(same.grad).all()


def test_gram_knows_similarities_alone():
    student, teacher = det((2, 6, 4), 0.23, 0.1).requires_grad_(), det((2, 6, 4), 0.29, 0.5).requires_grad_()
    turn = torch.linalg.qr(det((4, 4), 1.7, 0.3)).Q
    loss = losses.gram(student, teacher)
    assert losses.gram(student @ turn, teacher).item() == pytest.approx(loss.item(), rel=1e-5)
    assert losses.gram(student @ turn, student).item() == pytest.approx(0.0, abs=1e-12)
    assert losses.gram(3 * student, teacher).item() == pytest.approx(loss.item(), rel=1e-5)
    unit = [(x / x.norm(dim=-1, keepdim=True)).detach().numpy() for x in (student, teacher)]
    whole = [u.reshape(12, 4) @ u.reshape(12, 4).T for u in unit]
    assert np.square(whole[0] - whole[1]).mean() == pytest.approx(1.010664, abs=1e-6)  # over the batch
    image = [u @ u.transpose(0, 2, 1) for u in unit]
    assert loss.item() == pytest.approx(np.square(image[0] - image[1]).mean(), abs=1e-6)  # over each image, as released


def test_gram_anchors_to_the_teacher_of_the_moment_it_starts(images):  # noqa: F811
    model, seen = build(images, "gram")
    assert model.settings.gram_weight == 1.0

    def shift(progress):
        shake(model, seed=int(100 * progress))
        model.after_step(progress)
        return [value.clone() for value in model.teacher.parameters()]

    def anchor():
        return list(model.gram_teacher.parameters())

    for progress in (0.3, 0.79):
        moment = shift(progress)
        assert all(torch.equal(a, b) for a, b in zip(anchor(), moment, strict=True))
    assert "gram" not in model(seen, 0.79).parts
    for progress in (0.81, 0.95):
        later = shift(progress)
        assert all(torch.equal(a, b) for a, b in zip(anchor(), moment, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(later, moment, strict=True))
    assert [model.resting(progress) for progress in (0.79, 0.8)] == [(), ("gram_teacher",)]
    parts = model(seen, 0.9).parts
    terms = parts["dino"] + 0.1 * parts["koleo"] + parts["ibot"] + parts["gram"]
    assert parts["loss"].item() == pytest.approx(terms.item(), rel=1e-6)
    tokens = model.student(seen["globals"], hidden=seen["hidden"], mask_token=model.mask_token).patches
    assert parts["gram"].item() == pytest.approx(
        losses.gram(tokens, model.gram_teacher(seen["globals"]).patches).item(), rel=1e-6
    )
    assert parts["gram"] > 0


def test_only_the_gram_arm_keeps_a_third_encoder(images):  # noqa: F811
    for arm in ARMS:
        model = optimise.build_model(recipe(f"dinov3:{arm}" if arm else "dinov3"), images)
        assert any("gram" in name for name in model.state_dict()) == (arm == "gram")


@pytest.mark.parametrize("arm", ARMS)
def test_bf16_is_finite_and_near_fp32(arm, images):  # noqa: F811
    model, seen = build(images, arm)
    shake(model)
    full = model(seen, 0.9)
    with torch.autocast("cpu", torch.bfloat16):
        half = model(seen, 0.9)
    assert half.loss.dtype == torch.float32
    assert half.loss.item() == pytest.approx(full.loss.item(), rel=0.02)
    half.loss.backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
