"""Anatomy of the ultrasound phantom: a right-upper-quadrant view with liver, kidney, gallbladder, vessels, diaphragm.

A patient is an `Abdomen`, plain numbers in fractions of the image's side; an image of it is a slightly shifted view.

Sources. Steatosis raises the liver's echo over the kidney's cortex and its attenuation: Hamaguchi et al., Am. J.
Gastroenterol. 102 (2007) 2708. Mural masses of the gallbladder: Basu et al., CVPR 2022 (GBCU). Microcalcifications as
bright points in a nodule: Kwak et al., Radiology 260 (2011) 892 (TI-RADS).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from tasks.phantoms import bmode, knobs
from tasks.phantoms.knobs import LEVELS, Knobs


class Ellipse(NamedTuple):
    x: float
    z: float
    along: float  # semi-axis
    across: float  # semi-axis
    tilt: float  # radians, of the `along` axis from the horizontal

    def radius(self, x: np.ndarray, z: np.ndarray) -> np.ndarray:
        """Distance from the centre in units of the ellipse's own radius: 1 on the outline."""
        u, v = self.frame(x, z)
        return np.hypot(u / self.along, v / self.across)

    def frame(self, x: np.ndarray, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Coordinates along the two axes, from the centre."""
        cos, sin = np.cos(self.tilt), np.sin(self.tilt)
        return (x - self.x) * cos + (z - self.z) * sin, (z - self.z) * cos - (x - self.x) * sin

    def at(self, angle: float, radius: float) -> tuple[float, float]:
        """The point at that angle (in the ellipse's frame) and radius (in units of the ellipse's own)."""
        u, v = radius * self.along * np.cos(angle), radius * self.across * np.sin(angle)
        cos, sin = np.cos(self.tilt), np.sin(self.tilt)
        return float(self.x + u * cos - v * sin), float(self.z + u * sin + v * cos)


@dataclass(frozen=True, kw_only=True)
class Abdomen:
    latents: dict[str, int]
    sector: bmode.Sector
    kidney: Ellipse
    gallbladder: Ellipse
    nodule: Ellipse
    mass: tuple[Ellipse, ...]  # where the mural mass is, or would be
    calcifications: np.ndarray  # (n, 2): x, z, where they are, or would be
    vessels: tuple[Ellipse, ...]
    diaphragm: tuple[float, float, float]  # x and z of the vertex, curvature
    contrast: float  # dB, liver over renal cortex
    sinus: float  # dB, renal sinus over liver
    nodule_level: float  # dB, nodule over liver
    attenuation: float  # dB per image side, two-way, of soft tissue
    gain: float  # dB
    tgc: np.ndarray  # (4,) dB, at four depths
    contact: np.ndarray  # (5,) dB, at five beams: the probe never touches evenly, and ribs shade
    muscle: tuple[Ellipse, float]  # psoas or bowel: an organ of any echo, dB
    lung: float  # dB, beyond the diaphragm
    coarse: tuple[float, float]  # x and z of the disc of coarse texture, where it is, or would be
    grain: np.ndarray  # of that texture


def patient(rng: np.random.Generator, latents: dict[str, int]) -> Abdomen:
    """Anatomy and machine settings of one patient. Every draw is made whatever the latents are."""
    side = rng.choice([-1.0, 1.0])
    sector = bmode.Sector(rng.uniform(0.62, 0.74), rng.uniform(0.14, 0.24), rng.uniform(0.02, 0.05), 0.93)

    def jitter(scale: float) -> float:
        return float(rng.uniform(-scale, scale))

    places = np.array([[0.0, 0.27], [-0.22, 0.52], [0.20, 0.53], [0.0, 0.74]]) * (side, 1.0)
    first, second, third, fourth = (rng.permutation(places) + rng.uniform(-0.06, 0.06, (4, 2))).tolist()
    kidney = Ellipse(*third, rng.uniform(0.165, 0.19), rng.uniform(0.115, 0.13), jitter(0.5))
    # The mass takes room in the lumen, so the bladder that holds one is larger: the dark area tells nothing.
    grow = 1.0 + 0.12 * latents["regional"]
    gallbladder = Ellipse(*first, grow * rng.uniform(0.145, 0.165), grow * rng.uniform(0.098, 0.110), jitter(0.7))
    nodule = Ellipse(*second, rng.uniform(0.085, 0.105), rng.uniform(0.075, 0.09), jitter(1.5))
    # A dark cortex alone must not tell: where it is not dark, the other organ tends to be.
    echo = rng.uniform(-7.0, 4.0) if latents["global"] else rng.uniform(-13.0, -2.0)
    muscle = Ellipse(*fourth, rng.uniform(0.13, 0.17), rng.uniform(0.09, 0.12), jitter(1.5))
    return Abdomen(
        latents=latents,
        sector=sector,
        kidney=kidney,
        gallbladder=gallbladder,
        nodule=nodule,
        mass=_mass(rng, gallbladder),
        calcifications=_cluster(rng, nodule),
        vessels=_vessels(rng, (kidney, gallbladder, nodule)),
        diaphragm=(side * 0.1 + jitter(0.1), rng.uniform(0.85, 0.90), rng.uniform(0.35, 0.75)),
        contrast=rng.uniform(9.0, 12.0) if latents["global"] else rng.uniform(0.0, 3.0),
        sinus=rng.uniform(3.0, 8.0),
        nodule_level=rng.uniform(-9.0, -6.0),
        attenuation=rng.uniform(12.0, 17.0) if latents["global"] else rng.uniform(8.0, 14.0),
        gain=jitter(4.0),
        tgc=rng.uniform(-5.0, 5.0, 4),
        contact=rng.uniform(-4.0, 4.0, 5),
        muscle=(muscle, echo),
        lung=rng.uniform(-18.0, -6.0),
        coarse=_clear(rng, sector, gallbladder),
        grain=knobs.grain(rng),
    )


def _mass(rng: np.random.Generator, bladder: Ellipse) -> tuple[Ellipse, ...]:
    """Lobes of an irregular mass seated on the wall."""
    seat = rng.uniform(0.0, 2.0 * np.pi)
    lobes = []
    for turn, height, size in ((0.0, 0.62, 0.50), (-0.55, 0.80, 0.36), (0.55, 0.80, 0.36), (0.1, 0.25, 0.28)):
        x, z = bladder.at(seat + turn + rng.uniform(-0.15, 0.15), height * rng.uniform(0.9, 1.1))
        size *= bladder.across * rng.uniform(0.7, 1.0)
        lobes.append(Ellipse(x, z, size * rng.uniform(1.0, 1.4), size, rng.uniform(0.0, np.pi)))
    return tuple(lobes)


def _cluster(rng: np.random.Generator, nodule: Ellipse) -> np.ndarray:
    """Two or three points of the nodule, apart from one another, (n, 2)."""
    count, start = int(rng.integers(2, 4)), rng.uniform(0.0, 2.0 * np.pi)
    turns = start + np.arange(count) * 2.0 * np.pi / count
    return np.array([nodule.at(turn + rng.uniform(-0.3, 0.3), rng.uniform(0.40, 0.55)) for turn in turns])


def _vessels(rng: np.random.Generator, organs: tuple[Ellipse, ...]) -> tuple[Ellipse, ...]:
    """Two to five vessels of the liver, clear of the other organs."""
    found: list[Ellipse] = []
    wanted = int(rng.integers(2, 5))
    for x, z, along, across, tilt in rng.uniform((-0.4, 0.16, 0.03, 0.016, -1.2), (0.4, 0.8, 0.11, 0.03, 1.2), (40, 5)):
        vessel = Ellipse(x, z, along, across, tilt)
        clear = all(
            np.hypot(x - other.x, (z - other.z)) > along + (other.along + other.across) / 2
            for other in (*organs, *found)
        )
        if clear and len(found) < wanted:
            found.append(vessel)
    return tuple(found)


def _clear(rng: np.random.Generator, sector: bmode.Sector, bladder: Ellipse) -> tuple[float, float]:
    """A point well within the sector and off the gallbladder, whose fluid would hide a texture."""
    for depth, angle in rng.uniform((0.15, -0.8), (0.85, 0.8), (40, 2)):
        reach, turn = sector.radius + depth * sector.depth, angle * sector.half_angle
        x, z = float(reach * np.sin(turn)), float(sector.top - sector.radius + reach * np.cos(turn))
        if bladder.radius(x, z) > 1.5:
            break
    return x, z


def view(rng: np.random.Generator, abdomen: Abdomen) -> Abdomen:
    """The patient as one image sees it: everything shifted a little together, and the gain touched."""
    dx, dz = rng.uniform(-0.035, 0.035, 2)

    def move(ellipse: Ellipse) -> Ellipse:
        return ellipse._replace(x=ellipse.x + dx, z=ellipse.z + dz)

    x, z, bend = abdomen.diaphragm
    return replace(
        abdomen,
        kidney=move(abdomen.kidney),
        gallbladder=move(abdomen.gallbladder),
        nodule=move(abdomen.nodule),
        mass=tuple(map(move, abdomen.mass)),
        calcifications=abdomen.calcifications + np.array([dx, dz]),
        vessels=tuple(map(move, abdomen.vessels)),
        muscle=(move(abdomen.muscle[0]), abdomen.muscle[1]),
        diaphragm=(x + dx, z + dz, bend),
        coarse=(abdomen.coarse[0] + dx, abdomen.coarse[1] + dz),
        gain=abdomen.gain + rng.uniform(-1.0, 1.0),
    )


def _in_mass(a: Abdomen, x: np.ndarray, z: np.ndarray) -> np.ndarray:
    lobes = np.min([lobe.radius(x, z) for lobe in a.mass], axis=0)
    return (lobes < 1.0) & (a.gallbladder.radius(x, z) < 1.0)


def tissue(a: Abdomen, x: np.ndarray, z: np.ndarray, depth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Echo level (dB, 0 = liver) and attenuation (dB per image side) at the points, both (depth, beam)."""
    level, attenuation = np.zeros(x.shape), np.full(x.shape, a.attenuation)
    apex, vertex, bend = a.diaphragm
    below = z - (vertex - bend * (x - apex) ** 2)
    level = np.where(below > 0, a.lung, level)
    level = np.maximum(level, 13.0 - (below / 0.012) ** 2 * 4.0)
    muscle, echo = a.muscle
    r = muscle.radius(x, z)
    level = np.where(r < 1.0, echo, level)
    for vessel in a.vessels:
        r = vessel.radius(x, z)
        level = np.where(r < 1.0, -26.0, np.where(r < 1.0 + 0.012 / vessel.across, np.maximum(level, 4.0), level))
    r = a.nodule.radius(x, z)
    level = np.where(r < 1.0, np.where(r < 0.86, a.nodule_level, a.nodule_level - 6.0), level)
    r = a.kidney.radius(x, z)
    kidney = np.where(r < 0.45, a.sinus, -a.contrast)
    level = np.where(r < 1.0, kidney, np.where(r < 1.07, 5.0, level))
    r = a.gallbladder.radius(x, z)
    fluid = r < 1.0
    if a.latents["regional"]:
        fluid &= ~_in_mass(a, x, z)
    level = np.where(fluid, -40.0, np.where(r < 1.0, 0.0, np.where(r < 1.13, 7.0, level)))
    attenuation = np.where(fluid, 0.0, attenuation)
    skin = depth[:, None] < 0.055
    level = np.where(skin, 2.0 + 6.0 * np.sin(depth[:, None] * 260.0), level)
    return level, attenuation


def image(rng: np.random.Generator, a: Abdomen, pixels: int, turned: Knobs) -> np.ndarray:
    """The B-mode image of a view, uint8 (pixels, pixels, 3)."""
    x, z, depth = bmode.polar_grid(a.sector, pixels)
    level, attenuation = tissue(a, x, z, depth)
    if a.latents.get("texture"):
        extent = LEVELS[turned.locality]
        level += extent.echo * knobs.texture(a.grain, x - a.coarse[0], z - a.coarse[1], extent.radius)
    level *= turned.contrast
    tgc = np.interp(depth, np.linspace(0.0, a.sector.depth, 4), a.tgc) + depth * 11.0
    contact = np.interp(np.linspace(0.0, 4.0, x.shape[1]), np.arange(5), a.contact)
    level = level + bmode.transmission(attenuation, depth) + tgc[:, None] + contact
    # The operator sets the gain for a picture of usual brightness, so the mean level must not follow a latent.
    weight = a.sector.radius + depth
    level -= np.average(np.maximum(level, -22.0).mean(axis=1), weights=weight)
    points = np.zeros_like(level)
    if a.latents["local"]:
        for px, pz in a.calcifications:
            near = np.exp(-((x - px) ** 2 + (z - pz) ** 2) / (2 * 0.0145**2))
            close = near > 0.5
            if not close.any():  # between two samples of a coarse grid, or outside the sector
                close = near == near.max()
            points += 10.0 ** ((level[close].mean() + 25.5 * turned.contrast) / 20.0) * near
    return bmode.shown(rng, level, points, a.sector, pixels, turned.speckle, a.gain)


def masks(a: Abdomen, pixels: int) -> dict[str, np.ndarray]:
    """Where things are in a view, bool (pixels, pixels) each; `points` and `mass` also where the latent is absent."""
    x, z = bmode.pixel_grid(pixels)
    seen = bmode.inside(a.sector, pixels)
    kidney, bladder, nodule = (e.radius(x, z) for e in (a.kidney, a.gallbladder, a.nodule))
    points = np.min([np.hypot(x - px, z - pz) for px, pz in a.calcifications], axis=0) < 0.02
    mass = _in_mass(a, x, z) & (bladder < 0.9)
    apex, vertex, bend = a.diaphragm
    liver = (z < vertex - bend * (x - apex) ** 2 - 0.03) & (kidney > 1.2) & (bladder > 1.25) & (nodule > 1.1)
    for vessel in a.vessels:
        liver &= vessel.radius(x, z) > 1.4
    liver &= a.muscle[0].radius(x, z) > 1.1
    depth, _ = bmode.pixel_polar(a.sector, pixels)
    cortex = (kidney < 0.93) & (kidney > 0.55) & seen
    deep = np.median(depth[cortex]) if cortex.any() else a.kidney.z - a.sector.top
    return {
        "nodule": (nodule < 0.8) & seen,
        "points": points & seen,
        "mass": mass & seen,
        "lumen": (bladder < 0.85) & ~mass & seen,
        "cortex": cortex,
        "liver": liver & seen & (np.abs(depth - deep) < 0.16),
    }


def measure(image: np.ndarray, masks: dict[str, np.ndarray]) -> dict[str, float]:
    """What a reader who knows where to look would measure for each latent, in grey levels: higher means present."""
    grey = image[..., 0].astype(float)
    mean = {name: float(grey[mask].mean()) if mask.any() else 0.0 for name, mask in masks.items()}
    rest = grey[masks["nodule"] & ~masks["points"]]
    return {
        "local": mean["points"] - (float(rest.mean()) if rest.size else mean["liver"]),
        "regional": mean["mass"],
        "global": mean["liver"] - mean["cortex"],
    }
