"""Views of whole batches on the device. What is random is drawn before, on the CPU (`draws`).

All crops of one size are one antialiased, separable resampling, flips and quarter turns included, and one photometric
pass, with parameters per crop. Photometric policy: one per modality, shared by every pretext, so that a difference
between pretexts is not a difference of augmentation; each pretext brings its own crops.
Sources for what is label-safe: Kang et al. arXiv 2212.04690 (histology), VanBerlo et al. arXiv 2504.07904 and Tupper &
Gagné arXiv 2501.13193 (ultrasound). `Imagenet` is the policy of natural images, for the authors' own recipes alone.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from kornia.color import rgb_to_grayscale
from kornia.enhance import (
    adjust_brightness_accumulative,
    adjust_contrast_with_mean_subtraction,
    adjust_hue,
    adjust_saturation_with_gray_subtraction,
)
from torch import Tensor

from benchmark.parts.draws import Draws

# Optical-density vectors of haematoxylin, eosin and the residual (Ruifrok & Johnston 2001), rows of unit length.
STAINS = F.normalize(torch.tensor([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]]), dim=1)
STAINED = 0.08  # largest departure of the gain of a stain's density from 1; of its shift from 0, a quarter of that
# DINO's colour jitter: operator, neutral factor, largest departure from it (hue in radians).
JITTER = (
    (adjust_brightness_accumulative, 1.0, 0.4),
    (adjust_contrast_with_mean_subtraction, 1.0, 0.4),
    (adjust_saturation_with_gray_subtraction, 1.0, 0.2),
    (adjust_hue, 0.0, 0.1 * 2 * math.pi),
)

ASPECT = (3 / 4, 4 / 3)  # width over height of a box

Drawn = dict[str, np.ndarray]  # "purpose/what" -> parameters of a batch; as tensors they reach the device
Change = Callable[..., Tensor]  # tensors -> a tensor, element by element but for means
Fuse = Callable[[Change], Change]


def plain(change: Change) -> Change:
    return change


@cache
def fused(change: Change) -> Change:
    """The same in a few kernels, by torch.compile, for each size of the crops."""
    return torch.compile(change, dynamic=False)


# ------------------------------------------------------------------------------------------------- geometry


def to_float(images: Tensor) -> Tensor:
    """Stored uint8 (B, S, S, 3) -> (B, 3, S, S) in [0, 1]."""
    return images.permute(0, 3, 1, 2).contiguous().float().div_(255)


def boxes(draws: Draws, purpose: str, count: int, scale: tuple[float, float]) -> np.ndarray:
    """Random-resized-crop boxes (B, count, 4): left, top, width, height as shares of the side.

    Area uniform in scale, aspect log-uniform, as torchvision draws them; a side longer than the image is cut to it
    instead of being drawn again.
    """
    u = draws.uniform(f"{purpose}/box", count, 4)
    area = scale[0] + (scale[1] - scale[0]) * u[..., 0]
    ratio = np.exp(math.log(ASPECT[0]) + (math.log(ASPECT[1]) - math.log(ASPECT[0])) * u[..., 1])
    width, height = np.sqrt(area * ratio).clip(max=1), np.sqrt(area / ratio).clip(max=1)
    return np.stack([u[..., 2] * (1 - width), u[..., 3] * (1 - height), width, height], axis=-1)


def orientations(draws: Draws, purpose: str, count: int, modality: str) -> np.ndarray:
    """(B, count, 3) bool: mirrored left-right, mirrored top-bottom, then transposed. Histology: all eight of a square.
    Ultrasound: left-right alone, since depth carries meaning. Anything else: none."""
    allowed = {"ultrasound": (True, False, False), "histo": (True, True, True)}.get(modality, (False,) * 3)
    return (draws.uniform(f"{purpose}/orientation", count, 3) < 0.5) & np.array(allowed)


def draw_cut(boxes: np.ndarray, orientations: np.ndarray, purpose: str) -> Drawn:
    """What `cut` needs of boxes (B, K, 4) and orientations (B, K, 3): where each axis starts and how far it goes."""
    near, extent, mirrored = boxes[..., :2], boxes[..., 2:], orientations[..., :2]
    lines = np.stack([np.where(mirrored, near + extent, near), np.where(mirrored, -extent, extent)])
    return {
        f"{purpose}/axes": np.float32(lines.transpose(3, 1, 2, 0)),  # (2, B, K, 2)
        f"{purpose}/turned": orientations[..., 2].T,
    }


def taps(axes: Tensor, pixels: int, side: int, count: int) -> tuple[Tensor, Tensor]:
    """Which of `side` stored pixels make each of `pixels` of a crop, and with what weights: (2, N, pixels, count).

    axes: (2, N, 2), x and y: start and extent of each crop, in shares of the side. A triangle filter, as wide as a
    pixel of the crop where that is wider than a stored one: bilinear where a crop grows, antialiased as in Pillow where
    it shrinks."""
    start, extent = (axes * side)[..., None].unbind(dim=2)  # (2, N, 1), in stored pixels, whose centres are at .5
    steps = torch.arange(0.5, pixels, device=axes.device).div_(pixels)
    centre = torch.addcmul(start, extent, steps)
    reach = extent.div(pixels).abs_().clamp_(min=1)
    place = (centre - reach).round_()[..., None] + torch.arange(count, device=axes.device)
    seen = place.clamp(0, side - 1)
    weight = (place.add(0.5).sub_(centre[..., None])).div_(reach[..., None]).abs_()
    weight = (1 - weight).clamp_(min=0).mul_(seen == place)
    return seen.long(), weight.div_(weight.sum(dim=-1, keepdim=True))


def mix_rows(tables: Tensor, index: Tensor, weight: Tensor) -> Tensor:
    """Rows of tables (N, S, ...), each of which has its share of index (M, R, T), weighted and added up: (M·R, D)."""
    count, side = tables.shape[:2]
    first = torch.arange(0, count * side, side, device=tables.device).view(-1, 1, 1)
    places = (index.view(count, -1, index.shape[-1]) + first).view(-1, index.shape[-1])
    return F.embedding_bag(places, tables.view(count * side, -1), mode="sum", per_sample_weights=weight.flatten(0, 1))


def cut(images: Tensor, drawn: dict[str, Tensor], purpose: str, pixels: int, largest: float = 1.0) -> Tensor:
    """Stored uint8 images (B, S, S, 3) -> their K crops (K·B, 3, pixels, pixels) in [0, 1], crop after crop.

    Antialiased where a crop shrinks, see `taps`; pixels beyond the box may be seen at its rim. largest: side of the
    largest box, as a share of the image's."""
    batch, side = images.shape[:2]
    axes, turned = drawn[f"{purpose}/axes"], drawn[f"{purpose}/turned"]
    index, weight = taps(axes.flatten(1, 2), pixels, side, math.ceil(2 * max(1, largest * side / pixels)))
    (across, down), (x, y) = index.unbind(), weight.unbind()
    rows = images.permute(0, 1, 3, 2).to(torch.float32, memory_format=torch.contiguous_format).div_(255)
    rows = mix_rows(rows, down, y).view(-1, pixels, 3, side)
    crops = mix_rows(rows.permute(0, 3, 2, 1).contiguous(), across, x)  # (B·K·pixels, 3·pixels)
    crops = crops.view(batch, -1, pixels, 3, pixels).permute(1, 0, 3, 2, 4)
    return torch.where(turned[..., None, None, None], crops, crops.mT).reshape(-1, 3, pixels, pixels)


# ----------------------------------------------------------------------------------------------- photometric


def draw_per_crop(draws: Draws, purpose: str, count: int, size: int, low: float = 0.0, high: float = 1.0) -> np.ndarray:
    """(count·B, size) float32 in [low, high), crop after crop."""
    return draws.between(purpose, low, high, count, size).swapaxes(0, 1).reshape(-1, size)


def alter(images: Tensor, index: Tensor, operator: Callable[..., Tensor], *parameters: Tensor) -> Tensor:
    """operator(images, *parameters) of the images at index (M,); the others stay. parameters: (M, ...) each."""
    if not len(index):
        return images
    return images.index_copy(0, index, operator(images.index_select(0, index), *parameters))


def blur_taps(sigma: float) -> int:
    """Width in pixels of a kernel whose deviation is at most sigma."""
    return 2 * math.ceil(2 * sigma) + 1


def draw_blur(
    draws: Draws, purpose: str, count: int, probability: float | np.ndarray, sigma: tuple[float, float]
) -> Drawn:
    """Which of the crops are blurred, and the kernel of each. probability: of all, or (count,). sigma: pixels."""
    chance = np.repeat(np.broadcast_to(probability, count), len(draws))
    index = np.flatnonzero(draw_per_crop(draws, f"{purpose}/blur?", count, 1)[:, 0] < chance)
    strength = draw_per_crop(draws, f"{purpose}/sigma", count, 1, *sigma)[index].astype(np.float64)
    reach = blur_taps(sigma[1]) // 2
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / strength) ** 2)
    kernel /= kernel.sum(axis=1, keepdims=True)
    return {f"{purpose}/blurred": index, f"{purpose}/kernel": kernel.astype(np.float32)}


def convolve(images: Tensor, kernel: Tensor) -> Tensor:
    """Images (M, C, H, W), mirrored at the rim, with a kernel (M, taps) of each along both axes."""
    channels, reach = images.shape[0] * images.shape[1], kernel.shape[1] // 2
    padded = F.pad(images, [reach] * 4, mode="reflect").reshape(1, channels, *(s + 2 * reach for s in images.shape[2:]))
    kernel = kernel.repeat_interleave(images.shape[1], dim=0, output_size=channels)[:, None, :, None]
    return F.conv2d(F.conv2d(padded, kernel, groups=channels), kernel.mT, groups=channels).view_as(images)


def blur(images: Tensor, drawn: dict[str, Tensor], purpose: str) -> Tensor:
    return alter(images, drawn[f"{purpose}/blurred"], convolve, drawn[f"{purpose}/kernel"])


def draw_ultrasound(draws: Draws, purpose: str, count: int, pixels: int) -> Drawn:
    ranges = {"dynamic range": (0.8, 1.2), "gain": (0.9, 1.1), "tilt": (-0.2, 0.2)}
    settings = [draw_per_crop(draws, f"{purpose}/{name}", count, 1, *limits) for name, limits in ranges.items()]
    blurs = draw_blur(draws, purpose, count, 0.2, (0.1, pixels / 224))
    return {f"{purpose}/receiver": np.concatenate(settings, axis=1)} | blurs


def receive(level: Tensor, settings: Tensor) -> Tensor:
    """Dynamic range, gain and time-gain compensation of echo levels (N, 1, H, W), settings (N, 3) of each: level^gamma
    · gain · exp(tilt · depth), where depth runs from -1 in the first row to 1 in the last. Black stays black."""
    gamma, gain, tilt = settings[..., None, None, None].unbind(dim=1)
    depth = torch.linspace(-1, 1, level.shape[2], device=level.device)[:, None]
    return level**gamma * (gain * torch.exp(tilt * depth))


def relight(images: Tensor, level: Tensor, seen: Tensor) -> Tensor:
    """Images (N, 3, H, W) whose echo level (N, 1, H, W) is to be another."""
    return (images * (seen / level.clamp(min=1e-6))).clamp(max=1)


def ultrasound(images: Tensor, drawn: dict[str, Tensor], purpose: str, fuse: Fuse = plain) -> Tensor:
    """What another machine or operator changes: receiver settings, and a blur of at most one pixel in 224, since
    speckle is texture. Each pixel's channels get one factor, so black stays black and grey stays exactly grey."""
    level = images.amax(dim=1, keepdim=True)
    seen = blur(fuse(receive)(level, drawn[f"{purpose}/receiver"]), drawn, purpose)
    return fuse(relight)(images, level, seen)


def draw_exposure(draws: Draws, purpose: str, count: int, _: int) -> Drawn:
    slope = draw_per_crop(draws, f"{purpose}/contrast", count, 1, 0.8, 1.2)
    gain = draw_per_crop(draws, f"{purpose}/brightness", count, 1, 0.9, 1.1)
    return {f"{purpose}/exposure": np.concatenate([slope, gain], axis=1)}


def expose(images: Tensor, settings: Tensor) -> Tensor:
    """Contrast about the mean of each image's luma (ITU-R BT.601), and brightness. settings: (N, 2) of both."""
    slope, gain = settings[..., None, None, None].unbind(dim=1)
    red, green, blue = images.mean(dim=(2, 3), keepdim=True).unbind(dim=1)
    luma = (0.299 * red + 0.587 * green + 0.114 * blue)[:, None]
    return torch.lerp(luma, images, slope).clamp(0, 1).mul_(gain).clamp_(max=1)


def exposure(images: Tensor, drawn: dict[str, Tensor], purpose: str, fuse: Fuse = plain) -> Tensor:
    return fuse(expose)(images, drawn[f"{purpose}/exposure"])


def draw_stains(draws: Draws, purpose: str, count: int) -> Drawn:
    """Gain and shift of the three densities, as one affine change of the optical densities of red, green and blue."""
    gain = draw_per_crop(draws, f"{purpose}/stain gain", count, 3, 1 - STAINED, 1 + STAINED)
    shift = draw_per_crop(draws, f"{purpose}/stain shift", count, 3, -STAINED / 4, STAINED / 4)
    stains = STAINS.double().numpy()
    remix = ((np.linalg.inv(stains) * gain[:, None]) @ stains).swapaxes(1, 2)
    offset = -(shift @ stains)[..., None]
    return {f"{purpose}/stains": np.concatenate([remix, offset], axis=2).astype(np.float32)}


def restain(images: Tensor, stains: Tensor) -> Tensor:
    """Scale and shift the haematoxylin, eosin and residual densities of each image (Tellez et al. arXiv 1902.06543).
    stains: (N, 3, 4), see `draw_stains`."""
    remix, offset = stains.split([3, 1], dim=2)
    light = images.clamp(min=1 / 255).log_().flatten(2)  # minus the density
    return torch.baddbmm(offset, remix, light).exp_().clamp_(max=1).view_as(images)


def draw_histo(draws: Draws, purpose: str, count: int, pixels: int) -> Drawn:
    blurs = draw_blur(draws, purpose, count, 0.35, (0.1, 1.8 * pixels / 224))
    return draw_exposure(draws, purpose, count, pixels) | draw_stains(draws, purpose, count) | blurs


def tint(images: Tensor, settings: Tensor, stains: Tensor) -> Tensor:
    return restain(expose(images, settings), stains)


def histo(images: Tensor, drawn: dict[str, Tensor], purpose: str, fuse: Fuse = plain) -> Tensor:
    """What another scanner or laboratory changes: exposure, stain and focus."""
    images = fuse(tint)(images, drawn[f"{purpose}/exposure"], drawn[f"{purpose}/stains"])
    return blur(images, drawn, purpose)


@dataclass(frozen=True, kw_only=True)
class Imagenet:
    """The photometric policy of the DINO family on natural images (Caron et al. arXiv 2104.14294, after BYOL, arXiv
    2006.07733, appendix B). Not label-safe.

    Colour jitter of 80 % of the images, each in its own order of the four operators; greyscale of 20 %; Gaussian blur,
    9 pixels wide with sigma 0.1 to 2 at 224 pixels and in proportion at other sizes; solarisation above 0.5.
    """

    blur: tuple[float, ...]  # probability for each crop of an image
    solarise: tuple[float, ...]  # likewise

    def draw(self, draws: Draws, purpose: str, count: int, pixels: int) -> Drawn:
        jittered, grey, solarised = draw_per_crop(draws, f"{purpose}/imagenet?", count, 3).T
        order = draw_per_crop(draws, f"{purpose}/jitter order", count, len(JITTER)).argsort(axis=1)
        departure = draw_per_crop(draws, f"{purpose}/jitter", count, len(JITTER), -1, 1)
        drawn = {}
        for place, kind in product(range(len(JITTER)), repeat=2):
            index = np.flatnonzero((jittered < 0.8) & (order[:, place] == kind))
            _, neutral, spread = JITTER[kind]
            drawn[f"{purpose}/jitter {place} {kind}"] = index
            drawn[f"{purpose}/factor {place} {kind}"] = np.float32(neutral + spread * departure[index, kind])
        drawn[f"{purpose}/grey"] = np.flatnonzero(grey < 0.2)
        drawn[f"{purpose}/solarised"] = np.flatnonzero(solarised < np.repeat(self.solarise, len(draws)))
        side = pixels / 224
        return drawn | draw_blur(draws, purpose, count, np.array(self.blur), (0.1 * side, 2 * side))

    def apply(self, images: Tensor, drawn: dict[str, Tensor], purpose: str, fuse: Fuse = plain) -> Tensor:
        for place, kind in product(range(len(JITTER)), repeat=2):
            index, factor = (drawn[f"{purpose}/{name} {place} {kind}"] for name in ("jitter", "factor"))
            images = alter(images, index, JITTER[kind][0], factor)
        images = alter(images, drawn[f"{purpose}/grey"], lambda some: rgb_to_grayscale(some).expand_as(some))
        images = blur(images, drawn, purpose)
        return alter(images, drawn[f"{purpose}/solarised"], lambda some: torch.where(some < 0.5, some, 1 - some))


class Policy(NamedTuple):
    draw: Callable[[Draws, str, int, int], Drawn]  # (draws, purpose, crops of an image, pixels)
    apply: Callable[[Tensor, dict[str, Tensor], str, Fuse], Tensor]  # (crops, drawn, purpose, fuse)


def policy(modality: str) -> Policy:
    """The modality's label-safe policy: no hue, solarisation or greyscale. An unknown modality: exposure alone."""
    known = {"ultrasound": Policy(draw_ultrasound, ultrasound), "histo": Policy(draw_histo, histo)}
    return known.get(modality, Policy(draw_exposure, exposure))


# ----------------------------------------------------------------------------------------------------- views


@dataclass(frozen=True, kw_only=True)
class Crops:
    """Crops of one size, `count` of every image: where they are cut, and what is then done to their pixels."""

    purpose: str  # names the draws
    count: int = 1
    pixels: int  # side
    scale: tuple[float, float]  # area, as a share of the image's
    orientations: str  # the modality whose flips and turns are made, see `orientations`
    policy: Policy | Imagenet | None  # photometric; None: pixels stay as they are
    fuse: Fuse = plain  # how its changes are computed

    @classmethod
    def of(cls, modality: str, **where: object) -> "Crops":
        """With the modality's own turns and changes."""
        return cls(orientations=modality, policy=policy(modality), **where)

    def draw(self, draws: Draws) -> Drawn:
        where = boxes(draws, self.purpose, self.count, self.scale)
        turns = orientations(draws, self.purpose, self.count, self.orientations)
        changes = self.policy.draw(draws, self.purpose, self.count, self.pixels) if self.policy else {}
        return draw_cut(where, turns, self.purpose) | changes

    def cut(self, images: Tensor, drawn: dict[str, Tensor]) -> Tensor:
        """Stored uint8 images (B, S, S, 3) -> (count·B, 3, pixels, pixels) in [0, 1], crop after crop."""
        return cut(images, drawn, self.purpose, self.pixels, largest=min(1, (self.scale[1] * ASPECT[1]) ** 0.5))

    def change(self, crops: Tensor, drawn: dict[str, Tensor]) -> Tensor:
        """The crops under the photometric policy."""
        return self.policy.apply(crops, drawn, self.purpose, self.fuse) if self.policy else crops

    def __call__(self, images: Tensor, drawn: dict[str, Tensor]) -> Tensor:
        return self.change(self.cut(images, drawn), drawn)
