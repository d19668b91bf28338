"""An exported encoder, loaded by plain timm: the same features."""

import json
from dataclasses import replace

import pandas as pd
import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

from benchmark.encoders import encoder, export, external
from benchmark.recipe import EncoderSpec, canonical, key, twin
from benchmark.storage import schema, seals
from benchmark.storage.schema import TABLES
from tasks.base import DataError
from tests.helpers.boards import recipe

SPECS = {
    "common": EncoderSpec(width=32, depth=2, heads=2, patch=8, pixels=32),
    "no cls": EncoderSpec(width=32, depth=2, heads=2, patch=8, pixels=32, cls=False),
    "registers": EncoderSpec(width=32, depth=2, heads=2, patch=8, pixels=32, registers=3),
    "rope": EncoderSpec(width=32, depth=2, heads=2, patch=8, pixels=32, trunk="rope"),
    "rope, registers": EncoderSpec(width=32, depth=2, heads=2, patch=8, pixels=32, trunk="rope", registers=4),
}


def stored(folder, spec):
    """A run whose encoder has weights unlike any initialisation."""
    model = encoder.Encoder(spec, seed=1).eval()
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
        model.mean.copy_(torch.tensor([0.4, 0.5, 0.6]))
        model.std.copy_(torch.tensor([0.2, 0.25, 0.3]))
    weights = folder / "encoder.safetensors"
    made = replace(recipe("mae", 0), encoder=spec)
    row = dict.fromkeys(TABLES["runs"].names) | {"run": key(made), "twin": key(twin(made)), "recipe": canonical(made)}
    row |= {"pretext": made.pretext}
    row |= {"weights_sha256": encoder.save(model, weights), "synthetic": True, "realised_flops": 1e13}
    row |= {"budget_flops": 1e13, "images_seen": 6400, "device": "cpu", "commit": "0123abc", "dirty": False}
    return model, row, weights


def no_cells() -> pd.DataFrame:
    return TABLES["cells"].empty_table().to_pandas()


@pytest.mark.parametrize("name", SPECS)
def test_plain_timm_gives_the_same_features(tmp_path, name):
    spec = SPECS[name]
    ours, row, weights = stored(tmp_path, spec)
    out = export.export(row, no_cells(), weights, tmp_path / "out")
    assert {path.name for path in out.iterdir()} == {"model.safetensors", "config.json", "recipe.json", "README.md"}
    model = timm.create_model(f"local-dir:{out}", pretrained=True).eval()
    images = torch.rand(3, 3, spec.pixels, spec.pixels, generator=torch.Generator().manual_seed(0))
    data = timm.data.resolve_data_config({}, model=model)
    assert list(data["input_size"]) == [3, spec.pixels, spec.pixels]
    mean, std = (torch.tensor(data[part])[:, None, None] for part in ("mean", "std"))
    with torch.inference_mode():
        expected = ours(images)
        tokens = model.forward_features((images - mean) / std)
        pooled = model((images - mean) / std)
    assert torch.allclose(tokens[:, spec.prefix :], expected.patches, atol=2e-5)
    assert torch.allclose(pooled, expected.patches.mean(1), atol=2e-5)
    if spec.cls:
        assert torch.allclose(tokens[:, 0], expected.cls, atol=2e-5)


@pytest.mark.parametrize("name", SPECS)
def test_the_door_for_outside_encoders_reads_it_whole(tmp_path, name):
    spec = SPECS[name]
    ours, row, weights = stored(tmp_path, spec)
    out = export.export(row, no_cells(), weights, tmp_path / "out")
    opened = external.open_encoder(str(out / "model.safetensors"))
    size = len(load_file(out / "model.safetensors"))
    assert (
        opened.loaded
        == f"{size} of {size} tensors loaded; {spec.grid**2} patch tokens of {spec.width} numbers an image"
    )
    images = torch.rand(3, 3, spec.pixels, spec.pixels, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected, found = ours(images), opened.model(images)
    assert torch.allclose(found.patches, expected.patches, atol=2e-5)
    assert (found.cls is None) == (expected.cls is None)
    assert not spec.cls or torch.allclose(found.cls, expected.cls, atol=2e-5)


def test_an_encoder_from_outside_is_not_exported(tmp_path):
    _, row, weights = stored(tmp_path, SPECS["common"])
    with pytest.raises(ValueError, match="is an encoder from outside: its weights are where they came from"):
        export.export(row | {"pretext": "external"}, no_cells(), weights, tmp_path / "out")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: {n: v for n, v in t.items() if n != "vit.cls_token"}, "1 missing, vit.cls_token"),
        (lambda t: t | {"vit.blocks.0.ls1.gamma": torch.ones(32)}, "1 unexpected, vit.blocks.0.ls1.gamma"),
        (lambda t: t | {"vit.norm.bias": torch.ones(31)}, "vit.norm.bias (31 of float32 in the file, 32 of float32"),
        (lambda t: t | {"vit.norm.bias": torch.ones(32).long()}, "vit.norm.bias (32 of int64 in the file"),
    ],
)
def test_our_own_encoder_is_loaded_strictly_too(tmp_path, change, words):
    _, _, weights = stored(tmp_path, SPECS["common"])
    save_file(change(load_file(weights)), weights)
    with pytest.raises(schema.SchemaError) as caught:
        encoder.load(SPECS["common"], weights)
    assert str(caught.value).startswith(f"{weights}: not the weights of this encoder (its ")
    assert words in str(caught.value)


def test_the_card_holds_recipe_floor_limits_and_the_mark_of_simulation(tmp_path):
    _, row, weights = stored(tmp_path, SPECS["common"])
    common = dict.fromkeys(TABLES["cells"].names) | {"headline": True, "probe": "linear", "readout": "patches"}
    common |= {"task": "local", "task_title": "Calcification", "metric": "auroc", "groups": 60, "leakage": "pass"}
    common |= {"group_kind": "simulated patient", "settings": "{}", "synthetic": True, "task_version": 1, "data": "d"}
    cells = pd.DataFrame([common | {"run": row["run"], "value": 0.8}, common | {"run": row["twin"], "value": 0.7}])
    card = (export.export(row, cells, weights, tmp_path / "out") / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: timm\n")
    assert "**SYNTHETIC: pretrained on simulated phantoms. Not clinical evidence.**" in card
    assert "| Calcification (simulated) | AUROC | 0.800 | 0.700 | 60 simulated patients | pass |" in card
    assert row["weights_sha256"] in card
    assert "not for use on patients" in card
    assert "phantom_local: " in card
    assert json.loads((tmp_path / "out" / "recipe.json").read_text())["pretext"] == "mae"


def test_what_is_there_or_is_not_the_runs_is_refused(tmp_path):
    _, row, weights = stored(tmp_path, SPECS["common"])
    export.export(row, no_cells(), weights, tmp_path / "out")
    with pytest.raises(DataError, match="is there already"):
        export.export(row, no_cells(), weights, tmp_path / "out")
    with pytest.raises(DataError, match="SHA-256 differs"):
        export.export(row | {"weights_sha256": "0"}, no_cells(), weights, tmp_path / "other")
    with pytest.raises(DataError, match=r"none\.safetensors: no such file"):
        export.export(row, no_cells(), tmp_path / "none.safetensors", tmp_path / "other")
    assert seals.sha256(weights) == row["weights_sha256"]


def test_the_hub_loads_it_from_its_cache(tmp_path, monkeypatch):
    """A fake hub: the folder where the hub's client keeps what it has downloaded, and no network."""
    ours, row, weights = stored(tmp_path, SPECS["common"])
    home = tmp_path / "hub" / "models--someone--encoder"
    (home / "refs").mkdir(parents=True)
    (home / "refs" / "main").write_text("0" * 40)
    export.export(row, no_cells(), weights, home / "snapshots" / ("0" * 40))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    model = timm.create_model("hf-hub:someone/encoder", pretrained=True, cache_dir=str(tmp_path / "hub")).eval()
    images = torch.rand(2, 3, 32, 32)
    with torch.inference_mode():
        expected = ours(images).patches.mean(1)
        assert torch.allclose(model(ours.normalise(images)), expected, atol=2e-5)
