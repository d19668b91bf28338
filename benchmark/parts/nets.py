"""The nets beside an encoder, how their weights begin, and teachers that follow."""

from collections.abc import Callable
from functools import partial

import torch
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from benchmark.encoders.encoder import sincos


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


class Predictor(nn.Module):
    """Predicts blocks of tokens apart from one another: I-JEPA's predictor."""

    def __init__(self, grid: int, inputs: int, outputs: int, width: int, depth: int, heads: int, seed: int):
        super().__init__()
        self.embed = nn.Linear(inputs, width)
        self.blocks = transformer(width, depth, heads)
        self.head = nn.Linear(width, outputs)
        self.mask_token = nn.Parameter(torch.zeros(width))
        self.register_buffer("positions", sincos(grid, width), persistent=False)
        for module in (self.embed, self.blocks, self.head):
            initialise(module, seed)
        nn.init.normal_(self.mask_token, std=0.02, generator=torch.Generator().manual_seed(seed))

    def forward(self, context: Tensor, where: Tensor, targets: Tensor) -> Tensor:
        """Context tokens (B, C, inputs) at `where` (B, C) -> predictions (B·T, M, outputs) of blocks (B, T, M), the
        blocks of an image after one another; no block attends to another."""
        blocks, size = targets.shape[1:]
        seen = self.embed(context) + self.positions[where]
        seen = seen.repeat_interleave(blocks, dim=0)
        asked = self.mask_token + self.positions[targets.flatten(0, 1)]
        return self.head(self.blocks(torch.cat([seen, asked], dim=1))[:, -size:])
