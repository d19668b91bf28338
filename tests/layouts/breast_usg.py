"""A tiny BrEaST in its native layout: scans and outlines with an alpha channel in one folder, a workbook beside it."""

from pathlib import Path

import numpy as np
from PIL import Image

FOLDER = "BrEaST-Lesions_USG-images_and_masks"
WORKBOOK = "BrEaST-Lesions-USG-clinical-data-Dec-15-2023.xlsx"
KINDS = ("benign", "malignant", "benign")  # every third is malignant, and two scans show no lesion
NORMAL = (5, 16)
BIRADS = {"benign": (2, 3, "4a", "4b"), "malignant": ("4b", "4c", 5), "normal": (1,)}  # numbers where no letter is
OTHER = {2: 2, 3: 1}  # case -> outlines of further lesions
CASES = range(1, 25)
SCANS = {case: "normal" if case in NORMAL else KINDS[case % 3] for case in CASES}
IMAGES = GROUPS = len(SCANS) - len(NORMAL)
COLUMNS = (
    *("CaseID", "Image_filename", "Mask_tumor_filename", "Mask_other_filename", "Pixel_size", "Age", "BIRADS"),
    *("Verification", "Classification"),
)


def write(folder: Path, *, seed: int = 0) -> None:
    draws = np.random.default_rng(seed)
    top = folder / FOLDER
    top.mkdir(parents=True)
    for case, kind in SCANS.items():
        width, height = draws.integers(24, 40, 2).tolist()
        pixels = draws.integers(0, 256, (height, width), np.uint8)
        _save(top / f"case{case:03d}.png", pixels)
        outlines = [] if kind == "normal" else ["tumor", *(f"other{n + 1}" for n in range(OTHER.get(case, 0)))]
        for place, name in enumerate(outlines):  # side by side, so that they differ
            shown = np.zeros((height, width), np.uint8)
            shown[3:9, 2 + 7 * place : 7 + 7 * place] = 255
            _save(top / f"case{case:03d}_{name}.png", shown)
    workbook(folder / WORKBOOK)


def birads(case: int) -> int | str:
    categories = BIRADS[SCANS[case]]
    return categories[case // 3 % len(categories)]


def workbook(path: Path, *, columns: tuple[str, ...] = COLUMNS, kinds: dict[int, str] = SCANS) -> None:
    import openpyxl

    book = openpyxl.Workbook()
    sheet = book.active
    sheet.title = "BrEaST-Lesions-USG clinical dat"
    sheet.append(columns)
    for case, kind in kinds.items():
        name = f"case{case:03d}"
        lesion = None if SCANS[case] == "normal" else f"{name}_tumor.png"
        other = "&".join(f"{name}_other{n + 1}.png" for n in range(OTHER.get(case, 0))) or None
        checked = "not applicable" if lesion is None else "confirmed by biopsy"
        sheet.append([case, f"{name}.png", lesion, other, 0.0078125, "not available", birads(case), checked, kind])
    book.create_sheet("Data Dictionary").append(["Column", "Meaning"])
    book.save(path)


def _save(path: Path, grey: np.ndarray) -> None:
    Image.fromarray(np.dstack([grey, grey, grey, np.full_like(grey, 255)])).save(path)
