"""The corpus of the phantoms: unlabelled patients of their own, in whom every family occurs, equally often.

One image a patient. Patient by patient the kinds take turns: the three latents alone, texture at each of its levels
(half of those patients carry it), relation at each of its distances (four of five pairs agree: anatomy agrees, disease
breaks it). Labelled families hold none of these patients.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from tasks.base import DataError, Sample, Source, digest
from tasks.phantoms import scenes
from tasks.phantoms.knobs import LEVELS, Knobs
from tasks.phantoms.relation import APART
from tasks.phantoms.scenes import CORPUS, VERSION

KINDS = (Knobs(), *(Knobs(locality=level) for level in LEVELS), *(Knobs(relation=distance) for distance in APART))


def source(modality: str, seed: int = scenes.REPORTED) -> Source:
    """The modality's population under a family seed."""
    return Source(
        name="phantom_population",
        modality=modality,
        title=f"Synthetic {'ultrasound' if modality == 'ultrasound' else 'histology'}: population",
        group_kind="simulated patient",
        version=VERSION,
        access=scenes.ACCESS,
        scan=partial(scan, modality=modality, seed=seed),
        read=partial(read, modality=modality, seed=seed),
        policy="simulated",
        images=f"phantom-{modality}-population{'' if seed == scenes.REPORTED else f'-seed{seed}'}/{VERSION}",
        family=scenes.NAME,
        expected=scenes.POPULATION,
        synthetic=True,
    )


def kind(patient: int) -> Knobs:
    return KINDS[patient % len(KINDS)]


def scan(data: Path, *, modality: str, seed: int) -> list[Sample]:
    """All patients, without labels: renders nothing, and reads nothing under data."""
    found = []
    for patient in range(scenes.POPULATION):
        address = scenes.family(modality, seed, kind(patient)).address(CORPUS, patient, 0)
        sha = digest(f"phantom-{modality}-{CORPUS}", VERSION, seed, address)
        found.append(Sample(address, -1, f"{CORPUS}-{patient:05d}", sha, "train"))
    return found


def read(data: Path, sample: Sample, pixels: int, *, modality: str, seed: int) -> np.ndarray:
    """The patient's image, uint8 (pixels, pixels, 3). Raises DataError for an id that is not of the population."""
    digits = sample.id.split("/")[1][1:] if sample.id.count("/") == 2 else ""
    if not (sample.id.startswith(f"{CORPUS}/") and digits.isdigit()):
        raise DataError(f"no image {sample.id!r} in the population: expected e.g. '{CORPUS}/p00012/0'")
    return scenes.family(modality, seed, kind(int(digits))).read(data, sample, pixels)
