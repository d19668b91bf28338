"""Work that is not whole yet lies beside its place, under a hidden name that says which process writes it, and is
renamed when it is. What a killed process left is removed by the next."""

import os
import re
import shutil
import socket
import time
import uuid
from collections.abc import Iterable
from pathlib import Path

from filelock import FileLock, Timeout

OLD = 7 * 24 * 3600.0  # seconds after which another machine's leftovers are nobody's
NAME = re.compile(r"\..*~(?P<host>.*)~(?P<process>\d+)~[0-9a-f]{8}\.part")


def beside(path: Path) -> Path:
    """Where this process may write what becomes `path`."""
    return path.with_name(f".{path.name}~{socket.gethostname()}~{os.getpid()}~{uuid.uuid4().hex[:8]}.part")


def remove_leftovers(results: Path, cache: Path) -> None:
    """Remove what processes that are gone left in the store of results and in the cache."""
    found = [*results.glob("*/*/.*.part"), *cache.glob("features/.*.part"), *cache.glob("checkpoints/*/.*.part")]
    for path in filter(_left, found):
        shutil.rmtree(path, ignore_errors=True)
    for path in filter(_left, results.glob(".compact/.*.part")):
        path.unlink(missing_ok=True)
    stored = {path.name for path in results.glob("*/runs/*")}
    trained: dict[str, list[Path]] = {}
    for path in cache.glob("checkpoints/*"):
        trained.setdefault(path.name.partition(".")[0], []).append(path)
    for run in trained.keys() & stored:
        _forget(run, trained[run], cache)


def _left(path: Path) -> bool:
    match = NAME.fullmatch(path.name)
    if match is None or match["host"] != socket.gethostname():
        return time.time() - path.stat().st_mtime > OLD
    try:
        os.kill(int(match["process"]), 0)
    except ProcessLookupError:
        return True
    except PermissionError:  # somebody else's process
        return False
    return int(match["process"]) == os.getpid()


def _forget(run: str, paths: Iterable[Path], cache: Path) -> None:
    """Remove checkpoints of a stored run, unless a process trains it for another store."""
    lock = cache / "checkpoints" / f"{run}.lock"
    try:
        with FileLock(lock, timeout=0):
            for path in paths:
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
            lock.unlink(missing_ok=True)
    except Timeout:
        pass
