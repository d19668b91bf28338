"""The study's claims (`claims.toml`) judged on what a board holds: phantoms and real data apart, never together.

A claim names its recipes: "DINOv3" is the recommended settings of that pretext, "DINOv3 (official)" an arm. Where a
board has several rows of a named recipe, each combination is judged; rows of other recipes of the same pretexts are
listed as no part of the claim.

It is a paired difference `ahead` − `behind` over tasks of one kind whose groups are patients or slides: of the headline
metric with the linear probe on the mean of patch tokens, chance-corrected; on clean images, or on those altered by
`corruption` at `strength`; or, with `slope`, its least-squares slope over measured locality, of gains or (`per`) of
gains over (ceiling - floor). Of the phantoms, it is about the `tasks` that it names, all of which must be there, with a
measured locality within `locality`; a slope about those whose names begin with `within`. Real tasks are selected by
their measured locality alone. Where the ceiling of a task is not shown above its twin, there is nothing to be learnt:
a claim about such a phantom is untestable, and such a real task is no part of it.

It holds where the whole interval, each of its own, is above zero, is contradicted where the whole interval is below
-`margin`, points in the opposite direction where the whole interval is below zero but not below -`margin`, and is
otherwise not shown; a claim of several holds where each of them does. A slope without a margin is no claim but an
estimate that rises, falls, or is not shown to. Verdicts are not adjusted for the number of claims. Beside each stands
what other probes than the headline's find, without a verdict.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import resources
from itertools import product

import numpy as np

from leaderboards.boards.board import Column, Judged
from leaderboards.boards.contrasts import (
    CEILING,
    GAIN,
    PER,
    Ceilings,
    Numbers,
    difference,
    lead_in_gain,
    lead_in_share,
    lead_scale,
    mean_difference,
    slope_weights,
)
from leaderboards.boards.selection import Method
from leaderboards.stats.intervals import Estimate, estimate, reason_for_no_verdict, subject
from leaderboards.stats.resampling import RANDOM_TASKS, Resampled, combine
from leaderboards.stats.verdicts import (
    CLAIM_NOT_SHOWN,
    CONTRADICTED,
    DEPENDENT,
    FALLS,
    HOLDS,
    OPPOSITE,
    RISES,
    UNTAUGHT,
    UNTESTABLE,
)
from leaderboards.words import flops

SLOPE_TASKS = 3  # fewer: no slope over locality
APART = 0.2  # localities of a slope span at least this
REAL = "over real tasks"  # what a slope is fitted to that no family of phantoms holds


@dataclass(frozen=True, kw_only=True)
class Claim:
    name: str
    says: str  # with {ahead}, {behind}, {at} the budget; of a slope {within} and {per}
    ahead: tuple[str, ...]  # names of recipes, as on the board
    behind: str
    margin: float | None = None  # chance-corrected; of a slope: per unit of locality; None: an estimate, no claim
    tasks: tuple[str, ...] = ()  # phantoms that it is about; (): any
    within: str = ""  # what the names of its phantoms begin with; "": any
    family: str = ""  # that in words
    locality: tuple[float, float] | None = None  # of the tasks it is about; None: any
    corruption: str = ""  # of the test images
    strength: int = 0
    slope: bool = False
    per: str = GAIN  # what a slope is of: GAIN or CEILING


class Untestable(Exception):
    """Why a claim cannot be judged on a board."""


Corrupted = Callable[[str, int], Numbers]  # (corruption, strength) -> numbers under it


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What a board holds for its claims."""

    numbers: Numbers  # of the headline
    locality: Mapping[str, float | None]  # task -> measured value, None where it was omitted
    corrupted: Corrupted = lambda corruption, strength: {}
    ceilings: Ceilings = field(default_factory=dict)
    probes: Mapping[str, Numbers] = field(default_factory=dict)  # other probes on patch tokens, beside the headline
    budgets: Mapping[str, float] = field(default_factory=dict)  # variant -> training FLOPs


def load() -> tuple[Claim, ...]:
    """The claims of the file, each of the pairs, families and scales of an entry by itself. Raises TypeError on an
    unknown or missing key, ValueError on a difference without a margin."""
    text = resources.files("leaderboards").joinpath("claims.toml").read_text(encoding="utf-8")
    read = tomllib.loads(text)
    return tuple(claim for row in read["claim"] for claim in _expanded(row, read["families"]))


def _expanded(row: Mapping[str, object], families: Mapping[str, str]) -> list[Claim]:
    plain = {key: tuple(value) if isinstance(value, list) else value for key, value in row.items()}
    if "pairs" not in plain:
        if "margin" not in plain:
            raise ValueError(f"claims.toml: {row['name']}: a difference needs a margin")
        return [Claim(**plain)]
    pairs, within, per = (plain.pop(name) for name in ("pairs", "within", "per"))
    return [
        Claim(**plain, slope=True, ahead=(a,), behind=b, within=name, family=f"within {families[name]}", per=one)
        for (a, b), name, one in product(pairs, within, per)
    ]


def judge(
    claims: Sequence[Claim], methods: Sequence[Method], columns: Sequence[Column], evidence: Evidence
) -> tuple[Judged, ...]:
    """Every claim on the phantoms and on the real tasks of a board, where it has such, once for each combination of
    rows that it names."""
    found = []
    for synthetic in (True, False):
        some = [column for column in columns if column.synthetic == synthetic]
        asked = claims if synthetic else dict.fromkeys(_of_real(claim) for claim in claims)
        for claim in asked if some else ():
            for chosen in _chosen(claim, methods):
                about = _About(claim=claim, synthetic=synthetic, chosen=chosen, apart=_apart(claim, methods))
                found.append(_judged(about, some, evidence))
    return tuple(found)


def _of_real(claim: Claim) -> Claim:
    return replace(claim, tasks=(), within="", family=REAL if claim.slope else "")


@dataclass(frozen=True, kw_only=True)
class _About:
    """A claim about certain rows on the phantoms or the real tasks of a board."""

    claim: Claim
    synthetic: bool
    chosen: Mapping[str, Method]  # recipe that the claim names -> its row; without those that were not run
    apart: tuple[str, ...]  # rows that it is not about

    def pairs(self) -> list[tuple[Method, Method]]:
        """Raises Untestable where a recipe was not run."""
        for name in (*self.claim.ahead, self.claim.behind):
            if name not in self.chosen:
                raise Untestable(f"{name} was not run")
        return [(self.chosen[name], self.chosen[self.claim.behind]) for name in self.claim.ahead]

    def name(self, recipe: str) -> str:
        return self.chosen[recipe].name if recipe in self.chosen else recipe

    def says(self, at: str = "") -> str:
        """The claim in words, of recipes at a budget."""
        ahead = " and ".join(_recommended(name, self.name(name)) for name in self.claim.ahead)
        behind = _recommended(self.claim.behind, self.name(self.claim.behind))
        said = self.claim.says.format(
            ahead=ahead, behind=behind, at=at, within=self.claim.family, per=PER[self.claim.per]
        )
        return " ".join(said.split())

    def at(self, budgets: Mapping[str, float]) -> str:
        """At how many FLOPs its rows were trained; "" where none of them was."""
        known = {one.name: flops(budgets[one.variant]) for one in self.chosen.values() if one.variant in budgets}
        if len(set(known.values())) == 1:
            return f"at {next(iter(known.values()))} FLOPs"
        each = ", ".join(f"{budget} FLOPs of {name}" for name, budget in known.items())
        return f"(at {each})" if each else ""


def _recommended(recipe: str, name: str) -> str:
    """A row's name, which says of its recipe that it is the recommended one where it is no arm."""
    return name if " (" in recipe else name.replace(recipe, f"{recipe} (recommended)", 1)


def _chosen(claim: Claim, methods: Sequence[Method]) -> list[dict[str, Method]]:
    """Every choice of a row for each recipe that a claim names."""
    rows = {
        name: [one for one in methods if one.recipe == name and not one.twin] for name in (*claim.ahead, claim.behind)
    }
    run = {name: some for name, some in rows.items() if some}
    return [dict(zip(run, choice, strict=True)) for choice in product(*run.values())]


def _apart(claim: Claim, methods: Sequence[Method]) -> tuple[str, ...]:
    """Rows of other recipes of the pretexts that a claim names."""
    named = {*claim.ahead, claim.behind}
    pretexts = {name.partition(" (")[0] for name in named}
    rows = [one for one in methods if not one.twin and one.recipe not in named]
    return tuple(one.name for one in rows if one.recipe.partition(" (")[0] in pretexts)


def _judged(about: _About, columns: Sequence[Column], evidence: Evidence) -> Judged:
    claim, tasks, estimates, probes, why = about.claim, [], (), (), ""
    try:
        tasks, parts = _measured(about, columns, evidence)
        estimates = tuple(estimate(part) for part in parts)
        said = _verdict(claim, estimates)
        probes = () if claim.corruption else tuple(_by_probes(about, tasks, evidence))
    except Untestable as reason:
        tasks, estimates, said, why = [], (), UNTESTABLE, str(reason)
    return Judged(
        name=claim.name,
        says=about.says(about.at(evidence.budgets)),
        about="phantoms" if about.synthetic else "real data",
        tasks=tuple(one.title for one in tasks),
        pairs=tuple(f"{about.name(one)} − {about.name(claim.behind)}" for one in claim.ahead),
        variants=tuple((a.variant, b.variant) for a, b in about.pairs())
        if {*claim.ahead, claim.behind} <= set(about.chosen)
        else (),
        apart=about.apart,
        claimed=claim.margin is not None,
        slope=claim.slope,
        localities=tuple(evidence.locality[one.task] for one in tasks) if claim.slope else (),
        estimates=estimates,
        subject=subject(min(one.seeds for one in estimates)) if estimates else "",
        verdict=said,
        why=why,
        asks=about.says(),
        within=claim.family,
        per=claim.per if claim.slope else "",
        probes=probes,
    )


def _measured(about: _About, columns: Sequence[Column], evidence: Evidence) -> tuple[list[Column], list[Resampled]]:
    """The tasks that a claim is about here, and its difference per method ahead. Raises Untestable."""
    claim, pairs = about.claim, about.pairs()
    columns = _selected(about, columns, evidence.locality)
    columns = _all(about, columns, [c for c in columns if c.taught], UNTAUGHT)
    if claim.per == CEILING:
        columns = _all(about, columns, [c for c in columns if c in evidence.ceilings], "no ceiling was measured")
    numbers = evidence.corrupted(claim.corruption, claim.strength) if claim.corruption else evidence.numbers
    under = f" under {claim.corruption} of strength {claim.strength}" if claim.corruption else ""
    answered = [c for c in columns if all(_lead(claim, numbers, evidence, *pair, c) for pair in pairs)]
    columns = _all(about, columns, answered, f"no predictions of all of them{under}")
    if claim.slope:
        places = [evidence.locality[column.task] for column in columns]
        least = SLOPE_TASKS if about.synthetic else RANDOM_TASKS
        if len(columns) < least or np.ptp(places) < APART:
            raise Untestable(f"{len(columns)} tasks over a range of {np.ptp(places):.2f}; needs {least} over {APART}")
    parts = _parts(about, columns, numbers, evidence)
    if parts is None:
        raise Untestable("no pretraining seed with every task")
    return columns, parts


def _selected(about: _About, columns: Sequence[Column], locality: Mapping[str, float | None]) -> list[Column]:
    """Tasks by name and by measured locality. Raises Untestable where there is none, or not one that is named."""
    claim = about.claim
    if not any(column.independent for column in columns):
        raise Untestable(f"on every task {DEPENDENT}")
    columns = [column for column in columns if column.independent]
    columns = [column for column in columns if column.chance is not None]
    if claim.tasks:
        columns = [column for column in columns if column.task in claim.tasks]
        if lacking := sorted(set(claim.tasks) - {column.task for column in columns}):
            raise Untestable(f"{', '.join(lacking)}: not run")
    if claim.within:
        columns = [column for column in columns if column.task.startswith(f"{claim.within}_")]
        if not columns:
            raise Untestable(f"no task {claim.family} was run")
    if claim.locality is None and not claim.slope:
        return columns
    known = [column for column in columns if locality.get(column.task) is not None]
    if not known or (claim.tasks and len(known) < len(columns)):
        raise Untestable("the locality of no task is measured: python -m benchmark.lab.locality")
    if claim.locality is None:
        return known
    low, high = claim.locality
    inside = [column for column in known if low <= locality[column.task] <= high]
    if not inside or (claim.tasks and len(inside) < len(known)):
        ends = [f"of {low:g} or more"] * (low > -math.inf) + [f"of {high:g} or less"] * (high < math.inf)
        values = ", ".join(f"{c.title} {locality[c.task]:.2f}" for c in known) if claim.tasks else ""
        raise Untestable(f"no task of a measured locality {' and '.join(ends)}" + f": {values}" * bool(values))
    return inside


def _all(about: _About, asked: Sequence[Column], found: list[Column], why: str) -> list[Column]:
    """The tasks that are of use: of phantoms, all that were asked for. Raises Untestable, naming two of the others."""
    if found and (len(found) == len(asked) or not about.synthetic):
        return found
    lacking = [column.title for column in asked if column not in found]
    more = f" and {len(lacking) - 2} more" if len(lacking) > 2 else ""
    raise Untestable(f"{', '.join(lacking[:2])}{more}: {why}")


def _lead(
    claim: Claim, numbers: Numbers, evidence: Evidence, first: Method, second: Method, column: Column
) -> Resampled | None:
    if not claim.slope:
        return difference(numbers, (first.variant, second.variant), column)
    if claim.per == CEILING:
        return lead_in_share(numbers, evidence.ceilings, first.and_twin, second.and_twin, column)
    return lead_in_gain(numbers, first.and_twin, second.and_twin, column)


def _parts(about: _About, columns: Sequence[Column], numbers: Numbers, evidence: Evidence) -> list[Resampled] | None:
    """The difference or the slope of every pair; None where a task or a common seed is missing. The error of the
    localities is in no slope: tasks are fixed, seeds are its replicates."""
    claim, found = about.claim, []
    for first, second in about.pairs():
        if not claim.slope:
            found.append(mean_difference(numbers, (first.variant, second.variant), columns))
            continue
        leads = [_lead(claim, numbers, evidence, first, second, column) for column in columns]
        if None in leads or not set.intersection(*(set(lead.seeds) for lead in leads)):
            return None
        weights = slope_weights([evidence.locality[column.task] for column in columns])
        found.append(combine(leads, weights * [lead_scale(column, claim.per) for column in columns]))
    return None if None in found else found


def _by_probes(about: _About, tasks: Sequence[Column], evidence: Evidence):
    """(probe, its estimates) of those other probes that answered every task of a claim."""
    for probe, numbers in evidence.probes.items():
        parts = _parts(about, tasks, numbers, evidence)
        if parts is not None:
            yield probe, tuple(estimate(part) for part in parts)


def _verdict(claim: Claim, estimates: Sequence[Estimate]) -> str:
    reasons = [reason for one in estimates if (reason := reason_for_no_verdict(one))]
    if reasons:
        raise Untestable(reasons[0])
    above, below = all(one.low > 0 for one in estimates), any(one.high < 0 for one in estimates)
    if claim.margin is None:
        return RISES if above else FALLS if below else CLAIM_NOT_SHOWN
    if above:
        return HOLDS
    if any(one.high < -claim.margin for one in estimates):
        return CONTRADICTED
    return OPPOSITE if below else CLAIM_NOT_SHOWN
