"""The knobs of a phantom family: how far it departs from the calibrated one.

`relation` is another scene, of four structures, with latents of its own: `relation.py`. `locality` adds a fourth
binary latent, "texture": the tissue within a disc is coarser than elsewhere. By level the disc grows from one patch
(an eighth of the side, squared) to the whole image and the texture fades, so that a supervised model tells the two
classes equally well at every level (docs/phantoms.md): the amount of signal stays, the number of patches that share it
grows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from tasks.phantoms.relation import APART

GRAIN = 32  # cells of the texture along the image's side


class Level(NamedTuple):
    radius: float  # of the disc, fraction of the image's side
    echo: float  # standard deviation of the texture in ultrasound, dB
    eosin: float  # and in histology, of the logarithm of the eosin


LEVELS = {
    1: Level(0.07, 16.2, 1.54),
    2: Level(0.14, 6.5, 0.407),
    3: Level(0.25, 3.6, 0.253),
    4: Level(0.42, 2.5, 0.19),
    5: Level(2.0, 1.85, 0.147),
}


@dataclass(frozen=True, kw_only=True)
class Knobs:
    """The defaults are the calibrated family, to the pixel."""

    locality: int | None = None  # a key of LEVELS; None: no texture
    relation: str | None = None  # a key of relation.APART; None: the scene of the three latents
    contrast: float = 1.0  # of structures: factor on echo levels (dB); on optical density
    speckle: float = 1.0  # of what is not anatomy: factor on speckle (dB); on photon noise

    def __post_init__(self):
        if self.locality not in (None, *LEVELS):
            raise ValueError(f"unknown locality {self.locality!r}; known: {', '.join(map(str, LEVELS))}")
        if self.relation not in (None, *APART):
            raise ValueError(f"unknown relation {self.relation!r}; known: {', '.join(APART)}")
        if self.locality and self.relation:
            raise ValueError("locality and relation are families of their own; turn one of them")
        if min(self.contrast, self.speckle) < 0:
            raise ValueError(f"contrast and speckle are at least 0, got {self.contrast} and {self.speckle}")

    @property
    def name(self) -> str:
        """The knobs that are turned, as a suffix: "" for the calibrated family."""
        turned = [(name, value) for name, value in vars(self).items() if value != getattr(Knobs, name)]
        return "".join(f"-{name}{value}" for name, value in turned)


def grain(rng: np.random.Generator) -> np.ndarray:
    """A patient's texture, before it is placed, (GRAIN, GRAIN)."""
    return rng.standard_normal((GRAIN, GRAIN))


def texture(grain: np.ndarray, x: np.ndarray, y: np.ndarray, radius: float) -> np.ndarray:
    """The texture at points relative to the disc's centre: zero mean and unit variance in the disc, 0 outside."""
    inside = np.hypot(x, y) < radius
    cell = np.stack([y[inside], x[inside]]) * GRAIN
    value = ndimage.map_coordinates(grain, cell, order=1, mode="grid-wrap", prefilter=False)
    out = np.zeros(x.shape)
    out[inside] = (value - value.mean()) / (value.std() + 1e-9)
    return out
