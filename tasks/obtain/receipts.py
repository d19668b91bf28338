"""Receipts: what a dataset's archives held, so that the owners' files can be told from reduced, altered or other ones.

In the folder that archive NAME was unpacked into lies `.NAME.done`, JSON: the archive's checksum, and the bytes and
SHA-256 of each file in it by its path from that folder on; hidden files are left out. `tasks.obtain.fetch` writes it.
"""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import NamedTuple

from tasks import inspect
from tasks.base import DataError, Download, Sample, Task, digest
from tasks.reading import checksums, folders, layout

Held = dict[str, tuple[int, str]]  # path in an archive -> bytes, SHA-256 (hex); hidden files are left out


class Receipt(NamedTuple):
    folder: Path  # that the archive was unpacked into
    archive: str  # its name
    checksum: str  # as cards write it: the archive's, or that of the one file in it
    files: Held


def place(folder: Path, archive: str) -> Path:
    return folder / f".{archive}.done"


def write(receipt: Receipt) -> None:
    path = place(receipt.folder, receipt.archive)
    try:
        path.write_text(json.dumps({"checksum": receipt.checksum, "files": receipt.files}), encoding="utf-8")
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror}); make its folder writable") from error


def read(folder: Path, archive: str) -> Receipt | None:
    """The receipt that lies in a folder; None where there is none, or one without files, as earlier versions wrote."""
    try:
        told = json.loads(place(folder, archive).read_text(encoding="utf-8"))
        held = {name: (int(size), str(sha)) for name, (size, sha) in told["files"].items()}
        return Receipt(folder, archive, str(told["checksum"]), held)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def find(task: Task, download: Download, data: Path) -> Receipt | None:
    """The receipt of one of the task's archives, looked for where datasets are: a right one, if any is."""
    there = [read(folder, download.name) for level in layout.nearby_folders(data) for folder in level]
    found = sorted(filter(None, there), key=lambda receipt: not is_right(receipt, task, download))
    return found[0] if found else None


def is_right(receipt: Receipt, task: Task, download: Download) -> bool:
    """Whether it is of a checksum on the card: the archive's or, of a lone compressed file, that of the file itself."""
    lone = task.access.checksums.get(download.name.removesuffix(".gz"))
    return receipt.checksum in filter(None, (download.checksum, lone))


def check(task: Task, data: Path, samples: list[Sample], cache: Path) -> None:
    """Raises DataError, naming files, unless all that the task's downloads brought is as published, and each of its
    samples is of them."""
    try:
        brought = attested_files(task, data, cache)
    except DataError as error:
        partial = len(samples) < (task.expected or 0)
        count = f"partial, {len(samples):,} of {task.expected:,} images; " if partial else ""
        raise DataError(f"{count}{error}") from error
    places = inspect.locate(task, data, samples)
    strange = [sample.id for sample in samples if places.get(sample.id) not in brought]
    if strange:
        names = ", ".join(download.name for download in task.access.downloads)
        raise DataError(f"{strange[0]} is not of {names} ({len(strange):,} such images)")


def attested_files(task: Task, data: Path, cache: Path) -> set[Path]:
    """The files that the task's downloads brought. Their bytes are read once, and again when a file's size or time of
    change is another. Raises DataError, naming files, where one is not as published or that cannot be told."""
    brought: set[Path] = set()
    faults = []
    for download in task.access.downloads:
        try:
            brought |= _unpacked(task, download, data, cache) if download.unpack else {_plain(download, data)}
        except DataError as error:
            faults.append(str(error))
    if faults:
        raise DataError("; ".join(faults))
    return brought


def find_difference(receipt: Receipt) -> str:
    """What is not as the archive held it, in words; "" for nothing."""
    found = {}
    for name, (size, _) in receipt.files.items():
        seen = _seen(receipt.folder / name)
        if seen is None or seen[0] != size:
            found[name] = f"has {seen[0]:,} bytes, {size:,} in the archive" if seen else "is gone"
    if not found:
        digests = checksums.hash_files(receipt.folder / name for name in receipt.files)
        for (name, (_, sha)), there in zip(receipt.files.items(), digests, strict=True):
            if there != sha:
                readable = folders.is_readable(receipt.folder / name)
                found[name] = f"has SHA-256 {there}, {sha} in the archive" if readable else "cannot be read"
    if not found:
        return ""
    name, what = next(iter(found.items()))
    return f"{receipt.folder / name} {what} ({len(found):,} such of {len(receipt.files):,} files of {receipt.archive})"


def remedy(task: Task) -> str:
    archives = ", ".join(download.name for download in task.access.downloads if download.unpack)
    return (
        f"move what is there, with any receipt (.NAME.done), out of DATA and run `make data TASK={task.name}`; or, "
        f"where it was unpacked by hand, put {archives} beside it and run `python -m benchmark data verify {task.name}`"
    )


def _unpacked(task: Task, download: Download, data: Path, cache: Path) -> set[Path]:
    """The files of an archive. Raises DataError where they are not as in the published one."""
    receipt = find(task, download, data)
    if receipt is None:
        raise DataError(f"no receipt of {download.name}")
    if not is_right(receipt, task, download):
        told = place(receipt.folder, receipt.archive)
        raise DataError(f"{told} is of an archive of {receipt.checksum}, published is {download.checksum}")
    if fault := _unlike(receipt, cache):
        raise DataError(fault)
    return {receipt.folder / name for name in receipt.files}


def _plain(download: Download, data: Path) -> Path:
    """The file of a download that is no archive. Raises DataError where it is missing or not the published one."""
    there = [
        path
        for level in layout.nearby_folders(data)
        for folder in level
        if folders.is_readable(path := folder / download.name)
    ]
    if not there:
        raise DataError(f"no {download.name}")
    found = checksums.checksum(there[0], download.checksum.partition(":")[0])
    if found != download.checksum and not checksums.is_same_text(there[0], download.checksum):
        raise DataError(f"{there[0]} has {found}, published is {download.checksum}")
    return there[0]


def _unlike(receipt: Receipt, cache: Path) -> str:
    """`find_difference`, and a note in the cache where that is nothing."""
    seen = [_seen(receipt.folder / name) for name in receipt.files]
    note = cache / "receipts" / digest(folders.printable(receipt.folder.resolve()), *receipt.files.items(), *seen)
    fault = "" if note.is_file() else find_difference(receipt)
    if not fault:
        note.parent.mkdir(parents=True, exist_ok=True)
        note.touch()
    return fault


def _seen(path: Path) -> tuple[int, int] | None:
    """Bytes and time of change (ns) of a file; None where there is none."""
    try:
        about = path.stat()
    except OSError:
        return None
    return (about.st_size, about.st_mtime_ns) if stat.S_ISREG(about.st_mode) else None
