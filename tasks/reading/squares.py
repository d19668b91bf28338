"""How the store brings an image, and a mask with it, to a square of so many pixels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from tasks.base import DataError, Sample, Source
from tasks.reading import decoding, sector

SQUARES = ("pad", "crop", "sector")  # policies for real images
_RESIZE = "Lanczos resize (Pillow, antialiased)"
POLICIES = {
    "pad": f"{decoding.DECODED}; padded with black to a centred square; {_RESIZE}; 1",
    "crop": f"{decoding.DECODED}; central square cut out; {_RESIZE}; 1",
    "sector": f"{decoding.DECODED}; cut to the scanned area, black outside of it; padded with black to a centred "
    f"square; {_RESIZE}; 1",
    "simulated": "simulated at the stored size",
}


def describe_policy(policy: str) -> str:
    """What a policy does, in words. Raises ValueError for an unknown one."""
    if policy not in POLICIES:
        raise ValueError(f"unknown policy {policy!r}; known: {', '.join(POLICIES)}")
    return POLICIES[policy]


def to_square(image: np.ndarray, pixels: int, policy: str) -> np.ndarray:
    """uint8 RGB as (pixels, pixels, 3): "pad" cuts nothing (ultrasound), "crop" takes the centre (histology), "sector"
    keeps the scanned area of an ultrasound image alone (`tasks.reading.sector`).

    Raises ValueError for an unknown policy, and for a simulated image of another size.
    """
    describe_policy(policy)
    image = sector.cut(image) if policy == "sector" else image
    height, width = image.shape[:2]
    if policy == "simulated":
        if (height, width) != (pixels, pixels):
            raise ValueError(f"a simulated image of {width} x {height} pixels, {pixels} x {pixels} were asked for")
        return image
    if policy == "crop":
        side = min(height, width)
        left, top = (width - side) // 2, (height - side) // 2
        square = Image.fromarray(image[top : top + side, left : left + side])
    else:
        side = max(height, width)
        square = Image.new("RGB", (side, side))
        square.paste(Image.fromarray(image), ((side - width) // 2, (side - height) // 2))
    return np.asarray(square.resize((pixels, pixels), Image.Resampling.LANCZOS))


def mask_to_square(
    task: Source, data: Path, sample: Sample, where: Callable[[Path, Sample, int], np.ndarray], pixels: int
) -> np.ndarray:
    """A sample's mask as bool (pixels, pixels), brought to a square with its image. Raises DataError for a mask that is
    missing, unreadable or of another size than its image."""
    shown, image = where(data, sample, pixels), task.read(data, sample, pixels)
    if shown.shape != image.shape[:2]:
        raise DataError(
            f"{sample.id}: a mask of {shown.shape[1]} x {shown.shape[0]} pixels for an image of {image.shape[1]} x "
            f"{image.shape[0]}; unpack the dataset again"
        )
    policy = task.policy
    if policy == "sector":
        shown, policy = shown[sector.find_frame(image)[1]], "pad"
    grey = np.where(shown, 255, 0).astype(np.uint8)
    return to_square(np.repeat(grey[..., None], 3, axis=2), pixels, policy)[..., 0] >= 128
