"""What the training loop asks of a pretext, and what all of them share."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable
from functools import partial
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import torch
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from benchmark.encoders.encoder import Encoder
from benchmark.parts.draws import Draws


class Step(NamedTuple):
    loss: Tensor  # scalar, with gradient
    parts: dict[str, Tensor]  # detached scalars for the log, each a mean over the images of the batch
    pooled: Tensor  # (B, D) detached features of what the probes will read, for the health figures
    means: dict[str, Tensor] = MappingProxyType({})  # detached means over the images, of any shape, for `figures`


class Pretext(nn.Module, ABC):
    """One nn.Module that owns student, teacher, heads and loss. `forward` is the objective: data-parallel wrapping
    synchronises only that. A teacher that follows a student, if there is one, is called `teacher` and it `student`."""

    separable = False  # the loss is a mean over images, so micro-batches add up to the gradient of the whole batch

    @property
    @abstractmethod
    def encoder(self) -> Encoder:
        """What the probes read."""

    def draw(self, draws: Draws) -> dict[str, np.ndarray]:
        """All that is random about the views of a batch: crops, changes, masks. On the CPU, a step ahead, in numpy."""
        return {}

    @abstractmethod
    def views(self, images: Tensor, drawn: dict[str, Tensor]) -> dict[str, Tensor]:
        """Stored uint8 images (B, S, S, 3) and what was drawn, both on the device -> what `forward` takes."""

    @abstractmethod
    def forward(self, views: dict[str, Tensor], progress: float) -> Step:
        """The objective on those views at that share of training. Waits for no value from the device."""

    def figures(self, means: dict[str, Tensor]) -> dict[str, float]:
        """What the log shows that is no mean over images, from the `means` of the global batch."""
        return {}

    def decoder_state(self) -> dict[str, Tensor]:
        """Weights that are stored beside the encoder; none for a pretext that shows no pixels. One that does also has
        `reconstruct(images, draws)`: images (B, 3, S, S) in [0, 1] -> what the encoder saw of them, and that with the
        hidden part predicted."""
        return {}

    def after_step(self, progress: float) -> None:
        """Called once after every optimiser step: teachers move here."""

    def rate_group(self, name: str) -> Hashable:
        """Which of the learning rates the parameter of that name has: what `lr_scale` is told."""
        return None

    def lr_scale(self, group: Hashable, progress: float) -> float:
        """Multiplier of the learning rate of a rate group."""
        return 1.0

    def resting(self, progress: float) -> tuple[str, ...]:
        """Sub-modules that get no gradient or stay as they are at that share of training, on purpose."""
        return ()


def frozen_copy(student: nn.Module, make: Callable[[], nn.Module]) -> nn.Module:
    """A teacher: built anew, with the student's weights and without gradients."""
    teacher = make()
    teacher.load_state_dict(student.state_dict())
    return teacher.requires_grad_(False)


@torch.no_grad()
def follow(teacher: nn.Module, student: nn.Module, momentum: float) -> None:
    """Exponential moving average over parameters: teacher = m·teacher + (1 - m)·student."""
    torch._foreach_lerp_(list(teacher.parameters()), list(student.parameters()), 1 - momentum)


def initialise(module: nn.Module, seed: int) -> None:
    """Xavier-uniform weights on every Linear (MAE, appendix A.1), biases 0: seeded apart from the encoder.

    I-JEPA and DINOv3 draw from a normal of deviation 0.02, which starves narrow nets of gradient.
    """
    generator = torch.Generator().manual_seed(seed)
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            nn.init.xavier_uniform_(layer.weight, generator=generator)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def transformer(width: int, depth: int, heads: int) -> nn.Sequential:
    """Pre-norm blocks and a final norm: the decoder of MAE, the predictor of I-JEPA."""
    norm = nn.LayerNorm(width, eps=1e-6)
    blocks = [Block(width, heads, qkv_bias=True, norm_layer=partial(nn.LayerNorm, eps=1e-6)) for _ in range(depth)]
    return nn.Sequential(*blocks, norm)
