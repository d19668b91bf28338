"""Goldens: values obtained once from the authors' code, or derived from the paper by hand.

`det(shape, a, b)` is sin(a·k + b) for k = 0, 1, ... in float64, row by row, so that no random state is needed.
"""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from benchmark import draws, flops, losses, mask_sizes, masks, schedules
from benchmark.encoder import Encoder, sincos
from benchmark.recipe import EncoderSpec


def det(shape: tuple[int, ...], a: float, b: float) -> torch.Tensor:
    return torch.sin(a * torch.arange(math.prod(shape), dtype=torch.float64) + b).reshape(shape)


def test_positions_match_mae():
    table = torch.cat([torch.zeros(1, 192), sincos(14, 192)]).double()
    assert table.sum().item() == pytest.approx(17277.554156, abs=2e-3)
    assert table.square().sum().item() == pytest.approx(18816.0, abs=1e-3)
    assert (table.flatten() * torch.sin(torch.arange(197 * 192).double())).sum().item() == pytest.approx(
        4.2417647, abs=1e-4
    )
    assert table[2, [0, 1, 48]].tolist() == pytest.approx([0.841471, 0.734822, 0.540302], abs=1e-6)
    assert table[15, [96, 97, 144]].tolist() == pytest.approx([0.841471, 0.734822, 0.540302], abs=1e-6)


def test_positions_of_a_crop_span_the_same_range():
    whole, crop = sincos(8, 32), sincos(4, 32, span=8)
    angle = 0.5  # the first patch of a half-size grid lies between the first two of the full grid
    assert crop[0, 0].item() == pytest.approx(math.sin(angle))
    assert whole[0, 0].item() == 0.0


def test_random_mask_from_given_noise():
    mask = masks.random_tokens(det((2, 16), 0.9, 0.2), 0.75)
    assert mask.keep.tolist() == [[12, 5, 6, 11], [3, 10, 9, 2]]
    both = torch.cat([mask.keep, mask.hide], dim=1)
    assert torch.equal(both.sort(dim=1).values, torch.arange(16).expand(2, 16))
    assert torch.equal(both.gather(1, mask.restore), torch.arange(16).expand(2, 16))


@pytest.mark.parametrize(("ratio", "kept"), [(0.5, 98), (0.6, 78), (0.75, 49), (0.8, 39), (0.9, 19)])
def test_kept_counts_truncate(ratio, kept):
    assert masks.random_tokens(torch.rand(2, 196), ratio).keep.shape[1] == kept


def test_patchify_and_mae_loss():
    images, predicted = det((2, 3, 32, 32), 0.37, 0.1), det((2, 16, 192), 0.11, 0.2)
    mask = torch.arange(32).reshape(2, 16) % 4 != 0
    patches = losses.patchify(images, 8)
    assert patches[0, 1, 5] == images[0, 2, 0, 9]
    assert F.mse_loss(predicted[mask], patches[mask]).item() == pytest.approx(1.0032274963, abs=1e-9)
    normed = losses.normalise_patches(patches)
    assert F.mse_loss(predicted[mask], normed[mask]).item() == pytest.approx(1.4992470529, abs=1e-9)


def test_the_variance_floor_silences_a_noisy_background():
    noise = torch.randn(4, 16, 192, generator=torch.Generator().manual_seed(0)) * 0.5 / 255 / 0.226
    assert losses.normalise_patches(noise).var().item() > 0.98
    assert losses.normalise_patches(noise, 1.2e-3).var().item() < 0.1


def test_sinkhorn_knopp():
    x = 0.3 * det((6, 5), 0.7, 0.3)
    plan = losses.sinkhorn_knopp(x, 0.07)
    assert plan[0].tolist() == pytest.approx([0.015484, 0.208142, 0.641246, 0.133487, 0.001642], abs=1e-5)
    assert plan[4].tolist() == pytest.approx([0.746558, 0.228610, 0.023587, 0.001194, 0.000050], abs=1e-5)
    assert plan.sum(0).tolist() == pytest.approx([1.036898, 0.994526, 1.023118, 1.388908, 1.556550], abs=1e-5)
    assert plan.sum(1).tolist() == pytest.approx([1.0] * 6, abs=1e-6)
    assert losses.sinkhorn_knopp(x, 0.07, rounds=200).sum(0).tolist() == pytest.approx([1.2] * 5, abs=1e-4)
    order = torch.tensor([3, 0, 4, 1, 2])
    assert torch.allclose(losses.sinkhorn_knopp(x[:, order], 0.07), plan[:, order], atol=1e-6)


@pytest.mark.parametrize("size", [14.0, 200.0, 1e4])
def test_sinkhorn_knopp_cannot_overflow(size):
    logits = size * det((6, 5), 0.7, 0.3)
    plan = losses.sinkhorn_knopp(logits, 0.07)
    assert torch.isfinite(plan).all()
    assert torch.allclose(plan.sum(1), torch.ones(6), atol=1e-5)
    assert torch.allclose(losses.sinkhorn_knopp(logits + 50, 0.07), plan, atol=1e-2)


def test_dino_ibot_koleo_gram():
    student, teacher = det((10, 3, 5), 0.31, 0.2), torch.softmax(det((2, 3, 5), 0.53, 0.4) / 0.2, -1)
    assert losses.dino(student, teacher).item() == pytest.approx(4.413729, abs=1e-6)
    only_globals = losses.dino(student[:2], teacher)
    assert only_globals.item() == pytest.approx(6.574441, abs=1e-6)
    masked, answers = det((4, 5), 0.41, 0.2), torch.softmax(det((4, 5), 0.61, 0.1) / 0.2, -1)
    weights = torch.tensor([1 / 3, 1 / 3, 1 / 3, 1.0])
    assert losses.ibot(masked, answers, weights, crops=4).item() == pytest.approx(2.945152, abs=1e-6)
    x = det((6, 8), 0.9, 0.1)
    assert losses.koleo(x).item() == pytest.approx(0.169942, abs=1e-5)
    doubled = x.clone()
    doubled[1] = doubled[0]
    assert math.isfinite(losses.koleo(doubled).item())
    assert losses.koleo(doubled).item() == pytest.approx(5.7933, abs=0.2)
    a, b = det((2, 6, 4), 0.23, 0.1), det((2, 6, 4), 0.29, 0.5)
    assert losses.gram(a, b).item() == pytest.approx(0.675295, abs=1e-6)
    assert losses.gram(a, a).item() == 0.0


def test_a_global_crop_is_not_compared_with_itself():
    student = det((2, 3, 5), 0.31, 0.2).requires_grad_()
    teacher = torch.softmax(det((2, 3, 5), 0.53, 0.4) / 0.2, -1)
    (before,) = torch.autograd.grad(losses.dino(student, teacher), student)
    changed = teacher.clone()
    changed[0] = 0.2
    (after,) = torch.autograd.grad(losses.dino(student, changed), student)
    assert torch.equal(before[0], after[0])
    assert not torch.equal(before[1], after[1])


def test_koleo_needs_two_images():
    with pytest.raises(ValueError, match="at least two images"):
        losses.koleo(torch.ones(1, 4))


def test_ijepa_toy_loss():
    features = torch.nn.functional.layer_norm(det((2, 9, 8), 0.37, 0.1), (8,))
    assert features[0, 0, :3].tolist() == pytest.approx([-1.9392, -0.7306, 0.2681], abs=1e-4)
    blocks = torch.tensor([[[0, 1, 3, 4], [4, 5, 7, 8]], [[1, 2, 4, 5], [3, 4, 6, 7]]])
    rows = torch.cat([features[torch.arange(2)[:, None], blocks[:, t]] for t in range(2)])
    loss = torch.nn.functional.smooth_l1_loss(det((4, 4, 8), 0.23, 0.4), rows)
    assert loss.item() == pytest.approx(0.6637137073, abs=1e-6)
    assert torch.nn.functional.smooth_l1_loss(torch.zeros_like(rows), rows).item() == pytest.approx(
        0.4535166251, abs=1e-6
    )


@pytest.mark.parametrize(
    ("epoch", "lr"),
    [(0, 0.0), (0.5, 3e-5), (20, 1.2e-3), (39.9, 2.394e-3), (40, 2.4e-3), (230, 2.0485281374e-3), (799.5, 2.563089e-9)],
)
def test_mae_schedule(epoch, lr):
    assert schedules.warmup_cosine(epoch / 800, peak=2.4e-3, warmup=40 / 800) == pytest.approx(lr, rel=1e-5, abs=1e-12)


@pytest.mark.parametrize(
    ("step", "lr", "decay"),
    [(1, 2.002e-4, 0.040000001), (2000, 6e-4, 0.043933432), (4000, 1e-3, 0.055561818), (17000, 5.005e-4, 0.257424104)],
)
def test_ijepa_schedules(step, lr, decay):
    found = schedules.warmup_cosine(step / 30000, peak=1e-3, warmup=4000 / 30000, start=2e-4, end=1e-6)
    assert found == pytest.approx(lr, rel=1e-6)
    assert schedules.cosine(step / 30000, start=0.04, end=0.4) == pytest.approx(decay, rel=1e-6)


def test_multiblock_masks():
    keys = draws.text_keys([f"s{i}" for i in range(400)])
    reached = torch.zeros(64)
    for step in range(20):
        d = draws.Draws(keys, draws.text_keys([f"b{step}"]), 0, 400)
        mask = masks.multiblock(
            d.batch_uniform("sizes", 3), d.uniform(f"p{step}", 16, 5, 2), d.uniform(f"o{step}", 64), grid=8, context=16
        )
        context = torch.zeros(400, 64).scatter_(1, mask.context, 1)
        assert torch.equal(context.sum(1), torch.full((400,), 16.0))
        for block in mask.targets.unbind(1):
            hidden = torch.zeros(400, 64).scatter_(1, block, 1)
            assert torch.equal(hidden.sum(1), torch.full((400,), float(block.shape[1])))
            assert not (context * hidden).any()
        reached += context.sum(0)
    rows = reached.reshape(8, 8).sum(1)
    assert (reached > 0).all()
    assert torch.allclose(rows, rows.flip(0), rtol=0.1)


def test_masks_that_never_fit_are_laid_on_one_another():
    positions = torch.zeros(3, 2, 5, 2)
    positions[:, :, 1], positions[:, :, 2], positions[:, :, 3] = (
        0.99,
        torch.tensor([0.0, 0.99]),
        torch.tensor([0.99, 0.0]),
    )
    mask = masks.multiblock(np.array([0.9, 0.5, 0.1]), positions, torch.rand(3, 64), grid=8, context=36)
    assert mask.context.shape == (3, 36)
    assert not set(mask.context[0].tolist()) & set(mask.targets[0].flatten().tolist())
    with pytest.raises(ValueError, match="context of 60 tokens on a 8 x 8 grid"):
        mask_sizes.check_context(8, 60, (0.15, 0.2), (0.85, 1.0))


def test_ibot_ladder_and_blocks():
    assert sum(mask_sizes.ibot_counts(128, 196)) == 3771
    assert mask_sizes.ibot_counts(8, 196) == [39, 58, 78, 98]
    assert mask_sizes.ibot_counts(2, 196) == [98]
    for count in (0, 1, 5, 20, 32):
        assert masks.blockwise(8, count, np.random.default_rng(count)).sum() == count


def test_draws_are_uniform_and_belong_to_their_sample():
    keys = draws.text_keys([f"s{i}" for i in range(2000)])
    u = draws.uniform(keys, "x", 10)
    assert u.min() >= 0
    assert u.max() < 1
    assert u.mean() == pytest.approx(0.5, abs=0.01)
    assert np.histogram(u, bins=10)[0] == pytest.approx(2000, rel=0.1)
    assert abs(np.corrcoef(u[:, 0], u[:, 1])[0, 1]) < 0.08
    assert np.array_equal(draws.uniform(keys[7:9], "x", 10), u[7:9])
    assert not np.array_equal(draws.uniform(keys, "y", 10), u)


@pytest.mark.parametrize("cls", [True, False])
def test_flop_formula_equals_the_counter(cls):
    spec = EncoderSpec(width=64, depth=3, heads=2, patch=8, pixels=32, cls=cls)
    encoder = Encoder(spec, seed=0)
    images, keep = torch.rand(2, 3, 32, 32), torch.arange(5).expand(2, 5)
    for options, tokens in (({}, None), ({"keep": keep}, 5 + cls)):
        with (
            torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH),
            FlopCounterMode(display=False) as counter,
        ):
            encoder(images, **options)
        assert counter.get_total_flops() == 2 * flops.encode(spec, tokens=tokens)
