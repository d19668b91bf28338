"""Who sees what in a reading study.

A case is an image of one patient. An arm is a method (a run) or a control: the same architecture untrained, and a map
of another image. Every reader answers the same questions about the same (case, arm) pairs, so agreement is measured;
their order, and which map is left and which right, is drawn for each reader. Over the cases every arm is rated equally
often (a cyclic Latin square) and every two arms are compared equally often, give or take one.
"""

from dataclasses import dataclass, replace
from itertools import combinations
from typing import NamedTuple

import numpy as np

UNTRAINED, OTHER_IMAGE = "untrained", "another image"
CONTROLS = (UNTRAINED, OTHER_IMAGE)
RATE, CHOOSE = "rate", "choose"
RATED_ARMS = 3  # of a case, at most
REPEATED = 0.15  # share of the items that come again
PRACTICE = 4  # cases, not analysed


@dataclass(frozen=True, kw_only=True)
class Case:
    case: str  # sample id
    group: str  # patient
    task: str
    label: str
    image: np.ndarray  # uint8 (S, S, 3)
    maps: dict[str, np.ndarray]  # arm -> (h, w), >= 0


class Item(NamedTuple):
    """One screen of one reader."""

    item: str  # opaque: says nothing about what is shown
    kind: str  # "rate" or "choose"
    case: str
    arm: str  # of the map; the left one of a choice
    other: str  # the right one of a choice; "" of a rating
    repeats: str  # the item that it shows again, or ""
    practice: bool


def choose_cases(cases: list[Case], count: int, seed: int) -> list[Case]:
    """`count` cases, one for each patient, tasks and labels in turn, drawn by the seed. Raises ValueError where there
    are fewer patients than that."""
    rng = np.random.default_rng(seed)
    strata: dict[tuple[str, str], list[Case]] = {}
    for place in rng.permutation(len(cases)):
        strata.setdefault((cases[place].task, cases[place].label), []).append(cases[place])
    found: list[Case] = []
    patients: set[tuple[str, str]] = set()
    for place in range(max(map(len, strata.values()), default=0)):
        for key in sorted(strata):
            if place < len(strata[key]) and (key[0], strata[key][place].group) not in patients:
                patients.add((key[0], strata[key][place].group))
                found.append(strata[key][place])
    if len(found) < count:
        raise ValueError(f"{count} cases were asked for, {len(found)} patients are there; ask for fewer by --cases")
    return found[:count]


def add_other_images(cases: list[Case], arm: str) -> list[Case]:
    """The cases with a control more: the map of `arm` for the next case. Raises ValueError for a single case."""
    if len(cases) < 2:
        raise ValueError("the control by another image needs two cases at least")
    following = [*cases[1:], cases[0]]
    return [
        replace(case, maps=case.maps | {OTHER_IMAGE: other.maps[arm]})
        for case, other in zip(cases, following, strict=True)
    ]


def assign_arms(
    cases: list[str], arms: list[str], seed: int
) -> tuple[list[tuple[str, str]], list[tuple[str, str, str]]]:
    """(case, arm) to be rated and (case, arm, other arm) to be chosen between: the same for every reader."""
    rng = np.random.default_rng([seed, 1])
    order = [arms[place] for place in rng.permutation(len(arms))]
    rated = [
        (case, order[(place + step) % len(order)])
        for place, case in enumerate(cases)
        for step in range(min(RATED_ARMS, len(order)))
    ]
    compared = list(combinations([arm for arm in arms if arm != OTHER_IMAGE], 2))
    compared = [compared[place] for place in rng.permutation(len(compared))]
    return rated, [(case, *compared[place % len(compared)]) for place, case in enumerate(cases)] if compared else []


def make_items(cases: list[str], practice: list[str], arms: list[str], reader: int, seed: int) -> list[Item]:
    """The screens of a reader, in order: practice first, then ratings and choices mixed, repeats in the second half.

    `seed` is sealed with the key: without it the ids, sides and order of a reader cannot be traced back to arms."""
    rng = np.random.default_rng([seed, 2, reader])

    def shuffle(listed: list) -> list:
        return [listed[place] for place in rng.permutation(len(listed))]

    def choose_sides(one: str, other: str) -> tuple[str, str]:
        return (one, other) if rng.random() < 0.5 else (other, one)

    def make(kind: str, case: str, arm: str, other: str = "", repeats: str = "", practice: bool = False) -> Item:
        return Item(rng.bytes(6).hex(), kind, case, arm, other, repeats, practice)

    rated, compared = assign_arms(cases, arms, seed)
    asked = [(RATE, case, arm, "") for case, arm in rated]
    asked += [(CHOOSE, case, *choose_sides(one, other)) for case, one, other in compared]
    first = [make(*question) for question in shuffle(asked)]
    early = first[: max(1, len(first) // 2)]
    repeats = [
        make(one.kind, one.case, *((one.other, one.arm) if one.kind == CHOOSE else (one.arm, "")), one.item)
        for one in shuffle(early)[: round(REPEATED * len(first))]
    ]
    shown = early + shuffle([*first[len(early) :], *repeats])
    warming = [make(RATE, case, arms[place % len(arms)], practice=True) for place, case in enumerate(practice)]
    if practice and compared:
        warming[-1] = make(CHOOSE, practice[-1], *choose_sides(*compared[0][1:]), practice=True)
    return warming + shown
