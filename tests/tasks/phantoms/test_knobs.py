"""The knobs of the phantoms: locality, contrast, speckle, and the relation of two structures."""

import importlib

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from benchmark.lab import calibrate
from benchmark.probing import baselines
from tasks.base import Sample
from tasks.phantoms import relation, scenes
from tasks.phantoms.knobs import LEVELS, Knobs

SEED = scenes.DEVELOPMENT


@pytest.fixture(scope="module", params=scenes.MODALITIES)
def modality(request):
    return request.param


def image(modality, patient, **knobs):
    family = scenes.family(modality, SEED, Knobs(**knobs))
    return family.read(None, Sample(f"train/p{patient:05d}/0", 0, "", ""), 64).astype(int)


def patches(picture):
    """Means over the 8 x 8 patches of 8 x 8 pixels."""
    return picture.reshape(8, 8, 8, 8, 3).mean(axis=(1, 3, 4))


@pytest.mark.parametrize("knobs", [{"locality": 3}, {"contrast": 0.5}, {"speckle": 2.0}], ids=str)
def test_a_knob_makes_another_family_of_the_same_patients(modality, knobs):
    plain, turned = scenes.family(modality), scenes.family(modality, knobs=Knobs(**knobs))
    assert turned.images != plain.images
    for latent in scenes.LATENTS:
        one, other = ([s for s in f.scan(None, latent) if s.id.endswith("/0")] for f in (plain, turned))
        assert [s._replace(digest="") for s in one] == [s._replace(digest="") for s in other]
        assert not {s.digest for s in one} & {s.digest for s in other}


def test_families_of_two_settings_differ(modality):
    settings = [
        *({}, {"contrast": 0.5}, {"speckle": 0.5}, {"contrast": 0.25}),
        *(
            {"locality": 1},
            {"locality": 2},
            {"relation": "near"},
            {"relation": "far"},
            {"relation": "far", "contrast": 0.5},
        ),
    ]
    families = [scenes.family(modality, knobs=Knobs(**turned)) for turned in settings]
    assert len({family.scan(None, family.names[0])[0].digest for family in families}) == len(settings)
    assert len({family.images for family in families}) == len(settings) - 2, "levels and distances are one family each"


def test_less_contrast_brings_structures_nearer_to_one_another(modality):
    for patient in range(4):
        spread = [patches(image(modality, patient, contrast=contrast)).std() for contrast in (1.5, 1.0, 0.5)]
        assert spread == sorted(spread, reverse=True)


def test_less_speckle_brings_the_image_nearer_to_its_mean(modality):
    for patient in range(4):
        clean = image(modality, patient, speckle=0.0)
        noise = [np.abs(image(modality, patient, speckle=speckle) - clean).mean() for speckle in (0.5, 1.0, 2.0)]
        assert noise == sorted(noise)
        assert np.abs(patches(image(modality, patient)) - patches(clean)).mean() < 0.5 * noise[1]


def test_texture_is_balanced_and_independent(modality):
    family = scenes.family(modality, knobs=Knobs(locality=1))
    for split in ("train", "val", "test"):
        truth = np.array([list(family.latents(split, p).values()) for p in range(scenes.PATIENTS[split])])
        assert np.abs(truth.mean(axis=0) - 0.5).max() < 0.02
        assert np.abs(np.corrcoef(truth.T) - np.eye(4)).max() < 0.06


def test_locality_spreads_the_texture_over_ever_more_patches(modality):
    family, touched = scenes.family(modality, SEED, Knobs(locality=1)), {level: [] for level in LEVELS}
    for patient in range(24):
        plain = image(modality, patient)
        for level, counts in touched.items():
            turned = image(modality, patient, locality=level)
            if family.latents("train", patient)["texture"]:
                carried = patches(np.abs(turned - plain))
                counts.append((carried > 0.1 * carried.max()).sum() / (patches(plain) > 0).sum())
            else:
                np.testing.assert_array_equal(turned, plain)
    shares = [float(np.mean(counts)) for counts in touched.values()]
    assert shares == sorted(shares)
    assert shares[0] < 0.12
    assert shares[-1] > 0.9


def test_locality_tasks_are_on_request_and_share_patients_and_labels(modality):
    levels = importlib.import_module(f"tasks.{modality}.phantom_locality").TASKS
    assert [task.name for task in levels] == [f"phantom_locality_{level}" for level in LEVELS]
    assert all(task.on_request and task.synthetic for task in levels)
    assert len({task.images for task in levels}) == 1
    assert len({task.scan(None)[0].digest for task in levels}) == len(levels)
    bare = [[s._replace(digest="") for s in task.scan(None)] for task in levels]
    assert all(samples == bare[0] for samples in bare)


@pytest.mark.parametrize(
    "knobs",
    [{"locality": 6}, {"contrast": -1.0}, {"speckle": -0.1}, {"relation": "wide"}, {"relation": "far", "locality": 1}],
    ids=str,
)
def test_impossible_knobs(knobs):
    with pytest.raises(ValueError, match=r"known: 1, 2|at least 0|known: near|of their own"):
        Knobs(**knobs)


def related(modality, distance):
    return scenes.family(modality, SEED, Knobs(relation=distance))


def test_agreement_is_balanced_and_each_level_says_nothing_of_it(modality):
    for split, patients in scenes.PATIENTS.items():
        truth = np.array([list(related(modality, "far").latents(split, p).values()) for p in range(patients)])
        assert (truth[:, 0] == (truth[:, 1] == truth[:, 2])).all()
        assert np.abs(truth.mean(axis=0) - 0.5).max() == 0
        assert np.abs(np.corrcoef(truth.T) - np.eye(3)).max() < 1e-9


def test_every_image_holds_two_structures_of_each_level_in_rows_that_no_window_spans():
    for distance, apart in relation.APART.items():
        for seed in range(64):
            first, second = seed & 1, seed >> 1 & 1
            four = relation.place(np.random.default_rng(seed), distance, first, second)
            assert (four[0].high, four[1].high) == (bool(first), bool(second))
            assert sum(one.high for one in four) == 2
            assert [one.mark for one in four] == ["first", "second", "", ""]
            for one, other in (four[:2], four[2:]):
                assert one.y == other.y
                assert abs(one.x - other.x) == pytest.approx(apart)
            assert abs(four[0].y - four[2].y) > 2 * relation.RADIUS + 1 / 8
            assert all(relation.RADIUS <= one.x <= 1 - relation.RADIUS for one in four)
    assert relation.APART["near"] == 2 * relation.RADIUS
    assert relation.APART["far"] - 2 * relation.RADIUS > 1 / 8


def test_distances_differ_in_nothing_but_the_distance(modality):
    near, far = importlib.import_module(f"tasks.{modality}.phantom_relation").TASKS[::2]
    assert (near.name, far.name) == ("phantom_relation_near", "phantom_relation_far")
    bare = [[s._replace(digest="") for s in task.scan(None)] for task in (near, far)]
    assert bare[0] == bare[1]
    assert not {s.digest for s in near.scan(None)} & {s.digest for s in far.scan(None)}
    parts = importlib.import_module(f"tasks.{modality}.phantom_levels").TASKS
    assert len(parts) == 6
    assert {s.digest for s in parts[-1].scan(None)} == {s.digest for s in far.scan(None)}
    assert not np.array_equal(*(task.read(None, task.scan(None)[0], 64) for task in (near, far)))


def test_marked_structures_lie_on_either_side_and_in_either_row():
    places = {mark: set() for mark in ("first", "second")}
    for seed in range(40):
        for one in relation.place(np.random.default_rng(seed), "far", 0, 1)[:2]:
            places[one.mark].add((one.x > 0.5, one.y > 0.5))
    assert all(len(found) == 4 for found in places.values())


@pytest.mark.parametrize("distance", relation.APART)
def test_an_oracle_reads_relation_and_both_levels(modality, distance):
    family = related(modality, distance)
    shown = [family.render("test", patient, 0, 64) for patient in range(120)]
    scores = [scenes.oracle(family, one) for one in shown]
    for latent in scenes.PAIR:
        truth = [one.latents[latent] for one in shown]
        assert roc_auc_score(truth, [score[latent] for score in scores]) >= 0.95, latent


def test_a_histogram_and_a_thumbnail_do_not_read_the_far_relation(modality, monkeypatch):
    monkeypatch.setattr(scenes, "PATIENTS", {"train": 600, "val": 100, "test": 900})
    family, parts = related(modality, "far"), {}
    for split, patients in scenes.PATIENTS.items():
        parts[split] = calibrate.render(family, split, patients)
    for simple in (baselines.histogram, baselines.thumbnail):
        x = {name: np.stack([simple(one) for one in part.images]) for name, part in parts.items()}
        assert calibrate.probe(x, parts, "relation") <= 0.58
