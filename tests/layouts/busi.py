"""A tiny BUSI in its native layout: synthesised pixels, real names and traps."""

import csv
from pathlib import Path

import numpy as np
from PIL import Image

COUNTS = {"benign": 22, "malignant": 10, "normal": 7}  # a twentieth
NEAR = {"benign (2)": "benign (1)", "malignant (2)": "malignant (1)", "malignant (3)": "benign (3)"}  # image -> group
IMAGES = sum(COUNTS.values())
GROUPS = IMAGES - len(NEAR)


def write(folder: Path, *, seed: int = 0) -> None:
    draws = np.random.default_rng(seed)
    top = folder / "Dataset_BUSI_with_GT"
    rows = []
    for name, count in COUNTS.items():
        (top / name).mkdir(parents=True)
        for number in range(1, count + 1):
            stem = f"{name} ({number})"
            height, width = draws.integers(20, 40, 2).tolist()
            image = draws.integers(0, 256, (height, width, 3), np.uint8)
            if stem in ("benign (4)", "normal (4)"):  # two files of the original have an alpha channel
                image = np.dstack([image, np.full((height, width), 255, np.uint8)])
            masks = ["_mask", "_mask_1"] if stem in ("benign (5)", "malignant (5)") else ["_mask"]
            Image.fromarray(image).save(top / name / f"{stem}.png")
            for mask in masks:
                Image.new("1", (width, height)).save(top / name / f"{stem}{mask}.png")
            rows.append((f"{top.name}/{name}/{stem}.png", name, NEAR.get(stem, stem), len(masks)))
    rows.append((f"{top.name}/normal/normal (133).png", "normal", "normal (133)", 1))  # listed, not on this machine
    with (folder / "groups.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("file", "class", "neardup_group", "n_masks"), *rows])
