"""Trains the models that `ceilings` lists, and stores what they say of the test images of each of their tasks.

The loss is the mean over heads of the cross-entropy over the images that have a label there. Ten times in a training
the headline metric is taken on validation groups, its mean over heads judged, and the weights of the best moment kept.
Test images are looked at once, at the end, with those; no test label is looked at but by the metrics that are stored.
"""

import copy
import json
import math
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import mean
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from benchmark import metrics
from benchmark.ceilings import Ceiling, Family, Settings, image
from benchmark.device import arithmetic, machine
from benchmark.encoders.encoder import Encoder
from benchmark.parts import augment
from benchmark.parts.draws import Draws
from benchmark.parts.nets import initialise
from benchmark.parts.subset import subset
from benchmark.pretexts._base import Pretext, Step
from benchmark.probes._base import Trial
from benchmark.probing import features
from benchmark.probing.fitting import Fitting, observed, refuse_broken
from benchmark.recipe import Runtime, canonical
from benchmark.storage import checkpoint, results
from benchmark.training import optimise, stopping
from benchmark.training.data import Batches, Images
from tasks.base import Folds
from tasks.splits import Assignment
from tasks.store import Store


class Pool(NamedTuple):
    """The images of a family, each once, whichever of its tasks list it."""

    images: Images
    labels: np.ndarray  # (N, heads) int64; -1 where an image is not among the samples of a head's task
    place: list[np.ndarray]  # of each head: where the samples of its task are

    def part(self, chosen: list[np.ndarray]) -> tuple[Images, np.ndarray]:
        """The images among the chosen samples of each head, and their labels (M, heads) in those heads alone."""
        labels = np.full_like(self.labels, -1)
        for head, some in enumerate(chosen):
            where = self.place[head][some]
            labels[where, head] = self.labels[where, head]
        kept = np.flatnonzero((labels >= 0).any(axis=1))
        return self.at(kept), labels[kept]

    def at(self, index: np.ndarray) -> Images:
        return self.images._replace(ids=self.images.names(index), rows=self.images.rows[index])


def pool_images(family: Family, stores: list[Store]) -> Pool:
    """stores: of each task."""
    names = sorted({image(sample) for found in family.tasks for sample in found.samples})
    at = {name: i for i, name in enumerate(names)}
    place = [np.array([at[image(sample)] for sample in found.samples]) for found in family.tasks]
    labels, rows = np.full((len(names), len(stores)), -1), np.zeros((len(names), 2), dtype=np.int64)
    for head, (found, built) in enumerate(zip(family.tasks, stores, strict=True)):
        row = {name: i for i, name in enumerate(built.ids)}
        labels[place[head], head] = [sample.label for sample in found.samples]
        rows[place[head]] = [(head, row[sample.id]) for sample in found.samples]
    return Pool(Images(names, [built.pixels for built in stores], rows, ()), labels, place)


class Model(Pretext):
    """An encoder and a linear head for each task on its mean patch token; and both as they were at their best."""

    def __init__(self, settings: Settings, encoder: Encoder, modality: str, classes: list[int], seed: int):
        super().__init__(settings, encoder, modality)
        self.heads = nn.ModuleList(nn.Linear(encoder.spec.width, count) for count in classes)
        initialise(self.heads, seed)
        self.kept = copy.deepcopy(nn.ModuleList([self.student, self.heads])).requires_grad_(False)
        self.crops = augment.Crops.of(modality, purpose="labels", pixels=encoder.spec.pixels, scale=settings.crop)

    def draw(self, draws: Draws) -> dict[str, np.ndarray]:
        return self.crops.draw(draws)

    def views(self, images: Tensor, drawn: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"images": self.crops(images, drawn)}

    def forward(self, views: dict[str, Tensor], progress: float) -> Step:
        pooled = self.student(views["images"]).patches.mean(dim=1)
        loss = masked_loss([head(pooled).float() for head in self.heads], views["labels"])
        return Step(loss, {"loss": loss.detach()}, pooled.detach())

    def keep(self) -> None:
        """This is the best so far."""
        self.kept.load_state_dict(nn.ModuleList([self.student, self.heads]).state_dict())


def masked_loss(logits: list[Tensor], labels: Tensor) -> Tensor:
    """Mean over heads of the mean cross-entropy over the images that have a label there.

    logits: of each head (B, classes); labels (B, heads), -1: none. A head without a label in the batch adds 0."""
    sums = [
        F.cross_entropy(said, true, ignore_index=-1, reduction="sum")
        for said, true in zip(logits, labels.unbind(dim=1), strict=True)
    ]
    return (torch.stack(sums) / (labels >= 0).sum(dim=0).clamp(min=1)).mean()


@torch.inference_mode()
def predict(encoder: Encoder, heads: nn.ModuleList, images: Images) -> list[np.ndarray]:
    """What each head says of whole images, as encoders are probed on them: probabilities (N, classes) float64."""
    device, said = next(encoder.parameters()).device, []
    for start in range(0, images.total, features.BATCH):
        stored = images.take(np.arange(start, min(start + features.BATCH, images.total)))
        pooled = encoder(features.evaluation_view(stored, encoder.spec.pixels, device)).patches.mean(dim=1)
        said.append([head(pooled).double().softmax(dim=1).cpu() for head in heads])
    return [torch.cat(parts).numpy() for parts in zip(*said, strict=True)]


class Look(NamedTuple):
    """At the validation groups."""

    share: float  # of the training that is done
    scores: list[float]  # headline metric of each head


def find_best(looks: list[Look]) -> int:
    """The earliest of the highest."""
    return max(range(len(looks)), key=lambda i: (_mean_score(looks[i]), -i))


def _mean_score(look: Look) -> float:
    """Mean over the heads whose metric is defined there."""
    return float(np.nanmean(look.scores))


class Taught(NamedTuple):
    model: Model
    looks: list[Look]
    seconds: float


def train(
    ceiling: Ceiling, gathered: Pool, division: tuple[Assignment, ...], folder: Path, runtime: Runtime, label: str
) -> Taught:
    """One model of a ceiling, from its last checkpoint in the folder if there is one.

    Raises ValueError for a loss that is not finite, and what `stopping` raises, after a checkpoint."""
    recipe, family, total = ceiling.recipe, ceiling.family, ceiling.steps
    device = arithmetic.prepare(runtime.threads)
    images, labels = gathered.part([divided.train for divided in division])
    watched, truth = gathered.part(
        [subset([s.group for s in found.samples], d.val) for found, d in zip(family.tasks, division, strict=True)]
    )
    settings, classes = recipe.settings, [len(found.task.classes) for found in family.tasks]
    untrained = optimise.build_encoder(recipe, images)
    model = Model(settings, untrained, recipe.modality, classes, recipe.seed + 10_000).to(device)
    optimiser = optimise.build_optimiser(model)
    start, seconds, looks = 0, 0.0, []
    if found := checkpoint.load(folder, model, optimiser):
        start, seconds = found[1]["step"], found[1]["seconds"]
        looks = [Look(*look) for look in found[1]["looks"]]
    batches, known = Batches(images, recipe, model.draw, device), torch.from_numpy(labels).to(device)
    due = {math.ceil(total * look / settings.looks) for look in range(1, settings.looks + 1)}
    began = saved = time.perf_counter()
    bar = tqdm(
        total=total * settings.batch,
        initial=start * settings.batch,
        desc=label,
        unit="img",
        unit_scale=True,
        dynamic_ncols=True,
    )
    model.train()
    with stopping.postpone() as asked_to_stop, bar:
        for step in range(start, total):
            done = step + 1
            optimise.set_schedules(optimiser, model, (step + 0.5) / total)
            pixels, drawn, _ = batches(step)
            views = model.views(pixels, drawn)
            views["labels"] = known.index_select(0, torch.from_numpy(batches.slice(step)[0]).to(device))
            with torch.autocast(device.type, torch.bfloat16, enabled=recipe.precision == "bf16"):
                loss = model(views, done / total).loss
            loss.backward()
            optimise.clip(model)
            optimiser.step()
            optimiser.zero_grad()
            bar.update(settings.batch)
            if done in due:
                if not math.isfinite(loss.item()):
                    raise ValueError(
                        f"{label}: the loss is {loss.item()} at step {done}; CEILINGS=0 leaves ceilings out"
                    )
                looks.append(Look(done / total, scores(model, family, watched, truth)))
                if find_best(looks) == len(looks) - 1:
                    model.keep()
            now = time.perf_counter()
            if done == total or asked_to_stop() is not None or now - saved > runtime.checkpoint_seconds:
                state = {"seconds": seconds + now - began, "looks": looks}
                checkpoint.save(folder, done, model, optimiser, state)
                saved = now
            if asked_to_stop() is not None:
                break
    return Taught(model, looks, seconds + time.perf_counter() - began)


def scores(model: Model, family: Family, images: Images, labels: np.ndarray) -> list[float]:
    """The headline metric of each head on images with labels (N, heads), -1: none."""
    said = predict(model.student, model.heads, images)
    pairs = zip(family.tasks, said, labels.T, strict=True)
    return [metrics.score(found.task.metric, true[true >= 0], one[true >= 0]) for found, one, true in pairs]


def measure(ceiling: Ceiling, stores: list[Store], runtime: Runtime, say: Callable[[str], None]) -> None:
    """Train the models of a ceiling and store the test predictions and metrics of each of its tasks. stores: of each.

    Tasks by folds get a model for each fold of the first repeat. Raises DataError for answers that are not finite."""
    family, recipe = ceiling.family, ceiling.recipe
    gathered, divisions = pool_images(family, stores), family.divisions
    label = f"{recipe.modality} ceiling seed {recipe.seed}"
    several = f" each of {len(divisions)} folds" if len(divisions) > 1 else ""
    say(
        f"{label}: {', '.join(family.heads)}: {family.labelled[0]:,} labelled images, {recipe.budget:.2g} FLOPs"
        f"{several}, {ceiling.steps:,} steps"
    )
    checkpoints = runtime.cache / "checkpoints" / ceiling.name
    taught, fitted = [], []
    for number, division in enumerate(divisions):
        taught.append(train(ceiling, gathered, division, checkpoints / f"{number}", runtime, label))
        fitted.append(examine(taught[-1], family, gathered, division))
    chosen = [one.looks[find_best(one.looks)] for one in taught]
    value, share = mean(_mean_score(look) for look in chosen), mean(look.share for look in chosen)
    say(f"{label}: {value:.3f} on validation groups, mean of the heads, at {share:.0%} of training")
    shutil.rmtree(checkpoints, ignore_errors=True)
    common = columns(ceiling) | {"chosen": share, "seconds": sum(one.seconds for one in taught)}
    for found, own in zip(family.tasks, zip(*fitted, strict=True), strict=True):
        task, this = found.task, ceiling.cell(found)
        if isinstance(task.protocol, Folds):
            task = replace(task, protocol=replace(task.protocol, repeats=1))
        tables, about, scored = observed(this, "patches", task, found.samples, list(own), task.metric)
        folder = results.ceiling_directory(runtime.results, recipe.modality, this)
        results.write(folder, tables, [{**about, **common, **metric} for metric in scored], sealed="ceilings")


def examine(taught: Taught, family: Family, gathered: Pool, division: tuple[Assignment, ...]) -> list[Fitting]:
    """What a model says of the test images of each task, and what it reached on validation groups on its way."""
    tested = [place[divided.test] for place, divided in zip(gathered.place, division, strict=True)]
    every = np.unique(np.concatenate(tested))
    answered = predict(*taught.model.kept, gathered.at(every))
    chosen, made = find_best(taught.looks), []
    for head, (found, divided) in enumerate(zip(family.tasks, division, strict=True)):
        said = answered[head][np.searchsorted(every, tested[head])]
        refuse_broken(said, [found.samples[i] for i in divided.test], f"{found.task.name}: what the ceiling says")
        grid = [
            Trial({"share": look.share}, found.task.metric, look.scores[head], i == chosen)
            for i, look in enumerate(taught.looks)
        ]
        made.append(Fitting(divided, grid, said, divided.test))
    return made


def columns(ceiling: Ceiling) -> dict[str, object]:
    """What the table `ceilings` says of a ceiling, whatever the task and however it was trained."""
    recipe, (labels, groups), (commit, dirty) = ceiling.recipe, ceiling.family.labelled, machine.commit()
    images = ceiling.steps * recipe.settings.batch
    return {
        "family": ceiling.family.images,
        "heads": json.dumps(ceiling.family.heads),
        "track": recipe.track,
        "encoder": canonical(recipe.encoder),
        "pixels": recipe.stored_pixels,
        "policy": recipe.policy,
        "seed": recipe.seed,
        "budget_flops": recipe.budget,
        "realised_flops": images * ceiling.image_flops,
        "steps": ceiling.steps,
        "images_seen": images,
        "labels": labels,
        "label_groups": groups,
        "engine": recipe.engine,
        "version": recipe.pretext_version,
        "device": machine.device_name(),
        "threads": torch.get_num_threads(),
        "commit": commit,
        "dirty": dirty,
        "versions": machine.versions(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
