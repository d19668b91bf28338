"""MAE: predict the pixels of hidden patches (He et al., arXiv 2111.06377; sections 3 and 4, appendix A.1).

A random three quarters of the patches are dropped before the encoder; a light decoder gets the visible tokens, a mask
token at every hidden place, and predicts each hidden patch normalised by its own mean and variance. For the smallest
size trials chose .85 and the target "mean-kept".
Where we differ: the variance floor is 1.2e-3 instead of 1e-6, so that the quantisation noise of a black ultrasound
background does not become a full-weight target, and patches of that background count with an error of 0; the decoder
is scaled to the encoder's size, batch and learning rate follow `parts/rules.py`; only hidden positions go through
the prediction layer; the photometric policy of the modality is added to the crop and flip. The arm "official" undoes
these but for the prediction layer; it still differs in the initialisation of the common trunk, bilinear instead of
bicubic crops, a smaller batch, and no weight decay of the mask token.
A patch normalised by itself says nothing of its own level, so there are other targets: "mean-kept" adds that level to
it, in units of its image; "raw" are the pixels in units of the corpus (the paper's "pixel (w/o norm)").
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmark.encoders.encoder import Encoder, gather, sincos
from benchmark.parts import augment, losses, masks, rules
from benchmark.parts import flops as count
from benchmark.parts.draws import Draws
from benchmark.parts.memory import Held, trunk
from benchmark.parts.nets import initialise, transformer
from benchmark.pretexts._base import Pretext, Step
from benchmark.recipe import EncoderSpec, Optim
from tasks import unknown

VERSION = 4
CLS = True  # the cls token enters the blocks
NATIVE = "cls"  # readout of the authors' linear probe
QUERY = "patches"  # whose attention the maps show: no loss is on the cls token
TARGETS = ("normalised", "mean-kept", "raw")
FLIPPED = "ultrasound"  # the modality whose orientations are a left-right flip alone: what the authors do to any image


@dataclass(frozen=True, kw_only=True)
class Settings(Optim):
    mask_ratio: float = 0.75
    target: str = "normalised"  # or "mean-kept" or "raw"
    variance_floor: float = 1.2e-3  # of the normalisation, in normalised intensity squared
    background: int | None = 8  # an ultrasound patch with no pixel above this grey level carries no loss; None: all do
    decoder_width: int
    decoder_depth: int
    decoder_heads: int
    crop: tuple[float, float] = (0.2, 1.0)  # area share of the random resized crop
    modality_policy: bool = True  # turns and photometric change that suit the modality; without: a left-right flip

    def __post_init__(self) -> None:
        if self.target not in TARGETS:
            raise unknown("target of mae", self.target, TARGETS)


def settings(encoder: EncoderSpec) -> Settings:
    """The recommended settings for an encoder: `rules`, the paper's values, or trials' for the smallest size, and a
    decoder that is no wider than the encoder."""
    width, depth = (192, 4) if encoder.width < 384 else (384, 4) if encoder.width < 768 else (512, 8)
    tried = {}
    if encoder.width < rules.SMALL:
        width, depth, tried = 64, 2, {"mask_ratio": 0.85, "target": "mean-kept"}
    return Settings(
        **rules.optimisation(encoder),
        **tried,
        beta2=0.95,
        decoder_width=width,
        decoder_depth=depth,
        decoder_heads=width // 32,
    )


def official(encoder: EncoderSpec) -> Settings:
    """The authors' recipe (appendix A.1, table 8) at a batch that the budgets afford: 1.5e-4 · batch / 256.

    Their decoder, 512 wide with 8 blocks, for ViT-Ti and larger. It would dwarf narrower encoders, which get what it is
    to ViT-B: two thirds of the encoder's width, in heads of 32 channels, and of its depth.
    """
    batch, width, depth = 256, 512, 8
    if encoder.width < 192:
        batch, width, depth = 64, 32 * round(encoder.width / 48), max(1, round(encoder.depth * 2 / 3))
    return Settings(
        batch=batch,
        lr=1.5e-4 * batch / 256,
        warmup=0.05,
        beta2=0.95,
        variance_floor=1e-6,
        background=None,
        decoder_width=width,
        decoder_depth=depth,
        decoder_heads=width // 32,
        modality_policy=False,
    )


ARMS: dict[str, Callable[[EncoderSpec], Settings]] = {"official": official}


def flops(s: Settings, e: EncoderSpec) -> float:
    """Training FLOPs per image; background is encoded and decoded like the rest."""
    tokens = e.grid**2
    kept = int(tokens * (1 - s.mask_ratio))
    decode = (
        count.linear(kept + 1, e.width, s.decoder_width)
        + count.blocks(tokens + 1, s.decoder_width, s.decoder_depth)
        + count.linear(tokens - kept, s.decoder_width, 3 * e.patch**2)
    )
    return 3 * (count.encode(e, tokens=kept + e.prefix) + decode)


def memory(s: Settings, e: EncoderSpec) -> Held:
    kept = int(e.grid**2 * (1 - s.mask_ratio))
    decode = (e.grid**2 + 1) * s.decoder_width * s.decoder_depth
    return Held(
        trained=trunk(e) + 12 * s.decoder_depth * s.decoder_width**2,
        frozen=0,
        blocks=(kept + 1) * e.width * e.depth + decode,
        rows=3 * (e.grid**2 - kept) * 3 * e.patch**2,  # prediction, target, error
    )


class Model(Pretext):
    separable = True

    def __init__(self, settings: Settings, encoder: Encoder, modality: str, seed: int):
        super().__init__(settings, encoder, modality)
        width = settings.decoder_width
        self.decoder_embed = nn.Linear(encoder.spec.width, width)
        self.decoder = transformer(width, settings.decoder_depth, settings.decoder_heads)
        self.predict = nn.Linear(width, 3 * encoder.spec.patch**2)
        self.mask_token = nn.Parameter(torch.zeros(width))
        positions = torch.cat([torch.zeros(1, width), sincos(encoder.spec.grid, width)])
        self.register_buffer("decoder_positions", positions, persistent=False)
        turned = modality if settings.modality_policy else FLIPPED
        policy = augment.policy(modality) if settings.modality_policy else None
        self.crops = augment.Crops(
            purpose="mae", pixels=encoder.spec.pixels, scale=settings.crop, orientations=turned, policy=policy
        )
        for module in (self.decoder_embed, self.decoder, self.predict):
            initialise(module, seed)
        nn.init.normal_(self.mask_token, std=0.02, generator=torch.Generator().manual_seed(seed))

    def draw(self, draws: Draws) -> dict[str, np.ndarray]:
        return self.crops.draw(draws) | self.mask(draws)._asdict()

    def mask(self, draws: Draws) -> masks.RandomMask:
        return masks.random_tokens(draws.uniform("mae/mask", self.spec.grid**2), self.settings.mask_ratio)

    def views(self, images: Tensor, drawn: dict[str, Tensor]) -> dict[str, Tensor]:
        """Images, mask and, where it is left out of the loss, the background: (B, N) bool, judged before the
        photometric policy moves grey levels. A patch of fluid all as dark as that counts as background."""
        image = self.crops.cut(images, drawn)
        seen = {"images": self.crops.change(image, drawn)} | {name: drawn[name] for name in masks.RandomMask._fields}
        if (level := self.settings.background) is not None and self.modality == "ultrasound":
            brightest = losses.patchify(image, self.spec.patch).amax(dim=-1)
            seen["background"] = brightest < (level + 0.5) / 255
        return seen

    def decode(self, cls: Tensor, visible: Tensor, hide: Tensor, restore: Tensor) -> Tensor:
        """Visible tokens (B, K, D) in kept order -> predictions (B, N - K, patch²·3) in hidden order."""
        cls, visible = self.decoder_embed(cls)[:, None], self.decoder_embed(visible)
        filler = self.mask_token.expand(len(visible), hide.shape[1], -1)
        tokens = torch.cat([cls, gather(torch.cat([visible, filler], dim=1), restore)], dim=1)
        decoded = self.decoder(tokens + self.decoder_positions)[:, 1:]
        return self.predict(gather(decoded, hide))

    def decoder_state(self) -> dict[str, Tensor]:
        return {name: value for name, value in self.state_dict().items() if not name.startswith("student.")}

    def targets(self, patches: Tensor, hide: Tensor) -> Tensor:
        """Normalised pixels (B, N, patch²·3) -> what is to be predicted of the hidden ones."""
        hidden, s = gather(patches, hide), self.settings
        if s.target == "raw":
            return hidden
        target = losses.normalise_patches(hidden, s.variance_floor)
        if s.target == "normalised":
            return target
        level, spread = losses.image_moments(patches, s.variance_floor)
        return target + (hidden.mean(dim=-1, keepdim=True) - level) / spread

    def pixels(self, predicted: Tensor, patches: Tensor, hide: Tensor) -> Tensor:
        """The inverse of `targets`. What a target does not tell is given back from the true patches: their variance
        and, where they are normalised, their mean."""
        true, s = gather(patches, hide), self.settings
        if s.target == "raw":
            return predicted
        spread = (true.var(dim=-1, keepdim=True) + s.variance_floor).sqrt()
        if s.target == "normalised":
            return predicted * spread + true.mean(dim=-1, keepdim=True)
        level, of_image = losses.image_moments(patches, s.variance_floor)
        mean = predicted.mean(dim=-1, keepdim=True)
        return (predicted - mean) * spread + mean * of_image + level

    @torch.inference_mode()
    def reconstruct(self, images: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
        keep, hide, restore = (torch.from_numpy(index).to(images.device) for index in self.mask(draws))
        cls, visible = self.student(images, keep=keep)
        patches = losses.patchify(self.student.normalise(images), self.spec.patch)
        predicted = self.pixels(self.decode(cls, visible, hide, restore), patches, hide)
        hidden = hide[..., None].expand_as(predicted)
        shown, filled = patches.scatter(1, hidden, 0.0), patches.scatter(1, hidden, predicted)
        return tuple(self.student.denormalise(losses.unpatchify(x, self.spec.patch)) for x in (shown, filled))

    def forward(self, views: dict[str, Tensor], progress: float) -> Step:
        hide = views["hide"]
        cls, visible = self.student(views["images"], keep=views["keep"])
        predicted = self.decode(cls, visible, hide, views["restore"]).float()
        patches = losses.patchify(self.student.normalise(views["images"]), self.spec.patch)
        target = self.targets(patches, hide)
        counted = torch.ones_like(hide, dtype=torch.bool)[..., None]
        if "background" in views:
            counted = ~views["background"].gather(1, hide)[..., None]
            predicted, target = predicted * counted, target * counted
        loss = F.mse_loss(predicted, target)
        parts = {"loss": loss.detach(), "trivial loss": self.trivial(target, counted)}
        return Step(loss, parts, visible.mean(dim=1).detach())

    def trivial(self, target: Tensor, counted: Tensor) -> Tensor:
        """The loss of one grey level for all hidden patches of an image that count, the best there is: 0 where they are
        normalised, else their mean. target: (B, H, patch²·3), 0 where not counted, (B, H, 1)."""
        if self.settings.target != "normalised":
            number = counted.sum(dim=(1, 2), keepdim=True).clamp(min=1) * target.shape[-1]
            target = (target - target.sum(dim=(1, 2), keepdim=True) / number) * counted
        return target.square().mean()
