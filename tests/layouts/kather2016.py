"""A tiny Kather texture 2016 in its native layout: which class is in which source is as in the original."""

from pathlib import Path

import numpy as np
from PIL import Image

SOURCES = {  # class -> sources that hold it
    "TUMOR": range(1, 11),
    "STROMA": range(1, 11),
    "COMPLEX": range(1, 11),
    "LYMPHO": range(1, 11),
    "DEBRIS": range(1, 11),
    "MUCOSA": (1, 2, 3, 5, 6, 7, 8, 9),
    "ADIPOSE": (3, 4, 5, 6, 7, 10),
    "EMPTY": (6, 10),
}
TILES = 3  # of each class in each of its sources
IMAGES = TILES * sum(map(len, SOURCES.values()))
EMPTY = TILES * len(SOURCES["EMPTY"])


def write(folder: Path, *, seed: int = 0) -> None:
    draws = np.random.default_rng(seed)
    top = folder / "Kather_texture_2016_image_tiles_5000"
    for number, (name, sources) in enumerate(SOURCES.items(), 1):
        at = top / f"{number:02d}_{name}"
        at.mkdir(parents=True)
        for source in sources:
            scene = "c" if source == 10 else "_007"  # source 10 has images without an underscore
            for tile in range(TILES):
                prefix = f"{draws.integers(0x1000, 0x20000):X}"  # four or five digits
                path = at / f"{prefix}_CRC-Prim-HE-{source:02d}{scene}.tif_Row_{150 * tile + 1}_Col_301.tif"
                Image.fromarray(draws.integers(0, 256, (15, 15, 3), np.uint8)).save(path)
