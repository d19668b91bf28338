"""What a corpus shares with a test part: images byte for byte, and groups.

Only exact copies and stated groups are found. Resized, recompressed or cropped copies need a perceptual hash, which is
not part of this check: "pass" means that nothing was found by these two.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NamedTuple

from tasks.base import Sample

EXAMPLES = 5  # ids shown of each kind


class Overlap(NamedTuple):
    kind: Literal["exact", "group"]
    count: int  # test samples that are also in the corpus, or whose group is
    examples: tuple[str, ...]  # ids of the first of them


def overlap(corpus: Iterable[Sample], test: Iterable[Sample], *, same_groups: bool = True) -> list[Overlap]:
    """One row for each kind that was looked for, found or not.

    Groups are names within one dataset or image family. Pass `same_groups=False` where the two sides come from
    different ones: equal names are chance there, and no "group" row is given.
    """
    corpus, test = list(corpus), sorted(test)
    digests = {sample.digest for sample in corpus}
    rows = [_row("exact", [sample.id for sample in test if sample.digest in digests])]
    if same_groups:
        groups = {sample.group for sample in corpus}
        rows.append(_row("group", [sample.id for sample in test if sample.group in groups]))
    return rows


def verdict(rows: Iterable[Overlap]) -> Literal["pass", "warn"]:
    return "warn" if any(row.count for row in rows) else "pass"


def _row(kind: Literal["exact", "group"], found: list[str]) -> Overlap:
    return Overlap(kind, len(found), tuple(found[:EXAMPLES]))
