"""A tiny BACH in its native layout: all 400 labelled images, very small, and the test set without labels."""

from pathlib import Path

import numpy as np
from PIL import Image

FOLDERS = {"Normal": "n", "Benign": "b", "InSitu": "is", "Invasive": "iv"}  # class -> prefix, in the challenge's order
EACH = 100
IMAGES = EACH * len(FOLDERS)


def write(folder: Path, *, seed: int = 0) -> None:
    draws = np.random.default_rng(seed)
    top = folder / "ICIAR2018_BACH_Challenge"
    truth = []
    for name, prefix in FOLDERS.items():
        (top / "Photos" / name).mkdir(parents=True)
        for number in range(1, EACH + 1):
            image = draws.integers(0, 256, (9, 12, 3), np.uint8)
            Image.fromarray(image).save(top / "Photos" / name / f"{prefix}{number:03d}.tif")
            truth.append(f"{prefix}{number:03d}.tif,{name}\n")
    (top / "Photos" / "microscopy_ground_truth.csv").write_text("".join(truth))
    (top / "WSI").mkdir()
    blind = folder / "ICIAR2018_BACH_Challenge_TestDataset" / "Photos"
    blind.mkdir(parents=True)
    for number in range(3):
        (blind / f"test{number}.tif").write_bytes(b"never read")
