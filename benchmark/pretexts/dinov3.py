"""DINOv3: agree with a teacher across crops and at hidden patches (Siméoni et al., arXiv 2508.10104; 3).

DINO (arXiv 2104.14294) on cls tokens of two global and several local crops, iBOT (arXiv 2111.07832) on hidden patches
of half the global crops, KoLeo (arXiv 1806.03198) on the cls tokens; targets by Sinkhorn-Knopp over the global batch.
Where we differ: KoLeo and Sinkhorn-Knopp always span all processes, so that two processes equal one; the common
trunk (fixed positions, no registers, no LayerScale) instead of RoPE; no layer-wise learning-rate decay; heads,
prototypes and momentum are scaled to the encoder's size; prototypes start at length one, not 0.32; the modality's
label-safe photometric policy instead of colour distortion, and no solarisation. Gram anchoring is a late arm, off by
default (weight 0).
"""

from dataclasses import dataclass

from benchmark import flops as count
from benchmark.mask_sizes import ibot_counts
from benchmark.recipe import EncoderSpec, Optim

VERSION = 1
CLS = True
NATIVE = "cls+patches"
GLOBALS = 2


@dataclass(frozen=True, kw_only=True)
class Settings(Optim):
    local_crops: int
    local_pixels: int  # side of a local crop
    global_scale: tuple[float, float] = (0.32, 1.0)
    local_scale: tuple[float, float] = (0.05, 0.32)
    prototypes: int
    head_width: int
    bottleneck: int
    momentum: float  # of the teacher at the start; cosine to 1
    teacher_temperature: tuple[float, float] = (0.04, 0.07)  # linear over the first 30 % of training
    student_temperature: float = 0.1
    freeze_last_layer: float = 0.01  # share of training in which the prototypes do not move
    dino_weight: float = 1.0
    ibot_weight: float = 1.0
    koleo_weight: float = 0.1
    gram_weight: float = 0.0  # against the teacher's tokens of the same crops
    gram_start: float = 0.8  # share of training after which the Gram term counts


def settings(encoder: EncoderSpec) -> Settings:
    """The recommended settings for an encoder: square-root rate rule, or what trials found for the smallest."""
    common = {"weight_decay": 0.04, "end_weight_decay": 0.4, "end_lr": 1e-6, "clip": 3.0}
    if encoder.width < 192:
        return Settings(
            batch=32,
            lr=1e-3,
            local_crops=4,
            local_pixels=encoder.pixels // 2,
            prototypes=256,
            head_width=128,
            bottleneck=64,
            momentum=0.98,
            **common,
        )
    return Settings(
        batch=256,
        lr=2e-3,
        local_crops=8,
        local_pixels=encoder.patch * max(1, round(encoder.grid * 3 / 7)),
        prototypes=8192,
        head_width=2048,
        bottleneck=256,
        momentum=0.996,
        **common,
    )


def hidden_per_image(s: Settings, e: EncoderSpec) -> float:
    """Mean number of hidden patches per image over its two global crops: the ladder of ratios at this batch."""
    return sum(ibot_counts(GLOBALS * s.batch, e.grid**2)) / s.batch if s.ibot_weight else 0.0


def flops(s: Settings, e: EncoderSpec) -> float:
    """Training FLOPs per image: student three times, teacher once."""
    hidden = hidden_per_image(s, e)
    head = (
        count.linear(1, e.width, s.head_width)
        + count.linear(1, s.head_width, s.head_width)
        + count.linear(1, s.head_width, s.bottleneck)
        + count.linear(1, s.bottleneck, s.prototypes)
    )
    whole = GLOBALS * count.encode(e)
    local = s.local_crops * count.encode(e, patches=(s.local_pixels // e.patch) ** 2)
    return 3 * (whole + local + head * (GLOBALS + s.local_crops + hidden)) + whole + head * (GLOBALS + hidden)


import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmark import augment, losses, masks, schedules
from benchmark.draws import Draws
from benchmark.encoder import Encoder
from benchmark.pretexts._base import Pretext, Step, follow, frozen_copy, initialise


class Head(nn.Module):
    """Three-layer MLP, L2 normalisation, bias-free linear to prototypes. (M, D) -> (M, K)."""

    def __init__(self, settings: Settings, width: int, seed: int):
        super().__init__()
        hidden = settings.head_width
        self.mlp = nn.Sequential(
            nn.Linear(width, hidden),
            nn.GELU(),
            nn.Linear(hidden, hidden),
            nn.GELU(),
            nn.Linear(hidden, settings.bottleneck),
        )
        self.last_layer = nn.Linear(settings.bottleneck, settings.prototypes, bias=False)
        initialise(self.mlp, seed)
        spread = settings.bottleneck**-0.5  # prototypes of length one, as DINO's weight-normed layer has
        nn.init.normal_(self.last_layer.weight, std=spread, generator=torch.Generator().manual_seed(seed))

    def forward(self, x: Tensor) -> Tensor:
        return self.last_layer(F.normalize(self.mlp(x), dim=-1, eps=1e-6))


class Model(Pretext):
    def __init__(self, settings: Settings, encoder: Encoder, modality: str, seed: int):
        super().__init__()
        self.settings, self.modality, self.spec = settings, modality, encoder.spec
        width = encoder.spec.width
        self.student = encoder
        self.dino_head, self.ibot_head = Head(settings, width, seed), Head(settings, width, seed + 1)
        self.mask_token = nn.Parameter(torch.zeros(width))
        self.teacher = frozen_copy(encoder, lambda: Encoder(encoder.spec, seed=0))
        self.teacher_dino_head = frozen_copy(self.dino_head, lambda: Head(settings, width, seed=0))
        self.teacher_ibot_head = frozen_copy(self.ibot_head, lambda: Head(settings, width, seed=0))

    @property
    def encoder(self) -> Encoder:
        return self.teacher

    def lr_scale(self, name: str, progress: float) -> float:
        return 0.0 if "last_layer" in name and progress < self.settings.freeze_last_layer else 1.0

    def views(self, images: Tensor, draws: Draws) -> dict[str, Tensor | int]:
        s = self.settings
        images = augment.to_float(images)
        whole = [
            augment.view(
                images, draws, f"global {i}", modality=self.modality, scale=s.global_scale, pixels=self.spec.pixels
            )
            for i in range(GLOBALS)
        ]
        local = [
            augment.view(
                images, draws, f"local {i}", modality=self.modality, scale=s.local_scale, pixels=s.local_pixels
            )
            for i in range(s.local_crops)
        ]
        return {"globals": torch.cat(whole), "locals": torch.cat(local), "hidden": self.hidden(draws)}

    def hidden(self, draws: Draws) -> Tensor:
        """(2·B, N) bool: patches hidden from the student. Which crops are masked, and how much, is dealt over the
        global batch; where, is drawn per sample."""
        tokens, crops = self.spec.grid**2, GLOBALS * draws.total
        counts = ibot_counts(crops, tokens) if self.settings.ibot_weight else []
        dealt = np.zeros(crops, dtype=int)
        dealt[np.argsort(draws.batch_uniform("dinov3/ladder", crops), kind="stable")[: len(counts)]] = counts
        dealt = dealt.reshape(GLOBALS, draws.total)[:, draws.start : draws.start + len(draws)]
        rows = [
            masks.blockwise(self.spec.grid, int(dealt[view, i]), rng)
            for view in range(GLOBALS)
            for i, rng in enumerate(draws.generators(f"dinov3/mask {view}"))
        ]
        return torch.from_numpy(np.stack(rows)).to(draws.device)

    def forward(self, views: dict[str, Tensor], progress: float) -> Step:
        s, hidden = self.settings, views["hidden"]
        crops = len(hidden)
        images = crops // GLOBALS
        temperature = schedules.linear(
            progress, start=s.teacher_temperature[0], end=s.teacher_temperature[1], until=0.3
        )

        with torch.no_grad():
            seen = self.teacher(views["globals"])
            logits = self.teacher_dino_head(seen.cls)
            targets = losses.sinkhorn_knopp(logits, temperature).reshape(GLOBALS, images, -1)

        whole = self.student(views["globals"], hidden=hidden, mask_token=self.mask_token)
        local = self.student(views["locals"])
        student = self.dino_head(torch.cat([whole.cls, local.cls])).reshape(-1, images, s.prototypes)
        dino = losses.dino(student, targets, GLOBALS, s.student_temperature)
        koleo = torch.stack([losses.koleo(cls) for cls in whole.cls.chunk(GLOBALS)]).sum()
        loss = s.dino_weight * dino + s.koleo_weight * koleo
        entropy = -(targets * targets.clamp(min=1e-12).log()).sum(-1).mean()
        parts = {
            "dino": dino.detach(),
            "koleo": koleo.detach(),
            "teacher entropy / ln K": entropy / np.log(s.prototypes),
        }

        if s.ibot_weight:
            with torch.no_grad():
                answers = losses.sinkhorn_knopp(self.teacher_ibot_head(seen.patches[hidden]), temperature)
            weights = (1 / hidden.sum(dim=1).clamp(min=1))[:, None].expand_as(hidden)[hidden]
            guesses = self.ibot_head(whole.patches[hidden])
            ibot = losses.ibot(guesses, answers, weights, crops, s.student_temperature)
            loss = loss + s.ibot_weight * ibot
            parts["ibot"] = ibot.detach()
        if s.gram_weight and progress >= s.gram_start:
            gram = losses.gram(whole.patches, seen.patches)
            loss = loss + s.gram_weight * gram
            parts["gram"] = gram.detach()
        parts["loss"] = loss.detach()
        return Step(loss, parts, seen.patches.float().mean(dim=1)[:images])

    def after_step(self, progress: float) -> None:
        momentum = schedules.cosine(progress, start=self.settings.momentum, end=1.0)
        follow(self.teacher, self.student, momentum)
        follow(self.teacher_dino_head, self.dino_head, momentum)
        follow(self.teacher_ibot_head, self.ibot_head, momentum)
