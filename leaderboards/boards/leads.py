"""By how much one row leads another on a task: in gain over its twin, or in gain over (ceiling - floor)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from benchmark.metrics import chance
from leaderboards.boards.board import Column
from leaderboards.boards.ceilings import room, share
from leaderboards.boards.comparisons import Numbers, difference
from leaderboards.stats.statistics import Resampled, minus

GAIN, CEILING = "gain", "ceiling"
PER = {GAIN: "in gain", CEILING: "in gain over (ceiling − floor)"}


@dataclass(frozen=True, kw_only=True)
class Side:
    """A row that leads or is led."""

    variant: str
    twin: str  # variant of its twin: the floor


Sides = tuple[Side, Side]
Ceilings = Mapping[Column, Resampled]  # the metric of an encoder trained with labels, resampled as the rows are


def by_gain(numbers: Numbers, sides: Sides, column: Column) -> Resampled | None:
    """Difference of two gains; None where a row, a twin or a common seed is missing."""
    return _minus([_gain(numbers, side, column) for side in sides])


def by_share(numbers: Numbers, ceilings: Ceilings, sides: Sides, column: Column) -> Resampled | None:
    """Difference of two shares of the way from the twin to the ceiling: gain / (ceiling - floor), each by its own twin;
    None where one of them is missing."""
    if column not in ceilings or by_gain(numbers, sides, column) is None:
        return None
    above = [room(ceilings[column], numbers[side.twin, column]) for side in sides]
    return _minus([share(_gain(numbers, side, column), one) for side, one in zip(sides, above, strict=True)])


def _gain(numbers: Numbers, side: Side, column: Column) -> Resampled | None:
    return difference(numbers, (side.variant, side.twin), column)


def _minus(gains: Sequence[Resampled | None]) -> Resampled | None:
    return minus(*gains) if None not in gains and set(gains[0].seeds) & set(gains[1].seeds) else None


def scale(column: Column, per: str) -> float:
    """What a lead is multiplied by: a gain is corrected for chance, which has cancelled in a share."""
    return 1.0 if per == CEILING else 1 / (1 - chance(column.metric, len(column.classes)))


def slope_weights(places: Sequence[float]) -> np.ndarray:
    """(T,) by which values at these places are multiplied, and added up, to their least-squares slope."""
    centred = np.array(places) - np.mean(places)
    return centred / (centred @ centred)
