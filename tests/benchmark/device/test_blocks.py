"""Blocks in order on the CPU, and on a played GPU that does nothing before it is waited for."""

from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from benchmark.device import blocks as module
from benchmark.device.blocks import compute_blocks

CPU, PLAYED = torch.device("cpu"), SimpleNamespace(type="cuda")


def blocks(count: int, log: list[str]):
    for number in range(count):
        log.append(f"read {number}")
        yield torch.full((2,), number, dtype=torch.uint8)


@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_on_the_cpu_each_block_is_computed_when_it_is_asked_for(count):
    log = []
    found = compute_blocks(blocks(count, log), lambda x: {"twice": 2 * x, "same": x}, CPU)
    for number, one in enumerate(found):
        assert {name: values.tolist() for name, values in one.items()} == {
            "twice": [2 * number] * 2,
            "same": [number] * 2,
        }
        assert log == [f"read {before}" for before in range(number + 1)]
    assert len(log) == count


class Played:
    """A GPU with one queue, whose work is done when an event in it is waited for, and not before."""

    def __init__(self, monkeypatch):
        self.log, self.queue = [], []
        cuda = SimpleNamespace(
            Stream=lambda device: "uploads", stream=lambda stream: nullcontext(), current_stream=lambda device: self
        )
        monkeypatch.setattr(module, "torch", SimpleNamespace(cuda=cuda))
        monkeypatch.setattr(module, "_pinned", lambda value: Pinned(self))

    def wait_stream(self, stream):
        assert stream == "uploads"

    def record_event(self):
        end = len(self.queue)
        return SimpleNamespace(synchronize=lambda: self.run(end))

    def run(self, end: int):
        self.log.append(f"wait {end}")
        for at in range(end):
            if self.queue[at]:
                self.queue[at]()
                self.queue[at] = None


class Block:
    """Pinned pixels and, once uploaded, those on the device."""

    def __init__(self, gpu: Played, number: int):
        self.gpu, self.number = gpu, number
        gpu.log.append(f"read {number}")

    def to(self, device, non_blocking):
        assert (device, non_blocking) == (PLAYED, True)
        self.gpu.log.append(f"upload {self.number}")
        return self

    def record_stream(self, stream):
        assert stream is self.gpu


class Pinned:
    def __init__(self, gpu: Played):
        self.gpu, self.values = gpu, np.array([-1])

    def copy_(self, value: Block, non_blocking):
        assert non_blocking
        self.gpu.log.append(f"compute {value.number}")
        self.gpu.queue.append(lambda: self.values.fill(value.number))
        return self

    def numpy(self) -> np.ndarray:
        return self.values


def test_a_gpu_computes_one_block_while_the_next_is_read_and_uploaded_and_the_last_comes_back(monkeypatch):
    gpu = Played(monkeypatch)
    for number, one in enumerate(compute_blocks((Block(gpu, n) for n in range(3)), lambda x: {"same": x}, PLAYED)):
        assert one["same"].tolist() == [number]
        gpu.log.append(f"use {number}")
    steps = [[f"read {n}", f"upload {n}", f"compute {n}"] for n in range(3)]
    last = [[f"wait {n + 1}", f"use {n}"] for n in range(3)]
    assert gpu.log == [*steps[0], *steps[1], *last[0], *steps[2], *last[1], *last[2]]


@pytest.mark.parametrize("count", [0, 1])
def test_a_gpu_gives_as_many_results_as_there_are_blocks(count, monkeypatch):
    gpu = Played(monkeypatch)
    assert len(list(compute_blocks((Block(gpu, n) for n in range(count)), lambda x: {"same": x}, PLAYED))) == count


def test_a_reader_that_stops_early_reads_one_block_ahead_at_most(monkeypatch):
    gpu, log = Played(monkeypatch), []
    for found in (
        compute_blocks((Block(gpu, n) for n in range(9)), lambda x: {"same": x}, PLAYED),
        compute_blocks(blocks(9, log), lambda x: {"same": x}, CPU),
    ):
        next(found)
        found.close()
        assert list(found) == []
    assert [line for line in gpu.log if line.startswith("read")] == ["read 0", "read 1"]
    assert log == ["read 0"]
