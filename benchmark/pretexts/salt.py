"""SALT: predict the features of a frozen teacher that learnt from pixels (Li et al., arXiv 2509.24317; as for medical
images in US-JEPA, Radhachandran et al., arXiv 2602.19322).

Stage one, a share of the steps: the teacher reconstructs the pixels of all patches outside a context block, normalised
per patch. Stage two: the teacher stays as it is, and the student predicts its layer-normed features of four target
blocks, as in I-JEPA but with no moving average, and so nothing that could collapse. The same masks serve both stages.
One budget pays for both. Probes read the student, which has not moved before stage two.
Loss of stage two: smooth L1 as in US-JEPA and I-JEPA (SALT: L1). Where we differ from both: images, not videos; the
teacher has the student's size and initial weights and the same corpus (US-JEPA takes a published one); masks are
`masks.multiblock`; batch and learning rate follow `benchmark/parts/rules.py`; decay and share have not been tuned here.
"""

from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmark.encoders.encoder import Encoder, gather
from benchmark.parts import augment, losses, masks, rules, schedules
from benchmark.parts import flops as count
from benchmark.parts.draws import Draws
from benchmark.parts.mask_sizes import check_context, mean_target_tokens
from benchmark.parts.nets import Predictor
from benchmark.pretexts._base import Pretext, Step
from benchmark.recipe import EncoderSpec, Optim

VERSION = 2
ON_REQUEST = True
CLS = False  # the cls token stays out of the blocks
NATIVE = "patches"
QUERY = "patches"  # whose attention the maps show: there is no trained cls token
STAGE_ONE = ("pixel_teacher", "decoder")  # the sub-modules that are trained in it


@dataclass(frozen=True, kw_only=True)
class Settings(Optim):
    teacher_share: float = 1 / 3  # of the steps; each stage has its own warm-up and cosine
    context_tokens: int  # constant size of the context
    targets: int = 4  # target blocks per image
    target_scale: tuple[float, float] = (0.15, 0.2)  # share of the grid
    target_aspect: tuple[float, float] = (0.75, 1.5)
    context_scale: tuple[float, float] = (0.85, 1.0)
    variance_floor: float = 1.2e-3  # of the per-patch normalisation, in normalised intensity squared
    predictor_width: int  # of the teacher's decoder too, as are depth and heads
    predictor_depth: int
    predictor_heads: int
    crop: tuple[float, float] = (0.3, 1.0)  # area share of the random resized crop


def settings(encoder: EncoderSpec) -> Settings:
    """Contexts and predictors of I-JEPA. beta2 of MAE: AdamW's state, which stays zero while a stage rests, is then
    forgotten within the warm-up."""
    small = encoder.width < rules.SMALL
    return Settings(
        **rules.optimisation(encoder),
        beta2=0.95,
        context_tokens=round(encoder.grid**2 * (0.375 if small else 0.25)),
        predictor_width=64 if small else 192 if encoder.width < 384 else 384,
        predictor_depth=2 if small else 6,
        predictor_heads=2 if small else encoder.heads,
    )


def stage_flops(s: Settings, e: EncoderSpec) -> tuple[float, float]:
    """Training FLOPs per image in stage one and in stage two; of target blocks, the mean size is counted."""
    tokens, context, width = e.grid**2, s.context_tokens, s.predictor_width
    hidden = mean_target_tokens(e.grid, s.target_scale, s.target_aspect)
    seen = count.encode(e, tokens=context) + count.linear(context, e.width, width)
    pixels = count.blocks(tokens, width, s.predictor_depth) + count.linear(tokens - context, width, 3 * e.patch**2)
    features = count.blocks(context + hidden, width, s.predictor_depth) + count.linear(hidden, width, e.width)
    return 3 * (seen + pixels), count.encode(e) + 3 * (seen + s.targets * features)


def flops(s: Settings, e: EncoderSpec) -> float:
    """Training FLOPs per image, the mean over both stages."""
    one, two = stage_flops(s, e)
    return s.teacher_share * one + (1 - s.teacher_share) * two


class Model(Pretext):
    separable = True

    def __init__(self, settings: Settings, encoder: Encoder, modality: str, seed: int):
        super().__init__(settings, encoder, modality)
        s, width, grid = settings, encoder.spec.width, encoder.spec.grid
        check_context(grid, s.context_tokens, s.target_scale, s.context_scale)
        self.crops = augment.Crops.of(modality, purpose="salt", pixels=encoder.spec.pixels, scale=s.crop)
        self.pixel_teacher = deepcopy(encoder)
        shape = s.predictor_width, s.predictor_depth, s.predictor_heads
        self.predictor = Predictor(grid, width, width, *shape, seed=seed)
        self.decoder = Predictor(grid, width, 3 * encoder.spec.patch**2, *shape, seed=seed + 1)

    def draw(self, draws: Draws) -> dict[str, np.ndarray]:
        s, grid = self.settings, self.spec.grid
        mask = masks.draw_multiblock(
            draws,
            "salt",
            grid=grid,
            targets=s.targets,
            context=s.context_tokens,
            target_scale=s.target_scale,
            target_aspect=s.target_aspect,
            context_scale=s.context_scale,
        )
        seen = np.zeros((len(draws), grid**2), dtype=bool)
        np.put_along_axis(seen, mask.context, True, axis=1)
        outside = seen.argsort(axis=1, kind="stable")[:, : -s.context_tokens]
        return self.crops.draw(draws) | mask._asdict() | {"outside": outside}

    def views(self, images: Tensor, drawn: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"images": self.crops(images, drawn)} | {n: drawn[n] for n in ("context", "targets", "outside")}

    def predict_pixels(self, views: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Stage one: prediction and target of the pixels outside the context, and features of the context."""
        outside = views["outside"]
        context = self.pixel_teacher(views["images"], keep=views["context"]).patches
        predicted = self.decoder(context, views["context"], outside[:, None]).float()
        patches = losses.patchify(self.student.normalise(views["images"]), self.spec.patch)
        target = losses.normalise_patches(gather(patches, outside), self.settings.variance_floor)
        return predicted, target, context.detach()

    def imitate(self, views: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Stage two: prediction and target of the teacher's features in target blocks, and the student's features."""
        blocks = views["targets"]
        with torch.no_grad():
            full = self.pixel_teacher(views["images"]).patches.float()
        normed = F.layer_norm(full, full.shape[-1:])
        target = gather(normed, blocks.flatten(1)).reshape(-1, blocks.shape[2], full.shape[-1])
        context = self.student(views["images"], keep=views["context"]).patches
        return self.predictor(context, views["context"], blocks).float(), target, context.detach()

    def forward(self, views: dict[str, Tensor], progress: float) -> Step:
        first = progress < self.settings.teacher_share
        predicted, target, features = self.predict_pixels(views) if first else self.imitate(views)
        distance = F.mse_loss if first else F.smooth_l1_loss
        loss = distance(predicted, target)
        parts = {"loss": loss.detach(), "trivial loss": distance(torch.zeros_like(target), target)}
        idle = [p.sum() for name in self.resting(progress) for p in getattr(self, name).parameters() if p.requires_grad]
        return Step(loss + 0.0 * torch.stack(idle).sum(), parts, features.float().mean(dim=1))

    def resting(self, progress: float) -> tuple[str, ...]:
        first = progress < self.settings.teacher_share
        return ("student", "predictor") if first else STAGE_ONE

    def rate_group(self, name: str) -> bool:
        """Whether it is trained in the first stage."""
        return name.partition(".")[0] in STAGE_ONE

    def lr_scale(self, group: bool, progress: float) -> float:
        """Zero while the parameter rests, so that neither AdamW nor weight decay moves it; else its stage's own warm-up
        and cosine over those of the whole training."""
        if group != (progress < self.settings.teacher_share):
            return 0.0
        s, share = self.settings, self.settings.teacher_share
        within = progress / share if progress < share else (progress - share) / (1 - share)
        shape = {"peak": s.lr, "warmup": s.warmup, "start": s.start_lr, "end": s.end_lr}
        return schedules.warmup_cosine(within, **shape) / schedules.warmup_cosine(progress, **shape)
