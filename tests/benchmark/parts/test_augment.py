"""Views: what each modality allows, against closed forms, kornia and torchvision; what a view depends on."""

import math
from functools import partial

import kornia.enhance
import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import functional as oracle

from benchmark.parts import augment
from benchmark.parts.draws import Draws, keyed, tensors, text_keys

MODALITIES = ("ultrasound", "histo", "unheard of")


def imagenet(blur: float, solarise: float) -> augment.Imagenet:
    return augment.Imagenet(blur=(blur,), solarise=(solarise,))


def drawn(count: int, seed: int = 0, epoch: int = 0) -> Draws:
    keys = keyed(text_keys([f"task/{i}" for i in range(count)]), seed, epoch)
    return Draws(keys, text_keys(["step"]), 0, count)


def crops(modality: str, *, pixels: int = 24, count: int = 1, photometric: bool = True, **options) -> augment.Crops:
    policy = augment.policy(modality) if photometric else None
    options = {"purpose": "x", "scale": (0.3, 1.0), "orientations": modality, "policy": policy} | options
    return augment.Crops(pixels=pixels, count=count, **options)


def look(of: augment.Crops, images: torch.Tensor, draws: Draws) -> torch.Tensor:
    return of(stored(images), tensors(of.draw(draws)))


def changed(policy: augment.Policy | augment.Imagenet, images: torch.Tensor, draws: Draws) -> torch.Tensor:
    """Whole images under a photometric policy."""
    return policy.apply(images, tensors(policy.draw(draws, "x", 1, images.shape[-1])), "x")


def stored(images: torch.Tensor) -> torch.Tensor:
    """(N, 3, S, S) in [0, 1] -> (N, S, S, 3) uint8."""
    return (images * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def upright(count: int) -> np.ndarray:
    return np.zeros((count, 1, 3), dtype=bool)


def cut(images: torch.Tensor, boxes: np.ndarray, turns: np.ndarray, pixels: int) -> torch.Tensor:
    return augment.cut(stored(images), tensors(augment.draw_cut(boxes, turns, "x")), "x", pixels)


def pictures(count: int, pixels: int, seed: int = 0) -> torch.Tensor:
    """Smooth colour images (count, 3, pixels, pixels), every value taken."""
    coarse = torch.rand(count, 3, 5, 5, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(coarse, size=(pixels, pixels), mode="bicubic").clamp(0, 1)


def scan(count: int, pixels: int) -> torch.Tensor:
    """Grey images of a lit sector with dark cysts on a black background."""
    grey = pictures(count, pixels)[:, :1]
    x = torch.linspace(-1, 1, pixels)
    sector = x.abs()[None, :] < (x[:, None] + 1.3) / 2.3
    return (grey * sector * (grey > 0.3)).repeat(1, 3, 1, 1)


def arrow(pixels: int = 32) -> torch.Tensor:
    """(3, S, S): an arrow pointing down, with a flag on its left."""
    image = torch.full((3, pixels, pixels), 0.1)
    middle = pixels // 2
    image[:, 4 : pixels - 4, middle - 2 : middle + 2] = 0.9
    for row in range(8):
        image[:, pixels - 4 - row, middle - 1 - row : middle + 1 + row] = 0.9
    image[:, 4:10, middle - 10 : middle] = 0.9
    return image


def eight(image: torch.Tensor) -> torch.Tensor:
    """(8, 3, S, S): as it is, mirrored left-right, then the other six orientations."""
    turns = [torch.rot90(image, k, (1, 2)) for k in range(4)]
    return torch.stack([turned for k in range(4) for turned in (turns[k], turns[k].flip(2))])


def shares(modality: str, **options: object) -> np.ndarray:
    """How often each of the eight orientations of an arrow is seen."""
    image, count = arrow(), 4000
    batch = image.expand(count, -1, -1, -1)
    seen = look(crops(modality, pixels=32, scale=(0.9, 1), **options), batch, drawn(count))
    patterns = eight(image).flatten(1)
    patterns = patterns - patterns.mean(dim=1, keepdim=True)
    return np.bincount((seen.flatten(1) @ patterns.T).argmax(dim=1).numpy(), minlength=8) / count


def between(draws: Draws, name: str, low: float, high: float) -> torch.Tensor:
    """The draws of one number for each image."""
    return torch.from_numpy(draws.between(f"x/{name}", low, high, 1, 1)[:, 0, 0])


# ------------------------------------------------------------------------------------------------- geometry


def test_an_arrow_in_ultrasound_never_points_up_and_is_mirrored_half_of_the_time():
    seen = shares("ultrasound")
    assert seen[2:].sum() == 0
    assert abs(seen[0] - 0.5) < 0.04


def test_all_eight_orientations_of_histology_occur_in_equal_shares():
    assert np.abs(shares("histo") - 1 / 8).max() < 0.025  # five standard deviations of 4,000 draws


@pytest.mark.parametrize("modality", MODALITIES)
def test_without_flips_an_arrow_is_never_turned_or_mirrored(modality):
    assert shares(modality, orientations="none")[0] == 1


def test_a_turned_crop_is_the_crop_turned():
    image, turns = pictures(1, 16)[0].expand(200, -1, -1, -1), augment.orientations(drawn(200), "x", 1, "histo")
    box = np.tile([0.1, 0.2, 0.8, 0.5], (200, 1, 1))
    seen = cut(image, box, turns, 16)
    straight = cut(image[:1], box[:1], upright(1), 16)[0]
    distance = (seen[:, None] - eight(straight)[None]).abs().amax(dim=(2, 3, 4))
    assert distance.min(dim=1).values.max() < 1e-5
    assert len(distance.argmin(dim=1).unique()) == 8


@pytest.mark.parametrize("pixels", [12, 20, 24, 40, 60])
def test_a_crop_is_the_antialiased_resized_cut_of_torchvision(pixels):
    images = pictures(3, 40)
    images = stored(images).permute(0, 3, 1, 2) / 255
    for left, top, width, height in ((4, 10, 20, 30), (0, 0, 40, 40), (12, 1, 25, 25)):
        box = np.tile(np.array([left, top, width, height]) / 40, (3, 1, 1))
        ours = cut(images, box, upright(3), pixels)
        theirs = oracle.resized_crop(images, top, left, height, width, [pixels, pixels], antialias=True)
        whole = (width, height) == (40, 40)
        rim = 0 if whole else -(-pixels // min(width, height)) + 1  # there ours sees beyond the box
        inside = slice(rim, pixels - rim)
        assert torch.allclose(ours[..., inside, inside], theirs[..., inside, inside], atol=1e-5)


def test_a_grating_too_fine_for_the_crop_is_averaged_and_not_aliased():
    grating = (torch.arange(64) % 2).float().expand(1, 3, 64, 64)
    whole = np.tile([0.0, 0.0, 1.0, 1.0], (1, 1, 1))
    seen = cut(grating, whole, upright(1), 27)
    assert grating.std() == pytest.approx(0.5, abs=0.01)
    assert seen.std() < 0.06


def test_crops_of_one_call_are_those_of_as_many_calls():
    images, draws = pictures(5, 32), drawn(5)
    boxes = augment.boxes(draws, "x", 3, (0.05, 0.32))
    turns = augment.orientations(draws, "x", 3, "histo")
    together = cut(images, boxes, turns, 16).unflatten(0, (3, 5))
    for crop in range(3):
        apart = cut(images, boxes[:, [crop]], turns[:, [crop]], 16)
        assert torch.equal(together[crop], apart)
    assert len({tuple(box) for box in boxes.reshape(-1, 4).tolist()}) == 15


@pytest.mark.parametrize("modality", MODALITIES)
def test_every_crop_of_an_image_is_changed_by_parameters_of_its_own(modality):
    images = pictures(1, 32).expand(4, -1, -1, -1)
    of = crops(modality, count=6, scale=(1.0, 1.0), orientations="none")
    seen = look(of, images, drawn(4))
    assert len(torch.unique(seen.flatten(1), dim=0)) == 24


def test_boxes_lie_inside_the_image_and_keep_to_their_scale_and_aspect():
    left, top, width, height = torch.from_numpy(augment.boxes(drawn(2000), "x", 1, (0.1, 0.5))[:, 0]).unbind(dim=1)
    assert min(left.min(), top.min()) >= 0
    assert max((left + width).max(), (top + height).max()) <= 1 + 1e-6
    places = torch.stack([left / (1 - width), top / (1 - height), width, height])
    assert places.corrcoef()[:2].fill_diagonal_(0).abs().max() < 0.08
    area, aspect = width * height, (width / height).log()
    assert torch.allclose(torch.stack([area.min(), area.mean(), area.max()]), torch.tensor([0.1, 0.3, 0.5]), atol=0.01)
    assert torch.allclose(
        torch.stack([aspect.min(), aspect.mean(), aspect.max()]).exp(), torch.tensor([0.75, 1, 4 / 3]), atol=0.01
    )


@pytest.mark.parametrize("modality", MODALITIES)
def test_without_the_photometric_policy_a_view_is_the_same_crop_with_its_pixels_as_they_are(modality):
    images, draws = pictures(8, 24), drawn(8)
    plain, full = (look(crops(modality, photometric=on), images, draws) for on in (False, True))
    turns, boxes = augment.orientations(draws, "x", 1, modality), augment.boxes(draws, "x", 1, (0.3, 1))
    assert torch.equal(plain, cut(images, boxes, turns, 24))
    assert torch.equal(full, changed(augment.policy(modality), plain, draws))
    assert (full - plain).abs().amax(dim=(1, 2, 3)).min() > 0.005


# ----------------------------------------------------------------------------------------------- ultrasound


@pytest.mark.parametrize("pixels", [27, 64])
def test_black_stays_black_and_grey_stays_exactly_grey_in_ultrasound(pixels):
    images = scan(64, 48)
    of = partial(crops, "ultrasound", pixels=pixels, scale=(0.4, 1))
    before, after = (look(of(photometric=on), images, drawn(64)) for on in (False, True))
    assert 0.1 < (before == 0).float().mean() < 0.9
    assert (after[before == 0] == 0).all()
    assert torch.equal(after, after[:, :1].expand_as(after))
    assert torch.equal(after, after.clamp(0, 1))


def test_a_black_image_stays_black_and_finite():
    black = torch.zeros(16, 3, 16, 16)
    assert torch.equal(changed(augment.policy("ultrasound"), black, drawn(16)), black)


def test_a_colour_doppler_overlay_keeps_its_hue():
    images = 0.1 + 0.4 * pictures(32, 24)
    seen = changed(augment.policy("ultrasound"), images, drawn(32))
    assert torch.allclose(seen[:, 0] * images[:, 1], seen[:, 1] * images[:, 0], atol=1e-6)


def test_the_receiver_is_the_closed_form_of_gamma_gain_and_a_tilt_with_depth():
    grey, draws = 0.5 * scan(16, 32), drawn(16)
    images = grey[:, :1]
    gamma, gain, tilt = (
        between(draws, *given) for given in (("dynamic range", 0.8, 1.2), ("gain", 0.9, 1.1), ("tilt", -0.2, 0.2))
    )
    seen = augment.receive(images, torch.stack([gamma, gain, tilt], dim=1))
    expected = kornia.enhance.adjust_gamma(images, gamma, gain)
    for row in range(32):
        factor = torch.exp(tilt * (2 * row / 31 - 1))
        assert torch.allclose(seen[:, :, row], expected[:, :, row] * factor[:, None, None], atol=1e-6)
    assert tilt.std() > 0.08
    sharp = between(draws, "blur?", 0, 1) >= 0.2
    whole = changed(augment.policy("ultrasound"), grey, draws)
    assert torch.allclose(whole[sharp], seen.clamp(max=1).expand_as(grey)[sharp], atol=1e-6)


def test_echogenicity_keeps_its_order_within_a_row():
    ramp = torch.linspace(0, 0.6, 32).expand(200, 1, 32, 32)
    seen = augment.receive(ramp, tensors(augment.draw_ultrasound(drawn(200), "x", 1, 32))["x/receiver"])
    assert (seen.diff(dim=3) > 0).all()


# ------------------------------------------------------------------------------------------------ histology


def test_stain_jitter_scales_and_shifts_the_densities_an_image_is_made_of():
    """Beer-Lambert in float64 with the vectors of Ruifrok & Johnston as they stand, as scikit-image's hed2rgb does."""
    vectors = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]])
    lengths = np.linalg.norm(vectors, axis=1)
    amounts = np.random.default_rng(0).uniform(0.05, 2.2, (6, 3, 9, 9))  # of each vector as it stands
    images = np.exp(-np.einsum("bshw,sc->bchw", amounts, vectors))
    assert images.min() > 1 / 255
    draws = drawn(6)
    gain = draws.between("x/stain gain", 0.92, 1.08, 1, 3)[:, 0, :, None, None].astype(float)
    shift = draws.between("x/stain shift", -0.02, 0.02, 1, 3)[:, 0, :, None, None].astype(float)
    jittered = amounts * gain + shift / lengths[:, None, None]
    expected = np.exp(-np.einsum("bshw,sc->bchw", jittered, vectors)).clip(0, 1)
    seen = augment.restain(
        torch.from_numpy(images).float(), tensors(augment.draw_stains(draws, "x", 1))["x/stains"]
    ).numpy()
    assert np.abs(seen - expected).max() < 2e-6
    assert np.abs(seen - images).max() > 0.01


def test_exposure_is_contrast_and_brightness_of_torchvision():
    images, draws = pictures(12, 24), drawn(12)
    seen = changed(augment.policy("unheard of"), images, draws)
    slope, gain = between(draws, "contrast", 0.8, 1.2), between(draws, "brightness", 0.9, 1.1)
    for i in range(12):
        expected = oracle.adjust_brightness(oracle.adjust_contrast(images[i], float(slope[i])), float(gain[i]))
        assert torch.allclose(seen[i], expected, atol=1e-4)  # its grey weight of red is .2989, ours .299


def test_blur_is_torchvisions_on_a_share_of_the_images_and_leaves_the_others():
    images, draws = pictures(400, 16), drawn(400)
    seen = augment.blur(images, tensors(augment.draw_blur(draws, "x", 1, 0.35, (0.1, 0.9))), "x")
    sigma, chosen = between(draws, "sigma", 0.1, 0.9), between(draws, "blur?", 0, 1) < 0.35
    assert torch.equal(seen[~chosen], images[~chosen])
    assert abs(chosen.float().mean() - 0.35) < 0.1
    for i in chosen.nonzero()[:20, 0]:
        expected = oracle.gaussian_blur(images[i], [5, 5], [float(sigma[i])] * 2)
        assert torch.allclose(seen[i], expected, atol=1e-5)


@pytest.mark.parametrize(("modality", "share", "strongest"), [("ultrasound", 0.2, 0.5), ("histo", 0.35, 0.9)])
def test_a_policy_ends_with_a_mild_blur_in_proportion_to_the_view(modality, share, strongest):
    images, draws = 0.2 + 0.4 * pictures(60, 112)[:, :1].repeat(1, 3, 1, 1), drawn(60)
    parameters = tensors(augment.policy(modality).draw(draws, "x", 1, 112))
    if modality == "ultrasound":
        sharp = augment.receive(images[:, :1], parameters["x/receiver"]).expand_as(images)
    else:
        sharp = augment.tint(images, parameters["x/exposure"], parameters["x/stains"])
    seen = changed(augment.policy(modality), images, draws)
    chosen, sigma = between(draws, "blur?", 0, 1) < share, between(draws, "sigma", 0.1, strongest)
    size = 2 * math.ceil(2 * strongest) + 1
    for i in range(60):
        expected = oracle.gaussian_blur(sharp[i], [size] * 2, [float(sigma[i])] * 2) if chosen[i] else sharp[i]
        assert torch.allclose(seen[i], expected.clamp(max=1), atol=1e-5)
    assert 5 < chosen.sum() < 30


# ------------------------------------------------------------------------------------------------- ImageNet


def test_the_imagenet_policy_is_torchvisions_operators_one_sample_at_a_time():
    images, draws, side = pictures(96, 32), drawn(96), 32 / 224
    seen = changed(imagenet(blur=0.3, solarise=0.2), images, draws)
    jittered, grey, solarised = draws.uniform("x/imagenet?", 1, 3)[:, 0].T
    order = draws.uniform("x/jitter order", 1, 4)[:, 0].argsort(axis=1).tolist()
    departure = draws.between("x/jitter", -1, 1, 1, 4)[:, 0]
    blurred, sigma = between(draws, "blur?", 0, 1) < 0.3, between(draws, "sigma", 0.1 * side, 2 * side)
    for i, image in enumerate(images):
        brightness, contrast, saturation, hue = departure[i].tolist()
        steps = (
            lambda x, amount=1 + 0.4 * brightness: oracle.adjust_brightness(x, amount),
            lambda x, amount=1 + 0.4 * contrast: oracle.adjust_contrast(x, amount),
            lambda x, amount=1 + 0.2 * saturation: oracle.adjust_saturation(x, amount),
            lambda x, amount=0.1 * hue: oracle.adjust_hue(x, amount),
        )
        for kind in order[i] if jittered[i] < 0.8 else ():
            image = steps[kind](image)
        if grey[i] < 0.2:
            image = oracle.rgb_to_grayscale(image, num_output_channels=3)
        if blurred[i]:
            image = oracle.gaussian_blur(image, [3, 3], [float(sigma[i])] * 2)
        if solarised[i] < 0.2:
            clear = (image - 0.5).abs() > 5e-4  # where rounding does not decide the side of the threshold
            image = torch.where(clear, oracle.solarize(image, 0.5), seen[i])
        assert torch.allclose(seen[i], image, atol=5e-4), i  # grey weights .299 against .2989
    assert len({tuple(one) for one in order}) > 18  # of 24


def test_shares_of_the_imagenet_policy():
    images, draws = pictures(1, 8).expand(2000, -1, -1, -1), drawn(2000)
    never = changed(imagenet(blur=0, solarise=0), images, draws)
    assert abs((never == images).all(dim=(1, 2, 3)).float().mean() - 0.2 * 0.8) < 0.03
    assert abs((never[:, 0] == never[:, 1]).all(dim=(1, 2)).float().mean() - 0.2) < 0.03
    for chance in (0.2, 1.0):
        solarised = changed(imagenet(blur=0, solarise=chance), images, draws)
        assert abs((solarised != never).any(dim=3).any(dim=(1, 2)).float().mean() - chance) < 0.03
    assert solarised.max() <= 0.5


def test_imagenet_blur_is_nine_pixels_wide_at_224():
    image = torch.zeros(12, 3, 224, 224)
    image[:, :, 112, 112] = 1
    blurred, sharp = (changed(imagenet(blur=chance, solarise=0), image, drawn(12)) for chance in (1, 0))
    touched = ((blurred - sharp).abs() > 1e-5).any(dim=3).any(dim=(0, 1)).nonzero()[:, 0]
    assert touched.tolist() == list(range(108, 117))


# --------------------------------------------------------------------------------- what a view depends on


LOOKS = {
    **{name: partial(crops, name, scale=(0.4, 1), pixels=20, count=2) for name in MODALITIES},
    "imagenet": lambda purpose="x": crops(
        "ultrasound", purpose=purpose, count=2, policy=augment.Imagenet(blur=(0.5, 0.2), solarise=(0.2, 0.5))
    ),
}


@pytest.mark.parametrize("name", LOOKS)
def test_a_view_depends_on_its_own_sample_alone(name):
    of, images, draws = LOOKS[name](), pictures(24, 24), drawn(24)
    together = look(of, images, draws).unflatten(0, (2, 24))
    shuffled = np.random.default_rng(0).permutation(24)
    for rows in ([0], [23], [5, 2], shuffled, shuffled[:7]):
        rows = np.array(rows)
        alone = Draws(draws.samples[rows], text_keys(["another step"]), 3, 100)
        apart = look(of, images[rows], alone).unflatten(0, (2, len(rows)))
        assert torch.allclose(apart, together[:, rows], rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", LOOKS)
def test_another_seed_or_epoch_or_purpose_gives_another_view_and_the_same_key_the_same(name):
    of, images = LOOKS[name](), pictures(24, 24)
    first = look(of, images, drawn(24))
    assert torch.equal(look(of, images, drawn(24)), first)
    for other in (
        look(of, images, drawn(24, seed=1)),
        look(of, images, drawn(24, epoch=1)),
        look(LOOKS[name](purpose="y"), images, drawn(24)),
    ):
        assert ((other - first).abs().amax(dim=(1, 2, 3)) > 1e-3).float().mean() > 0.6


@pytest.mark.parametrize("name", LOOKS)
def test_no_view_reads_a_value_back_from_the_device(name):
    """The meta device holds no values, so every `.item()`, truth value or boolean index on the device raises."""
    of = LOOKS[name]()
    there = {name: value.to("meta") for name, value in tensors(of.draw(drawn(16))).items()}
    assert of(torch.empty(16, 24, 24, 3, dtype=torch.uint8, device="meta"), there).shape[:2] == (32, 3)


def test_stored_bytes_become_floats_between_zero_and_one():
    stored = torch.arange(2 * 4 * 4 * 3, dtype=torch.uint8).reshape(2, 4, 4, 3)
    seen = augment.to_float(stored)
    assert seen.is_contiguous()
    assert math.isclose(seen[1, 2, 3, 1], float(stored[1, 3, 1, 2]) / 255, rel_tol=1e-6)
