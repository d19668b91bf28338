"""Corpus -> batches. Which sample is at which position is a pure function of (seed, epoch, position), never of the
number of processes; a batch is a slice of one endless sequence of epochs, so any step can be read first."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from benchmark.corpus import Member
from benchmark.draws import Draws, keyed, text_keys
from benchmark.recipe import Recipe, Runtime
from tasks import store
from tasks.base import DataError

RESIDENT_BYTES = 4 * 2**30  # a corpus up to this size is copied to the accelerator as uint8


class Images(NamedTuple):
    """The images of a corpus, in a fixed order."""

    ids: list[str]  # "task/sample id"
    parts: list[np.ndarray]  # memory-mapped (N_i, S, S, 3) uint8
    rows: np.ndarray  # (N, 2): part, row in the part
    skipped: tuple[str, ...]  # unreadable, left out on request

    def take(self, index: np.ndarray) -> np.ndarray:
        """(B, S, S, 3) uint8 at index (B,)."""
        return np.stack([self.parts[part][row] for part, row in self.rows[index]])

    def moments(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and deviation per channel, in [0, 1], over at most 1,000 evenly spaced images."""
        index = np.unique(np.linspace(0, len(self.rows) - 1, 1000).astype(int))
        pixels = self.take(index).reshape(-1, 3)
        return pixels.mean(axis=0) / 255, pixels.std(axis=0) / 255


def open_images(members: list[Member], recipe: Recipe, runtime: Runtime) -> Images:
    """Build or open the stores of a corpus' members. Raises DataError on unreadable images or an empty corpus."""
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


def order(seed: int, epoch: int, count: int) -> np.ndarray:
    """The permutation of `count` samples in an epoch."""
    return np.random.Generator(np.random.Philox(key=[seed, epoch])).permutation(count)


def positions(seed: int, step: int, batch: int, count: int) -> list[tuple[int, np.ndarray]]:
    """[(epoch, sample indices)] of a step's global batch; it may end one epoch and begin the next."""
    pieces, at, end = [], step * batch, (step + 1) * batch
    while at < end:
        epoch, start = divmod(at, count)
        stop = min(count, start + end - at)
        pieces.append((epoch, order(seed, epoch, count)[start:stop]))
        at += stop - start
    return pieces


class Batches:
    """The batches of one rank of `world` processes."""

    def __init__(self, images: Images, recipe: Recipe, device: torch.device, rank: int = 0, world: int = 1):
        """Raises ValueError if the global batch does not divide by the number of processes."""
        self.images, self.seed, self.device = images, recipe.seed, device
        self.batch = recipe.settings["batch"]
        if self.batch % world:
            raise ValueError(f"a global batch of {self.batch} does not divide over {world} processes; use a divisor")
        self.start, self.size = rank * self.batch // world, self.batch // world
        self.keys = text_keys(images.ids)
        nbytes = len(images.rows) * images.parts[0][0].nbytes
        resident = device.type != "cpu" and nbytes <= RESIDENT_BYTES
        self.resident = torch.from_numpy(images.take(np.arange(len(images.rows)))).to(device) if resident else None

    def __call__(self, step: int) -> tuple[Tensor, Draws, list[str]]:
        """Images (b, S, S, 3) uint8 on the device, their draws, and their sample ids, at a step."""
        pieces = positions(self.seed, step, self.batch, len(self.keys))
        index = np.concatenate([piece for _, piece in pieces])
        epochs = np.concatenate([np.full(len(piece), epoch) for epoch, piece in pieces])
        index, epochs = (x[self.start : self.start + self.size] for x in (index, epochs))
        keys = np.concatenate([keyed(self.keys[index[epochs == e]], self.seed, int(e)) for e in np.unique(epochs)])
        step_key = keyed(np.zeros(1, dtype=np.uint64), self.seed, step)
        draws = Draws(keys, step_key, self.start, self.batch, self.device)
        if self.resident is not None:
            pixels = self.resident[torch.from_numpy(index).to(self.device)]
        else:
            pixels = torch.from_numpy(self.images.take(index)).to(self.device)
        return pixels, draws, [self.images.ids[i] for i in index]
