"""How often the rules of a board are wrong, on simulated methods that are equal: `python -m leaderboards simulate`.

An image's score is δ·label·(1 + quality of the seed) plus Gaussian effects: of the patient and of the image, shared by
both methods, and of method × patient, seed × patient and seed × image. Two methods are equal when all of these have
the same distribution; each has its own pretraining seeds. Every simulation goes through the code that makes a board.
The rules that a board does not use are here for comparison.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from scipy import stats

from leaderboards.ranking import holm
from leaderboards.statistics import (
    ABOVE,
    BELOW,
    INTERVAL_GROUPS,
    LEVEL,
    NOT_SHOWN,
    Predictions,
    Resampled,
    draw,
    estimate,
    mean,
    minus,
    p_value,
    resample,
    verdict,
)

GROUPS, TASKS, SEEDS = (6, 11, 20, 50, 200), (1, 3, 10), (1, 3, 5)
PATIENT, IMAGE, METHOD, OWN, NOISE = 0.5, 0.5, 0.6, 0.3, 0.6  # standard deviations of the effects, in scores
QUALITY = 0.15  # standard deviation of a seed's quality, half of it the task's own: about 0.02 in AUROC
SIGNAL = 1.1  # δ: AUROC 0.75
COMPARED, VERDICT_DRAWS = 500, 100  # bootstrap draws of the rules that are compared, and of the board's own rule


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What is simulated."""

    groups: int  # per task
    tasks: int = 1
    seeds: int = 1  # pretraining seeds per method
    quality: float = QUALITY  # 0: the seeds of a method are equally good; of a single seed always
    images: int = 4  # per group
    share: float = 0.5  # of groups with label 1
    mixed: bool = False  # labels differ within groups
    folds: int = 1  # of a grouped cross-validation
    metric: str = "auroc"
    signal: float = SIGNAL


@dataclass(frozen=True, kw_only=True)
class Rate:
    """A share of simulations with its Monte Carlo standard error."""

    value: float
    error: float
    count: int  # simulations in which there was something to count


def rate(hits: Sequence[bool]) -> Rate:
    hits = np.asarray(hits, dtype=float)
    share = float(hits.mean()) if len(hits) else np.nan
    error = float(np.sqrt(share * (1 - share) / len(hits))) if len(hits) else np.nan
    return Rate(value=share, error=error, count=len(hits))


def methods(setting: Setting, count: int, rng: np.random.Generator) -> list[list[list[Predictions]]]:
    """Predictions of equal methods: [task][method][seed]."""
    quality = 0.0 if setting.seeds == 1 else setting.quality / np.sqrt(2)
    everywhere = rng.normal(size=(count, setting.seeds)) * quality
    return [
        _task(setting, everywhere + rng.normal(size=(count, setting.seeds)) * quality, rng)
        for _ in range(setting.tasks)
    ]


def _task(setting: Setting, quality: np.ndarray, rng: np.random.Generator) -> list[list[Predictions]]:
    groups, images, (count, seeds) = setting.groups, setting.images, quality.shape
    size, place = groups * images, np.repeat(np.arange(groups), images)
    positive = np.arange(groups) < max(2, round(setting.share * groups))
    label = (rng.random(size) < setting.share if setting.mixed else positive[place]).astype(int)
    within = np.where(positive, np.arange(groups), np.arange(groups) - positive.sum())  # place within the label
    fold = (within % setting.folds)[place]
    offset = rng.normal(size=(count, seeds, setting.folds))[:, :, fold] * (setting.folds > 1)
    risk = (
        setting.signal * (label - 0.5) * (1 + quality[:, :, None])
        + (PATIENT * rng.normal(size=groups))[place]
        + IMAGE * rng.normal(size=size)
        + (METHOD * rng.normal(size=(count, 1, groups)))[:, :, place]
        + (OWN * rng.normal(size=(count, seeds, groups)))[:, :, place]
        + NOISE * rng.normal(size=(count, seeds, size))
        + offset
    )
    group = np.char.add("p", np.char.zfill(place.astype(str), 4))
    sample = np.char.add(group, np.char.add("/", np.tile(np.arange(images), groups).astype(str)))
    order = np.lexsort((sample, fold))
    common = {"sample": sample, "group": group, "label": label, "repeat": np.zeros(size, dtype=int), "fold": fold}
    common = {name: column[order] for name, column in common.items()}
    return [[Predictions(scores=np.c_[-r, r][order], **common) for r in one] for one in risk]


def truth(setting: Setting) -> float:
    """AUROC of a method on infinitely many groups; labels by group, one seed."""
    spread = 2 * (PATIENT**2 + IMAGE**2 + METHOD**2 + OWN**2 + NOISE**2)
    return float(stats.norm.cdf(setting.signal / np.sqrt(spread)))


def numbers(setting: Setting, count: int, draws: int, rng: np.random.Generator) -> list[Resampled]:
    """The mean over tasks of each of some equal methods, as a board would compute it."""
    return [_over(parts) for parts in _by_task(setting, count, draws, rng)]


def _by_task(setting: Setting, count: int, draws: int, rng: np.random.Generator) -> list[list[Resampled]]:
    """[method][task]"""
    parts: list[list[Resampled]] = [[] for _ in range(count)]
    for task in methods(setting, count, rng):
        shared = draw([task[0][0]], draws, seed=int(rng.integers(2**31)))
        for method, predictions in enumerate(task):
            parts[method].append(resample(range(setting.seeds), predictions, setting.metric, shared))
    return parts


def _over(parts: Sequence[Resampled]) -> Resampled:
    return mean(parts, [1.0] * len(parts)) if len(parts) > 1 else parts[0]


def _first_seeds(number: Resampled, count: int) -> Resampled:
    return replace(
        number,
        seeds=number.seeds[:count],
        values=number.values[:count],
        draws=number.draws[:count],
        moved={draws: moved[:count] for draws, moved in number.moved.items()},
    )


def shown_different(setting: Setting, simulations: int, rng: np.random.Generator) -> Rate:
    """How often two equal methods come out different where the board prints a verdict."""
    hits: list[bool] = []
    for _ in range(simulations):
        a, b = numbers(setting, 2, VERDICT_DRAWS, rng)
        hits += _different(minus(a, b))
    return rate(hits)


def _different(number: Resampled) -> list[bool]:
    """Whether the board calls this a difference; nothing where it prints no verdict for its headroom. Under 20 groups,
    where it prints none at all: whether the interval would leave out zero."""
    if number.groups < INTERVAL_GROUPS:
        return [not covers(crossed(number), 0.0)]
    said = verdict(estimate(number))
    return [said in (ABOVE, BELOW)] if said in (ABOVE, NOT_SHOWN, BELOW) else []


def main_rates(groups: int, simulations: int, rng: np.random.Generator) -> dict[tuple[int, int], Rate]:
    """`shown_different` by (tasks, seeds): one simulation of the most tasks and seeds serves all smaller numbers.

    Ten tasks are ten times one task and three times three, so these rates rest on as many more comparisons.
    """
    hits: dict[tuple[int, int], list[bool]] = {(tasks, seeds): [] for tasks in TASKS for seeds in SEEDS}
    for _ in range(simulations):
        for simulated, counts in ((1, (1,)), (max(SEEDS), SEEDS[1:])):
            a, b = _by_task(Setting(groups=groups, tasks=max(TASKS), seeds=simulated), 2, VERDICT_DRAWS, rng)
            for seeds in counts:
                differences = [minus(*(_first_seeds(one, seeds) for one in pair)) for pair in zip(a, b, strict=True)]
                for tasks in TASKS:
                    for start in range(0, max(TASKS) - tasks + 1, tasks):
                        hits[tasks, seeds] += _different(_over(differences[start : start + tasks]))
    return {place: rate(some) for place, some in hits.items()}


def compared(setting: Setting, simulations: int, rng: np.random.Generator) -> dict[str, Rate]:
    """How often each rule calls two equal methods different."""
    hits: dict[str, list[bool]] = {name: [] for name in RULES}
    for _ in range(simulations):
        a, b = numbers(setting, 2, COMPARED, rng)
        for name, rule in RULES.items():
            hits[name].append(not covers(rule(minus(a, b)), 0.0))
    return {name: rate(some) for name, some in hits.items()}


def family_error(setting: Setting, count: int, simulations: int, rng: np.random.Generator) -> Rate:
    """How often any two of some equal methods come out different, after Holm."""
    hits = []
    for _ in range(simulations):
        found = numbers(setting, count, VERDICT_DRAWS, rng)
        p_values = [p_value(estimate(minus(a, b))) for a, b in combinations(found, 2)]
        hits.append(min(holm(p_values)) < 1 - LEVEL)
    return rate(hits)


def coverage(setting: Setting, simulations: int, rng: np.random.Generator) -> dict[str, Rate]:
    """How often the interval of an AUROC, by each rule, holds the true one."""
    hits: dict[str, list[bool]] = {name: [] for name in SCORE_RULES}
    for _ in range(simulations):
        (number,) = numbers(setting, 1, COMPARED, rng)
        for name, rule in SCORE_RULES.items():
            found = rule(number)
            hits[name] += [covers(found, truth(setting))] if found is not None else []
    return {name: rate(some) for name, some in hits.items()}


def covers(interval: tuple[float, float] | None, value: float) -> bool:
    """Whether a value lies in an interval; where there is none, nothing contradicts it."""
    return interval is None or interval[0] <= value <= interval[1]


def _at_any_size(number: Resampled) -> Resampled:
    """The same number, as if no rule forbade an interval."""
    return replace(number, groups=10**6)


def crossed(number: Resampled) -> tuple[float, float] | None:
    """The rule of the board."""
    found = estimate(_at_any_size(number))
    return None if found.low is None or found.high is None else (found.low, found.high)


def crossed_plain(number: Resampled) -> tuple[float, float] | None:
    """The rule of the board without the logit scale."""
    return crossed(replace(number, bounded=False))


def percentile(number: Resampled) -> tuple[float, float]:
    """Percentiles of the draws of the mean over seeds: groups alone."""
    drawn = number.draws.mean(0)
    return tuple(np.nanquantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]))


def accelerated(number: Resampled) -> tuple[float, float]:
    """BCa of the mean over seeds (Efron 1987), its acceleration from the groups left out: groups alone."""
    drawn, value = number.draws.mean(0), number.values.mean()
    drawn = drawn[np.isfinite(drawn)]
    below = ((drawn < value).sum() + (drawn == value).sum() / 2) / len(drawn)
    bias = stats.norm.ppf(np.clip(below, 1 / (2 * len(drawn)), 1 - 1 / (2 * len(drawn))))
    (moved,) = number.moved.values()
    left = moved.mean(0) - moved.mean()
    cubes, squares = (left**3).sum(), (left**2).sum()
    skew = -cubes / (6 * squares**1.5) if squares > 0 else 0.0
    edges = bias + stats.norm.ppf([(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return tuple(np.quantile(drawn, stats.norm.cdf(bias + edges / (1 - skew * edges))))


def expanded(number: Resampled) -> tuple[float, float]:
    """Expanded percentiles (Hesterberg 2015), and the seeds' t limits added in squares: the board's former rule."""
    drawn, value, seeds = number.draws.mean(0), number.values.mean(), len(number.seeds)
    (shared,) = number.moved
    freedom = len(shared.groups) - len(np.unique(shared.stratum))
    tail = stats.norm.cdf(-np.sqrt(len(shared.groups) / freedom) * stats.t.ppf((1 + LEVEL) / 2, freedom))
    low, high = np.nanquantile(drawn, [tail, 1 - tail])
    half = stats.t.ppf((1 + LEVEL) / 2, seeds - 1) * number.values.std(ddof=1) / np.sqrt(seeds) if seeds > 1 else 0.0
    return value - np.hypot(max(value - low, 0), half), value + np.hypot(max(high - value, 0), half)


RULES = {
    "percentile, groups alone": percentile,
    "BCa, groups alone": accelerated,
    "expanded percentile and MOVER": expanded,
    "crossed t (the board's)": crossed,
}
SCORE_RULES = {
    "percentile": percentile,
    "BCa": accelerated,
    "t": crossed_plain,
    "t on the logit scale (the board's)": crossed,
}
HARDER: dict[str, dict] = {
    "AUROC .64": {"signal": 0.6},
    "AUROC .87": {"signal": 1.8},
    "AUROC .94": {"signal": 2.5},
    "AUROC .98": {"signal": 3.2},
    "one image a group": {"images": 1},
    "a fifth of the groups positive": {"share": 0.2},
    "a tenth of the groups positive": {"share": 0.1},
    "labels mixed within groups": {"mixed": True},
    "five folds": {"folds": 5},
    "balanced accuracy": {"metric": "balanced_accuracy"},
    "macro F1": {"metric": "macro_f1"},
    "two seeds": {"seeds": 2},
    "five seeds, equally good": {"seeds": 5, "quality": 0.0},
    "five seeds, twice as unequal": {"seeds": 5, "quality": 2 * QUALITY},
    "ten seeds": {"seeds": 10},
}


def report(simulations: int, seed: int) -> Iterator[str]:
    """The tables of docs/statistics.md, line by line."""

    def rng(*place: int) -> np.random.Generator:
        return np.random.default_rng([seed, *place])

    yield "Two equal methods come out different (rows in brackets: would, but no verdict is printed there):"
    yield from _head("groups", [f"{t} task{'s' * (t > 1)}, {s} seed{'s' * (s > 1)}" for t in TASKS for s in SEEDS])
    for groups in GROUPS:
        count = simulations if groups < 200 else max(simulations // 2, 2)
        rates = main_rates(groups, count, rng(1, groups))
        yield _line(str(groups) if groups >= INTERVAL_GROUPS else f"({groups})", map(percent, rates.values()))

    yield "\nThe same by other rules, one task:"
    yield from _head("groups, seeds", list(RULES))
    for seeds in (1, 5):
        for groups in GROUPS:
            rates = compared(Setting(groups=groups, seeds=seeds), simulations, rng(2, groups, seeds))
            yield _line(f"{groups}, {seeds}", map(percent, rates.values()))

    yield "\nOther settings, one task, one seed unless said (in brackets: simulations with a verdict):"
    sizes = [groups for groups in GROUPS if INTERVAL_GROUPS <= groups < 200]
    yield from _head("setting", [f"{groups} groups" for groups in sizes])
    for place, (name, changes) in enumerate(HARDER.items()):
        rates = [shown_different(Setting(groups=g, **changes), 2 * simulations, rng(3, g, place)) for g in sizes]
        yield _line(name, (f"{percent(one)} ({one.count / (2 * simulations):.0%})" for one in rates))

    yield "\nAny two of three equal methods come out different after Holm, three tasks:"
    yield from _head("groups", [f"{seeds} seed{'s' * (seeds > 1)}" for seeds in SEEDS])
    for groups in sizes:
        families = [
            family_error(Setting(groups=groups, tasks=3, seeds=s), 3, simulations, rng(4, groups, s)) for s in SEEDS
        ]
        yield _line(str(groups), map(percent, families))

    yield "\nThe interval of an AUROC holds the true one, one seed:"
    yield from _head("groups, AUROC", list(SCORE_RULES))
    for signal in (SIGNAL, 2.5):
        for groups in GROUPS:
            setting = Setting(groups=groups, signal=signal)
            rates = coverage(setting, 2 * simulations, rng(5, groups, round(100 * signal)))
            yield _line(f"{groups}, {truth(setting):.2f}", map(percent, rates.values()))


def percent(one: Rate) -> str:
    return f"{100 * one.value:.1f} %" if one.count else "–"


def _head(first: str, names: Sequence[str]) -> Iterator[str]:
    yield ""
    yield _line(first, names)
    yield _line("---", ["---"] * len(names))


def _line(first: str, cells: Iterable[str]) -> str:
    return f"| {' | '.join([first, *cells])} |"
