"""`python -m benchmark data add`: describe a dataset of one's own, once it was read, decoded and divided.

Nothing is written for a dataset that `data verify` would call broken or that a run would refuse.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import tasks
from tasks import inspect, splits
from tasks.base import DataError, Fixed, Folds, Protocol, Sample, Task
from tasks.duplicates import scan_grouped
from tasks.own import description, images
from tasks.own.description import Description
from tasks.reading import folders, naming, squares

NAME = re.compile(r"[a-z][a-z0-9_]*")
CUT_FROM = 250  # groups from which one cut is precise enough; below, folds
FOLDS, REPEATS, FEWEST_FOLDS = 5, 3, 3  # three folds: one to test, one to choose, one to train


@dataclass(frozen=True, kw_only=True)
class Added:
    """A dataset that was described."""

    path: Path  # the file written
    task: Task
    verified: inspect.Verified
    samples: list[Sample]  # the readable ones, near-duplicates joined where no groups are known


def add_dataset(
    *,
    name: str,
    modality: str,
    form: str,
    path: Path,
    policy: str,
    metric: str,
    metrics: Collection[str],
    cache: Path,
    workers: int = 1,
    skip_unreadable: bool = False,
    home: str = "not published",
    citation: str = "not published",
    **texts: str,
) -> Added:
    """Describe a dataset: every image is decoded, and the dataset divided, to see that it can be.

    `metrics` are the known ones; `texts` are title, question, group_kind and licence. Raises ValueError for an argument
    that is not as it should be, DataError for a dataset that cannot be used. Nothing is written then.
    """
    _refuse(name, modality, policy, metric, metrics, {**texts, "home": home, "citation": citation})
    path = _resolved(form, path)
    found = images.read_images(form, path, name).rows
    counts = Counter((row.split, row.label) for row in found)
    parts = [part for part in (*splits.PARTS, "") if any(part == split for split, _ in counts)]
    classes = sorted({row.label for row in found})
    if len(classes) < 2:
        deeper = f"; if the classes lie in it, give {path / classes[0]}" if form == "folder" else ""
        raise DataError(f"{path}: 1 class ({classes[0]}); a task needs two or more{deeper}")
    described = Description(
        schema=description.SCHEMA,
        name=name,
        modality=modality,
        metric=metric,
        policy=policy,
        home=home.strip(),
        citation=citation.strip(),
        form=form,
        path=str(path),
        classes=classes,
        counts={part: {label: counts[part, label] for label in classes} for part in parts},
        protocol=asdict(Fixed(published=bool(found[0].split))),
        near=not found[0].group,
        **{key: text.strip() for key, text in texts.items()},
    )
    samples = scan_grouped(description.to_task(described), path, cache)
    described = _divided(described, samples)
    verified = inspect.verify(description.to_task(described), path, workers=workers)
    _refuse_broken(verified, skip_unreadable)
    samples = [sample for sample in samples if sample.id not in verified.unreadable]
    if described.near:
        _refuse_near_across(described, samples)
    described = _divided(described, samples)
    task = description.to_task(described)
    splits.assignments(task, samples)
    target = description.path_of(described)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(json.dumps(asdict(described), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    except OSError as error:
        raise DataError(
            f"{target}: cannot be written ({error.strerror}); name a folder of yours in PRETEXT_BENCH_TASKS"
        ) from error
    return Added(path=target, task=task, verified=verified, samples=samples)


def _refuse(
    name: str, modality: str, policy: str, metric: str, metrics: Collection[str], texts: Mapping[str, str]
) -> None:
    if not NAME.fullmatch(name):
        raise ValueError(f"name {name!r}: use small letters, digits and underscores, a letter first")
    if modality not in tasks.modalities():
        raise tasks.unknown("modality", modality, tasks.modalities())
    if policy not in squares.SQUARES:
        raise tasks.unknown("policy", policy, squares.SQUARES)
    if metric not in metrics:
        raise tasks.unknown("metric", metric, tuple(metrics))
    for key, text in texts.items():
        if not naming.is_line(text):
            raise ValueError(f"{key} {text!r}: one line of text is needed")
    file = description.folder() / modality / f"{name}.json"
    if file.exists():
        raise ValueError(f"{modality}/{name} is described already; delete {file} first")
    holders = [there for there in tasks.modalities() if name in tasks.names(there)]
    if holders:
        raise ValueError(f"the name {name!r} is taken by {holders[0]}/{name}; choose another")


def _resolved(form: str, path: Path) -> Path:
    """The absolute path, links followed but for that of a table: its files are beside the name that was given."""
    path = path.expanduser()
    path = path.resolve() if form == "folder" else path.parent.resolve() / path.name
    if not naming.is_line(str(path)):
        raise DataError(
            f"{folders.printable(path)}: the path has characters that cannot be shown or stored; rename its folders"
        )
    return path


def _refuse_broken(verified: inspect.Verified, skip_unreadable: bool) -> None:
    """Refuse what `data verify` calls broken, but for unreadable images that are to be skipped."""
    if verified.status.state in ("broken", "missing"):
        raise DataError(verified.status.reason)
    if verified.unreadable and not skip_unreadable:
        raise DataError(
            f"{len(verified.unreadable):,} of {verified.status.images:,} images are unreadable, such as "
            f"{'; '.join(list(verified.unreadable.values())[:3])} - or add the dataset with --skip-unreadable and run "
            "it with SKIP_UNREADABLE=1"
        )
    torn = [copies.ids for copies in verified.contradictions if not copies.together]
    if torn:
        raise DataError(
            f"{' = '.join(torn[0])}: one image, byte by byte, with two labels ({len(torn)} such); keep the right one"
        )


def _refuse_near_across(described: Description, samples: list[Sample]) -> None:
    """Refuse a given split whose parts share near-duplicate images."""
    parts: dict[str, dict[str, str]] = defaultdict(dict)
    for sample in samples:
        parts[sample.group].setdefault(sample.split, sample.id)
    across = [held for held in parts.values() if len(held) > 1]
    if across:
        example = ", ".join(f"{part} has {name!r}" for part, name in sorted(across[0].items()))
        raise DataError(
            f"{described.path}: parts of the split share {len(across):,} near-duplicate images ({example}); take them "
            "out of one part, or give the groups (patients, slides) of all images"
        )


def _divided(described: Description, samples: list[Sample]) -> Description:
    return replace(described, protocol=asdict(_protocol(described, samples)))


def _protocol(described: Description, samples: list[Sample]) -> Protocol:
    if "" not in described.counts:
        return Fixed(published=True)
    held: dict[int, set[str]] = defaultdict(set)
    for sample in samples:
        held[sample.label].add(sample.group)
    rarest = min(range(len(described.classes)), key=lambda label: len(held[label]))
    fewest = len(held[rarest])
    if fewest < FEWEST_FOLDS:
        images = sum(sample.label == rarest for sample in samples)
        known = "" if described.near else f" ({', '.join(sorted(held[rarest]))})"
        joined = f": its {images} images are near-duplicates, such as frames of one clip, and were joined"
        raise DataError(
            f"{described.path}: class {described.classes[rarest]!r} has {fewest} group{'s' * (fewest != 1)}{known}"
            f"{joined if described.near and images > fewest else ''}; {FEWEST_FOLDS} are needed to train, choose and "
            "test on it: add images of other patients, or leave the class out"
        )
    if len(set.union(*held.values())) >= CUT_FROM and fewest >= splits.CUT_FOLDS:
        return Fixed(published=False)
    return Folds(k=min(FOLDS, fewest), repeats=REPEATS)
