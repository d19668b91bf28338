"""Where a process computes, and the one rule of how it rounds. Imports torch only inside.

fp32 is fp32 on every device: no product and no convolution in TF32, which torch allows convolutions on NVIDIA GPUs by
default; denormals are zero. Features and probes are fp32 by this rule. Training is too, or, where the recipe says bf16,
under autocast with fp32 weights and an fp32 residual stream.
"""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

from benchmark.device import machine

if TYPE_CHECKING:
    import torch

RULE = "fp32 without TF32, denormals are zero"


def prepare(threads: int | None = None) -> torch.device:
    """Put the rule in force in this process, whatever ran in it before. Returns the device that it computes on.

    threads: of torch; None: as many as it has."""
    import torch

    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    torch.set_flush_denormal(True)
    if threads:
        torch.set_num_threads(threads)
    return torch.device(machine.device().type)


def describe() -> str:
    """What besides weights and images decides the last digits of features."""
    return f"{machine.device().type}, {RULE}"


def release_memory() -> None:
    """Give back the GPU memory that this process holds and does not use: others are about to need it."""
    import torch

    gc.collect()
    torch.cuda.empty_cache()
