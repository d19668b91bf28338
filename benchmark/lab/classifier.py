"""What the small supervised networks of `calibrate` and `locality` share: their stem and their training loop."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

BATCH, RATE, DECAY, WARMUP = 64, 1.5e-3, 0.05, 0.1


def make_stem(width: int) -> list[nn.Module]:
    """Layers (B, 3, S, S) -> (B, width, S / 8, S / 8): convolutions make few images enough (Xiao et al., NeurIPS
    2021)."""
    return [
        layer
        for into, out in ((3, width // 4), (width // 4, width // 2), (width // 2, width))
        for layer in (nn.Conv2d(into, out, 3, 2, 1, bias=False), nn.BatchNorm2d(out), nn.ReLU())
    ]


def train(
    model: nn.Module, images: int, steps: int, compute_loss: Callable[[Tensor, torch.Generator], Tensor]
) -> nn.Module:
    """Train on `images` images and return the model for inference. Nothing is chosen on any data.

    compute_loss: indices of a batch (BATCH,), and what all else of the step is drawn from -> loss."""
    generator = torch.Generator().manual_seed(0)
    optimiser = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: min((step + 1) / (WARMUP * steps), (1 + math.cos(math.pi * step / steps)) / 2)
    )
    for _ in range(steps):
        loss = compute_loss(torch.randint(images, (BATCH,), generator=generator), generator)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
    return model.eval()
