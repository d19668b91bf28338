"""MAE beside its authors' figures, timm and lightly."""

from dataclasses import replace

import timm
import torch
import torch.nn.functional as F

from benchmark import registry, tracks
from benchmark.encoders.encoder import Encoder, gather, sincos
from benchmark.parts import losses
from benchmark.pretexts import mae
from tests.helpers.seen import random_tokens
from tests.parity import NANO, Row, det, executed, parameters, pictures, published, rates, timm_vit


def positions() -> list[Row]:
    table = torch.cat([torch.zeros(1, 192), sincos(14, 192)]).double()
    weighted = (table.flatten() * torch.sin(torch.arange(table.numel()).double())).sum()
    second = [0.841471, 0.734822, 0.540302]
    last = [0.420167, -0.965009, 0.907447]
    return [
        published("positions, 14 × 14, width 192: sum", 17277.554156, table.sum(), 2e-3),
        published("positions: sum of squares", 18816.0, table.square().sum(), 1e-3),
        published("positions: sum weighted by sin(index)", 4.2417647, weighted, 1e-4),
        published("positions: row 0 column 1", [*second, 0, 0, 1], table[2, [0, 1, 48, 96, 97, 144]], 1e-6),
        published("positions: row 1 column 0", second, table[15, [96, 97, 144]], 1e-6),
        published("positions: row 13 column 13", [*last, *last], table[196, [0, 1, 48, 96, 97, 144]], 1e-6),
    ]


def random_masks() -> list[Row]:
    mask = random_tokens(det((2, 16), 0.9, 0.2), 0.75)
    rows = torch.ones(2, 16, dtype=int).scatter_(1, mask.keep, 0)
    drawn = [int(digit) for digit in "1111100111100111" + "1100111110011111"]
    counts = [random_tokens(torch.rand(1, 196), ratio).keep.shape[1] for ratio in (0.5, 0.6, 0.75, 0.8, 0.9)]
    return [
        published("mask of given noise: kept", [12, 5, 6, 11, 3, 10, 9, 2], mask.keep.flatten(), 0),
        published("mask of given noise: rows", drawn, rows.flatten(), 0),
        published("kept of 196 at ratios .5, .6, .75, .8, .9", [98, 78, 49, 39, 19], counts, 0),
    ]


def target() -> list[Row]:
    patches, predicted = losses.patchify(det((2, 3, 32, 32), 0.37, 0.1), 8), det((2, 16, 192), 0.11, 0.2)
    hidden = torch.arange(32).reshape(2, 16) % 4 != 0
    plain, normed = (
        F.mse_loss(predicted[hidden], x[hidden]).item() for x in (patches, losses.normalise_patches(patches))
    )
    return [
        published("patchify: patch 1, value 5", 0.79836662, patches[0, 1, 5], 1e-8),
        published("loss, plain pixels", 1.0032274963, plain, 1e-9),
        published("loss, normalised pixels", 1.4992470529, normed, 1e-9),
    ]


def schedule() -> list[Row]:
    epochs = [0, 0.5, 20, 39.9, 40, 230, 420, 799.5]
    figures = [0, 3e-5, 1.2e-3, 2.394e-3, 2.4e-3, 2.0485281374e-3, 1.2e-3, 2.563089e-9]
    found, decays = rates("mae:official", tracks.BASE, 4096, [epoch / 800 for epoch in epochs])
    return [
        published("learning rate at epochs 0, .5, 20, 39.9, 40, 230, 420, 799.5", figures, found, 1e-13),
        published("weight decay at these epochs", [0.05] * 8, decays, 1e-9),
    ]


def size() -> list[Row]:
    made = mae.Model(registry.settings("mae:official", tracks.BASE), Encoder(tracks.BASE, seed=0), "histo", seed=0)
    trained = parameters(made)
    decoder = trained - parameters(made.student) + 197 * 512
    return [
        published("ViT-B, trained parameters", 111_655_680, trained, 0),
        published("ViT-B, with both position tables", 111_907_840, trained + 197 * (768 + 512), 0),
        published("ViT-B, decoder of these", 26_109_184, decoder, 0),
    ]


def beside_timm() -> list[Row]:
    encoder, images, noise = Encoder(NANO, seed=0), pictures(6, 32), det((6, 16), 0.9, 0.2)
    vit, keep = timm_vit(encoder), random_tokens(noise, 0.75).keep
    with torch.no_grad():
        x, ours, whole = encoder.normalise(images), encoder(images, keep=keep), encoder(images)
        tokens = gather(vit.patch_embed(x) + vit.pos_embed[:, 1:], keep)
        cls = (vit.cls_token + vit.pos_embed[:, :1]).expand(len(x), -1, -1)
        theirs, everything = vit.norm(vit.blocks(torch.cat([cls, tokens], dim=1))), vit.forward_features(x)
    blocks = timm.layers.build_sincos2d_pos_embed([14, 14], 192).chunk(4, dim=1)
    permuted = torch.cat([blocks[i] for i in (1, 3, 0, 2)], dim=1)
    name = "timm VisionTransformer"
    return [
        executed("encoder, visible patches", name, theirs, torch.cat([ours.cls[:, None], ours.patches], 1), 0),
        executed("encoder, whole image", name, everything, torch.cat([whole.cls[:, None], whole.patches], 1), 0),
        executed("positions, blocks permuted", "timm build_sincos2d_pos_embed", permuted, sincos(14, 192), 1e-6),
    ]


def beside_lightly() -> list[Row]:
    from lightly.models import modules, utils

    images, noise = pictures(6, 32).double(), det((6, 16), 0.9, 0.2)
    settings = replace(registry.settings("mae", NANO), mask_ratio=0.75, target="normalised", variance_floor=1e-6)
    made = mae.Model(settings, Encoder(NANO, seed=1), "histo", seed=2).double()  # sums in any order agree in float64
    s, x = made.settings, made.student.normalise(images)
    mask = random_tokens(noise, s.mask_ratio)
    skip = {"weight_initialization": "skip", "pos_embed_initialization": "skip"}
    encoder = modules.MaskedVisionTransformerTIMM(timm_vit(made.student), **skip).double()
    decoder = modules.MaskedVisionTransformerDecoderTIMM(16, s.decoder_width, s.decoder_depth, s.decoder_heads).double()
    weights = {
        f"norm.{name[2:]}" if name.startswith(f"{s.decoder_depth}.") else f"blocks.{name}": value
        for name, value in made.decoder.state_dict().items()
    }
    own = {"mask_token": made.mask_token[None, None], "pos_embed": made.decoder_positions[None]}
    positions = decoder.pos_embed.detach().clone()
    decoder.load_state_dict(weights | own, strict=True)
    keep = torch.cat([torch.zeros(len(x), 1, dtype=int), mask.keep + 1], dim=1)  # lightly counts cls as token 0
    with torch.no_grad():
        latents, tokens = encoder.encode(x, idx_keep=keep), made.student(images, keep=mask.keep)
        filled = decoder.mask_token.repeat(len(x), 17, 1)
        filled = utils.set_at_index(filled, keep, made.decoder_embed(latents))
        predicted = made.predict(utils.get_at_index(decoder(filled), mask.hide + 1))
        target = utils.normalize_mean_var(utils.get_at_index(utils.patchify(x, 8), mask.hide))
        loss = made({"images": images} | mask._asdict(), 0.5).loss
        ours = made.decode(*tokens, mask.hide, mask.restore)
    patches = losses.patchify(x, 8)
    kept, _ = utils.random_token_mask((6, 197), mask_ratio=0.75)
    seen = torch.cat([tokens.cls[:, None], tokens.patches], dim=1)
    return [
        executed("encoder", "lightly MaskedVisionTransformerTIMM", latents, seen, 0),
        executed("decoder positions", "lightly MaskedVisionTransformerDecoderTIMM", positions, own["pos_embed"], 1e-6),
        executed("decoder", "lightly MaskedVisionTransformerDecoderTIMM", predicted, ours, 1e-12),
        executed("loss", "a step of lightly's parts", F.mse_loss(predicted, target), loss, 1e-8),
        executed("patchify", "lightly patchify", utils.patchify(x, 8), patches, 0),
        executed("patches put back", "lightly unpatchify", x, utils.unpatchify(patches, 8), 0),
        executed(
            "normalised patches",
            "lightly normalize_mean_var",
            utils.normalize_mean_var(patches),
            losses.normalise_patches(patches),
            0,
        ),
        published("kept of 197 tokens, cls with them", kept.shape[1], 1 + 49, 0, "lightly random_token_mask"),
    ]


COMPARISONS = (
    positions,
    random_masks,
    target,
    schedule,
    size,
    beside_timm,
    beside_lightly,
)
