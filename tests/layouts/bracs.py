"""A tiny BRACS in its native layout: regions in the published folders, and the workbook of slides and patients."""

from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = ("N", "PB", "UDH", "FEA", "ADH", "DCIS", "IC")
SLIDES = {"train": (1003675, 1003676, 1003677), "val": (265, 266), "test": (264, 267)}
PATIENTS = {1003675: 1, 1003676: 2, 1003677: 67, 265: 3, 266: 67, 264: 4, 267: 5}  # patient 67 is in train and in val
REGIONS = {slide: [1 + (place + label) % 3 for label in range(len(CLASSES))] for place, slide in enumerate(PATIENTS)}
IMAGES, GROUPS = sum(map(sum, REGIONS.values())), 6  # slides have unlike numbers of regions of each class


def write(folder: Path, *, seed: int = 0) -> None:
    draws = np.random.default_rng(seed)
    for split, slides in SLIDES.items():
        for label, name in enumerate(CLASSES):
            at = folder / "BRACS_RoI" / "latest_version" / split / f"{label}_{name}"
            at.mkdir(parents=True)
            for slide in slides:
                for region in range(REGIONS[slide][label]):
                    height, width = draws.integers(13, 60, 2).tolist()
                    image = draws.integers(0, 256, (height, width, 3), np.uint8)
                    Image.fromarray(image).save(at / f"BRACS_{slide}_{name}_{label + 1 + 10 * region}.png")
    workbook(folder / "BRACS.xlsx")


def workbook(path: Path, *, patients: dict[int, int] = PATIENTS, columns: tuple[str, str] | None = None) -> None:
    import openpyxl

    book = openpyxl.Workbook()
    book.active.title = "Summary"
    sheet = book.create_sheet("WSI_Information")
    slide, patient = columns or ("WSI Filename", "Patient Id")
    sheet.append([slide, patient, "RoI", "WSI label", "Set"])
    for number, (name, group) in enumerate(patients.items()):
        cell = f"BRACS_{name}.svs" if number % 2 else f"BRACS_{name}"  # with and without the extension
        sheet.append([cell, group, len(CLASSES), "IC", "Training"])
    sheet.append([None, None, None, None, None])
    book.save(path)
