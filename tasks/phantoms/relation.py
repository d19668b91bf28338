"""The relation latent: two structures of one kind agree in level or do not, at three distances.

Four structures lie at the corners of a rectangle, two pairs, each pair in a row. Each of the first pair is low or high,
independently of the other; the second pair takes the complementary levels, in either order. So every image holds two
structures of each level whether they agree or not: no histogram knows, and as the two of a pair lie in one row, neither
does a tilt of brightness with depth. Rows lie further apart than a window of an eighth of the side, so that no window
holds structures of both. The first pair is told from the second, and one of its structures from the other, by a mark
in the structure, so that mirror images keep every label. Three tasks differ only in how far apart the two of a pair
lie.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

RADIUS = 0.094  # of a structure, fraction of the image's side: six pixels of 64
APART = {"near": 2 * RADIUS, "middle": 0.375, "far": 0.75}  # distance -> of the centres of a pair: touching, three
# patches of an eighth of the side, six
ROWS = (0.28, 0.72)  # of the two pairs


class Structure(NamedTuple):
    x: float  # from the left of the image, fraction of its side
    y: float  # from its top
    high: bool
    mark: str  # "first" or "second" of the first pair, "" of the second pair


def place(rng: np.random.Generator, distance: str, first: int, second: int) -> tuple[Structure, ...]:
    """Four structures of a patient, the first pair first.

    first, second: levels of that pair, 0 or 1. Every draw is made whatever they are."""
    turned, swapped, crossed = rng.integers(0, 2, 3)
    x, y = 0.5 + rng.uniform(-0.025, 0.025), np.array(ROWS) + rng.uniform(-0.02, 0.02, 2)
    upper, lower = y[::-1] if turned else y
    left, right = x - APART[distance] / 2, x + APART[distance] / 2
    one, other = (right, left) if swapped else (left, right)
    levels = [1 - second, 1 - first] if crossed else [1 - first, 1 - second]
    return (
        Structure(one, upper, bool(first), "first"),
        Structure(other, upper, bool(second), "second"),
        Structure(left, lower, bool(levels[0]), ""),
        Structure(right, lower, bool(levels[1]), ""),
    )


def radius(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Distance from a structure's centre, of x and y in units of its semi-axes: 1 on the outline of a rounded square.

    So structures that touch share a border, not a point."""
    return (x**4 + y**4) ** 0.25


def moved(structures: tuple[Structure, ...], right: float, down: float) -> tuple[Structure, ...]:
    return tuple(one._replace(x=one.x + right, y=one.y + down) for one in structures)
