"""Parity: our numbers beside figures of the authors' code, and beside code of timm and lightly executed here.

`python -m tests.parity` prints docs/tables/parity.csv. Every function of a module's COMPARISONS returns rows.
Inputs are `det` or seeded, weights are copied. lightly is imported where it is needed: it is a development dependency.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import timm
import torch
from torch import Tensor, nn

from benchmark import registry
from benchmark.encoders.encoder import Encoder, sincos
from benchmark.parts.draws import Draws, text_keys
from benchmark.recipe import EncoderSpec
from benchmark.training import optimise

NANO = EncoderSpec(width=64, depth=2, heads=2, patch=8, pixels=32)
AUTHORS = "authors' code"


class Row(NamedTuple):
    what: str
    reference: str
    ours: str
    theirs: str
    difference: float  # largest, absolute
    tolerance: float


def published(what: str, figures: float | Sequence[float], found: object, tolerance: float, of: str = AUTHORS) -> Row:
    """One figure, or several of a kind, as they were measured once on the code of `of`."""
    theirs = np.atleast_1d(np.asarray(figures, dtype=np.float64))
    ours = np.atleast_1d(np.asarray(found, dtype=np.float64))
    assert ours.shape == theirs.shape, what
    told = [" ".join(f"{value:.10g}" for value in values[:5]) + " …" * (len(values) > 5) for values in (ours, theirs)]
    return Row(what, of, *told, float(np.abs(ours - theirs).max()), tolerance)


def executed(what: str, reference: str, theirs: Tensor, ours: Tensor, tolerance: float) -> Row:
    """A tensor of a reference implementation, from the same inputs and weights."""
    assert ours.shape == theirs.shape, what
    difference = float((ours - theirs).abs().max())
    if theirs.ndim == 0:
        return Row(what, reference, f"{ours.item():.8g}", f"{theirs.item():.8g}", difference, tolerance)
    shape = "tensor " + " × ".join(map(str, theirs.shape))
    return Row(what, reference, shape, shape, difference, tolerance)


def det(shape: tuple[int, ...], a: float, b: float) -> Tensor:
    """sin(a·k + b) for k = 0, 1, ... in float64, row by row."""
    return torch.sin(a * torch.arange(math.prod(shape), dtype=torch.float64) + b).reshape(shape)


def pictures(count: int, pixels: int, seed: int = 0) -> Tensor:
    """(count, 3, pixels, pixels) uniform in [0, 1]."""
    return torch.rand(count, 3, pixels, pixels, generator=torch.Generator().manual_seed(seed))


def noise(count: int, pixels: int) -> Tensor:
    """(count, pixels, pixels, 3) uint8, as stores hold them."""
    shape = count, pixels, pixels, 3
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def drawn(start: int = 0, size: int = 8, total: int = 8) -> Draws:
    """Draws of `size` samples from `start` on, out of a global batch of `total`."""
    return Draws(text_keys([f"s{i}" for i in range(start, start + size)]), text_keys(["step"]), start, total)


def shake(model: nn.Module, seed: int = 1) -> None:
    """Student unlike teacher, as in the middle of training."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in model.parameters():
            if value.requires_grad:
                value += 0.05 * torch.randn(value.shape, generator=generator)


def parameters(module: nn.Module) -> int:
    """How many are trained."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


def rates(arm: str, spec: EncoderSpec, batch: int, shares: Sequence[float]) -> tuple[list[float], list[float]]:
    """Learning rates and weight decays that the training loop sets at shares of a run of the authors' batch."""
    s = registry.settings(arm, spec)
    larger = (batch / s.batch) ** {"mae": 1.0, "ijepa": 0.0, "dinov3": 0.5}[arm.partition(":")[0]]
    optimiser = torch.optim.AdamW([{"params": [torch.zeros(1)], "rate": None, "decays": True}])
    even = SimpleNamespace(lr_scale=lambda group, progress: 1.0, settings=replace(s, lr=s.lr * larger))
    found = [optimise.set_schedules(optimiser, even, share) for share in shares]
    return [row["lr"] for row in found], [row["weight decay"] for row in found]


def timm_vit(ours: Encoder) -> nn.Module:
    """timm's ViT of the encoder's size with its weights and `sincos` positions, loaded strictly."""
    spec = ours.spec
    sizes = {"embed_dim": spec.width, "depth": spec.depth, "num_heads": spec.heads}
    shape = {"img_size": spec.pixels, "patch_size": spec.patch, "num_classes": 0}
    vit = timm.create_model("vit_base_patch16_224", class_token=spec.cls, global_pool="", **sizes, **shape)
    weights = {name: value for name, value in ours.vit.state_dict().items() if spec.cls or name != "cls_token"}
    table = torch.cat([torch.zeros(int(spec.cls), spec.width), sincos(spec.grid, spec.width)])[None]
    vit.load_state_dict(weights | {"pos_embed": table}, strict=True)
    return vit.eval()
