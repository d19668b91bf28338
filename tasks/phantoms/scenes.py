"""The phantom families: factorial latents, patients, splits and seeds, over the anatomy of `abdomen` and `tissue`.

Every patient of the base family carries three independent binary latents at three scales, and three tasks of a modality
differ only in which of them is the label; the knobs make further families of it. Whatever is drawn comes from (family
seed, split, patient, image) alone, through a counter-based generator (Salmon et al., SC 2011): no order, process or
global state can change an image.
"""

from __future__ import annotations

import functools
import hashlib
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tasks.base import Access, DataError, Sample, digest
from tasks.phantoms import abdomen, neck, nests, tissue
from tasks.phantoms.knobs import Knobs

DRAWN_FROM = "801cc278fc5e9e0697f255577eacf2b5e85668e6"  # the last commit before the freeze: docs/experiment.md
REPORTED, DEVELOPMENT = int(DRAWN_FROM[:8], 16), 7  # family seeds: what is published, and what calibration may look at
NAME = "phantom"  # of the dataset family
VERSION = 3  # bump with any change to a pixel or a label
LATENTS = ("local", "regional", "global")
TEXTURE = "texture"  # the fourth latent of a family whose locality knob is turned
PAIR = ("relation", "first", "second")  # latents of the relation knob: whether two levels agree, and each of them
MODALITIES = ("ultrasound", "histo")
FEWER = "PRETEXT_BENCH_PATIENTS"  # variable: at most so many of a split and of a kind, to try things out


def _fewer(count: int) -> int:
    most = os.environ.get(FEWER) or str(count)
    if not most.isdecimal() or int(most) < 16:
        raise SystemExit(f"error: {FEWER}={most}: a whole number of simulated patients, 16 or more; or unset it")
    return min(count, int(most))


PATIENTS = {split: _fewer(count) for split, count in {"train": 2000, "val": 400, "test": 2000}.items()}  # labelled
CORPUS = "population"  # the split of unlabelled patients: see `population`
POPULATION = 9 * _fewer(2300)  # its nine kinds take turns
AGREEING = 0.8  # share of the population's patients whose pair agrees
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
        """Name and version of the image family: levels of a knob that is its own question are one family."""
        seed = "" if self.seed == REPORTED else f"-seed{self.seed}"
        kind = "-relation" if self.knobs.relation else "-texture" if self.knobs.locality else ""
        turned = replace(self.knobs, locality=None, relation=None).name
        return f"phantom-{self.modality}{kind}{seed}{turned}/{VERSION}"

    @property
    def names(self) -> tuple[str, ...]:
        """The binary latents, in the order of their bits."""
        if self.knobs.relation:
            return PAIR
        return (*LATENTS, TEXTURE) if self.knobs.locality else LATENTS

    @property
    def each(self) -> int:
        """Images of each labelled patient."""
        return 1 if self.knobs.relation or self.knobs.locality else 2

    @property
    def expected(self) -> int:
        return self.each * sum(PATIENTS.values())

    def address(self, split: str, patient: int, image: int) -> str:
        """Of an image: a sample's id. Patients of the relation's scenes are others than those of the base family."""
        return f"{split}/{self._kind}{patient:05d}/{image}"

    @property
    def _kind(self) -> str:
        return "r" if self.knobs.relation else "p"

    def scan(self, data: Path, latent: str) -> list[Sample]:
        """All samples, with that latent as the label: renders nothing, and reads nothing under data."""
        which, found = self.names.index(latent), []
        for split in PATIENTS:
            labels = self._combinations(split) >> which & 1
            for patient, label in enumerate(labels.tolist()):
                for image in range(self.each):
                    address = self.address(split, patient, image)
                    sha = digest(f"phantom-{self.modality}{self.knobs.name}", VERSION, self.seed, address)
                    found.append(Sample(address, label, f"{split}-{self._kind}{patient:05d}", sha, split))
        return found

    def read(self, data: Path, sample: Sample, pixels: int) -> np.ndarray:
        """The sample's image, uint8 (pixels, pixels, 3). Raises DataError for an id that is not of this family."""
        return self._draw(*self._parse(sample.id), pixels)[0]

    def mask(self, data: Path, sample: Sample, pixels: int, name: str, latent: str = "") -> np.ndarray:
        """Where a structure lies, bool (pixels, pixels); nowhere where the latent that makes it is absent."""
        split, patient, image = self._parse(sample.id)
        if latent and not self.latents(split, patient)[latent]:
            return np.zeros((pixels, pixels), bool)
        return self._draw(split, patient, image, pixels, masks=True)[1][name]

    def _combinations(self, split: str) -> np.ndarray:
        patients = POPULATION if split == CORPUS else PATIENTS[split]
        make = _pairs if self.knobs.relation else _combinations
        return make(self.modality, self.seed, split, patients)

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
        address = (self.modality, self.seed, split, *["relation"] * bool(self.knobs.relation), patient)
        one, other = ("patient", *address), ("image", *address, image)
        place, develop = (*other, "view"), (*other, "noise")
        if self.knobs.relation:
            scene = neck if self.modality == "ultrasound" else nests
            pair = truth["first"], truth["second"]
            seen = scene.view(_generator(*place), scene.patient(_generator(*one), self.knobs.relation, *pair))
            shown = scene.masks(seen, pixels) if masks else {}
            return scene.image(_generator(*develop), seen, pixels, self.knobs), shown
        if self.modality == "ultrasound":
            seen = abdomen.view(_generator(*place), abdomen.patient(_generator(*one), truth))
            shown = abdomen.masks(seen, pixels) if masks else {}
            return abdomen.image(_generator(*develop), seen, pixels, self.knobs), shown
        field = tissue.view(_generator(*place), tissue.patient(_generator(*one), truth))
        shown = tissue.masks(_generator(*develop), field, pixels) if masks else {}
        return tissue.image(_generator(*develop), field, pixels, self.knobs), shown

    def _parse(self, address: str) -> tuple[str, int, int]:
        try:
            split, patient, image = address.split("/")
            numbers = int(patient.removeprefix(self._kind)), int(image)
            most = POPULATION if split == CORPUS else PATIENTS[split]
            if numbers[0] < most and numbers[1] < self.each and self.address(split, *numbers) == address:
                return split, *numbers
        except (KeyError, ValueError):
            pass
        raise DataError(
            f"no phantom image {address!r}: expected e.g. {self.address('train', 12, 0)!r}, with {PATIENTS} patients"
        )


def family(modality: str, seed: int = REPORTED, knobs: Knobs = Knobs()) -> Family:
    if modality not in MODALITIES:
        raise ValueError(f"unknown phantom modality {modality!r}; known: {', '.join(MODALITIES)}")
    return Family(modality, seed, knobs)


def oracle(family: Family, rendered: Rendered) -> dict[str, float]:
    """A score for each latent, measured on the 8-bit image in the true masks: higher means present."""
    if family.knobs.relation:
        scene = neck if family.modality == "ultrasound" else nests
    else:
        scene = abdomen if family.modality == "ultrasound" else tissue
    return scene.measure(rendered.image, rendered.masks)


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


@functools.cache
def _pairs(modality: str, seed: int, split: str, patients: int) -> np.ndarray:
    """Bits of PAIR of a split's patients, (patients,).

    Labelled: each four in a row hold all four pairs of levels. In the population four of five agree: anatomy agrees,
    disease breaks it."""
    rng = _generator("latents", modality, seed, split, "relation")
    if split == CORPUS:
        first, agree = rng.integers(0, 2, patients), rng.random(patients) < AGREEING
        second = np.where(agree, first, 1 - first)
    else:
        pairs = rng.permuted(np.tile(np.arange(4), (-(-patients // 4), 1)), axis=1).ravel()[:patients]
        first, second = pairs & 1, pairs >> 1
    return (first == second) | first << 1 | second << 2
