"""Features that are made up, as probes read them."""

from typing import NamedTuple

import numpy as np

from benchmark.probes._base import Inputs, Labelled, Rows


class Arrays(NamedTuple):
    x: np.ndarray  # (N, D), or (N, patches, D) of tokens
    y: np.ndarray  # (N,) labels, or (N, S, S) masks
    group: np.ndarray  # (N,)


def given(*parts: Arrays) -> list[Labelled]:
    """Parts of one task."""
    x, y, group = (np.concatenate(column) for column in zip(*parts, strict=True))
    readers = {"read_tokens": lambda: Rows(x, np.arange(len(x)))} if x.ndim == 3 else {"read_pooled": lambda: x}
    asked = {"read_masks": lambda: y} if y.ndim == 3 else {"labels": y}
    inputs, ends = Inputs(groups=group, **readers, **asked), np.cumsum([len(part.y) for part in parts])[:-1]
    return [Labelled(inputs, index) for index in np.split(np.arange(len(x)), ends)]
