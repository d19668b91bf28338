"""Slopes over measured locality: of gains and of shares of the way to the ceiling, within a family of tasks alone."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from leaderboards.boards.claims import Claim
from leaderboards.boards.contrasts import CEILING, GAIN, lead_in_gain, lead_in_share
from leaderboards.stats.resampling import Predictions, draw_groups, resample
from leaderboards.stats.verdicts import CLAIM_NOT_SHOWN as NOT_SHOWN
from leaderboards.stats.verdicts import CONTRADICTED, FALLS, HOLDS, OPPOSITE, RISES, UNTESTABLE
from tests.leaderboards.boards.test_claims import column, line, said

PLACES = {"far": 0.0, "wide": 0.3, "close": 0.6, "touching": 0.9}
TASKS = [column(name) for name in PLACES]
LINES = [replace(line("DINOv3", "d"), twin_variant="t"), replace(line("I-JEPA", "i"), twin_variant="u")]
SLOPE = Claim(name="slope", says="", ahead=("DINOv3",), behind="I-JEPA", margin=0.05, slope=True)
PAIRS = (("d", "t"), ("i", "u"))
SPREAD = np.sqrt(2 * (1 + 0.5**2 + 0.5**2))  # of the difference of two groups' scores


def scores(signals: dict[str, tuple[float, ...]], tasks=TASKS, seeds=5, groups=100, seed=0):
    """The metric of each method whose labels are so far apart on each task: scores are normal, so that the AUROC is
    Φ(signal / SPREAD). Of "c", the ceiling, a single seed."""
    rng, found = np.random.default_rng(seed), {}
    names = np.array([f"p{place:03d}" for place in range(groups)])
    for place, task in enumerate(tasks):
        label = rng.permutation(np.arange(groups) % 2)
        patient = rng.normal(size=groups)
        for method, signal in signals.items():
            own = 0.5 * rng.normal(size=groups)
            risks = [
                signal[place] * label + patient + own + 0.5 * rng.normal(size=groups)
                for _ in range(1 if method == "c" else seeds)
            ]
            zeros = np.zeros(groups, dtype=int)
            seen = [
                Predictions(
                    sample=names, group=names, label=label, scores=np.stack([-r, r], 1), repeat=zeros, fold=zeros
                )
                for r in risks
            ]
            shared = draw_groups([seen[0]], task.task, draws=60)
            found[method, task] = resample(range(len(seen)), seen, "auroc", shared)
    return found


def separated(found):
    """(numbers, ceilings)"""
    return (
        {key: number for key, number in found.items() if key[0] != "c"},
        {key[1]: number for key, number in found.items() if key[0] == "c"},
    )


SIGNALS = {
    "d": (0.8, 1.0, 1.6, 1.8),
    "i": (1.4, 1.3, 1.0, 1.2),
    "t": (0.4, 0.5, 0.4, 0.4),
    "u": (0.6, 0.4, 0.3, 0.5),
    "c": (2.6, 2.2, 1.9, 2.4),
}


def test_the_slope_in_gain_is_least_squares_of_differences_of_gains_with_seeds_as_replicates():
    found, _ = separated(scores(SIGNALS))
    (one,) = said(SLOPE, found, TASKS, PLACES, LINES)
    gains = [[found[a, task].values - found[b, task].values for task in TASKS] for a, b in (("d", "t"), ("i", "u"))]
    slopes = np.polyfit(list(PLACES.values()), (np.array(gains[0]) - np.array(gains[1])) / 0.5, 1)[0]
    assert slopes.shape == (5,)
    assert one.estimates[0].value == pytest.approx(slopes.mean())
    assert (one.verdict, one.estimates[0].seeds, one.per) == (HOLDS, 5, GAIN)


def test_the_slope_over_the_way_to_the_ceiling_is_that_of_differences_of_shares():
    found, ceilings = separated(scores(SIGNALS))
    (one,) = said(replace(SLOPE, per=CEILING), found, TASKS, PLACES, LINES, ceilings=ceilings)
    mean = {key: number.values.mean() for key, number in found.items()}

    def share(method: str, floor: str, task) -> float:
        gain, way = mean[method, task] - mean[floor, task], ceilings[task].values.mean() - mean[floor, task]
        return gain / way

    leads = [share("d", "t", task) - share("i", "u", task) for task in TASKS]
    assert one.estimates[0].value == pytest.approx(np.polyfit(list(PLACES.values()), leads, 1)[0])
    in_gain = said(SLOPE, found, TASKS, PLACES, LINES)[0].estimates[0].value
    assert abs(one.estimates[0].value - in_gain) > 0.05


@pytest.mark.parametrize("per", [GAIN, CEILING])
def test_intervals_hold_the_true_slope_at_their_rate_and_point_its_way(per):
    """150 simulations of patients and of encoders, whose true AUROCs are known."""
    auc = {method: stats.norm.cdf(np.array(signal) / SPREAD) for method, signal in SIGNALS.items()}
    parts = {"d": auc["d"] - auc["t"], "i": auc["i"] - auc["u"]}
    if per == CEILING:
        parts = {"d": parts["d"] / (auc["c"] - auc["t"]), "i": parts["i"] / (auc["c"] - auc["u"])}
    scale = 1 if per == CEILING else 2
    true = scale * np.polyfit(list(PLACES.values()), parts["d"] - parts["i"], 1)[0]
    assert true > 0.3
    found = []
    for seed in range(150):
        numbers, ceilings = separated(scores(SIGNALS, seeds=3, groups=60, seed=seed))
        (one,) = said(replace(SLOPE, per=per), numbers, TASKS, PLACES, LINES, ceilings=ceilings)
        found.append(one.estimates[0])
    values = np.array([one.value for one in found])
    assert 0.90 <= np.mean([one.low <= true <= one.high for one in found]) < 1
    assert 0.75 < np.std([(one.value - true) / one.error for one in found]) < 1.25
    assert abs(values.mean() - true) < 4 * values.std() / np.sqrt(len(values))
    assert (values > 0).mean() > 0.9


def test_a_missing_twin_or_ceiling_leaves_no_lead():
    numbers, ceilings = separated(scores(SIGNALS, groups=40))
    task = TASKS[0]
    assert lead_in_gain(numbers, *PAIRS, task) is not None
    assert lead_in_share(numbers, ceilings, *PAIRS, task) is not None
    assert lead_in_share(numbers, {}, *PAIRS, task) is None
    without = {key: number for key, number in numbers.items() if key != ("u", task)}
    assert lead_in_gain(without, *PAIRS, task) is None
    assert lead_in_share(without, ceilings, *PAIRS, task) is None


STEEP = {"d": (0.2, 0.8, 1.6, 2.4), "i": (0.8, 0.8, 0.8, 0.8), "t": (0.2,) * 4, "u": (0.2,) * 4}


def test_words_of_a_claim_and_of_an_estimate():
    up, _ = separated(scores(STEEP))
    down = {({"d": "i", "i": "d"}.get(name, name), task): number for (name, task), number in up.items()}
    level, _ = separated(scores(STEEP | {"d": (0.8,) * 4}))
    free = replace(SLOPE, margin=None)
    for claim, found, word in (
        (SLOPE, up, HOLDS),
        (SLOPE, down, CONTRADICTED),
        (replace(SLOPE, margin=5.0), down, OPPOSITE),
        (SLOPE, level, NOT_SHOWN),
        (free, up, RISES),
        (free, down, FALLS),
        (free, level, NOT_SHOWN),
    ):
        (one,) = said(claim, found, TASKS, PLACES, LINES)
        assert one.verdict == word
    assert (RISES, FALLS) == ("rises with locality", "falls with locality")


def test_a_family_is_never_mixed_with_another():
    """Texture rises, relation falls: each says its own, whatever the other and the base tasks do."""
    rising, falling = ([column(f"phantom_{family}_{x}") for x in "abcd"] for family in ("locality", "relation"))
    base = column("phantom_local")
    places = dict(zip([task.task for task in (*rising, *falling, base)], [*PLACES.values()] * 2 + [0.5], strict=True))
    found = scores(STEEP, rising) | scores(STEEP | {"d": STEEP["d"][::-1]}, falling, seed=1)
    found |= scores({name: (5.0 if name == "d" else 0.0,) for name in STEEP}, [base], seed=2)
    tasks = [base, *rising, *falling]
    texture, relation = (replace(SLOPE, within=f"phantom_{name}", family=name) for name in ("locality", "relation"))
    up, down = (said(one, found, tasks, places, LINES)[0] for one in (texture, relation))
    assert (up.verdict, up.tasks, up.within) == (HOLDS, tuple(task.title for task in rising), "locality")
    assert (down.verdict, down.tasks) == (CONTRADICTED, tuple(task.title for task in falling))
    own = {key: number for key, number in found.items() if key[1] in rising}
    assert said(texture, own, rising, places, LINES)[0].estimates == up.estimates


def test_three_tasks_must_span_a_fifth_of_measured_locality():
    found, _ = separated(scores(STEEP))
    near = {name: 0.2 * place for name, place in PLACES.items()}
    (one,) = said(SLOPE, found, TASKS, near, LINES)
    assert (one.verdict, one.why) == (UNTESTABLE, "4 tasks over a range of 0.18; needs 3 over 0.2")
    (one,) = said(SLOPE, found, TASKS, PLACES | {"far": None, "wide": None}, LINES)
    assert (one.verdict, one.why) == (UNTESTABLE, "2 tasks over a range of 0.30; needs 3 over 0.2")


def test_real_tasks_have_one_slope_whatever_the_families():
    tasks = [replace(task, synthetic=False) for task in TASKS]
    texture, relation = (replace(SLOPE, within=name, family=name) for name in ("a", "b"))
    found = scores(STEEP, tasks)
    both = [one for claim in (texture, relation) for one in said(claim, found, tasks, PLACES, LINES)]
    assert [one.about for one in both] == ["real data"] * 2
    assert both[0] == both[1]
    assert both[0].why == "4 tasks over a range of 0.90; needs 10 over 0.2"
