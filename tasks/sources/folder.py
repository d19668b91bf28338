"""folder:<path>: every image file below a folder.

What        PNG, JPEG, TIFF, BMP, GIF, WebP, JPEG 2000 and PNM files by extension, decoded as every task's images are;
            links are followed; hidden files and folders are left out. What may be an image and is not read is listed
            with its reason
Group       the folder that an image lies in, from the top; the image itself, where it lies at the top
Traps       names and folders are kept as they are: rename what holds a patient's name
"""

from pathlib import Path

import numpy as np

from tasks import sources
from tasks.base import DataError, Sample
from tasks.reading import checksums, decoding, folders

KIND = "folder"
GROUP_KIND = "folder (image, where it lies in none)"


def scan(data: Path, *, location: str) -> list[Sample]:
    top = sources.top(data, location)
    paths, left_out = folders.list_images(top)
    if not paths:
        seen = folders.summarise(folders.names_below(left_out, top)) or ", ".join(sorted(folders.IMAGE_SUFFIXES))
        raise DataError(f"{top}: no image below it ({seen}); give another folder")
    ids = [folders.relative_id(path, top) for path in paths]
    groups = [name.rpartition("/")[0] or name for name in ids]
    return sorted(
        Sample(*row, "train") for row in zip(ids, [-1] * len(ids), groups, checksums.hash_files(paths), strict=True)
    )


def left_out(data: Path, *, location: str) -> dict[str, list[str]]:
    top = sources.top(data, location)
    return folders.names_below(folders.list_images(top).left_out, top)


def read(data: Path, sample: Sample, pixels: int, *, location: str) -> np.ndarray:
    return decoding.decode(sources.top(data, location) / sample.id)
