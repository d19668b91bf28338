"""What is done to test images at three strengths: nuisances of imaging, which another machine, operator or laboratory
changes and the label survives, and controls of scale, which leave only what is local or only what is large.

Pure functions of images (B, 3, S, S) in [0, 1], a strength and one generator per image, seeded by nuisance and image id
alone, so that every encoder meets the same altered image. The ultrasound suite follows US-JEPA's choice of nuisances
(arXiv 2602.19322), the histology suite Tellez et al. (arXiv 1902.06543); the sizes of the steps are our own. Sizes in
pixels are shares of the side. Nothing that is black in ultrasound (outside the scan) changes but by blur.
"""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from kornia.filters import gaussian_blur2d
from PIL import Image
from torch import Tensor

from benchmark.parts.augment import STAINS, to_float
from benchmark.parts.subset import seed

VERSION = 1  # bump with any change to a pixel
STRENGTHS = (1, 2, 3)


def gain(images: Tensor, strength: int, generators: list[torch.Generator]) -> Tensor:
    """The whole scan brighter or darker by 0.08, 0.16 or 0.24 of the grey scale: decibels in a log-compressed image."""
    return _scan(images, lambda level: level + 0.08 * strength * _signs(generators))


def tgc(images: Tensor, strength: int, generators: list[torch.Generator]) -> Tensor:
    """Time-gain compensation off by a line from -a at the top to +a at the bottom, or the reverse; a as in `gain`."""
    depth = torch.linspace(-1, 1, images.shape[2])[:, None]
    return _scan(images, lambda level: level + 0.08 * strength * _signs(generators) * depth)


def contrast(images: Tensor, strength: int, generators: list[torch.Generator]) -> Tensor:
    """Dynamic range: grey levels to the power exp(±0.2), exp(±0.4) or exp(±0.6)."""
    return _scan(images, lambda level: level ** torch.exp(0.2 * strength * _signs(generators)))


def speckle(images: Tensor, strength: int, generators: list[torch.Generator]) -> Tensor:
    """Multiplied by 1 + 0.15, 0.3 or 0.45 times smooth normal noise of deviation 1, grains 1/112 of the side wide."""
    side = images.shape[-1]
    noise = torch.stack([torch.randn(1, side, side, generator=generator) for generator in generators])
    noise = _gaussian(noise, max(side / 224, 0.5))
    noise = noise / noise.std(dim=(1, 2, 3), keepdim=True)
    return _scan(images, lambda level: level * (1 + 0.15 * strength * noise))


def blur(images: Tensor, strength: int, generators: list[torch.Generator]) -> Tensor:
    """Gaussian of deviation 0.8, 1.6 or 3.2 % of the side: a poor coupling, or a focus missed."""
    return _gaussian(images, 0.004 * 2**strength * images.shape[-1])


def stain(images: Tensor, strength: int, generators: list[torch.Generator]) -> Tensor:
    """Haematoxylin and eosin of other vectors (each component off by a normal draw of deviation 0.04, 0.08 or 0.12,
    then of unit length) and amounts (times exp of 0.1, 0.2 or 0.3 such draws)."""
    draws = torch.stack([torch.randn(2, 4, generator=generator) for generator in generators])
    vectors = STAINS.repeat(len(images), 1, 1)
    moved = F.normalize((STAINS[:2] + 0.04 * strength * draws[..., :3]).clamp(min=0.01), dim=2)
    vectors[:, :2] = moved * torch.exp(0.1 * strength * draws[..., 3:])
    amounts = -images.clamp(min=1 / 255).log().flatten(2).mT @ torch.linalg.inv(STAINS)
    return (-(amounts @ vectors)).exp().mT.reshape(images.shape)


def brightness(images: Tensor, strength: int, generators: list[torch.Generator]) -> Tensor:
    """Lamp or exposure: times exp(±0.12), exp(±0.24) or exp(±0.36)."""
    return images * torch.exp(0.12 * strength * _signs(generators))


def jpeg(images: Tensor, strength: int, generators: list[torch.Generator]) -> Tensor:
    """Compression at quality 50, 25 or 10."""
    quality, found = {1: 50, 2: 25, 3: 10}[strength], []
    for image in _bytes(images):
        packed = io.BytesIO()
        Image.fromarray(image).save(packed, "JPEG", quality=quality)
        found.append(np.asarray(Image.open(packed)))
    return to_float(torch.from_numpy(np.stack(found)))


def shuffle(images: Tensor, strength: int, generators: list[torch.Generator]) -> Tensor:
    """Cut into 2 x 2, 4 x 4 or 8 x 8 squares, which change places at random: what no square holds alone is gone."""
    batch, channels, side, _ = images.shape
    cut = 2**strength
    squares = (
        images.reshape(batch, channels, cut, side // cut, cut, side // cut).permute(0, 2, 4, 1, 3, 5).flatten(1, 2)
    )
    orders = [torch.randperm(cut**2, generator=generator) for generator in generators]
    moved = torch.stack([own[order] for own, order in zip(squares, orders, strict=True)])
    return moved.unflatten(1, (cut, cut)).permute(0, 3, 1, 4, 2, 5).reshape(images.shape)


def low_pass(images: Tensor, strength: int, generators: list[torch.Generator]) -> Tensor:
    """Gaussian of deviation 1/32, 1/16 or 1/8 of the side: what is smaller is gone."""
    return _gaussian(images, 2**strength / 64 * images.shape[-1])


Alteration = Callable[[Tensor, int, list[torch.Generator]], Tensor]
SUITES: dict[str, dict[str, Alteration]] = {
    "ultrasound": {"gain": gain, "tgc": tgc, "speckle": speckle, "blur": blur, "contrast": contrast},
    "histo": {"stain": stain, "focus": blur, "jpeg": jpeg, "brightness": brightness},
}
SCALES: dict[str, Alteration] = {"shuffled": shuffle, "low-pass": low_pass}


def apply(pixels: np.ndarray, ids: list[str], modality: str, name: str, strength: int) -> np.ndarray:
    """Stored images uint8 (B, S, S, 3) under a nuisance of the modality, or a control of scale. Raises ValueError for
    an unknown one."""
    suite = SUITES.get(modality, {}) | SCALES
    if name not in suite or strength not in STRENGTHS:
        raise ValueError(
            f"no alteration {name!r} of strength {strength} for {modality}: {', '.join(suite)}; {STRENGTHS}"
        )
    generators = [torch.Generator().manual_seed(seed(name, one)) for one in ids]
    return _bytes(suite[name](to_float(torch.from_numpy(np.ascontiguousarray(pixels))), strength, generators))


def _signs(generators: list[torch.Generator]) -> Tensor:
    """(B, 1, 1, 1) of -1 and 1"""
    return torch.stack([torch.randint(2, (1, 1, 1), generator=g) for g in generators]) * 2.0 - 1


def _scan(images: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
    """Change the echo level (B, 1, S, S); colours are kept in proportion, and black stays black."""
    level = images.amax(dim=1, keepdim=True)
    return images * (change(level).clamp(0, 1) / level.clamp(min=1 / 255))


def _gaussian(images: Tensor, sigma: float) -> Tensor:
    size = 2 * max(1, round(3 * sigma)) + 1
    return gaussian_blur2d(images, (size, size), (sigma, sigma))


def _bytes(images: Tensor) -> np.ndarray:
    """(B, 3, S, S) in [0, 1], clipped to it -> uint8 (B, S, S, 3)"""
    return (images.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).contiguous().numpy()
