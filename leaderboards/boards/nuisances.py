"""The nuisance ledger: how well a linear probe tells from the features what was done to an image, one by one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from leaderboards.boards import store
from leaderboards.boards.board import Column, Ledger
from leaderboards.boards.selection import Line
from leaderboards.boards.series import Index, cells_of
from leaderboards.stats.intervals import estimate
from leaderboards.stats.resampling import Predictions, resample, shared_draws

PROBE = "nuisance"


def read(lines: Sequence[Line], columns: Sequence[Column], index: Index) -> tuple[Ledger, ...]:
    """Every ledger that the cells of a board hold."""
    found = [(line, column, cells_of(line, column, PROBE, index)) for line in lines for column in columns]
    return tuple(_ledger(line, column, rows) for line, column, rows in found if rows)


def _ledger(line: Line, column: Column, rows: Mapping[int, Mapping]) -> Ledger:
    seen = [store.predictions(row["directory"], row["cell"], row["protocol"]) for row in rows.values()]
    classes = next(iter(rows.values()))["classes"]

    def told(some: list[Predictions]):
        return estimate(resample(tuple(rows), some, "auroc", shared_draws(some[0]), column.independent))

    return Ledger(
        name=f"untrained {line.name}" if line.twin else line.name,
        variant=line.variant,
        column=column,
        whole=told(seen),
        nuisances=tuple((name, told([_against(one, place) for one in seen])) for place, name in enumerate(classes)),
    )


def _against(one: Predictions, place: int) -> Predictions:
    """One class against all others."""
    chance = one.scores[:, place]
    return replace(one, label=(one.label == place).astype(int), scores=np.stack([1 - chance, chance], axis=1))
