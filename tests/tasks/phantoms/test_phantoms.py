"""The phantoms: deterministic, factorial, grouped, and solvable by whoever knows where to look."""

import hashlib
import importlib
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

import tasks
from benchmark import corpus
from benchmark.lab import calibrate
from tasks.base import DataError, Sample
from tasks.phantoms import population, scenes
from tasks.phantoms.knobs import Knobs

SEED = scenes.DEVELOPMENT
FROZEN = {  # SHA-256 of 16 calibrated images at 64 and 224 pixels; a change that is meant bumps scenes.VERSION
    "ultrasound": {"": "0b988155f24ac6d3", "-locality3": "1c36734775f78e64", "-relationnear": "37afa48fb1535992"},
    "histo": {"": "eacb8a3bbc5c73fe", "-locality3": "d32c7198f8682795", "-relationnear": "fb54395218b77373"},
}


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
    family = scenes.family(modality, SEED)
    return [family.render("test", patient, 0, 64) for patient in range(160)]


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
    assert len(samples) == task(modality, "local").expected == 2 * sum(scenes.PATIENTS.values())
    assert len({s.id for s in samples}) == len({s.digest for s in samples}) == len(samples)
    assert {s.split: s.id.split("/")[0] for s in samples} == {"train": "train", "val": "val", "test": "test"}
    assert samples[25].id == "train/p00012/1"
    assert samples[25].group == "train-p00012"


def test_three_tasks_share_images(scans):
    bare = [[s._replace(label=0) for s in samples] for samples in scans.values()]
    assert bare[0] == bare[1] == bare[2]


def test_as_many_patients_as_a_comparison_needs():
    """Counted without what the tests make smaller."""
    program = (
        "from benchmark import tracks; from tasks.phantoms import population, scenes; "
        "print(scenes.PATIENTS, *(len(population.source(m).scan(None)) for m in scenes.MODALITIES), "
        "len(scenes.family('histo').scan(None, 'local')), tracks.PHANTOM_IMAGES)"
    )
    whole = {name: value for name, value in os.environ.items() if name != "PRETEXT_BENCH_PATIENTS"}
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=whole).stdout
    assert said.strip() == "{'train': 2000, 'val': 400, 'test': 2000} 20700 20700 8800 20700"


def test_groups_keep_to_a_split_and_to_a_label(scans):
    for samples in scans.values():
        assert (
            len({(s.group, s.split, s.label) for s in samples}) == len({s.group for s in samples}) == len(samples) / 2
        )


def test_labels_are_balanced_and_independent(scans):
    for split in ("train", "val", "test"):
        labels = np.array([[s.label for s in samples if s.split == split] for samples in scans.values()])
        assert np.abs(labels.mean(axis=1) - 0.5).max() < 0.01
        assert np.abs(np.corrcoef(labels) - np.eye(3)).max() < 0.02


def test_labels_are_what_is_rendered(modality, scans):
    for latent, samples in scans.items():
        for sample in samples[::97]:
            split, patient, _ = sample.id.split("/")
            assert scenes.family(modality).latents(split, int(patient[1:]))[latent] == sample.label


def test_deterministic_whatever_the_order(modality, scans):
    read, samples = task(modality, "local").read, scans["local"][:6]
    forward = [read(None, s, 64) for s in samples]
    np.random.random(3)  # noqa: NPY002 - the global generator must not matter
    backward = [read(None, s, 64) for s in reversed(samples)][::-1]
    assert all(np.array_equal(a, b) for a, b in zip(forward, backward, strict=True))
    assert not np.array_equal(forward[0], forward[1])


def test_deterministic_in_another_process(modality, scans):
    sample = scans["local"][432]
    program = (
        "import hashlib; from tasks.phantoms import scenes; "
        f"f = scenes.family({modality!r}); s = f.scan(None, 'local')[432]; "
        "print(hashlib.sha256(f.read(None, s, 64).tobytes()).hexdigest())"
    )
    there = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.strip()
    assert there == hashlib.sha256(task(modality, "local").read(None, sample, 64).tobytes()).hexdigest()


def test_families_of_two_seeds_differ(modality):
    reported, development = scenes.family(modality), scenes.family(modality, SEED)
    one, other = reported.scan(None, "local"), development.scan(None, "local")
    assert reported.images != development.images
    assert not {s.digest for s in one} & {s.digest for s in other}
    assert [s.label for s in one] != [s.label for s in other]


@pytest.mark.parametrize("pixels", [64, 224])
def test_renders(modality, scans, pixels):
    image = task(modality, "global").read(None, scans["global"][7], pixels)
    assert image.shape == (pixels, pixels, 3)
    assert image.dtype == np.uint8
    assert image.std() > 20
    shown = scenes.family(modality, SEED).render("val", 3, 1, pixels)
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
    family = scenes.family(modality, SEED)
    scores = [scenes.oracle(family, shown) for shown in rendered]
    for latent in scenes.LATENTS:
        score = np.array([s[latent] for s in scores])
        label = np.array([shown.latents[latent] for shown in rendered])
        present, absent = score[label == 1], score[label == 0]
        auroc = (present[:, None] > absent[None, :]).mean()
        assert auroc >= 0.95, (modality, latent, auroc)


@pytest.mark.parametrize("address", ["train/p99999/0", "train/p00001/2", "nowhere/p00001/0", "p00001"])
def test_unknown_address(modality, address):
    with pytest.raises(DataError, match="no phantom image"):
        scenes.family(modality).read(None, Sample(address, 0, "", ""), 64)


def test_unknown_modality():
    with pytest.raises(ValueError, match="known: ultrasound, histo"):
        scenes.family("xray")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("pixels", [16, 32])
def test_ultrasound_is_well_defined_when_small(pixels):
    for patient in range(100):
        family = scenes.family("ultrasound", SEED)
        assert np.isfinite(list(scenes.oracle(family, family.render("train", patient, 0, pixels)).values())).all()


@pytest.mark.parametrize("knobs", [{}, {"locality": 3}, {"relation": "near"}], ids=str)
def test_pixels_are_frozen(modality, knobs):
    sha, family = hashlib.sha256(), scenes.family(modality, SEED, Knobs(**knobs))
    for pixels in (64, 224):
        for patient in range(8):
            sha.update(family.render("train", patient, patient % family.each, pixels).image.tobytes())
    frozen = FROZEN[modality][family.knobs.name]
    assert sha.hexdigest()[:16] == frozen, "a pixel of the calibrated phantoms changed: bump scenes.VERSION"


def test_the_reported_seed_is_of_the_last_commit_before_the_freeze():
    assert f"{scenes.REPORTED:08x}" == scenes.DRAWN_FROM[:8]
    file = Path(scenes.__file__)
    found = subprocess.run(
        ["git", "log", "--reverse", "--format=%P", f"-S{scenes.DRAWN_FROM}", "--", file.name],
        cwd=file.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    if found.returncode or not found.stdout.strip():
        pytest.skip("no history here")
    assert found.stdout.split()[0] == scenes.DRAWN_FROM


@pytest.mark.parametrize("value", ["few", "-3", "0", "2.5"])
def test_fewer_patients_are_a_number_or_refused(value):
    done = subprocess.run(
        [sys.executable, "-c", "from tasks.phantoms import scenes"],
        env=os.environ | {scenes.FEWER: value},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: PRETEXT_BENCH_PATIENTS={value}: a whole number")


def test_the_population_holds_every_family_and_none_of_its_patients(modality):
    source = population.source(modality)
    samples = source.scan(None)
    assert len(samples) == len({s.id for s in samples}) == len({s.group for s in samples}) == source.expected
    assert {s.label for s in samples} == {-1}
    assert corpus.resolve(modality, "phantom", Path("nowhere"), Path("nowhere")).corpus.images == len(samples)
    labelled = {
        s
        for family in ("phantom_local", "phantom_locality_3", "phantom_relation_far")
        for s in digests(modality, family)
    }
    assert not labelled & {s.digest for s in samples}
    counts = Counter(population.kind(number) for number in range(len(samples)))
    assert set(counts.values()) == {len(samples) // len(population.KINDS)}
    pairs = [
        scenes.family(modality, knobs=population.kind(number)).latents(scenes.CORPUS, number)["relation"]
        for number in range(len(samples))
        if population.kind(number).relation
    ]
    assert np.mean(pairs) == pytest.approx(0.8, abs=0.04)
    texture = [
        scenes.family(modality, knobs=population.kind(number)).latents(scenes.CORPUS, number)["texture"]
        for number in range(len(samples))
        if population.kind(number).locality == 5
    ]
    assert np.mean(texture) == pytest.approx(0.5, abs=0.08)


def digests(modality, name):
    return {s.digest for s in tasks.get(modality, name).scan(None)}


def test_the_population_is_rendered_as_its_families_are(modality):
    source = population.source(modality, SEED)
    samples = source.scan(None)
    for sample in (samples[0], samples[3], samples[8]):
        number = int(sample.id.split("/")[1][1:])
        family = scenes.family(modality, SEED, population.kind(number))
        np.testing.assert_array_equal(source.read(None, sample, 32), family.render("population", number, 0, 32).image)
    for address in ("train/p00000/0", "population/p99999/0", "population/r00000/0", "population"):
        with pytest.raises(DataError, match=r"population"):
            source.read(None, Sample(address, -1, "", ""), 32)


def test_calibration_never_looks_at_the_reported_seed():
    assert scenes.REPORTED not in calibrate.SEEDS


def test_supervised_learns_what_is_plain_and_not_what_is_not_there():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, (256, 2))
    pictures = rng.integers(0, 200, (256, 64, 64, 3), dtype=np.uint8)
    pictures[truth[:, 0] == 1, 8:40, 8:40] += 50
    model = calibrate.train("ultrasound", pictures[:192], truth[:192], steps=8)
    plain, noise = calibrate.predict(model, pictures[192:]).T
    assert roc_auc_score(truth[192:, 0], plain) > 0.9
    assert roc_auc_score(truth[192:, 1], noise) < 0.75
