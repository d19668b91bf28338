"""Probes: separable features give 1.0, shuffled labels give chance, and the fit never receives a test label."""

import inspect

import numpy as np
import pytest
import torch

from benchmark import metrics, registry
from benchmark.encoders.encoder import Encoder
from benchmark.probes import _logistic, attentive
from benchmark.probes._base import Fitted, Labelled, Part
from benchmark.probes._neighbours import Bank
from benchmark.probing.features import extract
from benchmark.recipe import EncoderSpec
from tasks.base import DataError
from tasks.store import Store
from tests.helpers.parts import Arrays, given

EVERY = registry.names("probes")
NAMES = [name for name in EVERY if "classification" in registry.load("probes", name).KINDS]


def features(count: int, seed: int, classes: int = 3, signal: float = 8.0, tokens: bool = False) -> Arrays:
    """Every sample a group of its own. tokens: the same signal in each of four tokens."""
    rng = np.random.default_rng(seed)
    y = np.arange(count) % classes
    x = rng.normal(size=(count, 12)).astype(np.float32)
    x[np.arange(count), y] += signal
    x = np.repeat(x[:, None], 4, axis=1).astype(np.float16) if tokens else x
    return Arrays(x, y, np.array([f"{seed}-g{i}" for i in range(count)]))


def parts(probe, signal: float = 8.0) -> list[Arrays]:
    """Training, validation and test part as the probe needs them."""
    sizes = ((240, 0), (60, 1), (90, 2))
    return [features(*size, signal=signal, tokens=getattr(probe, "TOKENS", False)) for size in sizes]


def fitted(probe, train: Arrays, val: Arrays, seed: int = 0) -> list[Fitted]:
    """One for every condition."""
    found = probe.fit(*given(train, val), probe.Settings(), 3, seed=seed)
    return found if isinstance(found, list) else [found]


@pytest.fixture(params=NAMES)
def probe(request):
    return registry.load("probes", request.param)


def test_separable_features_are_solved(probe):
    train, val, test = parts(probe)
    for one in fitted(probe, train, val):
        scores = one.predict(*given(test))
        assert one.fraction < 0.1 or metrics.score("auroc", test.y, scores) > 0.9
        assert scores.sum(axis=1) == pytest.approx(np.ones(90), abs=2e-4)
        if one.shots is None and one.fraction == 1:
            assert metrics.score("accuracy", test.y, scores) == 1.0


def test_shuffled_labels_are_chance(probe):
    rng = np.random.default_rng(0)
    tokens = getattr(probe, "TOKENS", False)
    train, val, test = (
        f._replace(y=rng.permutation(f.y))
        for f in (features(n, i, tokens=tokens) for i, n in enumerate((600, 150, 600)))
    )
    areas = [metrics.score("auroc", test.y, one.predict(*given(test))) for one in fitted(probe, train, val)]
    assert np.mean(areas) == pytest.approx(0.5, abs=0.07)


def test_the_whole_grid_is_kept_and_one_point_chosen(probe):
    for one in fitted(probe, *parts(probe)[:2]):
        assert len(one.grid) != 1
        if one.grid:
            assert sum(trial.selected for trial in one.grid) == 1
            assert max(trial.score for trial in one.grid) == next(t.score for t in one.grid if t.selected)


def test_same_seed_same_answer(probe):
    train, val, test = parts(probe, signal=1.0)
    first, second = (
        [one.predict(given(test)[0].take(np.arange(30))) for one in fitted(probe, train, val)] for _ in "ab"
    )
    assert np.array_equal(first, second)


def test_conditions_differ_so_that_no_two_answers_are_taken_for_one(probe):
    found = [(one.fraction, one.shots, one.draw) for one in fitted(probe, *parts(probe)[:2])]
    assert len(set(found)) == len(found)


def test_the_signature_cannot_express_a_test_label(probe):
    """It is fitted to labelled parts, and asked about parts that have neither labels nor masks, nor a way to them."""
    assert list(inspect.signature(probe.fit).parameters) == ["train", "val", "settings", "classes", "seed"]
    assert issubclass(Labelled, Part)
    assert not {"labels", "masks"} & set(dir(Part))
    hidden = given(features(9, 0))[0]._inputs.unlabelled()
    assert hidden.labels is None
    for kind in ("masks", "tokens"):
        with pytest.raises(DataError, match="this encoder gives pooled features alone"):
            getattr(hidden, kind)


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


@pytest.mark.parametrize("spec", [(64, 2, 32, 8), (192, 12, 64, 16)])
def test_rounding_of_a_collapsed_encoder_is_no_feature(spec):
    """Images that differ by less than fp32 can tell: no probe may enlarge what is left of them."""
    width, depth, pixels, patch = spec
    frozen = Encoder(EncoderSpec(width=width, depth=depth, heads=width // 32, patch=patch, pixels=pixels), seed=0)
    with torch.no_grad():
        frozen.vit.patch_embed.proj.weight.mul_(1e-8)
    images = np.random.default_rng(0).integers(0, 256, (300, pixels, pixels, 3), np.uint8)
    found = extract(frozen, Store("noise", tuple(map(str, range(300))), images, ()))["patches"]
    assert (found.std(axis=0, dtype=np.float64) > 0).any()
    y, group = np.arange(300) % 2, np.arange(300).astype(str)
    train, val, test = (Arrays(found[i::3], y[i::3], group[i::3]) for i in range(3))
    (model,) = _logistic.fit(train.x, train.y, 2, [10.0], tolerance=1e-9, iterations=100)
    assert (model.scale == 1).all()
    for name in ("linear", "fewshot"):
        probe = registry.load("probes", name)
        fitted = probe.fit(*given(train, val), probe.Settings(), 2, 0)
        for one in fitted if isinstance(fitted, list) else [fitted]:
            assert len(np.unique(one.predict(*given(test)), axis=0)) == 1


def test_small_features_beside_large_ones_are_kept():
    x, y = correlated(60, 1, 3)
    x = (x - x.mean(axis=0)) * np.logspace(-9, 9, x.shape[1])
    (model,) = _logistic.fit(x.astype(np.float32), y, 3, [1.0], tolerance=1e-9, iterations=100)
    assert (model.scale < 1e-8).any()
    assert not (model.scale == 1).any()


def test_linear_refits_the_chosen_penalty_on_training_and_validation():
    linear = registry.load("probes", "linear")
    train, val, test = features(240, 0, signal=1.0), features(60, 1, signal=1.0), features(90, 2, signal=1.0)
    fitted = linear.fit(*given(train, val), linear.Settings(), 3, 0)
    c = next(trial.settings["c"] for trial in fitted.grid if trial.selected)
    x, y = np.concatenate([train.x, val.x]), np.concatenate([train.y, val.y])
    (model,) = _logistic.fit(x, y, 3, [c], tolerance=1e-9, iterations=100)
    np.testing.assert_array_equal(fitted.predict(*given(test)), model.probabilities(test.x))


def test_knn_equals_brute_force():
    knn = registry.load("probes", "knn")
    train, val, test = features(60, 0, signal=1.0), features(30, 1, signal=1.0), features(20, 2, signal=1.0)
    weighted, equal = (
        knn.fit(*given(train, val), knn.Settings(k=(5,), votes=(vote,)), 3, 0).predict(*given(test))
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


def test_knn_searches_once_for_the_whole_grid(monkeypatch):
    knn, asked = registry.load("probes", "knn"), []
    train, val, test = features(60, 0, signal=1.0), features(30, 1, signal=1.0), features(20, 2, signal=1.0)
    nearest = Bank.nearest
    monkeypatch.setattr(Bank, "nearest", lambda self, x, k: asked.append((len(x), k)) or nearest(self, x, k))
    fitted = knn.fit(*given(train, val), knn.Settings(), 3, 0)
    assert asked == [(30, 20)]
    for trial in fitted.grid:
        point = {"k": (trial.settings["k"],), "votes": (trial.settings["vote"],)}
        assert knn.fit(*given(train, val), knn.Settings(**point), 3, 0).grid[0].score == trial.score
    (best,) = [trial.settings for trial in fitted.grid if trial.selected]
    alone = knn.fit(*given(train, val), knn.Settings(k=(best["k"],), votes=(best["vote"],)), 3, 0)
    assert np.array_equal(fitted.predict(*given(test)), alone.predict(*given(test)))


def test_few_shots_equal_the_paper_s_centred_nearest_mean():
    fewshot = registry.load("probes", "fewshot")
    train, val, test = parts(fewshot, signal=2.0)
    for one in fewshot.fit(
        *given(train, val), fewshot.Settings(shots=(80,), draws=2), 3, 0
    ):  # every image is in the support
        x = train.x - train.x.mean(axis=0)
        x /= np.linalg.norm(x, axis=1, keepdims=True)
        asked = test.x - train.x.mean(axis=0)
        asked /= np.linalg.norm(asked, axis=1, keepdims=True)
        distances = [((asked - x[train.y == c].mean(axis=0)) ** 2).sum(axis=1) for c in range(3)]
        assert np.array_equal(one.predict(*given(test)).argmax(axis=1), np.argmin(distances, axis=0))


def test_few_shots_come_from_as_many_groups_and_never_beyond_them():
    fewshot = registry.load("probes", "fewshot")
    train, val, _ = parts(fewshot)
    grouped = train._replace(group=np.array([f"p{i // 60}-{i % 3}" for i in range(240)]))  # four groups of each class
    found = fewshot.fit(*given(grouped, val), fewshot.Settings(draws=3), 3, 0)
    assert {one.shots for one in found} == {1, 2, 4}
    chosen = fewshot._support(fewshot._members(*given(grouped), 1), 4, np.random.default_rng(0))
    assert len(set(grouped.group[chosen])) == 4
    assert set(grouped.y[chosen]) == {1}
    alone = train._replace(group=np.where(train.y == 2, "p", train.group))
    with pytest.raises(ValueError, match="class 2 has 1 training groups, 2 needed"):
        fewshot.fit(*given(alone, val), fewshot.Settings(shots=(2,)), 3, 0)


def test_a_label_budget_counts_validation_labels():
    efficiency = registry.load("probes", "efficiency")
    train, val, _ = parts(efficiency)
    both = Arrays(*(np.concatenate(pair) for pair in zip(train, val, strict=True)))
    drawn = [efficiency._drawn(*given(both), share, 3, np.random.default_rng(0)) for share in (0.01, 0.1)]
    assert [sum(len(part) for part in parts_) for parts_ in drawn] == [6, 30]  # of 300: two groups a class at least
    for chosen_for, chosen_by in drawn:
        assert not set(chosen_for.groups) & set(chosen_by.groups)
        assert set(chosen_for.labels) == set(chosen_by.labels) == {0, 1, 2}
    assert set(drawn[0][0].groups) | set(drawn[0][1].groups) <= set(drawn[1][0].groups) | set(drawn[1][1].groups)
    whole = efficiency.fit(*given(train, val), efficiency.Settings(fractions=(1.0,)), 3, 0)
    linear = registry.load("probes", "linear").fit(*given(train, val), efficiency.Settings(), 3, 0)
    assert len(whole) == 1
    assert np.array_equal(whole[0].predict(*given(train)), linear.predict(*given(train)))


def test_two_layers_read_agreement_and_one_does_not():
    rng = np.random.default_rng(0)

    def drawn(count: int) -> Arrays:
        levels = rng.integers(0, 2, (count, 2))
        x = rng.normal(size=(count, 12)).astype(np.float32)
        x[:, :2] += 5 * levels
        return Arrays(x, (levels[:, 0] == levels[:, 1]).astype(int), np.arange(count).astype(str))

    train, val, test = drawn(600), drawn(200), drawn(400)
    scores = {}
    for name in ("linear", "mlp"):
        probe = registry.load("probes", name)
        one = probe.fit(*given(train, val), probe.Settings(), 2, seed=0)
        scores[name] = metrics.score("auroc", test.y, one.predict(*given(test)))
    assert scores["linear"] < 0.6
    assert scores["mlp"] > 0.97


def test_an_attentive_probe_finds_the_one_patch_that_tells():
    linear = registry.load("probes", "linear")
    rng = np.random.default_rng(0)

    def drawn(count: int) -> Arrays:
        x, y = rng.normal(size=(count, 16, 12)), np.arange(count) % 2
        place = rng.integers(16, size=count)
        x[np.arange(count), place, 0] += 6  # a marker in one patch of all, in whose company another feature decides
        x[np.arange(count), place, 1] = np.where(y, 3, -3)
        return Arrays(x.astype(np.float16), y, np.arange(count).astype(str))

    train, val, test = drawn(400), drawn(100), drawn(300)
    mean = [part._replace(x=part.x.mean(axis=1, dtype=np.float32)) for part in (train, val, test)]
    reached = attentive.fit(*given(train, val), attentive.Settings(), 2, 0).predict(*given(test))
    pooled = linear.fit(*given(*mean[:2]), linear.Settings(), 2, 0).predict(*given(mean[2]))
    assert metrics.score("auroc", test.y, reached) > 0.97 > 0.9 > metrics.score("auroc", test.y, pooled)


@pytest.mark.parametrize("width", [12, 192])
def test_the_attentive_reader_is_layernorm_and_multi_head_attention(width):
    """Logits and gradients of the same parameters read as written in the paper: keys and values of every token."""
    torch.manual_seed(0)
    reader = attentive.Reader(width, 3)
    with torch.no_grad():
        for vector in (reader.before.weight, reader.before.bias, reader.attention.in_proj_bias, reader.query):
            vector.add_(torch.randn_like(vector))
    tokens, truth = torch.randn(5, 16, width) * 3 + 1, torch.tensor([0, 1, 2, 0, 1])

    def as_written() -> torch.Tensor:
        keys, query = reader.before(tokens), reader.query.expand(len(tokens), -1, -1)
        x = query + reader.attention(query, keys, keys)[0]
        return reader.head((x + reader.mlp(reader.after(x)))[:, 0])

    def told(logits: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        loss = torch.nn.functional.cross_entropy(logits, truth)
        return logits, torch.autograd.grad(loss, list(reader.parameters()))

    (wanted, slopes), (found, others) = told(as_written()), told(reader(attentive.standardised(tokens)))
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)
    for slope, other in zip(slopes, others, strict=True):
        torch.testing.assert_close(other, slope, atol=1e-5, rtol=1e-4)
