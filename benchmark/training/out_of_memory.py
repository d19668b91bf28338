"""Running out of memory, told as what would fit."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from benchmark.cost import LIBRARIES_BYTES, peak_memory
from benchmark.device import machine
from benchmark.recipe import Recipe


class Memory:
    """Turns running out of memory into a sentence that says what would fit."""

    def __init__(self, recipe: Recipe, device: torch.device, images: int, separable: bool):
        """images: of one forward pass of this process."""
        self.recipe, self.device, self.images, self.separable = recipe, device, images, separable
        fixed, peak = LIBRARIES_BYTES, peak_memory(recipe)
        self.fixed = torch.cuda.memory_allocated() if device.type == "cuda" else fixed
        self.each = (peak - fixed) / recipe.settings.batch  # bytes per image: the formula's, then measured
        self.measured = False

    @contextmanager
    def explained(self, step: int) -> Iterator[None]:
        """Raises MemoryError in place of what torch raises."""
        try:
            yield
        except (RuntimeError, MemoryError) as error:
            if isinstance(error, torch.OutOfMemoryError | MemoryError) or "allocate memory" in str(error):
                raise MemoryError(self.sentence(step)) from error
            raise
        if not self.measured:
            self.each, self.measured = max(machine.peak_memory() - self.fixed, 1) / self.images, True

    def sentence(self, step: int) -> str:
        fits = max(0, min(int((capacity(self.device) - self.fixed) / self.each), self.images // 2))
        basis = "measured in earlier steps" if self.measured else "estimated"
        said = f"out of memory at step {step} with {self.images} images at once; about {fits} would fit ({basis}). "
        if not fits:
            return said + "Use a smaller TRACK or a device with more memory"
        if self.separable:
            return said + f"MICRO={fits} computes the same step {fits} images at a time"
        batch = self.recipe.settings.batch
        processes = next(n for n in range(1, batch + 1) if batch % n == 0 and batch // n <= fits)
        return said + (
            f"The loss of {self.recipe.pretext} compares the images of a batch, so micro-batches would change it; "
            f"use GPUS={processes}, PRECISION=bf16 or a smaller TRACK"
        )


def capacity(device: torch.device) -> int:
    """Bytes that this process may hold: of the GPU, or of the machine."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info()[0] + torch.cuda.memory_reserved()
    return machine.device().memory[0]
