"""A tiny AUL as its archives unpack: numbers that restart in every class, a missing liver file, no masses in Normal."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

NUMBERS = {  # of images, a twentieth; in UltraBench's test part are 10 of Normal, 4, 5 of Benign, 4, 6, 7 of Malignant
    "Normal": (1, 2, 3, 4, 10),
    "Benign": (1, 2, 3, 4, 5, 6, 7, 8, 9, 10),
    "Malignant": (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 374),
}
IMAGES = GROUPS = sum(map(len, NUMBERS.values()))
TEST = 6


def write(folder: Path, *, seed: int = 0) -> None:
    draws = np.random.default_rng(seed)
    for name, numbers in NUMBERS.items():
        top = folder / "aul" / name
        outlines = ("outline", "liver") if name == "Normal" else ("outline", "liver", "mass")
        for part in ("image", *(f"segmentation/{kind}" for kind in outlines)):
            (top / part).mkdir(parents=True)
        for number in numbers:
            height, width = draws.integers(20, 40, 2).tolist()
            image = draws.integers(0, 256, (height, width, 3), np.uint8)
            Image.fromarray(image if number % 2 else image[..., 0]).save(top / "image" / f"{number}.jpg")
            for kind in outlines:
                if (name, number, kind) != ("Malignant", 374, "liver"):
                    corners = [[0.5, 0.5], [width - 0.5, 0.5], [width / 2, height - 0.5]]
                    (top / "segmentation" / kind / f"{number}.json").write_text(json.dumps(corners))
        hidden = folder / "aul" / "__MACOSX" / name / "image"
        hidden.mkdir(parents=True)
        (hidden / "._1.jpg").write_bytes(b"")
