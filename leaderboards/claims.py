"""The study's claims (`claims.toml`) judged on what a board holds: phantoms and real data apart, never together.

A claim is a paired difference `ahead` − `behind`, of the headline metric with the linear probe on the mean of patch
tokens, over all tasks of one kind: those whose measured locality lies within `locality`; those with predictions under
`corruption` at `strength`; or, with `slope`, its least-squares slope over the measured locality. Differences are
chance-corrected. It holds where the whole interval is above zero, is contradicted where the whole interval is below
-`margin`, and is otherwise not shown; a claim of several holds where each of them does. Verdicts are not adjusted for
the number of claims.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources

import numpy as np

from benchmark.metrics import chance
from leaderboards.board import Column, Judged
from leaderboards.comparisons import Numbers, difference, mean_difference
from leaderboards.statistics import (
    CEILING,
    RANDOM_TASKS,
    TOO_FEW,
    UNDEFINED,
    Estimate,
    Resampled,
    combination,
    estimate,
    subject,
    verdict,
)

HOLDS, NOT_SHOWN, CONTRADICTED, UNTESTABLE = "holds", "not shown", "contradicted", "untestable"
SLOPE_TASKS = 3  # fewer: no slope over locality
APART = 0.2  # localities of a slope span at least this


@dataclass(frozen=True, kw_only=True)
class Claim:
    name: str
    says: str
    ahead: tuple[str, ...]  # names of pretexts, as on the board
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
    variants: Mapping[str, Sequence[str]],
    columns: Sequence[Column],
    numbers: Numbers,
    corrupted: Corrupted,
    locality: Mapping[str, float | None],
) -> tuple[Judged, ...]:
    """Every claim on the phantoms and on the real tasks of a board, where it has such.

    variants: name of a pretext -> its variants; locality: task -> measured value, None where it was omitted.
    """
    found = []
    for synthetic in (True, False):
        some = [column for column in columns if column.synthetic == synthetic]
        for claim in claims if some else ():
            about = "phantoms" if synthetic else "real data"
            try:
                tasks, parts = _measured(claim, variants, some, numbers, corrupted, locality, synthetic)
                estimates = tuple(estimate(part) for part in parts)
                said = _verdict(claim, estimates)
            except Untestable as why:
                found.append(_judged(claim, about, UNTESTABLE, why=str(why)))
                continue
            found.append(_judged(claim, about, said, tasks=tuple(one.title for one in tasks), estimates=estimates))
    return tuple(found)


def _judged(
    claim: Claim, about: str, said: str, tasks=(), estimates: tuple[Estimate, ...] = (), why: str = ""
) -> Judged:
    return Judged(
        name=claim.name,
        says=claim.says,
        about=about,
        tasks=tasks,
        pairs=tuple(f"{one} − {claim.behind}" for one in claim.ahead),
        slope=claim.slope,
        estimates=estimates,
        subject=subject(min((one.seeds for one in estimates), default=0)) if estimates else "",
        verdict=said,
        why=why,
    )


def _measured(
    claim: Claim,
    variants: Mapping[str, Sequence[str]],
    columns: Sequence[Column],
    numbers: Numbers,
    corrupted: Corrupted,
    locality: Mapping[str, float | None],
    synthetic: bool,
) -> tuple[list[Column], list[Resampled]]:
    """The tasks that a claim is about here, and its difference per method ahead. Raises Untestable."""
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
    pairs = [(_only(one, variants), _only(claim.behind, variants)) for one in claim.ahead]
    columns = [c for c in columns if all(difference(numbers, pair, c) is not None for pair in pairs)]
    if not columns:
        under = f" under {claim.corruption} of strength {claim.strength}" if claim.corruption else ""
        raise Untestable(f"no task with predictions of all of them{under}")
    if claim.slope:
        return columns, [_slope(numbers, pair, columns, locality, synthetic) for pair in pairs]
    parts = [mean_difference(numbers, pair, columns) for pair in pairs]
    if None in parts:
        raise Untestable("no pretraining seed with every task")
    return columns, parts


def _only(name: str, variants: Mapping[str, Sequence[str]]) -> str:
    found = variants.get(name, ())
    if len(found) != 1:
        raise Untestable(f"{name} was not run" if not found else f"{len(found)} recipes of {name}")
    return found[0]


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
    said = [verdict(one) for one in estimates]
    for reason in (UNDEFINED, TOO_FEW, CEILING):
        if reason in said:
            raise Untestable(reason)
    if all(one.low > 0 for one in estimates):
        return HOLDS
    return CONTRADICTED if any(one.high < -claim.margin for one in estimates) else NOT_SHOWN
