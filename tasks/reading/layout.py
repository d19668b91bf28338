"""The native layout of a dataset: its top folder, its images by name, its groups."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from tasks.base import DataError, NoData, Sample
from tasks.reading import checksums, decoding, folders, tables


def find_one(data: Path, what: str, task: str, match: Callable[[Path], Iterable[Path]]) -> Path:
    """The one path that `match` gives for `data`, else for a folder in it, else for one a folder further down.

    Raises NoData where there is none, DataError where there are several.
    """
    closed: dict[str, str | None] = {}  # path -> why it could not be looked at
    for level in nearby_folders(data):
        found: list[Path] = []
        for folder in level:
            if reason := folders.why_closed(folder):
                closed[str(folder)] = reason
                continue
            try:
                found += match(folder)
            except OSError as error:
                closed[str(error.filename or folder)] = error.strerror
        if len(found) > 1:
            listed = ", ".join(map(folders.printable, found))
            raise DataError(f"{data}: {what} is there {len(found)} times ({listed}); keep one, or give it as DATA")
        if found:
            return found[0]
    examples = [f"{folders.printable(path)} ({reason})" for path, reason in closed.items()]
    unseen = f"; {len(closed)} places there could not be looked at, such as {examples[0]}" if closed else ""
    raise NoData(f"no {what} in {data}, or up to two folders further down{unseen}; get it with `make data TASK={task}`")


def nearby_folders(data: Path) -> Iterator[list[Path]]:
    """Where datasets are looked for: data itself, then the folders in it, then those in these; hidden ones left out."""
    level = [data]
    yield level
    for _ in range(2):
        level = [folder for above in level for folder in folders.subfolders(above)]
        yield level


@functools.cache  # `read_image` asks for every image; a missing folder raises, and so is never remembered
def find_top(data: Path, name: str, task: str) -> Path:
    """A dataset's native top folder: `data` itself, or that name in it, one or two folders further down.

    Some archives nest the folder in itself: then it is the inner one.
    """
    named = [data] if data.name == name and folders.is_folder(data) else []
    top = find_one(
        data, f"folder {name!r}", task, lambda folder: named or [path for path in [folder / name] if path.is_dir()]
    )
    return top / name if folders.is_folder(top / name) else top


def subfolder(top: Path, *names: str) -> Path:
    """A folder that the native layout has, one in the other. Raises DataError with what is there instead."""
    for name in names:
        there = list_entries(top)
        if not folders.is_folder(top / name):
            listed = ", ".join(folders.printable(path.name) for path in there[:10]) or "nothing"
            raise DataError(f"{top}: no folder {name!r}, found {listed}; unpack the dataset again, keeping its folders")
        top = top / name
    list_entries(top)
    return top


def list_entries(folder: Path) -> list[Path]:
    """What lies in a folder, in name order. Raises DataError where it cannot be entered."""
    if reason := folders.why_closed(folder):
        raise DataError(f"{folder}: a folder that cannot be entered ({reason}); make it readable")
    return sorted(folder.iterdir())


def list_images(folder: Path, *, recursive: bool = False) -> list[Path]:
    """The image files of a native layout's folder, hidden ones left out, in name order.

    Raises DataError where there is what may be an image and is not read, or one further down unless recursive: the
    authors put none there.
    """
    found = folders.list_images(folder)
    deeper = [] if recursive else [path for path in found.images if path.parent != folder]
    if deeper:
        raise DataError(
            f"{deeper[0]}: an image in a folder below {folder} ({len(deeper)} such), where the dataset has none; "
            "unpack it again, keeping its folders, or move out what its authors did not put there"
        )
    if strange := {reason: paths for reason, paths in found.left_out.items() if reason != "hidden"}:
        raise DataError(
            f"{folder}: {folders.summarise(strange)}; make them readable, or remove what the dataset's authors did not "
            "put there"
        )
    return found.images


def images_by_class(
    top: Path, names: Sequence[str], pattern: re.Pattern[str], *, example: str
) -> list[tuple[Path, int, re.Match[str]]]:
    """The images of a layout with a folder for each class, in the order of the labels: path, label, match of its name.

    Raises DataError for a folder that is missing, a name that does not match, and where no image is there.
    """
    named = [
        (path, label, match)
        for label, name in enumerate(names)
        for path, match in match_names(list_images(subfolder(top, name)), pattern, example=example)
    ]
    if not named:
        raise DataError(f"{top}: no images like '{names[0]}/{example}'; unpack the dataset again, keeping its folders")
    return named


def match_names(paths: Iterable[Path], pattern: re.Pattern[str], *, example: str) -> list[tuple[Path, re.Match[str]]]:
    """Each path with the match of its whole name. Raises DataError for names that do not match."""
    pairs = [(path, pattern.fullmatch(path.name)) for path in paths]
    strangers = [path for path, match in pairs if match is None]
    if strangers:
        raise DataError(
            f"{strangers[0]}: the name is not like {example!r} ({len(strangers)} such files); "
            "rename or remove what the dataset's authors did not put there"
        )
    return [(path, match) for path, match in pairs if match is not None]


def match_listed(listed: Collection[str], found: Mapping[str, Path], source: str) -> list[str]:
    """The listed names that are here, in name order: a partial dataset lacks some.

    Raises DataError for files that the list does not name, and where none of the listed is here.
    """
    if strangers := sorted(found.keys() - set(listed)):
        raise DataError(
            f"{found[strangers[0]]}: not in {source} ({len(strangers)} such images); "
            "remove what the dataset's authors did not put there"
        )
    if not found:
        raise DataError(f"none of the {len(listed)} images in {source} is here; unpack the dataset again")
    return sorted(found)


def sample_ids(top: Path, paths: Iterable[Path]) -> list[str]:
    """Sample ids: paths from the dataset's top folder (included) on, with forward slashes on every machine."""
    return [folders.relative_id(path, top.parent) for path in paths]


def samples(
    top: Path,
    paths: Sequence[Path],
    labels: Sequence[int],
    groups: Sequence[str] | None = None,
    splits: Sequence[str] | None = None,
    *,
    join_copies: bool = False,
) -> list[Sample]:
    """A sample for each image file, by id. Without groups each is its own, or with `join_copies` all of the same bytes
    are one, called like the first."""
    ids, digests = sample_ids(top, paths), checksums.hash_files(paths)
    first = dict(zip(reversed(digests), reversed(ids), strict=True))
    own = [first[digest] for digest in digests] if join_copies else ids
    return sorted(map(Sample, ids, labels, groups or own, digests, splits or [""] * len(ids)))


def read_groups(top: Path, column: str) -> dict[str, str] | None:
    """Image id -> group, from a `groups.csv` (columns `file`, `column`) beside the top folder; None if there is none.

    A table of another dataset that shares the folder, with no row of this one, counts as none.
    """
    path = top.parent / "groups.csv"
    if not folders.is_file(path):
        return None
    rows = [row for row in tables.read_csv(path, "file") if row["file"].startswith(f"{top.name}/")]
    if rows and column not in rows[0]:
        raise DataError(f"{path}: no column {column!r}, found {', '.join(rows[0])}; restore it, or remove the file")
    return {row["file"]: row[column] for row in rows} or None


def look_up_groups(names: Iterable[str], known: dict[str, str], source: Path) -> list[str]:
    """The group of each name. Raises DataError for names without one."""
    missing = [name for name in names if not known.get(name)]
    if missing:
        raise DataError(
            f"{source}: no group for {missing[0]!r} ({len(missing)} images without one); "
            "list every image there, or remove the images that are not the authors'"
        )
    return [known[name] for name in names]


def read_image(data: Path, sample: Sample, pixels: int, *, top: str, task: str) -> np.ndarray:
    """Task.read of datasets whose samples are image files: `partial(layout.read_image, top=ANCHOR, task=NAME)`."""
    return decoding.decode(image_path(data, sample, top=top, task=task))


def image_path(data: Path, sample: Sample, *, top: str, task: str) -> Path:
    """The file of a sample whose id begins with the top folder of that name."""
    return find_top(data, top, task).parent / sample.id
