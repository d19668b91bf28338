"""What `data add` says of a dataset that it described: classes, groups, split, and what it did not read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from tasks import cards, splits
from tasks.add import Added
from tasks.base import Folds, Sample, Task
from tasks.own import description
from tasks.reading import folders

SHOWN = 10  # problems of a kind that are listed
HEAD = ("part", "class", "images", "groups")


def describe_added(made: Added) -> Iterator[str]:
    """The report, line by line; images and groups of folds are given as the least and the most of a fold."""
    task, samples, verified = made.task, made.samples, made.verified
    yield f"groups: {_describe_groups(made)}"
    yield f"verdicts: {_describe_verdicts(task)}"
    yield f"split: {_describe_split(task)}"
    divisions = splits.assignments(task, samples)
    rows = [HEAD, *_count_rows("all", task, [samples])]
    for part in splits.PARTS:
        rows += _count_rows(part, task, [[samples[i] for i in getattr(division, part)] for division in divisions])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for part, name, *counts in rows:
        numbers = (f"{count:>{width}}" for count, width in zip(counts, widths[2:], strict=True))
        yield "  ".join([f"  {part:<{widths[0]}}", f"{name:<{widths[1]}}", *numbers])
    yield f"decoded: {len(samples):,} of {verified.status.images:,} images"
    yield from _list_first("unreadable", list(verified.unreadable.values()))
    yield from _list_first("one colour", list(verified.flat))
    yield from filter(None, (_describe_copies(samples), folders.summarise(verified.status.left_out)))


def _list_first(kind: str, texts: list[str]) -> Iterator[str]:
    yield from (f"{kind}: {text}" for text in texts[:SHOWN])
    if len(texts) > SHOWN:
        yield f"{kind}: {len(texts) - SHOWN:,} more"


def _describe_groups(made: Added) -> str:
    sizes = Counter(sample.group for sample in made.samples)
    if not made.task.near:
        return f"{len(sizes):,} ({made.task.group_kind}), images in each: {_format_span(list(sizes.values()))}"
    clusters = [group for group, size in sizes.items() if size > 1]
    joined = sum(sizes[group] for group in clusters)
    labels = Counter(group for group, _ in {(sample.group, sample.label) for sample in made.samples})
    mixed = sum(labels[group] > 1 for group in clusters)
    return (
        f"none given, so each image is one; {joined:,} near-duplicate images were joined into {len(clusters):,}, "
        f"{mixed:,} of these with several labels, and {len(sizes):,} groups remain"
    )


def _describe_verdicts(task: Task) -> str:
    if task.independent:
        return "given where there are enough groups, since groups are patients or slides by their name"
    unknown = "no patient is known" if task.near else f"groups are called {task.group_kind!r}, not patients or slides"
    return (
        f"none, and no rank: {unknown}, and intervals are too narrow, as if images were independent "
        f"(kinds of groups that are: {', '.join(description.INDEPENDENT)})"
    )


def _describe_split(task: Task) -> str:
    several = "; a part holds at least - at most" if isinstance(task.protocol, Folds) else ""
    return cards.split(task) + several


def _count_rows(part: str, task: Task, divided: list[list[Sample]]) -> Iterator[tuple[str, ...]]:
    """The images and groups of each class, in however many divisions."""
    for label, name in enumerate(task.classes):
        held = [[sample.group for sample in samples if sample.label == label] for samples in divided]
        images, groups = ([len(of) for of in held], [len(set(of)) for of in held])
        yield part, name, _format_span(images), _format_span(groups)


def _format_span(counts: list[int]) -> str:
    return f"{min(counts):,}" if min(counts) == max(counts) else f"{min(counts):,} - {max(counts):,}"


def _describe_copies(samples: list[Sample]) -> str:
    """Byte-identical images, in words; "" where there are none."""
    same: dict[str, list[Sample]] = {}
    for sample in samples:
        same.setdefault(sample.digest, []).append(sample)
    copies = [held for held in same.values() if len(held) > 1]
    if not copies:
        return ""
    apart = sum(len({sample.group for sample in held}) > 1 for held in copies)
    shown = " = ".join(sample.id for sample in copies[0])
    return f"copies: {len(copies):,} images are there more than once, {apart:,} of them in several groups ({shown})"
