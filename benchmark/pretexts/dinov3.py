"""DINOv3: agree with a teacher across crops and at hidden patches (Siméoni et al., arXiv 2508.10104; 3).

DINO (arXiv 2104.14294) on cls tokens of two global and several local crops, iBOT (arXiv 2111.07832) on hidden patches
of half the global crops, KoLeo (arXiv 1806.03198) on the cls tokens; targets by Sinkhorn-Knopp over the global batch.
Where we differ in every arm: KoLeo and Sinkhorn-Knopp always span all processes, so that two processes equal one; no
drop-path; bilinear crops; no weight decay and no clipping of the mask token; masks are dealt over the global batch,
their blocks may span the grid, and attempts at them are counted for the mask, not for each block; rotary tables in
fp32, not bf16. Where the recommended settings also differ: the common trunk (fixed positions, no LayerScale) instead of
RoPE; no layer-wise learning-rate decay; batch, learning rate and the teacher's horizon follow `parts/rules.py`;
heads and prototypes are scaled to the encoder's size, for the smallest to as many prototypes as the batch has images,
and trials chose centring "mean" there, DINO's first: targets are a softmax of the teacher's logits less their moving
average instead of Sinkhorn-Knopp's; Xavier heads, prototypes that start at length one instead of 0.32;
the modality's label-safe photometric policy instead of ImageNet's. Rising weight decay, clipping and a momentum that
rises to 1 are the method's own.
Arms:

official  the ViT-L ImageNet-1k recipe of the authors' repository at our batch, by its square-root rule, with the blur
          probabilities that the released models were trained with. Encoders narrower than 192 keep the recommended
          heads: the full ones would cost a hundred times the encoder.
native    the recommended settings on the authors' trunk, rotary positions and LayerScale; official has it too.
dino      DINO and KoLeo without iBOT: the purely joint-embedding term.
gram      Gram anchoring over the last fifth, at full weight from its start, to a snapshot of the teacher's encoder of
          that moment, which sees the same crops (no double resolution) and is never replaced.
"""

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmark.encoders.encoder import Encoder
from benchmark.parts import augment, losses, masks, rules, schedules
from benchmark.parts import flops as count
from benchmark.parts.draws import Draws
from benchmark.parts.mask_sizes import ibot_counts
from benchmark.parts.memory import Held, trunk
from benchmark.parts.nets import follow, frozen_copy, initialise
from benchmark.pretexts._base import Pretext, Step
from benchmark.recipe import EncoderSpec, Optim
from tasks import unknown

VERSION = 3
CLS = True
NATIVE = "cls+patches"
QUERY = "cls"  # the token whose attention the maps show: the objective trains cls
GLOBALS = 2
INVERTED_BLUR = (0.0, 0.9, 0.5)  # the authors' code blurs with probability 1 - p; p is (1.0, 0.1, 0.5), as in DINO
SOLARISE = (0.0, 0.2, 0.0)
OF_TOKENS = ("index", "weights")  # among the views: of hidden tokens, not of crops
ATTEMPTS = 32  # at blocks of a mask, before it is completed at random
CENTRINGS = ("sinkhorn", "mean")
CENTRE_MOMENTUM = 0.9  # of the moving average (DINO, section 3.1 and appendix)


@dataclass(frozen=True, kw_only=True)
class Settings(Optim):
    local_crops: int
    local_pixels: int  # side of a local crop
    global_pixels: int | None = None  # side of a global crop; None: the encoder's
    global_scale: tuple[float, float] = (0.32, 1.0)
    local_scale: tuple[float, float] = (0.05, 0.32)
    prototypes: int
    head_width: int
    bottleneck: int
    horizon: float | None = None  # share of the steps that the teacher averages over; None: as momentum says
    momentum: float | None = None  # of the teacher at the start; cosine to 1; with a horizon it follows from it
    centring: str = "sinkhorn"  # or "mean"
    teacher_temperature: tuple[float, float] = (0.04, 0.07)  # linear over the first 30 % of training
    student_temperature: float = 0.1
    freeze_last_layer: float = 0.01  # share of training in which the prototypes do not move
    dino_weight: float = 1.0
    ibot_weight: float = 1.0
    koleo_weight: float = 0.1
    gram_weight: float = 0.0  # against a snapshot of the teacher taken at gram_start
    gram_start: float = 0.8  # share of training after which the Gram term counts
    layer_decay: float = 1.0  # of the learning rate, per block from the last towards the image
    patch_embed_rate: float = 1.0  # further multiplier of the patch embedding's learning rate
    head_spread: float | None = None  # deviation of the heads' first weights; None: Xavier, prototypes of length one
    imagenet_blur: tuple[float, float, float] | None = None  # ImageNet's colour policy with these probabilities on
    # global crop 1, global crop 2 and local crops; None: the modality's photometric policy

    def __post_init__(self) -> None:
        if self.centring not in CENTRINGS:
            raise unknown("centring of dinov3", self.centring, CENTRINGS)


def settings(encoder: EncoderSpec) -> Settings:
    """The recommended settings for an encoder: `rules`, the paper's values, or trials' for the smallest size."""
    common = {"weight_decay": 0.04, "end_weight_decay": 0.4, "clip": 3.0, "horizon": rules.HORIZON}
    common |= rules.optimisation(encoder)
    if encoder.width < rules.SMALL:
        return Settings(
            local_crops=4,
            local_pixels=encoder.patch * max(1, round(encoder.grid * 3 / 8)),
            global_pixels=encoder.patch * max(1, round(encoder.grid * 3 / 4)),
            prototypes=rules.batch(encoder),
            head_width=128,
            bottleneck=64,
            teacher_temperature=(0.02, 0.04),
            centring="mean",
            **common,
        )
    return Settings(
        local_crops=8,
        local_pixels=encoder.patch * max(1, round(encoder.grid * 3 / 7)),
        prototypes=8192,
        head_width=2048,
        bottleneck=256,
        **common,
    )


def official(encoder: EncoderSpec) -> Settings:
    """The authors' ViT-L recipe for ImageNet-1k (batch 2048), scaled to our batch."""
    ours = settings(encoder)
    return replace(
        ours,
        lr=4e-3 * (ours.batch / 1024) ** 0.5,
        end_lr=1e-6,
        local_crops=8,
        local_pixels=encoder.patch * max(1, round(encoder.grid * 3 / 7)),
        global_pixels=None,
        teacher_temperature=(0.04, 0.07),
        centring="sinkhorn",
        prototypes=ours.prototypes if encoder.width < rules.SMALL else 65536,
        horizon=None,
        momentum=0.992,
        layer_decay=0.9,
        patch_embed_rate=0.2,
        head_spread=0.02,
        imagenet_blur=INVERTED_BLUR,
    )


ARMS = {
    "official": official,
    "dino": lambda encoder: replace(settings(encoder), ibot_weight=0.0),
    "gram": lambda encoder: replace(settings(encoder), gram_weight=1.0),
    "native": settings,
}
TRUNKS = {"official": {"trunk": "rope"}, "native": {"trunk": "rope"}}  # arm -> what its encoder has instead


def global_grid(s: Settings, e: EncoderSpec) -> int:
    """Patches per side of a global crop."""
    return (s.global_pixels or e.pixels) // e.patch


def hidden_per_image(s: Settings, e: EncoderSpec) -> float:
    """Mean number of hidden patches per image over its two global crops: the ladder of ratios at this batch."""
    return sum(ibot_counts(GLOBALS * s.batch, global_grid(s, e) ** 2)) / s.batch if s.ibot_weight else 0.0


def flops(s: Settings, e: EncoderSpec) -> float:
    """Training FLOPs per image: student three times, teacher once; the Gram term's share of training is averaged."""
    hidden, tokens = hidden_per_image(s, e), global_grid(s, e) ** 2
    head = (
        count.linear(1, e.width, s.head_width)
        + count.linear(1, s.head_width, s.head_width)
        + count.linear(1, s.head_width, s.bottleneck)
        + count.linear(1, s.bottleneck, s.prototypes)
    )
    whole = GLOBALS * count.encode(e, patches=tokens)
    local = s.local_crops * count.encode(e, patches=(s.local_pixels // e.patch) ** 2)
    student = whole + local + head * (GLOBALS + s.local_crops + hidden)
    similarities = GLOBALS * count.linear(tokens, e.width, tokens)
    gram = (1 - s.gram_start) * (3 * similarities + similarities + whole) if s.gram_weight else 0.0
    return 3 * student + whole + head * (GLOBALS + hidden) + gram


def memory(s: Settings, e: EncoderSpec) -> Held:
    local = (s.local_pixels // e.patch) ** 2
    layers = (e.width, s.head_width, s.head_width, s.bottleneck, s.prototypes)
    model = trunk(e) + (1 + bool(s.ibot_weight)) * sum(a * b for a, b in pairwise(layers))
    heads = GLOBALS + s.local_crops + hidden_per_image(s, e)
    return Held(
        trained=model,
        frozen=model,
        blocks=(GLOBALS * (global_grid(s, e) ** 2 + 1) + s.local_crops * (local + 1)) * e.width * e.depth,
        rows=heads * (5 * s.head_width + 3 * s.bottleneck + 4 * s.prototypes),
    )


class Centre(nn.Module):
    """Teacher targets by centring: a softmax of the logits less their moving average over all processes."""

    def __init__(self, prototypes: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(prototypes))
        self.register_buffer("seen", torch.zeros(prototypes + 1), persistent=False)  # sum of logits; how many rows

    def forward(self, logits: Tensor, temperature: float) -> Tensor:
        """(M, K) -> (M, K), every row sums to 1. The average moves afterwards, by `move`."""
        with torch.autocast(logits.device.type, enabled=False):
            logits = logits.float()
            self.seen.copy_(torch.cat([logits.sum(dim=0), logits.new_full((1,), len(logits))]))
            return F.softmax((logits - self.mean) / temperature, dim=-1)

    @torch.no_grad()
    def move(self) -> None:
        """Towards the mean of the logits that the processes have just seen; where there were none, nowhere."""
        losses.add_up(self.seen)
        total, rows = self.seen[:-1], self.seen[-1].clamp(min=1)
        self.mean.lerp_(total / rows, (1 - CENTRE_MOMENTUM) * self.seen[-1].clamp(max=1))


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
        spread = settings.head_spread or settings.bottleneck**-0.5  # prototypes of length one, as DINO's weight norm
        generator = torch.Generator().manual_seed(seed)
        nn.init.normal_(self.last_layer.weight, std=spread, generator=generator)
        if settings.head_spread:
            for layer in self.mlp[::2]:
                nn.init.normal_(layer.weight, std=spread, generator=generator)

    def forward(self, x: Tensor) -> Tensor:
        return self.last_layer(F.normalize(self.mlp(x), dim=-1, eps=1e-6))


def crops(s: Settings, e: EncoderSpec, modality: str) -> tuple[augment.Crops, augment.Crops]:
    """The global and the local crops."""
    policies, turns = [augment.policy(modality)] * 2, modality
    if s.imagenet_blur is not None:
        *whole, local = zip(s.imagenet_blur, SOLARISE, strict=True)
        pairs = zip(*whole, strict=True), zip(*[local] * s.local_crops, strict=True)
        policies = [augment.Imagenet(blur=blur, solarise=solarise) for blur, solarise in pairs]
        turns = "ultrasound"  # left-right, and nothing else
    kinds = (
        {"purpose": "globals", "count": GLOBALS, "pixels": s.global_pixels or e.pixels, "scale": s.global_scale},
        {"purpose": "locals", "count": s.local_crops, "pixels": s.local_pixels, "scale": s.local_scale},
    )
    pairs = zip(kinds, policies, strict=True)
    return tuple(augment.Crops(**kind, orientations=turns, policy=policy) for kind, policy in pairs)


class Model(Pretext):
    def __init__(self, settings: Settings, encoder: Encoder, modality: str, seed: int):
        super().__init__(settings, encoder, modality)
        width = encoder.spec.width
        self.whole, self.local = crops(settings, encoder.spec, modality)
        self.dino_head = Head(settings, width, seed)
        self.ibot_head = Head(settings, width, seed + 1) if settings.ibot_weight else None
        self.mask_token = nn.Parameter(torch.zeros(width)) if settings.ibot_weight else None
        self.teacher = frozen_copy(encoder, lambda: Encoder(encoder.spec, seed=0))
        self.teacher_dino_head = frozen_copy(self.dino_head, lambda: Head(settings, width, seed=0))
        if settings.ibot_weight:
            self.teacher_ibot_head = frozen_copy(self.ibot_head, lambda: Head(settings, width, seed=0))
        if settings.centring == "mean":
            self.dino_centre = Centre(settings.prototypes)
            self.ibot_centre = Centre(settings.prototypes) if settings.ibot_weight else None
        if settings.gram_weight:
            self.gram_teacher = frozen_copy(encoder, lambda: Encoder(encoder.spec, seed=0))

    def rate_group(self, name: str) -> tuple[bool, float]:
        """(is of the prototypes, which are frozen at first; constant multiplier). The encoder's rate decays with the
        layers above: none for the final norm, all and one more for the embeddings."""
        s, depth, parts = self.settings, self.spec.depth, name.split(".")
        below = 0
        if "blocks" in parts:
            below = depth - int(parts[parts.index("blocks") + 1])
        elif "patch_embed" in parts or parts[-1] in ("cls_token", "reg_token", "mask_token"):
            below = depth + 1
        return "last_layer" in parts, s.layer_decay**below * (s.patch_embed_rate if "patch_embed" in parts else 1.0)

    def lr_scale(self, group: tuple[bool, float], progress: float) -> float:
        prototypes, scale = group
        return 0.0 if prototypes and progress < self.settings.freeze_last_layer else scale

    def resting(self, progress: float) -> tuple[str, ...]:
        return ("gram_teacher",) if self.settings.gram_weight and progress >= self.settings.gram_start else ()

    def draw(self, draws: Draws) -> dict[str, np.ndarray]:
        drawn = self.whole.draw(draws) | self.local.draw(draws)
        return drawn | self.hide(draws) if self.settings.ibot_weight else drawn

    def hide(self, draws: Draws) -> dict[str, np.ndarray]:
        """Patches hidden from the student: (2·B, N) bool; their places (M,) among the 2·B·N tokens, row by row; and
        iBOT's weights (M,), one over the hidden tokens of the crop. Which crops are masked, and how much, is dealt over
        the global batch; where, is drawn per sample."""
        grid, crops = global_grid(self.settings, self.spec), GLOBALS * draws.total
        counts = ibot_counts(crops, grid**2)
        dealt = np.zeros(crops, dtype=int)
        dealt[np.argsort(draws.batch_uniform("dinov3/ladder", crops), kind="stable")[: len(counts)]] = counts
        dealt = dealt.reshape(GLOBALS, draws.total)[:, draws.start : draws.start + len(draws)].reshape(-1)
        blocks, order = (
            draws.uniform(f"dinov3/{purpose}", GLOBALS, *shape).swapaxes(0, 1).reshape(len(dealt), *shape)
            for purpose, shape in (("mask", (ATTEMPTS, 4)), ("mask order", (grid**2,)))
        )
        hidden = masks.blockwise(grid, dealt, blocks, order)
        index = np.flatnonzero(hidden)
        return {"hidden": hidden, "index": index, "weights": np.float32(1 / dealt[index // grid**2])}

    def views(self, images: Tensor, drawn: dict[str, Tensor]) -> dict[str, Tensor]:
        views = {"globals": self.whole(images, drawn), "locals": self.local(images, drawn)}
        masked = ("hidden", *OF_TOKENS) if self.settings.ibot_weight else ()
        return views | {name: drawn[name] for name in masked}

    def assign(self, term: str, logits: Tensor, temperature: float) -> Tensor:
        """Targets (M, K) of the "dino" or "ibot" term from the teacher's logits."""
        if self.settings.centring == "mean":
            return self.get_submodule(f"{term}_centre")(logits, temperature)
        return losses.sinkhorn_knopp(logits, temperature)

    def forward(self, views: dict[str, Tensor], progress: float) -> Step:
        s, hidden = self.settings, views.get("hidden")
        crops = len(views["globals"])
        images = crops // GLOBALS
        temperature = schedules.linear(
            progress, start=s.teacher_temperature[0], end=s.teacher_temperature[1], until=0.3
        )

        with torch.no_grad():
            seen = self.teacher(views["globals"])
            logits = self.teacher_dino_head(seen.cls)
            targets = self.assign("dino", logits, temperature).reshape(GLOBALS, images, -1)

        student_views = (
            self.student.sequence(views["globals"], hidden=hidden, mask_token=self.mask_token),
            self.student.sequence(views["locals"]),
        )
        whole, local = self.student.run(student_views)
        student = self.dino_head(torch.cat([whole.cls, local.cls])).reshape(-1, images, s.prototypes)
        dino = losses.dino(student, targets, GLOBALS, s.student_temperature)
        koleo = torch.stack([losses.koleo(cls) for cls in whole.cls.chunk(GLOBALS)]).sum()
        loss = s.dino_weight * dino + s.koleo_weight * koleo
        entropy = -(targets * targets.clamp(min=1e-12).log()).sum(-1).mean()
        uniform = torch.full_like(dino, np.log(s.prototypes)).detach()  # cross-entropy of a student that knows nothing
        parts = {
            "dino": dino.detach(),
            "trivial dino": uniform,
            "koleo": koleo.detach(),
            "teacher entropy / ln K": entropy / uniform,
        }

        if s.ibot_weight:
            with torch.no_grad():
                answers = self.teacher_ibot_head(seen.patches.flatten(0, 1).index_select(0, views["index"]))
                answers = self.assign("ibot", answers, temperature)
            weights = views["weights"]
            guesses = self.ibot_head(whole.patches.flatten(0, 1).index_select(0, views["index"]))
            ibot = losses.ibot(guesses, answers, weights, crops, s.student_temperature)
            loss = loss + s.ibot_weight * ibot
            parts |= {"ibot": ibot.detach(), "trivial ibot": uniform * weights.sum() / crops}
        if s.gram_weight and progress >= s.gram_start:
            with torch.no_grad():
                anchor = self.gram_teacher(views["globals"]).patches
            gram = losses.gram(whole.patches, anchor)
            loss = loss + s.gram_weight * gram
            parts["gram"] = gram.detach()
        parts["loss"] = loss.detach()
        return Step(loss, parts, seen.patches.float().mean(dim=1)[:images])

    def after_step(self, progress: float) -> None:
        s = self.settings
        momentum = schedules.cosine(progress, start=s.momentum, end=1.0)
        follow(self.teacher, self.student, momentum)
        follow(self.teacher_dino_head, self.dino_head, momentum)
        if s.ibot_weight:
            follow(self.teacher_ibot_head, self.ibot_head, momentum)
        for centre in (module for module in self.children() if isinstance(module, Centre)):
            centre.move()
        if s.gram_weight and progress < s.gram_start:
            follow(self.gram_teacher, self.teacher, 0.0)
