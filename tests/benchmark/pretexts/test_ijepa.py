"""I-JEPA, both arms, against timm, lightly, values measured on the authors' code, and closed forms."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from benchmark import registry, tracks
from benchmark.encoders.encoder import Encoder, gather
from benchmark.parts import augment, draws, mask_sizes, masks
from benchmark.parts.draws import Draws, text_keys
from benchmark.pretexts import ijepa
from benchmark.recipe import EncoderSpec
from benchmark.training import loop, optimise
from tests.benchmark.training import test_training as training
from tests.helpers.seen import tensor, views
from tests.parity import drawn, noise
from tests.parity.ijepa import PUBLISHED, SPEC, replayed, size_draws

ARMS = ["ijepa", "ijepa:official"]
TINY, SMALL, BASE = (replace(spec, cls=False) for spec in (tracks.TINY, tracks.SMALL, tracks.BASE))
BOUNDS = ((0.15, 0.2), (0.75, 1.5))
DEVIATION = {1: 13.8, 8: 8.3, 16: 7.7, 32: 7.6, 64: 7.2, 128: 7.3}  # of the smallest context over batches, at 14 x 14


def build(name: str, spec: EncoderSpec = SPEC) -> ijepa.Model:
    return ijepa.Model(registry.settings(name, spec), Encoder(spec, seed=0), "histo", seed=1)


def rest(where: torch.Tensor) -> torch.Tensor:
    """The patches (B, 196 - K) that are not at `where` (B, K)."""
    outside = torch.ones(len(where), 196).scatter_(1, where, 0).argsort(dim=1, descending=True, stable=True)
    return outside[:, : 196 - where.shape[1]]


def inverted(pixels: torch.Tensor, where: torch.Tensor) -> torch.Tensor:
    """Images (B, 3, 56, 56) with the patches at `where` (B, K) inverted."""
    chosen = torch.zeros(len(pixels), 14 * 14).scatter_(1, where, 1).reshape(-1, 1, 14, 14)
    return torch.where(chosen.repeat_interleave(4, 2).repeat_interleave(4, 3).bool(), 1 - pixels, pixels)


def corners(rng: np.random.Generator, batch: int, targets: int = 4) -> np.ndarray:
    return rng.random((batch, targets + mask_sizes.REDRAWS * (targets + 1), 2))


# Masks


def test_official_target_sizes_are_as_frequent_as_measured():
    found = [mask_sizes.published_sides(14, (i + 0.5) / 10000, (0.15, 0.2), (0.75, 1.5)) for i in range(10000)]
    measured = {(5, 6): 0.265, (6, 5): 0.126, (6, 6): 0.218, (7, 5): 0.364, (8, 5): 0.026}
    assert set(found) == set(measured)
    for sides, share in measured.items():
        assert found.count(sides) / 10000 == pytest.approx(share, abs=0.002)


@pytest.mark.parametrize(
    ("grid", "min_keep", "scale", "overlap"),
    [(14, 10, (0.15, 0.2), False), (8, 4, (0.15, 0.2), False), (8, 8, (0.2, 0.35), True), (28, 10, (0.15, 0.2), False)],
)
def test_official_masks_equal_lightlys_from_the_same_draws(grid, min_keep, scale, overlap):
    """Exactly; large targets on a small grid make contexts be drawn again and overlap targets."""
    pytest.importorskip("lightly")
    rng, overlapped, bounds = np.random.default_rng(grid), False, PUBLISHED | {"target_scale": scale}
    for seed in range(6):
        given = corners(rng, 40)
        mask = masks.published_multiblock(size_draws(seed), given, grid=grid, min_keep=min_keep, **bounds)
        context, targets = replayed(given, seed, grid, min_keep, **bounds)
        assert np.array_equal(mask.context, context)
        assert np.array_equal(mask.targets, targets)
        both = [set(c.tolist()) & set(t.flatten().tolist()) for c, t in zip(*mask, strict=True)]
        overlapped |= any(both)
    assert overlapped == overlap


def test_official_masks_are_disjoint_sorted_cut_at_the_end_and_never_reach_the_last_row_and_column():
    rng, rows, columns = np.random.default_rng(0), np.zeros(14), np.zeros(14)
    for _ in range(20):
        sizes, given = rng.random(2), corners(rng, 128)
        whole, blocks = mask_sizes.published_blocks(sizes, given, grid=14, min_keep=10)
        context, targets = masks.published_multiblock(sizes, given, grid=14, min_keep=10)
        assert not (whole & blocks.any(axis=1)).any()
        assert (whole.sum(axis=1) > 10).all()
        assert context.shape[1] == whole.sum(axis=1).min()
        assert 30 <= targets.shape[2] <= 40
        assert (np.diff(context, axis=1) > 0).all()
        assert (np.diff(targets, axis=2) > 0).all()
        for image in (0, 77):
            assert context[image].tolist() == np.flatnonzero(whole[image])[: context.shape[1]].tolist()
        seen = whole.reshape(-1, 14, 14).mean(axis=0)
        rows, columns = rows + seen.mean(axis=1) / 20, columns + seen.mean(axis=0) / 20
        assert not blocks.reshape(-1, 14, 14)[:, -1].any()
        assert not blocks.reshape(-1, 14, 14)[:, :, -1].any()
    measured = [0.746, 0.601, 0.482, 0.387, 0.311, 0.270, 0.250, 0.267, 0.313, 0.389, 0.484, 0.604, 0.752, 0.0]
    assert rows == pytest.approx(measured, abs=0.04)
    assert columns[-1] == rows[-1] == 0


@pytest.mark.parametrize(
    ("grid", "batch", "min_keep", "context", "target"),
    [
        (14, 1, 10, 82.0, 33.4),
        (14, 8, 10, 64.0, 33.4),
        (14, 32, 10, 56.5, 33.4),
        (14, 64, 10, 54.5, 33.4),
        (14, 128, 10, 51.2, 33.4),
        (16, 32, 10, 77.6, 44.2),
        (28, 16, 10, 271.8, 136.8),
        (8, 1, 4, 21.7, 10.5),
        (12, 16, 10, 41.4, 24.4),
        (6, 16, 2, 6.4, 5.4),
    ],
)
def test_official_sizes_are_those_measured_on_the_authors_collator(grid, batch, min_keep, context, target):
    """Measured means scatter too: the deviation over batches is about half the square root of the grid's tokens."""
    found = mask_sizes.mean_published_context(grid, batch, min_keep)
    assert found == pytest.approx(context, abs=3 * (2 / 100) ** 0.5 * DEVIATION[batch] * grid / 14)
    assert mask_sizes.mean_target_tokens(grid, *BOUNDS, published=True) == pytest.approx(target, rel=0.01)


def test_recommended_masks_reach_every_place_alike_and_keep_their_sizes():
    reached, asked = torch.zeros(196), torch.zeros(196)
    for step in range(40):
        step_draws = Draws(text_keys([f"{step} {i}" for i in range(100)]), text_keys([f"{step}"]), 0, 100)
        positions = step_draws.uniform("positions", masks.ATTEMPTS, 5, 2)
        order, sizes = step_draws.uniform("order", 196), step_draws.batch_uniform("sizes", 3)
        context, targets = map(tensor, masks.multiblock(sizes, positions, order, grid=14, context=49))
        seen = torch.zeros(100, 196).scatter_(1, context, 1)
        hidden = torch.zeros(100, 196).scatter_(1, targets.flatten(1), 1)
        assert not (seen * hidden).any()
        assert (seen.sum(1) == 49).all()
        rows, columns = mask_sizes.block_sides(14, *map(mask_sizes.scale_to, sizes[:2], BOUNDS))
        assert targets.shape[1:] == (4, rows * columns)
        assert 24 <= rows * columns <= 42  # 15 to 20 % of 196, sides rounded
        reached, asked = reached + seen.sum(0), asked + hidden.sum(0)
    for places in (reached.reshape(14, 14), asked.reshape(14, 14)):
        assert places.min() > 0
        for lines in (places.sum(0), places.sum(1)):
            assert torch.allclose(lines, lines.flip(0), rtol=0.12)


def test_an_infeasible_min_keep_is_refused_with_its_remedy_and_the_arm_scales_it():
    stuck = replace(registry.settings("ijepa:official", SPEC), min_keep=10)
    coarse = replace(SPEC, patch=7)
    remedy = r"min_keep of 10 on a 8 x 8 grid: target blocks can have 9 tokens .* set min_keep below 9"
    with pytest.raises(ValueError, match=remedy):
        ijepa.Model(stuck, Encoder(coarse, seed=0), "histo", seed=1)
    with pytest.raises(ValueError, match=remedy):
        mask_sizes.mean_published_context(8, 16, 10)
    for grid, min_keep in ((4, 0), (8, 3), (14, 10), (28, 10)):
        spec = replace(SPEC, patch=8, pixels=8 * grid)
        assert registry.settings("ijepa:official", spec).min_keep == min_keep
        mask_sizes.check_min_keep(grid, min_keep, **PUBLISHED)


def test_official_views_are_crops_without_flips_or_photometric_change():
    model, pixels = build("ijepa:official"), noise(8, 56)
    boxes = augment.boxes(drawn(), "ijepa", 1, (0.3, 1.0))
    upright = draws.tensors(augment.draw_cut(boxes, np.zeros((8, 1, 3), dtype=bool), "x"))
    assert torch.equal(views(model, pixels, drawn())["images"], augment.cut(pixels, upright, "x", 56))
    top_left = torch.zeros(8, 56, 56, 3, dtype=torch.uint8)
    top_left[:, :28, :28] = 255
    seen = views(model, top_left, drawn())["images"].mean(dim=1)
    assert (seen[:, :, :28].sum((1, 2)) >= seen[:, :, 28:].sum((1, 2))).all()
    assert (seen[:, :28].sum((1, 2)) >= seen[:, 28:].sum((1, 2))).all()


# Who sees what


@pytest.mark.parametrize("name", ARMS)
def test_context_features_see_the_context_only_and_the_loss_sees_the_targets(name):
    model = build(name)
    seen = views(model, noise(8, 56), drawn())
    before = model.student(seen["images"], keep=seen["context"]).patches
    after = model.student(inverted(seen["images"], rest(seen["context"])), keep=seen["context"]).patches
    assert torch.equal(before, after)
    assert not torch.equal(before, model.student(1 - seen["images"], keep=seen["context"]).patches)
    changed = seen | {"images": inverted(seen["images"], seen["targets"][:, 0])}
    assert model(changed, 0.5).loss != model(seen, 0.5).loss


@pytest.mark.parametrize("name", ARMS)
def test_blocks_are_predicted_apart_and_images_too(name):
    model = build(name)
    seen = views(model, noise(8, 56), drawn())
    context = model.student(seen["images"], keep=seen["context"]).patches
    before = model.predictor(context, seen["context"], seen["targets"])
    other = seen["targets"].clone()
    other[:, 1] = other[:, 1].flip(1)
    after = model.predictor(context, seen["context"], other)
    rows = torch.arange(len(before)) % 4 != 1
    assert torch.equal(before[rows], after[rows])
    assert not torch.equal(before[~rows], after[~rows])
    swapped = [part[[1, 0, *range(2, 8)]] for part in (context, seen["context"], seen["targets"])]
    expected = before.unflatten(0, (8, 4))[[1, 0, *range(2, 8)]].flatten(0, 1)
    assert torch.allclose(model.predictor(*swapped), expected, atol=1e-5)


@pytest.mark.parametrize("name", ARMS)
def test_the_target_encoder_sees_the_whole_image_and_is_not_trained(name):
    model = build(name)
    seen = views(model, noise(8, 56), drawn())
    model(seen, 0.5).loss.backward()
    assert all(not p.requires_grad and p.grad is None for p in model.teacher.parameters())
    trained = {id(p) for group in optimise.parameter_groups(model) for p in group["params"]}
    assert not trained & {id(p) for p in model.teacher.parameters()}
    block = seen["targets"][:, 0]
    before, after = (
        gather(model.targets(pixels)[1], block) for pixels in (seen["images"], inverted(seen["images"], rest(block)))
    )
    assert (before - after).abs().amax(dim=(1, 2)).min() > 1e-2
    normed = model.targets(seen["images"])[1]
    assert normed.mean(dim=-1).abs().max() < 1e-5
    assert normed.var(dim=-1, unbiased=False).sub(1).abs().max() < 1e-3


# Loss, moving average, schedules


def test_the_official_predictor_starts_from_deviations_of_a_fiftieth_in_every_block():
    weights = [layer.weight for layer in build("ijepa:official").predictor.modules() if isinstance(layer, nn.Linear)]
    assert len(weights) == 2 + 4 * 1
    assert [weight.std().item() for weight in weights] == pytest.approx([0.02] * len(weights), rel=0.05)


def test_a_zero_prediction_of_gaussian_features_costs_the_trivial_level():
    gaussian = F.layer_norm(torch.randn(500, 384, generator=torch.Generator().manual_seed(0)), (384,))
    assert F.smooth_l1_loss(torch.zeros_like(gaussian), gaussian).item() == pytest.approx(0.4248, abs=2e-3)


def test_the_teacher_moves_once_per_step_and_stays_where_nothing_is_learnt(images, tmp_path, monkeypatch):
    made = training.short("ijepa:official", steps=4)
    still = replace(made, settings=replace(made.settings, lr=0.0, start_lr=0.0, end_lr=0.0))
    moved, follows = [], ijepa.follow
    monkeypatch.setattr(ijepa, "follow", lambda *given: (moved.append(given[2]), follows(*given)))
    trained = loop.train(still, training.runtime(tmp_path), images)
    assert moved == pytest.approx([0.996 + 0.004 * (i + 0.5) / 4 for i in range(4)])
    start = optimise.build_model(still, images).teacher.state_dict()
    assert all(torch.equal(value, start[key]) for key, value in trained.model.teacher.state_dict().items())


@pytest.mark.parametrize("name", ARMS)
def test_decay_spares_biases_and_vectors_and_groups_are_a_partition(name):
    model = build(name)
    groups, names = optimise.parameter_groups(model), {id(p): n for n, p in model.named_parameters()}
    trained = sorted(n for n, p in model.named_parameters() if p.requires_grad)
    assert trained == sorted(names[id(p)] for group in groups for p in group["params"])
    assert not any("position" in n or "cls_token" in n for n in trained)
    assert len(groups) == 2
    for group in groups:
        assert all((p.ndim > 1) == group["decays"] for p in group["params"])
        assert not any(names[id(p)].endswith("bias") and group["decays"] for p in group["params"])


# FLOPs


@pytest.mark.parametrize(
    ("spec", "context", "giga"),
    [(TINY, 82, 36.4), (SMALL, 82, 51.4), (BASE, 82, 109.4), (TINY, 51, 26.7), (SMALL, 51, 38.6), (BASE, 51, 84.5)],
)
def test_official_flops_equal_the_published_shapes(spec, context, giga):
    s = replace(registry.settings("ijepa:official", spec), context_tokens=context)
    assert ijepa.flops(s, spec) / 1e9 == pytest.approx(giga, abs=0.06)


@pytest.mark.parametrize("name", ARMS)
def test_flops_equal_the_counter(name, monkeypatch):
    model = build(name)
    seen = views(model, noise(8, 56), drawn())
    with (
        torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH),
        FlopCounterMode(display=False) as counter,
    ):
        loss = model(seen, 0.5).loss
    with (
        torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH),
        FlopCounterMode(display=False) as backward,
    ):
        loss.backward()
    monkeypatch.setattr(ijepa, "mean_target_tokens", lambda *given, **named: seen["targets"].shape[2])
    total = ijepa.flops(replace(model.settings, context_tokens=seen["context"].shape[1]), SPEC)
    teacher = ijepa.count.encode(SPEC)
    assert counter.get_total_flops() == 8 * (teacher + (total - teacher) / 3)
    pixels = ijepa.count.patch_embed(196, SPEC)  # need no gradient
    assert counter.get_total_flops() + backward.get_total_flops() == 8 * (total - pixels)


def test_official_masks_cost_on_average_what_flops_count(monkeypatch):
    s = registry.settings("ijepa:official", SMALL)
    expected, rng, costs = ijepa.flops(s, SMALL), np.random.default_rng(7), []
    for _ in range(60):
        sizes = rng.random(2)
        mask = masks.published_multiblock(sizes, corners(rng, s.batch), grid=14, min_keep=10, **PUBLISHED)
        monkeypatch.setattr(ijepa, "mean_target_tokens", lambda *given, m=mask, **named: m.targets.shape[2])
        costs.append(ijepa.flops(replace(s, context_tokens=mask.context.shape[1]), SMALL))
    error = np.std(costs) * (1 / 60 + 1 / 100) ** 0.5
    assert error < 0.02 * expected
    assert np.mean(costs) == pytest.approx(expected, abs=3 * error)
