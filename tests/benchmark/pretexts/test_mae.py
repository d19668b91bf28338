"""MAE against its paper, timm and lightly: masks, target, loss, background, arms, and what one gradient step sees."""

from dataclasses import asdict

import numpy as np
import pytest
import torch

from benchmark import registry, tracks
from benchmark.encoders.encoder import Encoder, gather
from benchmark.parts import augment, draws, losses
from benchmark.pretexts import mae
from tests.helpers.seen import random_tokens
from tests.helpers.seen import views as look
from tests.parity import NANO as SPEC
from tests.parity import det

HIDDEN = registry.settings("mae", SPEC).mask_ratio


@pytest.fixture(scope="module")
def lightly() -> object:
    return pytest.importorskip("lightly.models.utils")


def model(modality: str = "histo", arm: str = "", **changes: object) -> mae.Model:
    settings = asdict(registry.settings(f"mae:{arm}" if arm else "mae", SPEC)) | changes
    return mae.Model(mae.Settings(**settings), Encoder(SPEC, seed=1), modality, seed=2)


def drawn(count: int) -> draws.Draws:
    return draws.Draws(draws.text_keys([str(i) for i in range(count)]), draws.text_keys(["step"]), 0, count)


def views(count: int = 6, seed: int = 0, ratio: float = HIDDEN) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    images, noise = (torch.rand(count, *shape, generator=generator) for shape in ((3, 32, 32), (16,)))
    return {"images": images, "noise": noise} | random_tokens(noise, ratio)._asdict()


def hidden_pixels(seen: dict[str, torch.Tensor]) -> torch.Tensor:
    """(B, 1, S, S) bool."""
    mask = random_tokens(seen["noise"], HIDDEN)
    flat = torch.zeros(seen["noise"].shape, dtype=torch.bool).scatter_(1, mask.hide, True)
    return flat.reshape(-1, 1, 4, 4).repeat_interleave(8, 2).repeat_interleave(8, 3)


def gradients(of: mae.Model, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    names, parameters = zip(*((n, p) for n, p in of.named_parameters() if p.requires_grad), strict=True)
    return dict(zip(names, torch.autograd.grad(loss, parameters), strict=True))


# Masks


@pytest.mark.parametrize(("tokens", "ratio"), [(16, 0.75), (196, 0.9), (50, 0.6)])
def test_kept_and_hidden_are_a_partition_and_restoring_undoes_the_shuffle(tokens, ratio):
    mask = random_tokens(torch.rand(5, tokens), ratio)
    assert mask.hide.shape[1] == tokens - int(tokens * (1 - ratio))
    both = torch.cat([mask.keep, mask.hide], dim=1)
    values = torch.rand(5, tokens, 3)
    assert torch.equal(both.sort(dim=1).values, torch.arange(tokens).expand(5, -1))
    assert torch.equal(gather(gather(values, both), mask.restore), values)


@pytest.mark.parametrize("ratio", [0.5, 0.6, 0.75, 0.8, 0.9])
def test_lightly_keeps_as_many(ratio, lightly):
    keep, hide = lightly.random_token_mask((3, 197), mask_ratio=ratio)
    ours = random_tokens(torch.rand(3, 196), ratio)
    assert keep.shape[1] == ours.keep.shape[1] + 1  # lightly counts cls among the kept
    assert hide.shape == ours.hide.shape


# Target and loss


def test_patches_can_be_put_back_exactly():
    x = det((2, 3, 32, 32), 0.37, 0.1)
    patches = losses.patchify(x, 8)
    assert patches[0, 1, 5] == x[0, 2, 0, 9]
    columns = patches.unflatten(2, (64, 3)).permute(0, 3, 2, 1).flatten(1, 2)
    assert torch.equal(torch.nn.functional.fold(columns, 32, 8, stride=8), x)


@pytest.mark.parametrize("floor", [1e-6, 1.2e-3])
def test_predicting_zero_costs_the_trivial_level(floor):
    patches = losses.patchify(det((2, 3, 32, 32), 0.37, 0.1), 8)
    target = losses.normalise_patches(patches, floor)
    variance = patches.var(dim=-1)
    trivial = (191 / 192 * variance / (variance + floor)).mean().item()
    assert target.square().mean().item() == pytest.approx(trivial, rel=1e-12)


def test_an_affine_change_of_grey_levels_leaves_the_target_as_it_is():
    patches = losses.patchify(det((2, 3, 32, 32), 0.37, 0.1), 8)
    before, after = (losses.normalise_patches(x) for x in (patches, 1.7 * patches + 0.3))
    assert torch.allclose(before, after, atol=1e-5)


def test_a_constant_patch_is_silent_and_has_finite_gradients():
    patches = torch.full((1, 2, 192), 0.4, requires_grad=True)
    target = losses.normalise_patches(patches)
    target.square().sum().backward()
    assert target.abs().max() < 1e-3
    assert torch.isfinite(patches.grad).all()


# What the model sees


def test_latents_see_visible_pixels_and_no_hidden_ones():
    seen, made = views(), model()
    hidden = hidden_pixels(seen)
    keep = random_tokens(seen["noise"], HIDDEN).keep
    latents = made.student(seen["images"], keep=keep)
    for where, same in ((hidden, True), (~hidden, False)):
        changed = torch.where(where, 1 - seen["images"], seen["images"])
        for before, after in zip(latents, made.student(changed, keep=keep), strict=True):
            assert torch.equal(before, after) == same
        assert made(seen | {"images": changed}, 0.5).loss != made(seen, 0.5).loss


def test_predictions_of_visible_patches_play_no_part():
    seen, made, decoded = views(), model(), []
    mask = random_tokens(seen["noise"], HIDDEN)
    loss = made(seen, 0.5).loss

    def nudge(where: torch.Tensor):
        def hook(_, __, out):
            decoded.append(out.detach().scatter_add(1, where, torch.ones(6, where.shape[1], 64)).requires_grad_())
            return decoded[-1]

        with_hook = made.decoder.register_forward_hook(hook)
        moved = made(seen, 0.5).loss
        with_hook.remove()
        return moved

    cls_and_visible = torch.cat([torch.zeros(6, 1, dtype=int), mask.keep + 1], dim=1)[..., None].expand(-1, -1, 64)
    moved = nudge(cls_and_visible)
    (gradient,) = torch.autograd.grad(moved, decoded[-1])
    assert torch.equal(moved, loss)
    assert not gradient.gather(1, cls_and_visible).any()
    assert gradient.gather(1, (mask.hide + 1)[..., None].expand(-1, -1, 64)).abs().amax(dim=2).min() > 0
    assert nudge((mask.hide[:, :1] + 1)[..., None].expand(-1, -1, 64)) != loss


def test_a_perfect_prediction_costs_nothing_and_zero_the_trivial_level(monkeypatch):
    seen, made = views(), model(variance_floor=1e-6, target="normalised")
    mask = random_tokens(seen["noise"], HIDDEN)
    target = losses.normalise_patches(losses.patchify(made.student.normalise(seen["images"]), 8))
    monkeypatch.setattr(made, "decode", lambda *_: gather(target, mask.hide))
    assert made(seen, 0.5).loss.item() == 0.0
    monkeypatch.setattr(made, "decode", lambda *_: torch.zeros(6, mask.hide.shape[1], 192))
    step = made(seen, 0.5)
    assert step.loss.item() == step.parts["trivial loss"].item() == pytest.approx(191 / 192, abs=1e-5)


@pytest.mark.parametrize("target", mae.TARGETS)
def test_what_each_target_says_of_a_patch(target):
    """All follow its texture; raw pixels and kept means its level too, whatever the level of the whole image."""
    made = model(target=target, variance_floor=1e-6)
    patches = losses.patchify(det((2, 3, 32, 32), 0.37, 0.1), 8)
    hide = torch.tensor([[3, 5, 11], [0, 1, 15]])
    before = made.targets(patches, hide)
    brighter = patches.clone()
    brighter[0, 3] += 1.0
    after = made.targets(brighter, hide)
    assert torch.allclose(after[0, 0], before[0, 0], atol=1e-6) == (target == "normalised")
    if target != "normalised":
        assert after[0, 0].mean() > before[0, 0].mean() + 0.5
    whole = made.targets(2 * patches + 0.3, hide)
    assert torch.allclose(whole, before, atol=1e-4) == (target != "raw")
    turned = patches.clone()
    turned[0, 3] = patches[0, 3].flip(0)
    assert torch.allclose(made.targets(turned, hide)[0, 0], before[0, 0].flip(0), atol=1e-6)


@pytest.mark.parametrize("target", mae.TARGETS)
def test_a_perfect_prediction_is_shown_as_the_image(target, monkeypatch):
    made, images = model(target=target), views(4)["images"]
    patches = losses.patchify(made.student.normalise(images), 8)
    monkeypatch.setattr(made, "decode", lambda cls, visible, hide, restore: made.targets(patches, hide))
    shown, filled = made.reconstruct(images, drawn(4))
    assert torch.allclose(filled, images, atol=1e-5)
    assert not torch.allclose(shown, images, atol=0.1)


@pytest.mark.parametrize("target", mae.TARGETS)
@pytest.mark.parametrize("modality", ["histo", "ultrasound"])
def test_the_trivial_level_is_that_of_the_best_grey_level_of_each_image(target, modality, monkeypatch):
    made, seen = model(modality, target=target), views()
    seen["images"] = seen["images"] * torch.linspace(0.2, 1, 6)[:, None, None, None]
    if modality == "ultrasound":
        seen["background"] = torch.zeros(6, 16, dtype=torch.bool)
        seen["background"][0] = True
        seen["background"][1, :9] = True
    level = torch.zeros(6, 1, 1, requires_grad=True)
    monkeypatch.setattr(made, "decode", lambda cls, visible, hide, _: level.expand(6, hide.shape[1], 192))
    for _ in range(2):  # the least squares of each image in one step of Newton, since all curvatures are known
        step = made(seen, 0.5)
        (slope,) = torch.autograd.grad(step.loss, level)
        kept = ~seen["background"].gather(1, seen["hide"]) if "background" in seen else torch.ones_like(seen["hide"])
        curvature = 2 * kept.float().mean(dim=1).clamp(min=1e-6) / 6
        level = (level - slope / curvature[:, None, None]).detach().requires_grad_()
    assert step.loss.item() == pytest.approx(step.parts["trivial loss"].item(), rel=1e-5)


def test_an_unknown_target_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="unknown target of mae 'rew'; did you mean 'raw'"):
        model(target="rew")


def test_every_parameter_gets_a_gradient_the_mask_token_too():
    made = model()
    found = gradients(made, made(views(), 0.5).loss)
    assert "mask_token" in found
    assert "student.vit.cls_token" in found
    for name, gradient in found.items():
        if not name.endswith("qkv.bias"):  # a shift of all keys changes no attention
            assert gradient.abs().max() > 1e-7, name


def test_the_order_of_kept_tokens_changes_neither_feature_nor_loss():
    seen, made = views(), model()
    mask = random_tokens(seen["noise"], HIDDEN)
    other = seen["noise"].clone()
    other.scatter_(1, mask.keep, seen["noise"].gather(1, mask.keep.flip(1)))
    before, after = made(seen, 0.5), made(seen | random_tokens(other, HIDDEN)._asdict(), 0.5)
    assert random_tokens(other, HIDDEN).keep.tolist() == mask.keep.flip(1).tolist()
    assert torch.allclose(before.pooled, after.pooled, atol=1e-5)
    assert after.loss.item() == pytest.approx(before.loss.item(), rel=1e-5)


def test_two_half_batches_accumulate_to_the_whole():
    made, seen = model("ultrasound"), views(8)
    seen["background"] = torch.zeros(8, 16, dtype=torch.bool)
    seen["background"][4:, :11] = True
    whole = made(seen, 0.5).loss
    halves = [made({key: value[part] for key, value in seen.items()}, 0.5).loss for part in (slice(4), slice(4, 8))]
    assert torch.stack(halves).mean().item() == pytest.approx(whole.item(), rel=1e-6)
    expected, found = gradients(made, whole), gradients(made, torch.stack(halves).mean())
    assert all(torch.allclose(found[name], expected[name], rtol=1e-4, atol=1e-7) for name in expected)


# FLOPs


# The arm of the authors


def test_the_official_arm_is_the_papers_recipe():
    for encoder in (tracks.TINY, tracks.SMALL, tracks.BASE):
        s = registry.settings("mae:official", encoder)
        assert (s.decoder_width, s.decoder_depth, s.decoder_heads) == (512, 8, 16)
        assert s.lr * 4096 / s.batch == pytest.approx(2.4e-3)
        assert (s.mask_ratio, s.variance_floor, s.background, s.crop) == (0.75, 1e-6, None, (0.2, 1.0))
        assert (s.beta2, s.weight_decay, s.end_weight_decay, s.clip, s.end_lr) == (0.95, 0.05, 0.05, None, 0.0)
        assert s.arm == "official"
    micro = registry.settings("mae:official", tracks.MICRO)
    assert (micro.decoder_width, micro.decoder_depth, micro.decoder_heads) == (96, 3, 3)


@pytest.mark.parametrize(("encoder", "gflops"), [(tracks.TINY, 34.0), (tracks.SMALL, 39.0), (tracks.BASE, 58.7)])
def test_its_cost_is_the_published_formulas(encoder, gflops):
    found = mae.flops(registry.settings("mae:official", encoder), encoder) / 1e9
    unseen = 3 * 2 * 50 * 512 * 768 / 1e9  # we do not predict the 49 visible patches and cls
    assert found + unseen == pytest.approx(gflops, abs=0.05)


def test_its_views_are_crops_and_left_right_flips_alone():
    grey = torch.full((64, 32, 32, 3), 100, dtype=torch.uint8)
    ramp = torch.arange(32, dtype=torch.uint8)
    across, down = (line.expand(64, 32, 32)[..., None].repeat(1, 1, 1, 3) * 8 for line in (ramp, ramp[:, None]))
    for modality in ("histo", "ultrasound"):
        seen = model(modality, "official")
        assert torch.allclose(look(seen, grey, drawn(64))["images"], torch.tensor(100 / 255), atol=1e-6)
        sideways = look(seen, across, drawn(64))["images"].diff(dim=3).mean(dim=(1, 2, 3)) > 0
        assert 16 < sideways.sum() < 48
        assert (look(seen, down, drawn(64))["images"].diff(dim=2).mean(dim=(1, 2, 3)) > 0).all()
        assert look(model(modality), grey, drawn(64))["images"].std() > 0.01


# Background


def sectors(count: int, height: int) -> torch.Tensor:
    """Stored uint8 scans: noise above, background of grey levels up to 8 from row `height` down."""
    generator = torch.Generator().manual_seed(0)
    scans = torch.randint(40, 256, (count, 32, 32, 3), generator=generator, dtype=torch.uint8)
    scans[:, height:] = torch.randint(0, 9, (count, 32 - height, 32, 3), generator=generator, dtype=torch.uint8)
    return scans


def test_background_is_what_has_no_pixel_above_the_threshold(monkeypatch):
    monkeypatch.setattr(augment, "boxes", lambda *_: np.tile([0.0, 0.0, 1.0, 1.0], (4, 1, 1)))
    scans = sectors(4, 16)
    scans[0, 31, 31] = 9
    seen = look(model("ultrasound"), scans, drawn(4))
    boxes = torch.ones(4, 4, 4, dtype=torch.bool)
    boxes[:, :2] = False
    found = seen["background"].reshape(4, 4, 4)
    assert torch.equal(found[1:], boxes[1:])
    assert int(found[0].sum()) == 7
    assert seen["images"][:, :, 24:].max() > 8.5 / 255  # judged before gain makes it brighter


def test_background_carries_no_loss_on_ultrasound_and_counts_elsewhere():
    scans = sectors(4, 16)
    assert "background" not in look(model("histo"), scans, drawn(4))
    assert "background" not in look(model("ultrasound", "official"), scans, drawn(4))
    made, seen = model("ultrasound", target="normalised"), views()
    mask = random_tokens(seen["noise"], HIDDEN)
    background = torch.zeros(6, 16, dtype=torch.bool)
    background[0] = True
    silent = mask.hide.shape[1] - 3
    background[1].scatter_(0, mask.hide[1, :silent], True)
    target = losses.normalise_patches(losses.patchify(made.student.normalise(seen["images"]), 8), 1.2e-3)
    error = (
        made.decode(*made.student(seen["images"], keep=mask.keep), mask.hide, mask.restore) - gather(target, mask.hide)
    ).square()
    hidden = mask.hide.numel()  # silent ones included
    counted = torch.cat([error[1, silent:], *error[2:]]).sum() / (hidden * 192)
    assert len(error[1, silent:]) == 3
    step = made(seen | {"background": background}, 0.5)
    assert step.loss.item() == pytest.approx(counted.item(), rel=1e-6)
    assert step.loss.item() != pytest.approx(made(seen, 0.5).loss.item(), rel=1e-4)
    trivial = torch.cat([gather(target, mask.hide)[1, silent:], *gather(target, mask.hide)[2:]]).square().sum() / (
        hidden * 192
    )
    assert step.parts["trivial loss"].item() == pytest.approx(trivial.item(), rel=1e-6)


def test_a_batch_of_background_alone_has_no_loss_and_zero_gradients():
    made, seen = model("ultrasound"), views()
    loss = made(seen | {"background": torch.ones(6, 16, dtype=torch.bool)}, 0.5).loss
    assert loss.item() == 0.0
    assert not any(gradient.any() for gradient in gradients(made, loss).values())
