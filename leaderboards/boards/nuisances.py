"""The nuisance ledger: how well a linear probe tells from the features what was done to an image, one by one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product

import numpy as np

from leaderboards.boards import store
from leaderboards.boards.board import Column, Ledger
from leaderboards.boards.selection import NUISANCE, Index, Method, cells_of, place
from leaderboards.stats.intervals import Estimate, estimate
from leaderboards.stats.resampling import Predictions, cached_draws, resample


def read(methods: Sequence[Method], columns: Sequence[Column], index: Index) -> tuple[Ledger, ...]:
    """Every ledger that the cells of a board hold."""
    found = ((*pair, cells_of(*pair, index, NUISANCE)) for pair in product(methods, columns))
    return tuple(_ledger(method, column, cells) for method, column, cells in found if cells)


def _ledger(method: Method, column: Column, cells: Mapping[int, Mapping]) -> Ledger:
    seen = [store.predictions(*place(cell)) for cell in cells.values()]

    def auroc(predictions: list[Predictions]) -> Estimate:
        draws = cached_draws(predictions[0])
        return estimate(resample(tuple(cells), predictions, "auroc", draws, column.independent))

    classes = next(iter(cells.values()))["classes"]
    return Ledger(
        name=method.label,
        variant=method.variant,
        column=column,
        whole=auroc(seen),
        nuisances=tuple((name, auroc([_against(one, place) for one in seen])) for place, name in enumerate(classes)),
    )


def _against(one: Predictions, place: int) -> Predictions:
    """One class against all others."""
    chance = one.scores[:, place]
    return replace(one, label=(one.label == place).astype(int), scores=np.stack([1 - chance, chance], axis=1))
