"""DINOv3 beside its authors' figures, timm and lightly."""

import math
from dataclasses import replace

import numpy as np
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmark import registry, tracks
from benchmark.encoders.encoder import Encoder, rotary
from benchmark.parts import losses, mask_sizes, schedules
from benchmark.pretexts import dinov3
from benchmark.recipe import EncoderSpec
from tests.helpers.seen import views
from tests.parity import NANO, Row, det, drawn, executed, noise, parameters, pictures, published, rates, shake


def timm_dinov3(size: str, ours: Encoder) -> nn.Module:
    """timm's DINOv3 (class Eva) with the encoder's weights; it has no key biases, which move no attention."""
    eva = timm.create_model(f"vit_{size}_patch16_dinov3_qkvb", num_classes=0, global_pool="token")
    weights = {}
    for name, value in ours.vit.state_dict().items():
        name = name.replace("ls1.gamma", "gamma_1").replace("ls2.gamma", "gamma_2")
        if name.endswith("qkv.bias"):
            query, _, found = value.chunk(3)
            weights |= {name.replace("qkv.bias", "q_bias"): query, name.replace("qkv.bias", "v_bias"): found}
        else:
            weights[name] = value
    eva.load_state_dict(weights, strict=True)
    for module in eva.modules():
        if isinstance(module, nn.LayerNorm):
            module.eps = 1e-6
    return eva.eval()


def sinkhorn(logits: np.ndarray, temperature: float, rounds: int = 3) -> np.ndarray:
    """SwAV's algorithm as its paper prints it, in float64: no logarithms, counts kept."""
    plan = np.exp(logits.astype(np.float64).T / temperature)
    prototypes, rows = plan.shape
    plan /= plan.sum()
    for _ in range(rounds):
        plan /= plan.sum(axis=1, keepdims=True) * prototypes
        plan /= plan.sum(axis=0, keepdims=True) * rows
    return (plan * rows).T


def positions() -> list[Row]:
    """Periods are read off the table: from the turn between two rows of patches."""
    table = rotary(14, 64, 0)
    sines, cosines = table.chunk(2, dim=1)
    angles = torch.atan2(sines, cosines).double()[::14, :16]
    (near, far) = (4 * math.pi / 14 * apart / ((angles[apart] - angles[0]) % (2 * math.pi)) for apart in (1, 13))
    sine, cosine = [0.433884, 0.943679, 0.138873, -0.629766], [0.900969, -0.330862, -0.990310, -0.776785]
    return [
        published("periods of rotation, heads of 64", [1, 1.333521, 1.778279, 2.371374, 3.162278], near[:5], 1e-5),
        published("longest period of rotation", 74.989418, far[15], 1e-3),
        published("rotations 14 × 14: sines", sine, sines[0, :4], 1e-6),
        published("rotations 14 × 14: cosines", cosine, cosines[0, 16:20], 1e-6),
        published("rotations 14 × 14: sum of cosines", 8257.640218, cosines.double().sum(), 1e-3),
    ]


def assignments() -> list[Row]:
    x = 0.3 * det((6, 5), 0.7, 0.3)
    plan, uniform = losses.sinkhorn_knopp(x, 0.07), losses.sinkhorn_knopp(x, 0.07, rounds=200)
    first = [0.015484, 0.208142, 0.641246, 0.133487, 0.001642]
    last = [0.746558, 0.228610, 0.023587, 0.001194, 0.000050]
    columns = [1.036898, 0.994526, 1.023118, 1.388908, 1.556550]
    logits = (5 * det((16, 1024), 0.7, 0.3)).float()
    reference = torch.from_numpy(sinkhorn(logits.numpy(), 0.04)).float()
    return [
        published("Sinkhorn-Knopp, 3 rounds: row 0", first, plan[0], 1e-6),
        published("Sinkhorn-Knopp, 3 rounds: row 4", last, plan[4], 1e-6),
        published("Sinkhorn-Knopp, 3 rounds: column sums", columns, plan.sum(0), 1e-6),
        published("Sinkhorn-Knopp, 200 rounds: column sums", [1.2] * 5, uniform.sum(0), 1e-5),
        published("Sinkhorn-Knopp, 3 rounds: row sums", [1] * 6, plan.sum(1), 1e-6),
        executed(
            "Sinkhorn-Knopp, 3 rounds of 16 × 1024",
            "plain algorithm in float64",
            reference,
            losses.sinkhorn_knopp(logits, 0.04),
            1e-6,
        ),
    ]


def loss_terms() -> list[Row]:
    student, teacher = det((10, 3, 5), 0.31, 0.2), torch.softmax(det((2, 3, 5), 0.53, 0.4) / 0.2, -1)
    total, of_globals = losses.dino(student, teacher), losses.dino(student[:2], teacher)
    guesses, answers = det((4, 5), 0.41, 0.2), torch.softmax(det((4, 5), 0.61, 0.1) / 0.2, -1)
    weights = torch.tensor([1 / 3, 1 / 3, 1 / 3, 1.0], dtype=torch.float64)
    x = det((6, 8), 0.9, 0.1)
    twice = torch.cat([x[:1], x[:1], x[2:]])
    a, b = det((2, 6, 4), 0.23, 0.1), det((2, 6, 4), 0.29, 0.5)
    return [
        published("DINO, global crops", 6.574441, of_globals, 1e-6),
        published("DINO, local crops", 4.143640, (18 * total - 2 * of_globals) / 16, 1e-6),
        published("DINO, all pairs", 4.413729, total, 1e-6),
        published("iBOT", 2.945152, losses.ibot(guesses, answers, weights, crops=4), 1e-6),
        published("iBOT, plain mean", 4.063682, losses.cross_entropy(guesses, answers).mean(), 1e-6),
        published("KoLeo", 0.169942, losses.koleo(x), 1e-6),
        published("KoLeo with a duplicate", 5.7933, losses.koleo(twice), 5e-5),
        published("KoLeo, all alike, width 384", 15.40, losses.koleo(torch.ones(4, 384)), 5e-3),
        published("Gram, over each image", 0.675295, losses.gram(a, b), 1e-6),
        published("Gram, over the batch", 1.010664, losses.gram(a.reshape(1, 12, 4), b.reshape(1, 12, 4)), 1e-6),
        published("Gram of a with a", 0.0, losses.gram(a, a), 0),
    ]


def schedule() -> list[Row]:
    s = registry.settings("dinov3:official", tracks.BASE)
    steps = [0, 1, 6250, 12500, 68750, 124999, 62500]
    found, decays = rates("dinov3:official", tracks.BASE, 2048, [step / 125000 for step in steps])
    momentum = [schedules.cosine(step / 125000, start=s.momentum, end=1.0) for step in (0, 62500, 124999)]
    low, high = s.teacher_temperature
    warmth = [schedules.linear(step / 125000, start=low, end=high, until=0.3) for step in (0, 18750, 37499)]
    warming, cooling = [0, 4.525845467e-7, 2.828653417e-3], [5.656854249e-3, 2.828927125e-3, 1.000001103e-6]
    return [
        published("learning rate at steps 0, 1, 6250: theirs peaks a step early", warming, found[:3], 3e-7),
        published("learning rate at steps 12500, 68750, 124999", cooling, found[3:6], 1e-11),
        published("weight decay at steps 0, 62500, 124999", [0.04, 0.22, 0.4], [decays[i] for i in (0, 6, 5)], 1e-9),
        published("momentum at these steps", [0.992, 0.996, 1.0], momentum, 1e-9),
        published("teacher temperature at steps 0, 18750, 37499", [0.04, 0.0550004, 0.07], warmth, 1e-6),
        published("Gram weight 500 steps into its ramp", 1.0016, schedules.cosine(500 / 999, start=0.0, end=2.0), 5e-5),
    ]


def layer_rates() -> list[Row]:
    spec = EncoderSpec(width=32, depth=12, heads=2, patch=16, pixels=224)
    model = dinov3.Model(registry.settings("dinov3:official", spec), Encoder(spec, seed=0), "histo", seed=0)
    names = ("cls_token", "patch_embed.proj.weight", "blocks.0.attn.qkv.weight", "blocks.11.norm2.bias", "norm.weight")
    figures = [0.254187, 0.050837, 0.28243, 0.9, 1.0]
    found = [model.lr_scale(model.rate_group(f"student.vit.{name}"), 0.5) for name in names]
    return [published("layer-wise rate of cls, embedding, blocks 0 and 11, norm", figures, found, 5e-7)]


def hidden_counts() -> list[Row]:
    ladder = mask_sizes.ibot_counts(128, 196)
    found = [sum(ladder), len(ladder), min(ladder), max(ladder)]
    return [
        published("hidden patches, crops, least, most at batch 64", [3771, 64, 20, 98], found, 0),
        published("hidden patches at batch 4", [39, 58, 78, 98], mask_sizes.ibot_counts(8, 196), 0),
    ]


def size() -> list[Row]:
    s = registry.settings("dinov3:official", tracks.SMALL)
    heads = [parameters(dinov3.Head(replace(s, prototypes=k), 384, seed=0)) for k in (65536, 8192)]
    keys, found = [12 * 192, 12 * 384], []
    for size, key_biases in zip((tracks.TINY, tracks.SMALL), keys, strict=True):
        spec = replace(size, trunk="rope", registers=4)
        found.append(parameters(Encoder(spec, seed=0)) - key_biases)
    return [
        published("head of 65536 and of 8192 prototypes, width 384", [22_286_592, 7_606_528], heads, 0),
        published("ViT-Ti and ViT-S less key biases", [5_489_664, 21_596_160], found, 0, "timm Eva"),
    ]


def beside_timm() -> list[Row]:
    """ViT-S/16 with four registers and shaken weights, LayerScale near 1: initial ones would hide attention."""
    spec, rows = replace(tracks.SMALL, trunk="rope", registers=4), []
    encoder = Encoder(spec, seed=0)
    with torch.no_grad():
        for name, value in encoder.named_parameters():
            value += 0.02 * det(tuple(value.shape), 0.37, 0.1) + 0.8 * ("ls" in name)
            if name.endswith("qkv.bias"):
                value[384:768] = 0
    eva = timm_dinov3("small", encoder)
    for pixels in (224, 96):
        images = pictures(2, pixels)
        with torch.no_grad():
            ours, theirs = encoder(images), eva.forward_features(encoder.normalise(images))
        name = f"timm vit_small_patch16_dinov3_qkvb, {pixels} pixels"
        rows.append(executed("encoder, cls token", name, theirs[:, 0], ours.cls, 2e-5))
        rows.append(executed("encoder, patches", name, theirs[:, 5:], ours.patches, 2e-5))
    return rows


def crops() -> list[Row]:
    """Both crop sizes in one pass through the linear layers, on the authors' trunk."""
    encoder = Encoder(replace(NANO, trunk="rope", registers=4), seed=0)
    shake(encoder)
    views = pictures(4, 32), pictures(6, 16)
    with torch.no_grad():
        together = encoder.run([encoder.sequence(view) for view in views])
        apart = [encoder(view) for view in views]
    ours, theirs = (torch.cat([tokens.patches.flatten() for tokens in passes]) for passes in (together, apart))
    return [executed("crops of two sizes in one pass", "our pass for each size", theirs, ours, 1e-6)]


def heads() -> list[Row]:
    """lightly's weight-normed prototypes, multiplied out."""
    from lightly.models.modules import heads

    sizes = {"local_crops": 8, "local_pixels": 96, "momentum": 0.9, "batch": 2, "lr": 1.0}
    ours, x, rows = (
        dinov3.Head(dinov3.Settings(prototypes=96, head_width=80, bottleneck=24, **sizes), 48, seed=0),
        det((7, 48), 0.9, 0.1).float(),
        [],
    )
    for name in ("DINOProjectionHead", "DINOv2ProjectionHead"):
        theirs = getattr(heads, name)(input_dim=48, hidden_dim=80, bottleneck_dim=24, output_dim=96)
        ours.mlp.load_state_dict(theirs.layers.state_dict())
        ours.last_layer.weight.data.copy_(F.normalize(theirs.last_layer.weight_v, dim=1))
        with torch.no_grad():
            rows.append(executed("head", f"lightly {name}", theirs(x), ours(x), 1e-6))
    return rows


def gradient(value: Tensor, inputs: Tensor) -> Tensor:
    return torch.autograd.grad(value, inputs, retain_graph=True)[0]


def losses_beside_lightly() -> list[Row]:
    """Values and gradients; lightly's centre is zero, so its targets are a plain softmax."""
    from lightly.loss import DINOLoss, IBOTPatchLoss, KoLeoLoss
    from lightly.loss.swav_loss import sinkhorn as swav

    student, teacher = det((6, 16, 64), 0.31, 0.2).requires_grad_(), det((2, 16, 64), 0.53, 0.4)
    dino = losses.dino(student, torch.softmax(teacher / 0.25, -1))
    their_dino = DINOLoss(output_dim=64, teacher_temp=0.25).double()(list(teacher), list(student))
    hidden = torch.zeros(6, 3, 3, dtype=torch.bool)
    hidden[0, 0], hidden[2, 1, 1], hidden[5] = True, True, True  # 3, 0, 1, 0, 0 and 9 hidden tokens
    weights = (1 / hidden.flatten(1).sum(1, keepdim=True)).expand(-1, 9)[hidden.flatten(1)].double()
    guesses, answers = det((13, 32), 0.41, 0.2).requires_grad_(), det((13, 32), 0.61, 0.1)
    ibot = losses.ibot(guesses, torch.softmax(answers / 0.25, -1), weights, crops=6)
    their_ibot = IBOTPatchLoss(output_dim=32, teacher_temp=0.25).double()(answers, guesses, hidden)
    x = (det((64, 192), 0.9, 0.1) + det((64, 192), 2.3, 0.7)).float().requires_grad_()
    koleo, their_koleo = losses.koleo(x), KoLeoLoss()(x)
    logits = det((32, 48), 0.7, 0.3).float()
    targets = swav(logits, iterations=3, epsilon=0.07, gather_distributed=False)
    return [
        executed("DINO", "lightly DINOLoss", their_dino.detach(), dino.detach(), 1e-12),
        executed("DINO, gradient", "lightly DINOLoss", gradient(their_dino, student), gradient(dino, student), 1e-12),
        executed("iBOT", "lightly IBOTPatchLoss", their_ibot.detach(), ibot.detach(), 1e-12),
        executed(
            "iBOT, gradient", "lightly IBOTPatchLoss", gradient(their_ibot, guesses), gradient(ibot, guesses), 1e-12
        ),
        executed("KoLeo", "lightly KoLeoLoss", their_koleo.detach(), koleo.detach(), 1e-5),
        executed("KoLeo, gradient", "lightly KoLeoLoss", gradient(their_koleo, x), gradient(koleo, x), 1e-6),
        executed("Sinkhorn-Knopp", "lightly swav_loss.sinkhorn", targets, losses.sinkhorn_knopp(logits, 0.07), 1e-6),
    ]


def step_beside_lightly() -> list[Row]:
    """The whole objective; targets of `sinkhorn` in float64 enter lightly as logits at temperature 1."""
    from lightly.loss import DINOLoss, IBOTPatchLoss, KoLeoLoss

    settings = replace(registry.settings("dinov3", NANO), centring="sinkhorn")
    model = dinov3.Model(settings, Encoder(NANO, seed=0), "histo", seed=1)
    s, seen = model.settings, views(model, noise(8, 32), drawn())
    shake(model)
    found = model(seen, 0.3).parts
    with torch.no_grad():
        whole = model.student(seen["globals"], hidden=seen["hidden"], mask_token=model.mask_token)
        local, teacher = model.student(seen["locals"]), model.teacher(seen["globals"])
        targets = sinkhorn(model.teacher_dino_head(teacher.cls).numpy(), s.teacher_temperature[1])
        answers = sinkhorn(model.teacher_ibot_head(teacher.patches[seen["hidden"]]).numpy(), s.teacher_temperature[1])
        logits = [model.dino_head(cls) for cls in (*whole.cls.chunk(2), *local.cls.chunk(s.local_crops))]
        guesses, where = (
            model.ibot_head(whole.patches[seen["hidden"]]),
            seen["hidden"].unflatten(1, (dinov3.global_grid(model.settings, model.spec),) * 2),
        )
        dino = DINOLoss(output_dim=s.prototypes, teacher_temp=1.0)(
            list(torch.from_numpy(targets).log().float().chunk(2)), logits
        )
        ibot = IBOTPatchLoss(output_dim=s.prototypes, teacher_temp=1.0)(
            torch.from_numpy(answers).log().float(), guesses, where
        )
        koleo = sum(KoLeoLoss()(cls) for cls in whole.cls.chunk(2))
    parts = {"dino": dino, "ibot": ibot, "koleo": koleo, "loss": dino + ibot + s.koleo_weight * koleo}
    return [
        executed(f"step: {name}", "a step of lightly's losses", value, found[name], 1e-5)
        for name, value in parts.items()
    ]


COMPARISONS = (
    positions,
    assignments,
    loss_terms,
    schedule,
    layer_rates,
    hidden_counts,
    size,
    beside_timm,
    crops,
    heads,
    losses_beside_lightly,
    step_beside_lightly,
)
