"""Views of whole batches on the device, from per-sample draws.

Crops, flips and quarter turns are one affine resampling. Photometric policy: one per modality, shared by every
pretext, so that a difference between pretexts is not a difference of augmentation; each pretext brings its own crops.
Sources for what is label-safe: Kang et al. arXiv 2212.04690 (histology), VanBerlo et al. arXiv 2504.07904 and Tupper &
Gagné arXiv 2501.13193 (ultrasound).
"""

import math

import torch
import torch.nn.functional as F
from kornia.filters import gaussian_blur2d
from torch import Tensor

from benchmark.draws import Draws

# Optical-density vectors of haematoxylin, eosin and the residual (Ruifrok & Johnston 2001), rows of unit length.
STAINS = F.normalize(torch.tensor([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]]), dim=1)


def to_float(images: Tensor) -> Tensor:
    """Stored uint8 (B, S, S, 3) -> (B, 3, S, S) in [0, 1]."""
    return images.permute(0, 3, 1, 2).float() / 255


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
    theta = torch.cat([size[:, :, None] * orientation, centre[:, :, None]], dim=2)
    grid = F.affine_grid(theta, [len(images), 3, pixels, pixels], align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)


def blur(images: Tensor, draws: Draws, purpose: str, probability: float, sigma: tuple[float, float]) -> Tensor:
    """Gaussian blur of per-sample strength (pixels) on a random share of the images."""
    chosen = draws.uniform(f"{purpose}/blur?", 1)[:, 0] < probability
    if not bool(chosen.any()):
        return images
    strength = draws.between(f"{purpose}/sigma", *sigma, 1).expand(-1, 2)
    kernel = 2 * math.ceil(2 * sigma[1]) + 1
    out = images.clone()
    out[chosen] = gaussian_blur2d(images[chosen], (kernel, kernel), strength[chosen])
    return out


def stain_jitter(images: Tensor, draws: Draws, purpose: str, sigma: float = 0.08) -> Tensor:
    """Scale and shift the haematoxylin, eosin and residual densities of each image (Tellez et al. arXiv 1902.06543)."""
    stains = STAINS.to(images.device)
    density = -torch.log(images.clamp(min=1 / 255))
    amounts = torch.einsum("bchw,cs->bshw", density, torch.linalg.inv(stains))
    gain = draws.between(f"{purpose}/stain gain", 1 - sigma, 1 + sigma, 3)[:, :, None, None]
    shift = draws.between(f"{purpose}/stain shift", -sigma / 4, sigma / 4, 3)[:, :, None, None]
    return torch.exp(-torch.einsum("bshw,sc->bchw", amounts * gain + shift, stains)).clamp(0, 1)


def gain_and_contrast(images: Tensor, draws: Draws, purpose: str, strength: float = 0.2) -> Tensor:
    """Receiver gain (shift) and dynamic range (slope about the image's mean), per image."""
    slope = draws.between(f"{purpose}/contrast", 1 - strength, 1 + strength, 1)[:, :, None, None]
    shift = draws.between(f"{purpose}/brightness", -strength / 2, strength / 2, 1)[:, :, None, None]
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    return ((images - mean) * slope + mean + shift * mean).clamp(0, 1)


def photometric(images: Tensor, draws: Draws, purpose: str, modality: str) -> Tensor:
    """The modality's label-safe policy: no hue, solarisation or greyscale; grey stays grey."""
    images = gain_and_contrast(images, draws, purpose)
    if modality == "histo":
        images = stain_jitter(images, draws, purpose)
    return blur(images, draws, purpose, probability=0.2, sigma=(0.1, 0.6 * images.shape[-1] / 64))


def view(
    images: Tensor, draws: Draws, purpose: str, *, modality: str, scale: tuple[float, float], pixels: int
) -> Tensor:
    """One augmented crop of every image. images: (B, 3, S, S) in [0, 1] -> (B, 3, pixels, pixels)."""
    boxed = crop(images, boxes(draws, purpose, scale), orientations(draws, purpose, modality), pixels)
    return photometric(boxed, draws, purpose, modality)
