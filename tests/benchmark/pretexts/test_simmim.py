"""SimMIM against its paper: which pixels are hidden, what the loss sees of them, and what a run costs."""

import math
from dataclasses import asdict

import pytest
import torch

from benchmark import registry, tracks
from benchmark.encoders.encoder import Encoder
from benchmark.parts import losses
from benchmark.pretexts import simmim
from benchmark.recipe import EncoderSpec

SPEC = EncoderSpec(width=64, depth=2, heads=2, patch=8, pixels=32)


def model(**changes: object) -> simmim.Model:
    settings = asdict(registry.settings("simmim", SPEC)) | changes
    return simmim.Model(simmim.Settings(**settings), Encoder(SPEC, seed=1), "histo", seed=2)


def hidden_units(noise: torch.Tensor, hidden: int, unit: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Bool (B, N), and the same as sorted places (B, hidden)."""
    index = torch.from_numpy(simmim.hidden_units(noise.numpy(), hidden, unit))
    assert (index.diff(dim=1) > 0).all()
    return torch.zeros(len(noise), (noise.shape[1] * unit) ** 2, dtype=torch.bool).scatter_(1, index, True), index


def views(count: int = 4, hidden: int = 10) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(count, 3, 32, 32, generator=generator)
    mask, index = hidden_units(torch.rand(count, 4, 4, generator=generator), hidden, 1)
    return {"images": images, "hidden": mask, "index": index}


def pixels(hidden: torch.Tensor) -> torch.Tensor:
    """(B, N) bool over patches -> (B, 1, S, S)."""
    return hidden.reshape(-1, 1, 4, 4).repeat_interleave(8, 2).repeat_interleave(8, 3)


@pytest.mark.parametrize(
    ("encoder", "unit", "hidden"),
    [(tracks.SMALL, 2, 120), (tracks.MICRO, 1, 39), (tracks.NANO, 1, 10)],  # at 224 pixels: 30 of 49 units of 32 pixels
)
def test_a_constant_number_of_whole_units_is_hidden(encoder, unit, hidden):
    s = registry.settings("simmim", encoder)
    assert s.unit == unit
    assert simmim.hidden_tokens(s, encoder) == hidden
    side = encoder.grid // unit
    noise = torch.rand(400, side, side, generator=torch.Generator().manual_seed(0))
    mask = hidden_units(noise, hidden, unit)[0].reshape(400, side, unit, side, unit)
    assert torch.equal(mask.sum(dim=(1, 2, 3, 4)), torch.full((400,), hidden))
    units = mask.transpose(2, 3).flatten(3)
    assert torch.equal(units.all(dim=3), units.any(dim=3))
    assert (units.any(dim=3).float().mean(dim=0) - hidden / encoder.grid**2).abs().max() < 0.12


def test_the_units_of_lowest_noise_are_hidden_where_they_lie():
    noise = torch.tensor([[[0.9, 0.1], [0.2, 0.8]]])
    expected = [[0, 0, 1, 1], [0, 0, 1, 1], [1, 1, 0, 0], [1, 1, 0, 0]]
    assert hidden_units(noise, 8, 2)[0].reshape(4, 4).int().tolist() == expected


def test_units_that_do_not_tile_the_grid_are_refused():
    s = simmim.Settings(batch=8, lr=1e-3, unit=3)
    with pytest.raises(ValueError, match="mask units of 3 x 3 patches do not tile a grid of 4 x 4"):
        simmim.hidden_tokens(s, SPEC)


@pytest.mark.parametrize("grid", [4, 7, 8, 13, 14, 16, 28])
def test_every_grid_has_a_unit(grid):
    encoder = EncoderSpec(width=64, depth=2, heads=2, patch=8, pixels=8 * grid)
    assert 0 < simmim.hidden_tokens(registry.settings("simmim", encoder), encoder) < grid**2


def test_the_encoder_sees_visible_pixels_and_no_hidden_ones():
    made, seen = model(), views()
    options = {"hidden": seen["hidden"], "mask_token": made.mask_token}
    before = made.student(seen["images"], **options)
    hidden = pixels(seen["hidden"])
    for where, same in ((hidden, True), (~hidden, False)):
        after = made.student(torch.where(where, 1 - seen["images"], seen["images"]), **options)
        assert torch.equal(before.patches, after.patches) == same
        assert torch.equal(before.cls, after.cls) == same


def test_the_loss_is_the_mean_absolute_error_of_hidden_pixels():
    """With the prediction layer at 0 the prediction is its bias: the loss is arithmetic."""
    made, seen = model(), views()
    torch.nn.init.zeros_(made.predict.weight)
    torch.nn.init.constant_(made.predict.bias, 0.25)
    normed = (seen["images"] - 0.5) / 0.25
    errors = (normed - 0.25).abs() * pixels(seen["hidden"])
    step = made(seen, 0.5)
    count = int(seen["hidden"].sum()) * 8 * 8 * 3
    assert count == 4 * 10 * 192
    assert step.loss.item() == pytest.approx(errors.sum().item() / count, rel=1e-5)
    trivial = (normed.abs() * pixels(seen["hidden"])).sum().item() / count
    assert step.parts["trivial loss"].item() == pytest.approx(trivial, rel=1e-5)


def test_a_golden_by_hand():
    """One grey image at 0.75, one unit above the mean in normalised units; a prediction of 0.4 errs by 0.6."""
    made, seen = model(), views(1)
    torch.nn.init.zeros_(made.predict.weight)
    torch.nn.init.constant_(made.predict.bias, 0.4)
    seen["images"] = torch.full((1, 3, 32, 32), 0.75)
    assert made(seen, 0.5).loss.item() == pytest.approx(0.6, abs=1e-6)
    seen["images"][pixels(seen["hidden"]).expand(-1, 3, -1, -1)] = 0.25  # one unit below: 1.4
    assert made(seen, 0.5).loss.item() == pytest.approx(1.4, abs=1e-6)


def test_visible_pixels_carry_no_loss_of_their_own():
    """With a constant prediction, so that the encoder plays no part."""
    made, seen = model(), views()
    torch.nn.init.zeros_(made.predict.weight)
    changed = torch.where(pixels(seen["hidden"]), seen["images"], 1 - seen["images"])
    assert made(seen | {"images": changed}, 0.5).loss.item() == made(seen, 0.5).loss.item()
    hidden = torch.where(pixels(seen["hidden"]), seen["images"] * 0.5, seen["images"])
    assert made(seen | {"images": hidden}, 0.5).loss.item() != made(seen, 0.5).loss.item()


def test_predictions_sit_on_their_own_patches():
    """A prediction layer that copies the pixels of each hidden patch, given in its token, is perfect."""
    made, seen = model(), views()
    target = losses.patchify((seen["images"] - 0.5) / 0.25, 8)
    made.student.forward = lambda *_, **__: type("Tokens", (), {"patches": target})
    made.predict = torch.nn.Identity()
    assert made(seen, 0.5).loss.item() < 1e-6


def test_masks_crops_and_clipping_are_the_papers():
    s = registry.settings("simmim", tracks.BASE)
    assert (s.mask_ratio, s.crop, s.clip) == (0.6, (0.67, 1.0), 5.0)
    assert (s.warmup, s.weight_decay, s.end_weight_decay, s.beta2) == (0.1, 0.05, 0.05, 0.999)
    assert math.isclose(simmim.hidden_tokens(s, tracks.BASE) / 196, 30 / 49)
