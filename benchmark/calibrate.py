"""Calibration of the phantoms: `python -m benchmark.calibrate`. Looks at development seeds, never at the reported one.

A task of the phantoms should be solvable by whoever knows where to look (oracle), learnable from labels (supervised),
out of reach of low-order statistics (histogram, thumbnail), and neither hopeless nor solved for the encoder that
pretraining starts from (twin). The levels of locality should differ in nothing but locality, so a supervised model must
tell their classes equally well. Prints the AUROC of each on test patients, and what is out of bounds.
"""

import math
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
from benchmark import features
from benchmark.encoder import Encoder
from benchmark.probes import linear
from benchmark.probes._base import Features
from benchmark.recipe import EncoderSpec
from benchmark.tracks import MICRO
from tasks import host
from tasks.base import Sample
from tasks.phantoms import scenes
from tasks.phantoms.knobs import LEVELS, Knobs
from tasks.phantoms.scenes import BOUNDS
from tasks.store import Store

TWINS = 5  # torch seeds
MATCHED = 0.02  # supervised AUROC of the locality levels, from lowest to highest
SEEDS = (scenes.DEVELOPMENT, 8)  # of the families that locality is calibrated on
SUPERVISED = EncoderSpec(width=64, depth=4, heads=2, patch=8, pixels=64, cls=False)
STEPS, BATCH, RATE, DECAY, WARMUP, SHIFT = 900, 64, 1.5e-3, 0.05, 0.1, 3
LOCALITY = "locality"  # all its levels at once
TASKS = (*scenes.LATENTS, LOCALITY)


class Part(NamedTuple):
    """Images of a split of one family."""

    images: np.ndarray  # uint8 (N, S, S, 3)
    labels: dict[str, np.ndarray]  # latent -> (N,)
    oracle: dict[str, np.ndarray]  # latent -> (N,) measured on the image in the true masks
    seconds: float  # of this process, to render an image without its masks


def at(split: str, patient: int, image: int) -> Sample:
    """What `Family.read` needs to know of an image."""
    return Sample(f"{split}/p{patient:05d}/{image}", 0, "", "")


def rendered(family: scenes.Family, split: str, patients: int, oracle: bool = False) -> Part:
    addresses = [(p, i) for p in range(min(patients, scenes.PATIENTS[split])) for i in range(scenes.IMAGES)]
    start = time.process_time()
    images = np.stack([family.read(None, at(split, *address), SUPERVISED.pixels) for address in addresses])
    seconds = (time.process_time() - start) / len(images)
    truth = [family.latents(split, p) for p, _ in addresses]
    shown = (family.render(split, *address, SUPERVISED.pixels) for address in addresses)
    scores = [scenes.oracle(family.modality, one) for one in shown] if oracle else []
    return Part(images, _columns(truth), _columns(scores), seconds)


def _columns(rows: list[dict[str, float]]) -> dict[str, np.ndarray]:
    return {name: np.array([row[name] for row in rows]) for name in (rows[0] if rows else ())}


def histogram(image: np.ndarray) -> np.ndarray:
    """16 bins of each channel and their joint 4 x 4 x 4 colours, (112,)."""
    single = [np.bincount(image[..., c].ravel() // 16, minlength=16) for c in range(3)]
    cell = (image // 64).astype(int) @ np.array([16, 4, 1])
    return np.sqrt(np.concatenate([*single, np.bincount(cell.ravel(), minlength=64)]) / image[..., 0].size)


def thumbnail(image: np.ndarray) -> np.ndarray:
    """8 x 8 means of each channel, (192,)."""
    block = image.shape[0] // 8
    return image.reshape(8, block, 8, block, 3).mean(axis=(1, 3)).ravel() / 255.0


def probed(x: dict[str, np.ndarray], parts: dict[str, Part], latent: str) -> float:
    """Test AUROC of the benchmark's linear probe on features (N, D) of each part."""
    train, val = (Features(x[part], parts[part].labels[latent], np.empty(0)) for part in ("train", "val"))
    fitted = linear.fit(train, val, linear.Settings(), classes=2, seed=0)
    return float(roc_auc_score(parts["test"].labels[latent], fitted.predict(x["test"])[:, 1]))


def _prepared(encoder: Encoder, images: np.ndarray) -> Encoder:
    """The encoder with the moments that a corpus of these images would give it."""
    some = images[:: max(1, len(images) // 1000)].reshape(-1, 3)
    encoder.mean.copy_(torch.from_numpy(some.mean(axis=0) / 255))
    encoder.std.copy_(torch.from_numpy(some.std(axis=0) / 255))
    return encoder


def twin(parts: dict[str, Part], seed: int) -> dict[str, np.ndarray]:
    """Mean patch tokens (N, D) of each part, from the encoder that a run of the smallest tracks starts from."""
    encoder = _prepared(Encoder(MICRO, seed), parts["train"].images)
    stores = {name: Store("", tuple(map(str, range(len(p.images)))), p.images, ()) for name, p in parts.items()}
    return {name: features.extract(encoder, store)["patches"] for name, store in stores.items()}


class Classifier(nn.Module):
    """A small ViT trained with labels: a convolutional stem (Xiao et al., NeurIPS 2021) makes few images enough."""

    def __init__(self, images: np.ndarray, outputs: int):
        super().__init__()
        self.encoder = _prepared(Encoder(SUPERVISED, seed=0), images)
        width = SUPERVISED.width
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            stem = [
                layer
                for into, out in ((3, width // 4), (width // 4, width // 2), (width // 2, width))
                for layer in (nn.Conv2d(into, out, 3, 2, 1, bias=False), nn.BatchNorm2d(out), nn.ReLU())
            ]
            self.encoder.vit.patch_embed = nn.Sequential(*stem, nn.Conv2d(width, width, 1), Permute([0, 2, 3, 1]))
            self.head = nn.Linear(width, outputs)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) in [0, 1] -> logits (B, outputs)."""
        with torch.autocast(images.device.type, torch.bfloat16):
            tokens = self.encoder(images)
        return self.head(tokens.patches.float().mean(dim=1))


def augmented(images: Tensor, turned: bool, generator: torch.Generator) -> Tensor:
    """Mirrored left to right, if `turned` also top to bottom and along the diagonal, and shifted by a few pixels."""

    def some() -> Tensor:
        return torch.rand(len(images), 1, 1, 1, generator=generator) < 0.5

    images = torch.where(some(), images.flip(-1), images)
    if turned:
        images = torch.where(some(), images.flip(-2), images)
        images = torch.where(some(), images.transpose(-1, -2), images)
    side = images.shape[-1]
    top, left = torch.randint(0, 2 * SHIFT + 1, (2,), generator=generator).tolist()
    return F.pad(images, (SHIFT,) * 4, mode="replicate")[..., top : top + side, left : left + side]


def trained(modality: str, images: np.ndarray, labels: np.ndarray, steps: int) -> Classifier:
    """A classifier of images (N, S, S, 3) by all labels (N, outputs) at once. Nothing is chosen on any data."""
    model, truth = Classifier(images, labels.shape[1]), torch.from_numpy(labels).float()
    generator = torch.Generator().manual_seed(0)
    optimiser = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=DECAY)
    pace = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: min((step + 1) / (WARMUP * steps), (1 + math.cos(math.pi * step / steps)) / 2)
    )
    for _ in range(steps):
        index = torch.randint(len(images), (BATCH,), generator=generator)
        batch = features.evaluation_view(images[index.numpy()], SUPERVISED.pixels, torch.device("cpu"))
        loss = F.binary_cross_entropy_with_logits(model(augmented(batch, modality == "histo", generator)), truth[index])
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        pace.step()
    return model.eval()


@torch.inference_mode()
def logits(model: Classifier, images: np.ndarray) -> np.ndarray:
    """(N, outputs)"""
    chunks = [images[i : i + BATCH] for i in range(0, len(images), BATCH)]
    views = (features.evaluation_view(chunk, SUPERVISED.pixels, torch.device("cpu")) for chunk in chunks)
    return torch.cat([model(view) for view in views]).numpy()


def factorial(modality: str, latents: tuple[str, ...], patients: int, steps: int, twins: int) -> None:
    """Print the rows of tasks that share the calibrated images."""
    family = scenes.family(modality, scenes.DEVELOPMENT)
    parts = {split: rendered(family, split, patients, oracle=split == "test") for split in scenes.PATIENTS}
    print(f"{modality}: {1 / parts['train'].seconds:.0f} images rendered per second of one core")
    simple = {
        f.__name__: {name: np.stack([f(i) for i in part.images]) for name, part in parts.items()}
        for f in (histogram, thumbnail)
    }
    untrained = [twin(parts, seed) for seed in range(twins)]
    train, test = parts["train"], parts["test"]
    labels = np.stack([train.labels[name] for name in scenes.LATENTS], axis=1)
    learned = logits(trained(modality, train.images, labels, steps), test.images)
    scores = {latent: (test.oracle[latent], learned[:, i]) for i, latent in enumerate(scenes.LATENTS)}
    for latent in latents:
        oracle, supervised = (float(roc_auc_score(test.labels[latent], score)) for score in scores[latent])
        untaught = [probed(x, parts, latent) for x in untrained]
        means = {"oracle": oracle, **{name: probed(x, parts, latent) for name, x in simple.items()}}
        means |= {"twin": float(np.mean(untaught)), "supervised": supervised}
        broken = [name for name, (low, high) in BOUNDS.items() if not low <= means[name] <= high]
        cells = "".join(f"{value:>12.3f}" for value in means.values())
        spread = f"{min(untaught):.3f} to {max(untaught):.3f}"
        print(f"{modality + '/' + latent:<24}{cells}   {spread}   {', '.join(broken) or 'within bounds'}", flush=True)


def locality(modality: str, patients: int, steps: int) -> None:
    """Print the rows of the locality tasks: one classifier, trained on images of all levels, judged level by level."""
    families = {level: [scenes.family(modality, seed, Knobs(locality=level)) for seed in SEEDS] for level in LEVELS}
    images, labels = [], []
    for number in range(len(SEEDS)):
        for patient in range(min(patients, scenes.PATIENTS["train"])):
            family = families[1 + patient % len(LEVELS)][number]
            for image in range(scenes.IMAGES):
                images.append(family.read(None, at("train", patient, image), SUPERVISED.pixels))
                labels.append([family.latents("train", patient)[scenes.TEXTURE]])
    model = trained(modality, np.stack(images), np.array(labels), steps)
    reached = []
    for level, seeds in families.items():
        tests = [rendered(family, "test", patients) for family in seeds]
        scores = logits(model, np.concatenate([test.images for test in tests]))[:, 0]
        truth = np.concatenate([test.labels[scenes.TEXTURE] for test in tests])
        reached.append(float(roc_auc_score(truth, scores)))
        print(f"{f'{modality}/locality_{level}':<24}{reached[-1]:>12.3f}", flush=True)
    apart = max(reached) - min(reached)
    print(f"{modality}: the levels are {apart:.3f} apart, {'within' if apart <= MATCHED else 'OVER'} {MATCHED}")


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
    for one in (modality,) if modality else scenes.MODALITIES:
        if latents:
            print(f"{'task':<24}{''.join(f'{name:>12}' for name in BOUNDS)}   twins, lowest to highest")
            factorial(one, latents, patients, steps, twins)
        if task in ("", LOCALITY):
            print(f"{'task':<24}{'supervised':>12}")
            locality(one, patients, steps)


if __name__ == "__main__":
    host.use_utf8()
    typer.run(main)
