"""What a board says, computed by other means: `python -m tests.helpers.oracle STORE SITE BOARD`.

A page that checks itself checks nothing. This is written on NumPy, SciPy and scikit-learn alone, from the formulas of
docs/statistics.md, and imports nothing of the project. From the stored predictions of binary tasks it computes AUROC by
fold and repeat, their errors (each group left out in turn, seeds crossed), which tasks labels teach, shares of the way
to the ceiling, the differences of every family with their p-values and intervals, who shares a letter, and the claims
with their slopes, and names each number of <board>.csv, -contrasts.csv and -claims.csv that is another.

Values are exact. A board leaves out blocks where there are above 400 groups, and draws a bootstrap of its own: errors
are the same to WIDTH, which bounds intervals and p-values.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats
from sklearn.metrics import roc_auc_score

EXACT = 1.5e-9  # tables hold nine decimals
WIDTH = 3.5 * np.sqrt((1 / 400 - 1 / 2000) / 2)  # relative: of an error, from 400 blocks of 2,000 groups
DRAWS, VECTORS = 1000, 200_000  # bootstrap draws of an error; normal vectors of a family
LEVEL, CHANCE = 0.95, 0.5
HEADROOM = 1.5  # groups of the rarest class in error, over the tasks: with fewer, no verdict
CEILING = "ceiling"
MEAN = "mean over tasks"
GAIN = ("above twin", "not shown above twin", "below twin")


@dataclass(frozen=True, eq=False)
class Groups:
    """Patients that some tasks share, in strata of all their labels, and what is done to them."""

    names: np.ndarray  # (G,)
    strata: np.ndarray  # (G,)
    counts: np.ndarray  # (B, G) how often a bootstrap draw holds each
    left: np.ndarray  # (G, G) weights with each left out, the rest of its stratum weighted up

    @classmethod
    def of(cls, names: Sequence[str], labels: Sequence[pd.Series], seed: int) -> Groups:
        """labels: of each task, by group."""
        _, strata, sizes = np.unique(
            np.stack([one.loc[list(names)] for one in labels]), axis=1, return_inverse=True, return_counts=True
        )
        assert sizes.min() >= 5, "strata that the board would join"
        strata, counts, rng = strata.reshape(-1), np.zeros((DRAWS, len(names))), np.random.default_rng(seed)
        for stratum, size in enumerate(sizes):
            counts[:, strata == stratum] = rng.multinomial(size, np.full(size, 1 / size), DRAWS)
        rest = (strata[:, None] == strata) / (sizes[strata] - 1)[:, None]
        return cls(np.array(names), strata, counts, (1 + rest) * (1 - np.eye(len(names))))


class Number(NamedTuple):
    """A value per seed, under bootstrap draws of groups, and with every group left out."""

    values: np.ndarray  # (S,)
    drawn: np.ndarray  # (S, B)
    left: Mapping[Groups, np.ndarray]  # (S, G)
    headroom: float = 0.0  # groups of the rarest class × (1 - value)


class Found(NamedTuple):
    value: float
    error: float
    freedom: float
    of_groups: float  # share of the squared error
    effect: np.ndarray  # (G,) of leaving out each group, mean over seeds

    @property
    def p(self) -> float:
        return float(2 * stats.t.sf(abs(self.value) / self.error, self.freedom))

    @property
    def interval(self) -> tuple[float, float]:
        """By itself."""
        half = stats.t.ppf((1 + LEVEL) / 2, self.freedom) * self.error
        return self.value - half, self.value + half


def auroc(cells: Sequence[pd.DataFrame], groups: Groups) -> Number:
    """cells: predictions of each seed."""
    rows = np.array([_score(cell, groups.names, np.concatenate([groups.counts, groups.left])) for cell in cells])
    rarest = cells[0].groupby("label")["group"].nunique().min()
    values = rows[:, 0]
    return Number(values, rows[:, 1 : DRAWS + 1], {groups: rows[:, DRAWS + 1 :]}, rarest * (1 - values.mean()))


def _score(cell: pd.DataFrame, names: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mean over folds, then over repeats: as it is, then under each row of weights."""
    folds = cell.groupby(["repeat", "fold"]).apply(_fold, names, weights, include_groups=False)
    return np.mean([np.mean(list(repeat), axis=0) for _, repeat in folds.groupby(level=0)], axis=0)


def _fold(fold: pd.DataFrame, names: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """AUROC by scikit-learn; with weights, the weight of the negatives below each positive, of equals a half."""
    place, label = np.searchsorted(names, fold["group"]), fold["label"].to_numpy()
    score = np.stack(fold["scores"])[:, -1]  # of two classes the second alone is packed
    negative = np.flatnonzero(label == 0)[np.argsort(score[label == 0])]
    below = np.pad(weights[:, place[negative]].cumsum(1), ((0, 0), (1, 0)))
    ends = [np.searchsorted(score[negative], score[label == 1], side) for side in ("left", "right")]
    positive = weights[:, place[label == 1]]
    won = (positive * (below[:, ends[0]] + below[:, ends[1]]) / 2).sum(1)
    return np.r_[roc_auc_score(label, score), won / (positive.sum(1) * below[:, -1])]


def combined(parts: Sequence[Number], factors: Sequence[float]) -> Number:
    left: dict[Groups, np.ndarray] = {}
    for part, factor in zip(parts, factors, strict=True):
        for groups, change in part.left.items():
            left[groups] = left.get(groups, 0.0) + factor * change
    values, drawn = (sum(f * part[at] for f, part in zip(factors, parts, strict=True)) for at in (0, 1))
    return Number(values, drawn, left)


def level(number: Number, seeds: int) -> Number:
    """Every value the mean over seeds: of a ceiling, whose seeds are no sample."""
    left = {groups: np.tile(change.mean(0), (seeds, 1)) for groups, change in number.left.items()}
    return Number(np.full(seeds, number.values.mean()), np.tile(number.drawn.mean(0), (seeds, 1)), left)


def share(trained: Number, floor: Number, ceiling: Number) -> Number:
    """(trained - floor) / (ceiling - floor), of means over seeds, to first order."""
    gained, above = (float((one.values - floor.values).mean()) for one in (trained, ceiling))
    ratio = gained / above
    number = combined([trained, floor, ceiling], [1 / above, (ratio - 1) / above, -ratio / above])
    return number._replace(values=number.values + ratio, drawn=number.drawn + ratio)


def estimate(number: Number) -> Found:
    """The stratified jackknife, its interaction taken out once, crossed with seeds."""
    seeds, effects, explained, parts = len(number.values), [], 0.0, []
    for groups, left in number.left.items():
        effect = np.empty_like(left)
        for stratum in np.unique(groups.strata):
            here = groups.strata == stratum
            shrunk = (here.sum() - 1) / here.sum()
            change = left[:, here].mean(1, keepdims=True) - left[:, here]
            effect[:, here] = change * np.sqrt(shrunk)
            explained = explained + shrunk * change @ groups.counts[:, here].T
            parts.append((effect[:, here] @ effect[:, here].T, here.sum() - 1))
        effects.append(effect.mean(0))
    total = sum(np.trace(part) for part, _ in parts)
    scale = 1 - min((number.drawn - explained).var(axis=1, ddof=1).sum() / total, 0.5)
    apart = ~np.eye(seeds, dtype=bool) if seeds > 1 else np.ones((1, 1), dtype=bool)
    shared = [(scale * part[apart].mean(), freedom) for part, freedom in parts]
    of_groups = max(sum(one for one, _ in shared), 0.0)
    between, crossed = (
        (number.values.var(ddof=1), max(scale * total / seeds - of_groups, 0.0)) if seeds > 1 else (0.0, 0.0)
    )
    spread, of_seeds = max(between, crossed) / seeds, max(between - crossed, 0.0) / seeds
    squares = sum(one**2 / freedom for one, freedom in shared) * (of_groups > 0) + spread**2 / max(seeds - 1, 1)
    error = of_groups + spread
    value, freedom = number.values.mean(), error**2 / squares
    return Found(value, np.sqrt(error), freedom, 1 - of_seeds / error, np.concatenate(effects))


def family(members: Sequence[tuple[str, Found]]) -> tuple[np.ndarray, float]:
    """max |Z| of normal vectors with the members' correlations, sorted; and the p of its own at which an interval of
    the family ends. members: (the task in whose groups they correlate, number)."""
    correlation = np.eye(len(members))
    for (a, (task, one)), (b, (of, other)) in combinations(enumerate(members), 2):
        if task == of:
            cosine = one.effect @ other.effect / np.linalg.norm(one.effect) / np.linalg.norm(other.effect)
            correlation[a, b] = correlation[b, a] = cosine * np.sqrt(one.of_groups * other.of_groups)
    normal = stats.multivariate_normal(np.zeros(len(members)), correlation, allow_singular=True, seed=5)
    largest = np.sort(np.abs(normal.rvs(VECTORS).reshape(VECTORS, -1)).max(1))
    return largest, float(2 * stats.norm.sf(np.quantile(largest, LEVEL)))


class Oracle:
    def __init__(self, store: Path, site: Path, board: str):
        self.tables = {part: pd.read_csv(site / f"{board}{part}.csv") for part in ("", "-contrasts", "-claims")}
        rows = self.tables[""]
        own = rows[rows["kind"] == "trained"]
        self.titles = {row.title: row.task for row in own.itertuples() if row.title != MEAN}
        self.tasks = list(dict.fromkeys(self.titles.values()))
        runs = pd.concat(map(pd.read_parquet, sorted(store.rglob("runs.parquet")))).drop_duplicates("run")
        runs = runs.set_index("run")
        encoders = {row.encoder: row.runs.split() for row in own.itertuples()}
        encoders |= {f"untrained {name}": [runs["twin"][run] for run in ids] for name, ids in encoders.items()}
        wanted, first = {run for ids in encoders.values() for run in ids}, encoders[own["encoder"].iloc[0]]
        cells, (track,) = _cells(store, wanted, self.tasks), set(runs.loc[list(wanted), "track"])
        self.kinds = _groups({task: cells[task, first[0]] for task in self.tasks})
        self.numbers = {
            (name, task, kind): auroc([cells[task, run] for run in ids], groups)
            for name, ids in encoders.items()
            for (task, kind), groups in self.kinds.items()
        }
        for task, seen in _ceilings(store, track, self.tasks).items():
            for kind in ("own", "joint"):
                top = auroc(seen, self.kinds[task, kind])
                self.numbers[CEILING, task, kind] = level(top, len(first))
        twins = [name for name in encoders if name.startswith("untrained ")]
        self.taught = [task for task in self.tasks if all(self._taught(task, twin) for twin in twins)]
        found = pd.concat(map(pd.read_parquet, sorted(store.rglob("locality.parquet"))))
        self.localities = dict(zip(found["task"], found["value"], strict=True))

    def _taught(self, task: str, twin: str) -> bool:
        """Whether the task's ceiling, where it has one, is shown above its floor."""
        top, floor = self.numbers.get((CEILING, task, "own")), self.numbers[twin, task, "own"]
        return top is None or estimate(combined([top, floor], [1, -1])).interval[0] > 0

    def difference(self, first: str, second: str, tasks: Sequence[str], factors: Sequence[float]) -> Found:
        return self.lead(first, second, tasks, factors, "score")

    def lead(self, first: str, second: str, tasks: Sequence[str], factors: Sequence[float], per: str) -> Found:
        """Of the first over the second: in score, in gain over the untrained encoder of each, or in gain over
        (ceiling - floor)."""
        kind, parts, weights = "own" if len(tasks) == 1 else "joint", [], []
        for name, sign in ((first, 1), (second, -1)):
            for task, factor in zip(tasks, factors, strict=True):
                parts.append(self._number(name, task, kind, per))
                weights.append(sign * factor)
        return estimate(combined(parts, weights))

    def _number(self, name: str, task: str, kind: str, per: str) -> Number:
        one, floor = self.numbers[name, task, kind], self.numbers.get((f"untrained {name}", task, kind))
        if per == "score":
            return one
        if per == "gain":
            return combined([one, floor], [1, -1])
        return share(one, floor, self.numbers[CEILING, task, kind])

    def wrong(self) -> Iterator[str]:
        """Every number of the tables that is not what it is found to be."""
        yield from self._scores()
        every = self.tables["-contrasts"]
        for (twin, mean), rows in every.groupby([every["second"].str.startswith("untrained "), every["title"] == MEAN]):
            yield from self._family(rows, twin, mean)
        yield from self._claims()

    def _scores(self) -> Iterator[str]:
        rows = self.tables[""]
        for row in rows[(rows["kind"] == "trained") & (rows["title"] != MEAN)].itertuples():
            found, name = estimate(self.numbers[row.encoder, row.task, "own"]), f"{row.encoder}, {row.task}: score"
            yield from _differs(name, row.score, found.value)
            half = stats.t.ppf((1 + LEVEL) / 2, found.freedom) * found.error / found.value / (1 - found.value)
            low, middle, high = (np.log(x / (1 - x)) for x in (row.score_low, row.score, row.score_high))
            yield from _differs(f"{name}'s middle", (low + high) / 2, middle, 1e-6)
            yield from _differs(f"{name}'s interval", (high - low) / 2, half, WIDTH * half)
            if ((CEILING, row.task, "own") in self.numbers and row.task in self.taught) != (row.share == row.share):
                yield f"{name}: a share of {row.share}, {'taught' if row.task in self.taught else 'not taught'}"
            elif row.share == row.share:
                one = estimate(self._number(row.encoder, row.task, "own", "ceiling"))
                yield from _interval(f"{name}: share", (row.share, row.share_low, row.share_high), one)
        for row in rows[(rows["kind"] == "ceiling") & rows["score"].notna()].itertuples():
            value = self.numbers[CEILING, row.task, "own"].values.mean()
            yield from _differs(f"ceiling, {row.task}: score", row.score, value)

    def _family(self, rows: pd.DataFrame, twin: bool, mean: bool) -> Iterator[str]:
        over = self.taught or self.tasks
        tasks = [over if mean else [row.task] for row in rows.itertuples()]
        factors = [1 / (1 - CHANCE) / len(over)] * len(over) if mean else [1.0]
        pairs = [(row.first, row.second) for row in rows.itertuples()]
        found = [self.difference(*pair, of, factors) for pair, of in zip(pairs, tasks, strict=True)]
        judged = [self._judged(*pair, of) for pair, of in zip(pairs, tasks, strict=True)]
        members = list(zip(rows["task"], found, strict=True))
        largest, alone = family([member for member, kept in zip(members, judged, strict=True) if kept])
        board = self.tables[""].set_index(["encoder", "title"])
        for row, one, kept in zip(rows.itertuples(), found, judged, strict=True):
            name = f"{row.first} - {row.second}, {row.task}"
            yield from _interval(name, (row.difference, row.low, row.high), one, alone if kept else 1 - LEVEL)
            shown = int(np.sign(row.difference)) * (row.p < 1 - LEVEL)
            words = GAIN if twin else (f"{row.first} is ahead", "not shown to differ", f"{row.second} is ahead")
            if not kept and (row.p == row.p or row.verdict in words):
                yield f"{name}: {row.verdict!r}, p {row.p}, where there is nothing to judge"
            if kept:
                yield from _p(name, row.p, one, largest)
                if (row.low > 0) - (row.high < 0) != shown or row.verdict != words[1 - shown]:
                    yield f"{name}: p {row.p}, its interval and {row.verdict!r} disagree"
            if twin:
                entry = board.loc[row.first, row.title][["gain", "gain_low", "gain_high", "gain_p", "verdict"]]
                if not entry.equals(pd.Series([row.difference, row.low, row.high, row.p, row.verdict], entry.index)):
                    yield f"{name}: {list(entry)} on the board"
            elif mean and kept:  # two rows share a letter unless their difference over the tasks is shown
                letters = [set(board.loc[side, MEAN]["tie_group"].split()) for side in (row.first, row.second)]
                if bool(letters[0] & letters[1]) == bool(shown):
                    yield f"{name}: letters {letters}, {row.verdict}"

    def _judged(self, first: str, second: str, tasks: Sequence[str]) -> bool:
        """Whether labels teach the tasks, and enough groups are in error."""
        wrong = [self.numbers[name, task, "own"].headroom for name in (first, second) for task in tasks]
        return set(tasks) <= set(self.taught) and sum(wrong) / 2 >= HEADROOM

    def _claims(self) -> Iterator[str]:
        told = self.tables["-claims"].dropna(subset="value")
        for row in told[told["probe"].eq("linear")].itertuples():
            tasks = [self.titles[title] for title in row.tasks.split("; ")]
            factors, per = np.full(len(tasks), 1 / len(tasks)), "score"
            if row.measure.startswith("slope"):
                line, per = np.stack([np.ones(len(tasks)), [self.localities[task] for task in tasks]], axis=1), row.per
                factors = np.linalg.lstsq(line, np.eye(len(tasks)), rcond=None)[0][1]
            of_chance = 1.0 if per == "ceiling" else 1 - CHANCE
            one = self.lead(*row.pair.split(" − "), tasks, list(factors / of_chance), per)
            yield from _interval(f"claim {row.claim}, {row.pair}", (row.value, row.low, row.high), one)


def _groups(seen: Mapping[str, pd.DataFrame]) -> dict[tuple[str, str], Groups]:
    """Of each task by itself ("own"), and with all that share its patients ("joint")."""
    labels = {task: cell.groupby("group")["label"].first() for task, cell in seen.items()}
    names = {task: tuple(sorted(one.index)) for task, one in labels.items()}
    found = {}
    for seed, (task, own) in enumerate(names.items()):
        found[task, "own"] = Groups.of(own, [labels[task]], seed)
        for other, theirs in names.items():
            assert own == theirs or not set(own) & set(theirs), f"{task} and {other} share some patients"
    for seed, shared in enumerate(dict.fromkeys(names.values())):
        tasks = [task for task in names if names[task] == shared]
        joint = Groups.of(shared, [labels[task] for task in tasks], len(names) + seed)
        found |= {(task, "joint"): joint for task in tasks}
    return found


def _ceilings(store: Path, track: str, tasks: Sequence[str]) -> dict[str, list[pd.DataFrame]]:
    """Task -> predictions of each seed of its ceiling."""
    found: dict[str, list[pd.DataFrame]] = {}
    for path in sorted(store.rglob("ceilings.parquet")):
        rows = pd.read_parquet(path).query("headline and metric == 'auroc'")
        for row in rows[rows["track"].eq(track) & rows["task"].isin(tasks)].itertuples():
            seen = pd.read_parquet(path.with_name("predictions.parquet"), filters=[("cell", "==", row.cell)])
            found.setdefault(row.task, []).append(seen.sort_values(["repeat", "fold", "sample"]))
    return found


def _cells(store: Path, runs: set[str], tasks: Sequence[str]) -> dict[tuple[str, str], pd.DataFrame]:
    """(task, run) -> predictions of the linear probe on the mean of patch tokens: clean, under the task's protocol."""
    found = {}
    for path in sorted(store.rglob("cells.parquet")):
        rows = pd.read_parquet(path).query(
            "headline and metric == 'auroc' and probe == 'linear' and readout == 'patches'"
        )
        for row in rows[rows["run"].isin(runs) & rows["task"].isin(tasks)].itertuples():
            seen = pd.read_parquet(path.with_name("predictions.parquet"), filters=[("cell", "==", row.cell)])
            main = seen["corruption"].eq("") & seen["split_variant"].eq(row.protocol.partition("(")[0])
            found[row.task, row.run] = seen[main].sort_values(["repeat", "fold", "sample"])
    return found


def _differs(name: str, printed: float, found: float, allowed: float = EXACT) -> Iterator[str]:
    if not abs(printed - found) <= allowed:
        yield f"{name}: printed {printed}, found {found}"


def _interval(name: str, printed: tuple[float, float, float], one: Found, level: float = 1 - LEVEL) -> Iterator[str]:
    half = stats.t.isf(level / 2, one.freedom) * one.error
    yield from _differs(f"{name}: value", printed[0], one.value)
    yield from _differs(f"{name}: middle of the interval", (printed[1] + printed[2]) / 2, printed[0], 2 * EXACT)
    yield from _differs(f"{name}: half of the interval", (printed[2] - printed[1]) / 2, half, WIDTH * half)


def _p(name: str, printed: float, one: Found, largest: np.ndarray) -> Iterator[str]:
    """Between those of an error WIDTH larger and smaller, as far as the drawn vectors tell."""
    own = [one._replace(error=one.error * wider).p for wider in (1 - WIDTH, 1 + WIDTH)]
    ends = [max(np.mean(largest >= stats.norm.isf(p / 2)), p) for p in own]
    chance = 4 * np.sqrt(ends[1] / VECTORS) + 1e-3
    if not ends[0] - chance <= printed <= ends[1] + chance:
        yield f"{name}: p printed {printed}, found from {ends[0]} to {ends[1]}"


if __name__ == "__main__":
    differences = list(Oracle(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]).wrong())
    print("\n".join(differences) or "the same")
    sys.exit(bool(differences))
