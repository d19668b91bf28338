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
from scipy import stats

from benchmark.maps.reader.pack import Pack
from benchmark.metrics import INTERVAL_GROUPS, LEVEL, RANKED_GROUPS

PRIOR = 0.1
SUPPORT = 0.4  # alpha under which ratings support no ranking
LEVELS = {"relevance": "ordinal", "spurious": "ordinal", "choice": "nominal"}


@dataclass(frozen=True, kw_only=True)
class Estimate:
    value: float
    low: float | None = None  # 95 %, cases left out in turn; None under 20
    high: float | None = None

    def __str__(self) -> str:
        ends = "" if self.low is None else f" [{self.low:.2f}, {self.high:.2f}]"
        return f"{self.value:.2f}{ends}".replace("-", "−")


@dataclass(frozen=True, kw_only=True)
class Analysis:
    readers: tuple[str, ...]
    cases: int
    answers: int
    unsure: int  # of them, "cannot judge"
    alpha: dict[str, Estimate]  # by question; empty of one reader
    icc: dict[str, dict[str, Estimate]]  # by question: ICC(2,1) and ICC(2,k)
    changes: dict[str, tuple[float, int]]  # by question: mean change of a repeat (choice: share changed), repeats
    means: dict[str, dict[str, Estimate]]  # by question, by arm, high is good
    strengths: dict[str, Estimate]  # by arm
    differences: dict[tuple[str, str], Estimate]  # of the strengths
    primary: tuple[str, str]

    def supports_ranking(self, question: str) -> bool:
        """Whether there are cases enough, and readers who agree enough on a question."""
        agree = question in self.alpha and self.alpha[question].value >= SUPPORT
        return agree and self.cases >= RANKED_GROUPS


def analyse(rows: pd.DataFrame, pack: Pack) -> Analysis:
    """rows: those of `answers.read` of all readers. Raises ValueError where nothing is answered."""
    rows = rows[~rows["practice"]].copy()
    if rows["answer"].notna().sum() == 0:
        raise ValueError("no answer but practice and `cannot judge`: nothing to analyse")
    rows["answer"] = rows["answer"].where(rows["question"] != "spurious", 6 - rows["answer"])
    main = rows[rows["repeats"] == ""]
    cases, readers = main["case"].unique(), tuple(sorted(rows["reader"].unique()))
    arms = [*pack.about["arms"], *pack.about["controls"]]
    asked = [question for question in LEVELS if (main["question"] == question).any()]
    answered = {question: main[(main["question"] == question) & main["answer"].notna()] for question in LEVELS}
    means = {}
    for question in asked:
        if question != "choice":
            shown = [arm for arm in arms if (answered[question]["arm"] == arm).any()]
            found = estimate(answered[question], cases, lambda part, s=shown: _compute_means(part, s))
            means[question] = dict(zip(shown, found, strict=True))
    chosen, strengths, differences = answered["choice"], {}, {}
    shown = [arm for arm in arms if ((chosen["arm"] == arm) | (chosen["other"] == arm)).any()]
    if len(shown) > 1:
        found = estimate(chosen, cases, lambda part: fit_strengths(part, shown))
        strengths = dict(zip(shown, found[: len(shown)], strict=True))
        differences = dict(zip(combinations(shown, 2), found[len(shown) :], strict=True))
    units = {question: tabulate(main, question, readers) for question in asked} if len(readers) > 1 else {}
    alpha = {
        question: estimate(
            table, cases, lambda part, q=question: [compute_alpha(part[[*readers]].to_numpy(float).T, LEVELS[q])]
        )[0]
        for question, table in units.items()
    }
    return Analysis(
        readers=readers,
        cases=len(cases),
        answers=len(rows),
        unsure=int(rows["answer"].isna().sum()),
        alpha=alpha,
        icc={q: compute_icc(units[q][[*readers]].to_numpy(float)) for q in units if q != "choice"},
        changes={question: count_changes(rows[rows["question"] == question]) for question in asked},
        means=means,
        strengths=strengths,
        differences=differences,
        primary=tuple(pack.about["primary"]),
    )


def estimate(
    rows: pd.DataFrame, cases: np.ndarray, compute: Callable[[pd.DataFrame], Sequence[float]]
) -> list[Estimate]:
    """The statistics (K,) of rows with a column "case", with intervals by leaving out each of the cases in turn."""
    values = np.asarray(compute(rows), float)
    count = len(cases)
    if count < INTERVAL_GROUPS:
        return [Estimate(value=value) for value in values.tolist()]
    left = np.array([compute(rows[rows["case"] != case]) for case in cases], float)
    spread = np.nansum((left - np.nanmean(left, axis=0)) ** 2, axis=0)
    half = stats.t.ppf((1 + LEVEL) / 2, count - 1) * np.sqrt((count - 1) / count * spread)
    bounds = zip(values.tolist(), (values - half).tolist(), (values + half).tolist(), strict=True)
    return [Estimate(value=value, low=low, high=high) for value, low, high in bounds]


def _compute_means(rows: pd.DataFrame, arms: Sequence[str]) -> np.ndarray:
    return rows.groupby("arm")["answer"].mean().reindex(arms).to_numpy()


def fit_strengths(rows: pd.DataFrame, arms: Sequence[str]) -> np.ndarray:
    """Of choices: (arms,) strengths, then the differences of every two."""
    left, right = (pd.Categorical(rows[side], arms).codes for side in ("arm", "other"))
    won = rows["answer"].to_numpy() == 1
    counts = np.zeros((len(arms), len(arms)))  # [winner, loser]
    np.add.at(counts, (np.where(won, left, right), np.where(won, right, left)), 1)
    found = choix.ilsr_pairwise_dense(counts, alpha=PRIOR, max_iter=1000)
    return np.array([*found, *(one - other for one, other in combinations(found, 2))])


def tabulate(rows: pd.DataFrame, question: str, readers: Sequence[str]) -> pd.DataFrame:
    """A row for each case and arm (two arms of a choice): the answer of each reader, NaN where there is none. A choice
    is turned so that 1 means the arm that comes first by name, whichever side it was on."""
    rows = rows[rows["question"] == question].copy()
    if question == "choice":
        turned = rows["arm"] > rows["other"]
        rows["answer"] = rows["answer"].where(~turned, 1 - rows["answer"])
        rows["arm"] = rows[["arm", "other"]].min(axis=1) + "|" + rows[["arm", "other"]].max(axis=1)
    table = rows.pivot_table(index=["case", "arm"], columns="reader", values="answer")
    return table.reindex(columns=readers).reset_index()


def compute_alpha(table: np.ndarray, level: str) -> float:
    """Krippendorff's alpha of answers (readers, units); NaN where they do not vary or no unit has two answers."""
    values = np.unique(table[~np.isnan(table)])
    if len(values) < 2 or (np.sum(~np.isnan(table), axis=0) < 2).all():
        return float("nan")
    return float(krippendorff.alpha(reliability_data=table, level_of_measurement=level))


def compute_icc(table: np.ndarray) -> dict[str, Estimate]:
    """ICC(2,1) and ICC(2,k), absolute agreement, of answers (units, readers), of the units that every reader answered;
    none for under five units."""
    whole = table[~np.isnan(table).any(axis=1)]
    if len(whole) < 5 or np.ptp(whole) == 0:
        return {}
    long = pd.DataFrame(whole).reset_index(names="unit").melt("unit", var_name="reader", value_name="answer")
    found = pingouin.intraclass_corr(long, targets="unit", raters="reader", ratings="answer")
    found = found.set_index(found["Type"].str.replace("(A,", "(2,", regex=False))
    bounds = next(name for name in found.columns if name.startswith("CI95"))
    made = {}
    for kind in ("ICC(2,1)", "ICC(2,k)"):
        low, high = found.loc[kind, bounds]
        made[kind] = Estimate(value=float(found.loc[kind, "ICC"]), low=float(low), high=float(high))
    return made


def count_changes(rows: pd.DataFrame) -> tuple[float, int]:
    """Mean absolute change between an item and its repeat, and how many were answered twice."""
    known = rows[rows["answer"].notna()]
    first = known[["reader", "item", "arm", "answer"]]
    pairs = known[known["repeats"] != ""].merge(
        first, left_on=["reader", "repeats"], right_on=["reader", "item"], suffixes=("", "_first")
    )
    before = pairs["answer_first"].where(pairs["arm"] == pairs["arm_first"], 1 - pairs["answer_first"])
    return float((pairs["answer"] - before).abs().mean()), len(pairs)
