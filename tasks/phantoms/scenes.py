"""The phantom families: factorial latents, patients, splits and seeds, over the anatomy of `abdomen` and `tissue`.

Every patient carries three independent binary latents at three scales, and three tasks of a modality differ only in
which of them is the label. Whatever is drawn comes from (family seed, split, patient, image) alone, through a
counter-based generator (Salmon et al., SC 2011): no order, process or global state can change an image.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from tasks.base import Access, DataError, Sample, digest
from tasks.phantoms import abdomen, tissue

REPORTED, DEVELOPMENT = 2026, 7  # family seeds: what is published, and what calibration may look at
VERSION = 1  # bump with any change to a pixel or a label
LATENTS = ("local", "regional", "global")
MODALITIES = ("ultrasound", "histo")
PATIENTS = {"train": 2000, "val": 200, "test": 500}
IMAGES = 2  # of each patient
EXPECTED = IMAGES * sum(PATIENTS.values())
POLICY = "simulated at the stored size"
ACCESS = Access(
    home="generated on this machine",
    licence="Apache-2.0 (simulated)",
    citation="Pretext Bench, tasks/phantoms (sources of the physics in the modules' docstrings)",
    steps=("nothing to fetch: the images are simulated when they are first read",),
    redistributable=True,
    bytes=0,
)


class Rendered(NamedTuple):
    image: np.ndarray  # uint8 (pixels, pixels, 3)
    latents: dict[str, int]
    masks: dict[str, np.ndarray]  # bool (pixels, pixels) each


@dataclass(frozen=True)
class Family:
    """One modality's images under one seed."""

    modality: str
    seed: int

    @property
    def images(self) -> str:
        """Name and version: the address of the store that the modality's tasks share."""
        seed = "" if self.seed == REPORTED else f"-seed{self.seed}"
        return f"phantom-{self.modality}{seed}/{VERSION}"

    def samples(self, latent: str) -> list[Sample]:
        """All samples, with that latent as the label: renders nothing."""
        which, found = LATENTS.index(latent), []
        for split, patients in PATIENTS.items():
            labels = _combinations(self.modality, self.seed, split, patients) >> which & 1
            for patient, label in enumerate(labels.tolist()):
                for image in range(IMAGES):
                    address = f"{split}/p{patient:05d}/{image}"
                    sha = digest(f"phantom-{self.modality}", VERSION, self.seed, address)
                    found.append(Sample(address, label, f"{split}-p{patient:05d}", sha, split))
        return found

    def read(self, sample: Sample, pixels: int) -> np.ndarray:
        """The sample's image, uint8 (pixels, pixels, 3). Raises DataError for an id that is not of this family."""
        split, patient, image = _parse(sample.id)
        return _draw(self.modality, self.seed, split, patient, image, pixels)[0]


def family(modality: str, seed: int = REPORTED) -> Family:
    if modality not in MODALITIES:
        raise ValueError(f"unknown phantom modality {modality!r}; known: {', '.join(MODALITIES)}")
    return Family(modality, seed)


def render(modality: str, seed: int, split: str, patient: int, image: int, pixels: int) -> Rendered:
    """One image with its ground truth."""
    return Rendered(*_draw(modality, seed, split, patient, image, pixels, masks=True))


def oracle(modality: str, rendered: Rendered) -> dict[str, float]:
    """A score for each latent, measured on the 8-bit image in the true masks: higher means present."""
    measure = abdomen.measure if modality == "ultrasound" else tissue.measure
    return measure(rendered.image, rendered.masks)


def _parse(address: str) -> tuple[str, int, int]:
    try:
        split, patient, image = address.split("/")
        numbers = int(patient.removeprefix("p")), int(image)
        if numbers[0] < PATIENTS[split] and numbers[1] < IMAGES:
            return split, *numbers
    except (KeyError, ValueError):
        pass
    raise DataError(f"no phantom image {address!r}: expected e.g. 'train/p00012/1', with {PATIENTS} patients")


def _generator(*address: object) -> np.random.Generator:
    """An independent stream for each address."""
    key = hashlib.sha256("/".join(map(str, address)).encode()).digest()[:16]
    return np.random.Generator(np.random.Philox(key=int.from_bytes(key, "little")))


def _combinations(modality: str, seed: int, split: str, patients: int) -> np.ndarray:
    """Bits of the latents of the first patients of a split, (patients,): each eight in a row hold all eight in an order
    of their own, so that labels are balanced and uncorrelated by construction.
    """
    rng = _generator("latents", modality, seed, split)
    blocks = rng.permuted(np.tile(np.arange(8), (-(-PATIENTS[split] // 8), 1)), axis=1)
    return blocks.ravel()[:patients]


def latents(modality: str, seed: int, split: str, patient: int) -> dict[str, int]:
    bits = int(_combinations(modality, seed, split, patient + 1)[patient])
    return {name: bits >> i & 1 for i, name in enumerate(LATENTS)}


def _draw(
    modality: str, seed: int, split: str, patient: int, image: int, pixels: int, masks: bool = False
) -> tuple[np.ndarray, dict[str, int], dict[str, np.ndarray]]:
    truth = latents(modality, seed, split, patient)
    one, other = ("patient", modality, seed, split, patient), ("image", modality, seed, split, patient, image)
    place, develop = (*other, "view"), (*other, "noise")
    if modality == "ultrasound":
        seen = abdomen.view(_generator(*place), abdomen.patient(_generator(*one), truth))
        shown = abdomen.masks(seen, pixels) if masks else {}
        return abdomen.image(_generator(*develop), seen, pixels), truth, shown
    field = tissue.view(_generator(*place), tissue.patient(_generator(*one), truth))
    shown = tissue.masks(_generator(*develop), field, pixels) if masks else {}
    return tissue.image(_generator(*develop), field, pixels), truth, shown
