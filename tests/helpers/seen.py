"""What a pretext sees of images, and masks as tensors: the CPU's part and the device's in one call."""

import numpy as np
import torch
from torch import Tensor

from benchmark.parts import draws, masks
from benchmark.pretexts._base import Pretext


def views(model: Pretext, images: Tensor, drawn: draws.Draws) -> dict[str, Tensor]:
    return model.views(images, draws.tensors(model.draw(drawn)))


def random_tokens(noise: Tensor, ratio: float) -> masks.RandomMask:
    return masks.RandomMask(*map(torch.from_numpy, masks.random_tokens(noise.numpy(), ratio)))


def tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array))
