"""A tiny Kather texture 2016 in its native layout: uneven sources, as the original's.

Stated of the original, and so here: 625 tiles a class; adipose in six sources, mucosa in eight, EMPTY in 06 (590) and
10 (35) alone; the commonest class of the ten sources is one class three times, three classes twice, another once. The
other numbers of TILES are made to fit.
"""

from pathlib import Path

import numpy as np
from PIL import Image

TILES = {  # class -> tiles in source 1, 2, ... 10 of the complete dataset
    "TUMOR": (150, 20, 30, 140, 25, 40, 60, 20, 100, 40),
    "STROMA": (60, 110, 40, 50, 30, 45, 110, 60, 70, 50),
    "COMPLEX": (50, 70, 60, 70, 60, 55, 80, 70, 60, 50),
    "LYMPHO": (40, 60, 20, 30, 45, 130, 50, 130, 60, 60),
    "DEBRIS": (70, 50, 45, 100, 40, 35, 45, 50, 40, 150),
    "MUCOSA": (90, 70, 35, 0, 200, 50, 60, 60, 60, 0),
    "ADIPOSE": (0, 0, 300, 15, 20, 70, 60, 0, 0, 160),
    "EMPTY": (0, 0, 0, 0, 0, 590, 0, 0, 0, 35),
}
SCALE = 25  # tiles of the original for one here, rounded up
COUNTS = {name: tuple(-(-count // SCALE) for count in counts) for name, counts in TILES.items()}
IMAGES = sum(map(sum, COUNTS.values()))
EMPTY = sum(COUNTS["EMPTY"])


def write(folder: Path, *, seed: int = 0) -> None:
    draws = np.random.default_rng(seed)
    top = folder / "Kather_texture_2016_image_tiles_5000"
    for number, (name, counts) in enumerate(COUNTS.items(), 1):
        at = top / f"{number:02d}_{name}"
        at.mkdir(parents=True)
        for source, count in enumerate(counts, 1):
            scene = "c" if source == 10 else "_007"  # source 10 has images without an underscore
            for tile in range(count):
                prefix = f"{draws.integers(0x1000, 0x20000):X}"  # four or five digits
                path = at / f"{prefix}_CRC-Prim-HE-{source:02d}{scene}.tif_Row_{150 * tile + 1}_Col_301.tif"
                Image.fromarray(draws.integers(0, 256, (15, 15, 3), np.uint8)).save(path)
