"""Losses, masks, draws and FLOPs: what must hold whatever a pretext makes of them. Goldens are in `tests.parity`."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from benchmark.encoders.encoder import Encoder, sincos
from benchmark.parts import draws, flops, losses, mask_sizes, masks
from benchmark.recipe import EncoderSpec
from tests.helpers.seen import tensor
from tests.parity import det
from tests.parity.dinov3 import sinkhorn


def test_positions_of_a_crop_span_the_same_range():
    whole, crop = sincos(8, 32), sincos(4, 32, span=8)
    angle = 0.5  # the first patch of a half-size grid lies between the first two of the full grid
    assert crop[0, 0].item() == pytest.approx(math.sin(angle))
    assert whole[0, 0].item() == 0.0


@pytest.mark.parametrize("trunk", ["common", "rope"])
def test_the_residual_stream_is_fp32_under_bf16(trunk):
    spec = EncoderSpec(width=32, depth=2, heads=2, patch=8, pixels=32, trunk=trunk)
    encoder, seen = Encoder(spec, seed=0), []
    for block in encoder.vit.blocks:
        block.norm1.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].dtype))
    with torch.autocast("cpu", torch.bfloat16):
        tokens = encoder(torch.rand(2, 3, 32, 32), hidden=torch.rand(2, 16) < 0.5, mask_token=torch.zeros(32))
    assert {*seen, tokens.patches.dtype, tokens.cls.dtype} == {torch.float32}


def test_bf16_costs_both_trunks_the_same_precision():
    """Errors of features by the same weights, LayerScale at 1: a residual stream in bf16 nearly doubles them."""
    images, errors = torch.rand(8, 3, 64, 64, generator=torch.Generator().manual_seed(1)), []
    common = Encoder(EncoderSpec(width=192, depth=12, heads=3, patch=16, pixels=64), seed=0)
    rope = Encoder(EncoderSpec(width=192, depth=12, heads=3, patch=16, pixels=64, trunk="rope"), seed=0)
    rope.load_state_dict(common.state_dict(), strict=False)
    for block in rope.vit.blocks:
        nn.init.ones_(block.ls1.gamma)
        nn.init.ones_(block.ls2.gamma)
    for encoder in (common, rope):
        with torch.inference_mode():
            exact = encoder(images).patches
            with torch.autocast("cpu", torch.bfloat16):
                errors.append(float((encoder(images).patches.float() - exact).norm() / exact.norm()))
    assert 0.8 < errors[0] / errors[1] < 1.25


def test_the_variance_floor_silences_a_noisy_background():
    noise = torch.randn(4, 16, 192, generator=torch.Generator().manual_seed(0)) * 0.5 / 255 / 0.226
    assert losses.normalise_patches(noise).var().item() > 0.98
    assert losses.normalise_patches(noise, 1.2e-3).var().item() < 0.1


@pytest.mark.parametrize("temperature", [0.04, 0.07])
@pytest.mark.parametrize(("rows", "prototypes", "size"), [(6, 5, 0.3), (64, 256, 1.0), (16, 1024, 5.0)])
def test_sinkhorn_knopp_equals_the_plain_algorithm_in_float64(rows, prototypes, size, temperature):
    logits = (size * det((rows, prototypes), 0.7, 0.3)).float()
    expected = sinkhorn(logits.numpy(), temperature)
    assert np.abs(losses.sinkhorn_knopp(logits, temperature).numpy() - expected).max() < 1e-6


def test_sinkhorn_knopp_follows_prototypes_and_ignores_a_shift():
    x = 0.3 * det((6, 5), 0.7, 0.3)
    plan, order = losses.sinkhorn_knopp(x, 0.07), torch.tensor([3, 0, 4, 1, 2])
    assert torch.allclose(losses.sinkhorn_knopp(x[:, order], 0.07), plan[:, order], atol=1e-6)
    assert torch.allclose(losses.sinkhorn_knopp(x + 7, 0.07), plan, atol=1e-5)
    assert torch.allclose(plan.sum(1), torch.ones(6), atol=1e-6)
    assert torch.allclose(losses.sinkhorn_knopp(x, 0.07, rounds=200).sum(0), torch.full((5,), 6 / 5), atol=1e-5)


@pytest.mark.parametrize("size", [14.0, 200.0, 1e4])
def test_sinkhorn_knopp_cannot_overflow(size):
    logits = size * det((6, 5), 0.7, 0.3)
    plan = losses.sinkhorn_knopp(logits, 0.07)
    assert torch.isfinite(plan).all()
    assert torch.allclose(plan.sum(1), torch.ones(6), atol=1e-5)
    assert torch.allclose(losses.sinkhorn_knopp(logits + 50, 0.07), plan, atol=1e-2)


@pytest.mark.parametrize("name", ["dino", "ibot", "koleo", "gram"])
def test_losses_are_computed_in_fp32_under_autocast(name):
    student, targets = det((4, 6, 32), 0.31, 0.2).float(), torch.softmax(det((2, 6, 32), 0.53, 0.4).float() / 0.07, -1)
    loss = {
        "dino": lambda: losses.dino(student, targets),
        "ibot": lambda: losses.ibot(student[0], targets[0], torch.ones(6), crops=4),
        "koleo": lambda: losses.koleo(student[0]),
        "gram": lambda: losses.gram(student, student.flip(0)),
    }[name]
    expected = loss()
    with torch.autocast("cpu", torch.bfloat16):
        found = loss()
    assert found.dtype == torch.float32
    assert torch.equal(found, expected)


def test_koleo_needs_two_images():
    with pytest.raises(ValueError, match="at least two images"):
        losses.koleo(torch.ones(1, 4))


def test_multiblock_masks():
    keys = draws.text_keys([f"s{i}" for i in range(400)])
    reached = torch.zeros(64)
    for step in range(20):
        d = draws.Draws(keys, draws.text_keys([f"b{step}"]), 0, 400)
        mask = masks.multiblock(
            d.batch_uniform("sizes", 3), d.uniform(f"p{step}", 16, 5, 2), d.uniform(f"o{step}", 64), grid=8, context=16
        )
        context = torch.zeros(400, 64).scatter_(1, tensor(mask.context), 1)
        assert torch.equal(context.sum(1), torch.full((400,), 16.0))
        for block in tensor(mask.targets).unbind(1):
            hidden = torch.zeros(400, 64).scatter_(1, block, 1)
            assert torch.equal(hidden.sum(1), torch.full((400,), float(block.shape[1])))
            assert not (context * hidden).any()
        reached += context.sum(0)
    rows = reached.reshape(8, 8).sum(1)
    assert (reached > 0).all()
    assert torch.allclose(rows, rows.flip(0), rtol=0.1)


def test_masks_that_never_fit_are_laid_on_one_another():
    positions = np.zeros((3, 2, 5, 2))
    positions[:, :, 1], positions[:, :, 2], positions[:, :, 3] = 0.99, (0.0, 0.99), (0.99, 0.0)
    order = np.random.default_rng(0).random((3, 64))
    mask = masks.multiblock(np.array([0.9, 0.5, 0.1]), positions, order, grid=8, context=36)
    assert mask.context.shape == (3, 36)
    assert not set(mask.context[0].tolist()) & set(mask.targets[0].flatten().tolist())
    with pytest.raises(ValueError, match="context of 60 tokens on a 8 x 8 grid"):
        mask_sizes.check_context(8, 60, (0.15, 0.2), (0.85, 1.0))


def test_ibot_ladder_and_blocks():
    assert mask_sizes.ibot_counts(2, 196) == [98]
    counts, rng = np.arange(65), np.random.default_rng(0)
    assert np.array_equal(masks.blockwise(8, counts, rng.random((65, 32, 4)), rng.random((65, 64))).sum(1), counts)


def test_blocks_are_those_of_the_plain_algorithm_one_image_at_a_time():
    rng, grid = np.random.default_rng(0), 14
    counts, attempts, order = rng.integers(0, 99, 200), rng.random((200, 32, 4)), rng.random((200, grid**2))
    found, beside = masks.blockwise(grid, counts, attempts, order).reshape(-1, grid, grid), []
    for image, count in enumerate(counts):
        mask = np.zeros((grid, grid), dtype=bool)
        for area, aspect, row, column in attempts[image]:
            lacking = count - mask.sum()
            if lacking < 4:
                break
            area, aspect = 4 + area * (lacking - 4), 0.3 ** (1 - 2 * aspect)
            rows, columns = round((area * aspect) ** 0.5), round((area / aspect) ** 0.5)
            top, left = (int(u * (grid - side + 1)) for u, side in ((row, rows), (column, columns)))
            block = mask[top : top + rows, left : left + columns]
            if rows <= grid and columns <= grid and 0 < (~block).sum() <= lacking:
                block[:] = True
        assert (mask <= found[image]).all()
        beside.append(found[image].sum() - mask.sum())
        free = np.where(mask.ravel(), 2.0, order[image])
        assert np.array_equal((found[image] & ~mask).ravel(), free < np.sort(free)[beside[-1]])
    assert np.mean(np.array(beside) <= 3) > 0.95  # attempts suffice


def test_blocks_lie_everywhere_alike():
    rng, grid = np.random.default_rng(1), 14
    found = masks.blockwise(grid, np.full(4000, 60), rng.random((4000, 32, 4)), rng.random((4000, grid**2)))
    share = found.reshape(-1, grid, grid).mean(axis=0)
    for mirrored in (share[::-1], share[:, ::-1], share.T):
        assert np.abs(share - mirrored).max() < 0.05


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
