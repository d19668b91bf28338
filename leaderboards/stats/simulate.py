"""How often the rules of a board are wrong, on simulated methods that are equal: `python -m leaderboards simulate`.

An image's score is δ·label·(1 + quality of the seed) plus Gaussian effects: of the patient and of the image, shared by
all methods, and of method × patient, seed × patient and seed × image. Methods are equal when all of these have the same
distribution; each has its own pretraining seeds. Where tasks share patients, half the variance of each effect of a
patient is common to the tasks. Every simulation goes through the code that makes a board. The rules that a board does
not use are here for comparison.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, combinations

import numpy as np
from scipy import stats

from leaderboards.stats.families import judge
from leaderboards.stats.intervals import LEVEL, estimate
from leaderboards.stats.resampling import (
    Predictions,
    Question,
    Resampled,
    draw_tasks,
    mean_over_tasks,
    select_seeds,
    subtract,
)
from leaderboards.stats.verdicts import GAIN

GROUPS, TASKS, SEEDS, METHODS = (20, 50, 200), (1, 3, 10), (1, 3, 5), (2, 3, 4)
FEW = (6, 11)  # groups, with which no verdict is printed
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
    shared: str = ""  # "patients": those of all tasks are the same; "labels": their labels too
    by_image: bool = False  # images are handled as groups


@dataclass(frozen=True, kw_only=True)
class Rate:
    """A share of simulations with its Monte Carlo standard error."""

    value: float
    error: float
    count: int  # simulations in which there was something to count


def rate(hits: Sequence[bool]) -> Rate:
    share = float(np.mean(hits)) if hits else np.nan
    return Rate(value=share, error=float(np.sqrt(share * (1 - share) / max(len(hits), 1))), count=len(hits))


def methods(setting: Setting, count: int, rng: np.random.Generator) -> list[list[list[Predictions]]]:
    """Predictions of equal methods: [task][method][seed]."""
    quality = 0.0 if setting.seeds == 1 else setting.quality / np.sqrt(2)
    everywhere = rng.normal(size=(count, setting.seeds)) * quality
    common = _of_patients(setting, count, rng) if setting.shared else None
    made = []
    for task in range(setting.tasks):
        own = _of_patients(setting, count, rng)
        effects = own if common is None else [(a + b) / np.sqrt(2) for a, b in zip(common, own, strict=True)]
        seeds = everywhere + rng.normal(size=(count, setting.seeds)) * quality
        made.append(_task(setting, seeds, effects, task if setting.shared == "patients" else 0, rng))
    return made


def _of_patients(setting: Setting, count: int, rng: np.random.Generator) -> list[np.ndarray]:
    """What a patient does to all methods, to each, and to each seed of each."""
    groups = setting.groups
    return [
        PATIENT * rng.normal(size=groups),
        METHOD * rng.normal(size=(count, 1, groups)),
        OWN * rng.normal(size=(count, setting.seeds, groups)),
    ]


def _task(
    setting: Setting, quality: np.ndarray, effects: Sequence[np.ndarray], turn: int, rng: np.random.Generator
) -> list[list[Predictions]]:
    """turn: how far the labels are turned round the patients."""
    groups, images, (count, seeds) = setting.groups, setting.images, quality.shape
    size, place = groups * images, np.repeat(np.arange(groups), images)
    positive = np.roll(np.arange(groups) < max(2, round(setting.share * groups)), turn * groups // 7)
    label = (rng.random(size) < setting.share if setting.mixed else positive[place]).astype(int)
    within = np.where(positive, np.cumsum(positive), np.cumsum(~positive)) - 1  # place within the label
    fold = (within % setting.folds)[place]
    offset = rng.normal(size=(count, seeds, setting.folds))[:, :, fold] * (setting.folds > 1)
    patient, method, own = effects
    risk = (
        setting.signal * (label - 0.5) * (1 + quality[:, :, None])
        + patient[place]
        + IMAGE * rng.normal(size=size)
        + method[:, :, place]
        + own[:, :, place]
        + NOISE * rng.normal(size=(count, seeds, size))
        + offset
    )
    group = np.char.add("p", np.char.zfill(place.astype(str), 4))
    sample = np.char.add(group, np.char.add("/", np.tile(np.arange(images), groups).astype(str)))
    order = np.lexsort((sample, fold))
    common = {"sample": sample, "group": sample if setting.by_image else group, "label": label}
    common |= {"repeat": np.zeros(size, dtype=int), "fold": fold}
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
    made = methods(setting, count, rng)
    asked = [
        Question(task=str(n), metric=setting.metric, family="" if setting.shared else str(n), independent=True)
        for n in range(setting.tasks)
    ]
    found = draw_tasks({one: task[0][0] for one, task in zip(asked, made, strict=True)}, draws)
    return [
        [found[one].resample(range(setting.seeds), task[method], one) for one, task in zip(asked, made, strict=True)]
        for method in range(count)
    ]


def _over(parts: Sequence[Resampled]) -> Resampled:
    return mean_over_tasks(parts, [1.0] * len(parts)) if len(parts) > 1 else parts[0]


Members = dict[tuple[int, ...], list[Resampled]]  # the methods of a difference -> the difference on each task


def gains(parts: Sequence[Sequence[Resampled]]) -> Members:
    """All methods but the last less the last, their common twin."""
    return {(place,): _minus(one, parts[-1]) for place, one in enumerate(parts[:-1])}


def pairs(parts: Sequence[Sequence[Resampled]]) -> Members:
    """All methods but the last less each other."""
    return {(a, b): _minus(parts[a], parts[b]) for a, b in combinations(range(len(parts) - 1), 2)}


def _minus(one: Sequence[Resampled], other: Sequence[Resampled]) -> list[Resampled]:
    return [subtract(a, b) for a, b in zip(one, other, strict=True)]


FAMILIES = {"gains": gains, "pairs": pairs}
SCOPES = ("on", "over")  # a family of the differences on every task, or of their means over the tasks


def false_verdict(members: Sequence[Resampled]) -> list[bool]:
    """Whether a family of equal methods has any verdict of a difference; nothing where the board prints none in it."""
    shown = [one.shown for one in judge(members, [GAIN] * len(members)) if one.shown is not None]
    return [any(shown)] if shown else []


def family_rates(setting: Setting, simulations: int, rng: np.random.Generator) -> dict[tuple, Rate]:
    """Families with a false verdict, by (kind, scope, methods, tasks, seeds); scope: "on" all tasks, or "over" them.

    A simulation of the most methods, tasks and seeds serves all smaller numbers: ten tasks are ten times one task and
    three times three, so that those rates rest on as many more families. Over the tasks the members are means.
    """
    hits: dict[tuple, list[bool]] = {}
    for _ in range(simulations):
        for simulated, counts in ((1, (1,)), (max(SEEDS), SEEDS[1:])):
            parts = _by_task(replace(setting, seeds=simulated), max(METHODS) + 1, VERDICT_DRAWS, rng)
            for seeds in counts:
                some = [[select_seeds(number, *range(seeds)) for number in method] for method in parts]
                for kind, members in FAMILIES.items():
                    found = members(some)
                    for tasks in (one for one in TASKS if one <= setting.tasks):
                        for start in range(0, setting.tasks - tasks + 1, tasks):
                            on = {names: each[start : start + tasks] for names, each in found.items()}
                            over = {names: [_over(each)] for names, each in on.items()}
                            for scope, numbers in (("on", on), ("over", over)):
                                for count in METHODS:
                                    within = [each for names, each in numbers.items() if max(names) < count]
                                    place = (kind, scope, count, tasks, seeds)
                                    hits.setdefault(place, []).extend(false_verdict([*chain.from_iterable(within)]))
    return {place: rate(some) for place, some in hits.items()}


def pairs_rate(setting: Setting, simulations: int, rng: np.random.Generator, count: int = 3) -> Rate:
    """How often the pairs of some equal methods on every task, a family together, have a false verdict: of three on one
    task as on a board, of two on all tasks as a run and its twin on their page."""
    hits: list[bool] = []
    for _ in range(simulations):
        found = _by_task(setting, count, VERDICT_DRAWS, rng)
        hits += false_verdict([each for a, b in combinations(found, 2) for each in _minus(a, b)])
    return rate(hits)


def compared(setting: Setting, simulations: int, rng: np.random.Generator) -> dict[str, Rate]:
    """How often each rule calls two equal methods different."""
    found = [subtract(*numbers(setting, 2, COMPARED, rng)) for _ in range(simulations)]
    return {name: rate([not covers(rule(one), 0.0) for one in found]) for name, rule in RULES.items()}


def coverage(setting: Setting, simulations: int, rng: np.random.Generator) -> dict[str, Rate]:
    """How often the interval of an AUROC, by each rule, holds the true one."""
    found = [numbers(setting, 1, COMPARED, rng)[0] for _ in range(simulations)]
    intervals = {name: [rule(one) for one in found] for name, rule in SCORE_RULES.items()}
    true = truth(setting)
    return {name: rate([covers(one, true) for one in some if one is not None]) for name, some in intervals.items()}


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

    yield "Families of equal methods with a false verdict: on one, three or ten separate tasks, or over them:"
    yield from _head("family", [f"{_count(t, 'task')}, {_count(s, 'seed')}" for t in TASKS for s in SEEDS])
    for groups in GROUPS:
        yield from _families(f"{groups} groups", Setting(groups=groups, tasks=max(TASKS)), simulations, rng(1, groups))

    yield "\nThe same over three tasks that share patients:"
    yield from _head("family", [_count(s, "seed") for s in SEEDS])
    for shared, name in (("patients", "labels of their own"), ("labels", "the same labels")):
        for groups in GROUPS[:2]:
            setting = Setting(groups=groups, tasks=3, shared=shared)
            found = family_rates(setting, simulations, rng(2, groups, len(shared)))
            for kind in FAMILIES:
                for scope in SCOPES:
                    cells = [percent(found[kind, scope, 3, 3, s]) for s in SEEDS]
                    yield _line(f"{kind} of 3 methods {scope} the tasks, {groups} groups, {name}", cells)

    yield "\nThe gains of one run on every task, a family of their own:"
    yield from _head("tasks", [f"{groups} groups" for groups in GROUPS[:2]])
    for shared, name in (("", "separate"), ("patients", "of the same patients"), ("labels", "of the same labels too")):
        for tasks in TASKS[1:]:
            settings = [Setting(groups=groups, tasks=tasks, shared=shared) for groups in GROUPS[:2]]
            rates = [pairs_rate(one, simulations, rng(3, one.groups, tasks, len(shared)), count=2) for one in settings]
            yield _line(f"{tasks}, {name}", map(percent, rates))

    yield "\nPairs of three equal methods on one task, one seed unless said (in brackets: families with a verdict):"
    yield from _head("setting", [f"{groups} groups" for groups in GROUPS[:2]])
    for place, (name, changes) in enumerate(HARDER.items()):
        rates = [pairs_rate(Setting(groups=g, **changes), simulations, rng(4, g, place)) for g in GROUPS[:2]]
        yield _line(name, (f"{percent(one)} ({one.count / simulations:.0%})" for one in rates))

    yield "\nImages as groups: two equal methods, one task, one seed, 50 patients of 20 images:"
    yield from _head("groups are", ["a false verdict"])
    for by_image in (False, True):
        setting = Setting(groups=50, images=20, by_image=by_image)
        found = pairs_rate(setting, max(simulations // 4, 2), rng(5, by_image), count=2)
        yield _line("images" if by_image else "patients", [percent(found)])

    yield "\nTwo methods come out different by other rules, one task (in brackets: no verdict is printed there):"
    yield from _head("groups, seeds", list(RULES))
    for seeds in (1, 5):
        for groups in (*FEW, *GROUPS):
            rates = compared(Setting(groups=groups, seeds=seeds), simulations, rng(6, groups, seeds))
            name = f"{groups}, {seeds}"
            yield _line(f"({name})" if groups in FEW else name, map(percent, rates.values()))

    yield "\nThe interval of an AUROC holds the true one, one seed:"
    yield from _head("groups, AUROC", list(SCORE_RULES))
    for signal in (SIGNAL, 2.5):
        for groups in (*FEW, *GROUPS):
            setting = Setting(groups=groups, signal=signal)
            rates = coverage(setting, simulations, rng(7, groups, round(100 * signal)))
            yield _line(f"{groups}, {truth(setting):.2f}", map(percent, rates.values()))


def _families(name: str, setting: Setting, simulations: int, rng: np.random.Generator) -> Iterator[str]:
    found = family_rates(setting, simulations, rng)
    for kind in FAMILIES:
        for count in METHODS:
            for scope in SCOPES:
                cells = [percent(found[kind, scope, count, tasks, seeds]) for tasks in TASKS for seeds in SEEDS]
                yield _line(f"{kind} of {count} methods {scope} the tasks, {name}", cells)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number > 1)}"


def percent(one: Rate) -> str:
    return f"{100 * one.value:.1f} %" if one.count else "–"


def _head(first: str, names: Sequence[str]) -> Iterator[str]:
    yield ""
    yield _line(first, names)
    yield _line("---", ["---"] * len(names))


def _line(first: str, cells: Iterable[str]) -> str:
    return f"| {' | '.join([first, *cells])} |"
