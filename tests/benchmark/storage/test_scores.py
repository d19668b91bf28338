"""Stored scores: rounded without loss of what they are for, and packed without loss at all."""

import numpy as np
import pyarrow as pa
import pytest
from scipy.special import expit, softmax
from sklearn.metrics import roc_auc_score

from benchmark.storage import schema, scores


def pair(second: np.ndarray) -> np.ndarray:
    return np.stack([1 - second, second], axis=1)


@pytest.mark.parametrize("centre", [-9.0, -1.0, 0.0, 2.0, 14.0])
@pytest.mark.parametrize("spread", [1e-4, 0.03, 1.0, 8.0])
def test_quantised_scores_keep_order_sum_and_auroc(centre, spread):
    rng = np.random.default_rng(0)
    labels = np.arange(2000) % 2
    given = pair(expit(centre + spread * (rng.normal(size=2000) + labels)))
    found = scores.quantise(given)
    assert np.array_equal(found[:, 0], 1 - found[:, 1])
    assert (np.diff(found[np.argsort(given[:, 1]), 1]) >= 0).all()
    assert np.abs(found - given).max() <= given[:, 1].std() * 2**-9
    assert abs(roc_auc_score(labels, found[:, 1]) - roc_auc_score(labels, given[:, 1])) < 2e-4
    assert len(np.unique(found[:, 1])) > 200


def test_quantised_scores_take_a_quarter_of_the_bits():
    given = pair(expit(np.random.default_rng(0).normal(size=20_000)))
    _, counts = np.unique(scores.quantise(given)[:, 1], return_counts=True)
    share = counts / counts.sum()
    assert -(share * np.log2(share)).sum() < 12.5


def test_constant_and_certain_scores_and_several_classes():
    constant = pair(np.full(10, 0.3))
    assert scores.quantise(constant) == pytest.approx(constant, abs=2**-52)
    certain = pair(np.array([0.0, 1.0, 1.0]))
    assert np.array_equal(scores.quantise(certain), certain)
    several = softmax(np.random.default_rng(0).normal(size=(500, 5)), axis=1)
    found = scores.quantise(several)
    assert found == pytest.approx(several, abs=2**-10)
    assert np.array_equal(found.argmax(axis=1), several.argmax(axis=1))


def rows(given: list[list[float]]) -> pa.Table:
    names = schema.TABLES["predictions"].names
    return schema.table("predictions", [dict.fromkeys(names) | {"scores": one} for one in given])


def test_scores_of_two_classes_are_packed_as_one_and_come_back_beside_others():
    two = rows(scores.quantise(pair(expit(np.random.default_rng(0).normal(size=50)))).tolist())
    packed = scores.pack(two)
    assert set(packed["scores"].combine_chunks().value_lengths().to_pylist()) == {1}
    assert scores.unpack(packed).equals(two)
    three, loose = rows([[0.2, 0.3, 0.5]] * 4), rows([[0.1, 0.3], [0.3, 0.7]])  # areas of a mask, an earlier version's
    for other in (three, loose):
        assert scores.pack(other) is other
        assert scores.unpack(other) is other
    mixed = pa.concat_tables([three, packed, loose, packed.slice(3, 2)])
    assert scores.unpack(mixed)["scores"].to_pylist() == (
        pa.concat_tables([three, two, loose, two.slice(3, 2)])["scores"].to_pylist()
    )
