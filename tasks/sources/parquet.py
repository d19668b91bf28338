"""parquet:<path>: tiles in Parquet shards, in the layout of the nanopath dataset.

What        `*.parquet` of one folder, not of folders below it (nanopath keeps copies of benchmark images in one);
            columns `path` (string), such as `<slide>/<x>_<y>_<level>.jpg`, and `jpeg` (binary), an encoded image
Group       patient, where the slide's name begins like a TCGA barcode, else the slide; the image, where `path` names
            no slide
Traps       a scan hashes every image, one row group at a time: minutes for 100 GB. Each reading process keeps an index
            of all paths in memory, about 200 bytes an image
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import numpy as np

from tasks import sources
from tasks.base import DataError, Sample
from tasks.reading import decoding, folders

KIND = "parquet"
GROUP_KIND = "patient (slide, where the name is no TCGA barcode)"
SUFFIXES = (".parquet",)
COLUMNS = {"path": ("string", "large_string"), "jpeg": ("binary", "large_binary")}
OPEN_SHARDS, OPEN_GROUPS = 256, 8  # shards kept open, row groups kept in memory


def scan(data: Path, *, location: str) -> list[Sample]:
    top = sources.top(data, location)
    return list(_scanned(top, tuple((path, read_stamp(path)) for path in list_shards(top))))


def read(data: Path, sample: Sample, pixels: int, *, location: str) -> np.ndarray:
    top = sources.top(data, location)
    place = _index(top, top.stat().st_mtime_ns).get(sample.id)
    rows = _rows(*place) if place else {}
    encoded = rows.get(sample.id, b"")
    if hashlib.sha256(encoded).hexdigest() != sample.digest:
        raise DataError(f"{place[0] if place else top}: {sample.id!r} is not as it was scanned; run again")
    return decoding.decode(place[0] / sample.id, encoded)


@lru_cache(maxsize=2)
def _scanned(top: Path, shards: tuple[tuple[Path, tuple[int, int]], ...]) -> tuple[Sample, ...]:
    from tqdm import tqdm

    if not _index(top, top.stat().st_mtime_ns):  # refuses doubled paths before the hashing
        raise DataError(f"{top}: no images in {len(shards)} files *.parquet; give the folder that holds the shards")
    samples = []
    for path, stamp in tqdm(shards, desc=f"hashing {top.name}", unit=" shards", delay=2):
        for group in range(open_shard(path, stamp).num_row_groups):
            for name, encoded in _rows(path, stamp, group).items():
                samples.append(Sample(name, -1, _group(name), hashlib.sha256(encoded).hexdigest(), "train"))
    return tuple(sorted(samples))


@lru_cache(maxsize=2)
def _index(top: Path, changed: int) -> dict[str, tuple[Path, tuple[int, int], int]]:
    """Image -> the arguments of _rows that give it."""
    index: dict[str, tuple[Path, tuple[int, int], int]] = {}
    for path in list_shards(top):
        stamp = read_stamp(path)
        for group in range(open_shard(path, stamp).num_row_groups):
            place = (path, stamp, group)
            for name in column(*place, "path"):
                if name in index:
                    raise DataError(f"{path}: {name!r} is also in {index[name][0].name}; give every row its own path")
                index[name] = place
    return index


@lru_cache(maxsize=OPEN_GROUPS)
def _rows(path: Path, stamp: tuple[int, int], group: int) -> dict[str, bytes]:
    """A row group: path -> encoded image."""
    return dict(zip(column(path, stamp, group, "path"), column(path, stamp, group, "jpeg"), strict=True))


def column(path: Path, stamp: tuple[int, int], group: int, name: str) -> list:
    with _readable(path):
        values = open_shard(path, stamp).read_row_group(group, columns=[name], use_threads=False)[name].to_pylist()
    if not all(values):
        row = next(row for row, value in enumerate(values) if not value)
        raise DataError(f"{path}: no {name} in row {row} of row group {group}; write the shard again without such rows")
    return values


@lru_cache(maxsize=OPEN_SHARDS)
def open_shard(path: Path, stamp: tuple[int, int]):
    import pyarrow.parquet as pq

    with _readable(path):
        shard = pq.ParquetFile(path)
    found = {field.name: str(field.type) for field in shard.schema_arrow}
    for name, types in COLUMNS.items():
        if found.get(name) not in types:
            raise DataError(
                f"{path}: no column {name!r} of type {types[0]}, found {found}; see tasks/sources/parquet.py"
            )
    return shard


def list_shards(top: Path) -> list[Path]:
    return folders.list_images(top, recursive=False, suffixes=SUFFIXES).images


def left_out(data: Path, *, location: str) -> dict[str, list[str]]:
    top = sources.top(data, location)
    every = folders.list_images(top, suffixes=SUFFIXES)
    deeper = [path for path in every.images if path.parent != top]
    return folders.names_below(every.left_out | ({"in folders below": deeper} if deeper else {}), top)


def read_stamp(path: Path) -> tuple[int, int]:
    """What tells that a file is no longer the one that was opened."""
    return path.stat().st_mtime_ns, path.stat().st_size


def _group(name: str) -> str:
    slide = name.rpartition("/")[0].rpartition("/")[2]
    return sources.of_slide(slide or name)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """A file that ends early, is damaged or is gone has a DataError that names it."""
    import pyarrow as pa

    try:
        yield
    except (OSError, ValueError, pa.ArrowException) as error:
        raise DataError(f"{path}: unreadable Parquet file ({type(error).__name__}: {error}); fetch it again") from error
