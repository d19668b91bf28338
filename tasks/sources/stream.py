"""stream:<path>: the shards of the kind `parquet`, read while training: nothing is hashed, decoded or stored before.

What        as `parquet`; an image is named by its place, `<shard>#<row group>.<row>`. For millions of images: what is
            held is two integers for each row group, and the encoded images of two windows at most
Order       a pure function of seed, epoch and position, so that any step can be read first: row groups in another
            order each epoch, cut into windows of some WINDOW rows, and the rows of a window shuffled; every row once
            an epoch. A window is cut into lanes of whole row groups, but for their ends; each lane fills its own part
            of every batch, so that processes, which take parts of a batch, read few row groups in common
Identity    names, sizes and footers of the shards. That is weaker than the hash of every image: a byte that changes
            inside an image and leaves all sizes as they are is not seen
Leakage     not looked for, and shown as unknown
Traps       row groups as large as the window leave little to shuffle: write shards of a few hundred rows a group
"""

import hashlib
import math
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from threading import Lock

import numpy as np

from tasks import sources, store
from tasks.base import DataError, Source, digest
from tasks.reading import decoding, squares
from tasks.sources import parquet

KIND = "stream"
WINDOW = 16_384  # rows that are shuffled together; twice as many encoded images are held at most
LANES = 16  # at most
SPREAD = 20  # row groups that a sample of all images is taken from
READERS = 8  # threads that read footers
CHUNK = 16  # images that a thread decodes at a time


class Order:
    """Which row comes when, of row groups of so many rows: a pure function of seed, epoch and position.

    first: (groups + 1,) the first row of each group; at last, how many rows there are.
    """

    def __init__(self, sizes: list[int]):
        self.first = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])
        self.epoch, self.window = lru_cache(maxsize=2)(self._epoch), lru_cache(maxsize=3)(self._window)

    def __call__(self, seed: int, epoch: int, start: int, stop: int, batch: int) -> np.ndarray:
        """The rows at positions start to stop of an epoch, in batches of so many."""
        _, begins = self.epoch(seed, epoch)
        pieces, window = [], int(np.searchsorted(begins, start, side="right")) - 1
        while begins[window] < stop:
            rows = self.window(seed, epoch, window, batch)
            pieces.append(rows[max(0, start - begins[window]) : stop - begins[window]])
            window += 1
        return np.concatenate(pieces)

    def _epoch(self, seed: int, epoch: int) -> tuple[list[np.ndarray], np.ndarray]:
        """The row groups of each window, and the position at which it begins; at last, the length of the epoch."""
        order = _generator(seed, epoch).permutation(len(self.first) - 1)
        begins = np.concatenate([[0], np.cumsum(np.diff(self.first)[order])])
        _, cuts = np.unique(begins[:-1] // WINDOW, return_index=True)
        return np.split(order, cuts[1:]), np.append(begins[cuts], self.first[-1])

    def _window(self, seed: int, epoch: int, window: int, batch: int) -> np.ndarray:
        """The rows of a window, in order."""
        groups, lanes = self.epoch(seed, epoch)[0][window], math.gcd(batch, LANES)
        rows = np.concatenate([np.arange(self.first[g], self.first[g + 1]) for g in groups])
        lane = np.arange(len(rows)) * lanes // len(rows)
        shuffled = _generator(seed, epoch, window).permutation(len(rows))
        shuffled = shuffled[np.argsort(lane[shuffled], kind="stable")]
        sizes = np.bincount(lane, minlength=lanes)
        place = np.arange(len(rows)) - np.repeat(np.cumsum(sizes) - sizes, sizes)  # in the lane
        return rows[shuffled[np.lexsort((place, lane[shuffled], place // (batch // lanes)))]]


class Stream:
    """Images in Parquet shards, by their row number over all shards. Opening it reads the footers."""

    def __init__(self, top: Path, shards: tuple[tuple[Path, tuple[int, int]], ...]):
        """Raises DataError for a shard that cannot be read, or no rows."""
        with ThreadPoolExecutor(READERS) as pool:
            footers = list(pool.map(lambda shard: _footer(*shard), shards))
        counts = [rows for _, rows in footers]
        self.shards = shards
        self.shard = np.repeat(np.arange(len(shards), dtype=np.int32), [len(rows) for rows in counts])
        self.group = np.concatenate([np.arange(len(rows), dtype=np.int32) for rows in counts] or [np.zeros(0, int)])
        self.order = Order([n for rows in counts for n in rows])
        self.first = self.order.first
        self.count = int(self.first[-1])
        if not self.count:
            raise DataError(f"{top}: no images in {len(shards)} files *.parquet; give the folder that holds the shards")
        self.digest = digest(
            *(
                part
                for (path, (_, size)), (seen, _) in zip(shards, footers, strict=True)
                for part in (path.name, size, seen)
            )
        )
        self.held: OrderedDict[int, list[bytes]] = OrderedDict()  # row group -> its encoded images, last used last
        self.rows = 0  # in them
        self.lock = Lock()
        self.pool = ThreadPoolExecutor(store.processors())

    def names(self, index: np.ndarray) -> list[str]:
        """`<shard>#<row group>.<row>` of rows (B,)."""
        groups = np.searchsorted(self.first, index, side="right") - 1
        return [
            f"{self.shards[self.shard[g]][0].name}#{self.group[g]}.{row - self.first[g]}"
            for g, row in zip(groups.tolist(), index.tolist(), strict=True)
        ]

    def spread(self, count: int) -> np.ndarray:
        """At most so many rows, from evenly spaced row groups."""
        some = np.unique(np.linspace(0, len(self.shard) - 1, SPREAD).astype(int))
        each = math.ceil(count / len(some))
        ends = np.minimum(self.first[some] + each, self.first[some + 1])
        return np.concatenate([np.arange(*ends) for ends in zip(self.first[some], ends, strict=True)])

    def take(self, index: np.ndarray, pixels: int, policy: str) -> np.ndarray:
        """(B, pixels, pixels, 3) uint8 of rows (B,). Raises DataError, naming the row, for what cannot be decoded."""
        groups = np.searchsorted(self.first, index, side="right") - 1
        with self.lock:
            encoded = [
                self._group(g)[row - self.first[g]] for g, row in zip(groups.tolist(), index.tolist(), strict=True)
            ]
        named = list(zip(self.names(index), encoded, strict=True))
        chunks = [named[start : start + CHUNK] for start in range(0, len(named), CHUNK)]
        return np.concatenate(list(self.pool.map(partial(_squares, pixels, policy), chunks)))

    def _group(self, group: int) -> list[bytes]:
        if group not in self.held:
            path, stamp = self.shards[self.shard[group]]
            if parquet.read_stamp(path) != stamp:
                raise DataError(
                    f"{path}: changed since this corpus was opened; run again, which makes it another corpus"
                )
            rows = parquet.column(path, stamp, int(self.group[group]), "jpeg")
            while self.held and self.rows + len(rows) > 2 * WINDOW:
                self.rows -= len(self.held.popitem(last=False)[1])
            self.held[group] = rows
            self.rows += len(rows)
        self.held.move_to_end(group)
        return self.held[group]


def _generator(*key: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(key)))


def _squares(pixels: int, policy: str, chunk: list[tuple[str, bytes]]) -> np.ndarray:
    return np.stack([squares.to_square(decoding.decode(Path(name), image), pixels, policy) for name, image in chunk])


def _footer(path: Path, stamp: tuple[int, int]) -> tuple[str, list[int]]:
    """(SHA-256 of the footer, rows of each row group)"""
    about = parquet.open_shard(path, stamp).metadata
    rows = [about.row_group(group).num_rows for group in range(about.num_row_groups)]
    with path.open("rb") as file:
        file.seek(-8 - about.serialized_size, 2)
        return hashlib.sha256(file.read(about.serialized_size)).hexdigest(), rows


def stream(data: Path, *, location: str) -> Stream:
    top = sources.top(data, location)
    return _opened(top, tuple((path, parquet.read_stamp(path)) for path in parquet.list_shards(top)))


_opened = lru_cache(maxsize=1)(Stream)


def open_source(location: str, modality: str) -> Source:
    made = sources.source(parquet.KIND, location, modality, parquet)
    name = made.name.replace(parquet.KIND, KIND, 1)
    return replace(
        made,
        name=name,
        title=made.title.replace(parquet.KIND, KIND),
        images=f"{KIND} {name} {made.version}",
        family=name,
        stream=partial(stream, location=location),
    )
