"""Ranks, tie groups and the classical tests, against scikit-posthocs and scipy; plans against simulated repetitions."""

import numpy as np
import pytest
import scikit_posthocs
from scipy import stats

from leaderboards.figures import board_figures
from leaderboards.stats import simulate
from leaderboards.stats.families import POWER, detectable, judge
from leaderboards.stats.ranking import classical, holm, letters, rank_intervals
from leaderboards.stats.resampling import subtract
from leaderboards.stats.verdicts import GAIN


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
    drawn = board_figures.draw_critical_difference(found, "ranks")
    assert drawn.rows == tuple(zip(found.names, found.ranks, strict=True))
    assert all(f"{name} {rank:.2f}" in drawn.svg for name, rank in drawn.rows)


def test_too_few_tasks_can_show_nothing(scores):
    assert classical(list("abcd"), scores).able
    few = classical(list("abcd"), scores[:6])
    assert not few.able
    assert min(p for *_, p in few.pairs) >= 0.05


def test_the_smallest_difference_shown_is_shown_in_four_of_five_repetitions():
    """In a family of three pairs, by their simultaneous intervals."""
    rng = np.random.default_rng(1)
    found = []
    for _ in range(150):
        a, b, c = simulate.numbers(simulate.Setting(groups=100), 3, 0, rng)
        found.append(judge([subtract(a, b), subtract(a, c), subtract(b, c)], [GAIN] * 3)[0])
    size = np.mean([detectable(one) for one in found])
    halves = [one.estimate.high - one.estimate.value for one in found]
    shown = [abs(one.estimate.value + size) > half for one, half in zip(found, halves, strict=True)]
    assert np.mean(shown) == pytest.approx(POWER, abs=0.08)
    plain = [stats.t.ppf(0.975, one.estimate.freedom) * one.estimate.error for one in found]
    assert all(half > 1.1 * own for half, own in zip(halves, plain, strict=True))
