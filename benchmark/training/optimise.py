"""What an optimiser step is made of: the model and the groups of parameters that a recipe starts with, the schedules,
forward and backward, and clipping. Pretexts and ceilings are trained by the same."""

import math
from collections.abc import Hashable
from contextlib import nullcontext

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from benchmark import registry
from benchmark.encoders.encoder import Encoder
from benchmark.parts import schedules
from benchmark.pretexts._base import Pretext, Step
from benchmark.recipe import Recipe
from benchmark.training.data import Images


def build_encoder(recipe: Recipe, images: Images) -> Encoder:
    """The encoder that a recipe starts from: its weights depend on spec and seed alone."""
    encoder = Encoder(recipe.encoder, seed=recipe.seed)
    mean, std = images.moments()
    encoder.mean.copy_(torch.from_numpy(mean))
    encoder.std.copy_(torch.from_numpy(std))
    return encoder


def build_model(recipe: Recipe, images: Images) -> Pretext:
    """The untrained model of a recipe."""
    module, encoder = registry.load("pretexts", recipe.pretext), build_encoder(recipe, images)
    return module.Model(recipe.settings, encoder, recipe.modality, seed=recipe.seed + 10_000)


def parameter_groups(model: Pretext) -> list[dict[str, object]]:
    """The trained parameters, a group for each pair of weight decay (on everything but biases and one-dimensional
    parameters) and learning rate."""
    groups: dict[tuple[bool, Hashable], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            groups.setdefault((parameter.ndim > 1, model.rate_group(name)), []).append(parameter)
    return [{"params": params, "decays": decays, "rate": rate} for (decays, rate), params in groups.items()]


def build_optimiser(model: Pretext) -> torch.optim.AdamW:
    s = model.settings
    return torch.optim.AdamW(parameter_groups(model), lr=s.lr, betas=(0.9, s.beta2), fused=True)


def set_schedules(optimiser: torch.optim.Optimizer, model: Pretext, progress: float) -> dict[str, float]:
    """Put learning rates and weight decay at that share of training in force. Returns them, for the log."""
    s = model.settings
    lr = schedules.warmup_cosine(progress, peak=s.lr, warmup=s.warmup, start=s.start_lr, end=s.end_lr)
    decay = schedules.cosine(progress, start=s.weight_decay, end=s.end_weight_decay)
    for group in optimiser.param_groups:
        group["lr"] = lr * model.lr_scale(group["rate"], progress)
        group["weight_decay"] = decay if group["decays"] else 0.0
    return {"lr": lr, "weight decay": decay}


def backward(accelerator: Accelerator, model: nn.Module, views: dict, progress: float, micro: int | None) -> Step:
    """Forward and backward of this process's batch, `micro` images at a time (None: all at once)."""
    size = len(next(iter(views.values())))
    if micro is None or micro >= size:
        step = model(views, progress)
        accelerator.backward(step.loss)
        return step._replace(loss=step.loss.detach())
    steps, shares = [], []
    for start in range(0, size, micro):
        piece = {name: value[start : start + micro] for name, value in views.items()}
        last = start + micro >= size
        with nullcontext() if last else accelerator.no_sync(model):
            step = model(piece, progress)
            shares.append(min(micro, size - start) / size)
            accelerator.backward(step.loss * shares[-1])
        steps.append(step._replace(loss=step.loss.detach()))
    parts, means = (_averaged([getattr(step, name) for step in steps], shares) for name in ("parts", "means"))
    loss = sum(share * step.loss for share, step in zip(shares, steps, strict=True))
    return Step(loss, parts, torch.cat([step.pooled for step in steps]), means)


def _averaged(means: list[dict[str, Tensor]], shares: list[float]) -> dict[str, Tensor]:
    """Means over several pieces of a batch -> over all of it; shares: of its images."""
    return {name: sum(share * piece[name] for share, piece in zip(shares, means, strict=True)) for name in means[0]}


def clip(model: Pretext, resting: tuple[str, ...] | None = None) -> dict[str, Tensor]:
    """Clip the gradient of every sub-module on its own where the settings say so. Returns the norms before that of all
    but the resting ones, or nothing if resting is None."""
    limit, norms = model.settings.clip, {}
    for name, module in model.named_children() if limit is not None or resting is not None else ():
        trained = [p for p in module.parameters() if p.requires_grad]
        if trained:
            norm = nn.utils.clip_grad_norm_(trained, math.inf if limit is None else limit)
            if resting is not None and name not in resting:
                norms[f"gradient norm {name}"] = norm
    return norms
