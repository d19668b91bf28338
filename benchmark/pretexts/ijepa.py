"""I-JEPA: predict a teacher's features of hidden blocks from a context block (Assran et al., arXiv 2301.08243; 3).

The target encoder, a moving average of the context encoder, sees the whole image; its layer-normed outputs at four
target blocks are predicted, one block at a time, from the context tokens. No cls token.
Where we differ: fixed masks (`masks.multiblock`: inclusive positions, independent scale and aspect, a context of
constant size, so that the task does not depend on the batch per process); momentum and predictor are scaled to the
encoder's size and the number of steps; the modality's photometric policy and flips are applied, as to all pretexts.
"""

from dataclasses import dataclass

from benchmark import flops as count
from benchmark.mask_sizes import check_context, mean_target_tokens
from benchmark.recipe import EncoderSpec, Optim

VERSION = 1
CLS = False  # the cls token stays out of the blocks
NATIVE = "patches"


@dataclass(frozen=True, kw_only=True)
class Settings(Optim):
    context_tokens: int  # constant size of the context
    targets: int = 4  # target blocks per image
    target_scale: tuple[float, float] = (0.15, 0.2)  # share of the grid
    target_aspect: tuple[float, float] = (0.75, 1.5)
    context_scale: tuple[float, float] = (0.85, 1.0)
    predictor_width: int
    predictor_depth: int
    predictor_heads: int
    momentum: float  # of the target encoder at the start; linear to 1
    crop: tuple[float, float] = (0.3, 1.0)  # area share of the random resized crop


def settings(encoder: EncoderSpec) -> Settings:
    """The recommended settings for an encoder: the paper's values, or what trials found for the smallest size."""
    context = round(encoder.grid**2 * (0.375 if encoder.width < 192 else 0.25))
    if encoder.width < 192:
        return Settings(
            batch=64,
            lr=5e-4,
            crop=(0.6, 1.0),
            weight_decay=0.04,
            end_weight_decay=0.4,
            context_tokens=context,
            predictor_width=64,
            predictor_depth=2,
            predictor_heads=2,
            momentum=0.996,
        )
    return Settings(
        batch=256,
        lr=1e-3,
        start_lr=2e-4,
        end_lr=1e-6,
        weight_decay=0.04,
        end_weight_decay=0.4,
        context_tokens=context,
        predictor_width=192 if encoder.width < 384 else 384,
        predictor_depth=6,
        predictor_heads=encoder.heads,
        momentum=0.996,
    )


def flops(s: Settings, e: EncoderSpec) -> float:
    """Training FLOPs per image; the size of target blocks is drawn per batch, its mean is counted."""
    hidden = mean_target_tokens(e.grid, tuple(s.target_scale), tuple(s.target_aspect))
    predict = (
        count.linear(s.context_tokens, e.width, s.predictor_width)
        + s.targets * count.blocks(s.context_tokens + hidden, s.predictor_width, s.predictor_depth)
        + s.targets * count.linear(hidden, s.predictor_width, e.width)
    )
    return count.encode(e) + 3 * (count.encode(e, tokens=s.context_tokens) + predict)


import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmark import augment, masks, schedules
from benchmark.draws import Draws
from benchmark.encoder import Encoder, gather, sincos
from benchmark.pretexts._base import Pretext, Step, follow, frozen_copy, initialise, transformer

ATTEMPTS = 16  # at a mask that leaves enough context, before the targets are laid on one another


class Model(Pretext):
    def __init__(self, settings: Settings, encoder: Encoder, modality: str, seed: int):
        super().__init__()
        self.settings, self.modality, self.spec = settings, modality, encoder.spec
        check_context(self.spec.grid, settings.context_tokens, settings.target_scale, settings.context_scale)
        self.student = encoder
        self.teacher = frozen_copy(encoder, lambda: Encoder(encoder.spec, seed=0))
        width = settings.predictor_width
        self.predictor_embed = nn.Linear(encoder.spec.width, width)
        self.predictor = transformer(width, settings.predictor_depth, settings.predictor_heads)
        self.predict = nn.Linear(width, encoder.spec.width)
        self.mask_token = nn.Parameter(torch.zeros(width))
        self.register_buffer("predictor_positions", sincos(encoder.spec.grid, width), persistent=False)
        for module in (self.predictor_embed, self.predictor, self.predict):
            initialise(module, seed)
        nn.init.normal_(self.mask_token, std=0.02, generator=torch.Generator().manual_seed(seed))

    @property
    def encoder(self) -> Encoder:
        return self.teacher

    def views(self, images: Tensor, draws: Draws) -> dict[str, Tensor]:
        s, grid = self.settings, self.spec.grid
        image = augment.view(
            augment.to_float(images), draws, "ijepa", modality=self.modality, scale=s.crop, pixels=self.spec.pixels
        )
        mask = masks.multiblock(
            draws.batch_uniform("ijepa/sizes", 3),
            draws.uniform("ijepa/positions", ATTEMPTS, s.targets + 1, 2),
            draws.uniform("ijepa/order", grid**2),
            grid=grid,
            context=s.context_tokens,
            target_scale=s.target_scale,
            target_aspect=s.target_aspect,
            context_scale=s.context_scale,
        )
        return {"images": image, "context": mask.context, "targets": mask.targets}

    def predicted(self, context: Tensor, where: Tensor, targets: Tensor) -> Tensor:
        """Context tokens (B, C, D) at `where` (B, C) -> predictions (B·T, M, D) of target blocks (B, T, M), one
        block at a time: a block never attends to another."""
        blocks, size = targets.shape[1:]
        positions = self.predictor_positions
        seen = self.predictor_embed(context) + positions[where]
        seen = seen.repeat_interleave(blocks, dim=0)
        asked = self.mask_token.to(seen.dtype) + positions[targets.flatten(0, 1)].to(seen.dtype)
        return self.predict(self.predictor(torch.cat([seen, asked], dim=1))[:, -size:])

    def forward(self, views: dict[str, Tensor], progress: float) -> Step:
        targets = views["targets"]
        with torch.no_grad():
            full = self.teacher(views["images"]).patches
            normed = F.layer_norm(full.float(), full.shape[-1:])
            target = gather(normed, targets.flatten(1)).reshape(-1, targets.shape[2], full.shape[-1])
        context = self.student(views["images"], keep=views["context"]).patches
        predicted = self.predicted(context, views["context"], targets).float()
        loss = F.smooth_l1_loss(predicted, target)
        parts = {
            "loss": loss.detach(),
            "trivial loss": F.smooth_l1_loss(torch.zeros_like(target), target),
            "target deviation between images": normed.mean(dim=1).std(dim=0).mean(),
        }
        return Step(loss, parts, full.float().mean(dim=1))

    def after_step(self, progress: float) -> None:
        follow(self.teacher, self.student, schedules.linear(progress, start=self.settings.momentum, end=1.0))
