"""The study's claims (`claims.toml`) judged on what a board holds: phantoms and real data apart, never together.

A claim names its recipes: "DINOv3" is the recommended settings of that pretext, "DINOv3 (official)" an arm. Where a
board has several rows of a named recipe, each combination is judged; rows of other recipes of the same pretexts are
listed as no part of the claim.

It is a paired difference `ahead` − `behind`, of the headline metric with the linear probe on the mean of patch tokens,
over all tasks of one kind whose groups are patients or slides: those whose measured locality lies within `locality`;
those with predictions under `corruption` at `strength`; or, with `slope`, its least-squares slope over the measured
locality. Differences are chance-corrected, each with an interval of its own. It holds where the whole interval is above
zero, is contradicted where the whole interval is below -`margin`, points in the opposite direction where the whole
interval is below zero but not below -`margin`, and is otherwise not shown; a claim of several holds where each of them
does. Verdicts are not adjusted for the number of claims.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from itertools import product

import numpy as np

from benchmark.metrics import chance
from leaderboards.board import Column, Judged
from leaderboards.comparisons import Numbers, difference, mean_difference
from leaderboards.contrasts import Line
from leaderboards.statistics import RANDOM_TASKS, Estimate, Resampled, barred, combination, estimate, subject
from leaderboards.verdicts import CLAIM_NOT_SHOWN, CONTRADICTED, DEPENDENT, HOLDS, OPPOSITE, UNTESTABLE

SLOPE_TASKS = 3  # fewer: no slope over locality
APART = 0.2  # localities of a slope span at least this


@dataclass(frozen=True, kw_only=True)
class Claim:
    name: str
    says: str
    ahead: tuple[str, ...]  # names of recipes, as on the board
    behind: str
    margin: float  # chance-corrected; of a slope: per unit of locality
    locality: tuple[float, float] | None = None  # of the tasks it is about; None: any
    corruption: str = ""  # of the test images
    strength: int = 0
    slope: bool = False


class Untestable(Exception):
    """Why a claim cannot be judged on a board."""


Corrupted = Callable[[str, int], Numbers]  # (corruption, strength) -> numbers under it


def load() -> tuple[Claim, ...]:
    """The claims of the file. Raises TypeError on an unknown or missing key."""
    text = resources.files("leaderboards").joinpath("claims.toml").read_text(encoding="utf-8")
    rows = tomllib.loads(text)["claim"]
    return tuple(Claim(**{key: tuple(v) if isinstance(v, list) else v for key, v in row.items()}) for row in rows)


def judge(
    claims: Sequence[Claim],
    lines: Sequence[Line],
    columns: Sequence[Column],
    numbers: Numbers,
    corrupted: Corrupted,
    locality: Mapping[str, float | None],
) -> tuple[Judged, ...]:
    """Every claim on the phantoms and on the real tasks of a board, where it has such, once for each combination of
    rows that it names.

    locality: task -> measured value, None where it was omitted.
    """
    found = []
    for synthetic in (True, False):
        some = [column for column in columns if column.synthetic == synthetic]
        for claim in claims if some else ():
            for chosen in _chosen(claim, lines):
                about = _About(claim=claim, synthetic=synthetic, chosen=chosen, apart=_apart(claim, lines))
                found.append(_judged(about, some, numbers, corrupted, locality))
    return tuple(found)


@dataclass(frozen=True, kw_only=True)
class _About:
    """A claim about certain rows on the phantoms or the real tasks of a board."""

    claim: Claim
    synthetic: bool
    chosen: Mapping[str, Line]  # recipe that the claim names -> its row; without those that were not run
    apart: tuple[str, ...]  # rows that it is not about

    def pairs(self) -> list[tuple[str, str]]:
        """Variants. Raises Untestable where a recipe was not run."""
        for name in (*self.claim.ahead, self.claim.behind):
            if name not in self.chosen:
                raise Untestable(f"{name} was not run")
        return [(self.chosen[name].variant, self.chosen[self.claim.behind].variant) for name in self.claim.ahead]

    def name(self, recipe: str) -> str:
        return self.chosen[recipe].name if recipe in self.chosen else recipe


def _chosen(claim: Claim, lines: Sequence[Line]) -> list[dict[str, Line]]:
    """Every choice of a row for each recipe that a claim names."""
    rows = {
        name: [one for one in lines if one.recipe == name and not one.twin] for name in (*claim.ahead, claim.behind)
    }
    run = {name: some for name, some in rows.items() if some}
    return [dict(zip(run, choice, strict=True)) for choice in product(*run.values())]


def _apart(claim: Claim, lines: Sequence[Line]) -> tuple[str, ...]:
    """Rows of other recipes of the pretexts that a claim names."""
    named = {*claim.ahead, claim.behind}
    pretexts = {name.partition(" (")[0] for name in named}
    rows = [one for one in lines if not one.twin and one.recipe not in named]
    return tuple(one.name for one in rows if one.recipe.partition(" (")[0] in pretexts)


def _judged(
    about: _About,
    columns: Sequence[Column],
    numbers: Numbers,
    corrupted: Corrupted,
    locality: Mapping[str, float | None],
) -> Judged:
    claim, tasks, estimates, why = about.claim, [], (), ""
    try:
        tasks, parts = _measured(about, columns, numbers, corrupted, locality)
        estimates = tuple(estimate(part) for part in parts)
        said = _verdict(claim, estimates)
    except Untestable as reason:
        tasks, estimates, said, why = [], (), UNTESTABLE, str(reason)
    return Judged(
        name=claim.name,
        says=claim.says,
        about="phantoms" if about.synthetic else "real data",
        tasks=tuple(one.title for one in tasks),
        pairs=tuple(f"{about.name(one)} − {about.name(claim.behind)}" for one in claim.ahead),
        variants=tuple(about.pairs()) if {*claim.ahead, claim.behind} <= set(about.chosen) else (),
        apart=about.apart,
        slope=claim.slope,
        localities=tuple(locality[one.task] for one in tasks) if claim.slope else (),
        estimates=estimates,
        subject=subject(min(one.seeds for one in estimates)) if estimates else "",
        verdict=said,
        why=why,
    )


def _measured(
    about: _About,
    columns: Sequence[Column],
    numbers: Numbers,
    corrupted: Corrupted,
    locality: Mapping[str, float | None],
) -> tuple[list[Column], list[Resampled]]:
    """The tasks that a claim is about here, and its difference per method ahead. Raises Untestable."""
    claim = about.claim
    if not any(column.independent for column in columns):
        raise Untestable(f"on every task {DEPENDENT}")
    columns = [column for column in columns if column.independent]
    columns = [column for column in columns if chance(column.metric, len(column.classes)) is not None]
    if claim.locality is not None or claim.slope:
        columns = [column for column in columns if locality.get(column.task) is not None]
        if not columns:
            raise Untestable("the locality of no task is measured: python -m benchmark.locality")
    if claim.locality is not None:
        low, high = claim.locality
        columns = [column for column in columns if low <= locality[column.task] <= high]
        if not columns:
            ends = [f"of {low:g} or more"] * (low > -math.inf) + [f"of {high:g} or less"] * (high < math.inf)
            raise Untestable(f"no task of a measured locality {' and '.join(ends)}")
    if claim.corruption:
        numbers = corrupted(claim.corruption, claim.strength)
    pairs = about.pairs()
    columns = [c for c in columns if all(difference(numbers, pair, c) is not None for pair in pairs)]
    if not columns:
        under = f" under {claim.corruption} of strength {claim.strength}" if claim.corruption else ""
        raise Untestable(f"no task with predictions of all of them{under}")
    if claim.slope:
        return columns, [_slope(numbers, pair, columns, locality, about.synthetic) for pair in pairs]
    parts = [mean_difference(numbers, pair, columns) for pair in pairs]
    if None in parts:
        raise Untestable("no pretraining seed with every task")
    return columns, parts


def _slope(
    numbers: Numbers,
    pair: tuple[str, str],
    columns: Sequence[Column],
    locality: Mapping[str, float | None],
    synthetic: bool,
) -> Resampled:
    """Least-squares slope of the difference over locality, a linear combination of the tasks; tasks are fixed, seeds
    are its replicates. The error of the localities is not in it."""
    places = np.array([locality[column.task] for column in columns])
    least = SLOPE_TASKS if synthetic else RANDOM_TASKS
    if len(columns) < least or np.ptp(places) < APART:
        raise Untestable(f"{len(columns)} tasks over a range of {np.ptp(places):.2f}; needs {least} over {APART}")
    centred = places - places.mean()
    factors = [
        weight / (1 - chance(column.metric, len(column.classes)))
        for weight, column in zip(centred / (centred @ centred), columns, strict=True)
    ]
    return combination([difference(numbers, pair, column) for column in columns], factors)


def _verdict(claim: Claim, estimates: Sequence[Estimate]) -> str:
    reasons = [reason for one in estimates if (reason := barred(one))]
    if reasons:
        raise Untestable(reasons[0])
    if all(one.low > 0 for one in estimates):
        return HOLDS
    if any(one.high < -claim.margin for one in estimates):
        return CONTRADICTED
    return OPPOSITE if any(one.high < 0 for one in estimates) else CLAIM_NOT_SHOWN
