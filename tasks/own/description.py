"""Datasets of one's own, described in a small JSON file instead of a module; `tasks.add` writes it.

The files are `<modality>/<name>.json` in `folder()`. The images stay where they are, and `tasks.own.images` reads them.
Classes are in the order of their names. Where a split is given, it is kept; else there is one cut from 250 groups on,
and grouped folds below.
"""

from __future__ import annotations

import functools
import json
import os
import re
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tasks.base import Access, DataError, Fixed, Folds, Sample, Task
from tasks.own import images
from tasks.reading import checksums, decoding, folders, layout, squares

SCHEMA = 1  # of the JSON file
KINDS = {"str": str, "int": int, "bool": bool, "list": list, "dict": dict}  # JSON types of a description's fields
INDEPENDENT = (  # kinds of groups that are patients or slides
    *("patient", "subject", "person", "participant", "individual", "volunteer", "donor", "case", "animal", "slide"),
    *("whole slide", "whole slide image", "wsi", "specimen", "biopsy"),
)
NEAR_KIND = "near-duplicate cluster (no patient is known)"


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
    form: str  # one of images.FORMS
    path: str  # absolute: the folder of classes, or the table
    classes: list[str]
    counts: dict[str, dict[str, int]]  # split ("" where there is none) -> class -> images, when it was described
    protocol: dict[str, object]  # the fields of Fixed or Folds
    near: bool  # no groups are known


class Descriptions(NamedTuple):
    tasks: dict[str, Task]
    broken: dict[str, DataError]  # name -> why its file describes no task


def folder() -> Path:
    """Where descriptions are: the environment's PRETEXT_BENCH_TASKS, else `tasks/added/` of a checkout, else the
    user's own folder of settings for this program."""
    if given := os.environ.get("PRETEXT_BENCH_TASKS"):
        return Path(given).expanduser()
    package = Path(__file__).parents[1]
    if (package.parent / "pyproject.toml").is_file():
        return package / "added"
    from typer import get_app_dir

    return Path(get_app_dir("pretext-bench")) / "tasks"


def read_all(modality: str, taken: Collection[str] = ()) -> Descriptions:
    """The modality's added tasks, and the files that describe none: damaged ones, and those of a name that is taken."""
    made, broken = {}, {}
    for path in sorted((folder() / modality).glob("*.json")):
        if path.name.startswith("."):
            continue
        try:
            task = _task(path, _content(path))
            if (task.modality, task.name) != (modality, path.stem):
                raise DataError(
                    f"{folders.printable(path)}: describes {task.modality}/{task.name}; call the file and its folder so"
                )
            if task.name in taken:
                raise DataError(
                    f"{path}: {modality}/{task.name} is a built-in task; give the file and its task another name"
                )
            made[task.name] = task
        except DataError as error:
            broken[path.stem] = error
    return Descriptions(made, broken)


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(
            f"{folders.printable(path)}: cannot be read ({error.strerror}); mend that, or delete it"
        ) from error


def path_of(described: Description) -> Path:
    """The file of a description."""
    return folder() / described.modality / f"{described.name}.json"


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
        if described.form not in images.FORMS or described.policy not in squares.SQUARES:
            raise ValueError(f"form {described.form!r} or policy {described.policy!r} is unknown")
        if len(described.classes) < 2:
            raise ValueError(f"classes are {described.classes}, two are needed")
        return to_task(described)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(
            f"{folders.printable(path)}: not a description of a dataset ({type(error).__name__}: {error}); "
            "delete it and run `python -m benchmark data add` again"
        ) from error


def is_independent(group_kind: str) -> bool:
    """Whether groups so called are patients or slides: "patient", "Patients (by name)", "patient or slide"."""
    plain = re.sub(r"\(.*?\)", "", group_kind).casefold().replace("-", " ")
    kinds = [re.sub(r"( (id|ids|number|numbers|name))?$", "", kind.strip()) for kind in re.split(r"/|,|\bor\b", plain)]
    return all(kind in INDEPENDENT or kind.removesuffix("s") in INDEPENDENT for kind in kinds)


def to_task(described: Description) -> Task:
    protocol = described.protocol
    return Task(
        name=described.name,
        modality=described.modality,
        title=described.title,
        question=described.question,
        classes=tuple(described.classes),
        group_kind=NEAR_KIND if described.near else described.group_kind,
        protocol=Folds(**protocol) if "k" in protocol else Fixed(**protocol),
        metric=described.metric,
        version=2,
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
        independent=not described.near and is_independent(described.group_kind),
        expected=sum(sum(part.values()) for part in described.counts.values()),
        counts=described.counts,
        near=described.near,
        left_out=partial(_left_out, described=described),
        root=_top(described).parent,
    )


def _scan(data: Path, *, described: Description) -> list[Sample]:
    found = images.read_images(described.form, Path(described.path), described.name).rows
    again = f"delete {path_of(described)} and describe the dataset again"
    strangers = sorted({row.label for row in found} - set(described.classes))
    if strangers:
        raise DataError(
            f"{described.path}: class {strangers[0]!r} is not among {', '.join(described.classes)}; remove it, or "
            f"{again}"
        )
    counts = Counter((row.split, row.label) for row in found)
    for (split, name), count in sorted(counts.items()):
        expected = described.counts.get(split, {}).get(name, 0)
        if count > expected:
            raise DataError(
                f"{described.path}: {count:,} images of {' '.join(filter(None, (split, name)))}, {expected:,} when it "
                f"was described; remove what came since, or {again}"
            )
    paths = [row.path for row in found]
    ids = layout.sample_ids(_top(described), paths)
    labels = [described.classes.index(row.label) for row in found]
    groups = [row.group or name for row, name in zip(found, ids, strict=True)]
    return sorted(map(Sample, ids, labels, groups, checksums.hash_files(paths), [row.split for row in found]))


def _left_out(data: Path, *, described: Description) -> dict[str, list[str]]:
    return images.read_images(described.form, Path(described.path), described.name).left_out


def _read(data: Path, sample: Sample, pixels: int, *, described: Description) -> np.ndarray:
    return decoding.decode(_top(described).parent / sample.id)


def _top(described: Description) -> Path:
    path = Path(described.path)
    return path if described.form == "folder" else path.parent
