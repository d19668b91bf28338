"""The leakage passport: what a test part shares with what was trained or chosen on.

Three kinds of sharing are looked for: `exact` (the same bytes), `group` (the same patient, slide, cluster) and `near`
(near-duplicates by `tasks.duplicates`). A count of None says that a kind was not looked for.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from tasks import duplicates, splits
from tasks.base import Folds, Sample, Source, Task

EXAMPLES = 5  # ids shown of each kind
Kind = Literal["exact", "group", "near", "declared"]  # the last: by what an encoder from outside is said to have seen
Verdict = Literal["pass", "warn", "unknown"]


class Overlap(NamedTuple):
    kind: Kind
    count: int | None  # test samples that the other side shares; None: not looked for
    examples: tuple[str, ...]  # the first of them: "id" or "id = id on the other side"
    between: str = "corpus and test"  # the two sides


def overlap(corpus: Iterable[Sample], test: Iterable[Sample], *, same_groups: bool = True) -> list[Overlap]:
    """What a corpus shares with a test part, one row for each kind that was looked for, found or not.

    Groups are names within one dataset family. Pass `same_groups=False` where the two sides come from
    different ones: equal names are chance there, and no "group" row is given.
    """
    corpus, test = list(corpus), sorted(test)
    digests = {sample.digest for sample in corpus}
    rows = [_row("exact", [sample.id for sample in test if sample.digest in digests])]
    if same_groups:
        groups = {sample.group for sample in corpus}
        rows.append(_row("group", [sample.id for sample in test if sample.group in groups]))
    return rows


def overlap_near(
    corpus: Iterable[tuple[Source, list[Sample], list[Sample]]],
    task: Task,
    samples: list[Sample],
    test: list[Sample],
    data: Path,
    cache: Path,
) -> Overlap:
    """Test samples with a near-duplicate in the corpus.

    The corpus comes as (source, all its samples, those held) of each member, the task as its samples and those tested.
    """
    seen, tested = duplicates.hash_images(task, data, samples, cache), _positions(samples, test)
    found: dict[int, str] = {}
    for source, every, held in corpus:
        other = duplicates.hash_images(source, data, every, cache)
        pairs = duplicates.find_copies(seen, tested, other, _positions(every, held))
        if pairs is None:
            return Overlap("near", None, ())
        for i, j in pairs.tolist():
            found.setdefault(i, f"{samples[i].id} = {every[j].id}")
    return _row("near", [found[i] for i in sorted(found)])


def passport(task: Task, data: Path, samples: list[Sample], cache: Path, *, rotated: bool = False) -> list[Overlap]:
    """What the parts of a task's own split share. By folds, any two images in different groups may be divided.

    With `rotated`, near-duplicates may be turned, mirrored or zoomed: minutes per thousand images. In simulated images
    none are looked for: independent patients look alike.
    """
    digests = [sample.digest for sample in samples]
    groups = [sample.group for sample in samples]
    rows = []
    if isinstance(task.protocol, Folds):
        first: dict[str, int] = {}
        same = [(first.setdefault(sha, i), i) for i, sha in enumerate(digests)]
        rows.append(_pairs("exact", samples, [(i, j) for i, j in same if groups[i] != groups[j]], "groups"))
        if not task.synthetic:
            alike = duplicates.find_pairs(task, data, samples, cache, rotated=rotated).tolist()
            rows.append(_pairs("near", samples, [(i, j) for i, j in alike if groups[i] != groups[j]], "groups"))
        return rows
    (division,) = splits.assignments(task, samples)
    sides = (("train", division.train, "test", division.test), ("val", division.val, "test", division.test))
    for name, part, other, tested in (*sides, ("train", division.train, "val", division.val)):
        between = f"{name} and {other}"
        rows.append(_pairs("exact", samples, _shared(digests, part, tested), between))
        rows.append(_pairs("group", samples, _shared(groups, part, tested), between))
        if not task.synthetic:
            rows.append(_pairs("near", samples, _near(task, data, samples, cache, part, tested, rotated), between))
    return rows


def overlap_elsewhere(
    task: Task, samples: list[Sample], others: Iterable[tuple[Task, list[Sample]]], data: Path, cache: Path
) -> list[Overlap]:
    """Images of a task that other datasets hold, too: exact copies, and near-duplicates. They leak within no task, and
    make two of them one and a half; `others` of the task's own family are passed over."""
    rows, strangers = [], [(other, held) for other, held in others if other.family != task.family]
    seen = duplicates.hash_images(task, data, samples, cache) if strangers else None
    for other, held in strangers:
        between = f"{other.name} and this set"
        rows.append(overlap(held, samples, same_groups=False)[0]._replace(between=between))
        theirs = duplicates.hash_images(other, data, held, cache)
        pairs = duplicates.find_copies(theirs, np.arange(len(held)), seen, np.arange(len(samples)))
        named = None if pairs is None else [f"{samples[j].id} = {held[i].id}" for i, j in _first(pairs.tolist())]
        rows.append(Overlap("near", None, (), between) if named is None else _row("near", named, between))
    return rows


def _first(pairs: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """The first of the pairs of each of the second side."""
    found: dict[int, int] = {}
    for i, j in pairs:
        found.setdefault(j, i)
    return [(found[j], j) for j in sorted(found)]


def verdict(rows: Iterable[Overlap], *, independent: bool) -> Verdict:
    """What overlaps say of a task. Where its groups are not known to be patients or slides (not `independent`), nothing
    can be passed: patients may be on both sides of what looks disjoint."""
    rows = list(rows)
    if any(row.count for row in rows):
        return "warn"
    return "pass" if independent and all(row.count is not None for row in rows) else "unknown"


def _positions(samples: list[Sample], some: list[Sample]) -> np.ndarray:
    wanted = {sample.id for sample in some}
    return np.flatnonzero([sample.id in wanted for sample in samples])


def _shared(values: list[str], part: np.ndarray, tested: np.ndarray) -> list[tuple[int, int]]:
    """(position in part, position in tested) for each tested sample whose value the part holds."""
    first = {values[i]: i for i in reversed(part.tolist())}
    return [(first[values[j]], j) for j in tested.tolist() if values[j] in first]


def _near(
    task: Task,
    data: Path,
    samples: list[Sample],
    cache: Path,
    part: np.ndarray,
    tested: np.ndarray,
    rotated: bool,
) -> list[tuple[int, int]] | None:
    if not rotated:
        seen = duplicates.hash_images(task, data, samples, cache)
        pairs = duplicates.find_copies(seen, part, seen, tested)
        return None if pairs is None else [tuple(pair) for pair in pairs.tolist()]
    pairs = duplicates.find_pairs(task, data, samples, cache, rotated=True)
    here, there = set(part.tolist()), set(tested.tolist())
    both = [*pairs.tolist(), *pairs[:, ::-1].tolist()]
    return [(i, j) for i, j in both if i in here and j in there]


def _pairs(kind: Kind, samples: list[Sample], pairs: list[tuple[int, int]] | None, between: str) -> Overlap:
    if pairs is None:
        return Overlap(kind, None, (), between)
    return _row(kind, [f"{samples[j].id} = {samples[i].id}" for i, j in _first(pairs)], between)


def _row(kind: Kind, found: list[str], between: str = "corpus and test") -> Overlap:
    return Overlap(kind, len(found), tuple(found[:EXAMPLES]), between)
