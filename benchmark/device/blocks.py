"""What is computed block after block on a GPU that never waits for its data, or on the CPU."""

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch
from torch import Tensor


def compute_blocks(
    blocks: Iterable[Tensor], compute: Callable[[Tensor], dict[str, Tensor]], device: torch.device
) -> Iterator[dict[str, np.ndarray]]:
    """compute(block on the device) of every block, as arrays, in order. On a GPU blocks should be pinned.

    There the next block is read, and uploaded on a stream of its own, while one is computed; results come back into
    pinned memory one block behind, and each is waited for by its own event.
    """
    if device.type != "cuda":
        for block in blocks:
            yield {name: value.numpy() for name, value in compute(block).items()}
        return
    uploads, computing, behind = torch.cuda.Stream(device), torch.cuda.current_stream(device), None
    for block in blocks:
        with torch.cuda.stream(uploads):
            there = block.to(device, non_blocking=True)
        computing.wait_stream(uploads)
        there.record_stream(computing)
        found = {name: _pinned(value).copy_(value, non_blocking=True) for name, value in compute(there).items()}
        ahead = found, computing.record_event()
        if behind is not None:
            yield _arrived(*behind)
        behind = ahead
    if behind is not None:
        yield _arrived(*behind)


def _pinned(like: Tensor) -> Tensor:
    return torch.empty(like.shape, dtype=like.dtype, pin_memory=True)


def _arrived(found: dict[str, Tensor], copied: torch.cuda.Event) -> dict[str, np.ndarray]:
    copied.synchronize()
    return {name: value.numpy() for name, value in found.items()}
