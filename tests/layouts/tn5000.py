"""A tiny TN5000 in its native layout, unzipped into a folder of its own name: VOC annotations, copies that cross."""

from pathlib import Path

import numpy as np
from PIL import Image

COUNTS = {"train": 20, "val": 6, "test": 8}
IMAGES = sum(COUNTS.values())
COPIES = {"000002": "000001", "000028": "000004", "000030": "000022"}  # within train, train to test, val to test
GROUPS = IMAGES - len(COPIES)
ANNOTATION = """<annotation>
  <filename>{name}.jpg</filename>
  <size><width>{width}</width><height>{height}</height><depth>3</depth></size>
  <object><name>{label}</name>
    <bndbox><xmin>11</xmin><ymin>9</ymin><xmax>40</xmax><ymax>30</ymax></bndbox>
  </object>
</annotation>
"""


def write(folder: Path, *, seed: int = 0) -> None:
    draws = np.random.default_rng(seed)
    top = folder / "TN5000_forReview" / "TN5000_forReview"
    for name in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (top / name).mkdir(parents=True)
    names = [f"{number:06d}" for number in range(1, IMAGES + 1)]
    for name in names:
        width, height = (72, 50) if int(name) % 5 else (82, 63)
        path = top / "JPEGImages" / f"{name}.jpg"
        if name in COPIES:
            path.write_bytes((path.parent / f"{COPIES[name]}.jpg").read_bytes())
        else:
            Image.fromarray(draws.integers(0, 256, (height, width, 3), np.uint8)).save(path)
        label = int(COPIES.get(name, name)) % 7 not in (0, 3)  # of seven, two are benign; copies are as their original
        text = ANNOTATION.format(name=name, width=width, height=height, label=int(label))
        (top / "Annotations" / f"{name}.xml").write_text(text)
    train, val = COUNTS["train"], COUNTS["train"] + COUNTS["val"]
    lists = {"train": names[:train], "val": names[train:val], "test": names[val:], "trainval": names[:val]}
    for split, members in lists.items():
        (top / "ImageSets" / "Main" / f"{split}.txt").write_text("\n".join(members) + "\n")
