"""A tiny Butterfly as its three archives unpack: patient folders, two training parts, grey frames."""

from pathlib import Path

import numpy as np
from PIL import Image

PATIENTS = {"training1": (1, 2, 3), "training2": (4, 5, 6), "test": (26, 27)}
CLASSES = ("2ch", "4ch", "bladder", "carotid", "ivc", "lungs", "morisons_pouch", "plax", "thyroid")
FRAMES = dict(zip(CLASSES, (2, 2, 2, 2, 2, 3, 2, 3, 3), strict=True))  # of most patients; every third has one more
GROUPS = sum(map(len, PATIENTS.values()))
IMAGES = sum(count + (p % 3 == 0) for count in FRAMES.values() for patients in PATIENTS.values() for p in patients)


def write(folder: Path, *, seed: int = 0) -> None:
    draws = np.random.default_rng(seed)
    for part, patients in PATIENTS.items():
        for patient in patients:
            for name in CLASSES:
                at = folder / "butterfly_dataset" / part / str(patient) / name
                at.mkdir(parents=True)
                for number in range(FRAMES[name] + (patient % 3 == 0)):
                    Image.fromarray(draws.integers(0, 256, (16, 14), np.uint8)).save(at / f"{number:03d}.png")
