"""Probes: separable features give 1.0, shuffled labels give chance, and the fit never receives a test label."""

import inspect

import numpy as np
import pytest

from benchmark import metrics, registry
from benchmark.probes import _logistic
from benchmark.probes._base import Features

NAMES = registry.names("probes")


def features(count: int, seed: int, classes: int = 3, signal: float = 8.0) -> Features:
    rng = np.random.default_rng(seed)
    y = np.arange(count) % classes
    x = rng.normal(size=(count, 12)).astype(np.float32)
    x[np.arange(count), y] += signal
    return Features(x, y, np.array([f"g{i}" for i in range(count)]))


@pytest.fixture(params=NAMES)
def probe(request):
    return registry.load("probes", request.param)


def test_separable_features_are_solved(probe):
    fitted = probe.fit(features(240, 0), features(60, 1), probe.Settings(), 3, seed=0)
    test = features(90, 2)
    scores = fitted.predict(test.x)
    assert metrics.score("accuracy", test.y, scores) == 1.0
    assert metrics.score("auroc", test.y, scores) == 1.0
    assert scores.sum(axis=1) == pytest.approx(np.ones(90))


def test_shuffled_labels_are_chance(probe):
    rng = np.random.default_rng(0)
    train, val, test = (
        f._replace(y=rng.permutation(f.y)) for f in (features(600, 0), features(150, 1), features(600, 2))
    )
    scores = probe.fit(train, val, probe.Settings(), 3, seed=0).predict(test.x)
    assert metrics.score("auroc", test.y, scores) == pytest.approx(0.5, abs=0.07)


def test_the_whole_grid_is_kept_and_one_point_chosen(probe):
    grid = probe.fit(features(240, 0), features(60, 1), probe.Settings(), 3, seed=0).grid
    assert len(grid) > 1
    assert sum(trial.selected for trial in grid) == 1
    assert max(trial.score for trial in grid) == next(trial.score for trial in grid if trial.selected)


def test_same_seed_same_answer(probe):
    test = features(30, 5).x
    first, second = (
        probe.fit(features(240, 0, signal=1.0), features(60, 1), probe.Settings(), 3, 0).predict(test) for _ in "ab"
    )
    assert np.array_equal(first, second)


def test_the_signature_cannot_express_a_test_label(probe):
    assert list(inspect.signature(probe.fit).parameters) == ["train", "val", "settings", "classes", "seed"]


def correlated(count: int, seed: int, classes: int, width: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """Features whose directions differ a thousandfold in size, and labels that depend on them."""
    mixing = np.random.default_rng(0).normal(size=(width, width)) * np.logspace(0, -3, width)[:, None]
    rng = np.random.default_rng(seed)
    y = np.arange(count) % classes
    x = (rng.normal(size=(count, width)) + 0.8 * np.eye(classes, width)[y]) @ mixing + 3
    return x.astype(np.float32), y


@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("count", [30, 400])
def test_regression_equals_scikit_learn(classes, count):
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    (x, y), (unseen, truth) = correlated(count, 1, classes), correlated(500, 2, classes)
    penalties = [10.0, 1e-3, 0.1]
    models = _logistic.fit(x, y, classes, penalties, tolerance=1e-9, iterations=100)
    scaler = StandardScaler().fit(x.astype(float))
    for c, model in zip(penalties, models, strict=True):
        oracle = LogisticRegression(C=c, tol=1e-9, max_iter=100_000).fit(scaler.transform(x.astype(float)), y)
        expected = oracle.predict_proba(scaler.transform(unseen.astype(float)))
        assert model.gradient <= 1e-9
        np.testing.assert_allclose(model.probabilities(unseen), expected, atol=1e-4)
        right = (expected.argmax(1) == truth).mean()
        assert (model.probabilities(unseen).argmax(1) == truth).mean() == pytest.approx(right, abs=0.002)


def test_regression_survives_constant_and_repeated_features():
    x, y = correlated(60, 1, 3)
    x[:, 3], x[:, 4] = 7.0, x[:, 5]
    (model,) = _logistic.fit(x, y, 3, [1.0], tolerance=1e-9, iterations=100)
    assert model.gradient <= 1e-9
    assert np.abs(model.weights[3]).max() < 1e-9
    np.testing.assert_allclose(model.weights[4], model.weights[5], atol=1e-9)


def test_linear_refits_the_chosen_penalty_on_training_and_validation():
    linear = registry.load("probes", "linear")
    train, val, test = features(240, 0, signal=1.0), features(60, 1, signal=1.0), features(90, 2, signal=1.0)
    fitted = linear.fit(train, val, linear.Settings(), 3, 0)
    c = next(trial.settings["c"] for trial in fitted.grid if trial.selected)
    x, y = np.concatenate([train.x, val.x]), np.concatenate([train.y, val.y])
    (model,) = _logistic.fit(x, y, 3, [c], tolerance=1e-9, iterations=100)
    np.testing.assert_array_equal(fitted.predict(test.x), model.probabilities(test.x))


def test_knn_equals_brute_force():
    knn = registry.load("probes", "knn")
    train, val, test = features(60, 0, signal=1.0), features(30, 1, signal=1.0), features(20, 2, signal=1.0)
    weighted, equal = (
        knn.fit(train, val, knn.Settings(k=(5,), votes=(vote,)), 3, 0).predict(test.x)
        for vote in ("temperature", "majority")
    )
    bank, labels = np.concatenate([train.x, val.x]).astype(float), np.concatenate([train.y, val.y])
    for query, found, counted in zip(test.x.astype(float), weighted, equal, strict=True):
        cosines = [query @ b / np.linalg.norm(query) / np.linalg.norm(b) for b in bank]
        votes, count = np.zeros(3), np.zeros(3)
        for i in sorted(range(len(bank)), key=lambda i: -cosines[i])[:5]:
            votes[labels[i]] += np.exp(cosines[i] / 0.07)
            count[labels[i]] += 1
        assert found == pytest.approx(votes / votes.sum())
        assert counted == pytest.approx(count / 5)
