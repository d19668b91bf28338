"""A tiny NCT-CRC-HE in its native layout: the 100K with and without colour normalisation, and the 7K."""

from pathlib import Path

import numpy as np
from PIL import Image

FOLDERS = {"NCT-CRC-HE-100K": 6, "NCT-CRC-HE-100K-NONORM": 6, "CRC-VAL-HE-7K": 3}  # images of each class
CLASSES = ("ADI", "BACK", "DEB", "LYM", "MUC", "MUS", "NORM", "STR", "TUM")
IMAGES = len(CLASSES) * 9  # of one training set and the test set


def write(folder: Path, *, seed: int = 0) -> None:
    draws = np.random.default_rng(seed)
    for top, count in FOLDERS.items():
        for name in CLASSES:
            (folder / top / name).mkdir(parents=True)
            for _ in range(count):
                letters = "".join(map(chr, draws.integers(ord("A"), ord("Z") + 1, 8)))
                image = draws.integers(0, 256, (16, 16, 3), np.uint8)
                Image.fromarray(image).save(folder / top / name / f"{name}-{letters}.tif")
