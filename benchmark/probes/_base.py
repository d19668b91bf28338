"""What a probe is: VERSION, KINDS, Settings and `fit(train, val, settings, classes, seed)`. It cannot see a test label.

`fit` reads what it needs of its `Labelled` parts and returns one `Fitted`, or a list of them under different conditions
(fraction of the groups, shots, draw of the support); what it predicts of is a `Part`, which has no labels. A probe that
costs more than a few seconds says ON_REQUEST = True and runs only when named by PROBE=; one of fewer READOUTS names
them; one that reads every patch token says TOKENS = True. One that asks another question than the task's has `pose`,
and `refuse` for images of which it cannot be asked.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple, Self

import numpy as np

from benchmark.parts.subset import subset
from tasks.base import DataError, Folds, Sample, Task
from tasks.splits import Assignment

BLOCK = 8192  # rows in float64 at a time
ROUNDING = 16  # units in the last place by which features that ought to be equal may deviate; 1 or 2 are usual


class Rows:
    """Rows of an array that may be too large for memory. Indexing reads; `part` does not."""

    def __init__(self, array: np.ndarray, index: np.ndarray):
        self.array, self.index = array, index
        self.shape, self.dtype = (len(index), *array.shape[1:]), array.dtype

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, place: Any) -> np.ndarray:
        """As of an array: rows, or rows and what of each of them."""
        rows, *rest = place if isinstance(place, tuple) else (place,)
        return self.array[(self.index[rows], *rest)]

    def part(self, rows: np.ndarray) -> "Rows":
        return Rows(self.array, self.index[rows])


def _nothing(*_: object) -> np.ndarray:
    raise DataError("this encoder gives pooled features alone; leave the probe out")


@dataclass(frozen=True, eq=False, kw_only=True)
class Inputs:
    """All that can be read of N images of a task and a frozen encoder, each computed when it is first asked for."""

    groups: np.ndarray  # (N,) group of every image
    labels: np.ndarray | None = None  # (N,) class indices
    group_kind: str = ""
    modality: str = ""
    tested: np.ndarray | None = None  # positions of those in a test part
    read_pooled: Callable[[], np.ndarray] = _nothing  # (N, D) fp32, of one readout
    read_tokens: Callable[[], Rows] = _nothing  # (N, patches, D) fp16
    read_masks: Callable[[], np.ndarray] = _nothing  # (N, S, S) bool: where the structure lies
    read_changed: Callable[[str, int, np.ndarray], np.ndarray] = _nothing  # pooled, of the images at these positions
    _changed: dict[tuple[str, int], "Inputs"] = field(default_factory=dict)

    @staticmethod
    def of(task: Task, samples: list[Sample], divisions: list[Assignment], **readers: Callable) -> "Inputs":
        """readers: those that there are of an encoder."""
        return Inputs(
            groups=np.array([sample.group for sample in samples]),
            labels=np.array([sample.label for sample in samples]),
            group_kind=task.group_kind,
            modality=task.modality,
            tested=np.unique(np.concatenate([division.test for division in divisions])),
            **readers,
        )

    def unlabelled(self) -> "Inputs":
        readers = {"read_pooled": lambda: self.pooled, "read_tokens": lambda: self.tokens, "read_masks": _nothing}
        return replace(self, labels=None, **readers)

    @cached_property
    def pooled(self) -> np.ndarray:
        return self.read_pooled()

    @cached_property
    def tokens(self) -> Rows:
        return self.read_tokens()

    @cached_property
    def masks(self) -> np.ndarray:
        return self.read_masks()

    @cached_property
    def altered(self) -> np.ndarray:
        """Positions of the test images that are asked about under changes."""
        return subset(self.groups.tolist(), self.tested)

    def changed(self, name: str, strength: int) -> "Inputs":
        """Those at `altered`, under a change of `corruptions`."""
        if (name, strength) not in self._changed:
            x = self.read_changed(name, strength, self.altered)
            self._changed[name, strength] = Inputs(groups=self.groups[self.altered], read_pooled=lambda: x)
        return self._changed[name, strength]


class Part:
    """Some of the images, as a probe may read them: without labels."""

    def __init__(self, inputs: Inputs, index: np.ndarray):
        self._inputs, self.index = inputs, index
        self.modality, self.group_kind = inputs.modality, inputs.group_kind

    def __len__(self) -> int:
        return len(self.index)

    @cached_property
    def pooled(self) -> np.ndarray:
        """(N, D) fp32"""
        return self._inputs.pooled[self.index]

    @cached_property
    def tokens(self) -> Rows:
        """(N, patches, D) fp16"""
        return self._inputs.tokens.part(self.index)

    @cached_property
    def groups(self) -> np.ndarray:
        return self._inputs.groups[self.index]

    @property
    def altered(self) -> "Part":
        """Those that are asked about under changes, as they are."""
        return Part(self._inputs, self._inputs.altered[self._of_these])

    def changed(self, name: str, strength: int) -> "Part":
        """Those, under a change of `corruptions`."""
        return Part(self._inputs.changed(name, strength), np.flatnonzero(self._of_these))

    @cached_property
    def _of_these(self) -> np.ndarray:
        return np.isin(self._inputs.altered, self.index)

    def take(self, rows: np.ndarray) -> Self:
        return type(self)(self._inputs, self.index[rows])


class Labelled(Part):
    """Images to train on or to choose by."""

    @cached_property
    def labels(self) -> np.ndarray:
        """(N,) class indices"""
        return self._inputs.labels[self.index]

    @cached_property
    def masks(self) -> np.ndarray:
        """(N, S, S) bool"""
        return self._inputs.masks[self.index]

    def joined(self, other: Self) -> Self:
        """Both parts of the same inputs."""
        return Labelled(self._inputs, np.concatenate([self.index, other.index]))


def labelled(*parts: tuple[np.ndarray, np.ndarray]) -> list[Labelled]:
    """Parts of given features (N, D) and labels (N,), every image a group of its own."""
    x, labels = (np.concatenate(column) for column in zip(*parts, strict=True))
    inputs = Inputs(groups=np.arange(len(x)).astype(str), labels=labels, read_pooled=lambda: x)
    ends = np.cumsum([len(y) for _, y in parts])[:-1]
    return [Labelled(inputs, index) for index in np.split(np.arange(len(x)), ends)]


class Posed(NamedTuple):
    """What a probe asks instead of the task's question, of images that are made of the task's."""

    classes: tuple[str, ...]
    index: np.ndarray  # (M,) position of what each is made of
    labels: np.ndarray  # (M,) class indices
    pooled: np.ndarray  # (M, D)
    protocol: Folds


class Trial(NamedTuple):
    """A grid point that was tried."""

    settings: dict[str, Any]
    metric: str  # what was measured on the validation groups
    score: float
    selected: bool


class Fitted(NamedTuple):
    predict: Callable[[Part], np.ndarray]  # (N, classes) scores, rows sum to 1; or masks (N, S, S)
    grid: list[Trial]  # empty where there was nothing to choose
    fraction: float = 1.0  # of the labelled groups that it was given
    shots: int | None = None  # samples of each class that it was given; None: all
    draw: int = 0  # of the samples that it was given
    changes: tuple[str, ...] = ()  # of `corruptions`, at every strength: asked about test images under each as well


def select(scores: list[tuple[dict[str, Any], float]], metric: str) -> tuple[int, list[Trial]]:
    """The highest score wins, the earlier point on a tie."""
    best = max(range(len(scores)), key=lambda i: (scores[i][1], -i))
    return best, [Trial(settings, metric, score, i == best) for i, (settings, score) in enumerate(scores)]


def moments(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation (D,) float64 of rows x (N, D), without a copy of all of them in float64."""
    mean = x.mean(axis=0, dtype=np.float64)
    blocks = (x[start : start + BLOCK] - mean for start in range(0, len(x), BLOCK))
    return mean, np.sqrt(sum(np.square(block).sum(axis=0) for block in blocks) / len(x))


def constant(mean: np.ndarray, deviation: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """(D,) bool: which features vary by no more than rounding, and so say nothing. mean, deviation: (D,) of each.

    Rounding is in proportion to a feature's own magnitude; where every feature is that still against the magnitude of
    all of them, the encoder has collapsed and all are. dtype: in which the features were computed."""
    noise = ROUNDING * np.finfo(np.result_type(dtype, np.float16)).eps
    typical = np.sqrt(np.square(mean).mean())
    collapsed = (deviation <= noise * np.maximum(np.abs(mean), typical)).all()
    return collapsed | (deviation <= noise * np.abs(mean))


def log_likelihood(probabilities: np.ndarray, y: np.ndarray) -> float:
    """Mean log probability (N, classes) of the true classes (N,)."""
    return float(np.log(np.clip(probabilities[np.arange(len(y)), y], 1e-12, 1)).mean())
