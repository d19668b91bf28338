"""Anatomy of the relation family in ultrasound: a linear-array view of the neck with four lymph nodes.

A patient is a `Neck`, plain numbers in fractions of the image's side; an image of it is a slightly shifted view. The
first node of the marked pair has an echogenic hilum, the second a cystic centre.

Sources. Echo level, hilum and cystic change of cervical nodes: Ahuja and Ying, AJR 184 (2005) 1691. Layers of skin,
platysma and fascia, and the great vessels between: Szabo, Diagnostic Ultrasound Imaging (2nd ed., 2014), chapter 9.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from tasks.phantoms import bmode, relation
from tasks.phantoms.knobs import Knobs
from tasks.phantoms.relation import Structure

LOW, HIGH = -9.0, 7.0  # dB, of a node over the tissue around it
HILUM, CYST = 16.0, -26.0  # dB
CORE = 0.30  # radius of hilum and cyst, in units of the node's


@dataclass(frozen=True, kw_only=True)
class Neck:
    nodes: tuple[Structure, ...]
    levels: np.ndarray  # (4,) dB
    shapes: np.ndarray  # (4, 2) semi-axes along and across the probe
    vessels: np.ndarray  # (n, 3): x, z, radius
    fascia: np.ndarray  # (m, 4): depth, amplitude and phase of a wave, level in dB
    fibres: np.ndarray  # (2,): depth at which muscle begins, its level in dB
    attenuation: float  # dB per image side, two-way
    gain: float  # dB
    tgc: np.ndarray  # (4,) dB, at four depths
    contact: np.ndarray  # (5,) dB, at five beams


SECTOR = bmode.Sector(half_angle=0.01, radius=50.0, top=0.02, depth=0.96)  # beams all but parallel: a linear array


def patient(rng: np.random.Generator, distance: str, first: int, second: int) -> Neck:
    """Anatomy and machine settings of one patient. Every draw is made whatever the levels are."""
    nodes = relation.place(rng, distance, first, second)
    levels = np.where([node.high for node in nodes], HIGH, LOW) + rng.uniform(-1.0, 1.0, 4)
    middle = np.mean(relation.ROWS)
    vessels = np.column_stack(
        [rng.uniform((0.08, 0.54), (0.46, 0.92)), middle + rng.uniform(-0.035, 0.035, 2), rng.uniform(0.04, 0.065, 2)]
    )
    lines = int(rng.integers(3, 6))
    fascia = np.column_stack(
        [
            np.sort(rng.uniform(0.10, 0.95, lines)),
            rng.uniform(0.0, 0.02, lines),
            rng.uniform(0.0, 2.0 * np.pi, lines),
            rng.uniform(4.0, 9.0, lines),
        ]
    )
    return Neck(
        nodes=nodes,
        levels=levels,
        shapes=relation.RADIUS * rng.uniform(0.94, 1.0, (4, 2)),
        vessels=vessels,
        fascia=fascia,
        fibres=np.array([rng.uniform(0.4, 0.6), rng.uniform(-3.0, 1.0)]),
        attenuation=rng.uniform(8.0, 14.0),
        gain=rng.uniform(-4.0, 4.0),
        tgc=rng.uniform(-4.0, 4.0, 4),
        contact=rng.uniform(-2.0, 2.0, 5),
    )


def view(rng: np.random.Generator, neck: Neck) -> Neck:
    """The patient as one image sees it: everything shifted a little together, and the gain touched."""
    right, down = rng.uniform(-0.012, 0.012, 2)
    return replace(
        neck,
        nodes=relation.moved(neck.nodes, right, down),
        vessels=neck.vessels + np.array([right, down, 0.0]),
        fascia=neck.fascia + np.array([down, 0.0, 0.0, 0.0]),
        gain=neck.gain + rng.uniform(-1.0, 1.0),
    )


def tissue(neck: Neck, x: np.ndarray, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Echo level (dB, 0 = fat and connective tissue) and attenuation (dB per image side) at the points (x from the left
    of the image, z from its top), both (depth, beam)."""
    begin, echo = neck.fibres
    stripes = 2.5 * np.sin(2.0 * np.pi * (z * 14.0 + 0.8 * np.sin(3.0 * x)))
    level = np.where(z > begin, echo + stripes, 0.0)
    for depth, swing, phase, height in neck.fascia:
        line = depth + swing * np.sin(5.0 * x + phase)
        level = np.maximum(level, height - ((z - line) / 0.010) ** 2 * 4.0)
    attenuation = np.full(x.shape, neck.attenuation)
    for centre, depth, radius in neck.vessels:
        r = np.hypot(x - centre, z - depth)
        level = np.where(r < radius, -30.0, np.where(r < radius + 0.014, np.maximum(level, 5.0), level))
        attenuation = np.where(r < radius, 0.0, attenuation)
    for node, own, (along, across) in zip(neck.nodes, neck.levels, neck.shapes, strict=True):
        r = relation.radius((x - node.x) / along, (z - node.y) / across)
        core = {"first": HILUM, "second": CYST, "": own}[node.mark]
        level = np.where(r < CORE, core, np.where(r < 1.0, own, level))
    skin = z < 0.075
    level = np.where(skin, 4.0 + 5.0 * np.sin(z * 240.0), level)
    return level, attenuation


def image(rng: np.random.Generator, neck: Neck, pixels: int, turned: Knobs) -> np.ndarray:
    """The B-mode image of a view, uint8 (pixels, pixels, 3)."""
    x, z, depth = bmode.polar_grid(SECTOR, pixels)
    level, attenuation = tissue(neck, x + 0.5, z)
    level *= turned.contrast
    tgc = np.interp(depth, np.linspace(0.0, SECTOR.depth, 4), neck.tgc) + depth * 11.0
    contact = np.interp(np.linspace(0.0, 4.0, x.shape[1]), np.arange(5), neck.contact)
    level = level + bmode.transmission(attenuation, depth) + tgc[:, None] + contact
    level -= np.maximum(level, -22.0).mean()  # the operator sets the gain for a picture of usual brightness
    return bmode.shown(rng, level, np.zeros_like(level), SECTOR, pixels, turned.speckle, neck.gain)


def masks(neck: Neck, pixels: int) -> dict[str, np.ndarray]:
    """Where the two marked nodes are, without their centres, and the tissue right around each: bool (pixels, pixels)
    each."""
    x, z = bmode.pixel_grid(pixels)
    found = {}
    for node, (along, across) in zip(neck.nodes[:2], neck.shapes[:2], strict=True):
        r = relation.radius((x + 0.5 - node.x) / along, (z - node.y) / across)
        found[node.mark] = (r < 0.8) & (r > CORE + 0.15)
        found[f"around {node.mark}"] = (r > 1.15) & (r < 1.6)
    return found


def measure(image: np.ndarray, masks: dict[str, np.ndarray]) -> dict[str, float]:
    """What a reader who knows where to look would measure, in grey levels over the tissue around: higher means high, or
    in agreement."""
    grey = image[..., 0].astype(float)
    first, second = (
        float(grey[masks[name]].mean() - grey[masks[f"around {name}"]].mean()) for name in ("first", "second")
    )
    return {"relation": -abs(first - second), "first": first, "second": second}
