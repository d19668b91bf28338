"""Anatomy of the relation family in histology: a field of stroma with four nests of epithelium, cell-rich or cell-poor.

A patient is a `Nests`, plain numbers in fractions of the image's side; an image of it is a slightly shifted view in
which every cell is placed anew. The first nest of the marked pair has a lumen, the second a keratin pearl.

Sources. Cellularity and keratinisation as grading criteria of squamous nests: Broders, Ann. Surg. 73 (1921) 141;
desmoplastic stroma: Kalluri, Nat. Rev. Cancer 16 (2016) 582.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from tasks.phantoms import he, relation
from tasks.phantoms.knobs import Knobs
from tasks.phantoms.relation import RADIUS, Structure

NUCLEUS = 0.0185  # radius
POOR, RICH = 3, 14  # nuclei of a nest
CORE = 0.34  # radius of lumen and pearl, in units of the nest's


@dataclass(frozen=True, kw_only=True)
class Nests:
    nests: tuple[Structure, ...]
    counts: np.ndarray  # (4,) nuclei
    stain: he.Stain
    fibroblasts: int
    lymphocytes: int
    fibre: float  # direction of the stroma
    eosin: float  # of cytoplasm, relative to the stroma
    fat: np.ndarray  # (n, 3): x, y, radius of empty fat cells between the rows


def patient(rng: np.random.Generator, distance: str, first: int, second: int) -> Nests:
    """Anatomy and laboratory of one patient. Every draw is made whatever the levels are."""
    nests = relation.place(rng, distance, first, second)
    count = int(rng.integers(2, 6))
    middle = np.mean(relation.ROWS)
    fat = np.column_stack(
        [rng.uniform(0.05, 0.95, count), middle + rng.uniform(-0.05, 0.05, count), rng.uniform(0.025, 0.05, count)]
    )
    return Nests(
        nests=nests,
        counts=np.where([nest.high for nest in nests], RICH, POOR) + rng.integers(-1, 2, 4),
        stain=he.stain(rng),
        fibroblasts=int(rng.integers(25, 45)),
        lymphocytes=int(rng.integers(10, 25)),
        fibre=rng.uniform(0.0, np.pi),
        eosin=rng.uniform(0.40, 0.60),
        fat=fat,
    )


def view(rng: np.random.Generator, field: Nests) -> Nests:
    """The patient as one image sees it: the field moved a little under the objective."""
    right, down = rng.uniform(-0.012, 0.012, 2)
    fat = field.fat + np.array([right, down, 0.0])
    return replace(field, nests=relation.moved(field.nests, right, down), fat=fat)


def _nuclei(rng: np.random.Generator, nest: Structure, count: int) -> np.ndarray:
    """Places of a nest's nuclei between its core and its outline, (count, 2): a sunflower, shaken."""
    k = np.arange(count)
    along = np.sqrt((CORE + 0.08) ** 2 + (0.84**2 - (CORE + 0.08) ** 2) * (k + 0.5) / count)
    angle = k * 2.399963 + rng.uniform(0.0, 2.0 * np.pi) + rng.uniform(-0.15, 0.15, count)
    outline = 1.0 / relation.radius(np.cos(angle), np.sin(angle))
    along = RADIUS * along * outline + rng.uniform(-0.005, 0.005, count)
    return np.stack([nest.x + along * np.cos(angle), nest.y + along * np.sin(angle)], axis=1)


def cells(rng: np.random.Generator, field: Nests) -> np.ndarray:
    """Every nucleus of the image, (n, 6) as `he.blobs` takes them."""
    most = [_nuclei(rng, nest, count) for nest, count in zip(field.nests, field.counts, strict=True)]
    inside = np.concatenate(most)
    centres = np.array([[nest.x, nest.y] for nest in field.nests])
    stroma = rng.uniform(-0.03, 1.03, (140, 2))
    clear = (np.hypot(*(stroma[:, None] - centres).transpose(2, 0, 1)) > 1.12 * RADIUS).all(axis=1)
    clear &= (np.hypot(*(stroma[:, None] - field.fat[:, :2]).transpose(2, 0, 1)) > field.fat[:, 2] + 0.02).all(axis=1)
    stroma = stroma[clear]
    spindles, rounds = stroma[: field.fibroblasts], stroma[field.fibroblasts :][: field.lymphocytes]

    def shaped(places: np.ndarray, along: float, across: float, turn: float, spread: float, dark: float) -> np.ndarray:
        count = len(places)
        size = np.array([along, across]) * np.exp(rng.normal(0.0, 0.09, (count, 2)))
        angle = rng.normal(turn, spread, count)
        return np.column_stack([places, size, angle, rng.normal(dark, 0.09, count)])

    return np.vstack(
        [
            shaped(inside, NUCLEUS, NUCLEUS, 0.0, 3.0, 1.0),
            shaped(spindles, 0.033, 0.010, field.fibre, 0.3, 0.95),
            shaped(rounds, 0.0165, 0.0165, 0.0, 3.0, 1.45),
        ]
    )


def image(rng: np.random.Generator, field: Nests, pixels: int, turned: Knobs) -> np.ndarray:
    """The photograph of a view, uint8 (pixels, pixels, 3)."""
    haematoxylin = he.blobs(cells(rng, field), pixels)
    x, y = he.pixel_grid(pixels)
    eosin = 1.0 + 0.16 * he.fibres(rng, field.fibre, pixels)
    empty = np.zeros(x.shape, bool)
    for centre, row, radius in field.fat:
        empty |= np.hypot(x - centre, y - row) < radius
    inside = np.zeros(x.shape, bool)
    for nest in field.nests:
        r = relation.radius((x - nest.x) / RADIUS, (y - nest.y) / RADIUS)
        inside |= r < 1.0
        eosin = np.where(r < 1.0, field.eosin, eosin)
        if nest.mark == "second":
            eosin = np.where(r < CORE, 2.1, eosin)
        if nest.mark == "first":
            empty |= r < CORE
    eosin = np.where(empty, 0.04, eosin) * (1.0 - 0.5 * np.minimum(haematoxylin, 1.0))
    basophilia = np.where(empty, 0.0, np.where(inside, 0.14, 0.05))
    stain = field.stain._replace(
        vectors=field.stain.vectors * turned.contrast, noise=field.stain.noise * turned.speckle
    )
    return he.photograph(rng, np.maximum(haematoxylin, basophilia), eosin, stain)


def masks(field: Nests, pixels: int) -> dict[str, np.ndarray]:
    """Where the two marked nests are, without their centres: bool (pixels, pixels) each."""
    x, y = he.pixel_grid(pixels)
    found = {}
    for nest in field.nests[:2]:
        r = relation.radius((x - nest.x) / RADIUS, (y - nest.y) / RADIUS)
        found[nest.mark] = (r < 0.92) & (r > CORE + 0.1)
    return found


def measure(image: np.ndarray, masks: dict[str, np.ndarray]) -> dict[str, float]:
    """What a reader who knows where to look would measure, in optical density of red, relative to the image's own:
    higher means rich in cells, or in agreement."""
    red = he.optical_density(image)[..., 0]
    red = red / (red.mean() + 1e-9)
    first, second = (float(red[masks[name]].mean()) for name in ("first", "second"))
    return {"relation": -abs(first - second), "first": first, "second": second}
