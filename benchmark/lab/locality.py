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
from benchmark.lab import classifier
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
STEPS = 600
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
            self.stem = nn.Sequential(*classifier.make_stem(WIDTH))
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
            (found[test],) = train_and_predict(field, part, images[test], (classes,), steps)
    return _summarise(labels, groups, fold, *scores.values())


def measure_together(train: Part, test: Part, classes: tuple[int, ...], steps: int = TOGETHER) -> list[Measured]:
    """Locality of every task of a family, learnt together on one part and judged on another; classes: of each task."""
    answers = [train_and_predict(field, train, test.images, classes, steps) for field in FIELDS]
    found = []
    for task in range(len(classes)):
        rows = np.flatnonzero(test.labels[:, task] >= 0)
        small, whole = (answer[task][rows] for answer in answers)
        found.append(_summarise(test.labels[rows, task], test.groups[rows], np.zeros(len(rows), int), small, whole))
    return found


def _summarise(labels: np.ndarray, groups: np.ndarray, fold: np.ndarray, *scores: np.ndarray) -> Measured:
    """scores: (N, classes) with the small field and with the full one."""
    repeat, codes = np.zeros(len(labels), dtype=int), np.unique(groups, return_inverse=True)[1]
    weights = _draw_weights(labels, codes)
    small, whole = (fold_score("auroc", labels, one, repeat, fold) for one in scores)
    drawn = [fold_resampled("auroc", labels, one, codes, repeat, fold, weights)[0] for one in scores]
    value = low = high = None
    if whole >= LEAST:
        value = (small - 0.5) / (whole - 0.5)
        ratios = (drawn[0] - 0.5) / (drawn[1] - 0.5)
        low, high = np.nanquantile(ratios, [0.025, 0.975]).tolist()
    return Measured(value, low, high, small, whole, len(np.unique(groups)), len(labels))


def _draw_weights(labels: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Bootstrap counts (DRAWS, G) of groups 0..G-1, within strata of their lowest label."""
    stratum = np.full(groups.max() + 1, labels.max())
    np.minimum.at(stratum, groups, labels)
    rng, weights = np.random.default_rng(0), np.zeros((DRAWS, len(stratum)))
    for label in np.unique(stratum):
        members = np.flatnonzero(stratum == label)
        weights[:, members] = rng.multinomial(len(members), np.full(len(members), 1 / len(members)), size=DRAWS)
    return weights


def train_and_predict(
    field: int, part: Part, test: np.ndarray, classes: tuple[int, ...], steps: int
) -> list[np.ndarray]:
    """Logits (test images, classes) for each task of a bag of that field, trained on a part."""
    model, truth, images = Bag(field, sum(classes), seed=0), torch.from_numpy(part.labels), part.images
    mean, std = images.mean((0, 1, 2)) / 255, images.std((0, 1, 2)) / 255 + 1e-6

    def standardise(stored: np.ndarray) -> Tensor:
        return torch.from_numpy(((stored / 255 - mean) / std).astype(np.float32)).permute(0, 3, 1, 2)

    def compute_loss(index: Tensor, generator: torch.Generator) -> Tensor:
        batch = standardise(images[index.numpy()])
        batch = batch.flip(-1) if torch.rand(1, generator=generator) < 0.5 else batch
        batch = move(batch, *torch.randint(0, PIXELS // SHARE, (2,), generator=generator).tolist())
        logits, labels = model(batch).split(classes, dim=1), truth[index].unbind(dim=1)
        known = [(own[label >= 0], label[label >= 0]) for own, label in zip(logits, labels, strict=True)]
        return sum(F.cross_entropy(own, label) for own, label in known if len(label))

    classifier.train(model, len(images), steps, compute_loss)
    with torch.inference_mode():
        chunks = [standardise(test[i : i + 256]) for i in range(0, len(test), 256)]
        logits = torch.cat([sum(model(move(chunk, at, at)) for at in (0, MARGIN)) for chunk in chunks])
    return [own.numpy() for own in logits.split(classes, dim=1)]


def move(images: Tensor, down: int, right: int) -> Tensor:
    """Images (B, 3, S, S) from that row and column on of themselves in a mirrored margin; at MARGIN as they are."""
    whole = F.pad(images, (MARGIN,) * 4, mode="reflect")
    return whole[..., down : down + images.shape[-2], right : right + images.shape[-1]]


def choose_groups(samples: list[Sample]) -> list[Sample]:
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


def store_family(family: list[Task], data: Path, cache: Path, root: Path, steps: int = 0) -> dict[str, Measured]:
    """Measure a real task, or the tasks of one image family together, and store a row for each, of those that are not
    stored already. Raises DataError, NoData among them."""
    samples = {task.name: scan_grouped(task, data, cache) for task in family}
    lacking = [task for task in family if not directory(root, task, identity(task, samples[task.name])).exists()]
    if not lacking:
        return {}
    if family[0].synthetic:
        measured = _measure_family(family, samples, data, cache, steps or TOGETHER)
    else:
        (task,) = family
        measured = {task.name: _measure_task(task, samples[task.name], data, cache, steps or STEPS)}
    for task in lacking:
        _store(task, samples[task.name], measured[task.name], root)
    return {task.name: measured[task.name] for task in lacking}


def _measure_task(task: Task, samples: list[Sample], data: Path, cache: Path, steps: int) -> Measured:
    chosen, images = choose_groups(samples), _read_pixels(task, data, samples, cache)
    return measure(
        np.stack([images[sample.id] for sample in chosen]),
        np.array([sample.label for sample in chosen]),
        np.array([sample.group for sample in chosen]),
        len(task.classes),
        steps,
    )


def _measure_family(
    family: list[Task], samples: dict[str, list[Sample]], data: Path, cache: Path, steps: int
) -> dict[str, Measured]:
    pixels: dict[str, np.ndarray] = {}  # digest of an image -> its pixels
    shown: dict[str, dict[str, Sample]] = {"train": {}, "test": {}}  # split -> digest -> one of its samples
    labels: dict[str, dict[str, int]] = {task.name: {} for task in family}  # task -> digest -> label
    for task in family:
        images = _read_pixels(task, data, samples[task.name], cache)
        for sample in samples[task.name]:
            if sample.split in shown:
                pixels[sample.digest] = images[sample.id]
                shown[sample.split][sample.digest] = sample
                labels[task.name][sample.digest] = sample.label
    train, test = (
        Part(
            np.stack([pixels[sha] for sha in sorted(seen)]),
            np.array([[labels[task.name].get(sha, -1) for task in family] for sha in sorted(seen)]),
            np.array([seen[sha].group for sha in sorted(seen)]),
        )
        for seen in shown.values()
    )
    found = measure_together(train, test, tuple(len(task.classes) for task in family), steps)
    return {task.name: one for task, one in zip(family, found, strict=True)}


def _read_pixels(task: Task, data: Path, samples: list[Sample], cache: Path) -> dict[str, np.ndarray]:
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
    for name in (modality,) if modality else tasks.modalities():
        known = [tasks.get(name, other) for other in tasks.names(name)]
        done: set[str] = set()
        for card in (
            [tasks.get(name, task)] if task else [card for card in known if card.synthetic or not card.on_request]
        ):
            if card.name in done:
                continue
            family = [other for other in known if other.images == card.images] if card.synthetic else [card]
            try:
                found = store_family(family, data, cache, root)
            except DataError as error:
                typer.echo(f"{name}/{card.name}: {error}")
                continue
            done |= {other.name for other in family}
            for other in family:
                measured = found.get(other.name)
                typer.echo(f"{name}/{other.name}: {describe(measured) if measured else 'stored already'}")


def describe(found: Measured) -> str:
    reached = f"AUROC {found.local:.3f} with an eighth of the side, {found.full:.3f} with all of it"
    if found.value is None:
        return f"omitted: {reached}, under {LEAST}"
    return f"{found.value:.2f} [{found.low:.2f}, {found.high:.2f}]: {reached}; {found.groups} groups"


if __name__ == "__main__":
    host.use_utf8()
    typer.run(main)
