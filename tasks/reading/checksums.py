"""Hashes of files: of the images that a sample is, and as cards and archives state them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tasks.base import digest

HASHING_THREADS = 8
MOST_TEXT = 2**28  # bytes of a text file that may be compared without its line ends


def hash_files(paths: Iterable[Path]) -> list[str]:
    """SHA-256 (hex) of each file's bytes; of its path, where it cannot be read: reading it will say so."""
    with ThreadPoolExecutor(HASHING_THREADS) as pool:
        return list(pool.map(_hash, paths))


def _hash(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return digest("unreadable", path.as_posix())


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
