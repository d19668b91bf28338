"""Losses: tensors in, a scalar out. No state, no logging. Everything that needs it is computed in fp32."""

import math

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor


def patchify(images: Tensor, patch: int) -> Tensor:
    """(B, 3, H, W) -> (B, N, patch·patch·3): patches row by row, inside a patch row, column, channel (fastest)."""
    batch, channels, height, width = images.shape
    x = images.reshape(batch, channels, height // patch, patch, width // patch, patch)
    return x.permute(0, 2, 4, 3, 5, 1).reshape(batch, -1, patch * patch * channels)


def unpatchify(patches: Tensor, patch: int) -> Tensor:
    """The inverse of `patchify` for a square image: (B, N, patch·patch·3) -> (B, 3, S, S)."""
    grid = math.isqrt(patches.shape[1])
    x = patches.unflatten(2, (patch, patch, 3)).unflatten(1, (grid, grid))
    return x.permute(0, 5, 1, 3, 2, 4).reshape(len(patches), 3, grid * patch, grid * patch)


def normalise_patches(patches: Tensor, floor: float = 1e-6) -> Tensor:
    """Every patch to mean 0 and variance 1 over all its values together (unbiased variance).

    floor: added to the variance. MAE's 1e-6 turns the noise of a black background into a full-weight target; about
    (2 grey levels)² in normalised units, 1.2e-3, keeps it silent.
    """
    mean = patches.mean(dim=-1, keepdim=True)
    variance = patches.var(dim=-1, keepdim=True)
    return (patches - mean) / (variance + floor).sqrt()


def image_moments(patches: Tensor, floor: float = 1e-6) -> tuple[Tensor, Tensor]:
    """Mean and deviation of each image over all its patches (B, N, patch·patch·3): (B, 1, 1) both. floor: as above."""
    variance, mean = torch.var_mean(patches, dim=(1, 2), keepdim=True)
    return mean, (variance + floor).sqrt()


def _world() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def add_up(x: Tensor) -> None:
    """Sum over all processes, in place."""
    if _world() > 1:
        dist.all_reduce(x)


def _logsumexp(x: Tensor, dim: int, spare: Tensor) -> Tensor:
    """torch.logsumexp with the dimension kept, bit for bit, in memory that is there already."""
    if not len(x):
        return torch.logsumexp(x, dim=dim, keepdim=True)
    top = x.amax(dim=dim, keepdim=True)
    return torch.sub(x, top, out=spare).exp_().sum(dim=dim, keepdim=True).log_().add_(top)


def _logsumexp_rows(x: Tensor, spare: Tensor) -> Tensor:
    """Log of the sum of exp over the rows of every process. (M, K) -> (1, K)."""
    local = _logsumexp(x, 0, spare)
    if _world() == 1:
        return local
    parts = [torch.empty_like(local) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, local)
    return torch.logsumexp(torch.cat(parts), dim=0, keepdim=True)


@torch.no_grad()
def sinkhorn_knopp(logits: Tensor, temperature: float, rounds: int = 3) -> Tensor:
    """Teacher targets by Sinkhorn-Knopp (SwAV, arXiv 2006.09882, 3.1; DINOv3, arXiv 2508.10104).

    logits: (M, K), rows of all processes taken jointly; returns (M, K), every row sums to 1. The
    scaling by M and K in the usual form cancels. The first round is in the log domain, so nothing overflows; it leaves
    rows that sum to 1 and columns that sum to at least 1/K, so later rounds, which scale by vectors and read the matrix
    twice each, divide by nothing near 0.
    """
    with torch.autocast(logits.device.type, enabled=False):
        plan = logits.float() / temperature
        spare = torch.empty_like(plan)
        plan -= _logsumexp_rows(plan, spare)
        plan -= _logsumexp(plan, 1, spare)
        plan.exp_()
        rows = plan.new_ones(len(plan))
        columns = plan.new_ones(plan.shape[1])
        for _ in range(rounds - 1):
            columns = plan.mT @ rows
            if _world() > 1:
                dist.all_reduce(columns)
            columns = columns.reciprocal_()
            rows = (plan @ columns).reciprocal_()
        return plan.mul_(columns).mul_(rows[:, None])


def cross_entropy(student: Tensor, teacher: Tensor, temperature: float = 0.1) -> Tensor:
    """Per-row cross-entropy of softmax(student / temperature) against teacher probabilities. (M, K) ×2 -> (M,)."""
    return -(teacher * F.log_softmax(student.to(teacher.dtype) / temperature, dim=-1)).sum(dim=-1)


def dino(student: Tensor, teacher: Tensor, views: int = 2, temperature: float = 0.1) -> Tensor:
    """DINO over pairs of different crops (DINOv3, eq. 1), mean over images and pairs.

    student: (S, B, K) logits, the first `views` rows being the global crops; teacher: (views, B, K) probabilities. A
    global crop is never compared with itself.
    """
    with torch.autocast(student.device.type, enabled=False):
        log = F.log_softmax(student.to(teacher.dtype) / temperature, dim=-1)
        pairs = -torch.einsum("sbk,tbk->st", log, teacher) / student.shape[1]
    same = torch.eye(*pairs.shape, device=pairs.device, dtype=torch.bool)
    return pairs.masked_fill(same, 0.0).sum() / (pairs.numel() - views)


def ibot(student: Tensor, teacher: Tensor, weights: Tensor, crops: int, temperature: float = 0.1) -> Tensor:
    """iBOT on masked tokens (arXiv 2111.07832; DINOv3): weighted 1/(hidden tokens of the crop), over all crops.

    student, teacher: (M, K); weights: (M,); crops: all global crops of this process, masked or not.
    """
    return (cross_entropy(student, teacher, temperature) * weights).sum() / crops


def koleo(x: Tensor) -> Tensor:
    """KoLeo (arXiv 1806.03198): -mean log distance to the nearest neighbour of the L2-normalised rows. x: (B, D).

    Neighbours are sought over all processes, with gradients, so that two processes equal one. Raises ValueError for
    fewer than two rows in all.
    """
    with torch.autocast(x.device.type, enabled=False):
        x = F.normalize(x.float(), eps=1e-8)
        world = _world()
        everyone, first = x, 0
        if world > 1:
            everyone = torch.cat(dist.nn.functional.all_gather(x))
            first = dist.get_rank() * len(x)
        if len(everyone) < 2:
            raise ValueError("KoLeo needs at least two images in the global batch, got 1")
        similarity = (x @ everyone.T).detach()
        similarity.diagonal(first).fill_(-2.0)
        nearest = everyone.index_select(0, similarity.argmax(dim=1))
        return -torch.log((x - nearest + 1e-8).norm(dim=-1) + 1e-8).mean()


def gram(student: Tensor, teacher: Tensor) -> Tensor:
    """Gram anchoring (DINOv3, eq. 2): mean squared difference of the token similarities of each image. (B, N, D) ×2."""
    with torch.autocast(student.device.type, enabled=False):
        student, teacher = F.normalize(student.float(), dim=-1), F.normalize(teacher.float(), dim=-1)
        return (student @ student.transpose(1, 2) - teacher @ teacher.transpose(1, 2)).square().mean()
