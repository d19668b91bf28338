"""Encoders from outside: each way to name one, on the board of a pretrained one, contamination flagged."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import timm
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

from benchmark import plan, run, tracks
from benchmark.__main__ import app
from benchmark.encoders import external
from benchmark.probing import contamination, features
from benchmark.recipe import Runtime
from benchmark.run_external import probe_external
from benchmark.storage import results
from benchmark.study import Study, Wanted, survey
from leaderboards.audit.verify import verify
from leaderboards.pages import render
from leaderboards.publish import site
from tasks.base import DataError
from tasks.phantoms import scenes
from tasks.store import Store

MODEL = "test_vit"  # timm's smallest, made for tests


def quiet(text: str) -> None:
    """Nothing is printed."""


@pytest.fixture(scope="module")
def weights() -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    return timm.create_model(MODEL, pretrained=False).state_dict()


@pytest.fixture
def hub(tmp_path, weights, monkeypatch) -> Path:
    """The folder where the hub's client keeps what it has downloaded, with one model, and no network."""
    config = timm.get_pretrained_cfg(MODEL)
    for name in (config.hf_hub_id, "someone/theirs"):
        home = tmp_path / "hub" / f"models--{name.replace('/', '--')}"
        snapshot = home / "snapshots" / ("0" * 40)
        snapshot.mkdir(parents=True)
        (home / "refs").mkdir()
        (home / "refs" / "main").write_text("0" * 40)
        save_file(weights, snapshot / "model.safetensors", metadata={"format": "pt"})
        kept = {k: v for k, v in config.to_dict(remove_source=True).items() if k not in ("tag", "label_names")}
        (snapshot / "config.json").write_text(json.dumps({"architecture": MODEL, "pretrained_cfg": kept}))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


def test_timm_hub_and_path_give_the_model_that_plain_timm_gives(hub, weights, tmp_path):
    plain = timm.create_model(MODEL, pretrained=False, num_classes=0).eval()
    plain.load_state_dict({name: value for name, value in weights.items() if not name.startswith("head.")})
    (folder,) = (hub / "models--someone--theirs" / "snapshots").iterdir()
    named = [f"timm:{MODEL}", "hf-hub:someone/theirs", str(folder / "model.safetensors")]
    opened = [external.open_encoder(name) for name in named]
    assert len({one.digest for one in opened}) == 1
    side = opened[0].model.spec.pixels
    images = torch.rand(2, 3, side, side)
    mean, std = (
        torch.tensor(timm.data.resolve_data_config({}, model=plain)[k])[:, None, None] for k in ("mean", "std")
    )
    with torch.inference_mode():
        tokens = plain.forward_features((images - mean) / std)
        for one in opened:
            assert torch.equal(one.model(images).cls, tokens[:, 0])
            assert torch.equal(one.model(images).patches, tokens[:, plain.num_prefix_tokens :])
            assert not torch.equal(one.floor(images).patches, one.model(images).patches)
    assert opened[0].model.spec.width == plain.num_features


def test_nothing_is_unpickled(hub, tmp_path):
    """A hub folder with a pickle alone, and a pickle under a safetensors name."""

    class Bomb:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "exploded",))

    (folder,) = (hub / "models--someone--theirs" / "snapshots").iterdir()
    (folder / "model.safetensors").unlink()
    torch.save(Bomb(), folder / "pytorch_model.bin")
    with pytest.raises(DataError, match="nothing but safetensors is loaded"):
        external.open_encoder("hf-hub:someone/theirs")
    torch.save(Bomb(), folder / "model.safetensors")
    with pytest.raises(DataError, match="cannot be read as safetensors"):
        external.open_encoder(str(folder / "model.safetensors"))
    assert not (tmp_path / "exploded").exists()


def test_convolutions_and_functions_have_tokens_too(tmp_path, monkeypatch):
    torch.manual_seed(0)
    model = timm.create_model("test_resnet", pretrained=False, num_classes=0)
    grid = external.External(model, 64, [0.5] * 3, [0.2] * 3)
    assert grid.spec.width == model.num_features
    assert not grid.spec.cls
    (tmp_path / "mine.py").write_text("def colours():\n    return lambda images: images.mean(dim=(2, 3))\n")
    monkeypatch.syspath_prepend(tmp_path)
    opened = external.open_encoder("mine:colours", pixels=32)
    assert (opened.model.spec.width, opened.model.spec.pixels, opened.floor) == (3, 32, None)
    images = torch.rand(2, 3, 32, 32)
    assert torch.equal(opened.model(images).patches[:, 0], images.mean(dim=(2, 3)))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("timm:no_such_model", "timm knows no published weights of that name"),
        ("resnet50", "name timm:NAME, hf-hub:OWNER/NAME"),
        ("no_such_module:f", "No module named"),
        ("nowhere.parquet", "nowhere.parquet: no such file"),
        ("timm:test_vit.nope", "timm knows no published weights of that name"),
        ("timm:test_vti", "did you mean test_vit"),
        ("nowhere.safetensors", "nowhere.safetensors: no such file"),
        ("weights.pth", "nothing but safetensors is loaded as weights"),
        (".", "a folder; name the file in it, such as model.safetensors"),
    ],
)
def test_bad_names_say_what_to_write(name, words):
    with pytest.raises((ValueError, DataError), match=words):
        external.open_encoder(name)


IDS = ["a", "b"]


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"sample": ["a", "a"], "embedding": [[1.0], [2.0]]}, "2 rows, 1 different samples, 'a' 2 times"),
        ({"sample": IDS, "embedding": [[1.0], [float("nan")]]}, "the embedding of b is not finite, one of 1"),
        ({"sample": IDS, "embedding": [[1.0], [None]]}, "the embedding of b is not finite, one of 1"),
        ({"sample": IDS, "embedding": [[1.0], [1e300]]}, "the embedding of b is not finite, one of 1"),
        ({"id": ["a"]}, "needs the columns sample and embedding"),
        ({"sample": IDS, "embedding": [[1.0, 2.0], [3.0]]}, r"lengths \[1, 2\]"),
        ({"sample": IDS, "embedding": [[1.0], None]}, r"lengths \[0, 1\]"),
        ({"sample": ["a", None], "embedding": [[1.0], [2.0]]}, "each sample once"),
        ({"sample": [1, 2], "embedding": [[1.0], [2.0]]}, "the column sample holds int64; needed are sample ids"),
        ({"sample": IDS, "embedding": [1.0, 2.0]}, "the column embedding holds double; needed are lists of numbers"),
        ({"sample": IDS, "embedding": [["x"], ["y"]]}, "holds list<.*string>; needed are lists of numbers"),
        ({"sample": IDS, "embedding": [[[1.0]], [[2.0]]]}, "holds list<.*list<.*; needed are lists of numbers"),
        ({"sample": IDS, "embedding": [{"x": 1.0}, {"x": 2.0}]}, "holds struct<x: double>; needed are lists"),
        ({"sample": [], "embedding": []}, "the column sample holds null"),
    ],
)
def test_embeddings_of_another_shape_are_named(tmp_path, columns, words):
    path = tmp_path / "e.parquet"
    pq.write_table(pa.table(columns), path)
    with pytest.raises(DataError, match=r"e\.parquet: .*" + words):
        external.open_encoder(str(path))


@pytest.mark.parametrize(
    "kind", [pa.list_(pa.float16()), pa.large_list(pa.float64()), pa.list_(pa.float32(), 2), pa.list_(pa.int8())]
)
def test_embeddings_of_any_kind_of_number_are_read(tmp_path, kind):
    rows = [[np.float16(1), np.float16(2)]] * 2 if kind == pa.list_(pa.float16()) else [[1, 2], [1, 2]]
    ids = pa.array(IDS).dictionary_encode()
    pq.write_table(pa.table({"sample": ids, "embedding": pa.array(rows, kind)}), tmp_path / "e.parquet")
    opened = external.open_encoder(str(tmp_path / "e.parquet"))
    assert {name: row.tolist() for name, row in opened.embeddings.items()} == {"a": [1, 2], "b": [1, 2]}
    assert opened.loaded == "2 embeddings of 2 numbers"


def test_pixels_are_no_matter_of_embeddings_and_a_text_file_is_no_table(tmp_path):
    path = tmp_path / "e.parquet"
    path.write_text("sample,embedding")
    with pytest.raises(DataError, match="needs the columns sample and embedding"):
        external.open_encoder(str(path))
    with pytest.raises(ValueError, match="--pixels 64: embeddings are read as they are"):
        external.open_encoder(str(path), pixels=64)


def opened_store(study: Study, here: Runtime) -> Store:
    return run.open_stores(study, here, tracks.get("smoke").stored_pixels)[0]["histo", "phantom_local"]


@pytest.fixture(scope="module")
def board(tmp_path_factory, weights) -> tuple[Study, Runtime, Path]:
    """MAE and its twin on one task of the smoke track; then the same features, three ways, from outside."""
    folder = tmp_path_factory.mktemp("board")
    here = Runtime(data=folder / "data", results=folder / "results", cache=folder / "cache")
    asked = {"modalities": ("histo",), "pretexts": ("mae",), "tasks": ("phantom_local",)}
    wanted = Wanted(track="smoke", seeds=1, ceilings=0, **asked)
    study = survey(wanted, "histo", here.data, here.cache)
    run.bench(wanted, [study], here, tracks.get("smoke").stored_pixels, quiet)
    (policy,) = {made.policy for made in plan.recipes(wanted, study, {})}
    config = timm.get_pretrained_cfg(MODEL).to_dict(remove_source=True)
    kept = {k: v for k, v in config.items() if k not in ("tag", "label_names")}
    (folder / "config.json").write_text(json.dumps({"architecture": MODEL, "pretrained_cfg": kept}))
    save_file(weights, folder / "theirs.safetensors", metadata={"format": "pt"})
    opened = external.open_encoder(str(folder / "theirs.safetensors"), pixels=64)
    built = opened_store(study, here)
    rows = features.extract(opened.model, built)["patches"].tolist()
    pq.write_table(pa.table({"sample": list(built.ids), "embedding": rows}), folder / "theirs.parquet")
    told = {"declared": (opened, ("ImageNet", "PhantomLocal")), "silent": (opened, None)}
    told["embeddings"] = (external.open_encoder(str(folder / "theirs.parquet")), ("ImageNet",))
    for one, declared in told.values():
        probe_external(one, study, "smoke", here, declared=declared, policy=policy, say=quiet)
    return study, here, folder


def test_the_store_verifies_and_embeddings_score_as_the_encoder_they_came_from(board):
    _, here, _ = board
    assert [str(one) for one in verify(here.results).problems] == []
    cells = results.read(here.results, "cells")
    cells = cells[cells.pretext.eq("external") & ~cells.twin & cells.readout.eq("patches")]
    values = cells.groupby(["probe", "metric"])["value"].agg(["nunique", "count"])
    assert (values["nunique"] == 1).all()
    assert (values["count"] == 3).all()


def test_they_are_on_the_same_board_marked_and_flagged(board):
    _, here, _ = board
    (page,) = site.load_boards(here.results)
    rows = {row.name: row for row in page.sections[0].rows if not row.twin}
    names = [name for name in rows if "(outside)" in name]
    assert len(names) == 3
    assert "MAE" in rows
    assert page.columns[0].leakage == "pass"
    notes = {rows[name].entries[0].note for name in names}
    assert any("may hold this test set" in note for note in notes)
    assert any("pretraining data are not declared" in note for note in notes)
    table = next(row for name, row in rows.items() if "theirs.parquet" in name)
    assert table.entries[0].gain is None
    assert "twin not run yet" in table.entries[0].note
    (spent,) = {line.split("|")[2].strip() for line in render.markdown(page).splitlines() if "(outside)" in line
                and "finished" in line}  # fmt: skip
    assert spent == "unknown"
    assert page.budgets == (tracks.get("smoke").budget,)
    leaks = results.read(here.results, "leakage")
    leaks = leaks[leaks.kind == "declared"]
    assert set(leaks["count"].dropna()) == {0, results.read(here.results, "cells").samples.max()}
    assert leaks["count"].isna().any()


def test_a_second_call_computes_nothing_and_a_missing_sample_is_named(board, tmp_path):
    study, here, folder = board
    before = {path: path.stat().st_mtime_ns for path in here.results.rglob("*.parquet")}
    policy = json.loads(results.read(here.results, "runs").recipe[0])["policy"]
    opened = external.open_encoder(str(folder / "theirs.parquet"))
    probe_external(opened, study, "smoke", here, declared=("ImageNet",), policy=policy, say=quiet)
    assert {path: path.stat().st_mtime_ns for path in here.results.rglob("*.parquet")} == before
    elsewhere = replace(here, results=tmp_path / "results", cache=tmp_path / "cache")
    probe_external(opened, study, "smoke", elsewhere, declared=(), policy=policy, say=quiet)
    assert not (tmp_path / "cache" / "stores").exists()  # a table of embeddings needs no image
    table = pq.read_table(folder / "theirs.parquet").slice(5)
    pq.write_table(table, tmp_path / "fewer.parquet")
    fewer = external.open_encoder(str(tmp_path / "fewer.parquet"))
    other = replace(here, results=tmp_path / "fewer")
    with pytest.raises(DataError, match=r"the embeddings lack 5 of .* samples of phantom_local, such as"):
        probe_external(fewer, study, "smoke", other, declared=(), policy=policy, say=quiet)


class Broken(torch.nn.Module):
    """Not a number for images brighter than a limit."""

    def __init__(self, limit: float):
        super().__init__()
        self.limit = limit

    def forward(self, images):
        values = images.mean(dim=(2, 3))
        return torch.where(values.mean(dim=1, keepdim=True) > self.limit, torch.nan, values)


def test_features_that_are_not_finite_name_encoder_task_and_images_and_store_nothing(board, tmp_path, monkeypatch):
    study, here, _ = board
    samples = study.tasks["phantom_local"].samples
    images = opened_store(study, here).pixels
    seen = features.evaluation_view(images[:], 16, torch.device("cpu")).mean(dim=(2, 3)).mean(dim=1)
    limit = seen.quantile(0.9).item()  # between two images, so that rounding decides for none
    count = int((seen > limit).sum())
    assert 0 < count < len(samples)
    made = f"from tests.benchmark.encoders.test_external import Broken\n\ndef mine():\n    return Broken({limit})\n"
    (tmp_path / "broken.py").write_text(made)
    monkeypatch.syspath_prepend(tmp_path)
    opened = external.open_encoder("broken:mine", pixels=16)
    other = Runtime(data=here.data, results=tmp_path / "results", cache=here.cache)
    words = rf"broken:mine on phantom_local: features of {count} of {len(samples)} images are not finite, such as "
    with pytest.raises(DataError, match=words):
        probe_external(opened, study, "smoke", other, declared=(), policy="pad", say=quiet)
    assert not list(tmp_path.rglob("*.parquet"))


def test_a_name_matches_its_dataset_either_way(board):
    task = board[0].tasks["phantom_local"].task
    test = board[0].tasks["phantom_local"].samples[:4]
    counts = {name: contamination.of_declared((name,), task, test).count for name in ("Phantom_Local", "ImageNet-1k")}
    assert counts == {"Phantom_Local": 4, "ImageNet-1k": 0}
    assert contamination.of_declared(None, task, test).count is None


def test_the_command_line_puts_an_encoder_on_a_board(hub, tmp_path, monkeypatch):
    monkeypatch.setattr(scenes, "PATIENTS", {"train": 24, "val": 16, "test": 24})
    (snapshot,) = (hub / "models--someone--theirs" / "snapshots").iterdir()
    encoder = ["--encoder", str(snapshot / "model.safetensors"), "--pretrained-on", "none", "--task", "phantom_local"]
    places = ["--data", str(tmp_path), "--results", str(tmp_path / "results"), "--cache", str(tmp_path / "cache")]
    done = CliRunner().invoke(app, ["probe", *encoder, "--track", "smoke", "--modality", "histo", *places])
    assert done.exit_code == 0, (done.output, done.exception)
    assert "python -m leaderboards show" in done.output
    size = len(timm.create_model(MODEL, num_classes=0).state_dict())
    assert f"{snapshot.name}/model.safetensors: {size} of {size} tensors loaded" in done.output
    recipes = [json.loads(text) for text in results.read(tmp_path / "results", "runs").recipe]
    assert all(recipe["settings"]["loaded"].startswith(f"{size} of {size} tensors loaded") for recipe in recipes)
    assert set(results.read(tmp_path / "results", "cells").task) == {"phantom_local"}
