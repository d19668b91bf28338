"""Corpus -> batches. Which sample is at which position is a pure function of (seed, epoch, position), never of the
number of processes; a batch is a slice of one endless sequence of epochs, so any step can be read first."""

import math
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from benchmark.corpus import Member
from benchmark.device import machine
from benchmark.parts.draws import Draws, Packed, keyed, pack, tensors, text_keys
from benchmark.recipe import Recipe, Runtime
from tasks import store
from tasks.base import DataError, Source

MOMENTS = 1000  # images that mean and deviation are taken over
PIXELS = "pixels"  # among what a batch draws: its images, or where they lie in the resident corpus


class Images(NamedTuple):
    """The stored images of a corpus, in a fixed order."""

    ids: list[str]  # "task/sample id"
    parts: list[np.ndarray]  # memory-mapped (N_i, S, S, 3) uint8
    rows: np.ndarray  # (N, 2): part, row in the part
    skipped: tuple[str, ...]  # unreadable, left out on request

    @property
    def total(self) -> int:
        return len(self.rows)

    @property
    def bytes(self) -> float:
        return self.total * self.parts[0][0].nbytes

    def order(self, seed: int, epoch: int, start: int, stop: int, _: int) -> np.ndarray:
        """The images at positions start to stop of an epoch."""
        return permutation(seed, epoch, self.total)[start:stop]

    def names(self, index: np.ndarray) -> list[str]:
        return [self.ids[i] for i in index]

    def expect(self, index: np.ndarray) -> None:
        """Those will be taken next; they are in memory."""

    def take(self, index: np.ndarray) -> np.ndarray:
        """(B, S, S, 3) uint8 at index (B,)."""
        return np.stack([self.parts[part][row] for part, row in self.rows[index]])

    def moments(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and deviation per channel, in [0, 1], over at most 1,000 evenly spaced images."""
        return moments(self.take(np.unique(np.linspace(0, self.total - 1, MOMENTS).astype(int))))


class Streamed:
    """The images of a stream, decoded when they are taken; those expected next, meanwhile."""

    bytes = math.inf  # never held whole

    def __init__(self, source: Source, data: Path, pixels: int):
        self.stream, self.pixels, self.policy, self.name = source.stream(data), pixels, source.policy, source.name
        self.total, self.order = self.stream.count, self.stream.order
        self.ahead = ThreadPoolExecutor(1)
        self.expected: tuple[np.ndarray, Future] | None = None

    def names(self, index: np.ndarray) -> list[str]:
        return [f"{self.name}/{name}" for name in self.stream.names(index)]

    def expect(self, index: np.ndarray) -> None:
        self.expected = index, self.ahead.submit(self.stream.take, index, self.pixels, self.policy)

    def take(self, index: np.ndarray) -> np.ndarray:
        """(B, S, S, 3) uint8 at index (B,). Raises DataError."""
        if self.expected is not None and np.array_equal(self.expected[0], index):
            return self.expected[1].result()
        return self.stream.take(index, self.pixels, self.policy)

    def moments(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and deviation per channel, in [0, 1], over at most 1,000 images of evenly spaced row groups."""
        return moments(self.take(self.stream.spread(MOMENTS)))


def moments(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    pixels = images.reshape(-1, 3)
    return pixels.mean(axis=0) / 255, pixels.std(axis=0) / 255


def open_images(members: list[Member], recipe: Recipe, runtime: Runtime) -> Images | Streamed:
    """Build or open the stores of a corpus' members. Raises DataError on unreadable images or an empty corpus."""
    if members[0].source.stream:
        return Streamed(members[0].source, runtime.data, recipe.stored_pixels)
    ids, parts, rows, skipped = [], [], [], []
    for number, member in enumerate(members):
        built = store.build(
            member.source,
            runtime.data,
            member.samples,
            recipe.stored_pixels,
            runtime.cache / "stores",
            skip_unreadable=runtime.skip_unreadable,
        )
        place = {name: row for row, name in enumerate(built.ids)}
        wanted = sorted(sample.id for sample in member.train if sample.id in place)
        parts.append(built.pixels)
        ids += [f"{member.source.name}/{name}" for name in wanted]
        rows += [(number, place[name]) for name in wanted]
        skipped += [f"{member.source.name}/{name}" for name in built.skipped]
    if not rows:
        raise DataError(f"the {recipe.corpus.name} corpus of {recipe.modality} has no readable image")
    return Images(ids, parts, np.array(rows), tuple(skipped))


@lru_cache(maxsize=2)
def permutation(seed: int, epoch: int, count: int) -> np.ndarray:
    """The order of `count` samples in an epoch."""
    return np.random.Generator(np.random.Philox(key=[seed, epoch])).permutation(count)


def positions(images: Images | Streamed, seed: int, step: int, batch: int) -> list[tuple[int, np.ndarray]]:
    """[(epoch, sample indices)] of a step's global batch; it may end one epoch and begin the next."""
    pieces, at, end = [], step * batch, (step + 1) * batch
    while at < end:
        epoch, start = divmod(at, images.total)
        stop = min(images.total, start + end - at)
        pieces.append((epoch, images.order(seed, epoch, start, stop, batch)))
        at += stop - start
    return pieces


class Prepared(NamedTuple):
    """What a step needs from the CPU."""

    names: list[str]  # sample ids
    packed: Packed | None  # for a GPU: everything in one pinned buffer
    arrays: dict[str, np.ndarray]  # for a CPU


class Batches:
    """The batches of one rank of `world` processes. For a GPU, what the next step draws and reads is prepared during
    this one, and goes there in one copy, which nothing waits for."""

    def __init__(
        self,
        images: Images | Streamed,
        recipe: Recipe,
        draw: Callable[[Draws], dict[str, np.ndarray]],
        device: torch.device,
        rank: int = 0,
        world: int = 1,
    ):
        """draw: a pretext's. Raises ValueError if the global batch does not divide by the number of processes."""
        self.images, self.seed, self.device, self.draw = images, recipe.seed, device, draw
        self.batch = recipe.settings.batch
        if self.batch % world:
            raise ValueError(f"a global batch of {self.batch} does not divide over {world} processes; use a divisor")
        self.start, self.size = rank * self.batch // world, self.batch // world
        self.gpu = device.type == "cuda"
        resident = self.gpu and images.bytes <= machine.RESIDENT * torch.cuda.mem_get_info(device)[0]
        self.resident = torch.from_numpy(images.take(np.arange(images.total))).to(device) if resident else None
        self.ahead: tuple[int, Future[Prepared]] | None = None
        self.worker = None
        if self.gpu:  # a thread pins memory through its own current device, which is the first unless it is told
            place = torch.cuda.current_device() if device.index is None else device.index
            self.worker = ThreadPoolExecutor(1, initializer=torch.cuda.set_device, initargs=(place,))

    def slice(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """(b,) indices and epochs of this process's images at a step."""
        pieces = positions(self.images, self.seed, step, self.batch)
        index = np.concatenate([piece for _, piece in pieces])
        epochs = np.concatenate([np.full(len(piece), epoch) for epoch, piece in pieces])
        return index[self.start : self.start + self.size], epochs[self.start : self.start + self.size]

    def prepare(self, step: int) -> Prepared:
        index, epochs = self.slice(step)
        names = self.images.names(index)
        samples = text_keys(names)
        keys = np.concatenate([keyed(samples[epochs == e], self.seed, int(e)) for e in np.unique(epochs)])
        step_key = keyed(np.zeros(1, dtype=np.uint64), self.seed, step)
        arrays = self.draw(Draws(keys, step_key, self.start, self.batch))
        if self.resident is not None:
            arrays[PIXELS] = index
        else:
            arrays[PIXELS] = self.images.take(index)
            self.images.expect(self.slice(step + 1)[0])
        return Prepared(names, pack(arrays, pinned=True) if self.gpu else None, {} if self.gpu else arrays)

    def __call__(self, step: int) -> tuple[Tensor, dict[str, Tensor], list[str]]:
        """Images (b, S, S, 3) uint8, what is drawn for them, both on the device, and their sample ids, at a step."""
        if self.ahead is not None and self.ahead[0] == step:
            names, packed, arrays = self.ahead[1].result()
        else:
            names, packed, arrays = self.prepare(step)
        if self.worker is not None:
            self.ahead = step + 1, self.worker.submit(self.prepare, step + 1)
        drawn = tensors(arrays) if packed is None else packed.on(self.device)
        pixels = drawn.pop(PIXELS)
        return pixels if self.resident is None else self.resident.index_select(0, pixels), drawn, names
