"""A tiny MMOTU in its native layout: lists with and without classes, coloured and binary outlines, a copy across."""

from pathlib import Path

import numpy as np
from PIL import Image

TRAIN, TEST = (7, 5, 7, 3, 3, 6, 4, 3), (4, 3, 4, 2, 1, 3, 2, 1)  # images of each class, about a thirtieth
COLOURS = ((64, 0, 0), (0, 64, 0), (0, 0, 64), (64, 0, 64), (64, 64, 0), (64, 64, 64), (0, 128, 0), (0, 0, 128))
IMAGES = sum(TRAIN) + sum(TEST)
GROUPS = IMAGES - 1  # the last image to test is a copy of the first of its class to train on


def write(folder: Path, *, seed: int = 0) -> None:
    draws = np.random.default_rng(seed)
    top = folder / "OTU_2d"
    for name in ("images", "annotations"):
        (top / name).mkdir(parents=True)
    kinds = [
        (split, label)
        for split, sizes in (("train", TRAIN), ("val", TEST))
        for label in range(8)
        for _ in range(sizes[label])
    ]
    numbers = (1 + draws.permutation(IMAGES)).tolist()  # the lists are in no order
    first = {}
    for number, (split, label) in zip(numbers, kinds, strict=True):
        width, height = draws.integers(30, 44, 2).tolist()
        path = top / "images" / f"{number}.JPG"
        if (split, label) == ("val", 7):
            path.write_bytes(first["train", 7].read_bytes())
            width, height = Image.open(path).size
        else:
            Image.fromarray(draws.integers(0, 256, (height, width, 3), np.uint8)).save(path, format="JPEG")
        first.setdefault((split, label), path)
        outline = np.zeros((height, width, 3), np.uint8)
        outline[5:15, 4:10] = COLOURS[label]
        Image.fromarray(outline).save(top / "annotations" / f"{number}.PNG")
        Image.fromarray(np.where(outline.any(axis=2), 255, 0).astype(np.uint8)).save(
            top / "annotations" / f"{number}_binary.PNG"
        )
    for split in ("train", "val"):
        listed = [(number, label) for number, (part, label) in zip(numbers, kinds, strict=True) if part == split]
        (top / f"{split}.txt").write_text("".join(f"{number}\n" for number, _ in listed))
        (top / f"{split}_cls.txt").write_text("".join(f"{number}.JPG  {label}\n" for number, label in listed))
