"""The phantoms: deterministic, factorial, grouped, and solvable by whoever knows where to look."""

import hashlib
import importlib
import subprocess
import sys

import numpy as np
import pytest

from tasks.base import DataError, Sample
from tasks.phantoms import scenes

SEED = scenes.DEVELOPMENT


def task(modality, latent):
    return importlib.import_module(f"tasks.{modality}.phantom_{latent}").TASK


@pytest.fixture(scope="module", params=scenes.MODALITIES)
def modality(request):
    return request.param


@pytest.fixture(scope="module")
def scans(modality):
    return {latent: task(modality, latent).scan(None) for latent in scenes.LATENTS}


@pytest.fixture(scope="module")
def rendered(modality):
    return [scenes.render(modality, SEED, "test", patient, 0, 64) for patient in range(160)]


def test_cards(modality):
    for latent in scenes.LATENTS:
        card = task(modality, latent)
        assert (card.name, card.modality) == (f"phantom_{latent}", modality)
        assert card.synthetic
        assert card.images == f"phantom-{modality}/{scenes.VERSION}"
        assert "ynthetic" in card.title
        assert "simulated" in card.question
        assert len(card.classes) == 2


def test_layout(modality, scans):
    samples = scans["local"]
    assert len(samples) == task(modality, "local").expected == 5400
    assert len({s.id for s in samples}) == len({s.digest for s in samples}) == 5400
    assert {s.split: s.id.split("/")[0] for s in samples} == {"train": "train", "val": "val", "test": "test"}
    assert samples[25].id == "train/p00012/1"
    assert samples[25].group == "train-p00012"


def test_three_tasks_share_images(scans):
    bare = [[s._replace(label=0) for s in samples] for samples in scans.values()]
    assert bare[0] == bare[1] == bare[2]


def test_groups_keep_to_a_split_and_to_a_label(scans):
    for samples in scans.values():
        assert len({(s.group, s.split, s.label) for s in samples}) == len({s.group for s in samples}) == 2700


def test_labels_are_balanced_and_independent(scans):
    for split in ("train", "val", "test"):
        labels = np.array([[s.label for s in samples if s.split == split] for samples in scans.values()])
        assert np.abs(labels.mean(axis=1) - 0.5).max() < 0.01
        assert np.abs(np.corrcoef(labels) - np.eye(3)).max() < 0.02


def test_labels_are_what_is_rendered(modality, scans):
    for latent, samples in scans.items():
        for sample in samples[::397]:
            split, patient, _ = sample.id.split("/")
            assert scenes.latents(modality, scenes.REPORTED, split, int(patient[1:]))[latent] == sample.label


def test_deterministic_whatever_the_order(modality, scans):
    read, samples = task(modality, "local").read, scans["local"][:6]
    forward = [read(None, s, 64) for s in samples]
    np.random.random(3)  # noqa: NPY002 - the global generator must not matter
    backward = [read(None, s, 64) for s in reversed(samples)][::-1]
    assert all(np.array_equal(a, b) for a, b in zip(forward, backward, strict=True))
    assert not np.array_equal(forward[0], forward[1])


def test_deterministic_in_another_process(modality, scans):
    sample = scans["local"][4321]
    program = (
        "import hashlib; from tasks.phantoms import scenes; "
        f"f = scenes.family({modality!r}); s = f.samples('local')[4321]; "
        "print(hashlib.sha256(f.read(s, 64).tobytes()).hexdigest())"
    )
    there = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.strip()
    assert there == hashlib.sha256(task(modality, "local").read(None, sample, 64).tobytes()).hexdigest()


def test_families_of_two_seeds_differ(modality):
    reported, development = scenes.family(modality), scenes.family(modality, SEED)
    one, other = reported.samples("local"), development.samples("local")
    assert reported.images != development.images
    assert not {s.digest for s in one} & {s.digest for s in other}
    assert [s.label for s in one] != [s.label for s in other]


@pytest.mark.parametrize("pixels", [64, 224])
def test_renders(modality, scans, pixels):
    image = task(modality, "global").read(None, scans["global"][7], pixels)
    assert image.shape == (pixels, pixels, 3)
    assert image.dtype == np.uint8
    assert image.std() > 20
    shown = scenes.render(modality, SEED, "val", 3, 1, pixels)
    assert all(mask.shape == (pixels, pixels) and mask.dtype == bool for mask in shown.masks.values())


def test_masks_lie_in_the_image(rendered):
    for shown in rendered:
        for name, mask in shown.masks.items():
            assert mask.any(), name
            if "cortex" in shown.masks:
                assert np.median(shown.image[mask]) > 0 or name in ("lumen", "mass")


def test_masks_are_there_whatever_the_latents(rendered):
    names = {tuple(shown.masks) for shown in rendered}
    assert len(names) == 1


def test_oracle_solves_every_task(modality, rendered):
    scores = [scenes.oracle(modality, shown) for shown in rendered]
    for latent in scenes.LATENTS:
        score = np.array([s[latent] for s in scores])
        label = np.array([shown.latents[latent] for shown in rendered])
        present, absent = score[label == 1], score[label == 0]
        auroc = (present[:, None] > absent[None, :]).mean()
        assert auroc >= 0.95, (modality, latent, auroc)


@pytest.mark.parametrize("address", ["train/p99999/0", "train/p00001/2", "nowhere/p00001/0", "p00001"])
def test_unknown_address(modality, address):
    with pytest.raises(DataError, match="no phantom image"):
        scenes.family(modality).read(Sample(address, 0, "", ""), 64)


def test_unknown_modality():
    with pytest.raises(ValueError, match="known: ultrasound, histo"):
        scenes.family("xray")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("pixels", [16, 32])
def test_ultrasound_is_well_defined_when_small(pixels):
    for patient in range(100):
        shown = scenes.render("ultrasound", SEED, "train", patient, 0, pixels)
        assert np.isfinite(list(scenes.oracle("ultrasound", shown).values())).all()
