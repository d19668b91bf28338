"""SALT: which stage trains what, that the teacher is frozen, and what both stages cost."""

import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmark import registry, tracks
from benchmark.encoders.encoder import Encoder, gather
from benchmark.parts import losses, schedules
from benchmark.pretexts import salt
from benchmark.training import journal, loop, optimise
from benchmark.training.data import Images
from tests.benchmark.pretexts import test_ijepa as ijepa
from tests.benchmark.pretexts.test_ijepa import inverted, rest
from tests.benchmark.training import test_training as training
from tests.helpers.seen import views
from tests.parity import drawn, noise
from tests.parity.ijepa import SPEC

STAGES = [0.1, 0.9]


@pytest.fixture
def model() -> salt.Model:
    return salt.Model(registry.settings("salt", SPEC), Encoder(SPEC, seed=0), "histo", seed=1)


@pytest.fixture
def seen(model) -> dict[str, torch.Tensor]:
    return views(model, noise(8, 56), drawn())


def trained(run, images: Images, folder, **changes) -> journal.Trained:
    return loop.train(replace(run, settings=replace(run.settings, **changes)), training.runtime(folder), images)


@pytest.mark.parametrize("progress", STAGES)
def test_every_trained_parameter_has_a_gradient_and_only_the_stage_that_is_on_has_one_that_is_not_zero(
    progress, model, seen
):
    model(seen, progress).loss.backward()
    active = {"pixel_teacher", "decoder"} if progress < 1 / 3 else {"student", "predictor"}
    assert set(model.resting(progress)) == {"pixel_teacher", "decoder", "student", "predictor"} - active
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            moved = bool(parameter.grad.any()) or name.endswith("qkv.bias")
            assert moved == (name.partition(".")[0] in active) or name.endswith("qkv.bias"), name


def test_the_frozen_teacher_and_the_waiting_student_do_not_move(images, tmp_path, monkeypatch):
    """At every step, in a run of six steps of which two are the teacher's."""
    run = training.short("salt")
    start = optimise.build_model(run, images)
    log, after = [], salt.Model.after_step

    def record(self, progress):
        log.append({n: p.detach().clone() for n, p in self.named_parameters()})
        after(self, progress)

    monkeypatch.setattr(salt.Model, "after_step", record)
    trained(run, images, tmp_path)
    states = [dict(start.named_parameters()), *log]
    moved = [
        {n.partition(".")[0] for n in before if not torch.equal(before[n], then[n])}
        for before, then in pairwise(states)
    ]
    assert moved == [{"pixel_teacher", "decoder"}] * 2 + [{"student", "predictor"}] * 4


def test_stage_one_sees_the_context_and_predicts_the_normalised_pixels_of_all_the_rest(model, seen):
    predicted, target, features = model.predict_pixels(seen)
    outside = rest(seen["context"])
    patches = losses.patchify(model.student.normalise(seen["images"]), 4)
    assert torch.equal(target, losses.normalise_patches(gather(patches, outside), 1.2e-3))
    assert predicted.shape == target.shape == (8, 196 - 74, 48)
    changed = seen | {"images": inverted(seen["images"], outside)}
    assert torch.equal(model.predict_pixels(changed)[2], features)
    assert not torch.equal(model.predict_pixels(changed)[1], target)
    step = model(seen, 0.1)
    assert step.parts["loss"].item() == pytest.approx((predicted - target).square().mean().item(), rel=1e-6)
    assert step.parts["trivial loss"].item() == pytest.approx(target.square().mean().item(), rel=1e-6)


def test_stage_two_equals_ijepa_with_the_same_weights(model, seen):
    other = ijepa.build("ijepa")
    other.student.load_state_dict(model.student.state_dict())
    other.teacher.load_state_dict(model.pixel_teacher.state_dict())
    other.predictor.load_state_dict(model.predictor.state_dict())
    mine, theirs = model(seen, 0.9), other(seen, 0.9)
    assert mine.loss.item() == pytest.approx(theirs.loss.item(), rel=1e-6)
    assert mine.parts["trivial loss"].item() == pytest.approx(theirs.parts["trivial loss"].item(), rel=1e-6)
    changed = seen | {"images": inverted(seen["images"], rest(seen["context"]))}
    assert torch.equal(model.imitate(changed)[2], model.imitate(seen)[2])


def test_each_stage_has_its_own_warm_up_and_cosine(model):
    s = model.settings
    optimiser = optimise.build_optimiser(model)
    assert model.rate_group("decoder.head.bias") == model.rate_group("pixel_teacher.vit.cls_token") is True
    assert model.rate_group("predictor.head.bias") == model.rate_group("student.vit.cls_token") is False
    for of_teacher, first, length in ((True, 0.0, 1 / 3), (False, 1 / 3, 2 / 3)):
        for within in (0.05, 0.2, 0.6, 0.99):
            optimise.set_schedules(optimiser, model, first + within * length)
            rates = {group["rate"]: group["lr"] for group in optimiser.param_groups}
            expected = schedules.warmup_cosine(within, peak=s.lr, warmup=s.warmup)
            assert rates[of_teacher] == pytest.approx(expected, rel=1e-9)
            assert rates[not of_teacher] == 0.0


def test_flops_of_both_stages_equal_the_counter_and_their_mean_what_a_run_takes(model, seen, monkeypatch):
    monkeypatch.setattr(salt, "mean_target_tokens", lambda *given: seen["targets"].shape[2])
    teacher = salt.count.encode(SPEC)
    one, two = salt.stage_flops(model.settings, SPEC)
    for progress, expected in ((0.1, one / 3), (0.9, teacher + (two - teacher) / 3)):
        with (
            torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH),
            FlopCounterMode(display=False) as counter,
        ):
            model(seen, progress)
        assert counter.get_total_flops() == pytest.approx(8 * expected, rel=1e-12)
    for total in (1, 6, 100, 1001):
        firsts = [model.resting((step + 0.5) / total)[0] == "student" for step in range(total)]
        spent = sum(one if first else two for first in firsts)
        assert abs(spent - total * salt.flops(model.settings, SPEC)) <= abs(two - one) / 2 + 1
        assert firsts == sorted(firsts, reverse=True)


def test_the_share_is_a_setting(model, seen):
    model.settings = replace(model.settings, teacher_share=0.8)
    assert model.resting(0.7)[0] == "student"
    one, two = salt.stage_flops(model.settings, SPEC)
    assert salt.flops(model.settings, SPEC) == pytest.approx(0.8 * one + 0.2 * two)


def test_both_stages_learn_eight_images():
    """Each stage brings its loss under a fifth of the trivial level within 200 steps."""
    spec = replace(tracks.NANO, cls=False)
    model = salt.Model(registry.settings("salt", spec), Encoder(spec, seed=0), "histo", seed=1)
    optimiser = optimise.build_optimiser(model)
    y, x = torch.meshgrid(torch.arange(32), torch.arange(32), indexing="ij")
    stripes = torch.stack([torch.sin(0.3 * (math.cos(i) * x + math.sin(i) * y)) * 100 + 128 for i in range(8)])
    seen = views(model, stripes[..., None].expand(-1, -1, -1, 3).to(torch.uint8), drawn())
    for progress in STAGES:
        for group in optimiser.param_groups:
            group["lr"] = 3e-3 * bool(model.lr_scale(group["rate"], progress))
        for _ in range(200):
            optimiser.zero_grad()
            step = model(seen, progress)
            step.loss.backward()
            optimiser.step()
        assert step.parts["loss"] < 0.2 * step.parts["trivial loss"], progress
