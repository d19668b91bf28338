"""Native files -> verified, decoded once -> an Arrow file (Hugging Face datasets), addressed by content.

A store is a folder `<cache>/<address>` of `images.arrow` (columns `id` and `pixels` in a single record batch, so that
all pixels are one run of bytes) and `store.json`. It is written under a temporary name and renamed: whole or absent.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np

import tasks
from tasks.base import DataError, Sample, Task, digest

FORMAT = 1  # of the folder: bump when a reader of older stores would go wrong
IMAGES, ABOUT = "images.arrow", "store.json"
PARALLEL_FROM = 200  # images; below, starting processes takes longer than decoding
CHUNK = 32  # images handed to a process at a time
ABANDONED = 86_400.0  # seconds without a write after which a killed build's temporary folder is removed
SPARE = 1 << 20  # bytes kept free beyond the pixels: ids, metadata


class Store(NamedTuple):
    """Decoded images, sorted by id. `pixels` is a read-only view of a memory-mapped file: opening reads none of it."""

    address: str
    ids: tuple[str, ...]
    pixels: np.ndarray  # uint8 (len(ids), pixels, pixels, 3)
    skipped: tuple[str, ...]  # ids of unreadable images that were left out


def address(task: Task, samples: list[Sample], pixels: int) -> str:
    """Content address (12 hex digits): tasks that share an image family and its images share a store."""
    files = sorted((sample.id, sample.digest) for sample in samples)
    return digest(FORMAT, task.images, task.policy, pixels, *(value for file in files for value in file))[:12]


def build(
    task: Task,
    data: Path,
    samples: list[Sample],
    pixels: int,
    cache: Path,
    *,
    workers: int | None = None,
    skip_unreadable: bool = False,
) -> Store:
    """The task's store at that size, decoded first if it is not there. Raises DataError for unreadable images."""
    ordered = sorted(samples, key=lambda sample: sample.id)
    folder = cache / address(task, ordered, pixels)
    if not folder.exists():
        _write(task, data, ordered, pixels, folder, workers or _processors(), skip_unreadable)
    store, unreadable = _open(folder)
    if unreadable and not skip_unreadable:
        raise _refusal(task, unreadable, f" (as noted in {folder}; delete it to try them again)")
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
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise DataError(
            f"{folder}: not a whole store ({type(error).__name__}: {error}); delete this folder and run again"
        ) from error
    return Store(folder.name, tuple(ids), view, tuple(about["skipped"])), about["skipped"]


def _write(
    task: Task, data: Path, ordered: list[Sample], pixels: int, folder: Path, workers: int, skip_unreadable: bool
) -> None:
    _prepare(task, ordered, pixels, folder)
    kept: list[str] = []
    unreadable: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent, ignore_cleanup_errors=True) as name:
        raw, whole = Path(name) / "pixels", Path(name) / "store"
        with raw.open("wb") as file:
            for sample, image in zip(ordered, _decoded(task, data, ordered, pixels, workers), strict=True):
                if isinstance(image, bytes):
                    file.write(image)
                    kept.append(sample.id)
                else:
                    unreadable[sample.id] = image
        if unreadable and not (skip_unreadable and kept):
            raise _refusal(task, unreadable)
        whole.mkdir()
        _arrow(whole / IMAGES, kept, raw)
        about = {
            "format": FORMAT,
            "images": task.images,
            "policy": task.policy,
            "pixels": pixels,
            "rows": len(kept),
            "bytes": (whole / IMAGES).stat().st_size,
            "skipped": unreadable,
        }
        (whole / ABOUT).write_text(json.dumps(about, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        try:
            whole.rename(folder)
        except OSError:
            if not folder.exists():  # else another process was first, with the same content
                raise


def _prepare(task: Task, ordered: list[Sample], pixels: int, folder: Path) -> None:
    """Refuse what cannot succeed before hours are spent on it: no samples, doubled ids, a full disk."""
    if not ordered:
        raise DataError(f"{task.modality}/{task.name}: no samples to store")
    for one, following in pairwise(ordered):
        if one.id == following.id:
            raise DataError(f"{task.modality}/{task.name}: two samples are called {one.id!r}; ids must be unique")
    folder.parent.mkdir(parents=True, exist_ok=True)
    for stale in folder.parent.glob(f".{folder.name}-*"):
        written = max((path.stat().st_mtime for path in [stale, *stale.iterdir()]), default=0.0)
        if time.time() - written > ABANDONED:
            shutil.rmtree(stale, ignore_errors=True)
    needed = 2 * len(ordered) * pixels * pixels * 3 + SPARE  # the pixels as decoded, and once more in the Arrow file
    free = shutil.disk_usage(folder.parent).free
    if free < needed:
        raise DataError(
            f"{folder.parent}: {needed:,} bytes needed to store {len(ordered):,} images at {pixels} pixels, "
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


def _decoded(task: Task, data: Path, ordered: list[Sample], pixels: int, workers: int) -> Iterator[bytes | str]:
    """Each sample's pixels, or why it is unreadable, in order; with a progress bar on stderr."""
    from tqdm import tqdm

    chunks = [ordered[i : i + CHUNK] for i in range(0, len(ordered), CHUNK)]
    parallel = workers > 1 and len(ordered) >= PARALLEL_FROM and _registered(task)
    results = _pooled(task, data, chunks, pixels, workers) if parallel else _serial(task, data, chunks, pixels)
    with tqdm(total=len(ordered), desc=f"{task.name} at {pixels} px", unit=" images", mininterval=0.5) as bar:
        for images in results:
            bar.update(len(images))
            yield from images


def _serial(task: Task, data: Path, chunks: list[list[Sample]], pixels: int) -> Iterator[list[bytes | str]]:
    for chunk in chunks:
        yield [_read(task, data, pixels, sample) for sample in chunk]


def _pooled(
    task: Task, data: Path, chunks: list[list[Sample]], pixels: int, workers: int
) -> Iterator[list[bytes | str]]:
    """Processes are spawned, never forked from one that may hold threads; they find the task through the registry."""
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(min(workers, len(chunks)), mp_context=context, initializer=_end_with_parent)
    try:
        with _deaf():  # the processes stay so: on Ctrl-C this one cancels what waits, and they end with their chunk
            results = pool.map(partial(_read_chunk, task.modality, task.name, data, pixels), chunks)
        yield from results
    except BrokenProcessPool as error:
        raise RuntimeError(
            "a decoding process died: out of memory, or the calling script lacks `if __name__ == '__main__'`; "
            "run again with fewer workers (1 decodes in this process)"
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def _deaf() -> Iterator[None]:
    """Ctrl-C is ignored in this block, and for good by processes started in it, from their first instruction on."""
    if threading.current_thread() is not threading.main_thread():  # only the main thread may, and need, change this
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _end_with_parent() -> None:
    """End this process when the one that started it is gone, even if it was killed: nothing else would tell it."""

    def watch() -> None:
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _read_chunk(modality: str, name: str, data: Path, pixels: int, chunk: list[Sample]) -> list[bytes | str]:
    task = tasks.get(modality, name)
    return [_read(task, data, pixels, sample) for sample in chunk]


def _read(task: Task, data: Path, pixels: int, sample: Sample) -> bytes | str:
    try:
        image = task.read(data, sample, pixels)
    except DataError as error:
        return str(error)
    if image.dtype != np.uint8 or image.shape != (pixels, pixels, 3):
        raise TypeError(f"{task.modality}/{task.name}: read gave {image.dtype} {image.shape} for {sample.id!r}")
    return image.tobytes()


def _registered(task: Task) -> bool:
    return (
        task.modality in tasks.modalities()
        and task.name in tasks.names(task.modality)
        and (tasks.get(task.modality, task.name) is task)
    )


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _refusal(task: Task, unreadable: dict[str, str], noted: str = "") -> DataError:
    reasons = "\n  ".join(list(unreadable.values())[:10])
    more = f"\n  and {len(unreadable) - 10} more" if len(unreadable) > 10 else ""
    return DataError(
        f"{task.modality}/{task.name}: {len(unreadable)} unreadable images; fetch them again, "
        f"or leave them out with `--skip-unreadable`{noted}:\n  {reasons}{more}"
    )
