"""DINOv3: what must hold of teacher, heads, masks and schedules whatever is learnt."""

import math
from dataclasses import replace

import pytest
import torch

from benchmark import registry, tracks
from benchmark.encoders.encoder import Encoder
from benchmark.parts import draws, losses, mask_sizes
from benchmark.pretexts import dinov3
from benchmark.recipe import EncoderSpec
from benchmark.storage import checkpoint
from benchmark.training import health, optimise
from benchmark.training.data import Batches
from tests.benchmark.pretexts.test_dinov3_arms import build
from tests.benchmark.pretexts.test_pretexts import recipe
from tests.parity import det, shake

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


def test_prototypes_stand_still_and_then_move(images):
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


def test_student_and_heads_are_clipped_apart(images):
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
def test_the_loss_does_not_know_the_order_of_prototypes(arm, images):
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


def test_one_pass_of_all_crops_equals_a_pass_per_crop(images):
    model, seen = build(images)
    shake(model)
    crops = [*seen["globals"].chunk(2), *seen["locals"].chunk(4)]
    apart = [model.dino_head(model.student(crop).cls) for crop in crops]
    together = model.student.run_together([model.student.sequence(seen[name]) for name in ("globals", "locals")])
    assert torch.allclose(model.dino_head(torch.cat([tokens.cls for tokens in together])), torch.cat(apart), atol=1e-6)


# Masks


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


def test_hidden_pixels_reach_the_teacher_alone(images):
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


# Teacher and collapse


def test_the_teacher_is_the_student_at_first_and_then_follows_it(images):
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


def test_alarms_sound_for_a_uniform_and_for_a_constant_model(images):
    model, seen = build(images)

    def alarms():
        step = model(seen, 0.5)
        parts = {name: float(value) for name, value in step.parts.items()}
        row = parts | health.below_trivial(parts) | health.measure_features(step.pooled)
        curves = [{"progress": k / 20, "name": name, "value": value} for k in range(21) for name, value in row.items()]
        return parts, health.find_alarms(curves)

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


def test_centres_are_gone_on_with(images, tmp_path):
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


def test_an_unknown_centring_is_refused(images):
    with pytest.raises(ValueError, match=r"unknown centring of dinov3 'average'.*known: sinkhorn, mean"):
        build(images, centring="average")


# Gram


def test_gram_anchors_to_the_teacher_of_the_moment_it_starts(images):
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
