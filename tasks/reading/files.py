"""What folder datasets share: finding their top folder, hashing files, reading group tables, decoding, squaring."""

from __future__ import annotations

import csv
import functools
import hashlib
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from tasks.base import DataError, NoData, Sample, Source, digest
from tasks.reading import folders, scanned
from tasks.reading.decoding import DECODED
from tasks.reading.decoding import decode as decode
from tasks.reading.folders import IMAGE_SUFFIXES as IMAGE_SUFFIXES

SQUARES = ("pad", "crop", "sector")  # policies for real images
HASHING_THREADS = 8
MOST_TEXT = 2**28  # bytes of a text file that may be compared without its line ends

_RESIZE = "Lanczos resize (Pillow, antialiased)"
POLICIES = {
    "pad": f"{DECODED}; padded with black to a centred square; {_RESIZE}; 1",
    "crop": f"{DECODED}; central square cut out; {_RESIZE}; 1",
    "sector": f"{DECODED}; cut to the scanned area, black outside of it; padded with black to a centred square; "
    f"{_RESIZE}; 1",
    "simulated": "simulated at the stored size",
}


def find(data: Path, what: str, task: str, match: Callable[[Path], Iterable[Path]]) -> Path:
    """The one path that `match` gives for `data`, else for a folder in it, else for one a folder further down.

    Raises NoData where there is none, DataError where there are several.
    """
    closed: dict[str, str | None] = {}  # path -> why it could not be looked at
    for level in nearby(data):
        found: list[Path] = []
        for folder in level:
            if reason := folders.closed(folder):
                closed[str(folder)] = reason
                continue
            try:
                found += match(folder)
            except OSError as error:
                closed[str(error.filename or folder)] = error.strerror
        if len(found) > 1:
            listed = ", ".join(map(folders.shown, found))
            raise DataError(f"{data}: {what} is there {len(found)} times ({listed}); keep one, or give it as DATA")
        if found:
            return found[0]
    examples = [f"{folders.shown(path)} ({reason})" for path, reason in closed.items()]
    unseen = f"; {len(closed)} places there could not be looked at, such as {examples[0]}" if closed else ""
    raise NoData(f"no {what} in {data}, or up to two folders further down{unseen}; get it with `make data TASK={task}`")


def nearby(data: Path) -> Iterator[list[Path]]:
    """Where datasets are looked for: data itself, then the folders in it, then those in these; hidden ones left out."""
    level = [data]
    yield level
    for _ in range(2):
        level = [folder for above in level for folder in folders.visible(above)]
        yield level


@functools.cache  # `read` asks for every image; a missing folder raises, and so is never remembered
def anchor(data: Path, name: str, task: str) -> Path:
    """A dataset's native top folder: `data` itself, or that name in it, one or two folders further down.

    Some archives nest the folder in itself: then it is the inner one.
    """
    named = [data] if data.name == name and folders.is_folder(data) else []
    top = find(
        data, f"folder {name!r}", task, lambda folder: named or [path for path in [folder / name] if path.is_dir()]
    )
    return top / name if folders.is_folder(top / name) else top


def subfolder(top: Path, name: str) -> Path:
    """A folder that the native layout has. Raises DataError with what is there instead."""
    there = entries(top)
    if not folders.is_folder(top / name):
        listed = ", ".join(folders.shown(path.name) for path in there[:10]) or "nothing"
        raise DataError(f"{top}: no folder {name!r}, found {listed}; unpack the dataset again, keeping its folders")
    entries(top / name)
    return top / name


def entries(folder: Path) -> list[Path]:
    """What lies in a folder, in name order. Raises DataError where it cannot be entered."""
    if reason := folders.closed(folder):
        raise DataError(f"{folder}: a folder that cannot be entered ({reason}); make it readable")
    return sorted(folder.iterdir())


def images(folder: Path, *, recursive: bool = False) -> list[Path]:
    """The image files of a native layout's folder, hidden ones left out, in name order.

    Raises DataError where there is what may be an image and is not read, or one further down unless recursive: the
    authors put none there.
    """
    found = folders.listing(folder)
    deeper = [] if recursive else [path for path in found.images if path.parent != folder]
    if deeper:
        raise DataError(
            f"{deeper[0]}: an image in a folder below {folder} ({len(deeper)} such), where the dataset has none; "
            "unpack it again, keeping its folders, or move out what its authors did not put there"
        )
    if strange := {reason: paths for reason, paths in found.left_out.items() if reason != "hidden"}:
        raise DataError(
            f"{folder}: {folders.summary(strange)}; make them readable, or remove what the dataset's authors did not "
            "put there"
        )
    return found.images


def matching(paths: Iterable[Path], pattern: re.Pattern[str], *, example: str) -> list[tuple[Path, re.Match[str]]]:
    """Each path with the match of its whole name. Raises DataError for names that do not match."""
    pairs = [(path, pattern.fullmatch(path.name)) for path in paths]
    strangers = [path for path, match in pairs if match is None]
    if strangers:
        raise DataError(
            f"{strangers[0]}: the name is not like {example!r} ({len(strangers)} such files); "
            "rename or remove what the dataset's authors did not put there"
        )
    return [(path, match) for path, match in pairs if match is not None]


def present(listed: Collection[str], found: Mapping[str, Path], source: str) -> list[str]:
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


def ids(top: Path, paths: Iterable[Path]) -> list[str]:
    """Sample ids: paths from the dataset's top folder (included) on, with forward slashes on every machine."""
    return [folders.identifier(path, top.parent) for path in paths]


def digests(paths: Iterable[Path]) -> list[str]:
    """SHA-256 (hex) of each file's bytes; of its path, where it cannot be read: reading it will say so."""
    with ThreadPoolExecutor(HASHING_THREADS) as pool:
        return list(pool.map(_digest, paths))


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return digest("unreadable", path.as_posix())


def table(path: Path, *columns: str) -> list[dict[str, str]]:
    """The rows of a CSV file, "" where a row is short. Raises DataError if it is none, or a column is missing or there
    twice."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, restval="")
            found, rows = list(reader.fieldnames or ()), list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: not a CSV file in UTF-8 ({error}); fetch it again, or save it as one") from error
    several = [(column, count) for column, count in Counter(filter(str.strip, found)).items() if count > 1]
    if several:
        raise DataError(f"{path}: {several[0][0]!r} is the name of {several[0][1]} columns; keep or rename one")
    missing = [column for column in columns if column not in found]
    if missing:
        listed = ", ".join(found[:20]) or "nothing"
        raise DataError(f"{path}: no column {missing[0]!r}, found {listed}; its first line names the columns, mend it")
    return rows


def checksum(path: Path, algorithm: str) -> str:
    """A file's checksum as cards write it: "md5:<hex>" or "sha256:<hex>"."""
    with path.open("rb") as file:
        return f"{algorithm}:{hashlib.file_digest(file, algorithm).hexdigest()}"


def is_same_text(path: Path, expected: str) -> bool:
    """Whether a text file is the one of that checksum but for its line ends."""
    if path.stat().st_size > MOST_TEXT:
        return False
    content = path.read_bytes()
    if b"\0" in content:
        return False
    lines = content.replace(b"\r\n", b"\n").replace(b"\r", b"\n").rstrip(b"\n").split(b"\n")
    ends = (b"\n", b"\r\n", b"\r")
    texts = [end.join(lines) + last for end in ends for last in (end, b"")]
    algorithm, _, wanted = expected.partition(":")
    return any(hashlib.new(algorithm, text).hexdigest() == wanted for text in texts)


def readable(path: Path) -> bool:
    """Whether a file may be opened."""
    try:
        path.open("rb").close()
    except OSError:
        return False
    return True


def words(path: Path) -> list[str]:
    """The words of a text file, which may be missing: then none. Raises DataError where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8-sig", errors="replace").split()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); make it readable") from error


def groups(top: Path, column: str) -> dict[str, str] | None:
    """Image id -> group, from a `groups.csv` (columns `file`, `column`) beside the top folder; None if there is none.

    A table of another dataset that shares the folder, with no row of this one, counts as none.
    """
    path = top.parent / "groups.csv"
    if not folders.is_file(path):
        return None
    rows = [row for row in table(path, "file") if row["file"].startswith(f"{top.name}/")]
    if rows and column not in rows[0]:
        raise DataError(f"{path}: no column {column!r}, found {', '.join(rows[0])}; restore it, or remove the file")
    return {row["file"]: row[column] for row in rows} or None


def grouped(names: Iterable[str], known: dict[str, str], source: Path) -> list[str]:
    """The group of each name. Raises DataError for names without one."""
    missing = [name for name in names if not known.get(name)]
    if missing:
        raise DataError(
            f"{source}: no group for {missing[0]!r} ({len(missing)} images without one); "
            "list every image there, or remove the images that are not the authors'"
        )
    return [known[name] for name in names]


def read(data: Path, sample: Sample, pixels: int, *, top: str, task: str) -> np.ndarray:
    """Task.read of datasets whose samples are image files: `functools.partial(files.read, top=ANCHOR, task=NAME)`."""
    return decode(anchor(data, top, task).parent / sample.id)


def mask(
    task: Source, data: Path, sample: Sample, where: Callable[[Path, Sample, int], np.ndarray], pixels: int
) -> np.ndarray:
    """A sample's mask as bool (pixels, pixels), brought to a square with its image. Raises DataError for a mask that is
    missing, unreadable or of another size than its image."""
    shown, image = where(data, sample, pixels), task.read(data, sample, pixels)
    if shown.shape != image.shape[:2]:
        raise DataError(
            f"{sample.id}: a mask of {shown.shape[1]} x {shown.shape[0]} pixels for an image of {image.shape[1]} x "
            f"{image.shape[0]}; unpack the dataset again"
        )
    policy = task.policy
    if policy == "sector":
        shown, policy = shown[scanned.frame(image)[1]], "pad"
    grey = np.where(shown, 255, 0).astype(np.uint8)
    return to_square(np.repeat(grey[..., None], 3, axis=2), pixels, policy)[..., 0] >= 128


def outline(path: Path) -> np.ndarray:
    """A mask file as bool (height, width), whether it stores 0 and 255 or 0 and 1: over half of its brightest value.

    Raises DataError where it is missing or unreadable.
    """
    grey = decode(path)[..., 0].astype(int)
    return 2 * grey > grey.max()


def box(shape: tuple[int, int], corners: Iterable[Sequence[float]]) -> np.ndarray:
    """bool (height, width): filled boxes, each xmin, ymin, xmax, ymax in pixels, both ends inside."""
    shown = np.zeros(shape, bool)
    for left, top, right, bottom in corners:
        shown[max(0, round(top)) : round(bottom) + 1, max(0, round(left)) : round(right) + 1] = True
    return shown


def described(policy: str) -> str:
    """What a policy does, in words. Raises ValueError for an unknown one."""
    if policy not in POLICIES:
        raise ValueError(f"unknown policy {policy!r}; known: {', '.join(POLICIES)}")
    return POLICIES[policy]


def to_square(image: np.ndarray, pixels: int, policy: str) -> np.ndarray:
    """uint8 RGB as (pixels, pixels, 3): "pad" cuts nothing (ultrasound), "crop" takes the centre (histology), "sector"
    keeps the scanned area of an ultrasound image alone (`tasks.reading.scanned`).

    Raises ValueError for an unknown policy, and for a simulated image of another size.
    """
    described(policy)
    image = scanned.cut(image) if policy == "sector" else image
    height, width = image.shape[:2]
    if policy == "simulated":
        if (height, width) != (pixels, pixels):
            raise ValueError(f"a simulated image of {width} x {height} pixels, {pixels} x {pixels} were asked for")
        return image
    if policy == "crop":
        side = min(height, width)
        left, top = (width - side) // 2, (height - side) // 2
        square = Image.fromarray(image[top : top + side, left : left + side])
    else:
        side = max(height, width)
        square = Image.new("RGB", (side, side))
        square.paste(Image.fromarray(image), ((side - width) // 2, (side - height) // 2))
    return np.asarray(square.resize((pixels, pixels), Image.Resampling.LANCZOS))
