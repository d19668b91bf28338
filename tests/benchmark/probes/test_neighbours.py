"""Nearest neighbours: those of a search in float64, whatever the blocks, the ties and the rounding of the device."""

import numpy as np
import pytest
import torch

from benchmark.probes import _neighbours
from benchmark.probes._neighbours import GRID, SPARE, Bank

K = 20


def drawn(kind: str) -> tuple[np.ndarray, np.ndarray]:
    """A bank of 700 rows and 90 queries."""
    rng = np.random.default_rng(0)
    bank, asked = (rng.normal(size=(count, 48)).astype(np.float32) for count in (700, 90))
    if kind == "alike":  # cosines above .999999, of an encoder that has not learnt
        return bank / 1000 + 1, asked / 1000 + 1
    if kind == "copies":  # more of one image than the search has to spare
        bank[5::9] = bank[2]
        asked[::2] = bank[2] + asked[::2] / 100
    if kind == "collapsed":
        return np.ones_like(bank), asked
    if kind == "zeros":
        bank[::3], asked[:4] = 0, 0
    if kind == "few":
        bank = bank[: K + SPARE - 5]
    return bank, asked


def searched(bank: np.ndarray, asked: np.ndarray, k: int) -> np.ndarray:
    """By the definition, one cosine at a time."""
    lengths = [np.linalg.norm(x.astype(float), axis=1).clip(min=1e-12) for x in (bank, asked)]
    cosine = (asked.astype(float)[:, None] * bank.astype(float)).sum(axis=2) / lengths[0] / lengths[1][:, None]
    return np.argsort(-np.round(cosine / GRID), axis=1, kind="stable")[:, :k]


@pytest.fixture(params=["plain", "alike", "copies", "collapsed", "zeros", "few"])
def parts(request):
    return drawn(request.param)


@pytest.mark.parametrize(("block", "size"), [(1024, 16_384), (7, 100), (50, 9)])
def test_neighbours_are_those_of_the_definition_whatever_the_blocks(parts, block, size, monkeypatch):
    monkeypatch.setattr(_neighbours, "BLOCK", block)
    monkeypatch.setattr(_neighbours, "SLICE", size)
    index, cosine = Bank(parts[0]).nearest(parts[1], K)
    assert np.array_equal(index, searched(*parts, K))
    assert (np.diff(cosine, axis=1) <= GRID).all()


def test_the_neighbours_of_a_smaller_k_are_the_first_of_a_larger(parts):
    bank = Bank(parts[0])
    (some, near), (every, cosine) = bank.nearest(parts[1], 5), bank.nearest(parts[1], K)
    assert np.array_equal(some, every[:, :5])
    assert np.array_equal(near, cosine[:, :5])


def test_a_device_that_rounds_otherwise_finds_the_same(parts, monkeypatch):
    """Scores off by as much as fp32 may make them, which changes their order."""
    expected, product = Bank(parts[0]).nearest(parts[1], K), torch.addmm
    noise = torch.Generator().manual_seed(0)

    def elsewhere(offset, query, rows):
        error = 25 * torch.finfo(torch.float32).eps * query.norm(dim=1, keepdim=True) * rows.norm(dim=0)
        score = product(offset, query, rows)
        return score + error * (2 * torch.rand(score.shape, generator=noise) - 1)

    monkeypatch.setattr(_neighbours.torch, "addmm", elsewhere)
    found = Bank(parts[0]).nearest(parts[1], K)
    assert all(map(np.array_equal, found, expected))


def test_only_what_fp32_cannot_tell_is_searched_in_float64(monkeypatch):
    again, exactly = [], Bank._search_exactly
    monkeypatch.setattr(
        Bank, "_search_exactly", lambda self, query, count: again.append(len(query)) or exactly(self, query, count)
    )
    for kind in ("plain", "alike", "few"):
        bank, asked = drawn(kind)
        Bank(bank).nearest(asked, K)
    assert not again
    bank, asked = drawn("copies")
    Bank(bank).nearest(asked, K)
    (count,) = again
    assert 45 <= count < 60  # those beside the copies, and a few that have them near their last neighbours


def test_a_bank_too_large_for_its_keys_is_refused(monkeypatch):
    monkeypatch.setattr(_neighbours, "PLACES", 10)
    with pytest.raises(ValueError, match="among 11 rows: at most 10; use fewer training images"):
        Bank(np.ones((11, 3), np.float32))
