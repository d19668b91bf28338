"""The rules that recommended settings follow: one for every pretext and every size, so that a difference between
pretexts is one of objective. Arms called "official" keep what their authors chose.

A pretext keeps what is part of its method: weight decay (MAE: constant; I-JEPA, DINOv3: rising), betas, clipping, and
the shape of its teacher's momentum. Shares are of the optimiser steps of the run."""

from dataclasses import replace
from typing import TypeVar

from benchmark.recipe import EncoderSpec, Optim

SMALL = 192  # width of ViT-Ti; narrower encoders get small batches, so that small budgets pay for enough steps
HORIZON = 0.1  # share of the steps that a teacher averages over at first
FEWEST = 10  # steps that a teacher averages over at least, however short the run

Settings = TypeVar("Settings", bound=Optim)


def batch(encoder: EncoderSpec) -> int:
    """Images per optimiser step."""
    return 64 if encoder.width < SMALL else 256


def rate(batch: int, encoder: EncoderSpec) -> float:
    """Peak learning rate: the square root of the batch, over the square root of the width."""
    return 1e-3 * (batch / 64) ** 0.5 * (128 / encoder.width) ** 0.5


def optimisation(encoder: EncoderSpec) -> dict[str, float]:
    """Batch, peak, warm-up and ends of the learning rate: fields of `Optim`."""
    size = batch(encoder)
    return {"batch": size, "lr": rate(size, encoder), "start_lr": 0.0, "end_lr": 0.0, "warmup": 0.1}


def momentum(horizon: float, steps: int) -> float:
    """A teacher's momentum m at the start, such that 1 / (1 - m), the number of students it averages over, is that
    share of the steps. Raises ValueError for a share that is none."""
    if not 0 < horizon <= 1:
        raise ValueError(f"horizon={horizon}: a share of the optimiser steps, above 0 and at most 1")
    return 1 - 1 / max(FEWEST, horizon * steps)


def resolve(settings: Settings, steps: int) -> Settings:
    """The settings for a run of so many steps: a teacher's momentum follows from its horizon, where it has one."""
    horizon = getattr(settings, "horizon", None)
    return settings if horizon is None else replace(settings, momentum=momentum(horizon, steps))
