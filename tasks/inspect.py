"""What of a dataset is on this machine, and whether it is whole: found, partial, missing or broken.

`status` scans; `verify` also compares checksums and decodes every image. Both return values and print nothing.
`remember` notes in the cache that these very images were verified, so that a later `status` can say so.
"""

from __future__ import annotations

import glob
import hashlib
import os
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

from PIL import Image

from tasks import added, splits
from tasks.base import DataError, NoData, Sample, Task, identity
from tasks.files import IMAGE_SUFFIXES

CHUNK = 64  # images handed to a thread at a time
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

    @property
    def wrong(self) -> bool:
        return bool(self.found) and self.expected not in self.found


class Contradiction(NamedTuple):
    """Byte-identical images with different labels."""

    ids: tuple[str, ...]
    together: bool  # in one group: the dataset's reader knows them, and no split divides them


class Look(NamedTuple):
    """A decoded image: width and height in pixels, and how its file stores them (Pillow's mode, or the suffix)."""

    width: int
    height: int
    mode: str


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


@dataclass(frozen=True, kw_only=True)
class Verified:
    status: Status
    checksums: tuple[Checksum, ...] = ()
    unreadable: Mapping[str, str] | None = None  # sample id -> why; None where nothing was decoded
    contradictions: tuple[Contradiction, ...] = ()
    widths: tuple[int, float, int] | None = None  # smallest, median, largest, pixels
    heights: tuple[int, float, int] | None = None
    modes: Mapping[str, int] | None = None  # how files store the pixels -> images
    left_out: Mapping[str, list[str]] | None = None  # reason -> files that are no part of the task

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
    for sample, look in zip(samples, _looks(task, data, samples, workers), strict=True):
        if isinstance(look, Look):
            looks.append(look)
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
        left_out=task.left_out(data) if task.left_out else None,
    )


def _scanned(task: Task, data: Path) -> tuple[Status, list[Sample]]:
    try:
        samples = task.scan(data)
    except NoData as error:
        return Status(task=task, state="missing", reason=str(error)), []
    except (DataError, OSError) as error:
        return Status(task=task, state="broken", reason=str(error)), []
    counts = _counts(task, samples)
    state, reason = _judged(task, samples, counts)
    places = set(located(task, data, samples).values())
    found = Status(
        task=task,
        state=state,
        reason=reason,
        counts=counts,
        images=len(samples),
        groups=len({sample.group for sample in samples}),
        bytes=sum(path.stat().st_size for path in places) if places else None,
        data=identity(task, samples),
    )
    return found, samples


def remember(found: Status, cache: Path) -> None:
    """Note today as the day on which these samples were verified and found whole, or partial and sound."""
    note = _note(found, cache)
    note.parent.mkdir(parents=True, exist_ok=True)
    note.write_text(f"{datetime.now(UTC).date().isoformat()}\n", encoding="utf-8")


def verified(found: Status, cache: Path) -> str:
    """The day (year-month-day, UTC) on which these very samples were last verified; "" if they never were."""
    note = _note(found, cache)
    return note.read_text(encoding="utf-8").strip() if note.is_file() else ""


def _note(found: Status, cache: Path) -> Path:
    return cache / "verified" / f"{found.task.modality}-{found.task.name}-{found.data}"


def _judged(task: Task, samples: list[Sample], counts: tuple[Count, ...]) -> tuple[State, str]:
    over = [c for c in counts if c.expected is not None and c.found > c.expected]
    if over:
        cell = " ".join(filter(None, (over[0].split, over[0].name)))
        return "broken", (
            f"{over[0].found:,} images of {cell}, {over[0].expected:,} on the card; "
            "remove what the dataset's authors did not put there"
        )
    if task.expected and len(samples) > task.expected:
        return "broken", (
            f"{len(samples):,} images, {task.expected:,} on the card; remove what the authors did not put there"
        )
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


def _stated(task: Task, part: str, name: str) -> int | None:
    """Images of a class in a part by the card; none where it states other parts; None where it does not say."""
    if task.counts.get(part):
        return task.counts[part].get(name, 0)
    return 0 if task.counts and part not in task.counts else None


def located(task: Task, data: Path, samples: list[Sample]) -> dict[str, Path]:
    """Sample id -> the file that holds it, where that is found; the images of a container share one."""
    tops: dict[str, Path | None] = {}
    files: dict[str, Path | None] = {}
    for sample in samples:
        name = _file(sample.id)
        top = name.partition("/")[0]
        if top not in tops:
            tops[top] = added.home(task) or _parent(data, top)
        if name not in files:
            path = tops[top] / name if tops[top] else None
            files[name] = path if path and path.is_file() else None
    return {sample.id: path for sample in samples if (path := files[_file(sample.id)])}


def _file(name: str) -> str:
    """The file of a sample id: `<file>#<index>` in a container, else the id itself."""
    file, _, index = name.rpartition("#")
    return file if file and "." not in index else name


def _parent(data: Path, top: str) -> Path | None:
    """The folder that holds `top`, looked for where `files.anchor` looks."""
    if data.name == top:
        return data.parent
    found = (path for depth in ("", "*/", "*/*/") for path in data.glob(depth + glob.escape(top)))
    first = next(found, None)
    return first.parent if first else None


def _looks(task: Task, data: Path, samples: list[Sample], workers: int) -> Iterator[Look | str]:
    """How each sample looks, or why it is unreadable. A container's images are read one after the other, since its
    reader may keep it open; an image is forgotten as soon as it was looked at.
    """
    from tqdm import tqdm

    places = located(task, data, samples)
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
        height, width, _ = task.read(data, sample, PIXELS).shape
        return Look(width, height, _mode(path))
    except DataError as error:
        return str(error)
    except Exception as error:  # whatever a damaged file makes a reader's library raise
        return f"{path or sample.id}: unreadable ({type(error).__name__}: {error})"


def _mode(path: Path | None) -> str:
    if path is None:
        return "not a file"
    if path.suffix.lower() not in IMAGE_SUFFIXES:
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
    for folder, _, names in os.walk(data) if known else ():
        for name in {Path(file).name for file in known} & set(names):
            named[name].append(Path(folder) / name)
    return tuple(
        Checksum(file, expected, tuple(_hash(path, expected) for path in sorted(named[Path(file).name])))
        for file, expected in known.items()
    )


def _hash(path: Path, like: str) -> str:
    """The file's checksum, made and written as `like` is."""
    algorithm = like.partition(":")[0]
    with path.open("rb") as file:
        return f"{algorithm}:{hashlib.file_digest(file, algorithm).hexdigest()}"
