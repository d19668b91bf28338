"""folder:<path>: every image file below a folder.

What        PNG, JPEG, TIFF and BMP files by extension, decoded as every task's images are; hidden ones are left out
Group       the folder that an image lies in, from the top; the image itself, where it lies at the top
Traps       names and folders are kept as they are: rename what holds a patient's name
"""

from pathlib import Path

import numpy as np

from tasks import files, sources
from tasks.base import DataError, Sample, Source

KIND = "folder"


def scan(data: Path, *, location: str) -> list[Sample]:
    top = sources.top(data, location)
    paths = sources.below(top, files.IMAGE_SUFFIXES)
    if not paths:
        raise DataError(f"{top}: no image below it ({', '.join(sorted(files.IMAGE_SUFFIXES))}); give another folder")
    ids = [path.relative_to(top).as_posix() for path in paths]
    groups = [name.rpartition("/")[0] or name for name in ids]
    return sorted(Sample(*row, "train") for row in zip(ids, [-1] * len(ids), groups, files.digests(paths), strict=True))


def read(data: Path, sample: Sample, pixels: int, *, location: str) -> np.ndarray:
    return files.decode(sources.top(data, location) / sample.id)


def open_source(location: str, modality: str) -> Source:
    return sources.source(
        KIND, location, modality, group_kind="folder (image, where it lies in none)", scan=scan, read=read
    )
