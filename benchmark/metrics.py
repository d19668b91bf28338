"""The only judge: metrics over stored predictions, and their exact fast forms under group resampling.

Pure functions of numpy arrays. `score` is one test set, `fold_score` a whole protocol, `fold_resampled` the same number
under thousands of draws of group weights, without ever copying a sample: a confusion matrix is linear in the group
counts, an AUROC is bilinear in them, and the others read weighted cumulative sums. Segmentations are judged by `dice`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

CHUNK = 2**16  # numbers at once: what a processor keeps near itself
INTERVAL_GROUPS = 20  # fewer groups: the value only
RANKED_GROUPS = 50  # fewer groups: an interval, but no place in an order
LEVEL = 0.95  # of every interval
BINS = 15  # of equal mass, for the calibration error
TITLES = {
    "auroc": "AUROC",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro F1",
    "auprc": "AUPRC",
    "ece": "ECE",
    "brier": "Brier score",
    "dice": "Dice",
    "iou": "intersection over union",
}  # as people write them, where that is not the name itself
BILINEAR_LIMIT = 20_000_000  # elements of the cumulative counts that `auroc_bilinear` may hold (160 MB)


def score(metric: str, labels: np.ndarray, scores: np.ndarray) -> float:
    """The metric of labels (N,) in 0..C-1 and scores (N, C), higher meaning more likely; nan where it is undefined. For
    one of SEGMENTATION the scores are areas (N, 3)."""
    known = METRICS | SEGMENTATION
    if metric not in known:
        raise ValueError(f"unknown metric {metric!r}; known: {', '.join(known)}")
    labels, scores = np.asarray(labels), np.asarray(scores, dtype=float)
    if scores.ndim != 2 or labels.shape != scores.shape[:1]:
        raise ValueError(f"labels {labels.shape} and scores {scores.shape} should be (N,) and (N, C)")
    if not len(labels):
        return float("nan")
    if metric in METRICS and (labels.min() < 0 or labels.max() >= scores.shape[1]):
        raise ValueError(f"labels {labels.min()}..{labels.max()} do not index {scores.shape[1]} columns of scores")
    if not np.isfinite(scores).all():
        raise ValueError("scores hold values that are not finite")
    return known[metric](labels, scores)


def fold_score(metric: str, labels: np.ndarray, scores: np.ndarray, repeat: np.ndarray, fold: np.ndarray) -> float:
    """The metric per (repeat, fold), averaged over the folds of a repeat, then over repeats.

    Scores of different folds come from different fits, so they are never pooled (Forman and Scholz 2010). A fold in
    which the metric is undefined is left out of its repeat. A fixed protocol is one repeat of one fold.
    """
    labels, scores = np.asarray(labels), np.asarray(scores, dtype=float)
    values = [[score(metric, labels[rows], scores[rows]) for rows in folds] for folds in _units(repeat, fold)]
    return _mean([_mean(folds) for folds in values])


def title(metric: str) -> str:
    """The metric's name as people write it."""
    return TITLES.get(metric, metric)


def chance(metric: str, classes: int) -> float | None:
    """Expected value of a guess; None for metrics whose chance level depends on the prevalences, so never pooled."""
    return {"auroc": 0.5, "balanced_accuracy": 1 / classes}.get(metric)


def auroc(labels: np.ndarray, scores: np.ndarray) -> float:
    """Area under the ROC curve, ties counted half. Two classes: of column 1. More: one class against the rest, averaged
    over the classes that have both positives and negatives; nan when none has."""
    areas = []
    for column in _columns(scores):
        negatives, low, high = _places(labels == column, scores[:, column])
        if len(low) and len(negatives):
            areas.append((low.sum() + high.sum()) / (2 * len(low) * len(negatives)))
    return float(np.mean(areas)) if areas else float("nan")


def auprc(labels: np.ndarray, scores: np.ndarray) -> float:
    """Average precision: the sum over thresholds of precision × gain in recall, without interpolation, tied scores
    sharing a threshold (scikit-learn's definition). Columns and classes as for `auroc`."""
    return resampled("auprc", labels, scores, *_alone(labels))[0].item()


def brier(labels: np.ndarray, scores: np.ndarray) -> float:
    """Mean squared error of the probabilities: of class 1 alone in two classes, summed over the classes in more (as
    scikit-learn's default). 0 is best."""
    return float(_squared_errors(labels, scores).mean())


def ece(labels: np.ndarray, scores: np.ndarray) -> float:
    """Expected calibration error of the predicted class in BINS bins of equal mass: the sum over bins of the absolute
    difference of confidence and correctness. 0 is best.

    Adaptive bins as Nguyen & O'Connor (EMNLP 2015) and Nixon et al. (arXiv 1904.01685, 3.2). Equal confidences are one
    point, and a point on the edge of two bins is shared out between them, so the order of samples has no influence.
    """
    return resampled("ece", labels, scores, *_alone(labels))[0].item()


def areas(predicted: np.ndarray, actual: np.ndarray) -> np.ndarray:
    """Masks (N, S, S) bool twice -> (N, 3): pixels of the intersection, of the predicted and of the actual area."""
    return np.stack([one.sum(axis=(1, 2)) for one in (predicted & actual, predicted, actual)], axis=1).astype(float)


def dice(intersection: np.ndarray, predicted: np.ndarray, actual: np.ndarray) -> float:
    """Mean over images of 2·intersection / (predicted + actual), areas (N,) in pixels. Images without the structure are
    left out; nan where none shows it."""
    return _mean_overlap(*_overlaps("dice", np.stack([intersection, predicted, actual], axis=1)))


def iou(intersection: np.ndarray, predicted: np.ndarray, actual: np.ndarray) -> float:
    """Mean over images of intersection / (predicted + actual - intersection); otherwise like `dice`."""
    return _mean_overlap(*_overlaps("iou", np.stack([intersection, predicted, actual], axis=1)))


def _overlaps(metric: str, areas: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The overlap of each image, 0 without the structure, and whether it shows it; areas (N, 3)."""
    both, predicted, actual = np.asarray(areas, dtype=float).T
    shown = actual > 0
    top, bottom = (2 * both, predicted + actual) if metric == "dice" else (both, predicted + actual - both)
    return np.divide(top, bottom, out=np.zeros_like(both), where=shown), shown


def _mean_overlap(overlap: np.ndarray, shown: np.ndarray) -> float:
    return float(overlap[shown].mean()) if shown.any() else float("nan")


def _of_confusions(metric: str) -> Callable[[np.ndarray, np.ndarray], float]:
    return lambda labels, scores: CONFUSION_FORMS[metric](_confusions(labels, scores)).item()


METRICS: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "auroc": auroc,
    "balanced_accuracy": _of_confusions("balanced_accuracy"),
    "accuracy": _of_confusions("accuracy"),
    "macro_f1": _of_confusions("macro_f1"),
    "auprc": auprc,
    "ece": ece,
    "brier": brier,
}
# Their "scores" (N, 3) are areas: intersection, predicted, actual; labels only say what kind of image it is.
SEGMENTATION: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "dice": lambda labels, areas: dice(*areas.T),
    "iou": lambda labels, areas: iou(*areas.T),
}
HEADLINES = ("auroc", "balanced_accuracy", "accuracy", "macro_f1", "auprc")  # higher is better: a task's headline


@dataclass(frozen=True, kw_only=True)
class Bilinear:
    """An AUROC as a function of G group weights w: w'Ww / ((w·p)(w·n)), per class K (one for a two-class task)."""

    wins: np.ndarray  # (K, G, G): pairs won, ties half, by positives of group g against negatives of group h
    positives: np.ndarray  # (K, G)
    negatives: np.ndarray  # (K, G)

    def draws(self, weights: np.ndarray) -> np.ndarray:
        """AUROC per draw and class, (B, K), nan where a class has no positives or negatives; weights (B, G)."""
        won = np.stack([np.einsum("bg,bg->b", weights @ wins, weights) for wins in self.wins], axis=1)
        return _ratio(won, (weights @ self.positives.T) * (weights @ self.negatives.T))


def auroc_bilinear(labels: np.ndarray, scores: np.ndarray, groups: np.ndarray) -> Bilinear:
    """Count the pairs of every two groups once, so that bootstrap draws are matrix products; groups (N,) in 0..G-1."""
    size, wins, positives, negatives = int(groups.max()) + 1, [], [], []
    for column in _columns(scores):
        positive = labels == column
        order, low, high = _places(positive, scores[:, column])
        below = np.zeros((len(order) + 1, size))  # negatives per group among the lowest j
        below[np.arange(1, len(order) + 1), groups[~positive][order]] = 1
        np.cumsum(below, axis=0, out=below)
        won = np.zeros((size, size))
        np.add.at(won, groups[positive], (below[low] + below[high]) / 2)
        wins.append(won)
        positives.append(np.bincount(groups[positive], minlength=size))
        negatives.append(np.bincount(groups[~positive], minlength=size))
    return Bilinear(wins=np.stack(wins), positives=np.stack(positives), negatives=np.stack(negatives))


def resampled(
    metric: str, labels: np.ndarray, scores: np.ndarray, groups: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The metric under every draw, exactly as if each sample were repeated by the weight of its group.

    groups (N,) index the columns of weights (B, G). Returns values (B,), nan where undefined, and a flag per draw (B,):
    a class that enters the metric on the full set does not enter it in this draw.
    """
    members, groups = np.unique(groups, return_inverse=True)
    weights = weights if len(members) == weights.shape[1] else weights[:, members]
    if metric in ("auroc", "auprc"):
        areas = (_auroc_draws if metric == "auroc" else _auprc_draws)(labels, scores, groups, weights)
        defined = np.isfinite(areas)
        full = sum(0 < np.count_nonzero(labels == column) < len(labels) for column in _columns(scores))
        values = _ratio(np.where(defined, areas, 0).sum(1), defined.sum(1))
        return values, defined.sum(1) < full
    if metric in SEGMENTATION:
        overlap, shown = _overlaps(metric, scores)
        drawn = weights @ np.stack([np.bincount(groups, v, len(members)) for v in (overlap, shown)], axis=1)
        return _ratio(*drawn.T), drawn[:, 1] == 0
    if metric in SAMPLE_FORMS:
        return _sample_draws(metric, labels, scores, groups, weights)
    classes = scores.shape[1]
    counts = weights @ _confusions(labels, scores, groups).reshape(len(members), -1)
    counts = counts.reshape(-1, classes, classes)
    lost = (counts.sum(2) > 0).sum(1) < len(np.unique(labels))
    return CONFUSION_FORMS[metric](counts), lost


def fold_resampled(
    metric: str,
    labels: np.ndarray,
    scores: np.ndarray,
    groups: np.ndarray,
    repeat: np.ndarray,
    fold: np.ndarray,
    weights: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """`fold_score` under every draw of group weights: values (B,), and a flag (B,) where some fold lost a class."""
    repeats, lost = [], np.zeros(len(weights), dtype=bool)
    for folds in _units(repeat, fold):
        parts = [resampled(metric, labels[rows], scores[rows], groups[rows], weights) for rows in folds]
        repeats.append(_mean_columns(np.stack([values for values, _ in parts])))
        lost |= np.any([flags for _, flags in parts], axis=0)
    return _mean_columns(np.stack(repeats)), lost


def _auroc_draws(labels: np.ndarray, scores: np.ndarray, groups: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """AUROC per draw and class (B, K): by the bilinear form where groups are few, else by weighted ranks."""
    samples, size = len(labels), weights.shape[1]
    if size**2 <= 50 * samples and size * samples <= BILINEAR_LIMIT:
        return auroc_bilinear(labels, scores, groups).draws(weights)
    columns, step = _columns(scores), max(1, CHUNK // max(samples, 1))
    areas = np.empty((len(weights), len(columns)))
    for k, column in enumerate(columns):
        positive = labels == column
        order, low, high = _places(positive, scores[:, column])
        ups, downs, level = groups[positive], groups[~positive][order], np.flatnonzero(low < high)
        for start in range(0, len(weights), step):
            block = weights[start : start + step]
            below = np.zeros((len(block), len(order) + 1))  # weight of the lowest j negatives
            np.cumsum(_take(block, downs), axis=1, out=below[:, 1:])
            up, under = _take(block, ups), _take(below, low)
            won = np.einsum("bi,bi->b", up, under)
            won += np.einsum("bi,bi->b", up[:, level], _take(below, high[level]) - under[:, level]) / 2  # ties
            areas[start : start + step, k] = _ratio(won, up.sum(1) * below[:, -1])
    return areas


def _take(block: np.ndarray, places: np.ndarray) -> np.ndarray:
    """block[:, places], twice as fast."""
    return np.take(block, places, axis=1, mode="clip")


def _auprc_draws(labels: np.ndarray, scores: np.ndarray, groups: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Average precision per draw and class (B, K), nan where a class has no positives or no negatives."""
    columns, step = _columns(scores), max(1, CHUNK // max(len(labels), 1))
    areas = np.empty((len(weights), len(columns)))
    for k, column in enumerate(columns):
        order = np.argsort(-scores[:, column], kind="stable")
        values, positive = scores[order, column], labels[order] == column
        last = np.flatnonzero(np.append(values[1:] != values[:-1], True))  # of every threshold
        for start in range(0, len(weights), step):
            drawn = _take(weights[start : start + step], groups[order])
            above, hits = np.cumsum(drawn, axis=1)[:, last], np.cumsum(drawn * positive, axis=1)[:, last]
            precision = np.divide(hits, above, out=np.zeros_like(hits), where=above > 0)
            won = (precision * np.diff(hits, axis=1, prepend=0)).sum(1)
            ratio = _ratio(won, hits[:, -1])
            areas[start : start + step, k] = np.where(above[:, -1] > hits[:, -1], ratio, np.nan)
    return areas


def _sample_draws(
    metric: str, labels: np.ndarray, scores: np.ndarray, groups: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """`resampled` for the metrics of SAMPLE_FORMS."""
    values, present = np.empty(len(weights)), np.zeros((len(weights), scores.shape[1]))
    step, member = max(1, CHUNK // max(len(labels), 1)), np.eye(scores.shape[1])[labels]
    form = SAMPLE_FORMS[metric](labels, scores)
    for start in range(0, len(weights), step):
        drawn = _take(weights[start : start + step], groups)
        values[start : start + step] = form(drawn)
        present[start : start + step] = drawn @ member
    return values, (present > 0).sum(1) < len(np.unique(labels))


def _squared_errors(labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """(N,): see `brier`."""
    wrong = np.square(scores - np.eye(scores.shape[1])[labels])
    return wrong[:, 1] if scores.shape[1] == 2 else wrong.sum(axis=1)


def _brier_form(labels: np.ndarray, scores: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    errors = _squared_errors(labels, scores)
    return lambda drawn: _ratio(drawn @ errors, drawn.sum(1))


def _ece_form(labels: np.ndarray, scores: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """The signed gap between confidence and correctness, accumulated from the least confident sample on, is linear in
    the mass between two points; a bin's gap is its difference over the bin's edges."""
    gap = scores.max(axis=1) - (scores.argmax(axis=1) == labels)
    levels, point = np.unique(scores.max(axis=1), return_inverse=True)
    order = np.argsort(point, kind="stable")
    starts, edges = np.searchsorted(point[order], np.arange(len(levels))), np.linspace(0, 1, BINS + 1)

    def form(drawn: np.ndarray) -> np.ndarray:
        total = drawn.sum(1)
        mass = np.cumsum(np.add.reduceat(drawn[:, order], starts, axis=1), axis=1)
        gaps = np.cumsum(np.add.reduceat((drawn * gap)[:, order], starts, axis=1), axis=1)
        ends = [
            np.interp(edges * t, np.concatenate([[0], m]), np.concatenate([[0], g]))
            for t, m, g in zip(total, mass, gaps, strict=True)
        ]
        return _ratio(np.abs(np.diff(ends, axis=1)).sum(1), total)

    return form


def _alone(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """One group and one draw of weight 1: the metric as it is."""
    return np.zeros(len(labels), dtype=int), np.ones((1, 1))


def _columns(scores: np.ndarray) -> range:
    """Columns that are ranked: the second of two, or every one."""
    return range(1, 2) if scores.shape[1] == 2 else range(scores.shape[1])


def _places(positive: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Order of the negatives by value, and for each positive how many of them lie below it, and below or level."""
    order = np.argsort(values[~positive], kind="stable")
    negatives = values[~positive][order]
    return order, np.searchsorted(negatives, values[positive]), np.searchsorted(negatives, values[positive], "right")


def _confusions(labels: np.ndarray, scores: np.ndarray, groups: np.ndarray | None = None) -> np.ndarray:
    """Samples by group, label and prediction: (G, C, C)."""
    classes = scores.shape[1]
    groups = np.zeros(len(labels), dtype=int) if groups is None else groups
    size = int(groups.max()) + 1
    cells = (groups * classes + labels) * classes + scores.argmax(1)
    return np.bincount(cells, minlength=size * classes**2).reshape(size, classes, classes).astype(float)


def _accuracy(counts: np.ndarray) -> np.ndarray:
    return _ratio(np.trace(counts, axis1=1, axis2=2), counts.sum((1, 2)))


def _balanced_accuracy(counts: np.ndarray) -> np.ndarray:
    """Mean recall over the classes that occur among the labels."""
    return _mean_columns(_ratio(np.diagonal(counts, axis1=1, axis2=2), counts.sum(2)).T)


def _macro_f1(counts: np.ndarray) -> np.ndarray:
    """Mean F1 over the classes that occur among the labels or the predictions, as scikit-learn's default."""
    hits = np.diagonal(counts, axis1=1, axis2=2)
    return _mean_columns(_ratio(2 * hits, counts.sum(1) + counts.sum(2)).T)


CONFUSION_FORMS: dict[str, Callable[[np.ndarray], np.ndarray]] = {  # (B, C, C) -> (B,)
    "accuracy": _accuracy,
    "balanced_accuracy": _balanced_accuracy,
    "macro_f1": _macro_f1,
}
SAMPLE_FORMS: dict[str, Callable[[np.ndarray, np.ndarray], Callable[[np.ndarray], np.ndarray]]] = {
    "brier": _brier_form,  # labels (N,), scores (N, C) -> function of sample weights (B, N) -> (B,)
    "ece": _ece_form,
}


def _units(repeat: np.ndarray, fold: np.ndarray) -> list[list[np.ndarray]]:
    """Row indices of every fold of every repeat, in order."""
    repeat, fold = np.asarray(repeat), np.asarray(fold)
    order = np.lexsort((fold, repeat))
    turns, ends = (np.diff(values[order]) != 0 for values in (repeat, fold))
    units = [rows for rows in np.split(order, np.flatnonzero(turns | ends) + 1) if len(rows)]
    return [list(folds) for _, folds in itertools.groupby(units, key=lambda rows: repeat[rows[0]])]


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """Quotient, nan where the divisor is zero."""
    return np.divide(above, below, out=np.full(np.shape(above), np.nan), where=below > 0)


def _mean(values: list[float]) -> float:
    """Mean of the values that are defined; nan when none is."""
    defined = [value for value in values if np.isfinite(value)]
    return float(np.mean(defined)) if defined else float("nan")


def _mean_columns(values: np.ndarray) -> np.ndarray:
    """Mean over the first axis of the values that are defined."""
    defined = np.isfinite(values)
    return _ratio(np.where(defined, values, 0).sum(0), defined.sum(0))
