"""The maps of stored runs of a tiny task: decoders, images, scores, sheets, the command, and what pages show."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

import tasks
from benchmark.__main__ import app
from benchmark.lab import goldens
from benchmark.maps import map_sheet, run_maps
from benchmark.parts.draws import Draws, text_keys
from benchmark.pretexts import mae
from benchmark.recipe import Runtime, key, twin
from benchmark.storage import results, schema
from benchmark.training import loop, optimise, pretrain
from leaderboards.audit import promote
from leaderboards.audit.verify import verify
from leaderboards.pages import map_blocks
from tasks.base import Access, DataError, Fixed, Sample, Task, digest

GRID = 8


def test_a_perfect_decoder_gives_the_image_back(images, monkeypatch):
    model = optimise.build_model(goldens.recipe("mae"), images).eval()
    model.encoder.mean.fill_(0.5), model.encoder.std.fill_(0.25)
    view = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    keys = text_keys(list("abcd"))
    drawn = Draws(keys, keys[:1], 0, 4)
    seen, guessed = model.reconstruct(view, drawn)
    hidden = (seen - 0.5).abs().amax(dim=1) < 1e-6  # the mean of the corpus
    assert hidden.float().mean() == len(model.mask(drawn).hide[0]) / 16
    assert torch.allclose(guessed.permute(0, 2, 3, 1)[~hidden], view.permute(0, 2, 3, 1)[~hidden], atol=1e-5)
    assert not torch.allclose(guessed, view, atol=0.05)

    def perfect(self, cls, visible, hide, restore):
        patches = mae.losses.patchify(self.student.normalise(view), self.spec.patch)
        return self.targets(patches, hide)

    monkeypatch.setattr(mae.Model, "decode", perfect)
    assert torch.allclose(model.reconstruct(view, drawn)[1], view, atol=1e-4)


def test_patches_go_back_to_where_they_were():
    view = torch.rand(2, 3, 24, 24)
    assert torch.equal(mae.losses.unpatchify(mae.losses.patchify(view, 8), 8), view)


SIDE = 32


def image_of(data, sample, pixels):
    rng = np.random.default_rng(int(sample.digest[:8], 16))
    return rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)


def mask_of(data, sample, pixels):
    mask = np.zeros((SIDE, SIDE), bool)
    mask[8:20, 8:20] = sample.label == 1
    return mask


def scan(data):
    return [
        Sample(f"{split}/{i}", i % 2, f"{split}-{i // 2}", digest("tiny", split, i), split)
        for split in ("train", "val", "test")
        for i in range(12)
    ]


def tiny(**changes) -> Task:
    task = Task(
        name="tiny",
        modality="histo",
        title="Tiny",
        group_kind="patient",
        version=1,
        access=Access(home="", licence="", citation=""),
        scan=scan,
        read=image_of,
        mask=mask_of,
        policy="pad",
        images="tiny 1",
        family="tiny",
        independent=True,
        question="Is it there?",
        classes=("no", "yes"),
        protocol=Fixed(published=True),
        metric="auroc",
        synthetic=True,
    )
    return replace(task, **changes)


@pytest.fixture(scope="module")
def stored(tmp_path_factory, images):
    """A store with a run of each pretext of the study and a twin."""
    folder = tmp_path_factory.mktemp("maps")
    place = Runtime(data=folder / "data", results=folder / "results", cache=folder / "cache")
    made = {name: goldens.short(name, steps=2) for name in ("mae", "ijepa", "dinov3")}
    made["twin"] = twin(made["mae"])
    for recipe in made.values():
        pretrain.pretrain(recipe, place, images)
    return place, {name: key(recipe) for name, recipe in made.items()}


def opened(stored, name):
    return run_maps.open_run(stored[1][name], stored[0].results)


def test_only_a_pretext_that_predicts_pixels_keeps_its_decoder(stored):
    place, runs = stored
    for name, run in runs.items():
        folder = results.run_directory(place.results, "histo", run)
        assert (folder / "decoder.safetensors").exists() == (name in ("mae", "twin"))
    assert opened(stored, "mae").decoder is not None
    assert not list((place.cache / "checkpoints").glob("*.safetensors"))


def test_the_decoder_that_is_stored_is_the_one_that_was_trained(stored, images):
    place = stored[0]
    again = loop.train(goldens.short("mae", steps=2), replace(place, cache=place.cache / "again"), images).model
    one, view = opened(stored, "mae"), torch.rand(2, 3, 32, 32)
    keys = text_keys(["a", "b"])
    for ours, theirs in zip(
        *(m.reconstruct(view, Draws(keys, keys[:1], 0, 2)) for m in (one.decoder, again)), strict=True
    ):
        assert torch.allclose(ours, theirs, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: {n: v for n, v in t.items() if n != "mask_token"}, "1 missing, mask_token"),
        (lambda t: t | {"decoder.blocks.9.norm1.weight": torch.ones(3)}, "1 unexpected, decoder.blocks.9.norm1.weight"),
        (lambda t: t | {"student.vit.norm.bias": torch.ones(64)}, "1 unexpected, student.vit.norm.bias"),
        (lambda t: t | {"predict.bias": t["predict.bias"][:5]}, "predict.bias (5 of float32 in the file, 192 of floa"),
        (lambda t: {n: v.long() for n, v in t.items()}, "of int64 in the file"),
    ],
)
def test_a_decoder_that_is_not_the_runs_is_refused_by_name(stored, change, words):
    place, runs = stored
    path = results.run_directory(place.results, "histo", runs["mae"]) / "decoder.safetensors"
    sound = path.read_bytes()
    try:
        save_file(change(load_file(path)), path)
        with pytest.raises(DataError) as caught:
            opened(stored, "mae")
    finally:
        path.write_bytes(sound)
    assert f"{path}: its " in str(caught.value)
    assert words in str(caught.value)
    assert opened(stored, "mae").decoder is not None


def test_the_images_are_the_same_for_every_run_and_show_the_lesion(stored):
    place = stored[0]
    found = [
        run_maps.choose_pictures(opened(stored, name), tiny(), place.data, place.cache, most=4, per_group=True)
        for name in ("mae", "ijepa")
    ]
    assert [s.id for s in found[0].samples] == [s.id for s in found[1].samples]
    assert all(sample.split == "test" and sample.label == 1 for sample in found[0].samples)
    assert len({sample.group for sample in found[0].samples}) == 4
    without = run_maps.choose_pictures(opened(stored, "mae"), tiny(mask=None), place.data, place.cache, most=4)
    assert [sample.label for sample in without.samples] == [0, 1, 0, 1]
    assert without.masks is None


def test_the_untrained_control_of_a_run_is_its_twin(stored):
    place = stored[0]
    ours, twins = opened(stored, "mae"), opened(stored, "twin")
    found = run_maps.choose_pictures(ours, tiny(), place.data, place.cache, most=6)
    names = ("sample", "kind", "score")
    control = {
        tuple(row[n] for n in names): row["value"]
        for row in run_maps.compute_scores(ours, tiny(), found)
        if row["control"] == "untrained" and not row["score"].startswith("likeness")
    }
    twin_rows = {
        tuple(row[n] for n in names): row["value"]
        for row in run_maps.compute_scores(twins, tiny(), found)
        if row["control"] == "" and row["kind"] != "tokens"
    }
    assert control == twin_rows
    assert len(control) == 6 * 8  # two scores and a stability of two maps, one and a stability of cosines


def test_a_task_without_a_known_place_is_scored_by_stability_alone(stored):
    place, one = stored[0], opened(stored, "ijepa")
    found = run_maps.choose_pictures(one, tiny(mask=None), place.data, place.cache, most=5)
    scores = {row["score"] for row in run_maps.compute_scores(one, tiny(mask=None), found)}
    assert scores == {"stability under stain", "likeness to the trained map", "artefact tokens"}


def test_the_saliency_of_given_samples_is_the_mean_of_the_heads(stored):
    place, one = stored[0], opened(stored, "dinov3")
    found = run_maps.choose_pictures(one, tiny(), place.data, place.cache, most=3)
    pixels, values = run_maps.compute_saliency(one, tiny(), place.data, place.cache, found.samples)
    assert np.array_equal(pixels, found.stored)
    assert np.allclose(values.reshape(3, -1), run_maps.look(one, found.stored).attention)
    before = run_maps.compute_saliency(one, tiny(), place.data, place.cache, found.samples, untrained=True)[1]
    assert not np.allclose(values, before)


def command(stored, monkeypatch, tmp_path, *arguments, task=None, code=0):
    place = stored[0]
    asked = task or tiny()
    monkeypatch.setattr(tasks, "get", lambda modality, name: asked)
    paths = ["--results", place.results, "--cache", place.cache, "--data", place.data, "--out", tmp_path]
    ran = CliRunner().invoke(app, ["maps", *arguments, "--task", "tiny", *map(str, paths)])
    assert ran.exit_code == code, ran.output
    return ran.output if code == 0 else str(ran.exception)


def test_the_command_stores_sheets_and_scores_that_verify_and_draws_the_same_twice(stored, monkeypatch, tmp_path):
    place, runs = stored
    said = command(stored, monkeypatch, tmp_path, runs["mae"], runs["dinov3"])
    assert "query: the cls token" in said
    assert "no cls token is trained" in said
    rows = results.read(place.results, "maps")
    assert set(rows["run"]) == {runs["mae"], runs["dinov3"]}
    assert set(rows["control"]) == {"", "untrained", "chance"}
    assert rows["public"].all()
    own = rows[(rows["run"] == runs["mae"]) & (rows["kind"] == "attention") & (rows["control"] == "")]
    assert own.groupby("score").size().to_dict() == {"AUPRC": 6, "pointing game": 6, "stability under stain": 6}
    pictures = {path.name for path in (tmp_path / "tiny").iterdir()}
    stems = (runs["mae"], runs["dinov3"], *(f"side-by-side-{i}" for i in range(1, 5)))
    assert pictures == {f"{stem}{kind}" for stem in stems for kind in (".png", ".svg")}
    before = {path: path.read_bytes() for path in (tmp_path / "tiny").iterdir()}
    command(stored, monkeypatch, tmp_path, runs["mae"], runs["dinov3"])
    assert before == {path: path.read_bytes() for path in (tmp_path / "tiny").iterdir()}
    assert len(results.read(place.results, "maps")) == len(rows)
    again = map_sheet.draw_sheet(
        opened(stored, "mae"),
        tiny(),
        run_maps.choose_pictures(opened(stored, "mae"), tiny(), place.data, place.cache, most=4, per_group=True),
    )
    map_sheet.save(again, tmp_path / "again")
    assert (tmp_path / "again.png").read_bytes() == before[tmp_path / "tiny" / f"{runs['mae']}.png"]
    (folder,) = {path.parent for path in (place.results / "histo" / "maps").rglob("sheet.png")} - {
        map_sheet.directory(place.results, opened(stored, "dinov3"), tiny(), rows["data"].iloc[0])
    }
    assert not any(folder in problem.file.parents for problem in verify(place.results).problems)
    (folder / "sheet.png").write_bytes(b"another picture")
    (problem,) = [problem for problem in verify(place.results).problems if folder in problem.file.parents]
    assert problem.file.name == "sheet.png"
    (folder / "sheet.png").write_bytes((tmp_path / "again.png").read_bytes())


def test_chosen_anchors_and_images_are_drawn_and_not_stored(stored, monkeypatch, tmp_path):
    place, runs = stored
    there = len(results.files(place.results, "maps"))
    command(stored, monkeypatch, tmp_path, runs["ijepa"], "--image", "test/3,test/0", "--anchor", "0.5,0.5")
    assert (tmp_path / "tiny" / f"{runs['ijepa']}.png").stat().st_size > 10_000
    assert len(results.files(place.results, "maps")) == there


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--image", "test/99"], "tiny has no image 'test/99'; the first of its ids is"),
        (["--anchor", "1,1"], "anchor 1,1 lies outside the image"),
        (["--anchor", "middle"], "--anchor middle: give two shares"),
    ],
)
def test_bad_input_is_named(stored, monkeypatch, tmp_path, arguments, said):
    assert said in command(stored, monkeypatch, tmp_path, stored[1]["ijepa"], *arguments, code=1)


def test_missing_or_other_weights_are_named(stored, monkeypatch, tmp_path):
    place, runs = stored
    path = results.run_directory(place.results, "histo", runs["ijepa"]) / "encoder.safetensors"
    kept = path.read_bytes()
    path.write_bytes(kept[:-1] + bytes([kept[-1] ^ 1]))
    assert "not the weights of run" in command(stored, monkeypatch, tmp_path, runs["ijepa"], code=1)
    path.unlink()
    assert "trains the run again" in command(stored, monkeypatch, tmp_path, runs["ijepa"], code=1)
    path.write_bytes(kept)


def test_a_task_whose_test_images_show_no_lesion_is_named(stored):
    place = stored[0]
    empty = tiny(mask=lambda data, sample, pixels: np.zeros((SIDE, SIDE), bool))
    with pytest.raises(DataError, match="histo/tiny: no test image here shows the lesion"):
        run_maps.choose_pictures(opened(stored, "mae"), empty, place.data, place.cache, most=4)


def test_pages_show_pictures_that_may_be_shown_and_the_scores_of_all(stored, monkeypatch, tmp_path):
    place, runs = stored
    command(stored, monkeypatch, tmp_path, runs["mae"])
    hidden = tiny(synthetic=False, name="closed", near=False)
    map_sheet.store_maps(opened(stored, "mae"), hidden, place.data, place.cache, place.results)
    shown = map_blocks.read_maps(place.results)
    ours = shown.blocks[runs["mae"], opened(stored, "mae").row["weights_sha256"]]
    by_title = {block.title: block for block in ours}
    assert by_title["What it looks at: tiny"].pictures
    closed = by_title["What it looks at: closed"]
    assert closed.pictures == ()
    assert "may not be shown" in closed.texts[0]
    assert not any("closed" in name for name in shown.images)
    (scores,) = closed.tables
    line = next(row for row in scores.rows if row.head.lines == ("attention: pointing game",))
    rows = results.read(place.results, "maps")
    some = rows[
        (rows.task == "closed") & (rows.kind == "attention") & (rows.score == "pointing game") & (rows.control == "")
    ]
    assert line.cells[0].lines[0] == f"{some['value'].mean():.3f}"  # under 20 groups: no interval


def test_what_the_maps_of_a_method_gained_is_paired_by_image_and_over_seeds():
    rng = np.random.default_rng(0)
    groups = [f"g{i // 2:02d}" for i in range(60)]
    base = rng.normal(size=60)
    gains = {seed: 0.4 + 0.05 * seed + rng.normal(scale=0.1, size=60) for seed in range(3)}
    shown, runs, column = map_blocks.Maps({}, {}, {}), [], SimpleNamespace(task="tiny", independent=True)
    for seed, gain in gains.items():
        rows = [
            {"task": "tiny", "kind": "attention", "score": "AUPRC", "control": control, "value": value}
            | {"sample": f"s{i:02d}", "group": group}
            for control, values in (("", base + gain), ("untrained", base), ("chance", 0 * base))
            for i, (value, group) in enumerate(zip(values, groups, strict=True))
        ]
        shown.scores[f"r{seed}", "w"] = pd.DataFrame(rows)
        one = SimpleNamespace(key=(f"r{seed}", "w"), trained=True, run=SimpleNamespace(name="MAE", seed=seed))
        runs.append((SimpleNamespace(modality="histo", title="Board", columns=[column]), one))
    (block,) = map_blocks.describe_learnt(shown, runs, "histo", "tiny")
    (table,) = block.tables
    assert [head.lines for head in table.heads[1:]] == [("attention", "AUPRC")]
    (cell,) = table.rows[0].cells
    expected = np.mean([gain.mean() for gain in gains.values()])
    assert cell.lines[0].startswith(f"{expected:+.3f} [")
    assert cell.tone == "above"
    assert "30 groups" in table.caption
    column.independent = False
    (unknown,) = map_blocks.describe_learnt(shown, runs, "histo", "tiny")[0].tables
    assert "Groups are not patients" in unknown.caption
    assert (unknown.rows[0].cells[0].tone, unknown.rows[0].cells[0].lines) == ("", cell.lines)
    assert map_blocks.describe_learnt(shown, runs, "histo", "other") == ()
    assert map_blocks.describe_learnt(shown, runs, "ultrasound", "tiny") == ()


def test_a_sheet_of_real_images_says_whose_they_are(stored):
    place, _ = stored
    access = Access(home="", licence="CC BY 4.0", citation="Someone. A set. 2024")
    real = tiny(synthetic=False, near=False, access=access)
    titles = []
    for task in (tiny(), real):
        found = run_maps.choose_pictures(opened(stored, "mae"), task, place.data, place.cache, most=1)
        titles.append(map_sheet.draw_sheet(opened(stored, "mae"), task, found)._suptitle.get_text())
    assert "images:" not in titles[0]
    assert titles[1].endswith("images: Someone. A set. 2024; CC BY 4.0")


def test_pictures_are_published_of_one_seed_and_where_they_may_be_shown(stored, monkeypatch, tmp_path):
    _, runs = stored
    row = {
        "kind": "attention",
        "score": "AUPRC",
        "control": "",
        "value": 0.5,
        "sample": "s",
        "group": "g",
        "created": "",
    }
    row |= {
        "run": runs["mae"],
        "weights_sha256": "w",
        "modality": "histo",
        "task": "tiny",
        "task_version": 1,
        "data": "d",
    }
    sheets = {"sheet.png": tmp_path / "sheet.png", "sheet.svg": tmp_path / "sheet.svg"}
    for sheet in sheets.values():
        sheet.write_bytes(b"picture")
    for name, public, kept in (("open", True, True), ("closed", False, False), ("another", True, False)):
        source = tmp_path / "local" / name
        results.write(source, {"maps": schema.table("maps", [row | {"public": public, "version": 1}])}, files=sheets)
        promote._copied(source, tmp_path / "published" / name, kept)
        names = {path.name for path in (tmp_path / "published" / name).iterdir()}
        assert names == {"maps.parquet", "seal.json", *(sheets if kept else ())}
    assert verify(tmp_path / "published").problems == ()
    shown = map_blocks.read_maps(tmp_path / "published")
    assert [block.texts[0] for block in shown.blocks[runs["mae"], "w"]] == [map_blocks.MORE, map_blocks.HIDDEN, ""]
    assert len(shown.images) == 1
