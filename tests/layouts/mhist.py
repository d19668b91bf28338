"""A tiny MHIST in its native layout: the table with its exact header, and three-letter image names."""

import csv
from pathlib import Path

import numpy as np
from PIL import Image

HEADER = ("Image Name", "Majority Vote Label", "Number of Annotators who Selected SSA (Out of 7)", "Partition")
COUNTS = {("HP", "train"): 26, ("SSA", "train"): 11, ("HP", "test"): 10, ("SSA", "test"): 6}  # about a sixtieth
IMAGES = sum(COUNTS.values())


def write(folder: Path, *, seed: int = 0) -> None:
    draws = np.random.default_rng(seed)
    (folder / "images").mkdir(parents=True)
    kinds = [kind for kind, count in COUNTS.items() for _ in range(count)]
    rows = []
    for number, position in enumerate(draws.permutation(IMAGES).tolist()):
        label, part = kinds[position]
        name = f"MHIST_a{chr(ord('a') + number // 26)}{chr(ord('a') + number % 26)}.png"
        votes = 4 + number % 4 if label == "SSA" else number % 4
        rows.append((name, label, votes, part))
        Image.fromarray(draws.integers(0, 256, (20, 20, 3), np.uint8)).save(folder / "images" / name)
    with (folder / "annotations.csv").open("w", newline="") as file:
        csv.writer(file).writerows([HEADER, *rows])
