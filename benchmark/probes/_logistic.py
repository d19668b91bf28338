"""Logistic regression on standardised features, one implementation for CPU and GPU: what scikit-learn's fits, faster.

The objective is scikit-learn's, mean loss + |weights|² / (2·C·N) with a free intercept: the sigmoid of one score for
two classes, the softmax of a score each for more. Newton's method in float64, its step by conjugate gradients (Nocedal
& Wright 2006, algorithm 7.1). Features are first turned into their principal axes, where the curvature is nearly
diagonal; that diagonal is the preconditioner, and makes a step of a few products with the features. The penalties are
solved from the strongest to the weakest, each from the one before. Deterministic.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmark.device import arithmetic
from benchmark.probes._base import constant

CG_STEPS = 200  # products of one Newton step, at most
HALVINGS = 40  # of a Newton step, at most


class Model(NamedTuple):
    """A fitted regression. Scores are (x - mean) / scale @ weights + bias."""

    mean: np.ndarray  # (D,)
    scale: np.ndarray  # (D,)
    weights: np.ndarray  # (D, K), K = 1 for two classes
    bias: np.ndarray  # (K,)
    gradient: float  # largest component of the objective's gradient, in the principal axes
    steps: int  # of Newton

    def logits(self, x: np.ndarray) -> np.ndarray:
        """(N, D) -> (N, K)"""
        return (x.astype(np.float64) - self.mean) / self.scale @ self.weights + self.bias

    def probabilities(self, x: np.ndarray) -> np.ndarray:
        """(N, D) -> (N, classes)"""
        from scipy.special import expit, softmax

        logits = self.logits(x)
        return softmax(logits, axis=1) if logits.shape[1] > 1 else np.hstack([expit(-logits), expit(logits)])


def fit(
    x: np.ndarray, y: np.ndarray, classes: int, penalties: Sequence[float], *, tolerance: float, iterations: int
) -> list[Model]:
    """A model for each C of the penalties, in their order. x (N, D), y (N,) in 0..classes-1.

    tolerance: of the largest component of the gradient. iterations: Newton steps for one penalty, at most.
    """
    device, dtype = arithmetic.prepare(), np.asarray(x).dtype
    x = torch.as_tensor(np.ascontiguousarray(x)).to(device, torch.float64, copy=True)
    mean, scale = x.mean(dim=0), x.std(dim=0, correction=0)
    still = torch.from_numpy(constant(mean.cpu().numpy(), scale.cpu().numpy(), dtype)).to(device)
    scale[still] = 1.0
    x.sub_(mean).div_(scale).masked_fill_(still, 0.0)
    axes = _axes(x)
    x = torch.cat([x @ axes, torch.ones(len(x), 1, device=device, dtype=x.dtype)], dim=1)
    target = torch.as_tensor(y, device=device)
    truth = target[:, None].to(x.dtype) if classes == 2 else F.one_hot(target, classes).to(x.dtype)
    spread = x.square().mean(dim=0)[:, None]
    weights, found = torch.zeros(x.shape[1], truth.shape[1], device=device, dtype=x.dtype), {}
    for c in sorted(set(penalties)):
        decay = torch.full((x.shape[1], 1), 1 / (c * len(x)), device=device, dtype=x.dtype)
        decay[-1] = 0
        weights, gradient, steps = _newton(x, truth, spread, decay, weights, tolerance, iterations)
        turned = (axes @ weights[:-1]).cpu().numpy()
        found[c] = Model(mean.cpu().numpy(), scale.cpu().numpy(), turned, weights[-1].cpu().numpy(), gradient, steps)
    return [found[c] for c in penalties]


def _axes(x: Tensor) -> Tensor:
    """Principal axes (D, R) of x (N, D), all that its rows span: the penalty keeps the weights within them."""
    if len(x) < x.shape[1]:
        return torch.linalg.svd(x, full_matrices=False).Vh.mT
    return torch.linalg.eigh(x.mT @ x).eigenvectors


def _newton(
    x: Tensor, truth: Tensor, spread: Tensor, decay: Tensor, weights: Tensor, tolerance: float, iterations: int
) -> tuple[Tensor, float, int]:
    """Minimise from the given weights (D + 1, K). Returns them with their largest gradient and the steps taken."""
    logits, rough = x @ weights, x.float()
    value, chance = _objective(logits, truth, weights, decay)
    for step in range(iterations + 1):
        gradient = x.mT @ (chance - truth) / len(x) + decay * weights
        largest = gradient.abs().max().item()
        if largest <= tolerance or step == iterations:
            break
        direction = _direction(rough, chance, spread, decay, gradient)
        slope, change = (gradient * direction).sum().item(), x @ direction
        for halving in range(HALVINGS):
            share = 0.5**halving
            tried = weights + share * direction
            found, near = _objective(logits + share * change, truth, tried, decay)
            if found <= value + 1e-4 * share * slope + 1e-14 * abs(value):
                break
        else:
            break  # no decrease within float64: this is as near as it gets
        weights, logits, value, chance = tried, logits + share * change, found, near
    return weights, largest, step


def _objective(logits: Tensor, truth: Tensor, weights: Tensor, decay: Tensor) -> tuple[float, Tensor]:
    """The value to minimise, and the probabilities (N, K)."""
    if logits.shape[1] == 1:
        loss, chance = F.binary_cross_entropy_with_logits(logits, truth), logits.sigmoid()
    else:
        logs = F.log_softmax(logits, dim=1)
        loss, chance = -(truth * logs).sum(dim=1).mean(), logs.exp()
    return (loss + (decay * weights.square()).sum() / 2).item(), chance


def _direction(x: Tensor, chance: Tensor, spread: Tensor, decay: Tensor, gradient: Tensor) -> Tensor:
    """Newton's step (D + 1, K) by features x in fp32: conjugate gradients until the residual is small against the
    gradient.

    In fp32, since a tenth to a thousandth of the gradient is asked of it. The preconditioner inverts (mean curvature
    in the classes) x (spread of the features) + penalty, exact where a sample's probabilities do not depend on its
    features. Where all intercepts of several classes move together the curvature is flat; the gradient has no part
    there, so neither has any iterate.
    """
    size = gradient.norm()
    chance, spread, decay, target = (v.float() for v in (chance, spread, decay, -gradient / size))
    single = chance.shape[1] == 1
    within = torch.diag(chance.mean(dim=0)) - chance.mT @ chance / len(x)
    bent, turn = torch.linalg.eigh(within)
    stiff = spread * bent.clamp(min=0) + decay
    inverse = torch.where(stiff > 1e-7 * stiff.max(), 1 / stiff, 0)

    def curved(v: Tensor) -> Tensor:
        moved = x @ v
        moved = chance * (1 - chance) * moved if single else chance * (moved - (chance * moved).sum(1, keepdim=True))
        return x.mT @ moved / len(x) + decay * v

    def eased(v: Tensor) -> Tensor:
        return (inverse * (v @ turn)) @ turn.mT

    enough = min(0.1, max(1e-3, size.item() ** 0.5))
    step, residual = torch.zeros_like(target), target
    scaled = eased(residual)
    way, energy = scaled, (residual * scaled).sum()
    for _ in range(CG_STEPS):
        pushed = curved(way)
        length = energy / (way * pushed).sum()
        step, residual = step + length * way, residual - length * pushed
        if residual.norm() <= enough:
            break
        scaled = eased(residual)
        energy, before = (residual * scaled).sum(), energy
        way = scaled + energy / before * way
    return step.double() * size
