"""Ranks, tie groups and the classical tests, against scikit-posthocs and scipy; plans against simulated repetitions."""

import numpy as np
import pytest
import scikit_posthocs
from scipy import stats

from leaderboards import figures, simulate, svg
from leaderboards.comparisons import AHEAD, BEHIND, SAME, family
from leaderboards.power import POWER, detectable, needed
from leaderboards.ranking import best, classical, holm, letters, rank_intervals
from leaderboards.statistics import draw, estimate, minus, resample, variance


def test_holm_and_letters_of_known_cases():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert letters(3, [(0, 2)]) == ["A", "A B", "B"]
    assert letters(3, []) == ["A", "A", "A"]
    assert letters(3, [(0, 1), (0, 2), (1, 2)]) == ["A", "B", "C"]


def test_rank_intervals_of_known_cases():
    assert rank_intervals(3, []) == [(1, 3)] * 3
    assert rank_intervals(3, [(0, 2)]) == [(1, 2), (1, 3), (2, 3)]
    assert rank_intervals(3, [(0, 1), (0, 2), (1, 2)]) == [(1, 1), (2, 2), (3, 3)]


@pytest.fixture
def scores():
    rng = np.random.default_rng(0)
    return rng.normal(size=(14, 4)) + np.array([0.0, 1.5, 0.2, 2.5])  # (tasks, methods)


def test_the_classical_view_agrees_with_scikit_posthocs(scores):
    names = ["a", "b", "c", "d"]
    found = classical(names, scores)
    place = [names.index(name) for name in found.names]
    expected = scikit_posthocs.posthoc_wilcoxon(list(scores.T), p_adjust="holm").to_numpy()
    for a, b, p in found.pairs:
        assert p == pytest.approx(expected[place[a], place[b]], rel=1e-9)
    assert found.friedman == pytest.approx(stats.friedmanchisquare(*scores.T).pvalue)
    nemenyi = scikit_posthocs.posthoc_nemenyi_friedman(scores).to_numpy()
    for a, b, _ in found.pairs:
        apart = found.ranks[b] - found.ranks[a]
        assert (apart > found.critical) == (nemenyi[place[a], place[b]] < 0.05)
    tied = {(a, b) for a, b, p in found.pairs if p >= 0.05}
    assert all(any(c <= a and b <= d for c, d in found.cliques) for a, b in tied if b == a + 1)
    drawn = figures.critical_difference(found, "ranks")
    assert drawn.rows == tuple(zip(found.names, found.ranks, strict=True))
    assert all(f"{name} {rank:.2f}" in svg.svg(drawn) for name, rank in drawn.rows)


def test_too_few_tasks_can_show_nothing(scores):
    assert classical(list("abcd"), scores).able
    few = classical(list("abcd"), scores[:6])
    assert not few.able
    assert min(p for *_, p in few.pairs) >= 0.05


def numbers(shifts, *, groups=60, seeds=3, seed=0):
    """AUROCs of methods of different signal on one test set."""
    rng = np.random.default_rng(seed)
    setting = simulate.Setting(groups=groups, seeds=seeds)
    (task,) = simulate.methods(setting, len(shifts), rng)
    shared = draw([task[0][0]], draws=500)
    moved = [
        [type(one)(**vars(one) | {"scores": one.scores + shift * (one.label[:, None] - 0.5) * [-1, 1]}) for one in some]
        for shift, some in zip(shifts, task, strict=True)
    ]
    return [resample(range(seeds), some, "auroc", shared) for some in moved]


def test_chances_of_being_best():
    shares = best(numbers([0, 0, 3]))
    assert sum(shares) == pytest.approx(1)
    assert shares[2] > 0.95
    same = numbers([0])[0]
    assert best([same, same]) == [0.5, 0.5]


def test_a_family_is_adjusted_for_its_size_and_plans_for_what_is_not_shown():
    low, alike, high = numbers([0, 0, 2], groups=100)
    alone, *_ = family([minus(high, low)])
    found = family([minus(high, low), minus(low, high), minus(low, alike), None])
    assert [one.verdict for one in found[:3]] == [AHEAD, BEHIND, SAME]
    assert found[0].p == pytest.approx(3 * alone.p)
    assert found[3] is None
    assert (found[0].needed, found[2].needed is None) == (None, False)
    few, *_ = family([minus(*numbers([0, 0], groups=12))])
    assert (few.verdict, few.p) == ("too few groups", None)


def test_the_smallest_difference_shown_is_shown_in_four_of_five_repetitions():
    rng = np.random.default_rng(1)
    differences = [minus(*simulate.numbers(simulate.Setting(groups=100), 2, 0, rng)) for _ in range(200)]
    size = np.mean([detectable(estimate(one)) for one in differences])
    shown = [
        abs(estimate(one).value + size) > stats.t.ppf(0.975, estimate(one).freedom) * estimate(one).error
        for one in differences
    ]
    assert np.mean(shown) == pytest.approx(POWER, abs=0.08)


def test_what_would_separate_two():
    difference = minus(*numbers([0, 0.3], seeds=5))
    parts, plan = variance(difference), needed(difference)
    target = (difference.values.mean() / stats.norm.ppf([0.975, 0.8]).sum()) ** 2
    with_groups = (parts.groups + parts.crossed / 5) / plan.groups + parts.seeds / 5
    with_seeds = parts.groups + (parts.crossed + parts.seeds) / plan.seeds
    for error, count in ((with_groups, plan.groups), (with_seeds, plan.seeds)):
        assert count == np.inf or error == pytest.approx(target)
    assert np.isnan(needed(minus(*numbers([0, 0.3], seeds=1))).seeds)
