"""A tiny PCam in its native layout: HDF5 and meta tables for train, valid and test, with a patch drawn twice."""

import csv
from pathlib import Path

import h5py
import numpy as np

PARTS = ("train", "valid", "test")
EACH = 16  # patches of a part
SLIDES = (1, 2, 5, 8)  # patches of each slide of a part
IMAGES, GROUPS = EACH * len(PARTS), len(SLIDES) * len(PARTS)
TWICE = (4, 5)  # patches of train that are one and the same
HEADER = ("", "coord_y", "coord_x", "tumor_patch", "center_tumor_patch", "wsi")


def write(folder: Path, *, seed: int = 0) -> None:
    draws = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    for part_number, part in enumerate(PARTS):
        stem = f"camelyonpatch_level_2_split_{part}"
        patches = draws.integers(0, 256, (EACH, 96, 96, 3), np.uint8)
        if part == "train":
            patches[TWICE[1]] = patches[TWICE[0]]
        labels = (np.arange(EACH) // 2 % 2).astype(np.uint8)
        with h5py.File(folder / f"{stem}_x.h5", "w") as file:
            file["x"] = patches
        with h5py.File(folder / f"{stem}_y.h5", "w") as file:
            file["y"] = labels.reshape(EACH, 1, 1, 1)
        rows = []
        numbers = np.repeat(np.arange(len(SLIDES)), SLIDES) + 1 + part_number * len(SLIDES)
        for index, (label, number) in enumerate(zip(labels.tolist(), numbers.tolist(), strict=True)):
            slide = f"camelyon16_test_{number:03d}" if part == "test" else f"camelyon16_train_tumor_{number:03d}"
            rows.append((index, *draws.integers(0, 90_000, 2).tolist(), bool(label), bool(label), slide))
        with (folder / f"{stem}_meta.csv").open("w", newline="") as file:
            csv.writer(file).writerows([HEADER, *rows])
