"""I-JEPA beside its authors' figures, timm and lightly."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from unittest.mock import patch

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmark import registry, tracks
from benchmark.encoders.encoder import Encoder, gather
from benchmark.parts import mask_sizes, masks, schedules
from benchmark.parts.nets import Predictor, follow
from benchmark.pretexts import ijepa
from benchmark.recipe import EncoderSpec
from tests.helpers.seen import tensor, views
from tests.parity import Row, det, drawn, executed, noise, parameters, pictures, published, rates, timm_vit

SPEC = EncoderSpec(width=48, depth=2, heads=2, patch=4, pixels=56, cls=False)
PUBLISHED = {"target_scale": (0.15, 0.2), "target_aspect": (0.75, 1.5), "context_scale": (0.85, 1.0)}


def lightly_predictor(ours: Predictor, spec: EncoderSpec, s: ijepa.Settings) -> nn.Module:
    """lightly's predictor with our weights and its own positions."""
    from lightly.models.modules.ijepa_timm import IJEPAPredictorTIMM

    depth = s.predictor_depth
    theirs = IJEPAPredictorTIMM(spec.grid**2, depth, spec.width, s.predictor_width, s.predictor_heads)
    renamed = {"embed": "predictor_embed", "head": "predictor_proj", f"blocks.{depth}": "decoder.norm"}
    weights = {"decoder.mask_token": ours.mask_token[None, None], "decoder.pos_embed": theirs.decoder.pos_embed}
    for name, value in ours.state_dict().items():
        if name != "mask_token":
            stem, _, leaf = name.rpartition(".")
            weights[f"{renamed.get(stem, f'decoder.{stem}')}.{leaf}"] = value
    theirs.load_state_dict(weights)
    return theirs


def loss() -> list[Row]:
    features = F.layer_norm(det((2, 9, 8), 0.37, 0.1), (8,))
    blocks = torch.tensor([[[0, 1, 3, 4], [4, 5, 7, 8]], [[1, 2, 4, 5], [3, 4, 6, 7]]])
    rows = gather(features, blocks.flatten(1)).reshape(2, 2, 4, 8).transpose(0, 1).reshape(4, 4, 8)
    predicted = det((4, 4, 8), 0.23, 0.4)
    return [
        published("layer-normed features", [-1.9392, -0.7306, 0.2681], features[0, 0, :3], 5e-5),
        published("smooth L1 on target blocks", 0.6637137073, F.smooth_l1_loss(predicted, rows), 1e-9),
        published("smooth L1 of a zero prediction", 0.4535166251, F.smooth_l1_loss(torch.zeros_like(rows), rows), 1e-9),
        published("squared error on target blocks", 1.6839026860, F.mse_loss(predicted, rows), 1e-9),
    ]


def averaged(momenta: Sequence[float], follow: Callable[[nn.Module, nn.Module, float], None] = follow) -> float:
    """Where a teacher at 0 gets to by following a student that stays at 1."""
    teacher, student = nn.Linear(1, 1, bias=False).double(), nn.Linear(1, 1, bias=False).double()
    nn.init.zeros_(teacher.weight)
    nn.init.ones_(student.weight)
    for momentum in momenta:
        follow(teacher, student, momentum)
    return teacher.weight.item()


def average() -> list[Row]:
    from lightly.models.utils import update_momentum

    theirs = averaged([0.996] * 10, lambda teacher, student, momentum: update_momentum(student, teacher, momentum))
    rising = [schedules.linear(step / 10, start=0.996, end=1.0) for step in range(10)]
    start = registry.settings("ijepa:official", tracks.SMALL).momentum
    found = [schedules.linear(step / 30000, start=start, end=1.0) for step in (0, 1, 15000, 30000)]
    return [
        published("teacher after ten steps, momentum .996", 0.0392876265, averaged([0.996] * 10), 1e-10),
        published(
            "teacher after ten steps, momentum .996", theirs, averaged([0.996] * 10), 1e-12, "lightly update_momentum"
        ),
        published("teacher after ten steps, momentum rising to 1", 0.0217899576, averaged(rising), 1e-10),
        published("momentum at steps 0, 1, 15000, 30000", [0.996, 0.9960001333, 0.998, 1.0], found, 1e-10),
    ]


def schedule() -> list[Row]:
    steps = [1, 2000, 3999, 4000, 4001, 17000, 29999, 30000]
    figures = [2.002e-4, 6e-4, 9.998e-4, 1e-3, 9.999999964e-4, 5.005e-4, 1.000003646e-6, 1e-6]
    found, _ = rates("ijepa:official", tracks.SMALL, 2048, [step / 30000 for step in steps])
    decays = [0.040000001, 0.043933432, 0.055554152, 0.055561818, 0.257424104, 0.4]
    _, kept = rates(
        "ijepa:official", tracks.SMALL, 2048, [step / 30000 for step in (1, 2000, 3999, 4000, 17000, 30000)]
    )
    return [
        published("learning rate at steps 1 to 30000", figures, found, 1e-12),
        published("weight decay at steps 1 to 30000", decays, kept, 1e-9),
    ]


def target_blocks() -> list[Row]:
    draws = [torch.rand(1, generator=torch.Generator().manual_seed(seed)).item() for seed in range(6)]
    found = [mask_sizes.published_sides(14, draw, (0.15, 0.2), (0.75, 1.5)) for draw in draws]
    sides = [(6, 6), (7, 5), (7, 5), (5, 6), (6, 5), (7, 5)]
    return [published("target blocks of seeds 0 to 5, rows and columns", np.ravel(sides), np.ravel(found), 0)]


def size() -> list[Row]:
    rows = []
    for name, encoder, predictor in (
        ("Ti", 5_524_032, 10_871_232),
        ("S", 21_664_896, 11_018_880),
        ("B", 85_797_120, 11_314_176),
    ):
        spec = replace({"Ti": tracks.TINY, "S": tracks.SMALL, "B": tracks.BASE}[name], cls=False)
        made, s = Encoder(spec, seed=0), registry.settings("ijepa:official", spec)
        shape = s.predictor_width, s.predictor_depth, s.predictor_heads
        ours = Predictor(spec.grid, spec.width, spec.width, *shape, seed=0)
        tables = [196 * made.spec.width, 196 * s.predictor_width]
        counts = parameters(made) + tables[0], parameters(ours) + tables[1]
        rows.append(published(f"ViT-{name}, parameters of encoder and predictor", (encoder, predictor), counts, 0))
    return rows


def beside_timm_and_lightly() -> list[Row]:
    """At full size: ViT-S/16, 224 pixels, predictor of 6 blocks."""
    from lightly.models.utils import apply_masks, repeat_interleave_batch

    spec = replace(tracks.SMALL, cls=False)
    s, images = registry.settings("ijepa:official", spec), pictures(2, 224)
    model = ijepa.Model(s, Encoder(spec, seed=0), "histo", seed=1)
    context, targets = map(tensor, model.mask(drawn(0, 2, 2)))
    blocks = list(targets.unbind(1))
    with torch.no_grad():
        ours = model.student(images).patches
        theirs = timm_vit(model.student)(model.student.normalise(images))
        seen = model.student(images, keep=context).patches
        predicted = model.predictor(seen, context, targets).unflatten(0, (2, 4)).transpose(0, 1).flatten(0, 1)
        expected = lightly_predictor(model.predictor, spec, s)(seen.clone(), context, blocks)
    taken = gather(ours, targets.flatten(1)).reshape(2, 4, -1, 384).transpose(0, 1).flatten(0, 1)
    tiled = seen.expand(4, -1, -1, -1).flatten(0, 1)
    return [
        executed("encoder, ViT-S/16 at 224", "timm VisionTransformer", theirs, ours, 1e-5),
        executed("predictor, 6 blocks", "lightly IJEPAPredictorTIMM", expected, predicted, 1e-5),
        executed("target blocks taken out", "lightly apply_masks", apply_masks(ours, blocks), taken, 0),
        executed(
            "context for each block", "lightly repeat_interleave_batch", repeat_interleave_batch(seen, 2, 4), tiled, 0
        ),
    ]


def replayed(corners: np.ndarray, seed: int, grid: int, min_keep: int, **blocks: object) -> tuple[Tensor, Tensor]:
    """Contexts (B, C) and targets (B, T, M) of lightly's collator at its batch number `seed`, with corners (B, R, 2)
    in [0, 1) in place of its own draws."""
    from lightly.data.ijepa_collate import IJEPAMaskCollator

    class Replayed(IJEPAMaskCollator):
        calls = 0

        def _sample_block_mask(self, size, acceptable_regions=None):
            image, block = divmod(self.calls, 4)
            if acceptable_regions is None:
                self.calls, queue = self.calls + 1, corners[image, block]
            else:
                queue = corners[image - 1, 4:]
            self.queue = iter(queue.ravel().tolist())
            return super()._sample_block_mask(size, acceptable_regions)

    scales = blocks["context_scale"], blocks["target_scale"], blocks["target_aspect"]
    collator = Replayed(grid, 1, *scales, 1, 4, min_keep)
    collator._itr_counter.value = seed - 1
    drawn = lambda low, high, size: torch.tensor([int(next(collator.queue) * high)])  # noqa: E731
    with patch.object(torch, "randint", drawn):
        _, contexts, targets = collator([torch.zeros(1)] * len(corners))
    return contexts[0], torch.stack(targets, dim=1)


def size_draws(seed: int) -> np.ndarray:
    """What the authors' collator draws the sizes of target and context from in its batch number `seed`."""
    generator = torch.Generator().manual_seed(seed)
    return np.array([torch.rand(1, generator=generator).item() for _ in range(2)])


def masks_beside_lightly() -> list[Row]:
    rows, rng = [], np.random.default_rng(0)
    for grid, min_keep in ((14, 10), (8, 4)):
        corners = rng.random((40, 4 + 5 * mask_sizes.REDRAWS, 2))
        ours = masks.published_multiblock(size_draws(0), corners, grid=grid, min_keep=min_keep, **PUBLISHED)
        theirs = replayed(corners, 0, grid, min_keep, **PUBLISHED)
        for name, reference, found in zip(("contexts", "targets"), theirs, map(tensor, ours), strict=True):
            what = f"{name} of 40 images on {grid} × {grid}, from the same draws"
            rows.append(executed(what, "lightly IJEPAMaskCollator", reference, found, 0))
    return rows


def step_beside_timm_and_lightly() -> list[Row]:
    """Loss and gradients of a whole step, recommended and official."""
    rows = []
    for name in ("ijepa", "ijepa:official"):
        s = registry.settings(name, SPEC)
        model = ijepa.Model(s, Encoder(SPEC, seed=0), "histo", seed=1)
        seen = views(model, noise(8, 56), drawn())
        ours = model(seen, 0.5).loss
        ours.backward()
        encoder, predictor = timm_vit(model.student), lightly_predictor(model.predictor, SPEC, s)
        pixels, blocks = model.student.normalise(seen["images"]), list(seen["targets"].unbind(1))
        with torch.no_grad():
            full = F.layer_norm(encoder(pixels), (SPEC.width,))
            target = torch.cat([gather(full, block) for block in blocks])
        tokens = encoder.patch_embed(pixels) + encoder.pos_embed
        context = encoder.norm(encoder.blocks(gather(tokens, seen["context"])))
        loss = F.smooth_l1_loss(predictor(context, seen["context"], blocks), target)
        loss.backward()
        pairs = (
            (model.student.vit.patch_embed.proj, encoder.patch_embed.proj),
            (model.student.vit.blocks[0].mlp.fc1, encoder.blocks[0].mlp.fc1),
            (model.predictor.embed, predictor.predictor_embed),
            (model.predictor.head, predictor.predictor_proj),
        )
        mine, theirs = (torch.cat([pair[i].weight.grad.flatten() for pair in pairs]) for i in (0, 1))
        rows += [
            executed(f"{name}: loss of a step", "timm and lightly", loss.detach(), ours.detach(), 1e-6),
            executed(f"{name}: gradients of four layers", "timm and lightly", theirs, mine, 1e-6),
        ]
    return rows


COMPARISONS = (
    loss,
    average,
    schedule,
    target_blocks,
    size,
    beside_timm_and_lightly,
    masks_beside_lightly,
    step_beside_timm_and_lightly,
)
