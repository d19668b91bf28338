"""The other side: lightly's building blocks, put together the usual way, from image files to the optimiser step.

The same encoder, auxiliary nets, crops and batch as a recipe of ours. `step` takes a batch as the DataLoader gives it;
`same` turns views of ours into such a batch, so that both sides can be timed on the same crops and masks.
"""

import copy
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.utils.data import DataLoader, default_collate
from torchvision.datasets import ImageFolder

from benchmark.recipe import EncoderSpec, Recipe

try:
    import lightly.models.utils as lightly_utils
    from lightly.data import IJEPAMaskCollator
    from lightly.loss import DINOLoss, IBOTPatchLoss, KoLeoLoss
    from lightly.models.modules import IJEPAPredictorTIMM, MAEDecoderTIMM, MaskedVisionTransformerTIMM
    from lightly.models.modules.heads import DINOv2ProjectionHead
    from lightly.transforms.dino_transform import DINOTransform
    from lightly.transforms.ijepa_transform import IJEPATransform
    from lightly.transforms.mae_transform import MAETransform
except ImportError as error:
    raise ImportError(
        f"the other side of this comparison is lightly ({error}); "
        'it comes with the development extra: pip install "pretext-bench[dev]"'
    ) from error


class Baseline(NamedTuple):
    transform: Callable  # PIL image -> views, in a worker
    collate: Callable  # samples -> batch, in a worker
    same: Callable[[dict], Any]  # views of ours -> batch
    step: Callable[[Any], Tensor]  # batch -> loss, after one whole optimiser step
    trained: list[nn.Parameter]


def make_trainer(recipe: Recipe, device: torch.device) -> Baseline:
    """A pretext of ours as lightly's users build it. Raises KeyError for a pretext that lightly does not have."""
    return {"mae": _make_mae, "ijepa": _make_ijepa, "dinov3": _make_dino}[recipe.pretext](recipe, device)


def read_batches(recipe: Recipe, baseline: Baseline, folder: Path, workers: int, device: torch.device) -> Iterator[Any]:
    """One epoch after another over the image files of a folder per class."""
    images = ImageFolder(folder, baseline.transform)
    loader = DataLoader(
        images,
        recipe.settings.batch,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        collate_fn=baseline.collate,
        pin_memory=device.type == "cuda",
        persistent_workers=workers > 0,
        multiprocessing_context="fork" if workers else None,  # the transforms are not made to be pickled
    )
    while True:
        yield from loader


def _make_backbone(e: EncoderSpec) -> MaskedVisionTransformerTIMM:
    vit = VisionTransformer(
        img_size=e.pixels,
        patch_size=e.patch,
        embed_dim=e.width,
        depth=e.depth,
        num_heads=e.heads,
        num_classes=0,
        global_pool="",
        class_token=e.cls,
        dynamic_img_size=True,
    )
    return MaskedVisionTransformerTIMM(vit)


def _make_step(
    recipe: Recipe, model: nn.Module, loss_of: Callable, device: torch.device, *followed: nn.Module
) -> tuple[Callable[[Any], Tensor], list[nn.Parameter]]:
    """(step, trained parameters). followed: student and teacher, where there is one."""
    s = recipe.settings
    trained = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=s.lr, betas=(0.9, s.beta2), weight_decay=s.weight_decay)

    def step(batch: Any) -> Tensor:
        with torch.autocast(device.type, torch.bfloat16, enabled=recipe.precision == "bf16"):
            loss = loss_of(batch)
        loss.backward()
        if s.clip:
            nn.utils.clip_grad_norm_(trained, s.clip)
        optimiser.step()
        optimiser.zero_grad()
        if followed:
            lightly_utils.update_momentum(*followed, m=s.momentum)
        return loss.detach()

    return step, trained


def _move(batch: Any, device: torch.device) -> Any:
    if isinstance(batch, Tensor):
        return batch.to(device, non_blocking=True)
    return [_move(part, device) for part in batch]


def _make_mae(recipe: Recipe, device: torch.device) -> Baseline:
    e, s = recipe.encoder, recipe.settings
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # lightly 1.6 announces another decoder for 1.7
        decoder = MAEDecoderTIMM(
            num_patches=e.grid**2,
            patch_size=e.patch,
            embed_dim=e.width,
            decoder_embed_dim=s.decoder_width,
            decoder_depth=s.decoder_depth,
            decoder_num_heads=s.decoder_heads,
        )
    backbone = _make_backbone(e)
    model = nn.ModuleList([backbone, decoder]).to(device)

    def loss_of(batch: list[Tensor]) -> Tensor:
        images = _move(batch[0], device)
        length = backbone.sequence_length
        keep, hide = lightly_utils.random_token_mask((len(images), length), s.mask_ratio, device=device)
        encoded = decoder.embed(backbone.encode(images, idx_keep=keep))
        tokens = lightly_utils.repeat_token(decoder.mask_token, (len(images), length))
        tokens = lightly_utils.set_at_index(tokens, keep, encoded.type_as(tokens))
        predicted = decoder.predict(lightly_utils.get_at_index(decoder.decode(tokens), hide))
        patches = lightly_utils.get_at_index(lightly_utils.patchify(images, e.patch), hide - 1)
        mean, variance = patches.mean(-1, keepdim=True), patches.var(-1, keepdim=True)
        return F.mse_loss(predicted, (patches - mean) / (variance + 1e-6).sqrt())

    return Baseline(
        MAETransform(e.pixels, s.crop[0]),
        lambda samples: default_collate([views for views, _ in samples]),
        lambda views: [views["images"]],
        *_make_step(recipe, model, loss_of, device),
    )


def _make_ijepa(recipe: Recipe, device: torch.device) -> Baseline:
    e, s = recipe.encoder, recipe.settings
    student = _make_backbone(e)
    predictor = IJEPAPredictorTIMM(
        num_patches=e.grid**2,
        depth=s.predictor_depth,
        mlp_dim=e.width,
        predictor_embed_dim=s.predictor_width,
        num_heads=s.predictor_heads,
    )
    model = nn.ModuleList([student, predictor]).to(device)
    teacher = copy.deepcopy(student).requires_grad_(False)
    masks = IJEPAMaskCollator(
        input_size=e.pixels,
        patch_size=e.patch,
        enc_mask_scale=s.context_scale,
        pred_mask_scale=s.target_scale,
        aspect_ratio=s.target_aspect,
        npred=s.targets,
        min_keep=min(10, 10 * e.grid**2 // 14**2),  # on a small grid it would seek more for ever
    )
    length = torch.arange(s.context_tokens)

    def collate(samples: list[tuple[Tensor, int]]) -> tuple[Tensor, Tensor, list[Tensor]]:
        """A context shorter or longer than ours is repeated or cut to our length: the same arithmetic on both sides."""
        images, (context,), targets = masks([image for image, _ in samples])
        return images, context[:, length % context.shape[1]], targets

    def loss_of(batch: tuple[Tensor, Tensor, list[Tensor]]) -> Tensor:
        images, context, targets = _move(batch, device)
        with torch.no_grad():
            full = teacher.encode(images)
            target = lightly_utils.apply_masks(F.layer_norm(full, full.shape[-1:]), targets)
        return F.smooth_l1_loss(predictor(student.encode(images, idx_keep=context), [context], targets), target)

    return Baseline(
        IJEPATransform(e.pixels, s.crop[0]),
        collate,
        lambda views: (views["images"], views["context"], list(views["targets"].unbind(1))),
        *_make_step(recipe, model, loss_of, device, student, teacher),
    )


def _make_dino(recipe: Recipe, device: torch.device) -> Baseline:
    e, s = recipe.encoder, recipe.settings
    sizes = (e.width, s.head_width, s.bottleneck, s.prototypes)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch, about the weight norm that lightly uses
        heads = [[DINOv2ProjectionHead(*sizes) for _ in range(2)] for _ in range(2)]
    # weight norm cannot be deep-copied
    student, teacher = (nn.ModuleList([_make_backbone(e), *pair]) for pair in heads)
    teacher.load_state_dict(student.state_dict())
    student, teacher = student.to(device), teacher.requires_grad_(False).to(device)
    dino, ibot, koleo = DINOLoss(s.prototypes), IBOTPatchLoss(s.prototypes), KoLeoLoss()
    dino, ibot = dino.to(device), ibot.to(device)
    backbone, dino_head, ibot_head = student
    temperature = s.teacher_temperature[1]
    whole_pixels = s.global_pixels or e.pixels
    grid = whole_pixels // e.patch

    def loss_of(batch: tuple[list[Tensor], Tensor | None]) -> Tensor:
        views, hidden = batch
        views = _move(views, device)
        whole, local = torch.cat(views[:2]), torch.cat(views[2:])
        if hidden is None:
            fewest = max(1, min(4, grid * grid // 10))  # its smallest block; a small grid masks fewer than its 4
            hidden = lightly_utils.random_block_mask((len(whole), grid, grid), min_num_masks_per_block=fewest)
        hidden = hidden.to(device)
        mask = torch.cat([hidden.new_zeros(len(whole), 1), hidden.flatten(1)], dim=1)
        with torch.no_grad():
            seen = teacher[0].encode(whole)
            targets, answers = teacher[1](seen[:, 0]), teacher[2](seen[mask])
        tokens = backbone.encode(whole, mask=mask)
        outputs = torch.cat([dino_head(tokens[:, 0]), dino_head(backbone.encode(local)[:, 0])])
        loss = s.dino_weight * dino(targets.chunk(2), outputs.chunk(len(views)), teacher_temp=temperature)
        loss = loss + s.ibot_weight * ibot(answers, ibot_head(tokens[mask]), hidden, teacher_temp=temperature)
        return loss + s.koleo_weight * sum(koleo(cls) for cls in tokens[:, 0].chunk(2))

    def same(views: dict) -> tuple[list[Tensor], Tensor]:
        crops = [*views["globals"].chunk(2), *views["locals"].chunk(s.local_crops)]
        return crops, views["hidden"].reshape(-1, grid, grid)

    return Baseline(
        DINOTransform(
            global_crop_size=whole_pixels,
            global_crop_scale=s.global_scale,
            local_crop_size=s.local_pixels,
            local_crop_scale=s.local_scale,
            n_local_views=s.local_crops,
        ),
        lambda samples: (default_collate([views for views, _ in samples]), None),
        same,
        *_make_step(recipe, student, loss_of, device, student, teacher),
    )
