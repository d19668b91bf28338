"""Fetching what a card's `Access.downloads` lists: resumed after a break, verified, unpacked with distrust.

Beside a file NAME may stand `.NAME.part` and `.NAME.part.json` (what came so far, and of which version it is a part),
`.NAME.unpacking` (an archive not yet wholly unpacked), `.NAME.done` (the archive was unpacked and removed: its receipt,
see `tasks.obtain.receipts`), and `NAME.sha256` where no checksum is published. So a name without the leading dot always
stands for a complete file.
"""

from __future__ import annotations

import filecmp
import gzip
import hashlib
import http.client
import json
import re
import shutil
import ssl
import stat
import tarfile
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from tqdm import tqdm

from tasks.base import DataError, Download, Task
from tasks.obtain import receipts
from tasks.obtain.receipts import Held, Receipt
from tasks.reading import checksums, folders, layout

TIMEOUT = 60  # seconds without a byte
PAUSES = (1, 4, 16)  # seconds before each further attempt of one call
BUSY = (408, 429, 502, 503, 504)  # HTTP statuses that are worth another attempt
BLOCK = 2**20  # bytes read at once
SPARE = 2**28  # bytes of the disk that are left free
ANYWAY = 2**30  # bytes that an archive may unpack to, whatever the ratio
BROKEN = (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError, ssl.SSLError)
TARS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")


def fetch(downloads: Iterable[Download], data: Path, *, say: Callable[[str], None] = print) -> list[Path]:
    """Bring each download under `data`: its file, or the folder that its archive was unpacked into.

    What is there already is not fetched again. Raises DataError where the server refuses, the connection keeps
    breaking, the file is not the expected one, the disk is too small, or an archive is not to be trusted.
    """
    return [_bring(download, data / download.into / download.name, say) for download in downloads]


def _bring(download: Download, target: Path, say: Callable[[str], None]) -> Path:
    folder = target.parent
    folder.mkdir(parents=True, exist_ok=True)
    done = receipts.read(folder, target.name)
    if download.unpack and done and download.checksum in ("", done.checksum):
        gone = [name for name in done.files if not (folder / name).exists()]
        state = f"but {gone[0]!r} is gone" if gone else "already there"
        say(f"{target}: unpacked earlier, {state}; to fetch it again, delete {receipts.place(folder, target.name)}")
        return folder
    if target.is_file():
        say(f"{target}: already there")
        checksum = _verify(download, target, target, say)
    else:
        say(f"{target}: from {download.url}")
        checksum = _verify(download, target, _download(download, target, say), say)
    if not download.unpack:
        return target
    say(f"{target}: unpacking")
    receipts.write(Receipt(folder, target.name, checksum, unpack(target, folder)))
    target.unlink()
    return folder


def _verify(download: Download, target: Path, path: Path, say: Callable[[str], None]) -> str:
    """The checksum of `path`: the target, or its partial file, which gets the target's name, or is removed if wrong."""
    stored = target.with_name(f"{target.name}.sha256")
    expected = download.checksum
    if not expected and stored.is_file():
        expected = f"sha256:{stored.read_text(encoding='utf-8')[:64]}"
    found = checksums.checksum(path, expected.partition(":")[0] or "sha256")
    if path == target and expected not in ("", found) and checksums.is_same_text(path, expected):
        say(f"{target}: as published but for its line ends")
        return found
    size = path.stat().st_size
    if found != (expected or found) or size != (download.bytes or size):
        remedy = "delete it" if path == target else "the partial file is removed"
        update = "" if download.checksum else f", or delete {stored.name} to accept a new version"
        if path != target:
            _discard(target)
        raise DataError(
            f"{target}: expected {expected or 'any file'} of {download.bytes or 'any'} bytes; found {found} of "
            f"{size} bytes; {remedy}, fetch it again; if that repeats, ask its owner ({download.url}){update}"
        )
    path.replace(target)
    _discard(target)
    if not expected:
        say(f"{target}: no checksum is published; found {found}, kept in {stored.name}")
        stored.write_text(f"{found.partition(':')[2]}  {target.name}\n", encoding="utf-8")
    return found


def _download(download: Download, target: Path, say: Callable[[str], None]) -> Path:
    """The partial file, complete but not verified. Each attempt goes on where the one before broke off."""
    for pause in (*PAUSES, None):
        try:
            return _transfer(download, target)
        except BROKEN as error:
            problem = str(error) or type(error).__name__
        if pause is not None:
            say(f"{target}: {problem}; trying again in {pause} s")
            time.sleep(pause)
    raise DataError(
        f"{download.url}: {len(PAUSES) + 1} attempts failed, the last with {problem!r}; run this again to go on from "
        f"there, or put the file from the owner's page at {target}"
    )


def _transfer(download: Download, target: Path) -> Path:
    part, notes = _beside(target, "part"), _beside(target, "part.json")
    known = _recall(notes)
    resumable = part.is_file() and known.get("url") == download.url and (download.checksum or known["version"])
    have = part.stat().st_size if resumable else 0
    if have and have == known["total"]:
        return part
    with _open(download.url, target, have, known) as response:
        if have and response.status != 200 and not _continues(response, have, known):
            _discard(target)
            return _transfer(download, target)
        if response.status == 200 or not have:
            have, size = 0, response.headers.get("Content-Length")
            known = {"url": download.url, "version": _version(response), "total": int(size) if size else download.bytes}
            _discard(target)
            _remember(notes, known)
        total = known["total"]
        if download.bytes not in (None, total):
            raise DataError(
                f"{download.url}: expected {download.bytes} bytes, the server has {total}; see on the owner's page "
                f"whether the file was replaced, and put the expected one at {target}"
            )
        _room(target.parent, (total or 0) - have)
        with part.open("ab") as file, _bar(target.name, total, have) as bar:
            while block := response.read1(BLOCK if total is None else min(BLOCK, total - have)):
                have += file.write(block)
                bar.update(len(block))
    if total not in (None, have):
        raise ConnectionError(f"the connection ended at {have} of {total} bytes")
    return part


def _open(url: str, target: Path, have: int, known: dict) -> http.client.HTTPResponse:
    """The server's answer: 200 with the whole file, 206 with what is beyond `have`, or 416 if nothing is."""
    if not re.match("https?://", url):
        raise DataError(f"{target}: expected a url with http: or https:, found {url!r}; correct the task's card")
    headers = {"User-Agent": "pretext-bench", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    if have and known["version"]:
        headers["If-Range"] = known["version"]
    try:
        response = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        response = error
    if response.status in (200, 206) or (have and response.status == 416):
        return response
    answer = f"HTTP {response.status} {response.reason}"
    response.close()
    if response.status in BUSY:
        raise ConnectionError(answer)
    raise DataError(
        f"{url}: expected the file, found {answer}; see on the owner's page whether it has moved or needs an account, "
        f"and put it at {target}"
    )


def _version(response: http.client.HTTPResponse) -> str:
    """What tells a replaced file in an If-Range header, which takes no weak ETag; "" if the server says nothing."""
    etag = response.headers.get("ETag", "W/")
    return response.headers.get("Last-Modified", "") if etag.startswith("W/") else etag


def _continues(response: http.client.HTTPResponse, have: int, known: dict) -> bool:
    span = response.headers.get("Content-Range", "")
    same = span.startswith(f"bytes {have}-") and span.endswith((f"/{known['total']}", "/*"))
    return same and _version(response) in ("", known["version"])


def attest(task: Task, data: Path) -> None:
    """Write the receipts that are missing of archives unpacked by hand: where one of the published checksum lies under
    data, or the one file in it, and all that it holds is there unaltered. Raises DataError that names what is not."""
    faults = []
    for download in task.access.downloads:
        known = receipts.find(task, download, data) if download.unpack else None
        if download.unpack and not (known and receipts.is_right(known, task, download)):
            faults += _attest(task, download, [folder for level in layout.nearby_folders(data) for folder in level])
    if faults:
        raise DataError("; ".join(faults))


def _attest(task: Task, download: Download, places: list[Path]) -> list[str]:
    """Write the receipt of one archive, if that or its one file is there; else what is not as it holds it, in words."""
    lone = download.name.removesuffix(".gz")
    published = {lone: task.access.checksums.get(lone), download.name: download.checksum}
    there = [(folder / name, checksum) for name, checksum in published.items() if checksum for folder in places]
    for source, checksum in there:
        if folders.is_readable(source) and checksums.checksum(source, checksum.partition(":")[0]) == checksum:
            held = contents(source) if source.name == download.name else _alone(source)
            return _attest_held(Receipt(source.parent, download.name, checksum, held), places)
    return []


def _attest_held(receipt: Receipt, places: list[Path]) -> list[str]:
    """Write the receipt into the one of the places that holds its files."""
    tops = {name.partition("/")[0] for name in receipt.files}
    faults = []
    for folder in places:
        if any((folder / top).exists() for top in tops):
            here = receipt._replace(folder=folder)
            if not (fault := receipts.find_difference(here)):
                receipts.write(here)
                return []
            faults.append(fault)
    return faults[:1] or [f"{receipt.archive} is there, but not unpacked"]


def _alone(path: Path) -> Held:
    return {path.name: (path.stat().st_size, *checksums.hash_files([path]))}


def contents(archive: Path) -> Held:
    """The files in an archive, read and not unpacked."""
    held = {}
    for name, source in _members(archive):
        path = _inside(archive, name)
        if source is not None and not folders.is_hidden(path, PurePosixPath()):
            with source:
                sha = hashlib.file_digest(source, "sha256").hexdigest()
                held[path.as_posix()] = source.tell(), sha
    return held


def unpack(archive: Path, folder: Path, *, most: int = 2**38, ratio: int = 200, members: int = 5_000_000) -> Held:
    """Unpack a .zip, .tar (plain, .gz, .bz2, .xz) or .gz into `folder`; returns the files that it held.

    All or nothing: it is unpacked aside and moved when complete; what stands there already stays, and must be equal.
    Raises DataError for a damaged archive; for members that are links, devices or lie outside the folder; and beyond
    `members` members, `most` bytes, `ratio` times the archive's bytes (1 GiB is always allowed), or the free disk.
    """
    hidden = _beside(folder / archive.name, "unpacking")
    aside = hidden / "not" / "complete"  # deeper than layout.find_top looks, should this process be killed
    shutil.rmtree(hidden, ignore_errors=True)
    try:
        aside.mkdir(parents=True)
        held = _extract(archive, aside, min(most, max(ANYWAY, ratio * archive.stat().st_size)), members)
        _move(archive, aside, folder)
    except DataError:
        raise
    except Exception as error:  # zipfile, tarfile, gzip, bz2 and lzma raise a dozen kinds
        problem = f"{type(error).__name__}: {error}"
        raise DataError(f"{archive}: could not be unpacked ({problem}); delete it and fetch it again") from error
    finally:
        shutil.rmtree(hidden, ignore_errors=True)
    return held


def _extract(archive: Path, aside: Path, limit: int, members: int) -> Held:
    written, held = 0, {}
    with _bar(f"unpacking {archive.name}") as bar:
        for count, (name, source) in enumerate(_members(archive), 1):
            if count > members:
                raise _untrusted(archive, f"more than {members} members")
            path = _inside(archive, name)
            (aside / path if source is None else (aside / path).parent).mkdir(parents=True, exist_ok=True)
            if source is None:
                continue
            sha = hashlib.sha256()
            with source, (aside / path).open("xb") as file:
                while block := source.read(BLOCK):
                    written += len(block)
                    if written > limit:
                        raise _untrusted(archive, f"over {limit} bytes in a file of {archive.stat().st_size}")
                    _room(aside, len(block))
                    file.write(block)
                    sha.update(block)
                    bar.update(len(block))
                if not folders.is_hidden(path, PurePosixPath()):
                    held[path.as_posix()] = file.tell(), sha.hexdigest()
    return held


def _inside(archive: Path, name: str) -> PurePosixPath:
    """A member's path. Raises DataError for one outside of the folder."""
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or re.match("[A-Za-z]:", name):
        raise _untrusted(archive, f"{name!r}, which lies outside the folder")
    return path


def _members(archive: Path) -> Iterator[tuple[str, IO[bytes] | None]]:
    """Each member's name and bytes; None for a folder's."""
    lower = archive.name.lower()
    if lower.endswith(".zip"):
        with zipfile.ZipFile(archive) as file:
            for info in file.infolist():
                kind = stat.S_IFMT(info.external_attr >> 16)
                if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                    raise _untrusted(archive, f"{info.filename!r}, a link or device")
                is_folder = kind == stat.S_IFDIR or info.filename.endswith(("/", "\\"))
                yield info.filename, None if is_folder else file.open(info)
    elif lower.endswith(TARS):
        with tarfile.open(archive) as file:
            for member in file:
                if not (member.isreg() or member.isdir()):
                    raise _untrusted(archive, f"{member.name!r}, a link or device")
                yield member.name, file.extractfile(member)
            file.fileobj.seek(file.offset)  # a damaged header ends the loop just as the end does
            if file.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                raise tarfile.ReadError(f"damaged at byte {file.offset}")
    elif lower.endswith(".gz"):
        with gzip.open(archive) as file:
            yield archive.name[:-3], file
    else:
        raise DataError(f"{archive}: expected the ending .zip, .gz, {', '.join(TARS)}; unpack it by hand")


def _untrusted(archive: Path, what: str) -> DataError:
    return DataError(f"{archive}: not unpacked, for it holds {what}; if you trust it all the same, unpack it by hand")


def _move(archive: Path, aside: Path, folder: Path) -> None:
    """Put in place what is new. Raises DataError, and moves nothing, if anything there differs."""
    pairs = [(path, folder / path.relative_to(aside)) for path in sorted(aside.rglob("*"))]
    for path, there in pairs:
        same_kind = path.is_dir() == there.is_dir()
        if there.exists() and not (same_kind and (path.is_dir() or filecmp.cmp(path, there, shallow=False))):
            raise DataError(f"{there}: differs from the one in {archive}; nothing changed; move yours away, and repeat")
    for path, there in pairs:
        if path.exists() and not there.exists():  # a folder takes its content along
            path.rename(there)


def _room(folder: Path, need: int) -> None:
    free = max(0, shutil.disk_usage(folder).free - SPARE)
    if need > free:
        raise DataError(
            f"{folder}: expected {need} bytes of room, found {free} (and {SPARE} to spare); make room there"
        )


def _bar(title: str, total: int | None = None, have: int = 0) -> tqdm:
    return tqdm(desc=title, total=total, initial=have, unit="B", unit_scale=True, disable=None)


def _beside(target: Path, kind: str) -> Path:
    return target.with_name(f".{target.name}.{kind}")


def _discard(target: Path) -> None:
    _beside(target, "part").unlink(missing_ok=True)
    _beside(target, "part.json").unlink(missing_ok=True)


def _recall(path: Path) -> dict:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}


def _remember(path: Path, values: dict) -> None:
    path.write_text(json.dumps(values), encoding="utf-8")
