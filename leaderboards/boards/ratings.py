"""What experts said of the maps of a board's runs (`python -m benchmark reader analyse`): relevance, 1 to 5."""

from __future__ import annotations

from collections.abc import Sequence

import krippendorff
import numpy as np
import pandas as pd

from leaderboards.boards.board import Column, Rating
from leaderboards.boards.contrasts import Line
from leaderboards.stats.statistics import group_mean

QUESTION = "relevance"


def read(lines: Sequence[Line], columns: Sequence[Column], rows: pd.DataFrame) -> tuple[Rating, ...]:
    """The rating of every line with a rated run, one for each pack. rows: of the table `ratings`; columns: the tasks of
    the board, which know whose patients their groups are."""
    families = {column.task: column.family for column in columns}
    main = rows[(rows["question"] == QUESTION) & rows["repeats"].eq("")]
    found = []
    for pack, whole in main.groupby("pack", sort=True):
        answered = whole[whole["answer"].notna()]
        for line in lines:
            own = answered[answered["run"].isin(line.runs.values())]
            if own.empty:
                continue
            family = own["task"].map(lambda task: families.get(task, task))
            mean = group_mean(own["answer"].to_numpy(float), (family + "\0" + own["group"]).to_numpy(str))
            found.append(
                Rating(
                    name=line.name,
                    twin=line.twin,
                    pack=str(pack),
                    task=str(own["task"].iloc[0]),
                    value=mean.value,
                    low=mean.low,
                    high=mean.high,
                    readers=own["reader"].nunique(),
                    cases=own["case"].nunique(),
                    groups=mean.groups,
                    alpha=_alpha(answered),
                )
            )
    return tuple(found)


def _alpha(rows: pd.DataFrame) -> float | None:
    """Krippendorff's alpha of all arms of a pack together; None for one reader, or one answer throughout."""
    table = rows.pivot_table(index=["case", "arm"], columns="reader", values="answer").to_numpy().T
    if len(table) < 2 or len(np.unique(table[~np.isnan(table)])) < 2 or (np.sum(~np.isnan(table), axis=0) < 2).all():
        return None
    return float(krippendorff.alpha(reliability_data=table, level_of_measurement="ordinal"))
