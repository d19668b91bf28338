"""Physics of a brightfield image of tissue stained with haematoxylin and eosin. Pure functions; numpy and scipy only.

Maps are stain amounts (arbitrary units, 1 = a well stained normal nucleus or cytoplasm), float (pixels, pixels);
lengths are fractions of the image's side.

Sources. Beer-Lambert law and stain vectors: Ruifrok and Johnston, Anal. Quant. Cytol. Histol. 23 (2001) 291. Variation
of stain vectors and intensity between laboratories: Tellez et al., Med. Image Anal. 58 (2019) 101544. Photon noise
grows with the square root of the signal: EMVA Standard 1288.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import ndimage

HAEMATOXYLIN = np.array([0.65, 0.70, 0.29])  # optical density in red, green, blue
EOSIN = np.array([0.07, 0.99, 0.11])


class Stain(NamedTuple):
    """How one laboratory stains and one scanner sees."""

    vectors: np.ndarray  # (2, 3): optical density per unit of haematoxylin, of eosin
    light: np.ndarray  # (3,): transmitted light of empty glass, 0..1
    focus: float  # standard deviation of the blur
    noise: float  # of a mid-grey pixel, 0..1


def pixel_grid(pixels: int) -> tuple[np.ndarray, np.ndarray]:
    """Centres of the pixels: x from the left, y from the top, both (pixels, pixels)."""
    centre = (np.arange(pixels) + 0.5) / pixels
    y, x = np.meshgrid(centre, centre, indexing="ij")
    return x, y


def stain(rng: np.random.Generator) -> Stain:
    """A laboratory: direction and intensity of each stain vary, as do the white point, the focus and the noise."""
    vectors = np.stack([HAEMATOXYLIN, EOSIN]) * np.exp(rng.normal(0.0, 0.10, (2, 3)))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    strength = np.array([[0.80], [0.40]]) * np.exp(rng.normal(0.0, [[0.13], [0.18]]))
    light = 0.94 + rng.uniform(-0.03, 0.03) + rng.normal(0.0, 0.008, 3)
    return Stain(vectors * strength, np.clip(light, 0.0, 1.0), rng.uniform(0.004, 0.009), rng.uniform(0.008, 0.018))


def blobs(cells: np.ndarray, pixels: int, edge: float = 0.007) -> np.ndarray:
    """Haematoxylin of elliptical nuclei, float (pixels, pixels). Overlapping nuclei show the denser one.

    `cells` is (n, 6): x, y, semi-axis along, semi-axis across, angle, density. `edge` is the softness of the outline.
    """
    out = np.zeros(pixels * pixels)
    large = cells[:, 2] > 0.028  # one large nucleus would make every window large
    for group in (cells[~large], cells[large]):
        if len(group):
            _stamp(out, group, pixels, edge)
    return out.reshape(pixels, pixels)


def _stamp(out: np.ndarray, cells: np.ndarray, pixels: int, edge: float) -> None:
    """Raises `out` (pixels * pixels,) to the density of each nucleus where it is."""
    reach = int(np.ceil((cells[:, 2:4].max() + 2 * edge) * pixels))
    offset = np.arange(-reach, reach + 1)
    column = np.floor(cells[:, 0] * pixels).astype(int)[:, None, None] + offset[None, None, :]
    row = np.floor(cells[:, 1] * pixels).astype(int)[:, None, None] + offset[None, :, None]
    x, y, along, across, angle, density = (cells[:, i, None, None] for i in range(6))
    dx, dy = (column + 0.5) / pixels - x, (row + 0.5) / pixels - y
    u, v = dx * np.cos(angle) + dy * np.sin(angle), dy * np.cos(angle) - dx * np.sin(angle)
    radius = np.hypot(u / along, v / across)
    value = density * np.clip((1.0 - radius) * np.minimum(along, across) / edge + 0.5, 0.0, 1.0)
    row, column = np.broadcast_arrays(row, column)
    seen = (row >= 0) & (row < pixels) & (column >= 0) & (column < pixels) & (value > 0)
    np.maximum.at(out, (row * pixels + column)[seen], value[seen])


def fibres(rng: np.random.Generator, angle: float, pixels: int) -> np.ndarray:
    """Fibrous texture of collagen along `angle`: zero mean, unit variance, float (pixels, pixels)."""
    grain = 64
    noise = ndimage.gaussian_filter(rng.standard_normal((grain, grain)), (0.7, 4.0), mode="wrap", truncate=3.0)
    y, x = np.meshgrid(*[np.arange(pixels) * grain / pixels] * 2, indexing="ij")
    cos, sin = np.cos(angle), np.sin(angle)
    turned = ndimage.map_coordinates(
        noise, [y * cos - x * sin, x * cos + y * sin], order=1, mode="grid-wrap", prefilter=False
    )
    return (turned - turned.mean()) / (turned.std() + 1e-9)


def photograph(rng: np.random.Generator, haematoxylin: np.ndarray, eosin: np.ndarray, stain: Stain) -> np.ndarray:
    """The image, uint8 (pixels, pixels, 3): Beer-Lambert transmission, focus blur, photon noise, 8 bits."""
    pixels = haematoxylin.shape[0]
    density = np.stack([haematoxylin, eosin], axis=-1) @ stain.vectors
    light = stain.light * 10.0**-density
    light = ndimage.gaussian_filter(light, (stain.focus * pixels, stain.focus * pixels, 0.0), truncate=3.0)
    light = light + rng.standard_normal(light.shape) * stain.noise * np.sqrt(2.0 * light)
    return np.rint(np.clip(light, 0.0, 1.0) * 255.0).astype(np.uint8)


def optical_density(image: np.ndarray) -> np.ndarray:
    """Optical density of an 8-bit image, float, same shape: the inverse of Beer-Lambert for white glass."""
    return -np.log10((image.astype(float) + 1.0) / 256.0)
