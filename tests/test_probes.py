"""Probes: separable features give 1.0, shuffled labels give chance, and the fit never receives a test label."""

import inspect

import numpy as np
import pytest

from benchmark import metrics, registry
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


def test_linear_equals_scikit_learn_at_the_chosen_penalty():
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    linear = registry.load("probes", "linear")
    train, val, test = features(240, 0, signal=1.0), features(60, 1, signal=1.0), features(90, 2, signal=1.0)
    fitted = linear.fit(train, val, linear.Settings(), 3, 0)
    c = next(trial.settings["c"] for trial in fitted.grid if trial.selected)
    x = np.concatenate([train.x, val.x]).astype(float)
    scaler = StandardScaler().fit(x)
    oracle = LogisticRegression(C=c, tol=1e-10, max_iter=10_000).fit(
        scaler.transform(x), np.concatenate([train.y, val.y])
    )
    assert fitted.predict(test.x) == pytest.approx(
        oracle.predict_proba(scaler.transform(test.x.astype(float))), abs=1e-4
    )


def test_knn_equals_brute_force():
    knn = registry.load("probes", "knn")
    train, val, test = features(60, 0, signal=1.0), features(30, 1, signal=1.0), features(20, 2, signal=1.0)
    settings = knn.Settings(k=(5,))
    scores = knn.fit(train, val, settings, 3, 0).predict(test.x)
    bank, labels = np.concatenate([train.x, val.x]).astype(float), np.concatenate([train.y, val.y])
    for query, found in zip(test.x.astype(float), scores, strict=True):
        cosines = [query @ b / np.linalg.norm(query) / np.linalg.norm(b) for b in bank]
        votes = np.zeros(3)
        for i in sorted(range(len(bank)), key=lambda i: -cosines[i])[:5]:
            votes[labels[i]] += np.exp(cosines[i] / 0.07)
        assert found == pytest.approx(votes / votes.sum())
