"""Locality of a task's signal, measured: `python -m benchmark.lab.locality`. Stored before pretext results are read.

A small supervised network reads windows of an image and averages their logits (a bag of patches, as BagNet: Brendel and
Bethge, ICLR 2019). Once its windows have an eighth of the side, so that nothing larger can be seen; once the window is
the whole image. Number and shapes of the weights, the training and the images are the same; images are moved by up to
half a small window each time, so that small windows begin at any pixel and the whole image is no more often seen the
same. Locality is the chance-corrected AUROC of the first over that of the second: about 1 where windows decide, few or
many, 0 where only their arrangement does. It is omitted where the second is under 0.70, as there is then nothing to
divide by.

Phantoms of one image family are learnt together, a head each, on their training part, and judged on their test part:
whether two structures agree is found late from that label alone, and at once where their levels are asked too. A real
task is judged by grouped five-fold cross-validation over its images (at most 4,000, whole groups), AUROC averaged over
folds. The interval is of 2,000 bootstrap draws of groups and does not hold the chance of another training.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
import typer
from sklearn.model_selection import StratifiedGroupKFold
from torch import Tensor, nn

import tasks
from benchmark.metrics import fold_resampled, fold_score
from benchmark.storage import results, schema
from tasks import host, store
from tasks.base import DataError, Sample, Task, digest, identity
from tasks.duplicates import scan_grouped

VERSION = 3
PIXELS, SHARE = 64, 8  # side of the images; the small field is a SHARE-th of it
WIDTH, HEADS, BLOCKS = 64, 2, 2
FOLDS, IMAGES, DRAWS = 5, 4000, 2000
TOGETHER = 3600  # steps of several heads
STEPS, BATCH, RATE, DECAY, WARMUP = 600, 64, 1.5e-3, 0.05, 0.1
LEAST = 0.70  # AUROC of the full field
FIELDS = (PIXELS // SHARE, PIXELS)
MARGIN = PIXELS // SHARE // 2  # by which images are moved at most


class Bag(nn.Module):
    """Logits of windows of `field` pixels, averaged over those that tile the image."""

    def __init__(self, field: int, outputs: int, seed: int):
        super().__init__()
        self.field = field
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            layers = []
            for into, out in ((3, WIDTH // 4), (WIDTH // 4, WIDTH // 2), (WIDTH // 2, WIDTH)):
                layers += [nn.Conv2d(into, out, 3, 2, 1, bias=False), nn.BatchNorm2d(out), nn.ReLU()]
            self.stem = nn.Sequential(*layers)
            block = nn.TransformerEncoderLayer(
                WIDTH, HEADS, 4 * WIDTH, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
            )
            self.blocks = nn.TransformerEncoder(block, BLOCKS, enable_nested_tensor=False)
            self.places = nn.Parameter(0.02 * torch.randn(PIXELS // SHARE, PIXELS // SHARE, WIDTH))
            self.head = nn.Linear(WIDTH, outputs)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, S, S), standardised -> logits (B, outputs). A token stands for 8 x 8 pixels of its window."""
        batch, field = len(images), self.field
        windows = images.unfold(2, field, field).unfold(3, field, field)  # (B, 3, n, n, f, f)
        windows = windows.permute(0, 2, 3, 1, 4, 5).reshape(-1, 3, field, field)
        tokens = self.stem(windows).permute(0, 2, 3, 1)  # (B n n, f / 8, f / 8, WIDTH)
        tokens = (tokens + self.places[: tokens.shape[1], : tokens.shape[2]]).flatten(1, 2)
        return self.head(self.blocks(tokens).mean(dim=1)).reshape(batch, -1, self.head.out_features).mean(dim=1)


class Measured(NamedTuple):
    """What is stored of a task."""

    value: float | None
    low: float | None
    high: float | None
    local: float
    full: float
    groups: int
    samples: int


class Part(NamedTuple):
    """Images of a family and the answers that its tasks have to them."""

    images: np.ndarray  # uint8 (N, 64, 64, 3)
    labels: np.ndarray  # (N, tasks); -1 where an image is not in a task
    groups: np.ndarray  # (N,)


def measure(images: np.ndarray, labels: np.ndarray, groups: np.ndarray, classes: int, steps: int = STEPS) -> Measured:
    """Locality of uint8 images (N, 64, 64, 3) with labels (N,) in 0..classes-1 and groups (N,), by cross-validation."""
    fold = np.zeros(len(labels), dtype=int)
    divided = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=0)
    scores = {field: np.zeros((len(labels), classes)) for field in FIELDS}
    for number, (train, test) in enumerate(divided.split(labels, labels, groups)):
        fold[test] = number
        part = Part(images[train], labels[train, None], groups[train])
        for field, found in scores.items():
            (found[test],) = predicted(field, part, images[test], (classes,), steps)
    return _measured(labels, groups, fold, *scores.values())


def measure_together(train: Part, test: Part, classes: tuple[int, ...], steps: int = TOGETHER) -> list[Measured]:
    """Locality of every task of a family, learnt together on one part and judged on another; classes: of each task."""
    answers = [predicted(field, train, test.images, classes, steps) for field in FIELDS]
    found = []
    for task in range(len(classes)):
        rows = np.flatnonzero(test.labels[:, task] >= 0)
        small, whole = (answer[task][rows] for answer in answers)
        found.append(_measured(test.labels[rows, task], test.groups[rows], np.zeros(len(rows), int), small, whole))
    return found


def _measured(labels: np.ndarray, groups: np.ndarray, fold: np.ndarray, *scores: np.ndarray) -> Measured:
    """scores: (N, classes) with the small field and with the full one."""
    repeat, codes = np.zeros(len(labels), dtype=int), np.unique(groups, return_inverse=True)[1]
    weights = _weights(labels, codes)
    small, whole = (fold_score("auroc", labels, one, repeat, fold) for one in scores)
    drawn = [fold_resampled("auroc", labels, one, codes, repeat, fold, weights)[0] for one in scores]
    value = low = high = None
    if whole >= LEAST:
        value = (small - 0.5) / (whole - 0.5)
        ratios = (drawn[0] - 0.5) / (drawn[1] - 0.5)
        low, high = np.nanquantile(ratios, [0.025, 0.975]).tolist()
    return Measured(value, low, high, small, whole, len(np.unique(groups)), len(labels))


def _weights(labels: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Bootstrap counts (DRAWS, G) of groups 0..G-1, within strata of their lowest label."""
    stratum = np.full(groups.max() + 1, labels.max())
    np.minimum.at(stratum, groups, labels)
    rng, weights = np.random.default_rng(0), np.zeros((DRAWS, len(stratum)))
    for label in np.unique(stratum):
        members = np.flatnonzero(stratum == label)
        weights[:, members] = rng.multinomial(len(members), np.full(len(members), 1 / len(members)), size=DRAWS)
    return weights


def predicted(field: int, part: Part, test: np.ndarray, classes: tuple[int, ...], steps: int) -> list[np.ndarray]:
    """Logits (test images, classes) for each task of a bag of that field, trained on a part. Nothing is chosen on any
    data."""
    model, truth = Bag(field, sum(classes), seed=0), torch.from_numpy(part.labels)
    images = part.images
    mean, std = images.mean((0, 1, 2)) / 255, images.std((0, 1, 2)) / 255 + 1e-6
    generator = torch.Generator().manual_seed(0)
    optimiser = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=DECAY)
    pace = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: min((step + 1) / (WARMUP * steps), (1 + math.cos(math.pi * step / steps)) / 2)
    )

    def standardised(some: np.ndarray) -> Tensor:
        return torch.from_numpy(((some / 255 - mean) / std).astype(np.float32)).permute(0, 3, 1, 2)

    for _ in range(steps):
        index = torch.randint(len(images), (BATCH,), generator=generator)
        batch = standardised(images[index.numpy()])
        batch = batch.flip(-1) if torch.rand(1, generator=generator) < 0.5 else batch
        batch = moved(batch, *torch.randint(0, PIXELS // SHARE, (2,), generator=generator).tolist())
        answers, asked = model(batch).split(classes, dim=1), truth[index]
        loss = sum(
            F.cross_entropy(answer[asked[:, task] >= 0], asked[asked[:, task] >= 0, task])
            for task, answer in enumerate(answers)
            if (asked[:, task] >= 0).any()
        )
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        pace.step()
    model.eval()
    with torch.inference_mode():
        chunks = [standardised(test[i : i + 256]) for i in range(0, len(test), 256)]
        answers = torch.cat([sum(model(moved(chunk, at, at)) for at in (0, MARGIN)) for chunk in chunks])
    return [answer.numpy() for answer in answers.split(classes, dim=1)]


def moved(images: Tensor, down: int, right: int) -> Tensor:
    """Images (B, 3, S, S) from that row and column on of themselves in a mirrored margin; at MARGIN as they are."""
    whole = F.pad(images, (MARGIN,) * 4, mode="reflect")
    return whole[..., down : down + images.shape[-2], right : right + images.shape[-1]]


def some(samples: list[Sample]) -> list[Sample]:
    """Whole groups of labelled images, at most 4,000 images, in an order drawn once."""
    by_group: dict[str, list[Sample]] = {}
    for sample in sorted(samples):
        if sample.label >= 0:
            by_group.setdefault(sample.group, []).append(sample)
    names = sorted(by_group)
    kept: list[Sample] = []
    for place in np.random.default_rng(0).permutation(len(names)):
        group = by_group[names[place]]
        kept += group if len(kept) + len(group) <= IMAGES else []
    return kept


def directory(root: Path, task: Task, data: str) -> Path:
    return root / task.modality / "locality" / digest("locality", VERSION, task.modality, task.name, data)[:12]


def store_task(task: Task, data: Path, cache: Path, root: Path, steps: int = STEPS) -> Measured | None:
    """Measure a task alone and store its row; None where it is stored already. Raises DataError, NoData among them."""
    samples = scan_grouped(task, data, cache)
    if directory(root, task, identity(task, samples)).exists():
        return None
    chosen = some(samples)
    images = _pixels(task, data, samples, cache)
    found = measure(
        np.stack([images[sample.id] for sample in chosen]),
        np.array([sample.label for sample in chosen]),
        np.array([sample.group for sample in chosen]),
        len(task.classes),
        steps,
    )
    _store(task, samples, found, root)
    return found


def store_family(family: list[Task], data: Path, cache: Path, root: Path, steps: int = TOGETHER) -> dict[str, Measured]:
    """Measure tasks of one image family together and store a row for each, of those that are not stored already."""
    samples = {task.name: scan_grouped(task, data, cache) for task in family}
    lacking = [task for task in family if not directory(root, task, identity(task, samples[task.name])).exists()]
    if not lacking:
        return {}
    pixels: dict[str, np.ndarray] = {}  # digest of an image -> its pixels
    answers: dict[str, dict[str, Sample]] = {"train": {}, "test": {}}  # split -> digest -> one of its samples
    labels: dict[str, dict[str, int]] = {task.name: {} for task in family}  # task -> digest -> label
    for task in family:
        images = _pixels(task, data, samples[task.name], cache)
        for sample in samples[task.name]:
            if sample.split in answers:
                pixels[sample.digest] = images[sample.id]
                answers[sample.split][sample.digest] = sample
                labels[task.name][sample.digest] = sample.label
    parts = {
        split: Part(
            np.stack([pixels[sha] for sha in sorted(seen)]),
            np.array([[labels[task.name].get(sha, -1) for task in family] for sha in sorted(seen)]),
            np.array([seen[sha].group for sha in sorted(seen)]),
        )
        for split, seen in answers.items()
    }
    measured = measure_together(parts["train"], parts["test"], tuple(len(task.classes) for task in family), steps)
    found = {task.name: one for task, one in zip(family, measured, strict=True) if task in lacking}
    for task in lacking:
        _store(task, samples[task.name], found[task.name], root)
    return found


def _pixels(task: Task, data: Path, samples: list[Sample], cache: Path) -> dict[str, np.ndarray]:
    built = store.build(task, data, samples, PIXELS, cache / "stores")
    return dict(zip(built.ids, built.pixels, strict=True))


def _store(task: Task, samples: list[Sample], found: Measured, root: Path) -> None:
    about = {
        "modality": task.modality,
        "task": task.name,
        "task_version": task.version,
        "data": identity(task, samples),
        "version": VERSION,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    folder = directory(root, task, about["data"])
    results.write(folder, {"locality": schema.table("locality", [about | found._asdict()])})


def main(
    modality: Annotated[str, typer.Option(help="Only this modality.")] = "",
    task: Annotated[str, typer.Option(help="Only this task, and those that are measured with it; empty: all.")] = "",
    data: Annotated[Path, typer.Option(parser=host.path, help="Folder of the datasets.")] = Path("data"),
    cache: Annotated[Path, typer.Option(parser=host.path, help="Folder of decoded images.")] = Path(".cache"),
    root: Annotated[Path, typer.Option("--results", parser=host.path, help="Folder of finished work.")] = Path(
        "results/local"
    ),
) -> None:
    """Measure and store the locality of every task: of real ones whose data are here, and of all phantoms."""
    for one in (modality,) if modality else tasks.modalities():
        known = [tasks.get(one, name) for name in tasks.names(one)]
        asked = [tasks.get(one, task)] if task else [card for card in known if card.synthetic or not card.on_request]
        done: set[str] = set()
        for card in asked:
            if card.name in done:
                continue
            try:
                if card.synthetic:
                    family = [other for other in known if other.images == card.images]
                    found = store_family(family, data, cache, root)
                else:
                    family = [card]
                    alone = store_task(card, data, cache, root)
                    found = {} if alone is None else {card.name: alone}
            except DataError as error:
                typer.echo(f"{one}/{card.name}: {error}")
                continue
            done |= {other.name for other in family}
            for other in family:
                told = said(found[other.name]) if other.name in found else "stored already"
                typer.echo(f"{one}/{other.name}: {told}")


def said(found: Measured) -> str:
    reached = f"AUROC {found.local:.3f} with an eighth of the side, {found.full:.3f} with all of it"
    if found.value is None:
        return f"omitted: {reached}, under {LEAST}"
    return f"{found.value:.2f} [{found.low:.2f}, {found.high:.2f}]: {reached}; {found.groups} groups"


if __name__ == "__main__":
    host.use_utf8()
    typer.run(main)
