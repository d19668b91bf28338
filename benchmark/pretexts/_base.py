"""What the training loop asks of a pretext."""

from abc import ABC, abstractmethod
from collections.abc import Hashable
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from torch import Tensor, nn

from benchmark.encoders.encoder import Encoder
from benchmark.parts.draws import Draws
from benchmark.recipe import Optim


class Step(NamedTuple):
    loss: Tensor  # scalar, with gradient
    parts: dict[str, Tensor]  # detached scalars for the log, each a mean over the images of the batch
    pooled: Tensor  # (B, D) detached features of what the probes will read, for the health figures
    means: dict[str, Tensor] = MappingProxyType({})  # detached means over the images, of any shape, for `figures`


class Pretext(nn.Module, ABC):
    """One nn.Module that owns student, teacher, heads and loss. `forward` is the objective: data-parallel wrapping
    synchronises only that. A teacher that follows the student, if there is one, is called `teacher`."""

    separable = False  # the loss is a mean over images, so micro-batches add up to the gradient of the whole batch

    def __init__(self, settings: Optim, encoder: Encoder, modality: str):
        super().__init__()
        self.settings, self.modality, self.spec, self.student = settings, modality, encoder.spec, encoder

    @property
    def encoder(self) -> Encoder:
        """What the probes read: the teacher, where one follows the student."""
        return getattr(self, "teacher", self.student)

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
