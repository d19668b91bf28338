"""Who is ahead of whom: tie groups, rank intervals, and the classical tests with Holm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy import stats

from leaderboards.stats.intervals import LEVEL


@dataclass(frozen=True, kw_only=True)
class Classical:
    """Friedman's test over tasks, and Wilcoxon's signed ranks between every two methods, after Holm (Demšar 2006)."""

    names: tuple[str, ...]  # K, best mean rank first
    ranks: tuple[float, ...]  # K, mean over tasks, 1 is best
    tasks: int  # N
    friedman: float  # p; nan under three methods
    pairs: tuple[tuple[int, int, float], ...]  # places in `names`, and p after Holm
    critical: float  # Nemenyi's difference of mean ranks
    cliques: tuple[tuple[int, int], ...]  # first and last place of every longest run of methods not shown to differ
    able: bool  # so many tasks that the smallest possible p, after Holm, is under .05


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted for a family of this size (Holm 1979), in the given order."""
    order, adjusted, running = np.argsort(p_values, kind="stable"), [0.0] * len(p_values), 0.0
    for place, index in enumerate(order):
        running = max(running, min(1.0, (len(p_values) - place) * p_values[index]))
        adjusted[index] = running
    return adjusted


def letters(size: int, different: Sequence[tuple[int, int]]) -> list[str]:
    """Compact letters for items 0..size-1, best first: two items share a letter unless they are shown to differ.

    Insert and absorb (Piepho 2004, Journal of Computational and Graphical Statistics 13(2)).
    """
    sets = [frozenset(range(size))]
    for a, b in different:
        split = []
        for members in sets:
            split += [members - {a}, members - {b}] if {a, b} <= members else [members]
        sets = [one for one in dict.fromkeys(split) if not any(one < other for other in split)]
    sets = sorted(sets, key=sorted)
    return [" ".join(chr(65 + place) for place, members in enumerate(sets) if item in members) for item in range(size)]


def rank_intervals(size: int, ahead: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Lowest and highest rank of items 0..size-1, given the pairs (better, worse) shown to differ.

    As the pairs hold together at 95 %, so do the ranks (Klein, Wright and Wieczorek 2020, JRSS C 69(3)).
    """
    return [(1 + sum(b == item for _, b in ahead), size - sum(a == item for a, _ in ahead)) for item in range(size)]


def classical(names: Sequence[str], scores: np.ndarray) -> Classical:
    """The classical view of scores (N tasks, K methods), higher better. Tasks are taken as independent."""
    tasks, count = scores.shape
    ranks = stats.rankdata(-scores, axis=1).mean(0)
    order = np.argsort(ranks, kind="stable")
    places = list(combinations(range(count), 2))
    p_values = [_wilcoxon(scores[:, order[a]] - scores[:, order[b]]) for a, b in places]
    pairs = tuple((a, b, p) for (a, b), p in zip(places, holm(p_values), strict=True))
    tied = {(a, b) for a, b, p in pairs if p >= 1 - LEVEL}
    runs = [
        (
            a,
            max(
                (b for b in range(a + 1, count) if all(pair in tied for pair in combinations(range(a, b + 1), 2))),
                default=a,
            ),
        )
        for a in range(count)
    ]
    return Classical(
        names=tuple(names[place] for place in order),
        ranks=tuple(float(ranks[place]) for place in order),
        tasks=tasks,
        friedman=float(stats.friedmanchisquare(*scores.T).pvalue) if count > 2 and tasks > 1 else float("nan"),
        pairs=pairs,
        critical=float(
            stats.studentized_range.ppf(LEVEL, count, np.inf) / np.sqrt(2) * np.sqrt(count * (count + 1) / (6 * tasks))
        ),
        cliques=tuple((a, b) for a, b in runs if b > a and not any(c < a and d >= b for c, d in runs)),
        able=len(places) * 2 / 2**tasks < 1 - LEVEL,
    )


def _wilcoxon(differences: np.ndarray) -> float:
    return float(stats.wilcoxon(differences).pvalue) if differences.any() else 1.0
