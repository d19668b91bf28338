"""Groups assigned to equal folds: whole, every class in like shares, and the same on every machine.

From each of many random orders, a group goes where it evens the shares most; then groups are moved and exchanged until
nothing gains. Shares are integers, so that no processor's rounding can move a group.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

SHARE = 1_000_000  # all images of a class together
STARTS = 16  # random orders, of which those that end most evenly are kept
WORK = 200_000  # groups squared over all starts, about: where groups are many, one start is even already
EXCHANGED = 1_000  # groups up to which all are moved and pairs exchanged; more are even without
SWEEPS = 20  # over all groups, at most
SEARCH_SECONDS = 30  # for a solver, where no start gave some of every class to every part


def assign(counts: np.ndarray, parts: Sequence[int], ways: int, seed: int) -> list[np.ndarray]:
    """`ways` unlike ways to assign G groups, the most even first: the fold (G,) of every group. Empty where none is.

    counts (G, C): images of each class in each group. parts (folds,): which part, from 0 on, a fold belongs to; every
    part gets some of every class. Where there are fewer unlike ways, they come again.
    """
    parts = np.asarray(parts)
    found: dict[bytes, tuple[int, np.ndarray]] = {}  # by what makes ways alike
    for start in range(max(ways, min(STARTS, WORK // len(counts) ** 2))):
        table = _Table(counts, parts)
        order = table.assign(np.random.default_rng([seed, start]), skewed=bool(start % 2))
        table.note(found)  # few groups settle alike from everywhere
        table.settle(order)
        table.note(found)
    if not found:
        for folds in _solved(counts > 0, parts):
            table = _Table(counts, parts, folds)
            table.settle(range(len(counts)))
            table.note(found)
    best = [folds for _, folds in sorted(found.values(), key=lambda way: way[0])][:ways]
    return [best[way % len(best)] for way in range(ways if best else 0)]


class _Table:
    """Groups being assigned."""

    def __init__(self, counts: np.ndarray, parts: np.ndarray, folds: np.ndarray | None = None) -> None:
        groups, classes = counts.shape
        shares = np.rint(counts / counts.sum(axis=0) * SHARE).astype(np.int64)
        self.shares = np.column_stack([shares, np.ones(groups, np.int64)])  # the last column: like numbers of groups
        self.has = (counts > 0).astype(np.int64)
        self.penalty = 4 * classes * SHARE**2  # of a class that a part lacks: above all that like shares can gain
        self.parts = parts
        self.folds = np.full(groups, -1)
        self.load = np.zeros((len(parts), classes + 1), np.int64)  # shares in each fold
        self.held = np.zeros((parts.max() + 1, classes), np.int64)  # groups of each class in each part
        for group, fold in enumerate(() if folds is None else folds):
            self._put(group, fold)

    def note(self, found: dict[bytes, tuple[int, np.ndarray]]) -> None:
        """Add the folds as they are and their unevenness, where every part has every class."""
        if self.held.all():
            _, first, renamed = np.unique(self.folds, return_index=True, return_inverse=True)
            found.setdefault(first[renamed].tobytes(), (int((self.load**2).sum()), self.folds.copy()))

    def assign(self, rng: np.random.Generator, *, skewed: bool) -> np.ndarray:
        """Assign all groups in a random order, if skewed the large ones first more often than not. Returns the groups
        worth moving, in that order: where there are many, those that have too few like them to be assigned in turn."""
        sizes = self.shares[:, :-1].max(axis=1) / SHARE
        weights = np.square(np.square(sizes)) if skewed else 1
        order = np.argsort(rng.random(len(sizes)) / weights, kind="stable")
        self._put_in_turn(order)
        loose = order[self.folds[order] < 0]
        for group in loose:
            self._put(group, int(self._costs(group).argmin()))
        return order if len(order) <= EXCHANGED else loose

    def _put_in_turn(self, order: np.ndarray) -> None:
        """Of the groups that hold the same, put an equal number into every fold; the rest stays."""
        _, kind, number = np.unique(self.shares[order], axis=0, return_inverse=True, return_counts=True)
        by_kind = np.argsort(kind.reshape(-1), kind="stable")
        rank = np.arange(len(order)) - np.repeat(np.cumsum(number) - number, number)
        assigned = rank < np.repeat(number - number % len(self.load), number)
        groups, folds = order[by_kind][assigned], rank[assigned] % len(self.load)
        self.folds[groups] = folds
        np.add.at(self.load, folds, self.shares[groups])
        np.add.at(self.held, self.parts[folds], self.has[groups])

    def settle(self, order: Sequence[int]) -> None:
        """Move and exchange groups, in this order again and again, until nothing gains."""
        for _ in range(SWEEPS):
            changed = [self._move(group) or self._exchange(group) for group in order]
            if not any(changed):
                return

    def _move(self, group: int) -> bool:
        fold = self.folds[group]
        self._take(group)
        costs = self._costs(group)
        better = int(costs.argmin()) if costs.min() < costs[fold] else fold
        self._put(group, better)
        return better != fold

    def _exchange(self, group: int) -> bool:
        if len(self.folds) > EXCHANGED:
            return False
        here, there = self.folds[group], self.folds
        given, classes = self.shares[group] - self.shares, self.has[group] - self.has
        gained = 2 * ((self.load[there] - self.load[here] + given) * given).sum(axis=1)
        elsewhere = self.parts[there] != self.parts[here]
        for part, change in ((self.parts[here], -classes), (self.parts[there], classes)):
            before, after = self.held[part] == 0, self.held[part] + change == 0
            gained += self.penalty * elsewhere * (after.sum(axis=1) - before.sum(axis=-1))
        gained[there == here] = 0
        other = int(gained.argmin())
        if gained[other] >= 0:
            return False
        there = there[other]
        self._take(group)
        self._take(other)
        self._put(group, there)
        self._put(other, here)
        return True

    def _costs(self, group: int) -> np.ndarray:
        """What this group, in no fold now, adds to the unevenness in each fold, but for a constant."""
        met = ((self.held == 0) & (self.has[group] > 0)).sum(axis=1)
        return 2 * self.load @ self.shares[group] - self.penalty * met[self.parts]

    def _put(self, group: int, fold: int) -> None:
        self.folds[group] = fold
        self.load[fold] += self.shares[group]
        self.held[self.parts[fold]] += self.has[group]

    def _take(self, group: int) -> None:
        fold = self.folds[group]
        self.load[fold] -= self.shares[group]
        self.held[self.parts[fold]] -= self.has[group]


def _solved(has: np.ndarray, parts: np.ndarray) -> list[np.ndarray]:
    """One way to give every part a group of every class, by a solver; empty where there is none. has: bool (G, C)."""
    from scipy.optimize import LinearConstraint, milp
    from scipy.sparse import eye_array, kron

    groups, number = len(has), parts.max() + 1
    once = kron(eye_array(groups), np.ones((1, number)))  # a group is on one part
    some = kron(has.T.astype(float), eye_array(number))  # a class is on every part
    found = milp(
        np.zeros(groups * number),
        integrality=np.ones(groups * number),
        bounds=(0, 1),
        constraints=[LinearConstraint(once, 1, 1), LinearConstraint(some, 1, np.inf)],
        options={"time_limit": SEARCH_SECONDS},
    )
    if found.x is None:
        return []
    first = np.array([np.flatnonzero(parts == part)[0] for part in range(number)])
    return [first[found.x.reshape(groups, number).argmax(axis=1)]]
