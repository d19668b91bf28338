"""A tiny NCT-CRC-HE in its native layout: the 100K with and without colour normalisation, and the 7K.

Images of a class are a 1,700th of the 100K's and a 170th of the 7K's, rounded.
"""

from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = ("ADI", "BACK", "DEB", "LYM", "MUC", "MUS", "NORM", "STR", "TUM")
TRAIN, TEST = (6, 6, 7, 7, 5, 8, 5, 6, 8), (8, 5, 2, 4, 6, 3, 4, 2, 7)  # images of each class
FOLDERS = {"NCT-CRC-HE-100K": TRAIN, "NCT-CRC-HE-100K-NONORM": TRAIN, "CRC-VAL-HE-7K": TEST}
IMAGES = sum(TRAIN) + sum(TEST)


def write(folder: Path, *, seed: int = 0) -> None:
    draws = np.random.default_rng(seed)
    for top, counts in FOLDERS.items():
        for name, count in zip(CLASSES, counts, strict=True):
            (folder / top / name).mkdir(parents=True)
            for _ in range(count):
                letters = "".join(map(chr, draws.integers(ord("A"), ord("Z") + 1, 8)))
                image = draws.integers(0, 256, (16, 16, 3), np.uint8)
                Image.fromarray(image).save(folder / top / name / f"{name}-{letters}.tif")
