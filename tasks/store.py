"""Native files -> verified, decoded once, brought to a square -> an Arrow file (Hugging Face datasets), by content.

A store is a folder `<cache>/<address>` of `images.arrow` (columns `id` and `pixels` in a single record batch, so that
all pixels are one run of bytes) and `store.json`. It is made in `.<address>.building`, where a build that was killed
goes on, and renamed: whole or absent.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from itertools import pairwise
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from pathlib import Path
from queue import SimpleQueue
from typing import NamedTuple

import numpy as np

from tasks import host
from tasks.base import DataError, ProcessError, Sample, Source, digest
from tasks.reading import squares

FORMAT = 1  # of the folder: bump when a reader of older stores would go wrong
IMAGES, ABOUT = "images.arrow", "store.json"
RAW, JOURNAL = "pixels", "journal.jsonl"  # of a build under way: the pixels so far, and one line for each image so far
PARALLEL_FROM = 200  # images; below, starting processes takes longer than decoding
CHUNK = 32  # images handed to a process at a time
ABANDONED = 7 * 86_400.0  # seconds without a write after which what a killed build left is removed
SPARE = 1 << 20  # bytes kept free beyond the pixels: ids, metadata


class Store(NamedTuple):
    """Decoded images, sorted by id. `pixels` is a read-only view of a memory-mapped file: opening reads none of it."""

    address: str
    ids: tuple[str, ...]
    pixels: np.ndarray  # uint8 (len(ids), pixels, pixels, 3)
    skipped: tuple[str, ...]  # ids of unreadable images that were left out


def address(source: Source, samples: list[Sample], pixels: int) -> str:
    """Content address (12 hex digits): sources that share an image family and its images share a store."""
    listed = sorted((sample.id, sample.digest) for sample in samples)
    policy = squares.describe_policy(source.policy)
    return digest(FORMAT, source.images, policy, pixels, *(value for file in listed for value in file))[:12]


def build(
    source: Source,
    data: Path,
    samples: list[Sample],
    pixels: int,
    cache: Path,
    *,
    workers: int | None = None,
    skip_unreadable: bool = False,
) -> Store:
    """The source's store at that size, decoded first if it is not there. Raises DataError for unreadable images.

    A second process that wants the same store waits for the first and finds it done. Raises ProcessError where a
    decoding process died, or the calling script lacks `if __name__ == "__main__":`.
    """
    from filelock import FileLock

    ordered = sorted(samples, key=lambda sample: sample.id)
    folder = cache / address(source, ordered, pixels)
    if not folder.exists():
        host.require_main_guard()
        building = cache / f".{folder.name}.building"
        _prepare(source, ordered, pixels, building)
        with FileLock(cache / f".{folder.name}.lock"):
            if not folder.exists():
                _write(source, data, ordered, pixels, building, workers or processors(), skip_unreadable)
                building.rename(folder)
        (cache / f".{folder.name}.lock").unlink(missing_ok=True)
    store, unreadable = _open(folder)
    if unreadable and not skip_unreadable:
        raise _refusal(source, unreadable, f" (as noted in {folder}; delete it to try them again)")
    return store


def _open(folder: Path) -> tuple[Store, dict[str, str]]:
    from datasets import Dataset

    try:
        about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
        size = (folder / IMAGES).stat().st_size
        if (about["format"], about["bytes"]) != (FORMAT, size):
            raise ValueError(f"format {about['format']} of {about['bytes']} bytes expected, {FORMAT} of {size} found")
        table = Dataset.from_file(str(folder / IMAGES)).data
        ids, column = table.column("id").to_pylist(), table.column("pixels").chunk(0)
        if len(ids) != about["rows"] or len(column) != about["rows"]:
            raise ValueError(f"{about['rows']} rows expected, {len(ids)} ids and {len(column)} images found")
        shape = (about["rows"], about["pixels"], about["pixels"], 3)
        view = np.frombuffer(column.buffers()[2], np.uint8, count=int(np.prod(shape))).reshape(shape)
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise DataError(
            f"{folder}: not a whole store ({type(error).__name__}: {error}); delete this folder and run again"
        ) from error
    return Store(folder.name, tuple(ids), view, tuple(about["skipped"])), about["skipped"]


def _write(
    source: Source,
    data: Path,
    ordered: list[Sample],
    pixels: int,
    building: Path,
    workers: int,
    skip_unreadable: bool,
) -> None:
    """Fill the folder of a build, going on after the images that an earlier, killed one has journalled."""
    building.mkdir(exist_ok=True)
    raw, journal = building / RAW, building / JOURNAL
    seen = _journalled(raw, journal, ordered, pixels * pixels * 3)
    rest = ordered[len(seen) :]
    with raw.open("ab") as pictures, journal.open("a", encoding="utf-8") as lines:
        for chunk, images in _decoded(source, data, rest, pixels, workers, done=len(seen)):
            outcomes = [None if isinstance(image, bytes) else image for image in images]
            pictures.write(b"".join(image for image in images if isinstance(image, bytes)))
            pictures.flush()  # before the lines that vouch for it
            lines.writelines(json.dumps([s.id, o]) + "\n" for s, o in zip(chunk, outcomes, strict=True))
            lines.flush()
            seen += zip((sample.id for sample in chunk), outcomes, strict=True)
    kept = [name for name, error in seen if error is None]
    unreadable = {name: error for name, error in seen if error is not None}
    if unreadable and not (skip_unreadable and kept):
        shutil.rmtree(building)
        raise _refusal(source, unreadable)
    _arrow(building / IMAGES, kept, raw)
    about = {
        "format": FORMAT,
        "images": source.images,
        "policy": squares.describe_policy(source.policy),
        "pixels": pixels,
        "rows": len(kept),
        "bytes": (building / IMAGES).stat().st_size,
        "skipped": unreadable,
    }
    (building / ABOUT).write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    raw.unlink()
    journal.unlink()


def _journalled(raw: Path, journal: Path, ordered: list[Sample], size: int) -> list[tuple[str, str | None]]:
    """(id, error or None) of the images a killed build has finished; what is not vouched for is cut off both files."""
    seen: list[tuple[str, str | None]] = []
    lines = journal.read_bytes().splitlines(keepends=True) if journal.exists() and raw.exists() else []
    available = raw.stat().st_size if lines else 0
    written = length = 0  # bytes of both files that are vouched for
    for line, sample in zip(lines, ordered, strict=False):
        try:
            name, error = json.loads(line)
        except ValueError:
            break
        needed = written + size * (error is None)
        if name != sample.id or not line.endswith(b"\n") or needed > available:
            break
        seen.append((name, error))
        written, length = needed, length + len(line)
    for path, wanted in ((raw, written), (journal, length)):
        with path.open("ab") as file:
            file.truncate(wanted)
    return seen


def _prepare(source: Source, ordered: list[Sample], pixels: int, building: Path) -> None:
    """Refuse what cannot succeed before hours are spent on it: no samples, doubled ids, a full disk."""
    if not ordered:
        raise DataError(f"{source.modality}/{source.name}: no samples to store")
    for one, following in pairwise(ordered):
        if one.id == following.id:
            raise DataError(f"{source.modality}/{source.name}: two samples are called {one.id!r}; ids must be unique")
    cache = building.parent
    cache.mkdir(parents=True, exist_ok=True)
    for stale in cache.glob(".*.building"):
        written = max((path.stat().st_mtime for path in [stale, *stale.iterdir()]), default=0.0)
        if stale != building and time.time() - written > ABANDONED:
            shutil.rmtree(stale, ignore_errors=True)
            stale.with_suffix(".lock").unlink(missing_ok=True)
    needed = 2 * len(ordered) * pixels * pixels * 3 + SPARE  # the pixels as decoded, and once more in the Arrow file
    free = shutil.disk_usage(cache).free
    if free < needed:
        raise DataError(
            f"{cache}: {needed:,} bytes needed to store {len(ordered):,} images at {pixels} pixels, "
            f"{free:,} bytes free; free some space or choose another cache folder"
        )


def _arrow(path: Path, ids: list[str], raw: Path) -> None:
    import pyarrow as pa
    from datasets import Features, Value

    schema = Features({"id": Value("string"), "pixels": Value("large_binary")}).arrow_schema
    with pa.memory_map(str(raw)) as source:
        length = source.size() // len(ids)
        offsets = pa.py_buffer(np.arange(len(ids) + 1, dtype=np.int64) * length)
        pixels = pa.Array.from_buffers(pa.large_binary(), len(ids), [None, offsets, source.read_buffer()])
        batch = pa.record_batch([pa.array(ids, pa.string()), pixels], schema=schema)
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, schema) as writer:
            writer.write_batch(batch)


Decoded = tuple[list[Sample], list[bytes | str]]  # a chunk of samples, and each one's pixels or why it is unreadable


def _decoded(
    source: Source, data: Path, ordered: list[Sample], pixels: int, workers: int, done: int
) -> Iterator[Decoded]:
    """Chunks in order, with a progress bar on stderr that starts from `done`."""
    from tqdm import tqdm

    chunks = [ordered[i : i + CHUNK] for i in range(0, len(ordered), CHUNK)]
    work = partial(_read_chunk, source.read, source.policy, data, pixels)
    parallel = workers > 1 and len(ordered) >= PARALLEL_FROM
    results = _pooled(work, chunks, workers) if parallel else map(work, chunks)
    title = f"{source.name} at {pixels} px"
    with tqdm(total=done + len(ordered), initial=done, desc=title, unit=" images", mininterval=0.5) as bar:
        for chunk, images in zip(chunks, results, strict=True):
            bar.update(len(images))
            yield chunk, images


def _pooled(work: partial, chunks: list[list[Sample]], workers: int) -> Iterator[list[bytes | str]]:
    """Processes are spawned, never forked from one that may hold threads. Each has a pipe of its own, whose other end
    nothing else holds: a process that dies in the middle of a message ends it, and nobody waits for the rest. A process
    whose parent is gone sees the same."""
    context = multiprocessing.get_context("spawn")
    lanes: SimpleQueue[Connection] = SimpleQueue()
    ends: list[Connection] = []
    pool = ThreadPoolExecutor(min(workers, len(chunks)))  # a thread for each process

    def ask(chunk: list[Sample]) -> list[bytes | str]:
        lane = lanes.get()
        try:
            lane.send(chunk)
            answer = lane.recv()
        except (EOFError, OSError) as error:
            raise ProcessError(
                "a decoding process died: out of memory; run again with fewer workers (1 decodes in this process)"
            ) from error
        finally:
            lanes.put(lane)
        if isinstance(answer, Exception):
            raise answer
        return answer

    try:
        with _deaf():
            for _ in range(min(workers, len(chunks))):
                here, there = context.Pipe()
                context.Process(target=_serve, args=(there, work)).start()
                there.close()
                ends.append(here)
        for here in ends:
            _await_start(here)
            lanes.put(here)
        yield from pool.map(ask, chunks)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)  # after the chunk that each is decoding
        for end in ends:
            end.close()


@contextmanager
def _deaf() -> Iterator[None]:
    """Processes started in this block never hear that all should stop, from their first instruction on: they end with
    their chunk. This one hears it, at the latest after the block."""
    resource_tracker.ensure_running()  # or the first start would, and undo the block
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGUSR1})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _await_start(lane: Connection) -> None:
    try:
        lane.recv()
    except (EOFError, OSError) as error:
        raise ProcessError(
            f"a decoding process died as it started, and its error stands above; most often: {host.unguarded()}"
        ) from error


def _serve(lane: Connection, work: partial) -> None:
    with suppress(EOFError, ConnectionError):  # the parent is gone or has enough
        lane.send("started")
        while True:
            chunk = lane.recv()
            try:
                answer = work(chunk)
            except Exception as error:
                answer = error
            lane.send(answer)


def _read_chunk(read: Callable, policy: str, data: Path, pixels: int, chunk: list[Sample]) -> list[bytes | str]:
    return [_read(read, policy, data, pixels, sample) for sample in chunk]


def _read(read: Callable, policy: str, data: Path, pixels: int, sample: Sample) -> bytes | str:
    try:
        image = read(data, sample, pixels)
    except DataError as error:
        return str(error)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise TypeError(f"read gave {image.dtype} {image.shape} for {sample.id!r}; uint8 (height, width, 3) is wanted")
    return squares.to_square(image, pixels, policy).tobytes()


def processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _refusal(source: Source, unreadable: dict[str, str], noted: str = "") -> DataError:
    reasons = "\n  ".join(list(unreadable.values())[:10])
    more = f"\n  and {len(unreadable) - 10} more" if len(unreadable) > 10 else ""
    return DataError(
        f"{source.modality}/{source.name}: {len(unreadable)} unreadable images; fetch them again, "
        f"or leave them out with `--skip-unreadable`{noted}:\n  {reasons}{more}"
    )
