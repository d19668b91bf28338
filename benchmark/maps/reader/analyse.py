"""What the answers of all readers say. The unit of every interval is the case, one a patient: each is left out in turn,
readers kept, with Student's t; under 20 cases there is the value only, under 50 no ranking.

Repeats and practice are left out of everything but the agreement of a reader with themselves. "spurious" is turned
round (6 - answer), so that high is good in all. Strengths of the choices are Bradley-Terry's (`choix`), with 0 their
mean, and a weak prior so that an arm which always wins stays finite; agreement is Krippendorff's alpha
(`krippendorff`) and the intraclass correlations ICC(2,1) and ICC(2,k) (`pingouin`; Koo and Li 2016).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations

import choix
import krippendorff
import numpy as np
import pandas as pd
import pingouin
from matplotlib.figure import Figure
from scipy import stats

from benchmark.maps.reader.design import CONTROLS
from benchmark.maps.reader.pack import Pack
from benchmark.metrics import INTERVAL_GROUPS, LEVEL, RANKED_GROUPS

PRIOR = 0.1
SUPPORT = 0.4  # alpha under which ratings support no ranking
RATINGS = ("relevance", "spurious")
LEVELS = {"relevance": "ordinal", "spurious": "ordinal", "choice": "nominal"}


@dataclass(frozen=True, kw_only=True)
class Found:
    value: float
    low: float | None  # 95 %, cases left out in turn; None under 20
    high: float | None

    def __str__(self) -> str:
        ends = "" if self.low is None else f" [{self.low:.2f}, {self.high:.2f}]"
        return f"{self.value:.2f}{ends}".replace("-", "−")


@dataclass(frozen=True, kw_only=True)
class Report:
    readers: tuple[str, ...]
    cases: int
    answers: int
    unsure: int  # of them, "cannot judge"
    alpha: dict[str, Found]  # by question
    icc: dict[str, tuple[tuple[str, Found], ...]]  # by question: ICC(2,1) and ICC(2,k)
    itself: dict[
        str, tuple[float, int]
    ]  # by question: mean absolute change of a repeat (choice: share changed), repeats
    means: dict[str, dict[str, Found]]  # by question, by arm, high is good
    strengths: dict[str, Found]  # by arm
    differences: dict[tuple[str, str], Found]  # of the strengths
    primary: tuple[str, str]

    def supports(self, question: str) -> bool:
        """Whether there are cases enough, and readers who agree enough on a question, to rank by it."""
        agree = question in self.alpha and self.alpha[question].value >= SUPPORT
        return agree and self.cases >= RANKED_GROUPS


def analyse(rows: pd.DataFrame, pack: Pack) -> Report:
    """rows: those of `answers.read` of all readers. Raises ValueError where nothing is answered."""
    rows = rows[~rows["practice"]].copy()
    if rows["answer"].notna().sum() == 0:
        raise ValueError("no answer but practice and `cannot judge`: nothing to analyse")
    rows["answer"] = rows["answer"].where(rows["question"] != "spurious", 6 - rows["answer"])
    main = rows[rows["repeats"] == ""].copy()
    main["place"] = pd.factorize(main["case"])[0]
    count = int(main["place"].max()) + 1
    arms = [*pack.about["arms"], *pack.about["controls"]]
    asked = [question for question in LEVELS if (main["question"] == question).any()]

    def interval(of: Callable[[np.ndarray], np.ndarray]) -> list[Found]:
        """of: counts (cases,) -> statistics (K,)"""
        value = of(np.ones(count, int))
        if count < INTERVAL_GROUPS:
            return [Found(value=v, low=None, high=None) for v in value.tolist()]
        left = np.array([of(one) for one in 1 - np.eye(count, dtype=int)])
        spread = np.nansum((left - np.nanmean(left, axis=0)) ** 2, axis=0)
        half = stats.t.ppf((1 + LEVEL) / 2, count - 1) * np.sqrt((count - 1) / count * spread)
        bounds = zip(value.tolist(), (value - half).tolist(), (value + half).tolist(), strict=True)
        return [Found(value=v, low=low, high=high) for v, low, high in bounds]

    means = {}
    for question in (one for one in asked if one in RATINGS):
        some = main[(main["question"] == question) & main["answer"].notna()]
        shown = [arm for arm in arms if (some["arm"] == arm).any()]
        found = interval(lambda w, some=some, shown=shown: _means(some, shown, w))
        means[question] = dict(zip(shown, found, strict=True))
    chosen = main[(main["question"] == "choice") & main["answer"].notna()]
    shown = [arm for arm in arms if ((chosen["arm"] == arm) | (chosen["other"] == arm)).any()]
    strengths, differences = {}, {}
    if len(shown) > 1:
        both = list(combinations(range(len(shown)), 2))
        found = interval(lambda w: _strengths(chosen, shown, w, both))
        strengths = dict(zip(shown, found[: len(shown)], strict=True))
        differences = {(shown[a], shown[b]): one for (a, b), one in zip(both, found[len(shown) :], strict=True)}
    readers = tuple(sorted(rows["reader"].unique()))
    units = {question: _units(main, question, readers) for question in asked}
    alpha = {}
    for question, (table, places) in units.items():
        if len(readers) > 1:
            (alpha[question],) = interval(
                lambda w, t=table, p=places, q=question: np.array([_alpha(np.repeat(t, w[p], axis=1), LEVELS[q])])
            )
    return Report(
        readers=readers,
        cases=count,
        answers=len(rows),
        unsure=int(rows["answer"].isna().sum()),
        alpha=alpha,
        icc={q: _icc(units[q][0]) for q in asked if q in RATINGS and len(readers) > 1},
        itself={q: _itself(rows[rows["question"] == q]) for q in asked},
        means=means,
        strengths=strengths,
        differences=differences,
        primary=tuple(pack.about["primary"]),
    )


def _means(rows: pd.DataFrame, arms: Sequence[str], weights: np.ndarray) -> np.ndarray:
    """(arms,) means of the answers, cases weighted."""
    weight = weights[rows["place"]]
    return np.array(
        [
            np.average(rows["answer"], weights=w) if (w := weight * (rows["arm"] == arm)).sum() else np.nan
            for arm in arms
        ]
    )


def _strengths(
    rows: pd.DataFrame, arms: Sequence[str], weights: np.ndarray, both: Sequence[tuple[int, int]]
) -> np.ndarray:
    """(arms,) strengths, then the differences of every two."""
    place = {arm: number for number, arm in enumerate(arms)}
    left, right = rows["arm"].map(place).to_numpy(), rows["other"].map(place).to_numpy()
    won = rows["answer"].to_numpy() == 1
    counts = np.zeros((len(arms), len(arms)))  # [winner, loser]
    np.add.at(counts, (np.where(won, left, right), np.where(won, right, left)), weights[rows["place"]])
    found = choix.ilsr_pairwise_dense(counts, alpha=PRIOR, max_iter=1000)
    return np.concatenate([found, [found[a] - found[b] for a, b in both]])


def _units(rows: pd.DataFrame, question: str, readers: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Answers (readers, units), NaN where there is none, and the case of each unit. A choice is turned so that 1 means
    the arm that comes first by name, whichever side it was on."""
    some = rows[rows["question"] == question].copy()
    if question == "choice":
        turned = some["arm"] > some["other"]
        some["answer"] = some["answer"].where(~turned, 1 - some["answer"])
        names = np.where(turned, some["other"] + "|" + some["arm"], some["arm"] + "|" + some["other"])
        some["arm"] = names
    table = some.pivot_table(index=["place", "arm"], columns="reader", values="answer", dropna=False, observed=True)
    table = table.reindex(columns=readers).dropna(how="all")
    return table.to_numpy().T, table.index.get_level_values("place").to_numpy()


def _alpha(table: np.ndarray, level: str) -> float:
    """Krippendorff's alpha of answers (readers, units); NaN where they do not vary or no unit has two answers."""
    values = np.unique(table[~np.isnan(table)])
    if len(values) < 2 or (np.sum(~np.isnan(table), axis=0) < 2).all():
        return float("nan")
    return float(krippendorff.alpha(reliability_data=table, level_of_measurement=level))


def _icc(table: np.ndarray) -> tuple[tuple[str, Found], ...]:
    """ICC(2,1) and ICC(2,k), absolute agreement, of the units that every reader answered; none for under five units."""
    whole = table[:, ~np.isnan(table).any(axis=0)]
    if whole.shape[1] < 5 or np.ptp(whole) == 0:
        return ()
    readers, units = np.indices(whole.shape)
    long = pd.DataFrame({"unit": units.ravel(), "reader": readers.ravel(), "answer": whole.ravel()})
    found = pingouin.intraclass_corr(long, targets="unit", raters="reader", ratings="answer")
    bounds = next(name for name in found.columns if name.startswith("CI95"))
    rows = {row["Type"].replace("(A,", "(2,"): row for _, row in found.iterrows()}
    wanted = [(name, rows[kind]) for name, kind in (("ICC(2,1)", "ICC(2,1)"), ("ICC(2,k)", "ICC(2,k)"))]
    return tuple(
        (name, Found(value=float(row["ICC"]), low=float(row[bounds][0]), high=float(row[bounds][1])))
        for name, row in wanted
    )


def _itself(rows: pd.DataFrame) -> tuple[float, int]:
    """Mean absolute change between an item and its repeat, and how many were answered twice."""
    known = rows[rows["answer"].notna()]
    first = known.set_index(["reader", "item"])
    again = known[known["repeats"] != ""]
    pairs = [
        (row.answer, row.arm, first.loc[(row.reader, row.repeats)])
        for row in again.itertuples()
        if (row.reader, row.repeats) in first.index
    ]
    changes = [abs(answer - (one["answer"] if arm == one["arm"] else 1 - one["answer"])) for answer, arm, one in pairs]
    return (float(np.mean(changes)) if changes else float("nan")), len(changes)


def said(report: Report, flagged: dict[str, list[str]]) -> str:
    """The report as Markdown."""
    lines = [
        "# Reading study",
        "",
        f"{len(report.readers)} readers ({', '.join(report.readers)}), {report.cases} cases, {report.answers:,} "
        f"answers, {report.unsure} of them `cannot judge`. Intervals: 95 %, cases left out in turn, readers kept.",
        "",
    ]
    lines += [f"- reader {code}: {flag}" for code, some in flagged.items() for flag in some]
    lines += [
        "",
        "## Agreement",
        "",
        "| Question | Krippendorff's alpha | ICC | A reader's own repeats |",
        "|---|---|---|---|",
    ]
    for question, (change, repeats) in report.itself.items():
        alpha = str(report.alpha[question]) if question in report.alpha else "one reader"
        icc = "; ".join(f"{name} {one}" for name, one in report.icc.get(question, ())) or "–"
        own = f"changed by {change:.2f} on average, {repeats} repeats" if repeats else "no repeat answered"
        lines.append(f"| {question} | {alpha} | {icc} | {own} |")
    if weak := [question for question in report.itself if not report.supports(question)]:
        about = ", ".join(weak)
        reason = f"alpha is under {SUPPORT}, or not known, or there are under {RANKED_GROUPS} cases"
        lines += ["", f"**The ratings do not support a ranking** by {about}: {reason}."]
    lines += ["", "## Which map (Bradley-Terry strengths, 0 is their mean)", "", "| Arm | Strength |", "|---|---|"]
    lines += [f"| {arm} | {one} |" for arm, one in _falling(report.strengths)]
    lines += ["", "| Difference | |", "|---|---|"]
    for (one, other), found in report.differences.items():
        note = " (primary)" if {one, other} == set(report.primary) else ""
        lines.append(f"| {one} − {other}{note} | {found} |")
    for question, means in report.means.items():
        turned = ", turned round: 5 is none" if question == "spurious" else ""
        lines += ["", f"## {question} (1 to 5{turned})", "", "| Arm | Mean |", "|---|---|"]
        lines += [f"| {arm} | {one} |" for arm, one in _falling(means)]
    lines += ["", "## Controls", ""]
    lines += [f"- {line}" for line in controls(report)] or ["- no control arm was shown"]
    return "\n".join(lines) + "\n"


def _falling(found: dict[str, Found]) -> list[tuple[str, Found]]:
    return sorted(found.items(), key=lambda pair: -pair[1].value)


def controls(report: Report) -> list[str]:
    """Whether each method was rated above each control: where it was not, its maps do not reflect what was learnt."""
    lines = []
    for question, means in report.means.items():
        for control in CONTROLS:
            for arm, one in means.items():
                if control in means and arm not in CONTROLS:
                    word = _above(one, means[control])
                    lines.append(f"{question}: {arm} {one} is {word} {control} {means[control]}")
    return lines


def _above(one: Found, control: Found) -> str:
    if one.low is None:
        return f"not judged against (under {INTERVAL_GROUPS} cases)"
    return "above" if one.low > control.high else "not shown above"


def figure(report: Report) -> Figure:
    """The strengths of the arms with their intervals, best first."""
    drawn = Figure(figsize=(4.5, 0.8 + 0.3 * len(report.strengths)), layout="constrained")
    axes = drawn.subplots()
    for place, (_, one) in enumerate(_falling(report.strengths)):
        if one.low is not None:
            axes.plot([one.low, one.high], [place, place], color="#0b62b5")
        axes.plot(one.value, place, "o", color="#0b62b5")
    axes.set_yticks(range(len(report.strengths)), [arm for arm, _ in _falling(report.strengths)])
    axes.invert_yaxis()
    axes.axvline(0, color="#c9ced4", zorder=0)
    axes.set_xlabel("strength (Bradley-Terry), 95 %, cases left out in turn")
    return drawn
