"""Intervals: known cases, error rates under simulation, and the rules on few groups and few seeds."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from leaderboards.stats import simulate
from leaderboards.stats.families import judge
from leaderboards.stats.intervals import (
    Estimate,
    estimate,
    group_mean,
    p_value,
    reason_for_no_verdict,
    subject,
    variance,
)
from leaderboards.stats.resampling import (
    BLOCKS,
    Predictions,
    Resampled,
    average_by_group,
    draw_groups,
    mean_over_tasks,
    pair_samples,
    resample,
    resample_mean,
    subtract,
)
from leaderboards.stats.verdicts import GAIN
from tests.helpers.predictions import predictions


def gained(run: Predictions, twin: Predictions, metric: str, draws: int = 500) -> Resampled:
    """Gain of a run of one seed over its twin."""
    shared = draw_groups([run], draws=draws)
    return subtract(*(resample((0,), [pair_samples(one, run)], metric, shared) for one in (run, twin)))


def gain(run: Predictions, twin: Predictions, metric: str, draws: int = 500) -> Estimate:
    return estimate(gained(run, twin, metric, draws))


def verdict(number: Resampled) -> str:
    """Of a family of one."""
    (found,) = judge([number], [GAIN])
    return found.verdict


def test_a_gain_is_the_difference_and_its_interval_is_close_to_the_exact_one():
    rng = np.random.default_rng(0)
    shared = rng.normal(size=200)
    run, twin = (predictions(rng, shift, groups=200, images=1, method=shared) for shift in (0.5, 0))
    found = gain(run, twin, "auroc")
    expected = roc_auc_score(run.label, run.scores[:, 1]) - roc_auc_score(twin.label, twin.scores[:, 1])
    assert found.value == pytest.approx(expected, abs=1e-14)
    assert found.low < found.value < found.high
    accuracy = gain(run, twin, "accuracy")  # one image per group: the textbook paired standard error
    right = [one.scores.argmax(1) == one.label for one in (run, twin)]
    error = np.std(right[0].astype(float) - right[1], ddof=1) / np.sqrt(200)
    assert (accuracy.high - accuracy.low) / (2 * 1.96) == pytest.approx(error, rel=0.1)


def test_equal_methods_rarely_differ_and_a_shifted_one_is_found():
    rng = np.random.default_rng(1)
    said = [verdict(gained(predictions(rng, 0), predictions(rng, 0), "auroc")) for _ in range(300)]
    assert 0.02 <= np.mean([one != "not shown above twin" for one in said]) <= 0.09
    said = [verdict(gained(predictions(rng, 1.5), predictions(rng, 0), "auroc")) for _ in range(30)]
    assert said.count("above twin") >= 27


def test_the_error_of_one_seed_is_the_stratified_jackknife():
    one = predictions(np.random.default_rng(2), 0.5, groups=24)
    names = np.unique(one.group)
    left = np.array([roc_auc_score(one.label[one.group != g], one.scores[one.group != g, 1]) for g in names])
    strata = [left[np.arange(24) % 2 == label] for label in (0, 1)]
    expected = sum(11 / 12 * ((part - part.mean()) ** 2).sum() for part in strata)
    found = variance(resample((0,), (one,), "auroc", draw_groups([one], draws=0)))
    assert found.groups == pytest.approx(expected, rel=1e-9)
    assert (found.crossed, found.seeds) == (0, 0)


def test_the_error_of_an_auroc_is_the_unbiased_one():
    """Bamber's variance of a difference of two AUROCs near the ceiling, where the interaction matters."""
    rng = np.random.default_rng(0)
    found = [gain(predictions(rng, 2), predictions(rng, 2), "auroc", draws=200) for _ in range(300)]
    assert np.mean([one.error**2 for one in found]) == pytest.approx(np.var([one.value for one in found]), rel=0.25)


def test_seeds_and_groups_are_crossed():
    """Differences made of known effects: of groups, of seeds, of both, shared by 5 seeds of each method."""
    rng = np.random.default_rng(1)
    components = []
    for _ in range(300):
        a, b = simulate.numbers(simulate.Setting(groups=30, seeds=5), 2, 0, rng)
        number = subtract(a, b)
        parts = variance(number)
        found = estimate(number)
        spread = max(number.values.var(ddof=1), parts.crossed) / 5
        assert found.error**2 == pytest.approx(parts.groups + spread)
        assert found.freedom > 4 or parts.groups < spread
        components.append((found.value, found.error**2))
    values, squares = np.array(components).T
    assert squares.mean() == pytest.approx(values.var(), rel=0.2)


def test_seeds_that_agree_by_chance_are_not_precise():
    """Three seeds whose values happen to be one, each moved by its own groups: the error is of these groups."""
    rng = np.random.default_rng(3)
    runs, twins = ([predictions(rng, 0.3, groups=200) for _ in range(3)] for _ in range(2))
    shared = draw_groups([runs[0]])
    number = subtract(
        *(resample(range(3), [pair_samples(one, runs[0]) for one in some], "auroc", shared) for some in (runs, twins))
    )
    agreed = replace(number, values=np.full(3, number.values.mean()))
    parts = variance(agreed)
    assert parts.crossed > 0
    assert estimate(agreed).error ** 2 >= parts.crossed / 3


def test_many_groups_are_left_out_in_blocks():
    one = predictions(np.random.default_rng(3), 0, groups=1000, images=1)
    drawn = draw_groups([one], draws=200)
    assert drawn.left.shape == (BLOCKS, 1000)
    np.testing.assert_allclose((drawn.left == 0).sum(0), 1)
    for label in (0, 1):
        np.testing.assert_allclose(drawn.left[:, np.arange(1000) % 2 == label].sum(1), 500)
    found = estimate(resample((0,), (one,), "accuracy", drawn))
    assert found.error == pytest.approx(np.sqrt(found.value * (1 - found.value) / 1000), rel=0.1)


def test_from_ten_tasks_on_tasks_are_the_unit():
    rng = np.random.default_rng(4)

    def gains(count):
        found = []
        for task in range(count):
            a, b = (predictions(rng, 0, groups=20) for _ in range(2))
            shared = draw_groups([a], draws=50, seed=task)
            found.append(subtract(*(resample((0,), (one,), "auroc", shared) for one in (a, b))))
        return found

    ten, nine = gains(10), gains(9)
    found = estimate(mean_over_tasks(ten, [2.0] * 10))
    expected = stats.ttest_1samp([2 * one.values[0] for one in ten], 0)
    assert p_value(found) == pytest.approx(expected.pvalue, rel=1e-9)
    assert found.freedom == pytest.approx(9)
    fixed = estimate(mean_over_tasks(nine, [2.0] * 9))
    assert fixed.error**2 == pytest.approx(sum(estimate(one).error ** 2 for one in nine) * 4 / 81, rel=0.15)


@pytest.mark.parametrize(
    "setting",
    [
        simulate.Setting(groups=20),
        simulate.Setting(groups=50, seeds=5),
        simulate.Setting(groups=20, tasks=3),
        simulate.Setting(groups=50, folds=5),
        simulate.Setting(groups=50, share=0.2),
    ],
    ids=str,
)
def test_two_equal_methods_come_out_different_at_the_stated_rate(setting):
    """docs/statistics.md has the rates at 1,000 simulations; here 300, so a rate of .05 lies in .012 to .088."""
    found = simulate.pairs_rate(setting, 300, np.random.default_rng(0))
    assert found.count > 200
    assert 0.012 <= found.value <= 0.088


def test_what_the_rules_guard_against():
    rng = np.random.default_rng(5)
    groups_alone = simulate.compared(simulate.Setting(groups=50, seeds=5, quality=0.4), 60, rng)
    assert groups_alone["percentile, groups alone"].value > 0.15
    few = simulate.compared(simulate.Setting(groups=6), 100, rng)
    assert few["BCa, groups alone"].value > 0.08
    assert simulate.pairs_rate(simulate.Setting(groups=20, share=0.1), 50, rng).count == 0  # no verdict
    assert simulate.pairs_rate(simulate.Setting(groups=20, signal=4), 50, rng).count == 0


def test_an_interval_of_a_score_holds_the_truth_and_stays_below_one():
    rng = np.random.default_rng(6)
    found = simulate.coverage(simulate.Setting(groups=20, signal=2.5), 100, rng)
    assert found["t on the logit scale (the board's)"].value >= 0.9
    high = [estimate(simulate.numbers(simulate.Setting(groups=20, signal=3), 1, 0, rng)[0]).high for _ in range(20)]
    assert all(one is None or one < 1 for one in high)


@pytest.mark.parametrize(("groups", "expected"), [(18, "too few groups"), (20, "above twin")])
def test_rules_on_few_groups(groups, expected):
    rng = np.random.default_rng(0)
    number = gained(predictions(rng, 2, groups=groups), predictions(rng, -1, groups=groups), "auroc")
    assert verdict(number) == expected
    assert (estimate(number).low is None) == (groups < 20)


def test_folds_are_resampled_by_groups_and_undefined_draws_are_counted():
    rng = np.random.default_rng(4)
    run, twin = (predictions(rng, shift, groups=24, folds=6, repeats=2) for shift in (1, 0))
    found = gain(run, twin, "auroc")
    each = [
        np.mean([roc_auc_score(one.label[one.fold == f], one.scores[one.fold == f, 1]) for f in range(6)])
        for one in (run, twin)
    ]
    assert found.value == pytest.approx(each[0] - each[1], abs=1e-14)
    assert 0 < found.draws_undefined <= found.draws == 500
    assert gain(predictions(rng, 1), predictions(rng, 0), "auroc").draws_undefined == 0


def test_draws_are_stratified_by_label_with_mixed_groups_apart():
    rng = np.random.default_rng(5)
    one = predictions(rng, 0, groups=30)
    label = one.label.copy()
    label[:8:2] = 1 - label[:8:2]  # the first two groups become mixed
    mixed = Predictions(**{**vars(one), "label": label})
    drawn = draw_groups([mixed], draws=50)
    assert len(set(drawn.stratum)) == 3
    for members in (slice(0, 2), slice(2, None, 2), slice(3, None, 2)):
        assert len(set(drawn.weights[:, members].sum(1))) == 1
    np.testing.assert_array_equal(drawn.weights, draw_groups([mixed], draws=50).weights)


def test_unpaired_predictions_are_refused():
    rng = np.random.default_rng(6)
    one, other = predictions(rng, 0), predictions(rng, 0, groups=58)
    with pytest.raises(ValueError, match="cannot be paired"):
        pair_samples(one, other)


def test_scores_averaged_per_group():
    one = predictions(np.random.default_rng(7), 1, groups=10)
    grouped = average_by_group(one)
    assert grouped.scores.shape == (10, 2)
    np.testing.assert_allclose(grouped.scores[3], one.scores[12:16].mean(0))
    assert grouped.label.tolist() == [0, 1] * 5


def test_identical_runs_are_not_shown_to_differ():
    one = predictions(np.random.default_rng(8), 1)
    assert verdict(gained(one, one, "auroc")) == "not shown above twin"
    (found,) = judge([gained(one, one, "auroc")], [GAIN])
    assert (found.p, found.estimate.low, found.estimate.high) == (1, 0, 0)


def test_images_as_groups_have_an_interval_and_no_verdict():
    rng = np.random.default_rng(0)
    run, twin = predictions(rng, 2), predictions(rng, -1)
    shared = draw_groups([run])
    number = subtract(*(resample((0,), [one], "auroc", shared, independent=False) for one in (run, twin)))
    found = estimate(number)
    assert found.low > 0
    assert (reason_for_no_verdict(found), verdict(number)) == ("groups are not patients",) * 2
    assert judge([number], [GAIN])[0].p is None


def test_the_interval_of_a_group_mean_is_the_t_interval_of_group_means():
    rng = np.random.default_rng(0)
    means = rng.normal(size=30)
    values, groups = np.repeat(means, 4), np.repeat(np.arange(30), 4)
    found = group_mean(values, groups)
    expected = stats.t.interval(0.95, 29, means.mean(), stats.sem(means))
    assert (found.low, found.high) == pytest.approx(expected, rel=1e-9)
    assert group_mean(values[:76], groups[:76]).low is None  # 19 groups


def test_wording_follows_the_number_of_seeds():
    assert [subject(n) for n in (1, 2, 5)] == [
        "this checkpoint",
        "these checkpoints",
        "this recipe at this budget",
    ]


@pytest.mark.parametrize("metric", ["auroc", "balanced_accuracy"])
def test_a_constant_answer_has_no_interval(metric):
    """A majority class is at chance whatever the groups: an interval of no width would look like certainty."""
    seen = predictions(np.random.default_rng(0), 60)
    constant = replace(seen, scores=np.tile([0.6, 0.4], (len(seen.sample), 1)))
    found = estimate(resample((0,), [constant], metric, draw_groups([constant])))
    assert (found.value, found.low, found.high) == (0.5, None, None)


def test_a_mean_of_values_has_the_interval_of_its_groups_and_of_its_seeds():
    rng = np.random.default_rng(0)
    groups = np.repeat([f"g{i:02d}" for i in range(40)], 3)
    shared = np.repeat(rng.normal(size=40), 3) + rng.normal(scale=0.2, size=120)
    alike = np.stack([shared, shared, shared])
    one = estimate(resample_mean((0, 1, 2), alike, groups))
    alone = group_mean(shared, groups)
    assert one.value == pytest.approx(alone.value, abs=1e-12)
    assert one.error == pytest.approx(alone.error, rel=1e-6)  # equal seeds add nothing
    assert (one.low, one.high) == pytest.approx((alone.low, alone.high), rel=1e-3)
    apart = alike + np.array([-1.0, 0.0, 1.0])[:, None]
    more = estimate(resample_mean((0, 1, 2), apart, groups))
    assert more.value == pytest.approx(one.value, abs=1e-12)
    assert more.error == pytest.approx(np.sqrt(one.error**2 + 1 / 3), rel=1e-6)
