"""A tiny IDC in its native layout: a folder for each patient and class, the class in the names, patches cut off."""

from pathlib import Path

import numpy as np
from PIL import Image

PATIENTS = {  # number -> patches of each class; of the original's patients, some have one class alone
    number: (1 + place % 3, place % 4) for place, number in enumerate([*range(8863, 8875), *range(10253, 10269)])
} | {9290: (0, 2)}
IMAGES, GROUPS = sum(map(sum, PATIENTS.values())), len(PATIENTS)
CUT = {  # (patient, class): width and height of its first patch, where the slide's edge cut it off
    (8863, 0): (50, 1),
    (8864, 1): (2, 26),
    (10254, 0): (50, 41),
}


def write(folder: Path, *, seed: int = 0) -> None:
    draws = np.random.default_rng(seed)
    top = folder / "IDC_regular_ps50_idx5"
    for patient, counts in PATIENTS.items():
        for label, count in enumerate(counts):
            if count:
                (top / str(patient) / str(label)).mkdir(parents=True)
            for place in range(count):
                width, height = CUT.get((patient, label), (50, 50)) if place == 0 else (50, 50)
                name = f"{patient}_idx5_x{1001 + 50 * place}_y{751 + 50 * label}_class{label}.png"
                patch = draws.integers(0, 256, (height, width, 3), np.uint8)
                Image.fromarray(patch).save(top / str(patient) / str(label) / name)
