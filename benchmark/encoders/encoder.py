"""The ViT that every pretext trains and every probe reads.

timm's `VisionTransformer`, LayerNorm eps 1e-6, in one of two trunks. "common": cls token, fixed 2-D sine-cosine
positions, no LayerScale; MAE's own trunk, and without cls I-JEPA's. "rope": DINOv3's own (arXiv 2508.10104, 3.2): axial
rotary positions on the queries and keys of patches in every block, LayerScale 1e-5. The image enters as RGB in [0, 1];
the corpus' mean and deviation are buffers of the encoder, so its weights are self-contained.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from timm.layers import Attention, RotaryEmbeddingDinoV3, apply_rot_embed_cat
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from benchmark.encoders import weights
from benchmark.recipe import EncoderSpec
from benchmark.storage import checkpoint, schema
from tasks.base import DataError


class Tokens(NamedTuple):
    cls: Tensor | None  # (B, D), None where the cls token does not enter the blocks
    patches: Tensor  # (B, N, D), after the final norm


def sincos(grid: int, width: int, span: int | None = None) -> Tensor:
    """Fixed 2-D sine-cosine positions, (grid², width) fp32: [sin x, cos x, sin y, cos y] (MAE, appendix A.1).

    span: patches per side of the full image; a crop of fewer patches spreads its positions over the same range.
    Raises ValueError unless width is a multiple of 4.
    """
    if width % 4:
        raise ValueError(f"sine-cosine positions need a width that is a multiple of 4, got {width}")
    span = span or grid
    omega = 10000 ** -(torch.arange(width // 4, dtype=torch.float64) / (width // 4))
    line = (torch.arange(grid, dtype=torch.float64) + 0.5) * span / grid - 0.5
    y, x = torch.meshgrid(line, line, indexing="ij")
    angles = [axis.reshape(-1, 1) * omega for axis in (x, y)]
    return torch.cat([f(a) for a in angles for f in (torch.sin, torch.cos)], dim=1).float()


def rotary(grid: int, head: int, prefix: int) -> Tensor:
    """DINOv3's axial rotations, (prefix + grid², 2·head) fp32: [sines, cosines], of which each is [y, x, y, x].

    Patch centres span (-1, 1) on each axis whatever the grid, so crops of all sizes share one range; the periods are
    100^(4i/head), i < head/4. The first `prefix` rows, of cls token and registers, rotate nothing.
    """
    table = RotaryEmbeddingDinoV3(head, temperature=100.0).get_embed([grid, grid])
    still = torch.cat([torch.zeros(prefix, head), torch.ones(prefix, head)], dim=1)
    return torch.cat([still, table])


def gather(tokens: Tensor, index: Tensor) -> Tensor:
    """tokens (B, N, D) at index (B, K) -> (B, K, D)."""
    rows = index + tokens.shape[1] * torch.arange(len(index), device=index.device)[:, None]
    return tokens.flatten(0, 1).index_select(0, rows.flatten()).unflatten(0, index.shape)


def attend(attention: Attention, x: Tensor, sizes: list[tuple[int, int]], rotations: list[Tensor | None]) -> Tensor:
    """Self-attention within each of several batches of (B, T) tokens that lie one after the other in x (M, D).

    The linear layers see all of x at once. rotations: of each batch, (T, 2·head) or (B, T, 2·head), see `rotary`."""
    out = []
    parts = attention.qkv(x).split([batch * tokens for batch, tokens in sizes])
    for part, size, rotation in zip(parts, sizes, rotations, strict=True):
        q, k, v = project(attention, part.unflatten(0, size), rotation)
        out.append(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(len(part), -1))
    return attention.proj(torch.cat(out) if len(out) > 1 else out[0])


def project(attention: Attention, qkv: Tensor, rotation: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """(B, T, 3·D) from the first layer of an attention -> queries, keys and values (B, heads, T, head), rotated."""
    qkv = qkv.unflatten(-1, (3, attention.num_heads, attention.head_dim))
    q, k, v = qkv.unbind(2)
    if rotation is not None:
        qk, v = qkv.split([2, 1], dim=2)
        q, k = apply_rot_embed_cat(qk, rotation[..., None, None, :], half=True).unbind(2)
        v = v.squeeze(2)
    return q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)


class Encoder(nn.Module):
    def __init__(self, spec: EncoderSpec, seed: int):
        """The same spec (but for `cls`) and seed give the same weights for every pretext."""
        super().__init__()
        rope = spec.trunk == "rope"
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.vit = VisionTransformer(
                img_size=spec.pixels,
                patch_size=spec.patch,
                embed_dim=spec.width,
                depth=spec.depth,
                num_heads=spec.heads,
                num_classes=0,
                global_pool="",
                pos_embed="none",
                dynamic_img_size=True,
                reg_tokens=spec.registers,
                init_values=1e-5 if rope else None,
                weight_init="" if rope else "jax",  # "": every Linear from a normal of deviation 0.02
            )
            if rope:
                nn.init.normal_(self.vit.cls_token, std=0.02)
            if spec.registers:
                nn.init.normal_(self.vit.reg_token, std=0.02)
        self.vit.cls_token.requires_grad_(spec.cls)  # an unused trained parameter would stall the gradient exchange
        self.spec = spec
        self.register_buffer("mean", torch.full((3,), 0.5))
        self.register_buffer("std", torch.full((3,), 0.25))
        self._positions: dict[tuple[int, torch.device], Tensor] = {}

    @torch.inference_mode(False)
    def positions(self, grid: int, device: torch.device) -> Tensor:
        """`sincos` or, on the rope trunk, `rotary` of a grid of that many patches per side."""
        if (grid, device) not in self._positions:
            spec = self.spec
            rope = spec.trunk == "rope"
            table = rotary(grid, spec.width // spec.heads, spec.prefix) if rope else sincos(grid, spec.width, spec.grid)
            self._positions[grid, device] = table.to(device)
        return self._positions[grid, device]

    def normalise(self, images: Tensor) -> Tensor:
        return (images - self.mean[:, None, None]) / self.std[:, None, None]

    def denormalise(self, images: Tensor) -> Tensor:
        """The inverse of `normalise`, cut to [0, 1]."""
        return (images * self.std[:, None, None] + self.mean[:, None, None]).clamp(0, 1)

    def embed(self, images: Tensor) -> Tensor:
        """Images (B, 3, S, S) in [0, 1] -> patch embeddings without positions (B, N, D), in the precision of the
        weights: under autocast too, the residual stream of every trunk is fp32."""
        return self.vit.patch_embed(self.normalise(images)).flatten(1, 2).to(self.vit.cls_token.dtype)

    def sequence(
        self, images: Tensor, keep: Tensor | None = None, hidden: Tensor | None = None, mask_token: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """What enters the blocks: tokens (B, T, D) (cls, registers, patches) and their rotations; see `forward`."""
        x = self.embed(images)
        if hidden is not None:
            x = torch.where(hidden[..., None], mask_token, x)
        table = self.positions(images.shape[-1] // self.spec.patch, x.device)
        rotation = table if self.spec.trunk == "rope" else None
        if rotation is None:
            x = x + table
        if keep is not None:
            x = gather(x, keep)
        if keep is not None and rotation is not None:
            still = torch.arange(self.spec.prefix, device=keep.device).expand(len(keep), -1)
            rotation = table[torch.cat([still, keep + self.spec.prefix], dim=1)]
        prefix = [self.vit.cls_token] * self.spec.cls + [self.vit.reg_token] * bool(self.spec.registers)
        if prefix:
            x = torch.cat([*(token.expand(len(x), -1, -1) for token in prefix), x], dim=1)
        return x, rotation

    def run(self, sequences: Sequence[tuple[Tensor, Tensor | None]]) -> list[Tokens]:
        """Blocks and final norm over sequences of several lengths: on a GPU one pass through the linear layers, on a
        CPU, whose caches hold less, one after the other."""
        if sequences[0][0].device.type == "cpu":
            return [self.run_together([sequence])[0] for sequence in sequences]
        return self.run_together(sequences)

    def run_together(self, sequences: Sequence[tuple[Tensor, Tensor | None]]) -> list[Tokens]:
        sizes = [x.shape[:2] for x, _ in sequences]
        rotations = [rotation for _, rotation in sequences]
        x = torch.cat([x.flatten(0, 1) for x, _ in sequences]) if len(sizes) > 1 else sequences[0][0].flatten(0, 1)
        for block in self.vit.blocks:
            x = x + block.ls1(attend(block.attn, block.norm1(x), sizes, rotations))
            x = x + block.ls2(block.mlp(block.norm2(x)))
        parts = self.vit.norm(x).split([batch * tokens for batch, tokens in sizes])
        whole = [part.unflatten(0, size) for part, size in zip(parts, sizes, strict=True)]
        return [Tokens(x[:, 0] if self.spec.cls else None, x[:, self.spec.prefix :]) for x in whole]

    def forward(
        self, images: Tensor, keep: Tensor | None = None, hidden: Tensor | None = None, mask_token: Tensor | None = None
    ) -> Tokens:
        """Images (B, 3, S, S) in [0, 1] -> tokens.

        keep: (B, K) patches that enter the blocks, positions included (MAE, I-JEPA). hidden: (B, N) bool, patches whose
        embedding is replaced by mask_token (D,) before positions are added (iBOT).
        """
        return self.run([self.sequence(images, keep, hidden, mask_token)])[0]


def save(encoder: Encoder, path: Path) -> str:
    """Write the weights as safetensors; returns their SHA-256, which is independent of the device."""
    checkpoint.write(encoder.state_dict(), path)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def load(spec: EncoderSpec, path: Path) -> Encoder:
    """The frozen encoder stored at path, in eval mode. Raises SchemaError for anything but its safetensors file."""
    encoder = Encoder(spec, seed=0)
    try:
        weights.load(encoder, path)
    except DataError as error:
        reason = str(error).removeprefix(f"{path}: ")
        raise schema.SchemaError(
            f"{path}: not the weights of this encoder ({reason}); "
            "`python -m leaderboards repair` sets its run aside, then run again"
        ) from error
    return encoder.eval().requires_grad_(False)
