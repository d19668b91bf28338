"""What a board says, computed by other means: `python -m tests.oracle STORE SITE BOARD`.

A page that checks itself checks nothing. This is written on NumPy, SciPy and scikit-learn alone, from the formulas of
docs/statistics.md, and imports nothing of the project. From the stored predictions of binary tasks it computes AUROC by
fold and repeat, their errors (each group left out in turn, seeds crossed), the differences of every family with their
p-values and intervals, who shares a letter, and the claims with their slopes in gain, and names each number of
<board>.csv, -contrasts.csv and -claims.csv that is another.

Values are exact. A board leaves out blocks where there are above 400 groups, and draws a bootstrap of its own: errors
are the same to WIDTH, which bounds intervals and p-values.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats
from sklearn.metrics import roc_auc_score

EXACT = 1.5e-9  # tables hold nine decimals
WIDTH = 0.05  # relative: of an error
DRAWS, VECTORS = 1000, 200_000  # bootstrap draws of an error; normal vectors of a family
LEVEL, CHANCE = 0.95, 0.5
MEAN = "mean over tasks"
GAIN = ("above twin", "not shown above twin", "below twin")


class Number(NamedTuple):
    """A value per seed, with every group left out, and under bootstrap draws of groups."""

    values: np.ndarray  # (S,)
    left: np.ndarray  # (S, G)
    drawn: np.ndarray  # (S, B)
    strata: np.ndarray  # (G,)
    counts: np.ndarray  # (B, G) of the draws


class Found(NamedTuple):
    value: float
    error: float
    freedom: float
    of_groups: float  # share of the squared error
    effect: np.ndarray  # (G,) of leaving out each group, mean over seeds

    @property
    def p(self) -> float:
        return float(2 * stats.t.sf(abs(self.value) / self.error, self.freedom))


def auroc(cells: Sequence[pd.DataFrame], labels: Sequence[tuple]) -> Number:
    """cells: predictions of each seed; labels: what strata are made of, of each group in order of its name."""
    _, strata, sizes = np.unique(labels, axis=0, return_inverse=True, return_counts=True)
    assert sizes.min() >= 5, "strata that the board would join"
    strata, counts, rng = strata.reshape(-1), np.zeros((DRAWS, len(labels))), np.random.default_rng(17)
    for stratum, size in enumerate(sizes):
        counts[:, strata == stratum] = rng.multinomial(size, np.full(size, 1 / size), DRAWS)
    rest = (strata[:, None] == strata) / (sizes[strata] - 1)[:, None]  # what each other group of the stratum gains
    left = (1 + rest) * (1 - np.eye(len(labels)))
    rows = np.array([_score(cell, np.concatenate([left, counts])) for cell in cells])
    return Number(rows[:, 0], rows[:, 1 : len(labels) + 1], rows[:, len(labels) + 1 :], strata, counts)


def _score(cell: pd.DataFrame, weights: np.ndarray) -> np.ndarray:
    """Mean over folds, then over repeats: as it is, then under each row of weights."""
    names = np.unique(cell["group"])
    folds = cell.groupby(["repeat", "fold"]).apply(_fold, names, weights, include_groups=False)
    return np.mean([np.mean(list(repeat), axis=0) for _, repeat in folds.groupby(level=0)], axis=0)


def _fold(fold: pd.DataFrame, names: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """AUROC by scikit-learn; with weights, a quotient of sums over pairs of groups."""
    place, label = np.searchsorted(names, fold["group"]), fold["label"].to_numpy()
    score = np.stack(fold["scores"])[:, 1]
    above = (score[label == 1, None] > score[label == 0]) + 0.5 * (score[label == 1, None] == score[label == 0])
    up, down = (np.eye(len(names))[place[label == which]] for which in (1, 0))
    won = np.einsum("bg,bg->b", weights @ (up.T @ above @ down), weights)
    return np.r_[roc_auc_score(label, score), won / ((weights @ up.sum(0)) * (weights @ down.sum(0)))]


def combined(parts: Sequence[Number], factors: Sequence[float]) -> Number:
    sums = (sum(f * part[place] for f, part in zip(factors, parts, strict=True)) for place in range(3))
    return Number(*sums, *parts[0][3:])


def estimate(number: Number) -> Found:
    """The stratified jackknife, its interaction taken out once, crossed with seeds."""
    seeds, effect, explained, parts = len(number.values), np.empty_like(number.left), 0.0, []
    for stratum in np.unique(number.strata):
        here = number.strata == stratum
        shrunk = (here.sum() - 1) / here.sum()
        change = number.left[:, here].mean(1, keepdims=True) - number.left[:, here]
        effect[:, here] = change * np.sqrt(shrunk)
        explained = explained + shrunk * change @ number.counts[:, here].T
        parts.append((effect[:, here] @ effect[:, here].T, here.sum() - 1))
    total = sum(np.trace(part) for part, _ in parts)
    scale = 1 - min((number.drawn - explained).var(axis=1, ddof=1).sum() / total, 0.5)
    apart = ~np.eye(seeds, dtype=bool) if seeds > 1 else np.ones((1, 1), dtype=bool)
    shared = [(scale * part[apart].mean(), freedom) for part, freedom in parts]
    groups = max(sum(one for one, _ in shared), 0.0)
    between, crossed = (
        (number.values.var(ddof=1), max(scale * total / seeds - groups, 0.0)) if seeds > 1 else (0.0, 0.0)
    )
    spread, of_seeds = max(between, crossed) / seeds, max(between - crossed, 0.0) / seeds
    squares = sum(one**2 / freedom for one, freedom in shared) * (groups > 0) + spread**2 / max(seeds - 1, 1)
    error = groups + spread
    return Found(number.values.mean(), np.sqrt(error), error**2 / squares, 1 - of_seeds / error, effect.mean(0))


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
        self.titles = {row.title: row.task for row in rows.itertuples() if row.title != MEAN}
        self.tasks = list(dict.fromkeys(self.titles.values()))
        runs = pd.concat(map(pd.read_parquet, sorted(store.rglob("runs.parquet")))).drop_duplicates("run")
        runs = runs.set_index("run")
        encoders = {row.encoder: row.runs.split() for row in rows[rows["kind"] == "trained"].itertuples()}
        encoders |= {f"untrained {name}": [runs["twin"][run] for run in ids] for name, ids in encoders.items()}
        cells = _cells(store, {run for ids in encoders.values() for run in ids}, self.tasks)
        labels = [
            cells[task, encoders[next(iter(encoders))][0]].groupby("group")["label"].first() for task in self.tasks
        ]
        self.numbers = {
            (name, task, kind): auroc([cells[task, run] for run in ids], list(zip(*strata, strict=True)))
            for name, ids in encoders.items()
            for own, task in zip(labels, self.tasks, strict=True)
            for kind, strata in (("own", [own]), ("joint", labels))
        }
        found = pd.concat(map(pd.read_parquet, sorted(store.rglob("locality.parquet"))))
        self.localities = dict(zip(found["task"], found["value"], strict=True))

    def difference(self, first: str, second: str, tasks: Sequence[str], factors: Sequence[float]) -> Found:
        return self.lead(first, second, tasks, factors, of_gains=False)

    def lead(self, first: str, second: str, tasks: Sequence[str], factors: Sequence[float], of_gains: bool) -> Found:
        """Of the first over the second, in score, or in gain over the untrained encoder of each."""
        kind, parts, weights = "own" if len(tasks) == 1 else "joint", [], []
        names = [(first, 1), (second, -1)]
        names += [(f"untrained {first}", -1), (f"untrained {second}", 1)] * of_gains
        for name, sign in names:
            parts += [self.numbers[name, task, kind] for task in tasks]
            weights += [sign * factor for factor in factors]
        return estimate(combined(parts, weights))

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

    def _family(self, rows: pd.DataFrame, twin: bool, mean: bool) -> Iterator[str]:
        tasks = [self.tasks if mean else [row.task] for row in rows.itertuples()]
        factors = [1 / (1 - CHANCE) / len(self.tasks)] * len(self.tasks) if mean else [1.0]
        pairs = [(row.first, row.second) for row in rows.itertuples()]
        found = [self.difference(*pair, of, factors) for pair, of in zip(pairs, tasks, strict=True)]
        largest, alone = family(list(zip(rows["task"], found, strict=True)))
        board = self.tables[""].set_index(["encoder", "title"])
        for row, one in zip(rows.itertuples(), found, strict=True):
            name = f"{row.first} - {row.second}, {row.task}"
            half = stats.t.isf(alone / 2, one.freedom) * one.error
            yield from _interval(name, (row.difference, row.low, row.high), one.value, half)
            yield from _p(name, row.p, one, largest)
            shown = int(np.sign(row.difference)) * (row.p < 1 - LEVEL)
            words = GAIN if twin else (f"{row.first} is ahead", "not shown to differ", f"{row.second} is ahead")
            if (row.low > 0) - (row.high < 0) != shown or row.verdict != words[1 - shown]:
                yield f"{name}: p {row.p}, its interval and {row.verdict!r} disagree"
            if twin:
                entry = board.loc[row.first, row.title][["gain", "gain_low", "gain_high", "gain_p", "verdict"]]
                if list(entry) != [row.difference, row.low, row.high, row.p, row.verdict]:
                    yield f"{name}: {list(entry)} on the board"
            elif mean:  # two rows share a letter unless their difference over the tasks is shown
                letters = [set(board.loc[side, MEAN]["tie_group"].split()) for side in (row.first, row.second)]
                if bool(letters[0] & letters[1]) == bool(shown):
                    yield f"{name}: letters {letters}, {row.verdict}"

    def _claims(self) -> Iterator[str]:
        told = self.tables["-claims"].dropna(subset="value")
        for row in told[told["probe"].eq("linear") & told["per"].ne("ceiling")].itertuples():
            tasks = [self.titles[title] for title in row.tasks.split("; ")]
            factors = np.full(len(tasks), 1 / len(tasks))
            if row.measure.startswith("slope"):
                line = np.stack([np.ones(len(tasks)), [self.localities[task] for task in tasks]], axis=1)
                factors = np.linalg.lstsq(line, np.eye(len(tasks)), rcond=None)[0][1]
            one = self.lead(*row.pair.split(" − "), tasks, list(factors / (1 - CHANCE)), row.per == "gain")
            half = stats.t.ppf((1 + LEVEL) / 2, one.freedom) * one.error
            yield from _interval(f"claim {row.claim}, {row.pair}", (row.value, row.low, row.high), one.value, half)


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


def _interval(name: str, printed: tuple[float, float, float], value: float, half: float) -> Iterator[str]:
    yield from _differs(f"{name}: value", printed[0], value)
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
