"""The ViT that every pretext trains and every probe reads.

timm's `VisionTransformer` with cls token, fixed 2-D sine-cosine positions, no registers, LayerNorm eps 1e-6. The image
enters as RGB in [0, 1]; the corpus' mean and deviation are buffers of the encoder, so its weights are self-contained.
"""

import hashlib
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors.torch import load_file, save_file
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from benchmark.recipe import EncoderSpec


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


def gather(tokens: Tensor, index: Tensor) -> Tensor:
    """tokens (B, N, D) at index (B, K) -> (B, K, D)."""
    return tokens.gather(1, index[..., None].expand(-1, -1, tokens.shape[-1]))


class Encoder(nn.Module):
    def __init__(self, spec: EncoderSpec, seed: int):
        """The same spec (but for `cls`) and seed give the same weights for every pretext.

        Raises ValueError if the image side is not a multiple of the patch side."""
        super().__init__()
        if spec.pixels % spec.patch:
            raise ValueError(f"{spec.pixels} pixels are not a multiple of the patch side {spec.patch}")
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
                weight_init="jax",
            )
        self.vit.cls_token.requires_grad_(spec.cls)  # an unused trained parameter would stall the gradient exchange
        self.spec = spec
        self.register_buffer("mean", torch.full((3,), 0.5))
        self.register_buffer("std", torch.full((3,), 0.25))
        self._positions: dict[tuple[int, torch.device], Tensor] = {}

    def positions(self, grid: int, device: torch.device) -> Tensor:
        if (grid, device) not in self._positions:
            self._positions[grid, device] = sincos(grid, self.spec.width, self.spec.grid).to(device)
        return self._positions[grid, device]

    def normalise(self, images: Tensor) -> Tensor:
        return (images - self.mean[:, None, None]) / self.std[:, None, None]

    def embed(self, images: Tensor) -> Tensor:
        """Images (B, 3, S, S) in [0, 1] -> patch embeddings without positions (B, N, D)."""
        return self.vit.patch_embed(self.normalise(images)).flatten(1, 2)

    def forward(
        self, images: Tensor, keep: Tensor | None = None, hidden: Tensor | None = None, mask_token: Tensor | None = None
    ) -> Tokens:
        """Images (B, 3, S, S) in [0, 1] -> tokens.

        keep: (B, K) patches that enter the blocks, positions included (MAE, I-JEPA). hidden: (B, N) bool, patches whose
        embedding is replaced by mask_token (D,) before positions are added (iBOT).
        """
        x = self.embed(images)
        if hidden is not None:
            x = torch.where(hidden[..., None], mask_token.to(x.dtype), x)
        x = x + self.positions(images.shape[-1] // self.spec.patch, x.device).to(x.dtype)
        if keep is not None:
            x = gather(x, keep)
        if self.spec.cls:
            x = torch.cat([self.vit.cls_token.to(x.dtype).expand(len(x), -1, -1), x], dim=1)
        x = self.vit.norm(self.vit.blocks(x))
        return Tokens(x[:, 0], x[:, 1:]) if self.spec.cls else Tokens(None, x)


def save(encoder: Encoder, path: Path) -> str:
    """Write the weights as safetensors; returns their SHA-256, which is independent of the device."""
    save_file({name: value.detach().cpu().contiguous() for name, value in encoder.state_dict().items()}, path)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def load(spec: EncoderSpec, path: Path) -> Encoder:
    """The frozen encoder stored at path, in eval mode."""
    encoder = Encoder(spec, seed=0)
    encoder.load_state_dict(load_file(path))
    return encoder.eval().requires_grad_(False)
