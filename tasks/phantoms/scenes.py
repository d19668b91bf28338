"""The phantom families: factorial latents, patients, splits and seeds, over the anatomy of `abdomen` and `tissue`.

Every patient carries three independent binary latents at three scales, and three tasks of a modality differ only in
which of them is the label. Whatever is drawn comes from (family seed, split, patient, image) alone, through a
counter-based generator (Salmon et al., SC 2011): no order, process or global state can change an image.
"""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tasks.base import Access, DataError, Sample, digest
from tasks.phantoms import abdomen, tissue
from tasks.phantoms.knobs import Knobs

REPORTED, DEVELOPMENT = 2026, 7  # family seeds: what is published, and what calibration may look at
NAME = "phantom"  # of the dataset family
VERSION = 2  # bump with any change to a pixel or a label
LATENTS = ("local", "regional", "global")
TEXTURE = "texture"  # the fourth latent of a family whose locality knob is turned
MODALITIES = ("ultrasound", "histo")
PATIENTS = {"train": 2000, "val": 200, "test": 500}
IMAGES = 2  # of each patient
EXPECTED = IMAGES * sum(PATIENTS.values())
CALIBRATED_PIXELS = 64
BOUNDS = {  # AUROC on a task of a family: what calibration asked for, on development seeds
    "oracle": (0.95, 1.0),
    "histogram": (0.0, 0.70),
    "thumbnail": (0.0, 0.70),
    "twin": (0.55, 0.80),  # mean over seeds, of the encoder of the smallest tracks
    "supervised": (0.90, 1.0),
}
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
    """One modality's images under one seed and one setting of the knobs."""

    modality: str
    seed: int
    knobs: Knobs

    @property
    def images(self) -> str:
        """Name and version: the address of the store that the modality's tasks share."""
        seed = "" if self.seed == REPORTED else f"-seed{self.seed}"
        return f"phantom-{self.modality}{seed}{self.knobs.name}/{VERSION}"

    @property
    def names(self) -> tuple[str, ...]:
        """The binary latents, in the order of their bits."""
        return (*LATENTS, TEXTURE) if self.knobs.locality else LATENTS

    def scan(self, data: Path, latent: str) -> list[Sample]:
        """All samples, with that latent as the label: renders nothing, and reads nothing under data."""
        which, found = self.names.index(latent), []
        for split in PATIENTS:
            labels = self._combinations(split) >> which & 1
            for patient, label in enumerate(labels.tolist()):
                for image in range(IMAGES):
                    address = f"{split}/p{patient:05d}/{image}"
                    sha = digest(f"phantom-{self.modality}{self.knobs.name}", VERSION, self.seed, address)
                    found.append(Sample(address, label, f"{split}-p{patient:05d}", sha, split))
        return found

    def read(self, data: Path, sample: Sample, pixels: int) -> np.ndarray:
        """The sample's image, uint8 (pixels, pixels, 3). Raises DataError for an id that is not of this family."""
        return self._draw(*_parse(sample.id), pixels)[0]

    def mask(self, data: Path, sample: Sample, pixels: int, name: str, latent: str = "") -> np.ndarray:
        """Where a structure lies, bool (pixels, pixels); nowhere where the latent that makes it is absent."""
        split, patient, image = _parse(sample.id)
        if latent and not self.latents(split, patient)[latent]:
            return np.zeros((pixels, pixels), bool)
        return self._draw(split, patient, image, pixels, masks=True)[1][name]

    def _combinations(self, split: str) -> np.ndarray:
        return _combinations(self.modality, self.seed, split, PATIENTS[split])

    def latents(self, split: str, patient: int) -> dict[str, int]:
        bits = int(self._combinations(split)[patient])
        return {name: bits >> i & 1 for i, name in enumerate(self.names)}

    def render(self, split: str, patient: int, image: int, pixels: int) -> Rendered:
        """One image with its ground truth."""
        shown, masks = self._draw(split, patient, image, pixels, masks=True)
        return Rendered(shown, self.latents(split, patient), masks)

    def _draw(
        self, split: str, patient: int, image: int, pixels: int, masks: bool = False
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        truth = self.latents(split, patient)
        address = (self.modality, self.seed, split, patient)
        one, other = ("patient", *address), ("image", *address, image)
        place, develop = (*other, "view"), (*other, "noise")
        if self.modality == "ultrasound":
            seen = abdomen.view(_generator(*place), abdomen.patient(_generator(*one), truth))
            shown = abdomen.masks(seen, pixels) if masks else {}
            return abdomen.image(_generator(*develop), seen, pixels, self.knobs), shown
        field = tissue.view(_generator(*place), tissue.patient(_generator(*one), truth))
        shown = tissue.masks(_generator(*develop), field, pixels) if masks else {}
        return tissue.image(_generator(*develop), field, pixels, self.knobs), shown


def family(modality: str, seed: int = REPORTED, knobs: Knobs = Knobs()) -> Family:
    if modality not in MODALITIES:
        raise ValueError(f"unknown phantom modality {modality!r}; known: {', '.join(MODALITIES)}")
    return Family(modality, seed, knobs)


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


@functools.cache
def _combinations(modality: str, seed: int, split: str, patients: int) -> np.ndarray:
    """Bits of the latents of a split's patients, (patients,): each eight in a row hold all eight of the first three in
    an order of their own, and each sixteen all sixteen, so that labels are balanced and uncorrelated by construction.
    """
    blocks = -(-patients // 8)
    bits = _generator("latents", modality, seed, split).permuted(np.tile(np.arange(8), (blocks, 1)), axis=1)
    first = _generator("latents", modality, seed, split, TEXTURE).integers(0, 2, (-(-blocks // 2), 8))
    texture = np.take_along_axis(np.stack([first, 1 - first], axis=1).reshape(-1, 8)[:blocks], bits, axis=1)
    return (bits | texture << 3).ravel()[:patients]
