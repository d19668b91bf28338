"""Identity: equal in a fresh process, changed by every field of a recipe, untouched by where it runs."""

import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import pytest

from benchmark import registry, tracks
from benchmark.recipe import Corpus, Recipe, canonical, from_json, key, twin

CORPUS = Corpus(name="phantom", members=(("phantom_local", 1),), digest="0" * 12, images=4000)


def recipe(pretext: str = "mae", track: str = "smoke", seed: int = 0) -> Recipe:
    return tracks.recipe(track, pretext, modality="histo", corpus=CORPUS, policy="none", seed=seed)


def test_key_is_the_same_in_a_fresh_process():
    code = f"from benchmark.recipe import from_json, key; print(key(from_json({canonical(recipe())!r})))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == key(recipe())


OTHER = {
    "modality": "ultrasound",
    "track": "demo",
    "corpus": replace(CORPUS, digest="1" * 12),
    "pretext": "ijepa",
    "pretext_version": 99,
    "settings": replace(recipe().settings, lr=9.0),
    "encoder": replace(recipe().encoder, depth=3),
    "stored_pixels": 99,
    "policy": "other",
    "budget": 1.0,
    "precision": "bf16",
    "seed": 7,
    "skipped": ("a",),
    "engine": 99,
}


@pytest.mark.parametrize("field", [f.name for f in fields(Recipe)])
def test_every_field_changes_the_key(field):
    assert key(replace(recipe(), **{field: OTHER[field]})) != key(recipe())


@pytest.mark.parametrize("pretext", [*registry.names("pretexts"), "dinov3:official", "ijepa:official", "mae:official"])
def test_json_round_trip(pretext):
    made = recipe(pretext)
    read = from_json(canonical(made))
    assert (key(read), canonical(read)) == (key(made), canonical(made))
    assert registry.typed(read) == made


def test_a_recipe_of_another_version_can_be_read_and_not_trained():
    text = canonical(recipe()).replace('"mask_ratio":', '"mask_share":')
    read = from_json(text)
    assert read.settings.mask_share == 0.85
    assert canonical(read) == text
    with pytest.raises(ValueError, match=r"not the settings of mae \d+ \(.*mask_share"):
        registry.typed(read)


def test_the_twin_differs_in_budget_alone():
    assert twin(recipe()) == replace(recipe(), budget=0.0)
    assert tracks.steps(twin(recipe())) == 0


@pytest.mark.parametrize("track", tracks.TRACKS)
@pytest.mark.parametrize("pretext", registry.names("pretexts"))
def test_every_track_pays_for_at_least_one_step(track, pretext):
    made = recipe(pretext, track)
    spent = tracks.steps(made) * made.settings.batch * tracks.image_flops(made)
    one = made.settings.batch * tracks.image_flops(made)
    assert made.budget - one < spent <= made.budget


def test_image_matched_tracks_give_every_pretext_the_same_images():
    seen = []
    for pretext in ("mae", "ijepa", "dinov3"):
        made = recipe(pretext, "demo-images")
        seen.append(tracks.steps(made) * made.settings.batch)
    assert max(seen) - min(seen) < 64


def test_every_rung_of_the_ladder_has_an_image_matched_variant():
    assert {name + tracks.MATCHED for name in tracks.TRACKS} < set(tracks.names())
    assert {"laptop": 2.5e13, "1e14": 1e14, "1e15": 1e15}.items() <= {
        n: t.budget for n, t in tracks.TRACKS.items()
    }.items()
    assert {tracks.get(f"{name}-images").encoder for name in ("demo", "laptop", "1e14", "1e15")} == {tracks.MICRO}


@pytest.mark.parametrize("pretext", registry.defaults("pretexts"))
def test_every_default_pretext_takes_its_steps_where_claims_are_read(pretext):
    assert tracks.steps(recipe(pretext, "1e14")) >= 1500


def test_an_unknown_track_is_answered_with_the_nearest():
    with pytest.raises(ValueError, match=r"unknown track 'lptop'; did you mean 'laptop'\?"):
        tracks.get("lptop")


def test_the_readme_says_what_every_track_is():
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    rows = [line for line in readme.splitlines() if line.startswith("| `")]
    for name in tracks.names():
        if name.endswith("-images"):
            continue
        track = tracks.get(name)
        (row,) = (row for row in rows if f"`{name}`" in row)
        sizes = {192: "ViT-Ti", 384: "ViT-Ti, S", 768: "ViT-Ti, S, B"}
        encoder = f"width {track.encoder.width}, depth {track.encoder.depth}"
        assert sizes.get(track.encoder.width, encoder) in row
        assert f"{track.encoder.pixels} px" in row
        assert f"{track.budget:g}".replace("+", "") in row.replace("as named", name)


def test_the_docs_say_how_short_dinov3_is_at_1e16():
    text = (Path(__file__).parents[2] / "docs" / "training.md").read_text(encoding="utf-8")
    assert f"DINOv3 at `1e16` is {tracks.steps(recipe('dinov3', '1e16')):,} steps" in text
