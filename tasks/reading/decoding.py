"""Image files as 8-bit RGB, or a refusal that says why: whatever bits, pages, transparency and comments they have."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, PngImagePlugin

from tasks.base import DataError
from tasks.reading import folders

LEAST_SIDE = 8  # a smaller image shows nothing
MOST_PIXELS = 500_000_000  # a larger image is more likely a bomb than a scan
MOST_TEXT = 2**28  # bytes of a profile or comment beside the pixels
Image.MAX_IMAGE_PIXELS = None  # ours is the limit, and it refuses instead of warning
PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY = MOST_TEXT
DIM = 2**14  # grey levels that 14 bits hold: an image that stays below in 16 bits was scaled to fewer
OPAQUE = 128  # of 255: an alpha channel that stays below everywhere is none
BITS, PHOTOMETRIC, SUBFILE, FORMAT = 258, 262, 254, 339  # tags of TIFF
REDUCED_OR_MASK = 1 | 4  # bits of SUBFILE: a page that is not an image of its own
SIGNED = 2  # a FORMAT of samples
DECODED = "8-bit RGB (grey of more bits by the range of its bits, transparency over black, EXIF rotation applied)"


def decode(path: Path, content: bytes | None = None, *, least: int = LEAST_SIDE) -> np.ndarray:
    """An image file as uint8 RGB (height, width, 3); DECODED says how other kinds of pixels are brought there.

    content: the file's bytes, where the image lies in a container that `path` names in an error; least: pixels of a
    side that is taken.
    """
    try:
        with Image.open(path if content is None else io.BytesIO(content)) as file:
            if min(file.size) < least or file.width * file.height > MOST_PIXELS:
                raise ValueError(
                    f"{file.width} x {file.height} pixels; sides of at least {least} and at most {MOST_PIXELS:,} "
                    "pixels are taken"
                )
            _check_pages(file)
            return np.asarray(_rgb(file))
    except (
        Exception
    ) as error:  # Pillow's plugins raise OSError, SyntaxError, ValueError, struct.error, ... on bad files
        raise DataError(
            f"{folders.printable(path)}: unreadable image ({_size(path, content)}; {type(error).__name__}: {error}); "
            "fetch it again, or leave it out"
        ) from error


def _size(path: Path, content: bytes | None) -> str:
    try:
        return f"{path.stat().st_size if content is None else len(content)} bytes"
    except OSError as error:
        return "no such file" if isinstance(error, FileNotFoundError) else str(error.strerror)


def _check_pages(file: Image.Image) -> None:
    """Raises ValueError for a file of several images. A smaller version, a mask, or the companions that a camera adds
    to a JPEG (MPO) are none of their own."""
    count = getattr(file, "n_frames", 1)
    if count > 1 and file.format == "TIFF":
        count = sum(not _subfile(file, page) & REDUCED_OR_MASK for page in range(count))
        file.seek(0)
    if count > 1 and file.format != "MPO":
        raise ValueError(f"{count} images in one file; save each as a file of its own")


def _subfile(file: Image.Image, page: int) -> int:
    file.seek(page)
    return file.tag_v2.get(SUBFILE, 0)


def _rgb(file: Image.Image) -> Image.Image:
    sixteen = ";16" in str(file.tile)  # Pillow keeps the upper 8 bits of colour
    image = ImageOps.exif_transpose(file)
    if image.mode == "F":
        raise ValueError("floating-point pixels have no agreed scale; convert the file to 8 or 16 bits")
    if image.mode.startswith("I"):
        return Image.fromarray(_grey(np.asarray(image).astype(np.int64), getattr(file, "tag_v2", {}))).convert("RGB")
    shown = _over_black(image) if image.has_transparency_data else image.convert("RGB")
    if sixteen:
        _check_range(256 * int(np.asarray(shown).max()))
    return shown


def _grey(values: np.ndarray, tags: Mapping[int, Any]) -> np.ndarray:
    """Grey of more than 8 bits as uint8: by the range of the bits that a TIFF states, else of 16."""
    bits = tags.get(BITS, (16,))[0]
    if bits == 16 and SIGNED in tags.get(FORMAT, ()):
        raise ValueError("signed pixels have no agreed scale; convert the file to 8 or 16 bits")
    white = min(2**bits, 2**16) - 1
    if values.min() < 0 or values.max() > white:
        raise ValueError(
            f"pixels from {values.min()} to {values.max()} have no agreed scale; convert it to 8 or 16 bits"
        )
    if white == 2**16 - 1:
        _check_range(values.max())
    return ((white - values if tags.get(PHOTOMETRIC) == 0 else values) * 255 // white).astype(np.uint8)


def _check_range(highest: int) -> None:
    if 0 < highest < DIM:
        raise ValueError(
            f"16-bit pixels of which none is over {highest} of 65,535, as where 12 bits are stored in 16, and the file "
            "does not say so; convert it to 8 bits"
        )


def _over_black(image: Image.Image) -> Image.Image:
    over = image.convert("RGBA")
    opaque = over.getextrema()[3][1]
    if opaque < OPAQUE:
        raise ValueError(f"transparent everywhere (alpha is at most {opaque} of 255); save it without alpha channel")
    return Image.alpha_composite(Image.new("RGBA", over.size, (0, 0, 0, 255)), over).convert("RGB")


def decode_mask(path: Path) -> np.ndarray:
    """A mask file as bool (height, width), whether it stores 0 and 255 or 0 and 1: over half of its brightest value.

    Raises DataError where it is missing or unreadable.
    """
    grey = decode(path)[..., 0].astype(int)
    return 2 * grey > grey.max()


def fill_boxes(shape: tuple[int, int], corners: Iterable[Sequence[float]]) -> np.ndarray:
    """bool (height, width): filled boxes, each xmin, ymin, xmax, ymax in pixels, both ends inside."""
    shown = np.zeros(shape, bool)
    for left, top, right, bottom in corners:
        shown[max(0, round(top)) : round(bottom) + 1, max(0, round(left)) : round(right) + 1] = True
    return shown
