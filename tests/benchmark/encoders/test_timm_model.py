"""Weights from outside are loaded whole or refused, and what a config.json says is taken or named."""

import json
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from benchmark.encoders import external, timm_model, weights
from tasks.base import DataError

MODEL = "test_vit"  # timm's smallest, patches of 16 pixels
CONFIG = {"input_size": [3, 64, 64], "fixed_input_size": True, "mean": [0.5, 0.4, 0.3], "std": [0.3, 0.2, 0.1]}


def trained(architecture: str = MODEL, **arguments) -> torch.nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(99)
        return timm.create_model(architecture, **{"num_classes": 0, **arguments}).eval()


def small(**arguments) -> dict[str, torch.Tensor]:
    return trained(**{"img_size": 64, **arguments}).state_dict()


def written(folder: Path, tensors: dict[str, torch.Tensor], config: object = None, **arguments) -> str:
    """A folder with weights and config.json; the path of the weights."""
    save_file({name: value.contiguous().clone() for name, value in tensors.items()}, folder / "model.safetensors")
    said = {"architecture": MODEL, "model_args": {"img_size": 64, **arguments}, "pretrained_cfg": CONFIG}
    (folder / "config.json").write_text(json.dumps(said if config is None else config))
    return str(folder / "model.safetensors")


def refused(path: str, *words: str, pixels: int | None = None) -> str:
    with pytest.raises(DataError) as caught:
        external.open_encoder(path, pixels)
    for word in words:
        assert word in str(caught.value)
    return str(caught.value)


def same_features(opened: external.Opened, model: torch.nn.Module) -> bool:
    images = torch.rand(2, 3, opened.model.spec.pixels, opened.model.spec.pixels)
    mean, std = (torch.tensor(CONFIG[part])[:, None, None] for part in ("mean", "std"))
    with torch.inference_mode():
        expected = external.timm_tokens(model, (images - mean) / std)
        return torch.equal(opened.model(images).patches, expected.patches)


@pytest.mark.parametrize(
    ("architecture", "side", "arguments"),
    [
        (MODEL, 64, {"img_size": 64}),
        ("test_convnext", 64, {}),
        ("test_resnet", 64, {}),
        ("test_efficientnet", 64, {}),
        ("swin_tiny_patch4_window7_224", 64, {"img_size": 64, "window_size": 2, "depths": [1, 1, 1, 1]}),
        ("vit_small_patch14_reg4_dinov2", 56, {"img_size": 56, "depth": 2}),
        ("vit_base_patch16_siglip_224", 64, {"img_size": 64, "depth": 2, "embed_dim": 96, "num_heads": 3}),
    ],
)
@pytest.mark.parametrize("prefix", ["", "teacher.backbone."])
def test_every_tensor_of_each_kind_of_model_is_loaded_its_classifier_aside(
    tmp_path, architecture, side, arguments, prefix
):
    model = trained(architecture, **arguments, num_classes=5)
    tensors = {prefix + name: value for name, value in model.state_dict().items()}
    config = {"architecture": architecture, "model_args": arguments}
    config["pretrained_cfg"] = CONFIG | {"input_size": [3, side, side], "fixed_input_size": False}
    opened = external.open_encoder(written(tmp_path, tensors, config))
    size = len(timm.create_model(architecture, num_classes=0, **arguments).state_dict())
    assert opened.loaded.startswith(f"{size} of {size} tensors loaded")
    assert ("prefix teacher.backbone. removed" in opened.loaded) == bool(prefix)
    assert same_features(opened, model)
    assert opened.digest != external.fingerprint(opened.floor)


@pytest.mark.parametrize(
    "prefix",
    [
        "module.",
        "_orig_mod.module.",
        "student.",
        "backbone.",
        "encoder.",
        "model.",
        "trunk.",
        "visual.",
        "visual.trunk.",
    ],
)
def test_a_wrappers_prefix_is_removed_and_said(tmp_path, prefix):
    model = trained(img_size=64)
    tensors = {prefix + name: value for name, value in model.state_dict().items()}
    opened = external.open_encoder(written(tmp_path, tensors))
    assert f"prefix {prefix} removed" in opened.loaded or "names converted by timm" in opened.loaded
    assert same_features(opened, model)


@pytest.mark.parametrize(
    ("prefix", "others"),
    [
        ("", ["head.weight", "mask_token", "decoder_blocks.0.norm1.weight", "decoder.norm.bias"]),
        ("backbone.", ["head.fc.weight", "decoder_embed.weight"]),
        ("teacher.backbone.", ["teacher.dino_head.mlp.0.weight", "teacher.ibot_head.mlp.0.weight"]),
        ("visual.", ["transformer.resblocks.0.ln_1.weight", "token_embedding.weight", "logit_scale"]),
    ],
)
def test_heads_decoders_and_another_tower_are_left_out_and_counted(tmp_path, prefix, others):
    tensors = {prefix + name: value for name, value in small().items()} | {name: torch.ones(3) for name in others}
    opened = external.open_encoder(written(tmp_path, tensors))
    assert f"{len(others)} not of the encoder left out, " in opened.loaded


def test_names_of_another_code_are_converted_as_timm_does(tmp_path):
    """DINOv2's own names of registers, whose cls position timm adds to the cls token."""
    arguments = {"img_size": 56, "depth": 2}
    tensors = trained("vit_small_patch14_reg4_dinov2", **arguments).state_dict()
    place = torch.rand(1, 1, 384)
    theirs = tensors | {"pos_embed": torch.cat([place, tensors["pos_embed"]], dim=1), "mask_token": torch.ones(1, 384)}
    theirs["register_tokens"] = theirs.pop("reg_token")
    config = {"architecture": "vit_small_patch14_reg4_dinov2", "model_args": arguments, "pretrained_cfg": CONFIG}
    opened = external.open_encoder(written(tmp_path, theirs, config))
    assert "names converted by timm" in opened.loaded
    assert torch.equal(opened.model.model.cls_token, tensors["cls_token"] + place)
    assert torch.equal(opened.model.model.reg_token, tensors["reg_token"])


def without(tensors: dict[str, torch.Tensor], *parts: str) -> dict[str, torch.Tensor]:
    return {name: value for name, value in tensors.items() if not name.startswith(parts)}


def both_networks(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {f"{part}.{name}": value for part in ("teacher", "student") for name, value in tensors.items()}


REFUSED = {
    "a block": (lambda t: without(t, "blocks.3."), "12 missing, such as blocks.3.norm1.weight"),
    "the cls token": (lambda t: without(t, "cls_token"), "1 missing, cls_token"),
    "positions": (lambda t: without(t, "pos_embed"), "1 missing, pos_embed"),
    "layer scale": (lambda t: small(init_values=0.1), "such as blocks.0.ls1.gamma"),
    "another width": (lambda t: small(embed_dim=96, num_heads=3), "1 x 1 x 96 of float32 in the file, 1 x 1 x 64"),
    "another patch": (lambda t: small(patch_size=8), "patch_embed.proj.weight (64 x 3 x 8 x 8 of float32 in the file"),
    "one channel": (lambda t: small(in_chans=1), "patch_embed.proj.weight (64 x 1 x 16 x 16 of float32 in the file"),
    "an adapter": (lambda t: t | {"adapter.down.weight": torch.ones(3)}, "1 unexpected, adapter.down.weight"),
    "an unknown prefix": (lambda t: {f"foo.{n}": v for n, v in t.items()}, "unexpected, such as foo.blocks.0"),
    "half a prefix": (lambda t: {f"model.{n}" if "blocks" in n else n: v for n, v in t.items()}, "missing, such as "),
    "two networks": (both_networks, "save the encoder's weights alone"),
    "integers": (lambda t: {n: v.to(torch.int8) for n, v in t.items()}, "of int8 in the file, "),
    "nan": (lambda t: t | {"norm.bias": torch.full_like(t["norm.bias"], torch.nan)}, "of 1 tensors are not finite"),
    "transformers": (lambda t: {"embeddings.patch_embeddings.projection.weight": torch.ones(3)}, "Hugging Face"),
    "nothing": (lambda t: {}, "holds no tensor"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_weights_that_do_not_fit_are_refused_with_counts_and_names(tmp_path, kind):
    change, words = REFUSED[kind]
    path = written(tmp_path, change(small()))
    refused(path, path, words)


def test_layer_scale_that_the_file_lacks_is_refused(tmp_path):
    refused(written(tmp_path, small(), init_values=0.1), "missing, such as blocks.0.ls1.gamma")


def test_the_untrained_floor_is_no_trained_encoder(tmp_path):
    description = timm_model.describe("here", MODEL, {"img_size": 64}, CONFIG)
    loaded = timm_model.load(description, Path(written(tmp_path, small())), None, seed=0)
    refused(written(tmp_path, loaded.floor.state_dict()), "those of the untrained test_vit")


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_another_precision_is_read_as_its_values(tmp_path, kind):
    tensors = {name: value.to(kind) for name, value in small().items()}
    opened = external.open_encoder(written(tmp_path, tensors))
    held = opened.model.model.state_dict()
    assert all(torch.equal(held[name], value.float()) for name, value in tensors.items())


@pytest.mark.parametrize(("saved", "asked"), [(64, 96), (96, 64)])
def test_positions_of_another_size_are_resampled_by_timm_and_said(tmp_path, saved, asked):
    tensors = small(img_size=saved)
    told = external.open_encoder(written(tmp_path, tensors, img_size=asked))
    assert "pos_embed resampled by timm" in told.loaded
    pixels = external.open_encoder(written(tmp_path, tensors, img_size=saved), pixels=asked)
    assert "pos_embed resampled by timm" in pixels.loaded
    plain = timm.create_model(MODEL, img_size=asked, num_classes=0, pretrained=True,
                              pretrained_cfg=CONFIG | {"state_dict": tensors, "num_classes": 0}).eval()  # fmt: skip
    assert same_features(told, plain)
    assert same_features(pixels, plain)


def test_pixels_that_patches_do_not_fill_are_refused(tmp_path):
    refused(written(tmp_path, small()), "100 pixels are no multiple of the 16 x 16 patches", pixels=100)
    config = {"architecture": "test_resnet", "pretrained_cfg": CONFIG | {"fixed_input_size": False}}
    assert external.open_encoder(written(tmp_path, trained("test_resnet").state_dict(), config), 100)


def config_with(**changes) -> dict:
    """A config.json whose pretrained_cfg or, by "args", whose model_args hold other values."""
    arguments = {"img_size": 64, **changes.pop("args", {})}
    cfg = {name: value for name, value in {**CONFIG, **changes.pop("cfg", {})}.items() if value is not None}
    return {"architecture": MODEL, "model_args": arguments, "pretrained_cfg": cfg, **changes}


@pytest.mark.parametrize(
    "config",
    [
        config_with(args={"num_classes": 0, "dynamic_img_size": True}),
        config_with(args={"num_classes": 7}),
        config_with(args={"img_size": [64, 64]}),
        config_with(num_classes=1000, cfg={"label_offset": 1, "classifier": "head", "num_classes": 1000}),
        config_with(cfg={"url": "http://localhost/x", "source": "hf-hub", "hf_hub_id": "a/b", "custom_load": True}),
        config_with(cfg={"file": "/nowhere", "state_dict": {"cls_token": 1}}),
        {"architecture": MODEL, **CONFIG},
    ],
)
def test_configs_that_say_the_same_give_the_same(tmp_path, config):
    plain = external.open_encoder(written(tmp_path, small(), config_with()))
    opened = external.open_encoder(written(tmp_path, small(), config))
    assert opened.digest == plain.digest
    assert opened.loaded == plain.loaded


def test_what_a_config_leaves_to_timms_defaults_is_said(tmp_path):
    opened = external.open_encoder(written(tmp_path, small(), config_with(cfg={"mean": None, "std": None})))
    assert "no mean in the config, so timm's default of 0.485, 0.456, 0.406" in opened.loaded
    assert "no std in the config, so timm's default of 0.229, 0.224, 0.225" in opened.loaded
    assert opened.model.mean.flatten().tolist() == pytest.approx(timm.data.constants.IMAGENET_DEFAULT_MEAN)
    alone = external.open_encoder(written(tmp_path, small(img_size=224), {"architecture": MODEL}))
    assert "no image size in the config, so timm's default of 224 pixels" in alone.loaded
    assert alone.model.spec.pixels == 224


def test_a_size_that_nobody_says_is_not_guessed_against_the_positions(tmp_path):
    path = written(tmp_path, small(), {"architecture": MODEL})
    refused(path, "names no image size", "pos_embed resampled by timm, 1 x 17 x 64 of float32 in the file", "--pixels")
    said = external.open_encoder(path, pixels=64)
    assert "resampled" not in said.loaded
    assert said.model.spec.pixels == 64


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ([1], "no config that timm can read"),
        ({"architectures": ["ViTModel"], "model_type": "vit"}, "a config of Hugging Face transformers"),
        (config_with(architecture=3), "knows no architecture 3"),
        (config_with(architecture="test_vti"), "did you mean 'test_vit'"),
        (config_with(architecture="hf-hub:someone/theirs"), "knows no architecture 'hf-hub:someone/theirs'"),
        (config_with(model_args=[1]), "model_args should hold names and values, not [1]"),
        (config_with(pretrained_cfg="vit"), "pretrained_cfg should hold names and values, not 'vit'"),
        (config_with(args={"in_chans": 1}), "a model of 1-channel images"),
        (config_with(cfg={"input_size": [1, 64, 64]}), "a model of 1-channel images"),
        (config_with(args={"img_size": "64"}), "image size '64' should be the side of a square"),
        (config_with(args={"img_size": [64, 96]}), "image size [64, 96] should be the side of a square"),
        (config_with(args={"img_size": True}), "image size True"),
        (config_with(cfg={"input_size": 64}), "input_size 64 should be [channels, height, width]"),
        (config_with(args={"unheard_of": 1}), "unexpected keyword argument 'unheard_of'"),
        (config_with(args={"num_heads": 0}), "timm cannot build test_vit with the arguments {'img_size': 64, 'num_hea"),
        (config_with(args={"norm_layer": "nope"}), "KeyError: 'nope'"),
        (config_with(args={"embed_dim": "64"}), "timm cannot build test_vit"),
        (config_with(args={"checkpoint_path": "x.pth"}), "model_args hold checkpoint_path, no property of an archi"),
        (config_with(args={"features_only": True}), "model_args hold features_only"),
        (config_with(cfg={"mean": 0.5}), "mean 0.5 should be three numbers"),
        (config_with(cfg={"mean": [123.7, 116.3, 103.5]}), "mean [123.7, 116.3, 103.5] should be three numbers for im"),
        (config_with(cfg={"mean": ["a", "b", "c"]}), "should be three numbers"),
        (config_with(cfg={"mean": [float("nan")] * 3}), "mean [nan, nan, nan]"),
        (config_with(cfg={"std": [0, 0, 0]}), "std [0, 0, 0] should be three numbers"),
    ],
)
def test_a_config_that_cannot_be_followed_is_refused_by_name(tmp_path, config, words):
    refused(written(tmp_path, small(), config), "config.json", words)


@pytest.mark.parametrize("content", [b"", b"{nope", b'{"architecture": "\xe9"}', b"[" * 100_000])
def test_a_config_that_is_no_json_is_refused(tmp_path, content):
    path = written(tmp_path, small())
    (tmp_path / "config.json").write_bytes(content)
    refused(path, "config.json: no config that timm can read")


def test_tokens_that_are_no_square_of_patches_are_refused(tmp_path):
    """CoaT keeps its cls token among the patches and does not say so."""
    config = {"architecture": "coat_lite_tiny", "model_args": {"img_size": 64}, "pretrained_cfg": CONFIG}
    tensors = trained("coat_lite_tiny", img_size=64).state_dict()
    refused(written(tmp_path, tensors, config), "no square of patches")


def test_a_module_is_filled_whole_or_not_at_all(tmp_path):
    module = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Linear(3, 1))
    first = {name: value.clone() for name, value in module.state_dict().items() if name.startswith("0.")}
    path = tmp_path / "first.safetensors"
    save_file({name: value + 1 for name, value in first.items()}, path)
    with pytest.raises(DataError, match=r"first.safetensors: its 2 tensors do not fit: 2 missing, 1.weight, 1.bias"):
        weights.load(module, path)
    weights.load(module, path, first)
    assert torch.equal(module[0].weight, first["0.weight"] + 1)
    save_file({"0.weight": torch.ones(2), "1.bias": torch.ones(2)}, path)
    with pytest.raises(DataError, match=r"1 missing, 0.bias; 1 unexpected, 0.weight; 1 of another"):
        weights.load(module, path, ("0.bias", "1.bias"))
