"""Intervals: known cases, error rates under simulation, and the rules on few groups and few seeds."""

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from leaderboards import statistics
from leaderboards.statistics import Predictions, averaged, draw, estimate, gain, holm, letters, resample, verdict


def predictions(rng, shift, *, groups=60, images=4, method=None, folds=1, repeats=1):
    """Images nested in patients; `method` (G,) is a patient effect of the method, shared by its seeds."""
    label = np.repeat(np.arange(groups) % 2, images)
    group = np.repeat([f"p{g:03d}" for g in range(groups)], images)
    method = rng.normal(size=groups) if method is None else method
    risk = label * (1 + shift) + np.repeat(method, images) + rng.normal(size=groups * images)
    fold = np.repeat(np.arange(groups) // 2 % folds, images)
    return Predictions(
        sample=np.tile([f"{g}/{i}" for i, g in enumerate(group)], repeats),
        group=np.tile(group, repeats),
        label=np.tile(label, repeats),
        scores=np.tile(np.c_[-risk, risk], (repeats, 1)),
        repeat=np.repeat(np.arange(repeats), len(label)),
        fold=np.tile(fold, repeats),
    )


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
    said = [verdict(gain(predictions(rng, 0), predictions(rng, 0), "auroc", draws=500)) for _ in range(300)]
    assert 0.02 <= np.mean([one != "not shown above twin" for one in said]) <= 0.09
    said = [verdict(gain(predictions(rng, 1.5), predictions(rng, 0), "auroc", draws=500)) for _ in range(30)]
    assert said.count("above twin") >= 27


def test_seeds_widen_the_interval_by_the_t_corrected_part():
    rng = np.random.default_rng(2)
    shared = rng.normal(size=60)
    twins = [predictions(rng, 0, method=shared) for _ in range(5)]
    runs = [predictions(rng, shift, method=shared) for shift in (0.2, 0.4, 0.6, 0.8, 1.0)]
    found = gain(runs, twins, "auroc")
    each = [gain(run, twin, "auroc").value for run, twin in zip(runs, twins, strict=True)]
    assert found.value == pytest.approx(np.mean(each), abs=1e-14)
    assert found.seeds == 5
    seeds = stats.t.ppf(0.975, 4) * np.std(each, ddof=1) / np.sqrt(5)
    shared_draws = draw([runs[0]])
    drawn = statistics.minus(
        resample(range(5), runs, "auroc", shared_draws), resample(range(5), twins, "auroc", shared_draws)
    )
    groups = 1.96 * drawn.draws.mean(0).std()
    assert (found.high - found.low) / 2 == pytest.approx(np.hypot(groups, seeds), rel=0.08)
    with pytest.raises(ValueError, match="every seed needs its own twin"):
        gain(runs, twins[:4], "auroc")


@pytest.mark.parametrize(("groups", "expected"), [(18, "too few groups"), (20, "above twin")])
def test_rules_on_few_groups(groups, expected):
    rng = np.random.default_rng(3)
    found = gain(predictions(rng, 4, groups=groups), predictions(rng, -1, groups=groups), "auroc")
    assert verdict(found) == expected
    assert (found.low is None) == (groups < 20)


def test_folds_are_resampled_by_groups_and_undefined_draws_are_counted():
    rng = np.random.default_rng(4)
    run, twin = (predictions(rng, shift, groups=24, folds=6, repeats=2) for shift in (1, 0))
    found = gain(run, twin, "auroc")
    each = [
        np.mean([roc_auc_score(one.label[one.fold == f], one.scores[one.fold == f, 1]) for f in range(6)])
        for one in (run, twin)
    ]
    assert found.value == pytest.approx(each[0] - each[1], abs=1e-14)
    assert 0 < found.draws_undefined <= found.draws == 2000
    assert gain(predictions(rng, 1), predictions(rng, 0), "auroc").draws_undefined == 0


def test_draws_are_stratified_by_label_with_mixed_groups_apart():
    rng = np.random.default_rng(5)
    one = predictions(rng, 0, groups=30)
    label = one.label.copy()
    label[:8:2] = 1 - label[:8:2]  # the first two groups become mixed
    mixed = Predictions(**{**vars(one), "label": label})
    drawn = draw([mixed], draws=50)
    assert drawn.strata == 3
    for members in (slice(0, 2), slice(2, None, 2), slice(3, None, 2)):
        assert len(set(drawn.weights[:, members].sum(1))) == 1
    np.testing.assert_array_equal(drawn.weights, draw([mixed], draws=50).weights)


def test_unpaired_predictions_are_refused():
    rng = np.random.default_rng(6)
    one, other = predictions(rng, 0), predictions(rng, 0, groups=58)
    with pytest.raises(ValueError, match="cannot be paired"):
        gain([one, other], [one, other], "auroc")


def test_scores_averaged_per_group():
    one = predictions(np.random.default_rng(7), 1, groups=10)
    grouped = averaged(one)
    assert grouped.scores.shape == (10, 2)
    np.testing.assert_allclose(grouped.scores[3], one.scores[12:16].mean(0))
    assert grouped.label.tolist() == [0, 1] * 5


def test_identical_runs_are_not_shown_to_differ():
    one = predictions(np.random.default_rng(8), 1)
    assert verdict(gain(one, one, "auroc")) == "not shown above twin"
    assert verdict(estimate(resample((0,), (one,), "auroc", draw([one])))) == "above twin"


def test_holm_and_letters_of_known_cases():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert letters(3, [(0, 2)]) == ["A", "A B", "B"]
    assert letters(3, []) == ["A", "A", "A"]
    assert letters(3, [(0, 1), (0, 2), (1, 2)]) == ["A", "B", "C"]


def test_wording_follows_the_number_of_seeds():
    assert [statistics.subject(n) for n in (1, 2, 5)] == ["this checkpoint", "these checkpoints", "this pretext"]
