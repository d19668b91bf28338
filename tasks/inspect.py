"""What of a dataset is on this machine, and whether it is whole: found, partial, missing or broken.

`status` scans; `verify` also compares checksums and decodes every image. Both return values and print nothing.
`note_verified` notes in the cache that these very images were verified, so that a later `status` can say so.
"""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from PIL import Image

from tasks import splits
from tasks.base import DataError, NoData, Sample, Task, identity
from tasks.reading import checksums, folders, layout

CHUNK = 64  # images handed to a thread at a time
FLAT = 2  # of 255
PIXELS = 64  # size at which a simulator renders; images on disk are read at their own

State = Literal["found", "partial", "missing", "broken"]


class Count(NamedTuple):
    """Images of a class in a published split ("" where there is none)."""

    split: str
    name: str  # class
    expected: int | None  # as the card states it; None where the card does not
    found: int


class Checksum(NamedTuple):
    file: str  # name on the card
    expected: str  # "md5:<hex>" or "sha256:<hex>"
    found: tuple[str, ...]  # of the files of that name under data; () where there is none
    same_text: bool = False  # one of them is a text that differs in its line ends alone

    @property
    def wrong(self) -> bool:
        return bool(self.found) and self.expected not in self.found and not self.same_text


class Contradiction(NamedTuple):
    """Byte-identical images with different labels."""

    ids: tuple[str, ...]
    together: bool  # in one group: the dataset's reader knows them, and no split divides them


class Look(NamedTuple):
    """A decoded image: width and height in pixels, how its file stores them (Pillow's mode, or the suffix), and whether
    it shows one colour: no channel has values more than FLAT apart."""

    width: int
    height: int
    mode: str
    flat: bool


@dataclass(frozen=True, kw_only=True)
class Status:
    task: Task
    state: State
    reason: str = ""  # of a missing or broken dataset; of a partial one that cannot be split
    counts: tuple[Count, ...] = ()
    images: int = 0
    groups: int = 0  # as scanned: where Task.near says so, near-duplicates are joined later
    bytes: int | None = None  # of the files that hold the images; None where they are not files under data
    data: str = ""  # `base.identity` of the samples; "" where there are none
    left_out: Mapping[str, list[str]] = field(default_factory=dict)  # reason -> files that are no part of the task
    columns: Mapping[str, Mapping[str, Mapping[str, int]]] = field(default_factory=dict)  # Task.columns -> class ->
    # what the authors say ("" where nothing) -> images


@dataclass(frozen=True, kw_only=True)
class Verified:
    status: Status
    checksums: tuple[Checksum, ...] = ()
    unreadable: Mapping[str, str] | None = None  # sample id -> why; None where nothing was decoded
    contradictions: tuple[Contradiction, ...] = ()
    widths: tuple[int, float, int] | None = None  # smallest, median, largest, pixels
    heights: tuple[int, float, int] | None = None
    modes: Mapping[str, int] | None = None  # how files store the pixels -> images
    flat: tuple[str, ...] = ()  # ids of images of one colour

    @property
    def broken(self) -> bool:
        wrong = any(checksum.wrong for checksum in self.checksums)
        torn = any(not copies.together for copies in self.contradictions)
        return self.status.state == "broken" or wrong or torn or bool(self.unreadable)


def status(task: Task, data: Path) -> Status:
    """The dataset under data, scanned and split, not decoded."""
    return _scanned(task, data)[0]


def verify(task: Task, data: Path, *, workers: int = 1) -> Verified:
    """The dataset under data, every image decoded by that many threads; with a progress bar on stderr."""
    found, samples = _scanned(task, data)
    sums = _checksums(task, data)
    if not samples:
        return Verified(status=found, checksums=sums)
    unreadable: dict[str, str] = {}
    looks: list[Look] = []
    flat: list[str] = []
    for sample, look in zip(samples, _looks(task, data, samples, workers), strict=True):
        if isinstance(look, Look):
            looks.append(look)
            flat += [sample.id] * look.flat
        else:
            unreadable[sample.id] = look
    return Verified(
        status=found,
        checksums=sums,
        unreadable=unreadable,
        contradictions=_contradictions(samples),
        widths=_spread([look.width for look in looks]),
        heights=_spread([look.height for look in looks]),
        modes=dict(Counter(look.mode for look in looks).most_common()),
        flat=tuple(flat),
    )


def _scanned(task: Task, data: Path) -> tuple[Status, list[Sample]]:
    try:
        return _counted(task, data)
    except NoData as error:
        return Status(task=task, state="missing", reason=str(error)), []
    except DataError as error:
        return Status(task=task, state="broken", reason=str(error)), []
    except OSError as error:
        reason = (
            f"{folders.printable(error.filename or data)}: {error.strerror or error}; make it readable, or move it out"
        )
        return Status(task=task, state="broken", reason=reason), []


def _counted(task: Task, data: Path) -> tuple[Status, list[Sample]]:
    samples = task.scan(data)
    counts = _counts(task, samples)
    state, reason = _judged(task, samples, counts)
    places = set(locate(task, data, samples).values())
    found = Status(
        task=task,
        state=state,
        reason=reason,
        counts=counts,
        images=len(samples),
        groups=len({sample.group for sample in samples}),
        bytes=sum(path.stat().st_size for path in places) if places else None,
        data=identity(task, samples),
        left_out=task.left_out(data) if task.left_out else {},
        columns={column: _crossed(task, samples, read(data)) for column, read in task.columns.items()},
    )
    return found, samples


def note_verified(found: Status, cache: Path) -> None:
    """Note today as the day on which these samples were verified and found whole, or partial and sound."""
    note = _note(found, cache)
    note.parent.mkdir(parents=True, exist_ok=True)
    note.write_text(f"{datetime.now(UTC).date().isoformat()}\n", encoding="utf-8")


def verified_on(found: Status, cache: Path) -> str:
    """The day (year-month-day, UTC) on which these very samples were last verified; "" if they never were."""
    note = _note(found, cache)
    return note.read_text(encoding="utf-8").strip() if note.is_file() else ""


def _note(found: Status, cache: Path) -> Path:
    return cache / "verified" / f"{found.task.modality}-{found.task.name}-{found.data}"


def _judged(task: Task, samples: list[Sample], counts: tuple[Count, ...]) -> tuple[State, str]:
    over = [c for c in counts if c.expected is not None and c.found > c.expected]
    card = "when it was described" if task.root else "on the card"
    remedy = "remove them, or describe it anew" if task.root else "remove what the dataset's authors did not put there"
    if over:
        cell = " ".join(filter(None, (over[0].split, over[0].name)))
        return "broken", f"{over[0].found:,} images of {cell}, {over[0].expected:,} {card}; {remedy}"
    if task.expected and len(samples) > task.expected:
        return "broken", f"{len(samples):,} images, {task.expected:,} {card}; {remedy}"
    short = any(c.expected is not None and c.found < c.expected for c in counts)
    state: State = "partial" if short or len(samples) < (task.expected or 0) else "found"
    try:
        splits.assignments(task, samples)
    except DataError as error:
        return ("partial" if state == "partial" else "broken"), str(error)
    return state, ""


def _counts(task: Task, samples: list[Sample]) -> tuple[Count, ...]:
    """Found beside expected, for every class of each split that the card or the samples have."""
    found = Counter((sample.split, task.classes[sample.label]) for sample in samples)
    there = {split for split, _ in found}
    parts = dict.fromkeys([*task.counts, *(part for part in (*splits.PARTS, "") if part in there)])
    return tuple(
        Count(part, name, _stated(task, part, name), found[part, name]) for part in parts for name in task.classes
    )


def _crossed(task: Task, samples: list[Sample], told: Mapping[str, str]) -> dict[str, Counter[str]]:
    """Class -> what is told of its samples -> images."""
    found: dict[str, Counter[str]] = {name: Counter() for name in task.classes}
    for sample in samples:
        found[task.classes[sample.label]][told.get(sample.id, "")] += 1
    return found


def _stated(task: Task, part: str, name: str) -> int | None:
    """Images of a class in a part by the card; none where it states other parts; None where it does not say."""
    if task.counts.get(part):
        return task.counts[part].get(name, 0)
    return 0 if task.counts and part not in task.counts else None


def locate(task: Task, data: Path, samples: list[Sample]) -> dict[str, Path]:
    """Sample id -> the file that holds it, where that is found; the images of a container share one."""
    tops: dict[str, Path | None] = {}
    places: dict[str, Path | None] = {}
    for sample in samples:
        name = _file(sample.id)
        top = name.partition("/")[0]
        if top not in tops:
            tops[top] = task.root or _parent(data, name)
        if name not in places:
            path = tops[top] / name if tops[top] else None
            places[name] = path if path and folders.is_file(path) else None
    return {sample.id: path for sample in samples if (path := places[_file(sample.id)])}


def _file(name: str) -> str:
    """The file of a sample id: `<file>#<index>` in a container, else the id itself."""
    file, _, index = name.rpartition("#")
    return file if file and "." not in index else name


def _parent(data: Path, name: str) -> Path | None:
    """The folder from which on a file of a dataset has that name, looked for where `layout.find_top` looks."""
    top = name.partition("/")[0]
    if data.name == top:
        return data.parent
    places = (place for level in layout.nearby_folders(data) for folder in level for place in (folder / top, folder))
    return next((place for place in places if folders.is_file(place / name)), None)


def _looks(task: Task, data: Path, samples: list[Sample], workers: int) -> Iterator[Look | str]:
    """How each sample looks, or why it is unreadable. A container's images are read one after the other, since its
    reader may keep it open; an image is forgotten as soon as it was looked at.
    """
    from tqdm import tqdm

    places = locate(task, data, samples)
    threads = 1 if any(_file(sample.id) != sample.id for sample in samples) else max(workers, 1)
    chunks = [samples[i : i + CHUNK] for i in range(0, len(samples), CHUNK)]
    with (
        ThreadPoolExecutor(threads) as pool,
        tqdm(total=len(samples), desc=task.name, unit=" images", mininterval=0.5, leave=False) as bar,
    ):
        try:
            for looks in pool.map(partial(_look_at, task, data, places), chunks):
                bar.update(len(looks))
                yield from looks
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _look_at(task: Task, data: Path, places: Mapping[str, Path], samples: list[Sample]) -> list[Look | str]:
    return [_look(task, data, places.get(sample.id), sample) for sample in samples]


def _look(task: Task, data: Path, path: Path | None, sample: Sample) -> Look | str:
    try:
        image = task.read(data, sample, PIXELS)
        height, width, _ = image.shape
        return Look(width, height, _mode(path), bool(np.ptp(image, axis=(0, 1)).max() <= FLAT))
    except DataError as error:
        return str(error)
    except Exception as error:  # whatever a damaged file makes a reader's library raise
        return f"{folders.printable(path or sample.id)}: unreadable ({type(error).__name__}: {error})"


def _mode(path: Path | None) -> str:
    if path is None:
        return "not a file"
    if path.suffix.lower() not in folders.IMAGE_SUFFIXES:
        return f"in {path.suffix.lower() or 'a file'}"
    with Image.open(path) as file:
        return file.mode


def _spread(values: list[int]) -> tuple[int, float, int] | None:
    return (min(values), statistics.median(values), max(values)) if values else None


def _contradictions(samples: list[Sample]) -> tuple[Contradiction, ...]:
    same: dict[str, list[Sample]] = defaultdict(list)
    for sample in sorted(samples):
        same[sample.digest].append(sample)
    return tuple(
        Contradiction(tuple(sample.id for sample in copies), len({sample.group for sample in copies}) == 1)
        for copies in same.values()
        if len({sample.label for sample in copies}) > 1
    )


def _checksums(task: Task, data: Path) -> tuple[Checksum, ...]:
    """The card's checksums, each with those of every file of that name under data."""
    fetched = {download.name: download.checksum for download in task.access.downloads if download.checksum}
    known = fetched | dict(task.access.checksums)
    named: dict[str, list[Path]] = defaultdict(list)
    for path in folders.list_files(data).files if known else ():
        named[path.name].append(path)
    return tuple(_compared(file, expected, named[Path(file).name]) for file, expected in known.items())


def _compared(file: str, expected: str, paths: list[Path]) -> Checksum:
    found = tuple(_hash(path, expected) for path in paths)
    unlike = [
        path for path, checksum in zip(paths, found, strict=True) if checksum != expected and folders.is_readable(path)
    ]
    return Checksum(file, expected, found, any(checksums.is_same_text(path, expected) for path in unlike))


def _hash(path: Path, like: str) -> str:
    """The file's checksum, made and written as `like` is, or why it cannot be read."""
    try:
        return checksums.checksum(path, like.partition(":")[0])
    except OSError as error:
        return f"cannot be read ({error.strerror})"
