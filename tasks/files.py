"""What folder datasets share: finding their top folder, hashing files, reading group tables, decoding, squaring."""

from __future__ import annotations

import csv
import functools
import hashlib
import io
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, PngImagePlugin

from tasks import folders, scanned
from tasks.base import DataError, NoData, Sample, Source, digest
from tasks.folders import IMAGE_SUFFIXES as IMAGE_SUFFIXES

SQUARES = ("pad", "crop", "sector")  # policies for real images
LEAST_SIDE, MOST_PIXELS = (
    8,
    500_000_000,
)  # an image smaller shows nothing; a larger one is more likely a bomb than a scan
Image.MAX_IMAGE_PIXELS = None  # ours is the limit, and it refuses instead of warning
PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY = (
    2**28
)  # bytes of a profile or comment beside the pixels
DIM = 2**14  # grey levels that 14 bits hold: an image that stays below in 16 bits was scaled to fewer
OPAQUE = 128  # of 255: an alpha channel that stays below everywhere is none
BITS, PHOTOMETRIC, SUBFILE, FORMAT = 258, 262, 254, 339  # tags of TIFF
REDUCED_OR_MASK = 1 | 4  # bits of SUBFILE: a page that is not an image of its own
SIGNED = 2  # a FORMAT of samples
HASHING_THREADS = 8
MOST_TEXT = 2**28  # bytes of a text file that may be compared without its line ends

_DECODE = "8-bit RGB (grey of more bits by the range of its bits, transparency over black, EXIF rotation applied)"
_RESIZE = "Lanczos resize (Pillow, antialiased)"
POLICIES = {
    "pad": f"{_DECODE}; padded with black to a centred square; {_RESIZE}; 1",
    "crop": f"{_DECODE}; central square cut out; {_RESIZE}; 1",
    "sector": f"{_DECODE}; cut to the scanned area, black outside of it; padded with black to a centred square; "
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


def decode(path: Path, content: bytes | None = None) -> np.ndarray:
    """An image file as uint8 RGB (height, width, 3); POLICIES says how other kinds of pixels are brought there.

    content: the file's bytes, where the image lies in a container that `path` names in an error.
    """
    try:
        with Image.open(path if content is None else io.BytesIO(content)) as file:
            if min(file.size) < LEAST_SIDE or file.width * file.height > MOST_PIXELS:
                raise ValueError(
                    f"{file.width} x {file.height} pixels; sides of at least {LEAST_SIDE} and at most {MOST_PIXELS:,} "
                    "pixels are taken"
                )
            _check_pages(file)
            return np.asarray(_rgb(file))
    except (
        Exception
    ) as error:  # Pillow's plugins raise OSError, SyntaxError, ValueError, struct.error, ... on bad files
        raise DataError(
            f"{folders.shown(path)}: unreadable image ({_size(path, content)}; {type(error).__name__}: {error}); "
            "fetch it again, or leave it out"
        ) from error


def _size(path: Path, content: bytes | None) -> str:
    try:
        return f"{path.stat().st_size if content is None else len(content)} bytes"
    except OSError as error:
        return "no such file" if isinstance(error, FileNotFoundError) else str(error.strerror)


def _check_pages(file: Image.Image) -> None:
    """Raises ValueError for a file of several images. A smaller version, a mask, or the companions that a camera adds
    to a JPEG (MPO) are none of their own."""
    count = getattr(file, "n_frames", 1)
    if count > 1 and file.format == "TIFF":
        count = sum(not _subfile(file, page) & REDUCED_OR_MASK for page in range(count))
        file.seek(0)
    if count > 1 and file.format != "MPO":
        raise ValueError(f"{count} images in one file; save each as a file of its own")


def _subfile(file: Image.Image, page: int) -> int:
    file.seek(page)
    return file.tag_v2.get(SUBFILE, 0)


def _rgb(file: Image.Image) -> Image.Image:
    sixteen = ";16" in str(file.tile)  # Pillow keeps the upper 8 bits of colour
    image = ImageOps.exif_transpose(file)
    if image.mode == "F":
        raise ValueError("floating-point pixels have no agreed scale; convert the file to 8 or 16 bits")
    if image.mode.startswith("I"):
        return Image.fromarray(_grey(np.asarray(image).astype(np.int64), getattr(file, "tag_v2", {}))).convert("RGB")
    shown = _over_black(image) if image.has_transparency_data else image.convert("RGB")
    if sixteen:
        _check_range(256 * int(np.asarray(shown).max()))
    return shown


def _grey(values: np.ndarray, tags: Mapping[int, Any]) -> np.ndarray:
    """Grey of more than 8 bits as uint8: by the range of the bits that a TIFF states, else of 16."""
    bits = tags.get(BITS, (16,))[0]
    if bits == 16 and SIGNED in tags.get(FORMAT, ()):
        raise ValueError("signed pixels have no agreed scale; convert the file to 8 or 16 bits")
    white = min(2**bits, 2**16) - 1
    if values.min() < 0 or values.max() > white:
        raise ValueError(
            f"pixels from {values.min()} to {values.max()} have no agreed scale; convert it to 8 or 16 bits"
        )
    if white == 2**16 - 1:
        _check_range(values.max())
    return ((white - values if tags.get(PHOTOMETRIC) == 0 else values) * 255 // white).astype(np.uint8)


def _check_range(highest: int) -> None:
    if 0 < highest < DIM:
        raise ValueError(
            f"16-bit pixels of which none is over {highest} of 65,535, as where 12 bits are stored in 16, and the file "
            "does not say so; convert it to 8 bits"
        )


def _over_black(image: Image.Image) -> Image.Image:
    over = image.convert("RGBA")
    opaque = over.getextrema()[3][1]
    if opaque < OPAQUE:
        raise ValueError(f"transparent everywhere (alpha is at most {opaque} of 255); save it without alpha channel")
    return Image.alpha_composite(Image.new("RGBA", over.size, (0, 0, 0, 255)), over).convert("RGB")


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
    keeps the scanned area of an ultrasound image alone (`tasks.scanned`).

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
