"""Views of whole batches on the device, from per-sample draws.

Crops, flips and quarter turns are one affine resampling. Photometric policy: one per modality, shared by every
pretext, so that a difference between pretexts is not a difference of augmentation; each pretext brings its own crops.
Sources for what is label-safe: Kang et al. arXiv 2212.04690 (histology), VanBerlo et al. arXiv 2504.07904 and Tupper &
Gagné arXiv 2501.13193 (ultrasound). `imagenet` is the policy of natural images, for the authors' own recipes alone.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from kornia.color import rgb_to_grayscale
from kornia.enhance import (
    adjust_brightness_accumulative,
    adjust_contrast_with_mean_subtraction,
    adjust_hue,
    adjust_saturation_with_gray_subtraction,
    solarize,
)
from kornia.filters import gaussian_blur2d
from torch import Tensor

from benchmark.draws import Draws

# Optical-density vectors of haematoxylin, eosin and the residual (Ruifrok & Johnston 2001), rows of unit length.
STAINS = F.normalize(torch.tensor([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]]), dim=1)
UNMIXING = torch.linalg.inv(STAINS)
# DINO's colour jitter: operator, neutral factor, largest departure from it (hue in radians).
JITTER = (
    (adjust_brightness_accumulative, 1.0, 0.4),
    (adjust_contrast_with_mean_subtraction, 1.0, 0.4),
    (adjust_saturation_with_gray_subtraction, 1.0, 0.2),
    (adjust_hue, 0.0, 0.1 * 2 * math.pi),
)


def to_float(images: Tensor) -> Tensor:
    """Stored uint8 (B, S, S, 3) -> (B, 3, S, S) in [0, 1]."""
    return images.permute(0, 3, 1, 2).contiguous().float().div_(255)


def boxes(
    draws: Draws, purpose: str, scale: tuple[float, float], aspect: tuple[float, float] = (3 / 4, 4 / 3)
) -> Tensor:
    """Random-resized-crop boxes (B, 4): left, top, width, height as shares of the side.

    Area uniform in scale, aspect log-uniform, as torchvision draws them; a side longer than the image is cut to it
    instead of being drawn again.
    """
    u = draws.uniform(f"{purpose}/box", 4)
    area = scale[0] + (scale[1] - scale[0]) * u[:, 0]
    ratio = torch.exp(math.log(aspect[0]) + (math.log(aspect[1]) - math.log(aspect[0])) * u[:, 1])
    width, height = (area * ratio).sqrt().clamp(max=1), (area / ratio).sqrt().clamp(max=1)
    return torch.stack([u[:, 2] * (1 - width), u[:, 3] * (1 - height), width, height], dim=1)


def orientations(draws: Draws, purpose: str, modality: str) -> Tensor:
    """(B, 2, 2) signed permutations. Histology: all eight of the square. Ultrasound: left-right flip only, since depth
    carries meaning. Anything else: none."""
    u = draws.uniform(f"{purpose}/orientation", 3)
    flip = torch.where(u[:, 0] < 0.5, -1.0, 1.0)
    matrix = torch.zeros(len(draws), 2, 2, device=u.device)
    matrix[:, 0, 0], matrix[:, 1, 1] = 1.0, 1.0
    if modality in ("ultrasound", "histo"):
        matrix[:, 0, 0] = flip
    if modality == "histo":
        matrix[:, 1, 1] = torch.where(u[:, 1] < 0.5, -1.0, 1.0)
        matrix = torch.where((u[:, 2] < 0.5)[:, None, None], matrix.flip(2), matrix)
    return matrix


def crop(images: Tensor, boxes: Tensor, orientation: Tensor, pixels: int) -> Tensor:
    """Cut boxes (B, 4) out of images (B, 3, S, S), turn them and resample bilinearly to (B, 3, pixels, pixels)."""
    left, top, width, height = boxes.unbind(dim=1)
    size = torch.stack([width, height], dim=1)
    centre = torch.stack([2 * left + width - 1, 2 * top + height - 1], dim=1)
    steps = (torch.arange(pixels, device=images.device) + 0.5) * (2 / pixels) - 1
    across, down = (size[:, :, None] * orientation)[..., None].unbind(dim=2)
    grid = (across * steps)[:, :, None] + (down * steps + centre[:, :, None])[..., None]
    grid = grid.permute(0, 2, 3, 1)  # (B, 2, pixels, pixels) -> (B, pixels, pixels, 2), each x, y in [-1, 1]
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)


def on_cpu(draws: Draws) -> Draws:
    """The same draws on the CPU, for choices: picking samples there never waits for the device."""
    return Draws(draws.samples, draws.batch, draws.start, draws.total)


def change(images: Tensor, chosen: Tensor, operator: Callable[..., Tensor], *parameters: Tensor) -> Tensor:
    """operator(images, *parameters) of the chosen images, (B,) bool; the others stay. Choice and parameters, (B, ...),
    lie on the CPU."""
    index = chosen.nonzero()[:, 0]
    if not len(index):
        return images
    there = index.to(images.device, non_blocking=True)
    return images.index_copy(0, there, operator(images[there], *(values[index] for values in parameters)))


def blurred(images: Tensor, draws: Draws, purpose: str, probability: float, sigma: tuple[float, float]) -> Tensor:
    """Gaussian blur of per-sample strength (pixels) on a random share of the images."""
    draws, size = on_cpu(draws), 2 * math.ceil(2 * sigma[1]) + 1
    chosen = draws.uniform(f"{purpose}/blur?", 1)[:, 0] < probability
    strength = draws.between(f"{purpose}/sigma", *sigma, 1).expand(-1, 2)
    return change(images, chosen, lambda some, sigmas: gaussian_blur2d(some, (size, size), sigmas), strength)


def stain_jitter(images: Tensor, draws: Draws, purpose: str, sigma: float = 0.08) -> Tensor:
    """Scale and shift the haematoxylin, eosin and residual densities of each image (Tellez et al. arXiv 1902.06543)."""
    stains, unmixing = (matrix.to(images.device, non_blocking=True) for matrix in (STAINS, UNMIXING))
    gain = draws.between(f"{purpose}/stain gain", 1 - sigma, 1 + sigma, 3)
    shift = draws.between(f"{purpose}/stain shift", -sigma / 4, sigma / 4, 3)
    remix = (unmixing * gain[:, None] @ stains).mT
    light = images.clamp(min=1 / 255).log().flatten(2)  # minus the density
    light = torch.baddbmm((shift @ stains)[:, :, None], remix, light, beta=-1)
    return light.exp().clamp(max=1).view_as(images)


def receiver(level: Tensor, draws: Draws, purpose: str) -> Tensor:
    """Dynamic range, gain and time-gain compensation of echo levels (B, 1, H, W), per image: level^gamma · gain ·
    exp(tilt · depth), where depth runs from -1 in the first row to 1 in the last. Black stays black."""
    gamma = draws.between(f"{purpose}/dynamic range", 0.8, 1.2, 1, 1, 1)
    gain = draws.between(f"{purpose}/gain", 0.9, 1.1, 1, 1, 1)
    tilt = draws.between(f"{purpose}/tilt", -0.2, 0.2, 1, 1, 1)
    depth = torch.linspace(-1, 1, level.shape[2], device=level.device)[:, None]
    return level**gamma * (gain * torch.exp(tilt * depth))


def ultrasound(images: Tensor, draws: Draws, purpose: str) -> Tensor:
    """What another machine or operator changes: receiver settings, and a blur of at most one pixel in 224, since
    speckle is texture. Each pixel's channels get one factor, so black stays black and grey stays exactly grey."""
    level = images.amax(dim=1, keepdim=True)
    seen = receiver(level, draws, purpose)
    seen = blurred(seen, draws, purpose, probability=0.2, sigma=(0.1, images.shape[-1] / 224))
    return (images * (seen / level.clamp(min=1e-6))).clamp(max=1)


def exposure(images: Tensor, draws: Draws, purpose: str) -> Tensor:
    """Contrast about each image's mean, and brightness."""
    slope = draws.between(f"{purpose}/contrast", 0.8, 1.2, 1)[:, 0]
    gain = draws.between(f"{purpose}/brightness", 0.9, 1.1, 1)[:, 0]
    return adjust_brightness_accumulative(adjust_contrast_with_mean_subtraction(images, slope), gain)


def histo(images: Tensor, draws: Draws, purpose: str) -> Tensor:
    """What another scanner or laboratory changes: exposure, stain and focus."""
    images = stain_jitter(exposure(images, draws, purpose), draws, purpose)
    return blurred(images, draws, purpose, probability=0.35, sigma=(0.1, 1.8 * images.shape[-1] / 224))


POLICIES = {"ultrasound": ultrasound, "histo": histo}


def photometric(images: Tensor, draws: Draws, purpose: str, modality: str) -> Tensor:
    """The modality's label-safe policy: no hue, solarisation or greyscale. An unknown modality: exposure alone."""
    return POLICIES.get(modality, exposure)(images, draws, purpose)


def imagenet(images: Tensor, draws: Draws, purpose: str, *, blur: float, solarise: float) -> Tensor:
    """The photometric policy of the DINO family on natural images (Caron et al. arXiv 2104.14294, after BYOL, arXiv
    2006.07733, appendix B). Not label-safe.

    Colour jitter of 80 % of the images, each in its own order of the four operators; greyscale of 20 %; Gaussian blur,
    9 pixels wide with sigma 0.1 to 2 at 224 pixels and in proportion at other sizes, with probability `blur`;
    solarisation above 0.5 with probability `solarise`. images: (B, 3, S, S) in [0, 1], and so is the result.
    """
    chance = on_cpu(draws)
    jittered, grey, solarised = chance.uniform(f"{purpose}/imagenet?", 3).unbind(dim=1)
    order = chance.uniform(f"{purpose}/jitter order", len(JITTER)).argsort(dim=1)
    departure = chance.between(f"{purpose}/jitter", -1, 1, len(JITTER))
    for place in range(len(JITTER)):
        for kind, (operator, neutral, spread) in enumerate(JITTER):
            chosen = (jittered < 0.8) & (order[:, place] == kind)
            images = change(images, chosen, operator, neutral + spread * departure[:, kind])
    images = change(images, grey < 0.2, lambda some: rgb_to_grayscale(some).expand_as(some))
    side = images.shape[-1] / 224
    images = blurred(images, draws, purpose, probability=blur, sigma=(0.1 * side, 2 * side))
    return change(images, solarised < solarise, solarize)


def view(
    images: Tensor,
    draws: Draws,
    purpose: str,
    *,
    modality: str,
    scale: tuple[float, float],
    pixels: int,
    photometric: bool = True,
    flip: bool = True,
) -> Tensor:
    """One augmented crop of every image. images: (B, 3, S, S) in [0, 1] -> (B, 3, pixels, pixels).

    photometric: apply the modality's policy; without it the same crop, pixels as they are. flip: flip and turn as the
    modality allows; without it the image stays upright and unmirrored.
    """
    turned = orientations(draws, purpose, modality if flip else "none")
    boxed = crop(images, boxes(draws, purpose, scale), turned, pixels)
    return POLICIES.get(modality, exposure)(boxed, draws, purpose) if photometric else boxed
