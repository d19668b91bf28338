"""SimMIM: regress the raw pixels of hidden patches with one linear layer (Xie et al., arXiv 2111.09886; section 3).

All tokens go through the encoder. Where a random 60 % of coarse square units lie, the patch embeddings are replaced by
a mask token; a linear layer predicts the normalised pixels of the hidden patches, and the loss is their mean absolute
error. Against MAE: mask tokens in the encoder, no decoder, absolute errors of pixels that are not normalised per patch.
Where we differ: the common trunk (fixed positions, no LayerScale) instead of relative position biases, no drop-path;
the photometric policy of the modality is added to the crop and flip; gradients are clipped per sub-module; mask units,
32 pixels of 224 there, keep their share of the side, a seventh, as nearly as they can tile the grid.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmark.encoders.encoder import Encoder, gather
from benchmark.parts import augment, losses, rules
from benchmark.parts import flops as count
from benchmark.parts.draws import Draws
from benchmark.parts.nets import initialise
from benchmark.pretexts._base import Pretext, Step
from benchmark.recipe import EncoderSpec, Optim

VERSION = 2
CLS = True  # the cls token enters the blocks
NATIVE = "patches"  # the loss sees patch tokens alone; the authors only fine-tune
QUERY = "patches"  # whose attention the maps show: no loss is on the cls token
ON_REQUEST = True


@dataclass(frozen=True, kw_only=True)
class Settings(Optim):
    mask_ratio: float = 0.6
    unit: int  # patches per side of a mask unit
    crop: tuple[float, float] = (0.67, 1.0)  # area share of the random resized crop


def settings(encoder: EncoderSpec) -> Settings:
    """The authors' masks and clipping (4.1), the batch and learning rate of `rules`."""
    divisors = [unit for unit in range(1, encoder.grid + 1) if encoder.grid % unit == 0]
    unit = min(divisors, key=lambda unit: abs(unit - encoder.grid / 7))
    return Settings(**rules.optimisation(encoder), clip=5.0, unit=unit)


def hidden_tokens(s: Settings, e: EncoderSpec) -> int:
    """Hidden patches of every image. Raises ValueError unless mask units tile the grid."""
    if e.grid % s.unit:
        raise ValueError(f"mask units of {s.unit} x {s.unit} patches do not tile a grid of {e.grid} x {e.grid}")
    return math.ceil((e.grid // s.unit) ** 2 * s.mask_ratio) * s.unit**2


def flops(s: Settings, e: EncoderSpec) -> float:
    """Training FLOPs per image."""
    return 3 * (count.encode(e) + count.linear(hidden_tokens(s, e), e.width, 3 * e.patch**2))


def hidden_units(noise: np.ndarray, hidden: int, unit: int) -> np.ndarray:
    """Noise (B, U, U) over mask units -> (B, hidden) sorted patches: the units of lowest noise, unit² patches each
    (section 3.2)."""
    batch, side, _ = noise.shape
    chosen = noise.reshape(batch, -1).argsort(axis=1, kind="stable")[:, : hidden // unit**2]
    within = np.arange(unit)
    rows, columns = (place[..., None] * unit + within for place in np.divmod(chosen, side))  # (B, units, unit)
    return np.sort((rows[..., None] * side * unit + columns[..., None, :]).reshape(batch, -1), axis=1)


class Model(Pretext):
    separable = True

    def __init__(self, settings: Settings, encoder: Encoder, modality: str, seed: int):
        super().__init__(settings, encoder, modality)
        self.crops = augment.Crops.of(modality, purpose="simmim", pixels=encoder.spec.pixels, scale=settings.crop)
        self.predict = nn.Linear(encoder.spec.width, 3 * encoder.spec.patch**2)
        self.mask_token = nn.Parameter(torch.zeros(encoder.spec.width))
        initialise(self.predict, seed)
        nn.init.normal_(self.mask_token, std=0.02, generator=torch.Generator().manual_seed(seed))

    def draw(self, draws: Draws) -> dict[str, np.ndarray]:
        spec, unit = self.spec, self.settings.unit
        noise = draws.uniform("simmim/mask", spec.grid // unit, spec.grid // unit)
        index = hidden_units(noise, hidden_tokens(self.settings, spec), unit)
        hidden = np.zeros((len(draws), spec.grid**2), dtype=bool)
        np.put_along_axis(hidden, index, True, axis=1)
        return self.crops.draw(draws) | {"hidden": hidden, "index": index}

    def views(self, images: Tensor, drawn: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"images": self.crops(images, drawn), "hidden": drawn["hidden"], "index": drawn["index"]}

    def forward(self, views: dict[str, Tensor], progress: float) -> Step:
        index = views["index"]
        tokens = self.student(views["images"], hidden=views["hidden"], mask_token=self.mask_token).patches
        target = gather(losses.patchify(self.student.normalise(views["images"]), self.spec.patch), index)
        loss = F.l1_loss(self.predict(gather(tokens, index)).float(), target)
        parts = {"loss": loss.detach(), "trivial loss": target.abs().mean()}
        return Step(loss, parts, tokens.mean(dim=1).detach())
