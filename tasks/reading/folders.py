"""What lies in folders that others filled: which files are images, and what is left out for which reason.

Links are followed, each folder is visited once, hidden parts are kept apart, and what cannot be looked at is reported
and ends nothing.
"""

from __future__ import annotations

import os
from collections import defaultdict, deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tasks.base import DataError

IMAGE_SUFFIXES = frozenset(
    (
        *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".tif", ".tiff", ".bmp", ".dib", ".gif", ".webp"),
        *(".jp2", ".j2k", ".j2c", ".jpf", ".jpx", ".ppm", ".pgm", ".pbm", ".pnm"),
    )
)
UNREAD = {  # files that may hold images, by suffix: why they are not read
    "in DICOM": (".dcm", ".dicom", ".ima"),
    "whole slides": (".svs", ".ndpi", ".mrxs", ".scn", ".bif", ".svslide", ".vms", ".vmu", ".czi", ".vsi", ".qptiff"),
    "clips": (".mp4", ".m4v", ".avi", ".mov", ".mpeg", ".mpg", ".mkv", ".webm", ".wmv", ".flv", ".apng", ".mng"),
    "arrays": (".npy", ".npz", ".mat", ".h5", ".hdf5", ".nii", ".mha", ".mhd", ".nrrd", ".pt", ".parquet", ".tfrecord"),
    "archives": (".zip", ".tar", ".gz", ".tgz", ".bz2", ".tbz2", ".xz", ".txz", ".7z", ".rar", ".zst"),
    "of an image format that is not read": (
        *(".heic", ".heif", ".avif", ".jxl", ".jxr", ".jls", ".exr", ".hdr", ".dds", ".psd", ".svg", ".eps", ".ico"),
        *(".tga", ".pcx", ".sgi", ".ras", ".xpm", ".xbm", ".raw", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf"),
    ),
}
WHY = {suffix: reason for reason, suffixes in UNREAD.items() for suffix in suffixes}
SIGNATURES = {  # how image files begin, whatever they are called
    b"\x89PNG": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"GIF8": "GIF",
    b"BM": "BMP",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"\0\0\0\x0cjP  ": "JPEG 2000",
    b"\xff\x4f\xff\x51": "JPEG 2000",
}
LINKED = "a link to a folder that is listed already"
HEAD = 132  # bytes of a file that tell what it is
HIDDEN = frozenset({"__MACOSX", "@eaDir", "#recycle", "$RECYCLE.BIN", "System Volume Information", "lost+found"})
EXAMPLES = 3  # files that a summary names for each reason


class Content(NamedTuple):
    """What lies below a folder, each list in name order."""

    files: list[Path]
    hidden: list[Path]  # files that are hidden, or lie in a hidden folder below
    left_out: dict[str, list[Path]]  # reason -> what could not be looked at: folders, links, devices


def walk(top: Path, closed: dict[str, list[Path]], *, hidden: bool) -> Iterator[tuple[Path, list[os.DirEntry[str]]]]:
    """Each folder from top on with its entries. What a link leads to comes last, and not again where it came already:
    a folder has its own name, if it has one there. Folders that are not entered are added to closed: reason -> folders;
    hidden ones are passed over unless asked for.
    """
    visited: set[tuple[int, int]] = set()
    waiting = deque([top])  # folders at the left, links to folders at the right
    while waiting:
        folder = waiting.popleft()
        try:
            about = folder.stat()
            if (about.st_dev, about.st_ino) in visited:
                closed.setdefault(LINKED, []).append(folder)
                continue
            visited.add((about.st_dev, about.st_ino))
            with os.scandir(folder) as entries:
                listed = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            closed.setdefault(f"a folder that cannot be entered ({error.strerror})", []).append(folder)
            continue
        for entry in listed:
            if (hidden or not _is_hidden(entry.name)) and _is_folder(entry):
                waiting.append(folder / entry.name) if entry.is_symlink() else waiting.appendleft(folder / entry.name)
        yield folder, listed


def list_files(top: Path, *, recursive: bool = True) -> Content:
    """The files in a folder and in those below it."""
    files: list[Path] = []
    hidden: list[Path] = []
    left_out: dict[str, list[Path]] = {}
    for folder, entries in walk(top, left_out, hidden=True):
        for entry in entries:
            path = folder / entry.name
            if reason := _refused(entry):
                left_out.setdefault(reason, []).append(path)
            elif not _is_folder(entry):
                (hidden if is_hidden(path, top) else files).append(path)
        if not recursive:
            break
    shown = {reason: [path for path in paths if not is_hidden(path, top)] for reason, paths in left_out.items()}
    return Content(sorted(files), sorted(hidden), {reason: sorted(paths) for reason, paths in shown.items() if paths})


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _refused(entry: os.DirEntry[str]) -> str:
    """Why an entry is neither a file nor a folder that can be looked at; "" for one that is."""
    try:
        if entry.is_dir() or entry.is_file():
            return ""
    except OSError as error:
        return f"cannot be looked at ({error.strerror})"
    return "a link to nothing" if entry.is_symlink() else "neither a file nor a folder"


class Listing(NamedTuple):
    """A folder's image files in name order, and what else there may be one: reason -> files, folders, links."""

    images: list[Path]
    left_out: dict[str, list[Path]]


def list_images(folder: Path, *, recursive: bool = True, suffixes: Collection[str] = IMAGE_SUFFIXES) -> Listing:
    """The image files in a folder and below, by suffix in any case. Hidden images are left out, with "hidden" as the
    reason; `summarise` words what is left out.

    Raises DataError for an image whose name is not UTF-8: it could not be stored under its name.
    """
    every = list_files(folder, recursive=recursive)
    images = [path for path in every.files if path.suffix.lower() in suffixes]
    for path in images:
        relative_id(path, folder)
    left_out = defaultdict(list, every.left_out)
    for path in every.files:
        if path.suffix.lower() not in suffixes and (reason := _unread(path)):
            left_out[reason].append(path)
    if hidden := [path for path in every.hidden if path.suffix.lower() in suffixes]:
        left_out["hidden"] = hidden
    return Listing(images, dict(left_out))


def _unread(path: Path) -> str:
    """Why a file that may hold an image is not read; "" for any other file."""
    suffix = path.suffix.lower()
    if suffix in WHY or suffix in IMAGE_SUFFIXES:
        return WHY.get(suffix, "of another image format")
    kind = _kind(path)
    return f"{kind} by content, under another suffix" if kind else ""


def _kind(path: Path) -> str:
    """The image format that a file begins like; "" for any other file."""
    try:
        with path.open("rb") as file:
            head = file.read(HEAD)
    except OSError:
        return ""
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WebP"
    if head[HEAD - 4 :] == b"DICM":
        return "DICOM"
    return next((kind for signature, kind in SIGNATURES.items() if head.startswith(signature)), "")


def relative_id(path: Path, top: Path) -> str:
    """The path from a folder on, with forward slashes on every machine. Raises DataError for a name not in UTF-8."""
    name = path.relative_to(top).as_posix()
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise DataError(
            f"{printable(path)}: its name is not UTF-8, and images are stored under their names; rename it (the "
            "program convmv renames whole folders), or move it out"
        ) from error
    return name


def subfolders(folder: Path) -> list[Path]:
    """The folders in a folder, links to folders too, hidden ones left out; none where it cannot be entered."""
    try:
        with os.scandir(folder) as entries:
            return sorted(folder / entry.name for entry in entries if not _is_hidden(entry.name) and _is_folder(entry))
    except OSError:
        return []


def why_closed(folder: Path) -> str | None:
    """Why a folder cannot be entered and listed; None where it can."""
    try:
        os.listdir(folder)
        os.stat(os.path.join(folder, os.curdir))
    except OSError as error:
        return error.strerror
    return None


def is_hidden(path: Path, top: Path) -> bool:
    """Whether a part of the path below top is hidden: a download under way, another program's folder."""
    return any(map(_is_hidden, path.relative_to(top).parts))


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name in HIDDEN


def is_file(path: Path) -> bool:
    """Path.is_file, and False for a path that may not be looked at."""
    try:
        return path.is_file()
    except OSError:
        return False


def is_readable(path: Path) -> bool:
    """Whether a file may be opened."""
    try:
        path.open("rb").close()
    except OSError:
        return False
    return True


def is_folder(path: Path) -> bool:
    """Path.is_dir, and False for a path that may not be looked at."""
    try:
        return path.is_dir()
    except OSError:
        return False


def printable(path: Path | str) -> str:
    r"""A path for people: bytes that are not UTF-8 as \xe9."""
    return os.fsencode(path).decode("utf-8", errors="backslashreplace")


def summarise(left_out: Mapping[str, Sequence[Path | str]]) -> str:
    """How many files were left out, why and which, in one line; "" for none."""
    total = sum(map(len, left_out.values()))
    reasons = [f"{len(paths):,} {reason} ({_examples(paths)})" for reason, paths in left_out.items() if paths]
    return f"{total:,} not read: {', '.join(reasons)}" if total else ""


def _examples(paths: Sequence[Path | str]) -> str:
    return ", ".join(map(printable, paths[:EXAMPLES])) + ", ..." * (len(paths) > EXAMPLES)


def names_below(left_out: Mapping[str, Sequence[Path]], top: Path) -> dict[str, list[str]]:
    """As `Source.left_out` gives it: reason -> paths from top on."""
    return {reason: [printable(path.relative_to(top)) for path in paths] for reason, paths in left_out.items()}
