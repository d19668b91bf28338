"""Scores as they are stored: rounded to what they can bear, and of two that follow from each other one."""

import numpy as np
import pyarrow as pa

SPREAD_BITS = 9  # a step is at most 2^-9 of the scores' deviation,
REST_BITS = 11  # at most 2^-10 of what a score lacks to 0 or to 1,
FINEST = -52  # and at least 2^-52: what float64 holds of a number below 1


def quantise(scores: np.ndarray) -> np.ndarray:
    """Probabilities (N, C) in steps of powers of two that are finer where scores lie closely, by themselves or at 0 or
    1. Their order stays, apart from ties. Of two classes the first has exactly what the second lacks to 1.
    """
    if scores.shape[1] == 2:
        second = _rounded(scores[:, 1:])
        return np.hstack([1 - second, second])
    return _rounded(scores)


def _rounded(scores: np.ndarray) -> np.ndarray:
    rest = np.minimum(scores, 1 - scores)
    step = np.minimum(np.frexp(scores.std(axis=0))[1] - SPREAD_BITS, np.frexp(rest)[1] - REST_BITS)
    step = np.maximum(step, FINEST)
    found = np.ldexp(np.round(np.ldexp(rest, -step)), step)
    return np.where(scores <= 0.5, found, 1 - found)


def pack(rows: pa.Table) -> pa.Table:
    """Predictions with the second class's score alone, where the first always is what it lacks to 1; else as they are.
    `unpack` gives the first again."""
    lists = rows["scores"].combine_chunks()
    if not (lists.value_lengths().to_numpy() == 2).all():
        return rows
    first, second = lists.flatten().to_numpy().reshape(-1, 2).T
    return _with(rows, second, np.ones(len(rows), dtype=int)) if np.array_equal(first, 1 - second) else rows


def unpack(rows: pa.Table) -> pa.Table:
    """Predictions of which some have the second class's score alone, with both."""
    lists = rows["scores"].combine_chunks()
    counts = lists.value_lengths().to_numpy()
    alone = counts == 1
    if not alone.any():
        return rows
    scores = np.insert(lists.flatten().to_numpy(), np.flatnonzero(np.repeat(alone, counts)), np.nan)
    counts = np.where(alone, 2, counts)
    first = (np.cumsum(counts) - counts)[alone]
    scores[first] = 1 - scores[first + 1]
    return _with(rows, scores, counts)


def _with(rows: pa.Table, scores: np.ndarray, counts: np.ndarray) -> pa.Table:
    ends = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    place = rows.schema.get_field_index("scores")
    return rows.set_column(place, rows.schema.field(place), pa.ListArray.from_arrays(ends, scores))
