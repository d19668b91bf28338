"""Physics of a B-mode ultrasound image, on a polar grid of beams by depth samples. Pure functions.

Lengths are fractions of the image's side, angles are radians, levels are decibels. Array axes are (depth, beam).

Sources. Fully developed speckle as the envelope of circular complex Gaussian scatterers seen through a point-spread
function: Wagner et al., IEEE Trans. Sonics Ultrason. 30 (1983) 156; Bamber and Dickinson, Phys. Med. Biol. 25 (1980)
463. Attenuation, time-gain compensation, log compression, shadow and enhancement: Szabo, Diagnostic Ultrasound Imaging:
Inside Out (2nd ed., 2014), chapters 4 and 10. Scan conversion of a convex array: same book, chapter 10.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import ndimage

DYNAMIC_RANGE = 56.0  # dB from black to white on the display
AXIAL, LATERAL = 0.0085, 0.013  # standard deviations of the point-spread function: axial resolution is the finer one


class Sector(NamedTuple):
    """The field of view of a convex probe held at the top of the image, pointing down."""

    half_angle: float  # between the central beam and the outermost one
    radius: float  # of the probe's face
    top: float  # z of the face on the central beam
    depth: float  # range of the scan, from the face


def polar_grid(sector: Sector, pixels: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Samples' x in [-0.5, 0.5] and z in [0, 1], (depth, beam) each, and depth below the face, (depth,)."""
    depth = np.linspace(0.0, sector.depth, round(1.4 * pixels))
    angle = np.linspace(-sector.half_angle, sector.half_angle, round(1.1 * pixels))
    range_ = sector.radius + depth[:, None]
    return range_ * np.sin(angle), sector.top - sector.radius + range_ * np.cos(angle), depth


def pixel_grid(pixels: int) -> tuple[np.ndarray, np.ndarray]:
    """Centres of the display's pixels: x in [-0.5, 0.5], z in [0, 1], both (pixels, pixels)."""
    centre = (np.arange(pixels) + 0.5) / pixels
    z, x = np.meshgrid(centre, centre - 0.5, indexing="ij")
    return x, z


def pixel_polar(sector: Sector, pixels: int) -> tuple[np.ndarray, np.ndarray]:
    """Depth below the face and angle of each display pixel, both (pixels, pixels)."""
    x, z = pixel_grid(pixels)
    z = z - (sector.top - sector.radius)
    return np.hypot(x, z) - sector.radius, np.arctan2(x, z)


def inside(sector: Sector, pixels: int) -> np.ndarray:
    """Which display pixels the scan covers, bool (pixels, pixels)."""
    depth, angle = pixel_polar(sector, pixels)
    return (np.abs(angle) <= sector.half_angle) & (depth >= 0) & (depth <= sector.depth)


def transmission(attenuation: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """Two-way loss (dB, <= 0) down each beam, from local attenuation (dB per image side, two-way).

    Fluid attenuates nothing, so what lies behind it is brighter than its neighbours (enhancement); a stone attenuates
    much, so what lies behind it is darker (shadow).
    """
    return -np.cumsum(attenuation, axis=0) * (depth[1] - depth[0])


def _spread(pixels: int) -> tuple[float, float]:
    """Standard deviations of the point-spread function in samples of the polar grid."""
    depth_step, beam_step = 1.0 / (1.4 * pixels), 1.0 / (1.1 * pixels)
    return AXIAL / depth_step, LATERAL / beam_step


def envelope(rng: np.random.Generator, level: np.ndarray, points: np.ndarray, pixels: int) -> np.ndarray:
    """Envelope of the echo: complex scatterers of the given level (dB) through the point-spread function.

    `points` (depth, beam) is the amplitude of specular point reflectors, already as wide as the point-spread function.
    """
    amplitude = 10.0 ** (level / 20.0)
    sigma = _spread(pixels)
    parts = rng.standard_normal((2, *level.shape), dtype=np.float32) * amplitude.astype(np.float32)
    # Filtering white noise of unit variance with a Gaussian of this width leaves a variance of 1 / (4 pi s1 s2).
    scale = np.sqrt(4.0 * np.pi * max(sigma[0], 0.3) * max(sigma[1], 0.3) / 2.0)
    real, imaginary = (ndimage.gaussian_filter(part, sigma, truncate=3.0) * scale for part in parts)
    return np.hypot(real + points, imaginary)


def compounded(rng: np.random.Generator, level: np.ndarray, points: np.ndarray, pixels: int) -> np.ndarray:
    """Mean of two looks with independent speckle: spatial compounding, as scanners do by default."""
    return (envelope(rng, level, points, pixels) + envelope(rng, level, points, pixels)) / 2.0


def speckled(signal: np.ndarray, level: np.ndarray, points: np.ndarray, pixels: int, factor: float) -> np.ndarray:
    """The signal with its departure (dB) from the mean of all speckle multiplied by `factor`: 0 leaves no speckle."""
    power = ndimage.gaussian_filter(10.0 ** (level / 10.0), np.array(_spread(pixels)) / np.sqrt(2.0), truncate=3.0)
    mean = np.sqrt(np.pi / 4.0 * power) + points
    return mean * (np.maximum(signal, 1e-4) / mean) ** factor


def log_compress(signal: np.ndarray, gain: float) -> np.ndarray:
    """Display brightness in [0, 1]: `DYNAMIC_RANGE` decibels around mid-grey, after `gain` (dB)."""
    decibels = 20.0 * np.log10(np.maximum(signal, 1e-4)) + gain
    return np.clip(0.5 + decibels / DYNAMIC_RANGE, 0.0, 1.0)


def scan_convert(polar: np.ndarray, sector: Sector, pixels: int) -> np.ndarray:
    """The display image, uint8 (pixels, pixels, 3): bilinear from (depth, beam), black outside the sector."""
    depth, angle = pixel_polar(sector, pixels)
    rows = depth / sector.depth * (polar.shape[0] - 1)
    columns = (angle / sector.half_angle + 1.0) / 2.0 * (polar.shape[1] - 1)
    grey = ndimage.map_coordinates(polar, [rows, columns], order=1, mode="constant", cval=0.0, prefilter=False)
    return np.repeat(np.rint(grey * 255.0).astype(np.uint8)[..., None], 3, axis=2)


def shown(
    rng: np.random.Generator,
    level: np.ndarray,
    points: np.ndarray,
    sector: Sector,
    pixels: int,
    speckle: float,
    gain: float,
) -> np.ndarray:
    """The display image, uint8 (pixels, pixels, 3), of scatterers (dB) and points as `envelope` takes them.

    speckle: the factor of `speckled`."""
    signal = compounded(rng, level, points, pixels)
    if speckle != 1.0:
        signal = speckled(signal, level, points, pixels, speckle)
    return scan_convert(log_compress(signal, gain - 3.0), sector, pixels)
