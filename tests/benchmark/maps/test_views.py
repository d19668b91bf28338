"""What `benchmark views` draws, against what the pretexts draw in training; its sheets, its words, its errors, and the
sheets that the site shows."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image
from typer.testing import CliRunner

from benchmark import __main__ as command_line
from benchmark import registry
from benchmark.lab import goldens
from benchmark.maps import view_sheet, views
from benchmark.parts.draws import Draws, keyed, text_keys
from benchmark.recipe import Recipe
from benchmark.training import optimise
from benchmark.training.data import Batches
from leaderboards.pages import view_blocks
from leaderboards.publish import site
from tasks.reading import decoding, squares
from tests.helpers.boards import store

PHANTOM = "phantom_local/train/p00000/0"
NOWHERE = Path("none")  # a data folder
LEVELS = 2  # that a pixel of a committed sheet may differ by: another processor rounds otherwise


@pytest.fixture(scope="module")
def photograph(tmp_path_factory):
    """A file of 90 x 70 pixels of coarse noise."""
    path = tmp_path_factory.mktemp("images") / "scan.png"
    coarse = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    Image.fromarray(coarse.repeat(10, axis=0).repeat(10, axis=1)).save(path)
    return path


def seen(pretext: str, *, seed: int = 0, draws: int = 3) -> tuple[Recipe, list[views.Seen]]:
    source, sample = views.find_image(PHANTOM, "ultrasound", "", NOWHERE)
    made = views.make_recipe(pretext, "laptop", source, seed)
    return made, views.look(made, PHANTOM, views.read_square(source, sample, NOWHERE, made.stored_pixels), draws)


def run(*arguments: object) -> str:
    done = CliRunner().invoke(command_line.app, ["views", *map(str, arguments)])
    assert done.exception is None, done.output
    return done.output


def patches(picture: np.ndarray, patch: int) -> np.ndarray:
    """(S, S, 3) -> (N, patch, patch, 3)."""
    grid = len(picture) // patch
    return picture.reshape(grid, patch, grid, patch, 3).swapaxes(1, 2).reshape(-1, patch, patch, 3)


@pytest.mark.parametrize("pretext", ["mae", "simmim"])
def test_an_image_is_seen_as_in_a_training_on_many(pretext):
    """Per-sample draws do not know the corpus: the views are those of the same image in a batch among others."""
    made, images = goldens.recipe(pretext), goldens.images()
    model = optimise.build_model(made, images)
    batches = Batches(images, made, model.draw, torch.device("cpu"))
    pixels, drawn, names = batches(0)
    there = model.views(pixels, drawn)
    for place in (0, 3):
        (alone,) = views.look(made, names[place], pixels[place].numpy(), 1)
        assert np.allclose(alone.views["images"][0], there["images"][place].numpy(), atol=1e-6)
        for name in there.keys() - {"images"}:
            assert np.array_equal(alone.views[name][0], there[name][place].numpy()), name


def test_draws_are_those_of_seed_epoch_sample_and_step():
    made, found = seen("ijepa", seed=5)
    model = optimise.build_model(made, goldens.images())
    for epoch, one in enumerate(found):
        keys = keyed(text_keys([PHANTOM]), 5, epoch)
        step = keyed(np.zeros(1, dtype=np.uint64), 5, epoch)
        mask = model.mask(Draws(keys, step, 0, made.settings.batch))
        assert np.array_equal(one.views["context"], mask.context)
        assert np.array_equal(one.views["targets"], mask.targets)


def test_visible_patches_are_those_of_the_crop_and_hidden_ones_are_grey():
    made, found = seen("mae")
    for one in found:
        ((crop, shown),) = views.make_tiles(one)
        whole, masked = (patches(tile.pixels, made.encoder.patch) for tile in (crop, shown))
        keep, hide = one.views["keep"][0], one.views["hide"][0]
        assert np.array_equal(masked[keep], whole[keep])
        assert (masked[hide] == views.GREY).all()
        assert not any(np.array_equal(masked[i], whole[i]) for i in hide)
        exact = one.views["images"][0].transpose(1, 2, 0) * 255
        assert np.abs(crop.pixels - exact).max() <= 0.5


def test_blocks_are_framed_where_they_lie_and_the_rest_is_faded():
    made, found = seen("ijepa")
    patch, grid = made.encoder.patch, made.encoder.grid
    for one in found:
        ((context, targets),) = views.make_tiles(one)
        inside = np.zeros(grid**2, bool)
        for block, (left, top, right, bottom) in zip(one.views["targets"][0], targets.blocks, strict=True):
            there = np.zeros((grid * patch, grid * patch), bool)
            there[top:bottom, left:right] = True
            framed = there[::patch, ::patch].ravel()
            assert np.array_equal(np.flatnonzero(framed), block)
            inside |= framed
        crop = (one.views["images"][0].transpose(1, 2, 0) * 255).round()
        assert np.array_equal(patches(targets.pixels, patch)[inside], patches(crop, patch)[inside])
        assert not np.array_equal(patches(targets.pixels, patch)[~inside], patches(crop, patch)[~inside])
        seen_by_student = (patches(context.pixels, patch) != views.GREY).any(axis=(1, 2, 3))
        assert np.array_equal(np.flatnonzero(seen_by_student), one.views["context"][0])


def test_numbers_said_are_those_drawn(tmp_path):
    said = run(PHANTOM, "--out", tmp_path / "views.png", "--pretext", "mae,simmim,ijepa,dinov3")
    lines = dict(line.split(": ", 1) for line in said.splitlines() if ": " in line)

    made, found = seen("mae")
    kept = [one.views["keep"].shape[1] for one in found]
    assert len(set(kept)) == 1
    assert lines["MAE"].startswith(
        f"{kept[0]} of {made.encoder.grid**2} patches visible ({100 * kept[0] / 64:.0f} %), "
    )
    areas = [100 * np.prod(box[2:] - box[:2]) for one in found for box in one.boxes["mae"]]
    assert lines["MAE"].endswith(f"crops of {round(min(areas))} to {round(max(areas))} % of the image at 64 px")

    _, found = seen("simmim")
    assert lines["SimMIM"].startswith(f"{(~found[0].views['hidden']).sum()} of 64 patches visible")

    _, found = seen("ijepa")
    sizes = [one.views["targets"].shape[2] for one in found]
    context = found[0].views["context"].shape[1]
    assert f"context {context} of 64 patches" in lines["I-JEPA"]
    assert min(sizes) < max(sizes)
    assert f"4 target blocks of {min(sizes)} to {max(sizes)} patches" in lines["I-JEPA"]

    _, found = seen("dinov3")
    for kind, count, side in (("global", 2, 48), ("local", 4, 24)):
        shares = [100 * np.prod(box[2:] - box[:2]) for one in found for box in one.boxes[f"{kind}s"]]
        assert {one.views[f"{kind}s"].shape for one in found} == {(count, 3, side, side)}
        stated = f"{count} {kind} crops of {round(min(shares))} to {round(max(shares))} % of the image at {side} px"
        assert stated in lines["DINOv3"]
    hidden = [int(mask.sum()) for one in found for mask in one.views["hidden"] if mask.any()]
    stated = f"{min(hidden)} to {max(hidden)} of 36 patches hidden in {len(hidden)} of 6 global crops"
    assert lines["DINOv3"].endswith(stated)


def test_boxes_are_where_crops_were_cut():
    """On an image of its own coordinates: the least and the greatest values of a crop are the ends of its box."""
    made, _ = seen("mae:official")  # its crops are mirrored, and their pixels stay as they are
    line = np.linspace(0, 255, made.stored_pixels).round().astype(np.uint8)
    across, down = np.meshgrid(line, line)
    for one in views.look(made, "any", np.stack([across, down, down], axis=-1), 4):
        x, y, _ = one.views["images"][0]
        assert [x.min(), y.min(), x.max(), y.max()] == pytest.approx(one.boxes["mae"][0].tolist(), abs=0.03)


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(tmp_path, photograph):
    out, made = tmp_path / "views.png", []
    for seed in (1, 1, 2):
        said = run(photograph, "--track", "smoke", "--seed", seed, "--out", out)
        made.append((said, out.read_bytes()))
    assert made[0] == made[1]
    assert made[1][0] != made[2][0]
    assert made[1][1] != made[2][1]


def test_the_sheet_holds_every_tile_and_the_words(tmp_path):
    out = tmp_path / "new" / "views.webp"
    said = run(PHANTOM, "--out", out, "--draws", 2)
    with Image.open(out) as opened:
        assert opened.getexif()[ExifTags.Base.ImageDescription] == said.rpartition("\n/")[0]
        sheet = np.asarray(opened.convert("RGB"))
    for pretext in registry.defaults("pretexts"):
        for one in seen(pretext, draws=2)[1]:
            for tile in (tile for line in views.make_tiles(one) for tile in line if not tile.blocks):
                assert lies_in(np.asarray(view_sheet.enlarge(tile.pixels, 3)), sheet), (pretext, tile.caption)
    blank = (sheet == 255).all(axis=2)
    assert all(edge.all() for edge in (blank[:4], blank[-4:], blank[:, :8], blank[:, -8:])), "nothing is cut off"


def lies_in(tile: np.ndarray, sheet: np.ndarray) -> bool:
    """Whether a picture lies somewhere in a sheet, pixel by pixel."""
    first = tile[0].tobytes()
    for top in range(len(sheet) - len(tile) + 1):
        at = sheet[top].tobytes().find(first)
        while at >= 0:
            left = at // 3
            if at % 3 == 0 and np.array_equal(sheet[top : top + len(tile), left : left + tile.shape[1]], tile):
                return True
            at = sheet[top].tobytes().find(first, at + 1)
    return False


def test_long_words_stay_on_the_sheet():
    for line in view_sheet.wrap("a_name_without_a_space_" * 20 + " and words " * 20, 400):
        assert view_sheet.TEXT.getlength(line) <= 400


def test_a_file_is_squared_as_a_folder_of_it_would_be(photograph):
    for modality, policy, used in (("ultrasound", "", "pad"), ("histo", "", "crop"), ("ultrasound", "crop", "crop")):
        source, sample = views.find_image(str(photograph), modality, policy, NOWHERE)
        decoded = decoding.decode(photograph)
        assert np.array_equal(views.read_square(source, sample, NOWHERE, 64), squares.to_square(decoded, 64, used))
    assert f"{source.name}/{sample.id}" == f"folder-{photograph.parent.name}/scan.png"


ARMS = [
    f"{name}:{arm}"
    for name in registry.names("pretexts")
    for arm in getattr(registry.load("pretexts", name), "ARMS", ())
]


@pytest.mark.parametrize("name", [*registry.names("pretexts"), *ARMS])
def test_every_pretext_and_arm_can_be_looked_at(name):
    _, found = seen(name, draws=2)
    assert re.fullmatch(r"[A-Za-z0-9-]{3,8}( \([a-z]+\))?", views.name_pretext(name))
    assert re.search(r"\d", views.describe(found))
    assert all(line for one in found for line in views.make_tiles(one))


ERRORS = {
    "no image": (["{text}"], "text.png: unreadable image"),
    "no file": (["none.png"], "none.png: no image file, and no TASK/ID of ultrasound"),
    "no id": (["phantom_local/x"], "phantom_local has no image 'x'; the first of its ids is 'train/p00000/0'"),
    "no data": (["busi/x", "--data", "{folder}"], "make data TASK=busi"),
    "pretext": ([PHANTOM, "--pretext", "maee"], "unknown pretext 'maee'; did you mean 'mae'?"),
    "arm": ([PHANTOM, "--pretext", "mae:offical"], "unknown arm of mae 'offical'; did you mean 'official'?"),
    "track": ([PHANTOM, "--track", "laptp"], "unknown track 'laptp'; did you mean 'laptop'?"),
    "modality": ([PHANTOM, "--modality", "ct"], "unknown modality 'ct'; known: histo, ultrasound"),
    "policy": ([PHANTOM, "--policy", "pat"], "unknown policy 'pat'; did you mean 'pad'?"),
    "kind": ([PHANTOM, "--out", "{folder}/views.jpg"], "views.jpg: give a name that ends in .png or .webp"),
    "out": ([PHANTOM, "--pretext", "mae", "--out", "{text}/views.png"], "views.png: cannot be written"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_bad_input_is_one_clear_line_and_exit_code_2(name, tmp_path, monkeypatch, capsys):
    text = tmp_path / "text.png"
    text.write_text("no image")
    arguments, expected = ERRORS[name]
    given = [one.format(text=text, folder=tmp_path) for one in arguments]
    monkeypatch.setattr(sys, "argv", ["benchmark", "views", *given])
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        command_line.main()
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert expected in line
    assert not list(tmp_path.glob("views.*"))


@pytest.mark.parametrize("modality", view_blocks.MODALITIES)
@pytest.mark.parametrize("pretext", registry.names("pretexts"))
def test_a_sheet_of_the_site_is_what_its_command_draws(pretext, modality, tmp_path):
    made, committed = tmp_path / "made.webp", view_blocks.find_sheet(modality, pretext)
    words = view_blocks.command_words(modality, pretext)
    assert words[:4] == ["python", "-m", "benchmark", "views"]
    run(*words[4:], "--out", made)
    with Image.open(made) as new, Image.open(committed) as old:
        assert new.getexif()[ExifTags.Base.ImageDescription] == old.getexif()[ExifTags.Base.ImageDescription]
        assert np.abs(np.subtract(new.convert("RGB"), old.convert("RGB"), dtype=int)).max() <= LEVELS
    assert committed.stat().st_size < 60_000


def test_pages_of_pretexts_show_the_sheets_and_others_none(tmp_path):
    site.build(store(tmp_path / "store", pretexts=("mae", "another"), seeds=(0,)), tmp_path / "out")
    page = (tmp_path / "out" / "pretexts" / "mae.html").read_text()
    for modality in view_blocks.MODALITIES:
        name = f"static/views/{modality}-mae.webp"
        assert f'src="../{name}"' in page
        assert (tmp_path / "out" / name).read_bytes() == view_blocks.find_sheet(modality, "mae").read_bytes()
        assert f"<code>{' '.join(view_blocks.command_words(modality, 'mae'))}</code>" in page
    assert page.count("phantom, not clinical evidence") == 2
    assert "What it sees" not in (tmp_path / "out" / "pretexts" / "another.html").read_text()
    assert view_blocks.describe_views("../views/mae") == ()
