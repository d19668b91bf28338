"""A tiny BUS-BRA in its native layout: two views of most patients, masks, the authors' folds."""

import csv
from pathlib import Path

import numpy as np
from PIL import Image

PATIENTS = 36  # every third malignant, every fourth with a single view
SIDES = {"l": "left", "r": "right", "s": "single"}
GROUPS, IMAGES = PATIENTS, 2 * PATIENTS - PATIENTS // 4
FOLDS = (5, 10)


def write(folder: Path, *, seed: int = 0) -> None:
    draws = np.random.default_rng(seed)
    top = folder / "BUSBRA"
    (top / "Images").mkdir(parents=True)
    (top / "Masks").mkdir()
    rows, names = [], []
    for case in range(1, PATIENTS + 1):
        pathology = "benign" if case % 3 else "malignant"
        histology = "Fibroadenoma" if case % 3 else "Invasive ductal carcinoma"
        for side in "lr" if case % 4 else "s":
            name = f"bus_{case:04d}-{side}"
            width, height = draws.integers(30, 50).item(), draws.integers(30, 50).item()
            Image.fromarray(draws.integers(0, 256, (height, width), np.uint8)).save(top / "Images" / f"{name}.png")
            Image.new("L", (width, height)).save(top / "Masks" / f"{name.replace('bus_', 'mask_')}.png")
            about = (histology, pathology, 2 + case % 4, "GE Logiq 7", width, height, SIDES[side])
            rows.append((name, case, *about, "[9,4,10,9]"))
            names.append((case, name, pathology))
    header = ("ID", "Case", "Histology", "Pathology", "BIRADS", "Device", "Width", "Height", "Side", "BBOX")
    _table(top / "bus_data.csv", header, rows)
    for count in FOLDS:
        folds = []
        for case, name, pathology in names:
            fold = case % count + 1
            inner = ["NaN" if k == fold else int(draws.integers(2)) for k in range(1, count + 1)]
            folds.append((name, pathology, fold, *inner))
        header = ("ID", "Pathology", "kFold", *(f"valid_{k}" for k in range(1, count + 1)))
        _table(top / f"{count}-fold-cv.csv", header, folds)


def _table(path: Path, header: tuple[str, ...], rows: list[tuple]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])
