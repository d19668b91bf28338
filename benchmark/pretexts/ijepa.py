"""I-JEPA: predict a teacher's features of hidden blocks from a context block (Assran et al., arXiv 2301.08243; 3).

The target encoder, a moving average of the context encoder, sees the whole image; its layer-normed outputs at four
target blocks are predicted, one block at a time, from the context tokens. No cls token.
Where we differ: fixed masks (`masks.multiblock`: inclusive positions, independent scale and aspect, a context of
constant size, so that the task does not depend on the batch per process); batch, learning rate and the teacher's
horizon follow `parts/rules.py`, the predictor is scaled to the encoder's size; the modality's photometric policy
and flips are applied, as to all pretexts. Rising weight decay and a momentum that rises to 1 are the method's own.
The arm `official` keeps the authors' masks with their quirks, crops without flips or photometric change, predictor,
initial deviations and schedules. What differs still: contexts are cut to the smallest of the global batch, not of
each process, so that one process equals two; the batch is 256 (64 for the smallest encoder) instead of 2048, which
would leave few steps and smaller contexts than theirs; min_keep is scaled on grids under 14 x 14; predictors of
encoders narrower than 192 keep ViT-Ti's proportions (twice the width, half the depth); the encoder's initial weights
and the corpus' normalisation are those of all pretexts; schedules are read in the middle of a step; no decay on the
mask token.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmark.encoders.encoder import Encoder, gather
from benchmark.parts import augment, masks, rules, schedules
from benchmark.parts import flops as count
from benchmark.parts.draws import Draws
from benchmark.parts.mask_sizes import (
    REDRAWS,
    check_context,
    check_min_keep,
    mean_published_context,
    mean_target_tokens,
)
from benchmark.parts.memory import Held, trunk
from benchmark.parts.nets import Predictor, follow, frozen_copy
from benchmark.pretexts._base import Pretext, Step
from benchmark.recipe import EncoderSpec, Optim

VERSION = 3
CLS = False  # the cls token stays out of the blocks
NATIVE = "patches"
QUERY = "patches"  # whose attention the maps show: there is no trained cls token


@dataclass(frozen=True, kw_only=True)
class Settings(Optim):
    official: bool = False  # the authors' masks, initialisation and crops without flips or photometric change
    context_tokens: float  # constant size of the context; with official masks, what is expected of the batch's smallest
    min_keep: int = 0  # tokens that every block of official masks exceeds
    targets: int = 4  # target blocks per image
    target_scale: tuple[float, float] = (0.15, 0.2)  # share of the grid
    target_aspect: tuple[float, float] = (0.75, 1.5)
    context_scale: tuple[float, float] = (0.85, 1.0)
    predictor_width: int
    predictor_depth: int
    predictor_heads: int
    horizon: float | None = None  # share of the steps that the target encoder averages over; None: as momentum says
    momentum: float | None = None  # of the target encoder at the start; linear to 1; with a horizon it follows from it
    crop: tuple[float, float] = (0.3, 1.0)  # area share of the random resized crop


def settings(encoder: EncoderSpec) -> Settings:
    """The recommended settings for an encoder: `rules`, the paper's values, or trials' for the smallest size."""
    small = encoder.width < rules.SMALL
    return Settings(
        **rules.optimisation(encoder),
        weight_decay=0.04,
        end_weight_decay=0.4,
        context_tokens=round(encoder.grid**2 * (0.375 if small else 0.25)),
        predictor_width=64 if small else 192 if encoder.width < 384 else 384,
        predictor_depth=2 if small else 6,
        predictor_heads=2 if small else encoder.heads,
        horizon=rules.HORIZON,
        crop=(0.6, 1.0) if small else (0.3, 1.0),
    )


def official(encoder: EncoderSpec) -> Settings:
    """The authors' settings, but for the batch: "for smaller batches first keep the other values" (their advice)."""
    batch, min_keep = 64 if encoder.width < 192 else 256, min(10, 10 * encoder.grid**2 // 14**2)
    return Settings(
        official=True,
        batch=batch,
        lr=1e-3,
        start_lr=2e-4,
        end_lr=1e-6,
        warmup=40 / 300,
        weight_decay=0.04,
        end_weight_decay=0.4,
        context_tokens=mean_published_context(encoder.grid, batch, min_keep),
        min_keep=min_keep,
        predictor_width=min(384, 2 * encoder.width),
        predictor_depth=encoder.depth // 2,
        predictor_heads=encoder.heads,
        momentum=0.996,
    )


ARMS = {"official": official}


def flops(s: Settings, e: EncoderSpec) -> float:
    """Training FLOPs per image. The size of target blocks is drawn per batch and its mean counted, as is that of
    official contexts: what a run realises is this expectation, not a count of its tokens."""
    hidden = mean_target_tokens(e.grid, s.target_scale, s.target_aspect, published=s.official)
    predict = (
        count.linear(s.context_tokens, e.width, s.predictor_width)
        + s.targets * count.blocks(s.context_tokens + hidden, s.predictor_width, s.predictor_depth)
        + s.targets * count.linear(hidden, s.predictor_width, e.width)
    )
    return count.encode(e) + 3 * (count.encode(e, tokens=s.context_tokens) + predict)


def memory(s: Settings, e: EncoderSpec) -> Held:
    hidden = mean_target_tokens(e.grid, s.target_scale, s.target_aspect)
    predict = s.targets * (s.context_tokens + hidden) * s.predictor_width * s.predictor_depth
    return Held(
        trained=trunk(e) + 12 * s.predictor_depth * s.predictor_width**2,
        frozen=trunk(e),
        blocks=s.context_tokens * e.width * e.depth + predict,
        rows=3 * s.targets * hidden * e.width,
    )


class Model(Pretext):
    separable = True

    def __init__(self, settings: Settings, encoder: Encoder, modality: str, seed: int):
        super().__init__(settings, encoder, modality)
        s, width, grid = settings, encoder.spec.width, encoder.spec.grid
        if s.official:
            check_min_keep(grid, s.min_keep, s.target_scale, s.target_aspect, s.context_scale)
        else:
            check_context(grid, s.context_tokens, s.target_scale, s.context_scale)
        self.crops = augment.Crops(
            purpose="ijepa",
            pixels=encoder.spec.pixels,
            scale=s.crop,
            orientations="none" if s.official else modality,
            policy=None if s.official else augment.policy(modality),
        )
        self.teacher = frozen_copy(encoder, lambda: Encoder(encoder.spec, seed=0))
        shape = s.predictor_width, s.predictor_depth, s.predictor_heads
        self.predictor = Predictor(grid, width, width, *shape, seed=seed)
        if s.official:
            generator = torch.Generator().manual_seed(seed)
            for layer in self.predictor.modules():
                if isinstance(layer, nn.Linear):
                    nn.init.normal_(layer.weight, std=0.02, generator=generator)

    def draw(self, draws: Draws) -> dict[str, np.ndarray]:
        return self.crops.draw(draws) | self.mask(draws)._asdict()

    def mask(self, draws: Draws) -> masks.BlockMask:
        """Official masks are drawn for the global batch on every rank, since they depend on its smallest context."""
        s, grid = self.settings, self.spec.grid
        blocks = {"target_scale": s.target_scale, "target_aspect": s.target_aspect, "context_scale": s.context_scale}
        blocks |= {"grid": grid, "targets": s.targets}
        if not s.official:
            return masks.draw_multiblock(draws, "ijepa", context=s.context_tokens, **blocks)
        sizes, attempts = draws.batch_uniform("ijepa/sizes", 3)[:2], s.targets + REDRAWS * (s.targets + 1)
        corners = draws.batch_uniform("ijepa/corners", draws.total, attempts, 2)
        every = masks.published_multiblock(sizes, corners, min_keep=s.min_keep, **blocks)
        return masks.BlockMask(*(part[draws.start :][: len(draws)] for part in every))

    def views(self, images: Tensor, drawn: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"images": self.crops(images, drawn), "context": drawn["context"], "targets": drawn["targets"]}

    @torch.no_grad()
    def targets(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The teacher's features of whole images, (B, N, D), and the same layer-normed: what is predicted."""
        full = self.teacher(images).patches.float()
        return full, F.layer_norm(full, full.shape[-1:])

    def forward(self, views: dict[str, Tensor], progress: float) -> Step:
        blocks = views["targets"]
        full, normed = self.targets(views["images"])
        target = gather(normed, blocks.flatten(1)).reshape(-1, blocks.shape[2], full.shape[-1])
        context = self.student(views["images"], keep=views["context"]).patches
        predicted = self.predictor(context, views["context"], blocks).float()
        loss = F.smooth_l1_loss(predicted, target)
        parts = {"loss": loss.detach(), "trivial loss": F.smooth_l1_loss(torch.zeros_like(target), target)}
        means = {"target": normed.mean(dim=0), "square": normed.square().mean(dim=0)}
        return Step(loss, parts, full.mean(dim=1), means)

    def figures(self, means: dict[str, Tensor]) -> dict[str, float]:
        """How much of the variance of a target feature, over images and positions, is between images at a position."""
        target, square = means["target"].double(), means["square"].double()  # (N, D)
        between = (square - target.square()).mean()
        total = (square.mean(dim=0) - target.mean(dim=0).square()).mean()
        return {"between-image share of target variance": float(between / total)}

    def after_step(self, progress: float) -> None:
        follow(self.teacher, self.student, schedules.linear(progress, start=self.settings.momentum, end=1.0))
