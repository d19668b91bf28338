"""Tuning trials as rows: read whatever their version, counted, published and verified, the claims under each recipe."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from benchmark import tracks
from benchmark.recipe import ENGINE, Corpus, canonical
from benchmark.storage import results, schema
from leaderboards.__main__ import app
from leaderboards.audit.promote import Refused, promote_trials
from leaderboards.audit.verify import verify
from leaderboards.boards import claims, trials
from leaderboards.pages import trials_page
from tests.helpers.boards import rewrite, tree

BASE = ("phantom_local", "phantom_regional", "phantom_global")
TEXTURE = tuple(f"phantom_locality_{level}" for level in range(1, 6))
RELATION = tuple(f"phantom_relation_{distance}" for distance in ("near", "middle", "far"))
EVERY = (*BASE, *TEXTURE, *RELATION)
FLOOR = 0.6


def settings(pretext: str, **changes) -> dict:
    corpus = Corpus(name="", members=(), digest="", images=0)
    made = tracks.recipe("laptop", pretext, modality="histo", corpus=corpus, policy="", seed=0)
    return json.loads(canonical(made.settings)) | changes


def add(
    root: Path, name: str, pretext: str, scores: dict[str, float], modality="histo", engine=ENGINE, seed=1000, **changes
):
    """Store a trial."""
    twin = pretext == trials.TWIN
    common = {
        "modality": modality,
        "track": "laptop",
        "pretext": pretext,
        "pretext_version": 1,
        "engine": engine,
        "settings": json.dumps({} if twin else settings(pretext, **changes)),
        "seed": seed,
        "budget_flops": 0.0 if twin else 2.5e13,
        "images_seen": 0 if twin else 70_000,
        "seconds": 1.0,
    }
    rows = [common | {"task": task, "score": score} for task, score in scores.items()]
    results.write(root / modality / "trials" / name, {"trials": schema.table("trials", rows)})


def flat(score: float) -> dict[str, float]:
    return dict.fromkeys(EVERY, score)


GAINED = {"mae": 0.7, "ijepa": 0.72, "dinov3": 0.74}
LOCAL = flat(0.74) | dict(zip(TEXTURE, (0.9, 0.85, 0.8, 0.75, 0.7), strict=True))


@pytest.fixture
def root(tmp_path) -> Path:
    """Two trials a pretext: the chosen one and another, in one modality."""
    root = tmp_path / "store"
    add(root, "floor", "twin", flat(FLOOR))
    for pretext, score in GAINED.items():
        add(root, f"{pretext}-0", pretext, LOCAL if pretext == "dinov3" else flat(score))
        add(root, f"{pretext}-1", pretext, flat(score + (0.05 if pretext == "ijepa" else -0.01)), lr=0.123)
    return root


def one(root: Path, name: str) -> trials.Trial:
    return next(each for each in trials.read(root).current if each.name == name)


def test_texture_and_relation_count_as_one_latent_each(root):
    scores = flat(0.5) | dict.fromkeys(TEXTURE, 0.8) | {RELATION[2]: 0.8}
    assert trials.latents(scores) == pytest.approx(
        {"local": 0.5, "regional": 0.5, "global": 0.5, "texture": 0.8, "relation": 0.6}
    )
    add(root, "other", "mae", scores, lr=9.0)
    every = trials.read(root).current
    assert trials.gain(one(root, "other"), every) == pytest.approx(np.mean([0.5, 0.5, 0.5, 0.8, 0.6]) - FLOOR)
    assert trials.gain(one(root, "mae-0"), every) == pytest.approx(0.1)
    assert trials.gain(one(root, "floor"), every) is None
    assert trials.gain(one(root, "mae-0"), []) is None


def test_a_gain_is_over_the_twin_that_a_pretext_starts_from(root):
    for cls, floor in ((True, 0.55), (False, 0.65)):
        rows = results.read(root, "trials")
        row = rows[rows.pretext == "twin"].drop(columns="directory", errors="ignore")
        row = row.assign(settings=json.dumps({"cls": cls}), score=floor, seed=1001)
        results.write(
            root / "histo" / "trials" / f"floor-{cls}", {"trials": schema.table("trials", row.to_dict("records"))}
        )
    for pretext in ("mae", "ijepa"):
        add(root, f"{pretext}-later", pretext, flat(0.8), seed=1001)
    every = trials.read(root).current
    assert trials.gain(one(root, "mae-later"), every) == pytest.approx(0.25)
    assert trials.gain(one(root, "ijepa-later"), every) == pytest.approx(0.15)


def test_changes_are_from_what_is_recommended_and_name_the_chosen_one(root):
    assert one(root, "mae-0").chosen
    assert (one(root, "mae-1").changes, one(root, "mae-1").chosen) == ("lr 0.123", False)
    assert tracks.changes("gone", "laptop", {"lr": 1}) == "lr 1"


def test_a_recipe_is_chosen_by_its_mean_over_modalities_and_it_is_said_where_it_is_not_the_best(root):
    found = trials.read(root).current
    assert trials.means(found, "laptop", "ijepa") == pytest.approx({"as recommended": 0.12, "lr 0.123": 0.17})
    said = " ".join(text for block in trials_page.describe_trials(trials.read(root), {}).blocks for text in block.texts)
    assert (
        "I-JEPA: the chosen recipe gains +0.120, mean over latents and modalities, not the highest: +0.170 with" in said
    )
    assert "MAE: the chosen recipe gains +0.100, mean over latents and modalities, the highest of 2." in said


def test_numbers_of_trials_are_printed_and_said_where_they_are_not_equal(root):
    def said() -> str:
        return trials_page.describe_trials(trials.read(root), {}).blocks[0].texts[0]

    assert said() == "Each of dinov3, ijepa, mae had 2 trials in histo.".replace(
        "dinov3, ijepa", "DINOv3, I-JEPA"
    ).replace("mae", "MAE")
    add(root, "more", "mae", flat(0.6), lr=5.0)
    assert said() == "Not the same number of trials for each pretext. histo: DINOv3 2, I-JEPA 2, MAE 3."


def test_every_trial_is_a_row_with_its_scores(root):
    table = trials_page.describe_trials(trials.read(root), {}).blocks[0].tables[0]
    assert len(table.rows) == 7
    heads = [head.lines[0] for head in table.heads]
    rows = {(row.head.lines[0], row.cells[0].lines[0]): row for row in table.rows}
    row = dict(zip(heads[1:], rows["DINOv3", "as recommended"].cells, strict=True))
    assert row["texture"].lines == ("0.800",)
    assert row["local"].lines == ("0.740",)
    assert row["Changed settings"].lines == ("as recommended", "chosen")
    expected = np.mean([0.14, 0.14, 0.14, 0.2, 0.14])
    assert row["Mean gain over twin"].lines == (f"+{expected:.3f}",)


def test_trials_of_earlier_versions_stay_readable_and_apart(root):
    add(root, "old", "mae", dict(zip(BASE, (0.7, 0.6, 0.5), strict=True)), engine=ENGINE - 1, lr=5.0)
    found = trials.read(root)
    assert [each.name for each in found.earlier] == ["old"]
    blocks = trials_page.describe_trials(found, {}).blocks
    assert "Each of" in blocks[0].texts[0]
    (row,) = blocks[-1].tables[0].rows
    assert [cell.lines[0] for cell in row.cells[-6:]] == ["0.700", "0.600", "0.500", "–", "–", "–"]


PLACES = dict(zip((*TEXTURE, *RELATION), (0.9, 0.7, 0.5, 0.3, 0.1, 0.8, 0.4, 0.1), strict=True))


def claim(name: str, **about) -> claims.Claim:
    return next(
        each
        for each in claims.load()
        if each.name == name and all(getattr(each, key) == value for key, value in about.items())
    )


def test_a_claim_under_a_trial_is_its_estimate_with_that_recipe_in_place(root):
    d, i, other = ([one(root, name)] for name in ("dinov3-0", "ijepa-0", "ijepa-1"))
    local = claim("local")
    assert trials.claimed(local, d, i, PLACES) == pytest.approx((0.9 - 0.72) / 0.5)
    assert trials.claimed(local, d, other, PLACES) == pytest.approx((0.9 - 0.77) / 0.5)
    slope = claim("slope", behind="I-JEPA", within="phantom_locality", per="gain")
    assert trials.claimed(slope, d, i, PLACES) == pytest.approx(0.05 / 0.2 / 0.5)
    assert trials.claimed(slope, d, i, dict.fromkeys(PLACES, 0.4)) is None
    assert trials.claimed(slope, d, i, {TEXTURE[0]: 0.9, TEXTURE[4]: 0.1}) is None
    relation = replace(slope, within="phantom_relation")
    assert trials.claimed(relation, d, i, PLACES) == pytest.approx(0)
    assert trials.claimed(local, d, [], PLACES) is None
    assert trials.claimed(local, d, [replace(i[0], seed=1001)], PLACES) is None
    assert trials.claimed(local, d, [replace(i[0], scores={})], PLACES) is None


def test_the_page_shows_every_claim_of_two_pretexts_under_every_recipe(root):
    places = {("histo", task): place for task, place in PLACES.items()}
    block = trials_page.describe_trials(trials.read(root), places).blocks[1]
    assert [table.title for table in block.tables] == [
        "DINOv3 − I-JEPA",
        "I-JEPA − DINOv3",
        *["DINOv3 − I-JEPA"] * 2,
        *["I-JEPA − MAE"] * 2,
        *["DINOv3 − MAE"] * 2,
    ]
    rows = {row.head.lines[0]: row.cells[0].lines[0] for row in block.tables[0].rows}
    assert rows == {
        "chosen recipes": "+0.360",
        "DINOv3: lr 0.123": "+0.020",
        "I-JEPA: lr 0.123": "+0.260",
    }
    rows = {row.head.lines[0]: row.cells[0].lines[0] for row in block.tables[2].rows}
    assert rows == {"chosen recipes": "+0.500", "DINOv3: lr 0.123": "0.000", "I-JEPA: lr 0.123": "+0.500"}


def test_a_store_without_trials_says_so(tmp_path):
    page = trials_page.describe_trials(trials.read(tmp_path), {})
    assert page.blocks[0].texts == ("No trial is stored.",)


def test_trials_are_published_once_with_their_twins_and_verify(root, tmp_path):
    published = tmp_path / "published"
    made = promote_trials(root, published, {"pretext": "mae"})
    assert sorted(each.directory.name for each in made) == ["floor", "mae-0", "mae-1"]
    before = tree(published)
    assert promote_trials(root, published, {"pretext": "mae"}) == []
    assert tree(published) == before
    arguments = ["promote", "--trials", "--results", str(root), "--published", str(published)]
    ran = CliRunner().invoke(app, arguments)
    assert ran.exit_code == 0, ran.output
    assert "4 directories written" in ran.output
    report = verify(published)
    assert report.problems == ()
    assert (report.unsealed, report.stored["tuning trials"]) == (0, 7 * len(EVERY))
    assert {each.name for each in trials.read(published).current} == {each.name for each in trials.read(root).current}
    assert trials_page.describe_trials(trials.read(published), {}) == trials_page.describe_trials(trials.read(root), {})


def test_a_changed_score_of_a_published_trial_is_found(root, tmp_path):
    published = tmp_path / "published"
    promote_trials(root, published, {})
    path = published / "histo" / "trials" / "mae-0" / "trials.parquet"
    rewrite(path, lambda rows: rows[0].update(score=0.99))
    assert [(each.file, each.what) for each in verify(published).problems] == [(path, "column score under its seal")]
    with pytest.raises(Refused, match="nothing was promoted"):
        promote_trials(published, tmp_path / "other", {})


def test_what_there_is_not_is_refused_in_words(root, tmp_path):
    with pytest.raises(Refused, match=r"no trial with {'track': '1e14'}; run one: python -m benchmark.lab.trials"):
        promote_trials(root, tmp_path / "published", {"track": "1e14"})
    ran = CliRunner().invoke(app, ["promote", "--trials", "--run", "a", "--results", str(root)])
    assert ran.exit_code == 2
    assert "a trial is no run" in ran.output
