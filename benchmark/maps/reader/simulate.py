"""Readers whose preference is known, on the design of a real pack: does the analysis find it, and with what power?

An arm has a quality. A choice falls on the left map with probability logistic(q_left - q_right),
which is the Bradley-Terry model, so the true strengths are the qualities less their mean. A rating is the quality, plus
what the case, the reader's severity and the moment add (normal deviations), cut into five at -1.5, -0.5, 0.5, 1.5.
Simulated answers are marked so and are never stored as ratings.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.special import expit

from benchmark.maps.reader import design
from benchmark.maps.reader.analysis import analyse
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


def _rank_methods(qualities: dict[str, float]) -> list[str]:
    return sorted((arm for arm in qualities if arm not in design.CONTROLS), key=lambda arm: -qualities[arm])


def draw_answers(qualities: dict[str, float], readers: int, cases: int, seed: int) -> tuple[pd.DataFrame, Pack]:
    """A whole simulated study: rows as `answers.read` gives them, and its pack."""
    rng, names = np.random.default_rng([seed, 7]), [f"c{number}" for number in range(cases)]
    codes = [f"r{number}" for number in range(readers)]
    about = {
        "pack": f"simulated-{seed}",
        "arms": {arm: "" for arm in qualities if arm not in design.CONTROLS},
        "controls": [arm for arm in qualities if arm in design.CONTROLS],
        "readers": codes,
        "primary": _rank_methods(qualities)[:2],
    }
    hardness = dict(zip(names, rng.normal(0, CASE, cases), strict=True))
    rows = []
    for number, code in enumerate(codes):
        severity = rng.normal(0, SEVERITY)
        for item in design.make_items(names, [], list(qualities), number, seed):
            row = {
                "reader": code,
                **item._asdict(),
                "group": item.case,
                "task": "simulated",
                "label": "",
                "seconds": 8.0,
            }
            if item.kind == design.CHOOSE:
                left = rng.random() < expit(qualities[item.arm] - qualities[item.other])
                rows.append({**row, "question": "choice", "answer": float(left)})
                continue
            for question, sign in (("relevance", 1), ("spurious", -1)):
                seen = qualities[item.arm] + hardness[item.case] - severity + rng.normal(0, MOMENT)
                rows.append({**row, "question": question, "answer": 1.0 + np.searchsorted(CUTS, sign * seen)})
    return pd.DataFrame(rows), Pack(None, about, [])


def recover(qualities: dict[str, float], readers: int, cases: int, studies: int, seed: int = 0) -> Recovered:
    """Simulate `studies` studies and analyse each. Raises ValueError for fewer than two methods, or so few cases that
    there is no interval."""
    if len(best := _rank_methods(qualities)) < 2:
        raise ValueError("give two methods at least, such as --quality mae=0,ijepa=0.5")
    if cases < INTERVAL_GROUPS:
        raise ValueError(f"{cases} cases have no interval; give --cases {INTERVAL_GROUPS} or more")
    held, order, power, alphas = [], [], [], []
    for study in range(studies):
        found = analyse(*draw_answers(qualities, readers, cases, seed + study))
        for (one, other), difference in found.differences.items():
            held.append(difference.low <= qualities[one] - qualities[other] <= difference.high)
        order.append(max(best, key=lambda arm: found.strengths[arm].value) == best[0])
        turned = (best[0], best[1]) not in found.differences
        primary = found.differences[(best[1], best[0]) if turned else (best[0], best[1])]
        power.append(primary.high < 0 if turned else primary.low > 0)
        alphas.append(found.alpha["choice"].value if found.alpha else np.nan)
    return Recovered(studies, *(float(np.nanmean(one)) for one in (held, order, power, alphas)))
