"""Metrics against scikit-learn, and their resampled forms against copies of the samples."""

import numpy as np
import pytest
from sklearn import metrics as oracle

from benchmark.metrics import (
    BINS,
    HEADLINES,
    METRICS,
    SEGMENTATION,
    auroc_bilinear,
    chance,
    dice,
    fold_resampled,
    fold_score,
    resampled,
    score,
)
from benchmark.metrics import areas as metrics_areas


def drawn(seed: int, samples: int = 120, classes: int = 3, groups: int = 20):
    """Labels, scores with many ties, groups."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(classes, size=samples)
    scores = np.round(rng.dirichlet(np.ones(classes), size=samples) + np.eye(classes)[labels] * 0.2, 1)
    return labels, scores, rng.integers(groups, size=samples)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("classes", [2, 3, 5])
def test_metrics_equal_scikit_learn(seed, classes):
    labels, scores, _ = drawn(seed, classes=classes)
    predicted = scores.argmax(1)
    assert score("accuracy", labels, scores) == pytest.approx(oracle.accuracy_score(labels, predicted), abs=1e-14)
    assert score("balanced_accuracy", labels, scores) == pytest.approx(
        oracle.balanced_accuracy_score(labels, predicted), abs=1e-14
    )
    assert score("macro_f1", labels, scores) == pytest.approx(
        oracle.f1_score(labels, predicted, average="macro"), abs=1e-14
    )
    columns = [1] if classes == 2 else range(classes)
    expected = np.mean([oracle.roc_auc_score(labels == c, scores[:, c]) for c in columns])
    assert score("auroc", labels, scores) == pytest.approx(expected, abs=1e-14)
    expected = np.mean([oracle.average_precision_score(labels == c, scores[:, c]) for c in columns])
    assert score("auprc", labels, scores) == pytest.approx(expected, abs=1e-13)


@pytest.mark.parametrize("classes", [2, 4])
def test_brier_equals_scikit_learn(classes):
    labels, scores, _ = drawn(0, classes=classes)
    scores /= scores.sum(axis=1, keepdims=True)
    given = scores[:, 1] if classes == 2 else scores
    assert score("brier", labels, scores) == pytest.approx(oracle.brier_score_loss(labels, given), abs=1e-14)


def test_calibration_error_of_known_cases():
    exact = np.repeat(np.c_[[0.25, 0.4], [0.75, 0.6]], [4, 10], axis=0)  # right in 3 of 4 and in 6 of 10
    labels = np.array([1, 1, 1, 0, *[1] * 6, *[0] * 4])
    assert score("ece", labels, exact) == pytest.approx(0, abs=1e-15)
    sure = np.tile([0.1, 0.9], (14, 1))  # right in 9 of 14
    assert score("ece", labels, sure) == pytest.approx(0.9 - 9 / 14, abs=1e-14)
    assert score("ece", labels, np.c_[1 - labels, labels].astype(float)) == 0
    assert score("ece", 1 - labels, np.c_[1 - labels, labels].astype(float)) == 1


def test_calibration_error_equals_bins_of_equal_counts():
    rng = np.random.default_rng(0)
    scores, labels = rng.dirichlet(np.ones(3), size=20 * BINS), rng.integers(3, size=20 * BINS)
    order = np.argsort(scores.max(axis=1))
    right = scores.argmax(axis=1) == labels
    parts = np.split(order, BINS)
    expected = np.mean([abs(scores.max(axis=1)[part].mean() - right[part].mean()) for part in parts])
    assert score("ece", labels, scores) == pytest.approx(expected, abs=1e-14)


def test_dice_of_known_cases():
    assert dice(np.array([2, 0, 0]), np.array([4, 3, 9]), np.array([4, 5, 0])) == 0.25  # the last image shows nothing
    assert np.isnan(dice(np.array([0]), np.array([5]), np.array([0])))
    truth, said = np.array([0, 1, 1, 0, 1]), np.array([1, 1, 0, 0, 1])
    areas = ((truth & said).sum(), said.sum(), truth.sum())
    assert dice(*(np.array([area]) for area in areas)) == pytest.approx(oracle.f1_score(truth, said), abs=1e-14)


def test_overlaps_of_known_cases_and_of_scikit_learn():
    areas = np.array([[2.0, 4, 4], [0, 3, 5], [0, 9, 0], [6, 6, 6]])  # the third shows nothing
    labels = np.zeros(4, dtype=int)
    assert score("dice", labels, areas) == pytest.approx((0.5 + 0 + 1) / 3)
    assert score("iou", labels, areas) == pytest.approx((2 / 6 + 0 + 1) / 3)
    truth, said = np.random.default_rng(0).random((2, 5, 8, 8)) > 0.6
    found = metrics_areas(said, truth)
    expected = [oracle.jaccard_score(t.ravel(), s.ravel()) for t, s in zip(truth, said, strict=True)]
    assert score("iou", labels[:1].repeat(5), found) == pytest.approx(np.mean(expected), abs=1e-14)


@pytest.mark.parametrize("metric", SEGMENTATION)
def test_resampled_overlaps_equal_copies_of_the_images(metric):
    rng = np.random.default_rng(1)
    truth, said = rng.random((2, 60, 6, 6)) > rng.random((60, 1, 1))
    truth[:7] = False
    areas, labels, groups = metrics_areas(said, truth), rng.integers(3, size=60), rng.integers(9, size=60)
    weights = rng.multinomial(9, np.ones(9) / 9, size=30).astype(float)
    zeros = np.zeros(60, dtype=int)
    values, lost = resampled(metric, labels, areas, groups, weights)
    expected = [copies(metric, labels, areas, groups, row, zeros, zeros) for row in weights]
    np.testing.assert_allclose(values, expected, atol=1e-12)
    assert not lost.any()
    only = np.where(areas[:, 2] == 0, 0, 1)  # a draw of images without the structure says nothing
    values, lost = resampled(metric, labels, areas, only, np.array([[1.0, 0], [0, 1]]))
    assert lost.tolist() == [True, False]
    assert np.isnan(values).tolist() == [True, False]


def test_headlines_are_metrics_of_which_more_is_better():
    perfect = np.eye(2)[[0, 1, 0, 1]]
    for name in METRICS:
        assert score(name, [0, 1, 0, 1], perfect) == (1.0 if name in HEADLINES else 0.0)


def test_auroc_of_known_cases():
    assert score("auroc", [0, 0, 1, 1], np.c_[[0, 0, 0, 0], [0.1, 0.4, 0.35, 0.8]]) == 0.75
    assert score("auroc", [0, 1], np.c_[[0, 0], [0.5, 0.5]]) == 0.5
    assert np.isnan(score("auroc", [1, 1], np.c_[[0, 0], [0.1, 0.9]]))
    labels, scores, _ = drawn(1)
    present = labels < 2  # the third class is missing: the mean is over the other two
    expected = np.mean([oracle.roc_auc_score(labels[present] == c, scores[present, c]) for c in (0, 1)])
    assert score("auroc", labels[present], scores[present]) == pytest.approx(expected, abs=1e-14)


def test_scores_are_checked():
    with pytest.raises(ValueError, match=r"unknown metric 'auc'; known: auroc"):
        score("auc", [0], [[1, 0]])
    with pytest.raises(ValueError, match="not finite"):
        score("auroc", [0, 1], [[1, np.nan], [0, 1]])
    with pytest.raises(ValueError, match="do not index 2 columns"):
        score("accuracy", [0, 2], [[1, 0], [0, 1]])
    with pytest.raises(ValueError, match=r"should be \(N,\) and \(N, C\)"):
        score("accuracy", [0, 1], [0.2, 0.3])
    assert np.isnan(score("accuracy", np.empty(0, int), np.empty((0, 2))))


def test_folds_are_averaged_and_never_pooled():
    labels = np.array([0, 1, 0, 1, 1, 1, 0, 1])
    risk = np.array([0.1, 0.2, 0.8, 0.9, 0.3, 0.4, 0.5, 0.1])
    scores, repeat, fold = np.c_[1 - risk, risk], np.array([0] * 6 + [1] * 2), np.array([0, 0, 1, 1, 2, 2, 0, 0])
    assert score("auroc", labels[:4], scores[:4]) == 0.75  # pooled: another number
    assert fold_score("auroc", labels, scores, repeat, fold) == pytest.approx(
        (1.0 + 0.0) / 2
    )  # undefined fold left out


def copies(metric, labels, scores, groups, weights, repeat, fold):
    """Brute force: every sample as often as its group was drawn."""
    rows = np.repeat(np.arange(len(labels)), weights[groups].astype(int))
    return fold_score(metric, labels[rows], scores[rows], repeat[rows], fold[rows])


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(("samples", "groups", "classes"), [(200, 6, 2), (60, 40, 3), (200, 8, 4)])
def test_resampling_equals_copies_of_the_samples(metric, samples, groups, classes):
    labels, scores, member = drawn(3, samples, classes, groups)
    weights = np.random.default_rng(0).multinomial(groups, np.ones(groups) / groups, size=40).astype(float)
    zeros = np.zeros(samples, dtype=int)
    values, lost = resampled(metric, labels, scores, member, weights)
    expected = [copies(metric, labels, scores, member, row, zeros, zeros) for row in weights]
    np.testing.assert_allclose(values, expected, atol=1e-12)
    assert lost.shape == (40,)
    fold, repeat = member % 3, np.arange(samples) % 2
    values, _ = fold_resampled(metric, labels, scores, member, repeat, fold, weights)
    expected = [copies(metric, labels, scores, member, row, repeat, fold) for row in weights]
    np.testing.assert_allclose(values, expected, atol=1e-12)


def test_lost_classes_are_flagged():
    labels, groups = np.array([0, 1, 1]), np.array([0, 1, 2])
    scores, weights = np.c_[[0.9, 0.2, 0.1], [0.1, 0.8, 0.9]], np.array([[1.0, 1, 1], [0, 2, 1], [2, 0, 1]])
    for metric in ("auroc", "balanced_accuracy"):
        values, lost = resampled(metric, labels, scores, groups, weights)
        assert lost.tolist() == [False, True, False]
        assert np.isnan(values[1]) == (metric == "auroc")


def test_bilinear_form_is_the_auroc_under_equal_weights():
    labels, scores, groups = drawn(5, 300, 3, 12)
    form = auroc_bilinear(labels, scores, groups)
    assert form.wins.shape == (3, 12, 12)
    assert form.draws(np.ones((1, 12))).mean() == pytest.approx(score("auroc", labels, scores), abs=1e-14)


def test_only_metrics_with_a_constant_chance_level_have_one():
    assert (chance("auroc", 4), chance("balanced_accuracy", 4)) == (0.5, 0.25)
    assert chance("accuracy", 4) is None
    assert chance("macro_f1", 4) is None


def test_folds_of_repeats_are_averaged_whatever_the_order_of_rows():
    rng = np.random.default_rng(0)
    repeat, fold = rng.integers(3, size=400), rng.integers(4, size=400)
    labels, scores = rng.integers(2, size=400), rng.dirichlet((1, 1), size=400)
    expected = [
        [score("auroc", *(v[(repeat == r) & (fold == f)] for v in (labels, scores))) for f in range(4)]
        for r in range(3)
    ]
    assert fold_score("auroc", labels, scores, repeat, fold) == np.mean([np.mean(folds) for folds in expected])
    assert np.isnan(fold_score("auroc", labels[:0], scores[:0], repeat[:0], fold[:0]))
