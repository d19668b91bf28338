"""What a board says, computed by other means: `python -m tests.oracle STORE SITE BOARD`.

A page that checks itself checks nothing, so this is written on NumPy, SciPy and scikit-learn alone, from the formulas of
docs/statistics.md: no line of the project is imported. From the stored predictions of binary tasks it computes AUROC by
fold and repeat, gains, differences, their errors (each group left out in turn, seeds crossed), the p-values and
intervals of every family, who shares a letter, and the claims' differences and slopes, and names each number of
<board>.csv, -contrasts.csv and -claims.csv that is not the same.

Values are exact. The board leaves out blocks where there are above 400 groups and draws its own bootstrap, so an error
is the same to WIDTH, which bounds interval and p.
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
WIDTH = 0.06  # relative: of an error
DRAWS, CORRECTED = 1000, 200_000  # bootstrap draws of an error; normal vectors of a family
LEVEL, CHANCE = 0.95, 0.5


class Number(NamedTuple):
    """A value per seed, with every group left out, and under bootstrap draws of groups."""

    values: np.ndarray  # (S,)
    left: np.ndarray  # (S, G)
    drawn: np.ndarray  # (S, B)
    plan: Plan

    def minus(self, other: Number) -> Number:
        return combined([self, other], [1, -1])


class Plan(NamedTuple):
    """How groups are left out and drawn."""

    strata: np.ndarray  # (G,)
    counts: np.ndarray  # (B, G)


class Found(NamedTuple):
    value: float
    error: float
    freedom: float
    of_groups: float  # share of the squared error
    effect: np.ndarray  # (G,) of leaving out each group, mean over seeds

    @property
    def p(self) -> float:
        return float(2 * stats.t.sf(abs(self.value) / self.error, self.freedom))


def combined(parts: Sequence[Number], factors: Sequence[float]) -> Number:
    sums = (sum(f * part[place] for f, part in zip(factors, parts, strict=True)) for place in range(3))
    return Number(*sums, parts[0].plan)


def plan(keys: Sequence[tuple]) -> Plan:
    """keys: of each group, its label in every task that counts."""
    _, strata, sizes = np.unique(keys, axis=0, return_inverse=True, return_counts=True)
    assert sizes.min() >= 5, "strata that the board would join"
    counts, rng = np.zeros((DRAWS, len(keys))), np.random.default_rng(17)
    for stratum, size in enumerate(sizes):
        counts[:, strata.reshape(-1) == stratum] = rng.multinomial(size, np.full(size, 1 / size), DRAWS)
    return Plan(strata.reshape(-1), counts)


def auroc(cells: Sequence[pd.DataFrame], how: Plan) -> Number:
    """cells: predictions of each seed. Mean over folds, then over repeats; a fold's AUROC is a quotient of sums over
    pairs of groups."""
    names = np.unique(cells[0]["group"])
    size = len(names)
    alike = how.strata[:, None] == how.strata
    left = 1 + alike / (alike.sum(1)[:, None] - 1) - np.eye(size) * (1 + 1 / (alike.sum(1)[:, None] - 1))
    weights, rows, values = np.concatenate([left, how.counts]), [], []
    for cell in cells:
        repeats = []
        for _, repeat in cell.groupby("repeat"):
            folds = [_fold(fold, names, weights) for _, fold in repeat.groupby("fold")]
            repeats.append(np.mean(folds, axis=0))
        mean = np.mean(repeats, axis=0)
        values.append(mean[0])
        rows.append(mean[1:])
    rows = np.array(rows)
    return Number(np.array(values), rows[:, :size], rows[:, size:], how)


def _fold(fold: pd.DataFrame, names: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """AUROC of a fold, then under each row of weights; the first by scikit-learn."""
    place, label = np.searchsorted(names, fold["group"]), fold["label"].to_numpy()
    score = np.stack(fold["scores"])[:, 1]
    above = (score[label == 1, None] > score[label == 0]) + 0.5 * (score[label == 1, None] == score[label == 0])
    up, down = (np.eye(len(names))[place[label == which]] for which in (1, 0))
    won = np.einsum("bg,bg->b", weights @ (up.T @ above @ down), weights)
    return np.r_[roc_auc_score(label, score), won / ((weights @ up.sum(0)) * (weights @ down.sum(0)))]


def estimate(number: Number) -> Found:
    """docs/statistics.md: the stratified jackknife, its interaction taken out once, crossed with seeds."""
    seeds, strata = len(number.values), number.plan.strata
    effect, explained, parts = np.empty_like(number.left), np.zeros_like(number.drawn), []
    for stratum in np.unique(strata):
        here = strata == stratum
        size = here.sum()
        change = number.left[:, here].mean(1, keepdims=True) - number.left[:, here]
        effect[:, here] = change * np.sqrt((size - 1) / size)
        explained += (size - 1) / size * change @ number.plan.counts[:, here].T
        parts.append((effect[:, here] @ effect[:, here].T, size - 1))
    total = sum(np.trace(part) for part, _ in parts)
    twice = (number.drawn - explained).var(axis=1, ddof=1).sum()
    scale = 1 - min(twice / total, 0.5)
    between = ~np.eye(seeds, dtype=bool) if seeds > 1 else np.ones((1, 1), dtype=bool)
    shared = [(scale * part[between].mean(), freedom) for part, freedom in parts]
    groups = max(sum(one for one, _ in shared), 0)
    spread = number.values.var(ddof=1) / seeds if seeds > 1 else 0.0
    crossed = max(scale * total / seeds - groups, 0) if seeds > 1 else 0.0
    squares = groups**2 / (groups**2 / sum(one**2 / freedom for one, freedom in shared)) if groups else 0.0
    error = groups + spread
    own = max(spread * seeds - crossed, 0) / seeds  # of the seeds themselves
    return Found(
        value=number.values.mean(),
        error=np.sqrt(error),
        freedom=error**2 / (squares + spread**2 / max(seeds - 1, 1)),
        of_groups=1 - own / error,
        effect=effect.mean(0),
    )


def family(members: Sequence[tuple[str, Found]]) -> tuple[np.ndarray, float]:
    """The largest |Z| of normal vectors whose correlations are the members', sorted; and the p of its own at which an
    interval of the family ends. members: (the task whose groups they share, number)."""
    correlation = np.eye(len(members))
    for (a, (task, one)), (b, (of, other)) in combinations(enumerate(members), 2):
        if task == of:
            cosine = one.effect @ other.effect / np.sqrt((one.effect @ one.effect) * (other.effect @ other.effect))
            correlation[a, b] = correlation[b, a] = cosine * np.sqrt(one.of_groups * other.of_groups)
    normal = stats.multivariate_normal(np.zeros(len(members)), correlation, allow_singular=True, seed=5)
    largest = np.sort(np.abs(normal.rvs(CORRECTED).reshape(CORRECTED, -1)).max(1))
    return largest, float(2 * stats.norm.sf(np.quantile(largest, LEVEL)))


class Oracle:
    def __init__(self, store: Path, site: Path, board: str):
        self.tables = {part: pd.read_csv(site / f"{board}{part}.csv") for part in ("", "-contrasts", "-claims")}
        rows = self.tables[""]
        trained = rows[rows["kind"] == "trained"].drop_duplicates("encoder")
        runs = pd.concat(map(pd.read_parquet, sorted(store.rglob("runs.parquet")))).set_index("run")
        runs = runs[~runs.index.duplicated()]
        self.runs = {row.encoder: row.runs.split() for row in trained.itertuples()}
        twins = {f"untrained {name}": [runs.loc[run, "twin"] for run in ids] for name, ids in self.runs.items()}
        self.tasks = list(
            dict.fromkeys(trained_rows["task"] for _, trained_rows in rows[rows["title"] != MEAN].iterrows())
        )
        cells = _cells(store, {run for ids in [*self.runs.values(), *twins.values()] for run in ids}, self.tasks)
        labels = {task: next(iter(cells[task].values())).groupby("group")["label"].first() for task in self.tasks}
        own = {task: plan([(label,) for label in labels[task]]) for task in self.tasks}
        joint = plan(list(zip(*labels.values(), strict=True)))
        self.titles = dict(zip(rows["title"], rows["task"], strict=True))
        localities = pd.concat([pd.read_parquet(path) for path in sorted(store.rglob("locality.parquet"))] or [NONE])
        localities = localities[localities["modality"] == runs.loc[next(iter(self.runs.values()))[0], "modality"]]
        self.localities = dict(zip(localities["task"], localities["value"], strict=True))
        self.numbers = {
            (name, task, kind): auroc([cells[task][run] for run in ids], how)
            for name, ids in {**self.runs, **twins}.items()
            for task in self.tasks
            for kind, how in (("own", own[task]), ("joint", joint))
        }

    def difference(self, first: str, second: str, tasks: Sequence[str], factors: Sequence[float]) -> Found:
        kind = "own" if len(tasks) == 1 else "joint"
        parts = [self.numbers[first, t, kind].minus(self.numbers[second, t, kind]) for t in tasks]
        return estimate(combined(parts, factors))

    def wrong(self) -> Iterator[str]:
        """Every number of the tables that is not what it is found to be."""
        yield from self._scores()
        yield from self._contrasts()
        yield from self._claims()

    def _scores(self) -> Iterator[str]:
        rows = self.tables[""]
        for row in rows[(rows["kind"] == "trained") & (rows["title"] != MEAN)].itertuples():
            found = estimate(self.numbers[row.encoder, row.task, "own"])
            yield from _differs(f"{row.encoder}, {row.task}: score", row.score, found.value)
            slope = found.value * (1 - found.value)
            half = stats.t.ppf((1 + LEVEL) / 2, found.freedom) * found.error / slope
            low, high = (
                np.log(x / (1 - x)) - np.log(row.score / (1 - row.score)) for x in (row.score_low, row.score_high)
            )
            yield from _differs(
                f"{row.encoder}, {row.task}: interval of the score", (high - low) / 2, half, WIDTH * half
            )
            yield from _differs(f"{row.encoder}, {row.task}: middle of the score's interval", high + low, 0.0, 1e-6)

    def _contrasts(self) -> Iterator[str]:
        every = self.tables["-contrasts"].assign(twin=lambda rows: rows["second"].str.startswith("untrained "))
        gains = self.tables[""].set_index(["encoder", "title"])
        for (twin, mean), rows in every.groupby(["twin", every["title"] == MEAN]):
            found = []
            for row in rows.itertuples():
                tasks = self.tasks if mean else [row.task]
                factors = [1 / (1 - CHANCE) / len(tasks)] * len(tasks) if mean else [1.0]
                found.append((row.task, self.difference(row.first, row.second, tasks, factors)))
            largest, alone = family(found)
            for row, (_, one) in zip(rows.itertuples(), found, strict=True):
                name = f"{row.first} - {row.second}, {row.task}"
                half = stats.t.isf(alone / 2, one.freedom) * one.error
                yield from _interval(name, (row.difference, row.low, row.high), one.value, half)
                yield from _p(name, row.p, one, largest)
                shown = int(np.sign(row.difference)) * (row.p < 1 - LEVEL)
                if shown != (row.low > 0) - (row.high < 0):
                    yield f"{name}: p {row.p} and its interval disagree"
                if twin:
                    entry = gains.loc[row.first, row.title]
                    printed = (entry["gain"], entry["gain_low"], entry["gain_high"], entry["gain_p"], entry["verdict"])
                    if printed != (row.difference, row.low, row.high, row.p, row.verdict):
                        yield f"{name}: {printed} on the board"
                words = GAIN if twin else (f"{row.first} is ahead", "not shown to differ", f"{row.second} is ahead")
                if row.verdict != words[1 - shown]:
                    yield f"{name}: called {row.verdict}, is {words[1 - shown]}"
                if mean and not twin:
                    yield from self._letters(row, abs(shown) == 1)

    def _letters(self, row, differ: bool) -> Iterator[str]:
        """Two rows share a letter unless their difference over the tasks is shown."""
        letters = self.tables[""].set_index("encoder")["tie_group"].groupby("encoder").first()
        share = set(str(letters[row.first]).split()) & set(str(letters[row.second]).split())
        if bool(share) == differ:
            yield f"letters of {row.first} and {row.second}: {sorted(share)} shared, shown to differ: {differ}"

    def _claims(self) -> Iterator[str]:
        for row in self.tables["-claims"].dropna(subset="value").itertuples():
            first, second = row.pair.split(" − ")
            tasks = [self.titles[title] for title in row.tasks.split("; ")]
            factors = np.full(len(tasks), 1 / len(tasks))
            if row.measure.startswith("slope"):
                places = np.array([self.localities[task] for task in tasks])
                factors = np.linalg.lstsq(np.stack([np.ones(len(tasks)), places], 1), np.eye(len(tasks)), rcond=None)[
                    0
                ][1]
            one = self.difference(first, second, tasks, factors / (1 - CHANCE))
            half = stats.t.ppf((1 + LEVEL) / 2, one.freedom) * one.error
            yield from _interval(f"claim {row.claim}, {row.pair}", (row.value, row.low, row.high), one.value, half)


MEAN = "mean over tasks"
GAIN = ("above twin", "not shown above twin", "below twin")
NONE = pd.DataFrame({"modality": [], "task": [], "value": []})


def _cells(store: Path, runs: set[str], tasks: Sequence[str]) -> dict[str, dict[str, pd.DataFrame]]:
    """Task -> run -> predictions of the linear probe on the mean of patch tokens: clean, of the task's own protocol."""
    found: dict[str, dict[str, pd.DataFrame]] = {task: {} for task in tasks}
    for path in sorted(store.rglob("cells.parquet")):
        rows = pd.read_parquet(path)
        rows = rows[rows["run"].isin(runs) & rows["task"].isin(tasks) & rows["headline"] & (rows["metric"] == "auroc")]
        for row in rows[(rows["probe"] == "linear") & (rows["readout"] == "patches")].itertuples():
            seen = pd.read_parquet(path.with_name("predictions.parquet"), filters=[("cell", "==", row.cell)])
            seen = seen[(seen["corruption"] == "") & (seen["split_variant"] == row.protocol.partition("(")[0])]
            found[row.task][row.run] = seen.sort_values(["repeat", "fold", "sample"])
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
    ends = []
    for wider in (1 + WIDTH, 1 - WIDTH):
        own = one._replace(error=one.error * wider).p
        beyond = 1 - np.searchsorted(largest, stats.norm.isf(own / 2)) / len(largest)
        ends.append(max(beyond, own))
    chance = 4 * np.sqrt(max(ends) / len(largest)) + 1e-3
    if not ends[1] - chance <= printed <= ends[0] + chance:
        yield f"{name}: p printed {printed}, found from {ends[1]} to {ends[0]}"


if __name__ == "__main__":
    found = list(Oracle(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]).wrong())
    print("\n".join(found) or "the same")
    sys.exit(bool(found))
