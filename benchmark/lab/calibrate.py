"""Calibration of the phantoms: `python -m benchmark.lab.calibrate`. Looks at development seeds, never at the reported.

A task of the phantoms should be solvable by whoever knows where to look (oracle), learnable from labels (supervised),
out of reach of low-order statistics (histogram, thumbnail), and neither hopeless nor solved for the encoder that
pretraining starts from (twin). The levels of locality should differ in nothing but locality, so a supervised model must
tell their classes equally well; so should the distances of the relation, the farthest of which nothing that reads
windows or low-order statistics may tell. Prints the AUROC of each on test patients, and what is out of bounds.
"""

import time
from typing import Annotated, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
import typer
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from torchvision.ops import Permute

import tasks
from benchmark.encoders.encoder import Encoder
from benchmark.lab import classifier, locality
from benchmark.probes import linear
from benchmark.probes._base import labelled
from benchmark.probing import baselines, features
from benchmark.recipe import EncoderSpec
from benchmark.tracks import MICRO
from tasks import host
from tasks.base import Sample
from tasks.phantoms import scenes
from tasks.phantoms.knobs import LEVELS, Knobs
from tasks.phantoms.relation import APART
from tasks.phantoms.scenes import BOUNDS
from tasks.store import Store

TWINS = 5  # torch seeds
MATCHED = 0.02  # supervised AUROC of the locality levels, from lowest to highest
SEEDS = (scenes.DEVELOPMENT, 8)  # of the families that locality is calibrated on
SUPERVISED = EncoderSpec(width=64, depth=4, heads=2, patch=8, pixels=64, cls=False)
STEPS, SHIFT = 900, 3
TEXTURE, RELATION = "texture", "relation"  # all levels, all distances at once
TASKS = (*scenes.LATENTS, TEXTURE, RELATION)
FAR = {  # AUROC on the relation of structures that lie far apart, on a development seed; nearer, the outer two hold
    "oracle": (0.95, 1.0),
    "histogram": (0.0, 0.58),
    "thumbnail": (0.0, 0.58),
    "deviation": (0.0, 0.58),  # mean and deviation of untrained patches
    "twin": (0.0, 0.60),
    "windows": (0.0, 0.58),  # a bag of windows of an eighth of the side
    "supervised": (0.90, 1.0),
}


class Part(NamedTuple):
    """Images of a split of one family."""

    images: np.ndarray  # uint8 (N, S, S, 3)
    labels: dict[str, np.ndarray]  # latent -> (N,)
    oracle: dict[str, np.ndarray]  # latent -> (N,) measured on the image in the true masks
    seconds: float  # of this process, to render an image without its masks


def render(family: scenes.Family, split: str, patients: int, oracle: bool = False) -> Part:
    """The images of the first patients of a split; `oracle` measures them in their true masks, too."""
    shown = [(p, i) for p in range(min(patients, scenes.PATIENTS[split])) for i in range(family.each)]
    start = time.process_time()
    images = np.stack([_read(family, split, *one) for one in shown])
    seconds = (time.process_time() - start) / len(images)
    truth = [family.latents(split, patient) for patient, _ in shown]
    measured = [scenes.oracle(family, family.render(split, *one, SUPERVISED.pixels)) for one in shown] if oracle else []
    return Part(images, _transpose(truth), _transpose(measured), seconds)


def _read(family: scenes.Family, split: str, patient: int, image: int) -> np.ndarray:
    return family.read(None, Sample(family.address(split, patient, image), 0, "", ""), SUPERVISED.pixels)


def _transpose(rows: list[dict[str, float]]) -> dict[str, np.ndarray]:
    return {name: np.array([row[name] for row in rows]) for name in (rows[0] if rows else ())}


def probe(x: dict[str, np.ndarray], parts: dict[str, Part], latent: str) -> float:
    """Test AUROC of the benchmark's linear probe on features (N, D) of each part."""
    train, val, test = labelled(*((x[part], parts[part].labels[latent]) for part in ("train", "val", "test")))
    fitted = linear.fit(train, val, linear.Settings(), classes=2, seed=0)
    return float(roc_auc_score(test.labels, fitted.predict(test)[:, 1]))


def _standardise(encoder: Encoder, images: np.ndarray) -> Encoder:
    """The encoder with the moments that a corpus of these images would give it."""
    pixels = images[:: max(1, len(images) // 1000)].reshape(-1, 3)
    encoder.mean.copy_(torch.from_numpy(pixels.mean(axis=0) / 255))
    encoder.std.copy_(torch.from_numpy(pixels.std(axis=0) / 255))
    return encoder


def extract_twin(parts: dict[str, Part], seed: int, deviation: bool = False) -> dict[str, np.ndarray]:
    """Mean patch tokens (N, D) of each part, from the encoder that a run of the smallest tracks starts from; with their
    deviation over patches (N, 2 D), if asked for."""
    encoder = _standardise(Encoder(MICRO, seed), parts["train"].images)
    found = {}
    for name, part in parts.items():
        store = Store("", tuple(map(str, range(len(part.images)))), part.images, ())
        if deviation:
            tokens = features.extract(encoder, store, tokens=True)["tokens"].astype(np.float32)
            found[name] = np.concatenate([tokens.mean(axis=1), tokens.std(axis=1)], axis=1)
        else:
            found[name] = features.extract(encoder, store)["patches"]
    return found


def describe(parts: dict[str, Part]) -> dict[str, dict[str, np.ndarray]]:
    """What the baselines describe images by -> features of each part."""
    return {
        f.__name__: {name: np.stack([f(image) for image in part.images]) for name, part in parts.items()}
        for f in (baselines.histogram, baselines.thumbnail)
    }


class Classifier(nn.Module):
    """A small ViT with a convolutional stem, trained with labels."""

    def __init__(self, images: np.ndarray, outputs: int):
        super().__init__()
        self.encoder = _standardise(Encoder(SUPERVISED, seed=0), images)
        width = SUPERVISED.width
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            stem = [*classifier.make_stem(width), nn.Conv2d(width, width, 1), Permute([0, 2, 3, 1])]
            self.encoder.vit.patch_embed = nn.Sequential(*stem)
            self.head = nn.Linear(width, outputs)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) in [0, 1] -> logits (B, outputs)."""
        with torch.autocast(images.device.type, torch.bfloat16):
            tokens = self.encoder(images)
        return self.head(tokens.patches.float().mean(dim=1))


def augment(images: Tensor, turned: bool, generator: torch.Generator) -> Tensor:
    """Mirror left to right, if `turned` also top to bottom and along the diagonal, and shift by a few pixels."""

    def choose() -> Tensor:
        return torch.rand(len(images), 1, 1, 1, generator=generator) < 0.5

    images = torch.where(choose(), images.flip(-1), images)
    if turned:
        images = torch.where(choose(), images.flip(-2), images)
        images = torch.where(choose(), images.transpose(-1, -2), images)
    side = images.shape[-1]
    top, left = torch.randint(0, 2 * SHIFT + 1, (2,), generator=generator).tolist()
    return F.pad(images, (SHIFT,) * 4, mode="replicate")[..., top : top + side, left : left + side]


def _view(images: np.ndarray) -> Tensor:
    return features.evaluation_view(images, SUPERVISED.pixels, torch.device("cpu"))


def train(modality: str, images: np.ndarray, labels: np.ndarray, steps: int) -> Classifier:
    """A classifier of images (N, S, S, 3) by all labels (N, outputs) at once."""
    model, truth = Classifier(images, labels.shape[1]), torch.from_numpy(labels).float()

    def compute_loss(index: Tensor, generator: torch.Generator) -> Tensor:
        seen = augment(_view(images[index.numpy()]), modality == "histo", generator)
        return F.binary_cross_entropy_with_logits(model(seen), truth[index])

    return classifier.train(model, len(images), steps, compute_loss)


@torch.inference_mode()
def predict(model: Classifier, images: np.ndarray) -> np.ndarray:
    """Logits (N, outputs)."""
    starts = range(0, len(images), classifier.BATCH)
    return torch.cat([model(_view(images[i : i + classifier.BATCH])) for i in starts]).numpy()


def print_factorial(modality: str, latents: tuple[str, ...], patients: int, steps: int, twins: int) -> None:
    """The rows of tasks that share the calibrated images."""
    print(f"{'task':<24}{''.join(f'{name:>12}' for name in BOUNDS)}   twins, lowest to highest")
    family = scenes.family(modality, scenes.DEVELOPMENT)
    parts = {split: render(family, split, patients, oracle=split == "test") for split in scenes.PATIENTS}
    print(f"{modality}: {1 / parts['train'].seconds:.0f} images rendered per second of one core")
    simple = describe(parts)
    untrained = [extract_twin(parts, seed) for seed in range(twins)]
    train_part, test = parts["train"], parts["test"]
    labels = np.stack([train_part.labels[name] for name in scenes.LATENTS], axis=1)
    learned = dict(
        zip(scenes.LATENTS, predict(train(modality, train_part.images, labels, steps), test.images).T, strict=True)
    )
    for latent in latents:
        truth = test.labels[latent]
        floors = [probe(x, parts, latent) for x in untrained]
        reached = {"oracle": float(roc_auc_score(truth, test.oracle[latent]))}
        reached |= {name: probe(x, parts, latent) for name, x in simple.items()}
        reached |= {"twin": float(np.mean(floors)), "supervised": float(roc_auc_score(truth, learned[latent]))}
        _print_row(f"{modality}/{latent}", reached, BOUNDS, f"   {min(floors):.3f} to {max(floors):.3f}")


def print_texture(modality: str, patients: int, steps: int) -> None:
    """The rows of the locality tasks: one classifier, trained on images of all levels, judged level by level."""
    print(f"{'task':<24}{'supervised':>12}")
    families = {level: [scenes.family(modality, seed, Knobs(locality=level)) for seed in SEEDS] for level in LEVELS}
    images, labels = [], []
    for number in range(len(SEEDS)):
        for patient in range(min(patients, scenes.PATIENTS["train"])):
            family = families[1 + patient % len(LEVELS)][number]
            images += [_read(family, "train", patient, image) for image in range(family.each)]
            labels += [[family.latents("train", patient)[scenes.TEXTURE]]] * family.each
    model = train(modality, np.stack(images), np.array(labels), steps)
    reached = []
    for level, seeds in families.items():
        tests = [render(family, "test", patients) for family in seeds]
        scores = predict(model, np.concatenate([test.images for test in tests]))[:, 0]
        truth = np.concatenate([test.labels[scenes.TEXTURE] for test in tests])
        reached.append(float(roc_auc_score(truth, scores)))
        print(f"{f'{modality}/locality_{level}':<24}{reached[-1]:>12.3f}", flush=True)
    _print_spread(modality, "levels", reached)


def print_relation(modality: str, patients: int, steps: int, twins: int) -> None:
    """A row for each distance: one classifier and one bag of windows, trained on all of them with both levels as
    further heads, judged distance by distance."""
    print(f"{'task':<24}{''.join(f'{name:>12}' for name in FAR)}")
    parts = {}
    for distance in APART:
        family = scenes.family(modality, scenes.DEVELOPMENT, Knobs(relation=distance))
        parts[distance] = {split: render(family, split, patients, split == "test") for split in scenes.PATIENTS}
    images, test = (np.concatenate([part[split].images for part in parts.values()]) for split in ("train", "test"))
    labels = np.concatenate(
        [np.stack([part["train"].labels[name] for name in scenes.PAIR], axis=1) for part in parts.values()]
    )
    learned = np.split(predict(train(modality, images, labels, steps), test), len(parts))
    bag = locality.Part(images, labels, np.arange(len(images)))
    windows, _, _ = locality.train_and_predict(locality.FIELDS[0], bag, test, (2, 2, 2), 2 * steps)
    reached = []
    for (distance, own), logits, seen in zip(parts.items(), learned, np.split(windows, len(parts)), strict=True):
        truth = own["test"].labels["relation"]
        reached.append(float(roc_auc_score(truth, logits[:, 0])))
        row = {"oracle": float(roc_auc_score(truth, own["test"].oracle["relation"]))}
        row |= {name: probe(x, own, "relation") for name, x in describe(own).items()}
        row["deviation"] = probe(extract_twin(own, 0, deviation=True), own, "relation")
        row["twin"] = float(np.mean([probe(extract_twin(own, seed), own, "relation") for seed in range(twins)]))
        row |= {"windows": float(roc_auc_score(truth, seen[:, 1] - seen[:, 0])), "supervised": reached[-1]}
        bounds = FAR if distance == "far" else {name: FAR[name] for name in ("oracle", "supervised")}
        _print_row(f"{modality}/relation_{distance}", row, bounds)
    _print_spread(modality, "distances", reached)


def _print_row(name: str, reached: dict[str, float], bounds: dict[str, tuple[float, float]], note: str = "") -> None:
    broken = [one for one, (low, high) in bounds.items() if not low <= reached[one] <= high]
    cells = "".join(f"{value:>12.3f}" for value in reached.values())
    print(f"{name:<24}{cells}{note}   {', '.join(broken) or 'within bounds'}", flush=True)


def _print_spread(modality: str, what: str, reached: list[float]) -> None:
    spread = max(reached) - min(reached)
    print(f"{modality}: the {what} are {spread:.3f} apart, {'within' if spread <= MATCHED else 'OVER'} {MATCHED}")


def main(
    modality: Annotated[str, typer.Option(help="ultrasound or histo; empty: both.")] = "",
    task: Annotated[str, typer.Option(help=f"{', '.join(TASKS)}; empty: all.")] = "",
    quick: Annotated[bool, typer.Option(help="A trial in a minute, with figures that mean nothing.")] = False,
) -> None:
    """Print the calibration table of the phantoms: AUROC on test patients of the development seed."""
    for kind, value, known in (("modality", modality, scenes.MODALITIES), ("task", task, TASKS)):
        if value not in ("", *known):
            raise tasks.unknown(kind, value, known)
    patients, steps, twins = (100, 20, 1) if quick else (scenes.PATIENTS["train"], STEPS, TWINS)
    latents = tuple(name for name in scenes.LATENTS if task in ("", name))
    print(f"development seed {scenes.DEVELOPMENT}, version {scenes.VERSION}, AUROC on test patients")
    for name in (modality,) if modality else scenes.MODALITIES:
        if latents:
            print_factorial(name, latents, patients, steps, twins)
        if task in ("", TEXTURE):
            print_texture(name, patients, steps)
        if task in ("", RELATION):
            print_relation(name, patients, steps, twins)


if __name__ == "__main__":
    host.use_utf8()
    typer.run(main)
