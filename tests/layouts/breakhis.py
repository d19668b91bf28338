"""A tiny BreaKHis in its native layout: four magnifications, letter suffixes, one number under two subtypes."""

import csv
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

SLIDES = (  # (subtype's folder, code, slide)
    ("adenosis", "A", "14-22549AB"),
    ("adenosis", "A", "14-22549CD"),  # the same patient, another block
    ("adenosis", "A", "14-29960CD"),
    ("fibroadenoma", "F", "14-29960AB"),  # the same patient, another subtype
    ("fibroadenoma", "F", "14-14134E"),
    ("fibroadenoma", "F", "14-21998CD"),
    ("fibroadenoma", "F", "14-23060AB"),  # published for training, its other block for testing
    ("fibroadenoma", "F", "14-23060CD"),
    ("phyllodes_tumor", "PT", "14-21998AB"),
    ("phyllodes_tumor", "PT", "14-29315EF"),
    ("tubular_adenoma", "TA", "14-3411F"),
    ("tubular_adenoma", "TA", "14-16184"),  # published for training, its other block for testing
    ("tubular_adenoma", "TA", "14-16184CD"),
    ("tubular_adenoma/tubular_adenoma", "TA", "14-13200"),  # some copies nest a folder in itself
    ("ductal_carcinoma", "DC", "14-13412"),
    ("lobular_carcinoma", "LC", "14-13412"),  # the same slide under two subtypes
    ("ductal_carcinoma", "DC", "14-10926"),
    ("ductal_carcinoma", "DC", "14-11031"),
    ("ductal_carcinoma", "DC", "14-16875"),
    ("lobular_carcinoma", "LC", "14-12204"),
    ("mucinous_carcinoma", "MC", "14-10147"),
    ("mucinous_carcinoma", "MC", "14-13418DE"),
    ("mucinous_carcinoma", "MC", "14-18842"),  # published for validation, its other block for testing
    ("mucinous_carcinoma", "MC", "14-18842D"),
    ("mucinous_carcinoma", "MC", "14-19979"),
    ("mucinous_carcinoma", "MC", "14-19979C"),  # published for training, its other block for testing
    ("papillary_carcinoma", "PC", "14-9146"),
)
CROSSING = {"14-16184", "14-18842", "14-19979", "14-23060"}
SCALES = (40, 100, 200, 400)
FIELDS = [
    2 + place % 3 + 2 * (code in ("DC", "LC", "MC", "PC")) for place, (_, code, _) in enumerate(SLIDES)
]  # at each
IMAGES, GROUPS = sum(FIELDS), 19  # magnification; two thirds are malignant
SIDES = {"train": 7, "val": 6, "test": 6}  # slides of the four subtypes' published split


def write(folder: Path, *, seed: int = 0, scales: Iterable[int] = SCALES) -> None:
    draws = np.random.default_rng(seed)
    top = folder / "BreaKHis_v1"
    rows = []
    for (subtype, code, slide), fields in zip(SLIDES, FIELDS, strict=True):
        kind, letter = ("benign", "B") if code in ("A", "F", "PT", "TA") else ("malignant", "M")
        at = top / "histology_slides" / "breast" / kind / "SOB" / subtype / f"SOB_{letter}_{code}_{slide}"
        for scale in scales:
            (at / f"{scale}X").mkdir(parents=True)
            for number in range(1, fields + 1):
                path = at / f"{scale}X" / f"SOB_{letter}_{code}-{slide}-{scale}-{number:03d}.png"
                Image.fromarray(draws.integers(0, 256, (23, 35, 3), np.uint8)).save(path)
                patient = slide.rstrip("ABCDEF")
                rows.append((path.relative_to(folder).as_posix(), kind, code, patient, slide))
    with (folder / "groups.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("file", "class", "subtype", "patient_group", "slide"), *rows])
