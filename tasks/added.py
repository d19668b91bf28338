"""Datasets of one's own, described in a small JSON file instead of a module; `python -m benchmark data add` writes it.

The files are `<modality>/<name>.json` in the folder that the environment variable PRETEXT_BENCH_TASKS names, else in
`tasks/added/`. The images stay where they are, in one of two forms:

folder   a folder for each class, called like it. Images lie in it (then each is its own group), or all in folders in
         it: such a folder is a group (a patient, say), and one name in two classes is one group. Hidden folders are
         left out
csv      a table with the columns file (relative to the table's folder), label, and perhaps group and split

Classes are in the order of their names. Where a split is given, it is kept; else there is one cut from 250 groups on,
and grouped folds below.
"""

from __future__ import annotations

import functools
import json
import os
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

import tasks
from tasks import files, folders, splits
from tasks.base import Access, DataError, Fixed, Folds, NoData, Protocol, Sample, Task

SCHEMA = 1  # of the JSON file
FORMS = ("folder", "csv")
NAME = re.compile(r"[a-z][a-z0-9_]*")
CUT_FROM = 250  # groups from which one cut is precise enough; below, folds
FOLDS, REPEATS, FEWEST_FOLDS = 5, 3, 3  # three folds: one to test, one to choose, one to train
KINDS = {"str": str, "int": int, "bool": bool, "list": list, "dict": dict}  # JSON types of a description's fields


@dataclass(frozen=True, kw_only=True)
class Description:
    """The content of the JSON file."""

    schema: int
    name: str
    modality: str
    title: str
    question: str
    group_kind: str
    metric: str
    policy: str
    licence: str
    home: str
    citation: str
    form: str  # one of FORMS
    path: str  # absolute: the folder of classes, or the table
    classes: list[str]
    counts: dict[str, dict[str, int]]  # split ("" where there is none) -> class -> images, when it was described
    protocol: dict[str, object]  # the fields of Fixed or Folds
    near: bool  # no groups are known


class Row(NamedTuple):
    path: Path
    name: str  # class
    group: str  # "" where none is known
    split: str


def folder() -> Path:
    return Path(os.environ.get("PRETEXT_BENCH_TASKS") or Path(__file__).parent / "added")


def found(modality: str, taken: Collection[str] = ()) -> dict[str, Task]:
    """The modality's added tasks by name. Raises DataError for a damaged file or a name that is taken."""
    made = {}
    for path in sorted((folder() / modality).glob("*.json")):
        task = _task(path, path.read_bytes())
        if (task.modality, task.name) != (modality, path.stem):
            raise DataError(f"{path}: describes {task.modality}/{task.name}; call the file and its folder so")
        if task.name in taken:
            raise DataError(
                f"{path}: {modality}/{task.name} is a built-in task; give the file and its task another name"
            )
        made[task.name] = task
    return made


def home(task: Task) -> Path | None:
    """The folder that an added task's sample ids are relative to; None for any other task."""
    described = getattr(task.scan, "keywords", {}).get("described")
    return _top(described).parent if isinstance(described, Description) else None


def add(
    *,
    name: str,
    modality: str,
    form: str,
    path: Path,
    policy: str,
    metric: str,
    metrics: Collection[str],
    home: str = "not published",
    citation: str = "not published",
    **texts: str,
) -> Path:
    """Describe a dataset and return the JSON file written; the dataset is scanned and split, to see that it can be.

    `metrics` are the known ones; `texts` are title, question, group_kind and licence. Raises ValueError for an argument
    that is not as it should be, DataError for a dataset that cannot be used. Nothing is written then.
    """
    _refuse(name, modality, policy, metric, metrics, {**texts, "home": home, "citation": citation})
    path = path.expanduser().resolve()
    rows = _rows(form, path, name)
    classes = sorted({row.name for row in rows})
    if len(classes) < 2:
        raise DataError(f"{path}: 1 class ({classes[0]}); a task needs two or more")
    counts = Counter((row.split, row.name) for row in rows)
    parts = [part for part in (*splits.PARTS, "") if any(part == split for split, _ in counts)]
    described = Description(
        schema=SCHEMA,
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
        protocol=asdict(_protocol(rows, path)),
        near=not rows[0].group,
        **{key: text.strip() for key, text in texts.items()},
    )
    task = _made(described)
    splits.assignments(task, task.scan(path))
    target = folder() / modality / f"{name}.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(asdict(described), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return target


def _refuse(
    name: str, modality: str, policy: str, metric: str, metrics: Collection[str], texts: Mapping[str, str]
) -> None:
    if not NAME.fullmatch(name):
        raise ValueError(f"name {name!r}: use small letters, digits and underscores, a letter first")
    if modality not in tasks.modalities():
        raise tasks.unknown("modality", modality, tasks.modalities())
    if policy not in files.SQUARES:
        raise tasks.unknown("policy", policy, files.SQUARES)
    if metric not in metrics:
        raise tasks.unknown("metric", metric, tuple(metrics))
    for key, text in texts.items():
        if not text.strip() or "\n" in text:
            raise ValueError(f"{key} {text!r}: one line of text is needed")
    if (folder() / modality / f"{name}.json").exists():
        raise ValueError(f"{modality}/{name} is described already; delete {folder() / modality / name}.json first")
    holders = [there for there in tasks.modalities() if name in tasks.names(there)]
    if holders:
        raise ValueError(f"the name {name!r} is taken by {holders[0]}/{name}; choose another")


def _protocol(rows: list[Row], path: Path) -> Protocol:
    if rows[0].split:
        return Fixed(published=True)
    held: dict[str, set[object]] = defaultdict(set)
    for row in rows:
        held[row.name].add(row.group or row.path)
    rarest = min(held, key=lambda name: len(held[name]))
    fewest = len(held[rarest])
    if fewest < FEWEST_FOLDS:
        raise DataError(
            f"{path}: class {rarest!r} has {fewest} groups; {FEWEST_FOLDS} are needed to train, choose and test on it"
        )
    if len(set.union(*held.values())) >= CUT_FROM and fewest >= splits.CUT_FOLDS:
        return Fixed(published=False)
    return Folds(k=min(FOLDS, fewest), repeats=REPEATS)


@functools.cache  # by content, so that a task is one object as long as its file is unchanged
def _task(path: Path, text: bytes) -> Task:
    try:
        content = json.loads(text)
        if content["schema"] != SCHEMA:
            raise ValueError(f"schema {content['schema']!r}, this version reads {SCHEMA}")
        described = Description(**content)
        for field in fields(Description):
            value, kind = getattr(described, field.name), KINDS[field.type.partition("[")[0]]
            if not isinstance(value, kind):
                raise ValueError(f"{field.name} is {value!r}, not a {kind.__name__}")
        if described.form not in FORMS or described.policy not in files.SQUARES:
            raise ValueError(f"form {described.form!r} or policy {described.policy!r} is unknown")
        if len(described.classes) < 2:
            raise ValueError(f"classes are {described.classes}, two are needed")
        return _made(described)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(
            f"{path}: not a description of a dataset ({type(error).__name__}: {error}); "
            "delete it and run `python -m benchmark data add` again"
        ) from error


def _made(described: Description) -> Task:
    protocol = described.protocol
    return Task(
        name=described.name,
        modality=described.modality,
        title=described.title,
        question=described.question,
        classes=tuple(described.classes),
        group_kind=described.group_kind,
        protocol=Folds(**protocol) if "k" in protocol else Fixed(**protocol),
        metric=described.metric,
        version=1,
        access=Access(
            home=described.home,
            licence=described.licence,
            citation=described.citation,
            steps=("Described on this machine by `python -m benchmark data add`; its images stay where they are",),
        ),
        scan=partial(_scan, described=described),
        read=partial(_read, described=described),
        policy=described.policy,
        images=f"added {described.modality} {described.name} 1",
        family=f"added {described.name}",
        independent=not described.near,
        expected=sum(sum(part.values()) for part in described.counts.values()),
        counts=described.counts,
        near=described.near,
    )


def _scan(data: Path, *, described: Description) -> list[Sample]:
    rows = _rows(described.form, Path(described.path), described.name)
    strangers = sorted({row.name for row in rows} - set(described.classes))
    if strangers:
        raise DataError(
            f"{described.path}: class {strangers[0]!r} is not among {', '.join(described.classes)}; "
            f"remove it, or delete {folder() / described.modality / described.name}.json and describe the dataset again"
        )
    paths = [row.path for row in rows]
    ids = files.ids(_top(described), paths)
    labels = [described.classes.index(row.name) for row in rows]
    groups = [row.group or name for row, name in zip(rows, ids, strict=True)]
    return sorted(map(Sample, ids, labels, groups, files.digests(paths), [row.split for row in rows]))


def _read(data: Path, sample: Sample, pixels: int, *, described: Description) -> np.ndarray:
    return files.decode(_top(described).parent / sample.id)


def _top(described: Description) -> Path:
    path = Path(described.path)
    return path if described.form == "folder" else path.parent


def _rows(form: str, path: Path, name: str) -> list[Row]:
    if not (path.is_dir() if form == "folder" else path.is_file()):
        raise NoData(f"no {form} {path}; put it back, then look with `make data TASK={name}`")
    rows = _of_folder(path) if form == "folder" else _of_table(path)
    if not rows:
        raise DataError(
            f"{path}: no images; {'a folder for each class' if form == 'folder' else 'rows'} should be there"
        )
    for column in ("group", "split"):
        without = [row.path for row in rows if not getattr(row, column)]
        if 0 < len(without) < len(rows):
            raise DataError(
                f"{without[0]}: no {column} ({len(without)} such images); give one to all images, or to none"
            )
    return rows


def _of_folder(top: Path) -> list[Row]:
    loose = folders.listing(top, recursive=False).images
    if loose:
        raise DataError(f"{loose[0]}: an image beside the classes ({len(loose)} such); put it into a class's folder")
    rows = []
    shown = (path for path in top.iterdir() if path.is_dir() and path.name[0] != "." and path.name != "__MACOSX")
    for held in sorted(shown):
        found = files.images(held, recursive=True)
        if not found:
            raise DataError(f"{held}: no image ({', '.join(sorted(files.IMAGE_SUFFIXES))}); a folder here is a class")
        for path in found:
            below = path.relative_to(held).parts
            rows.append(Row(path, held.name, below[0] if len(below) > 1 else "", ""))
    return rows


def _of_table(table: Path) -> list[Row]:
    lines = files.table(table, "file", "label")
    rows: dict[Path, Row] = {}
    for number, line in enumerate(lines, 2):
        file, label, group, split = ((line.get(key) or "").strip() for key in ("file", "label", "group", "split"))
        below = PurePosixPath(file)
        if not file or not label:
            raise DataError(f"{table}, row {number}: file {file!r}, label {label!r}; both are needed")
        if below.is_absolute() or ".." in below.parts:
            raise DataError(
                f"{table}, row {number}: {file!r} leads out of the table's folder; move the table or the file"
            )
        if split not in ("", *splits.PARTS):
            raise DataError(f"{table}, row {number}: split {split!r}; known: {', '.join(splits.PARTS)}")
        path = table.parent / below
        if path in rows:
            raise DataError(f"{table}, row {number}: {file!r} is listed twice; keep one")
        rows[path] = Row(path, label, group, split)
    missing = [path for path in rows if not _there(path)]
    if missing:
        raise DataError(
            f"{missing[0]}: listed in {table.name}, not there ({len(missing)} such); put it back, or remove its row"
        )
    return list(rows.values())


def _there(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that is too long
        return False
