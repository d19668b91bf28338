"""Calibration of the phantoms: `python -m benchmark.lab.calibrate`. Looks at development seeds, never at the reported.

A task of the phantoms should be solvable by whoever knows where to look (oracle), learnable from labels (supervised),
out of reach of low-order statistics (histogram, thumbnail), and neither hopeless nor solved for the encoder that
pretraining starts from (twin). The levels of locality should differ in nothing but locality, so a supervised model must
tell their classes equally well; so should the distances of the relation, the farthest of which nothing that reads
windows or low-order statistics may tell. Prints the AUROC of each on test patients, and what is out of bounds.
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
from benchmark.encoders.encoder import Encoder
from benchmark.lab import locality
from benchmark.probes import linear
from benchmark.probes._base import Features
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
STEPS, BATCH, RATE, DECAY, WARMUP, SHIFT = 900, 64, 1.5e-3, 0.05, 0.1, 3
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


def at(family: scenes.Family, split: str, patient: int, image: int) -> Sample:
    """What `Family.read` needs to know of an image."""
    return Sample(family.address(split, patient, image), 0, "", "")


def rendered(family: scenes.Family, split: str, patients: int, oracle: bool = False) -> Part:
    addresses = [(p, i) for p in range(min(patients, scenes.PATIENTS[split])) for i in range(family.each)]
    start = time.process_time()
    images = np.stack([family.read(None, at(family, split, *address), SUPERVISED.pixels) for address in addresses])
    seconds = (time.process_time() - start) / len(images)
    truth = [family.latents(split, p) for p, _ in addresses]
    shown = (family.render(split, *address, SUPERVISED.pixels) for address in addresses)
    scores = [scenes.oracle(family, one) for one in shown] if oracle else []
    return Part(images, _columns(truth), _columns(scores), seconds)


def _columns(rows: list[dict[str, float]]) -> dict[str, np.ndarray]:
    return {name: np.array([row[name] for row in rows]) for name in (rows[0] if rows else ())}


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


def twin(parts: dict[str, Part], seed: int, deviation: bool = False) -> dict[str, np.ndarray]:
    """Mean patch tokens (N, D) of each part, from the encoder that a run of the smallest tracks starts from; with their
    deviation over patches (N, 2 D), if asked for."""
    encoder = _prepared(Encoder(MICRO, seed), parts["train"].images)
    found = {}
    for name, part in parts.items():
        store = Store("", tuple(map(str, range(len(part.images)))), part.images, ())
        if deviation:
            tokens = features.extract(encoder, store, tokens=True)["tokens"].astype(np.float32)
            found[name] = np.concatenate([tokens.mean(axis=1), tokens.std(axis=1)], axis=1)
        else:
            found[name] = features.extract(encoder, store)["patches"]
    return found


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


def described(parts: dict[str, Part]) -> dict[str, dict[str, np.ndarray]]:
    """What the baselines describe images by -> features of each part."""
    return {
        f.__name__: {name: np.stack([f(image) for image in part.images]) for name, part in parts.items()}
        for f in (baselines.histogram, baselines.thumbnail)
    }


def factorial(modality: str, latents: tuple[str, ...], patients: int, steps: int, twins: int) -> None:
    """Print the rows of tasks that share the calibrated images."""
    family = scenes.family(modality, scenes.DEVELOPMENT)
    parts = {split: rendered(family, split, patients, oracle=split == "test") for split in scenes.PATIENTS}
    print(f"{modality}: {1 / parts['train'].seconds:.0f} images rendered per second of one core")
    simple = described(parts)
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


def texture(modality: str, patients: int, steps: int) -> None:
    """Print the rows of the locality tasks: one classifier, trained on images of all levels, judged level by level."""
    families = {level: [scenes.family(modality, seed, Knobs(locality=level)) for seed in SEEDS] for level in LEVELS}
    images, labels = [], []
    for number in range(len(SEEDS)):
        for patient in range(min(patients, scenes.PATIENTS["train"])):
            family = families[1 + patient % len(LEVELS)][number]
            for image in range(family.each):
                images.append(family.read(None, at(family, "train", patient, image), SUPERVISED.pixels))
                labels.append([family.latents("train", patient)[scenes.TEXTURE]])
    model = trained(modality, np.stack(images), np.array(labels), steps)
    reached = []
    for level, seeds in families.items():
        tests = [rendered(family, "test", patients) for family in seeds]
        scores = logits(model, np.concatenate([test.images for test in tests]))[:, 0]
        truth = np.concatenate([test.labels[scenes.TEXTURE] for test in tests])
        reached.append(float(roc_auc_score(truth, scores)))
        print(f"{f'{modality}/locality_{level}':<24}{reached[-1]:>12.3f}", flush=True)
    _told_apart(modality, "levels", reached)


def relation(modality: str, patients: int, steps: int, twins: int) -> None:
    """Print a row for each distance: one classifier and one bag of windows, trained on all of them with both levels as
    further heads, judged distance by distance."""
    parts = {}
    for distance in APART:
        family = scenes.family(modality, scenes.DEVELOPMENT, Knobs(relation=distance))
        parts[distance] = {split: rendered(family, split, patients, split == "test") for split in scenes.PATIENTS}
    train = np.concatenate([part["train"].images for part in parts.values()])
    test = np.concatenate([part["test"].images for part in parts.values()])
    labels = np.concatenate(
        [np.stack([part["train"].labels[name] for name in scenes.PAIR], axis=1) for part in parts.values()]
    )
    learned = np.split(logits(trained(modality, train, labels, steps), test), len(parts))
    bag = locality.Part(train, labels, np.arange(len(train)))
    windows, _, _ = locality.predicted(locality.FIELDS[0], bag, test, (2, 2, 2), 2 * steps)
    reached = []
    for (distance, here), one, seen in zip(parts.items(), learned, np.split(windows, len(parts)), strict=True):
        truth = here["test"].labels["relation"]
        untaught = [probed(twin(here, seed), here, "relation") for seed in range(twins)]
        reached.append(float(roc_auc_score(truth, one[:, 0])))
        means = {"oracle": float(roc_auc_score(truth, here["test"].oracle["relation"]))}
        means |= {name: probed(x, here, "relation") for name, x in described(here).items()}
        means["deviation"] = probed(twin(here, 0, deviation=True), here, "relation")
        means |= {"twin": float(np.mean(untaught)), "windows": float(roc_auc_score(truth, seen[:, 1] - seen[:, 0]))}
        means["supervised"] = reached[-1]
        bounds = FAR if distance == "far" else {"oracle": FAR["oracle"], "supervised": FAR["supervised"]}
        broken = [name for name, (low, high) in bounds.items() if not low <= means[name] <= high]
        cells = "".join(f"{value:>12.3f}" for value in means.values())
        print(f"{f'{modality}/relation_{distance}':<24}{cells}   {', '.join(broken) or 'within bounds'}", flush=True)
    _told_apart(modality, "distances", reached)


def _told_apart(modality: str, what: str, reached: list[float]) -> None:
    apart = max(reached) - min(reached)
    print(f"{modality}: the {what} are {apart:.3f} apart, {'within' if apart <= MATCHED else 'OVER'} {MATCHED}")


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
        if task in ("", TEXTURE):
            print(f"{'task':<24}{'supervised':>12}")
            texture(one, patients, steps)
        if task in ("", RELATION):
            print(f"{'task':<24}{''.join(f'{name:>12}' for name in FAR)}")
            relation(one, patients, steps, twins)


if __name__ == "__main__":
    host.use_utf8()
    typer.run(main)
