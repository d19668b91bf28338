"""Anatomy of the histology phantom: a field with glands or solid nests, stroma, fibroblasts and lymphocytes.

A patient is a `Field`, plain numbers in fractions of the image's side; an image of it is a slightly shifted view in
which every cell is placed anew.

Sources. Nuclear pleomorphism, hyperchromasia and loss of tubules as grading criteria: Elston and Ellis, Histopathology
19 (1991) 403. Cribriform and solid architecture: Epstein et al., Am. J. Surg. Pathol. 40 (2016) 244. Lymphoid
aggregates: Fridman et al., Nat. Rev. Cancer 12 (2012) 298. Normal nuclei are about 6-8 micrometres across.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from tasks.phantoms import he, knobs
from tasks.phantoms.knobs import LEVELS, Knobs

NUCLEUS, LYMPHOCYTE, ATYPICAL = 0.024, 0.0185, 0.055  # radii: about 3, 2.4 and 7 pixels across at 64
NUCLEI = 13  # of one gland or nest, whatever its architecture
AGGREGATE = 0.15  # radius of the lymphoid aggregate
MINORITY = 0.43  # share of the glands in the field that have the pattern that is not the patient's


@dataclass(frozen=True, kw_only=True)
class Field:
    latents: dict[str, int]
    stain: he.Stain
    glands: np.ndarray  # (n, 4): x, y, radius, direction
    solid: np.ndarray  # (n,) bool: a nest rather than an open gland
    fat: np.ndarray  # (n, 2): centres of the fat cells that hold the empty area where glands have no lumen
    lumen: float  # radius of the lumen, in units of the gland's
    site: tuple[float, float]  # where the aggregate is, or would be
    atypical: np.ndarray  # (n, 2): gland and place within it, where an atypical nucleus is, or would be
    lymphocytes: int
    fibroblasts: int
    fibre: float  # direction of the stroma
    eosin: float  # of cytoplasm, relative to the stroma
    coarse: int  # the gland on whose rim the disc of coarse texture lies, or would lie
    grain: np.ndarray  # of that texture


def patient(rng: np.random.Generator, latents: dict[str, int]) -> Field:
    """Anatomy and laboratory of one patient. Every draw is made whatever the latents are."""
    site = tuple(rng.uniform(0.17, 0.83, 2))
    glands, fat, minority = _glands(rng, site)
    central = np.flatnonzero((np.abs(glands[:, :2] - 0.5) < 0.36).all(axis=1))
    count = int(rng.integers(2, 4))
    chosen = rng.choice(central, count, replace=len(central) < count)
    return Field(
        latents=latents,
        stain=he.stain(rng),
        glands=glands,
        fat=fat,
        solid=minority ^ bool(latents["global"]),
        lumen=rng.uniform(0.46, 0.54),
        site=site,
        atypical=np.stack([chosen, rng.choice(NUCLEI, count, replace=False)], axis=1),
        lymphocytes=int(rng.integers(38, 52)),
        fibroblasts=int(rng.integers(14, 30)),
        fibre=rng.uniform(0.0, np.pi),
        eosin=rng.uniform(0.75, 1.05),
        coarse=int(rng.choice(central)),
        grain=knobs.grain(rng),
    )


def _glands(rng: np.random.Generator, site: tuple[float, float]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Glands (n, 4) on a jittered, turned lattice that leaves the aggregate's site free; gaps (n, 2); minority (n,).

    Each gland takes the first of its two own gaps of the lattice that is clear of the site.
    """
    pitch, turn = 0.31, rng.uniform(0.0, np.pi / 3)
    i, j = np.meshgrid(np.arange(-4, 5), np.arange(-4, 5))
    lattice = np.stack([i + 0.5 * j, j * np.sqrt(0.75)], axis=-1).reshape(-1, 2) * pitch
    cos, sin = np.cos(turn), np.sin(turn)
    rotation = np.array([[cos, -sin], [sin, cos]])
    centres = lattice @ rotation + 0.5 + rng.uniform(-0.15, 0.15, 2)
    centres = centres + rng.uniform(-0.02, 0.02, centres.shape)
    radii, directions = rng.uniform(0.118, 0.138, len(centres)), rng.uniform(0.0, 2.0 * np.pi, len(centres))
    clear = np.hypot(*(centres - site).T) > AGGREGATE + 0.08
    kept = clear & (centres > -0.35).all(axis=1) & (centres < 1.35).all(axis=1)
    gap = np.array([0.5, np.sqrt(0.75) / 3.0]) * pitch @ rotation
    gaps = np.stack([centres - gap, centres + gap])
    first = np.hypot(*(gaps[0] - site).T) > AGGREGATE + 0.05
    fat = np.where(first[:, None], gaps[0], gaps[1])
    return np.column_stack([centres, radii, directions])[kept], fat[kept], _minority(rng, centres[kept])


def _minority(rng: np.random.Generator, centres: np.ndarray) -> np.ndarray:
    """Which glands (n,) have the pattern that is not the patient's: a fixed share of those in the field, at random."""
    place = rng.permutation(len(centres))
    place = place + len(centres) * (np.abs(centres - 0.5) > 0.5).any(axis=1)  # those in the field come first
    seen = int((place < len(centres)).sum())
    rank = place.argsort().argsort()
    return np.where(rank < seen, rank < round(MINORITY * seen), (rank - seen) % 5 < 2)


def view(rng: np.random.Generator, field: Field) -> Field:
    """The patient as one image sees it: the field moved a little under the objective."""
    shift = rng.uniform(-0.05, 0.05, 2)
    glands = field.glands + np.array([*shift, 0.0, 0.0])
    return replace(
        field, glands=glands, fat=field.fat + shift, site=(field.site[0] + shift[0], field.site[1] + shift[1])
    )


def _nest(field: Field) -> np.ndarray:
    """Radius (n,) of the solid nests: the area of the gland's cells without its lumen."""
    return field.glands[:, 2] * np.sqrt(1.0 - field.lumen**2)


def _epithelium(rng: np.random.Generator, field: Field) -> np.ndarray:
    """Places of the epithelial nuclei, (glands, NUCLEI, 3): x, y, angle."""
    glands = len(field.glands)
    turn = field.glands[:, 3, None] + rng.uniform(0.0, 0.5, (glands, 1))
    k = np.arange(NUCLEI)
    nested = _nest(field)[:, None] * 0.84 * np.sqrt((k + 0.5) / NUCLEI)
    ringed = field.glands[:, 2, None] * (1.0 + field.lumen) / 2.0
    solid = field.solid[:, None]
    along = np.where(solid, nested, ringed)
    angle = turn + k * np.where(solid, 2.399963, 2.0 * np.pi / NUCLEI)
    along = along + rng.uniform(-0.007, 0.007, (glands, NUCLEI))
    angle = angle + rng.uniform(-0.1, 0.1, (glands, NUCLEI))
    place = field.glands[:, None, :2] + along[..., None] * np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    return np.concatenate([place, rng.uniform(0.0, np.pi, (glands, NUCLEI, 1))], axis=-1)


def _squares(points: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Squared distances of points (n, 2) to others (m, 2), (n, m)."""
    across, down = (np.subtract.outer(points[:, axis], others[:, axis]) for axis in (0, 1))
    return across * across + down * down


def _spaced(candidates: np.ndarray, wanted: int, gap: float) -> np.ndarray:
    """The first `wanted` candidates that keep their distance from one another, (<= wanted, 2)."""
    near = _squares(candidates, candidates) <= gap**2
    free, kept = np.ones(len(candidates), bool), []
    for place in range(len(candidates)):
        if free[place] and len(kept) < wanted:
            kept.append(place)
            free &= ~near[place]
    return candidates[kept]


def _foci(rng: np.random.Generator) -> np.ndarray:
    """Candidate places of spread lymphocytes: many foci of a few cells, so that a few cells alone tell nothing.

    Over patients they lie where an aggregate's would, so that the mean image tells nothing either.
    """
    centres = rng.uniform(0.12, 0.88, (80, 1, 2))
    return (centres + rng.uniform(-0.05, 0.05, (80, 4, 2))).reshape(-1, 2)


def _stroma(field: Field, places: np.ndarray) -> np.ndarray:
    """Those of the places that lie in the stroma, in order."""
    clear = (_squares(places, field.glands[:, :2]) > (1.05 * field.glands[:, 2]) ** 2).all(axis=1)
    clear &= (_squares(places, field.fat[field.solid]) > 0.08**2).all(axis=1)
    return places[clear]


def _disc(rng: np.random.Generator, count: int) -> np.ndarray:
    """Evenly spread points of the unit disc, (count, 2): a sunflower."""
    k = np.arange(count)
    angle = k * 2.399963 + rng.uniform(0.0, 2.0 * np.pi)
    return np.sqrt((k + 0.5) / count)[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)


def cells(rng: np.random.Generator, field: Field) -> np.ndarray:
    """Every nucleus of the image, (n, 6) as `he.blobs` takes them."""
    places = _epithelium(rng, field)
    sites = places[field.atypical[:, 0], field.atypical[:, 1]].copy()
    flat = places.reshape(-1, 3)
    shape = NUCLEUS * np.exp(rng.normal(0.0, 0.09, (len(flat), 2)))
    density = rng.normal(0.95, 0.09, len(flat))
    epithelium = np.column_stack([flat[:, :2], shape, flat[:, 2], density])

    fibroblasts = _stroma(field, rng.uniform(-0.05, 1.05, (120, 2)))[: field.fibroblasts]
    # Atypical nuclei are dark: without them as much dark chromatin lies in lymphocytes, so its amount tells nothing.
    extra = rng.integers(5, 8, len(field.atypical)).sum() if not field.latents["local"] else 0
    free = _spaced(_stroma(field, _foci(rng)), field.lymphocytes + int(extra), 1.9 * LYMPHOCYTE)
    if field.latents["regional"]:
        packed = int(field.lymphocytes * 0.55)
        reach = 2.05 * LYMPHOCYTE * np.sqrt(packed / 3.6)
        places = _disc(rng, packed) * reach + field.site + rng.normal(0.0, 0.004, (packed, 2))
        free = np.vstack([places, free[packed:]])
    round_ = LYMPHOCYTE * np.exp(rng.normal(0.0, 0.06, (len(free), 2)))
    lymphocytes = np.column_stack([free, round_, np.zeros(len(free)), rng.normal(1.45, 0.10, len(free))])

    count = len(fibroblasts)
    spindle = np.column_stack([rng.uniform(0.030, 0.040, count), rng.uniform(0.009, 0.012, count)])
    along = rng.normal(field.fibre, 0.3, count)
    spindles = np.column_stack([fibroblasts, spindle, along, rng.normal(0.95, 0.1, count)])
    groups = [epithelium, lymphocytes, spindles]

    big = ATYPICAL * rng.uniform(0.9, 1.12, (len(sites), 1)) * np.array([1.0, 0.85])
    lobe = sites[:, :2] + 0.4 * ATYPICAL * np.stack([np.cos(sites[:, 2] + 1.0), np.sin(sites[:, 2] + 1.0)], axis=1)
    dark = rng.normal(1.27, 0.10, len(sites))
    if field.latents["local"]:
        groups.append(np.column_stack([sites[:, :2], big, sites[:, 2], dark]))
        groups.append(np.column_stack([lobe, big * 0.72, sites[:, 2] + 1.3, dark]))
    return np.vstack(groups)


def sites(rng: np.random.Generator, field: Field) -> np.ndarray:
    """Where the image's atypical nuclei are, or would be, (n, 2); `rng` in the state in which `cells` takes it."""
    return _epithelium(rng, field)[field.atypical[:, 0], field.atypical[:, 1], :2]


def _distance(x: np.ndarray, y: np.ndarray, centres: np.ndarray, radii: np.ndarray) -> np.ndarray:
    """Distance to the nearest centre in units of its radius, (pixels, pixels)."""
    across = ((x[0] - centres[:, :1]) / radii[:, None]) ** 2
    down = ((y[:, 0] - centres[:, 1:]) / radii[:, None]) ** 2
    return np.sqrt(np.min(across[:, None, :] + down[:, :, None], axis=0))


def image(rng: np.random.Generator, field: Field, pixels: int, turned: Knobs) -> np.ndarray:
    """The photograph of a view, uint8 (pixels, pixels, 3)."""
    haematoxylin = he.blobs(cells(rng, field), pixels)
    x, y = he.pixel_grid(pixels)
    ringed, nested = field.glands[~field.solid], field.glands[field.solid]
    gland = _distance(x, y, ringed[:, :2], ringed[:, 2])
    nest = _distance(x, y, nested[:, :2], _nest(field)[field.solid])
    fat = _distance(x, y, field.fat[field.solid], nested[:, 2] * field.lumen)
    empty = (gland < field.lumen) | ((fat < 1.0) & (nest >= 1.0))
    cytoplasm = ((gland < 1.0) | (nest < 1.0)) & ~empty
    eosin = 1.0 + 0.16 * he.fibres(rng, field.fibre, pixels)
    eosin = np.where(cytoplasm, field.eosin, eosin)
    if field.latents.get("texture"):
        extent = LEVELS[turned.locality]
        gland_x, gland_y, radius, turn = field.glands[field.coarse]
        right, down = x - gland_x - 0.75 * radius * np.cos(turn), y - gland_y - 0.75 * radius * np.sin(turn)
        eosin *= np.exp(extent.eosin * knobs.texture(field.grain, right, down, extent.radius))
    eosin = np.where(empty, 0.04, eosin) * (1.0 - 0.5 * np.minimum(haematoxylin, 1.0))
    basophilia = np.where(cytoplasm, 0.14, np.where(empty, 0.0, 0.05))
    stain = field.stain._replace(
        vectors=field.stain.vectors * turned.contrast, noise=field.stain.noise * turned.speckle
    )
    return he.photograph(rng, np.maximum(haematoxylin, basophilia), eosin, stain)


def masks(rng: np.random.Generator, field: Field, pixels: int) -> dict[str, np.ndarray]:
    """Where things are in a view, bool (pixels, pixels) each; `atypical` and `aggregate` also where they are absent."""
    x, y = he.pixel_grid(pixels)
    gland = _distance(x, y, field.glands[:, :2], field.glands[:, 2])
    places = sites(rng, field)
    atypical = _distance(x, y, places, np.full(len(places), 0.8 * ATYPICAL)) < 1.0
    aggregate = np.hypot(x - field.site[0], y - field.site[1]) < 0.8 * AGGREGATE
    return {
        "atypical": atypical,
        "aggregate": aggregate,
        "stroma": (gland > 1.05) & ~aggregate,
        "core": (gland < 0.45) & ~atypical,
        "rim": (gland > 0.5) & (gland < 1.0) & ~atypical,
    }


def measure(image: np.ndarray, masks: dict[str, np.ndarray]) -> dict[str, float]:
    """What a reader who knows where to look would measure for each latent: higher means present.

    Red is absorbed by haematoxylin and hardly by eosin, so its optical density, relative to the image's own, counts
    chromatin whatever the stain.
    """
    red = he.optical_density(image)[..., 0]
    red = red / (red.mean() + 1e-9)
    mean = {name: float(red[mask].mean()) if mask.any() else 0.0 for name, mask in masks.items()}
    return {
        "local": mean["atypical"] - mean["rim"],
        "regional": mean["aggregate"] - mean["stroma"],
        "global": mean["core"] - mean["rim"],
    }
