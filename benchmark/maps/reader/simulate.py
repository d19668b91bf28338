"""Readers whose preference is known, on the design of a real pack: does the analysis find it, and with what power?

An arm has a quality. A choice falls on the left map with probability logistic(q_left - q_right),
which is the Bradley-Terry model, so the true strengths are the qualities less their mean. A rating is the quality, plus
what the case, the reader's severity and the moment add (normal deviations), cut into five at -1.5, -0.5, 0.5, 1.5.
Simulated answers are marked so and are never stored as ratings.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd

from benchmark.maps.reader import design
from benchmark.maps.reader.analyse import Report, analyse
from benchmark.maps.reader.pack import Pack
from benchmark.metrics import INTERVAL_GROUPS

CUTS = (-1.5, -0.5, 0.5, 1.5)
CASE, SEVERITY, MOMENT = 0.5, 0.4, 0.6  # deviations


class Recovered(NamedTuple):
    studies: int
    coverage: float  # share of differences of strengths whose interval holds the truth
    order: float  # share of studies whose best method is the truly best
    power: float  # share of studies whose primary difference has an interval that leaves out 0, on the right side
    alpha: float  # mean, of the choices


def answers(qualities: dict[str, float], readers: int, cases: int, seed: int) -> tuple[pd.DataFrame, Pack]:
    """A whole simulated study: rows as `answers.read` gives them, and its pack."""
    rng, names = np.random.default_rng([seed, 7]), [f"c{number}" for number in range(cases)]
    arms = list(qualities)
    methods = {arm: "" for arm in arms if arm not in design.CONTROLS}
    best = sorted(methods, key=lambda arm: -qualities[arm])
    about = {
        "pack": f"simulated-{seed}",
        "arms": methods,
        "controls": [arm for arm in arms if arm in design.CONTROLS],
        "readers": [f"r{number}" for number in range(readers)],
        "primary": best[:2],
    }
    hardness = dict(zip(names, rng.normal(0, CASE, cases), strict=True))
    rows = []
    for number, code in enumerate(about["readers"]):
        severity = rng.normal(0, SEVERITY)
        for item in design.items(names, [], arms, number, seed):
            row = {
                "reader": code,
                **item._asdict(),
                "group": item.case,
                "task": "simulated",
                "label": "",
                "seconds": 8.0,
            }
            if item.kind == design.CHOOSE:
                chance = 1 / (1 + np.exp(qualities[item.other] - qualities[item.arm]))
                rows.append({**row, "question": "choice", "answer": float(rng.random() < chance)})
                continue
            for question, sign in (("relevance", 1), ("spurious", -1)):
                seen = qualities[item.arm] + hardness[item.case] - severity + rng.normal(0, MOMENT)
                rows.append({**row, "question": question, "answer": 1.0 + np.searchsorted(CUTS, sign * seen)})
    return pd.DataFrame(rows), Pack(None, about, [])


def recovered(qualities: dict[str, float], readers: int, cases: int, studies: int, seed: int = 0) -> Recovered:
    """Simulate `studies` studies and analyse each. Raises ValueError for fewer than two methods, or so few cases that
    there is no interval."""
    methods = [arm for arm in qualities if arm not in design.CONTROLS]
    if len(methods) < 2:
        raise ValueError("give two methods at least, such as --quality mae=0,ijepa=0.5")
    if cases < INTERVAL_GROUPS:
        raise ValueError(f"{cases} cases have no interval; give --cases {INTERVAL_GROUPS} or more")
    best = sorted(methods, key=lambda arm: -qualities[arm])
    held, order, power, alphas = [], [], [], []
    for study in range(studies):
        report: Report = analyse(*answers(qualities, readers, cases, seed + study))
        for (one, other), found in report.differences.items():
            held.append(found.low <= qualities[one] - qualities[other] <= found.high)
        order.append(max(methods, key=lambda arm: report.strengths[arm].value) == best[0])
        key = (best[0], best[1]) if (best[0], best[1]) in report.differences else (best[1], best[0])
        primary = report.differences[key]
        power.append(primary.low > 0 if key[0] == best[0] else primary.high < 0)
        alphas.append(report.alpha["choice"].value if report.alpha else np.nan)
    return Recovered(studies, *(float(np.nanmean(one)) for one in (held, order, power, alphas)))
