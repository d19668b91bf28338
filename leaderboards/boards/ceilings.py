"""Ceilings: the same encoder, trained at the same FLOPs with the labels of a task, between which and the floor (the
untrained twin) every score lies.

A ceiling is read on the test groups of its task, under the same draws as every row of the board, so that all three are
paired. Its training seeds are one or two, too few to be resampled: in a difference, their mean is set against every
pretraining seed of the other side (`room`), so that the interval is about these very ceilings.

Where a ceiling is not shown above the floor (the 95 % interval of `room`, by itself, is not above zero), labels do not
teach the encoder the task, and no pretext can be blamed for not learning it: the task is not `taught`, and there is no
verdict on it (`intervals.reason_for_no_verdict`).

`sections.Measured.ceilings` holds them by column, as numbers that combine with the rows': the `share` of a gain,
and the `room` above its twin.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pandas as pd

from benchmark.recipe import EncoderSpec
from benchmark.storage.schema import SchemaError
from leaderboards.boards import store
from leaderboards.boards.board import Column
from leaderboards.stats.intervals import estimate
from leaderboards.stats.resampling import Predictions, Resampled, combine, draw_groups, pair_samples, resample, subtract

SIZES = ("width", "depth", "heads", "patch", "pixels")
SETTING = ["family", "heads", "encoder", "pixels", "policy", "budget_flops", "labels", "label_groups"]


class Ceiling(NamedTuple):
    """What was trained with the labels of one task."""

    labels: int  # distinct labelled training images, over all heads
    size: str  # of its encoder
    seen: Mapping[int, Predictions]  # seed -> test predictions


def size(encoder: str) -> str:
    """What makes two encoders of one track comparable, of an EncoderSpec as JSON: they may differ in tokens; "" for one
    from outside."""
    spec = json.loads(encoder)
    return "" if EncoderSpec(**spec).external else json.dumps([spec[name] for name in SIZES])


def of_budget(stored: pd.DataFrame, trained: pd.DataFrame, modality: str, track: str) -> pd.DataFrame:
    """Of the table `ceilings`, those of a modality and track, at the training FLOPs of its runs where it has any."""
    own = stored[stored["modality"].eq(modality) & stored["track"].eq(track)]
    budgets = trained["budget_flops"].unique()
    near = np.isclose(own["budget_flops"].to_numpy()[:, None], budgets, rtol=1e-6, atol=0).any(axis=1)
    return own[near] if len(budgets) else own


def load(columns: Sequence[Column], rows: pd.DataFrame, sizes: Collection[str]) -> dict[Column, Ceiling]:
    """The newest ceiling of each task, every seed of it, among `rows` of the table; of an encoder of one of `sizes`.

    Raises SchemaError where predictions cannot be read.
    """
    rows = rows[rows["headline"] & rows["encoder"].map(size).isin(sizes)]
    found = {}
    for column in columns:
        own = rows[rows["task"].eq(column.task) & rows["data"].eq(column.data) & rows["metric"].eq(column.metric)]
        own = own.sort_values(["version", "engine", "created", "directory"], kind="stable")
        if own.empty:
            continue
        newest = own.iloc[-1]
        own = own[(own[["version", "engine", *SETTING]] == newest[["version", "engine", *SETTING]]).all(axis=1)]
        own = own.drop_duplicates("seed").sort_values("seed")
        seen = {
            int(row.seed): store.predictions(row.directory, row.cell, row.protocol)
            for row in own.itertuples(index=False)
        }
        found[column] = Ceiling(labels=int(newest["labels"]), size=size(newest["encoder"]), seen=seen)
    return found


def pair_ceiling(column: Column, ceiling: Ceiling, other: Predictions) -> Ceiling:
    """The ceiling, sharing the samples of `other` in the repeats that it has: by folds, it is trained for the first.

    Raises SchemaError where these differ."""
    try:
        seen = {seed: pair_samples(one, repeats(other, one.repeat)) for seed, one in ceiling.seen.items()}
        return ceiling._replace(seen=seen)
    except ValueError as error:
        raise SchemaError(f"{column.title}, its ceiling: {error}; `make verify` names what was changed") from error


def repeats(seen: Predictions, chosen: np.ndarray) -> Predictions:
    """Those of the chosen repeats."""
    kept = np.isin(seen.repeat, chosen)
    return Predictions(**{name: values[kept] for name, values in vars(seen).items()})


def is_taught(column: Column, ceiling: Ceiling, floors: Sequence[Mapping[int, Predictions]]) -> bool:
    """Whether the ceiling is shown above every floor. floors: seed -> predictions, of each twin."""
    draws = draw_groups([next(iter(floors[0].values()))], column.family)

    def number(seen: Mapping[int, Predictions]) -> Resampled:
        return resample(tuple(seen), list(seen.values()), column.metric, draws, column.independent)

    top = number(ceiling.seen)
    gains = [estimate(room(top, number(seen))) for seen in floors]
    return all(one.low is not None and one.low > 0 for one in gains)


def room(ceiling: Resampled, floor: Resampled) -> Resampled:
    """The ceiling, its seeds averaged, minus each seed of the floor."""
    return subtract(_level(ceiling, floor.seeds), floor)


def _level(number: Resampled, seeds: tuple[int, ...]) -> Resampled:
    """The mean of a number over its seeds, as the value of each of `seeds`."""

    def spread(values: np.ndarray) -> np.ndarray:
        return np.repeat(values.mean(0, keepdims=True), len(seeds), axis=0)

    return replace(
        number,
        seeds=seeds,
        values=spread(number.values),
        draws=spread(number.draws),
        moved={draws: spread(change) for draws, change in number.moved.items()},
        joint=None if number.joint is None else _level(number.joint, seeds),
    )


def share(gained: Resampled, above: Resampled) -> Resampled:
    """gained / above, the share of the way from the floor to the ceiling, over the seeds that both have.

    The mean gain over the mean of `above`. Its error is the delta method's, gained - share × above over above, with
    the same groups left out of both and their seeds crossed as everywhere: bootstrap draws would leave the seeds out.
    `above` is shown above zero (`taught`), so the ratio does not run away. Raises ValueError without a common seed.
    """
    seeds = [seed for seed in gained.seeds if seed in above.seeds]
    if not seeds:
        raise ValueError("no pretraining seed in common")
    top, bottom = (float(_of(one, seeds).mean()) for one in (gained, above))
    joint = None if gained.joint is None or above.joint is None else share(gained.joint, above.joint)
    parts = [replace(one, joint=None) for one in (gained, above)]
    found = combine(parts, [1 / bottom, -top / bottom**2])
    whole = {"values": found.values + top / bottom, "draws": found.draws + top / bottom}
    return replace(found, **whole, headroom=gained.headroom, joint=joint)


def _of(number: Resampled, seeds: Sequence[int]) -> np.ndarray:
    return number.values[[number.seeds.index(seed) for seed in seeds]]
