"""Calibration of the phantom tasks on the development seed: `python -m tasks.phantoms.calibrate [--contact FILE.png]`.

A task of the phantoms should be solvable from the image (oracle) and not from its low-order statistics (histogram,
thumbnail). Prints the AUROC of each on held-out patients. The reported seed is never looked at here.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from tasks.phantoms import scenes

PIXELS = 64
PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1)  # values of C, chosen on validation patients
COLUMNS = 8  # of the contact sheet
ENLARGE = 3


def rendered(modality: str, split: str, patients: int) -> Iterator[scenes.Rendered]:
    for patient in range(min(patients, scenes.PATIENTS[split])):
        for image in range(scenes.IMAGES):
            yield scenes.render(modality, scenes.DEVELOPMENT, split, patient, image, PIXELS)


def histogram(image: np.ndarray) -> np.ndarray:
    """16 bins of each channel and their joint 4 x 4 x 4 colours, (112,)."""
    single = [np.bincount(image[..., c].ravel() // 16, minlength=16) for c in range(3)]
    cell = (image // 64).astype(int) @ np.array([16, 4, 1])
    return np.sqrt(np.concatenate([*single, np.bincount(cell.ravel(), minlength=64)]) / image[..., 0].size)


def thumbnail(image: np.ndarray) -> np.ndarray:
    """8 x 8 means of each channel, (192,)."""
    block = image.shape[0] // 8
    return image.reshape(8, block, 8, block, 3).mean(axis=(1, 3)).ravel() / 255.0


def linear_auroc(features: dict[str, np.ndarray], labels: dict[str, np.ndarray]) -> float:
    """Test AUROC of logistic regression on standardised features, its penalty chosen on validation patients."""
    best = (-1.0, None)
    for penalty in PENALTIES:
        model = make_pipeline(StandardScaler(), LogisticRegression(C=penalty, max_iter=300))
        model.fit(features["train"], labels["train"])
        best = max(
            best, (roc_auc_score(labels["val"], model.decision_function(features["val"])), model), key=lambda b: b[0]
        )
    return float(roc_auc_score(labels["test"], best[1].decision_function(features["test"])))


def table(modality: str, patients: int) -> list[tuple[str, float, float, float]]:
    """(latent, oracle, histogram, thumbnail) of each task, AUROC on test patients of the development seed."""
    scenes_of = {split: list(rendered(modality, split, patients)) for split in scenes.PATIENTS}
    pictures = {split: [r.image for r in found] for split, found in scenes_of.items()}
    colours = {split: np.stack([histogram(i) for i in images]) for split, images in pictures.items()}
    small = {split: np.stack([thumbnail(i) for i in images]) for split, images in pictures.items()}
    scores = [scenes.oracle(modality, r) for r in scenes_of["test"]]
    rows = []
    for latent in scenes.LATENTS:
        labels = {split: np.array([r.latents[latent] for r in found]) for split, found in scenes_of.items()}
        oracle = roc_auc_score(labels["test"], [s[latent] for s in scores])
        rows.append((latent, float(oracle), linear_auroc(colours, labels), linear_auroc(small, labels)))
    return rows


def contact_sheet(modality: str, pixels: int = PIXELS) -> Image.Image:
    """Development patients, one row for each combination of latents in binary order, `COLUMNS` patients each."""
    rows: dict[tuple[int, ...], list[np.ndarray]] = {}
    for patient in range(8 * COLUMNS):
        shown = scenes.render(modality, scenes.DEVELOPMENT, "train", patient, 0, pixels)
        framed = np.pad(shown.image, ((1, 1), (1, 1), (0, 0)), constant_values=128)
        rows.setdefault(tuple(shown.latents.values()), []).append(framed)
    sheet = Image.fromarray(np.vstack([np.hstack(rows[bits]) for bits in sorted(rows)]))
    return sheet.resize((sheet.width * ENLARGE, sheet.height * ENLARGE), Image.Resampling.NEAREST)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tasks.phantoms.calibrate", description=__doc__)
    parser.add_argument("--patients", type=int, default=2000, help="at most so many of each split")
    parser.add_argument("--contact", type=Path, metavar="FILE.png", help="also write FILE-<modality>.png")
    parser.add_argument("--modality", choices=scenes.MODALITIES, help="only this one")
    options = parser.parse_args()
    print(f"development seed {scenes.DEVELOPMENT}, version {scenes.VERSION}, AUROC on test patients")
    print(f"{'task':<24}{'oracle':>10}{'histogram':>12}{'thumbnail':>12}")
    for modality in (options.modality,) if options.modality else scenes.MODALITIES:
        for latent, *aurocs in table(modality, options.patients):
            print(f"{modality + '/' + latent:<24}{aurocs[0]:>10.3f}{aurocs[1]:>12.3f}{aurocs[2]:>12.3f}", flush=True)
        if options.contact:
            path = options.contact.with_name(f"{options.contact.stem}-{modality}{options.contact.suffix or '.png'}")
            contact_sheet(modality).save(path)
            print(f"wrote {path}")


if __name__ == "__main__":
    main()
