"""Is it learning, or has it collapsed? Figures for the log points of a run, plain-sentence alarms judged on them, and a
nearest-neighbour probe on validation groups. Nothing here draws a random number or moves a weight."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmark.encoders.encoder import Encoder
from benchmark.parts import flops
from benchmark.probes import knn
from benchmark.probes._base import labelled
from benchmark.probing import features
from benchmark.recipe import Recipe
from tasks import splits
from tasks.base import Sample, Task
from tasks.store import Store

JUDGED = 0.2  # share of training before anything is judged
LATE = 0.5  # share of training given to slow learners before what they learn is judged
HELD = 3  # log points in a row at which something must be so
RANK_POINTS = 15  # log points that a falling rank is judged on
LOOKS = 8  # of the online probe, the first before the first step
LOOK_IMAGES = 512  # per part, at most
LOOK_COST = 0.05  # of the run's training FLOPs, all looks together
ALARM = "alarm: "  # how the name of an alarm's row begins


@torch.no_grad()
def measure_features(pooled: Tensor) -> dict[str, float]:
    """RankMe (Garrido et al. arXiv 2210.02885, eq. 1), per-dimension deviation over images, mean pairwise cosine."""
    x = pooled.float()
    spectrum = torch.linalg.svdvals(x)
    share = spectrum / spectrum.sum().clamp(min=1e-12) + 1e-7
    unit = F.normalize(x, dim=1)
    count = len(x)
    cosine = (unit.sum(0).square().sum() - count) / (count * (count - 1)) if count > 1 else torch.ones(())
    return {
        "rankme": float(torch.exp(-(share * share.log()).sum())),
        "feature deviation": float(x.std(dim=0).mean()) if count > 1 else 0.0,
        "pairwise cosine": float(cosine),
    }


@torch.no_grad()
def measure_weights(model: nn.Module, resting: tuple[str, ...] = ()) -> dict[str, Tensor]:
    """Weight norm of every sub-module but the resting ones, in float64 so that a small step shows, and the distance of
    `teacher` from `student` relative to the student's norm."""
    parts = dict(model.named_children())
    found = {
        f"weight norm {name}": _norm(module.parameters())
        for name, module in parts.items()
        if name not in resting and any(True for _ in module.parameters())
    }
    if {"student", "teacher"} <= set(parts):
        pairs = zip(parts["teacher"].parameters(), parts["student"].parameters(), strict=True)
        found["teacher distance"] = _norm(t - s for t, s in pairs) / _norm(parts["student"].parameters())
    return found


def _norm(values: Iterable[Tensor]) -> Tensor:
    return torch.linalg.vector_norm(torch.stack(torch._foreach_norm(list(values), 2, torch.float64)))


def below_trivial(parts: dict[str, float]) -> dict[str, float]:
    """How far each loss term is below what predicts nothing, as a share of it: "trivial X" is the level of term X."""
    return {
        f"{term} below trivial": 1 - parts[term] / level
        for name, level in parts.items()
        if (term := name.removeprefix("trivial ")) != name and term in parts and level
    }


def find_alarms(curves: list[dict[str, object]], warmup: float = 0.1) -> list[str]:
    """Sentences for a person, with cause and remedy, that the rows of a run so far give rise to; empty while all is
    well. Judged from JUDGED and the end of the warm-up on, and what has been learnt from LATE on."""
    progress = max((row["progress"] for row in curves), default=0.0)
    series: dict[str, list[float]] = {}
    for row in curves:
        if row["progress"] > max(JUDGED, warmup):
            series.setdefault(row["name"], []).append(row["value"])

    def held(name: str, low: float = -np.inf, high: float = np.inf) -> bool:
        last = series.get(name, [])[-HELD:]
        return len(last) == HELD and all(low <= value <= high for value in last)

    found = []
    if held("feature deviation", high=1e-4) or held("pairwise cosine", low=0.9999):
        found.append(
            "all images have the same features: collapse; try a higher teacher momentum or a lower learning rate"
        )
    if held("teacher distance", high=1e-9):
        found.append("the teacher equals the student at every step: it gives no stable target; raise its momentum")
    for name, values in series.items():
        kind, _, part = name.rpartition(" norm ")
        if kind == "gradient" and held(name, high=0.0):
            found.append(f"no gradient reaches {part}: it learns nothing; check that the loss depends on its output")
        elif kind == "weight" and len(values) >= HELD and len(set(values[-HELD:])) == 1:
            remedy = (
                "its momentum should be below 1"
                if part.startswith("teacher")
                else "is it trained, and its learning rate above 0?"
            )
            found.append(f"{part} does not move: its weights stay the same; {remedy}")
        elif name.endswith(" below trivial") and progress >= LATE and held(name, high=0.02):
            term = name.removesuffix(" below trivial")
            found.append(TRIVIAL.get(term, f"{term} is at its trivial level: nothing learnt yet; {LEARN}"))
    if progress < LATE:
        return found
    if held("teacher entropy / ln K", low=0.98):
        found.append("teacher entropy is at ln K: uniform collapse; lower the teacher temperature or the learning rate")
    if held("teacher entropy / ln K", high=0.1):
        found.append("teacher entropy is near 0: one prototype per image; raise the teacher temperature")
    if held("between-image share of target variance", high=0.05):
        found.append(
            "the targets hardly differ between images at the same position: partial collapse, the position alone "
            "predicts them; try a lower learning rate, a higher teacher momentum or stronger crops"
        )
    if is_falling(series.get("rankme", [])):
        found.append(
            "RankMe falls steadily: features collapse into fewer dimensions even if the loss improves; "
            "try a lower learning rate or a higher teacher momentum"
        )
    return found


LEARN = "train longer or raise the learning rate"
TRIVIAL = {
    "dino": "DINO loss is at ln K after warm-up: uniform collapse or no learning yet; try a lower teacher temperature, "
    "fewer prototypes or a longer run",
    "ibot": "iBOT loss is at ln K after warm-up: uniform collapse or no learning yet; try a lower teacher temperature, "
    "fewer prototypes or a longer run",
}


def is_falling(ranks: list[float]) -> bool:
    """Whether a straight line fits the values (correlation with the step under -0.8) and loses 15 % from end to end."""
    if len(ranks) < RANK_POINTS or np.ptp(ranks) == 0:
        return False
    at = np.arange(len(ranks))
    slope, start = np.polyfit(at, ranks, 1)
    return bool(np.corrcoef(at, ranks)[0, 1] < -0.8 and start + slope * at[-1] < 0.85 * start)


class Watch(NamedTuple):
    """A fixed part of labelled tasks that share their images, for a learning curve: training and validation groups,
    never test groups."""

    train: np.ndarray  # uint8 (N, S, S, 3)
    val: np.ndarray  # uint8 (M, S, S, 3)
    labels: dict[str, tuple[int, np.ndarray, np.ndarray]]  # task -> classes, (N,) and (M,)


def watch(found: list[tuple[Task, list[Sample]]], store: Store, recipe: Recipe) -> Watch:
    """Evenly spaced images of both parts of the first task's first division, as many as LOOK_COST pays for. found:
    tasks over the images of the store, with their samples."""
    one = LOOKS * 2 * flops.encode(recipe.encoder)
    (task, samples), row = found[0], {name: i for i, name in enumerate(store.ids)}
    size = max(len(task.classes), min(LOOK_IMAGES, int(LOOK_COST * recipe.budget / one)))
    division = splits.assignments(task, samples)[0]
    chosen = [
        [samples[i].id for i in part[np.unique(np.linspace(0, len(part) - 1, size).astype(int))]]
        for part in (division.train, division.val)
    ]
    labels = {}
    for task, samples in found:
        label = {sample.id: sample.label for sample in samples}
        labels[task.name] = (len(task.classes), *(np.array([label[name] for name in part]) for part in chosen))
    return Watch(*(np.stack([store.pixels[row[name]] for name in part]) for part in chosen), labels)


def look(encoder: Encoder, watch: Watch) -> dict[str, float]:
    """Balanced accuracy on the validation part of 20 nearest neighbours in the training part, by mean patch tokens."""
    training = {module: module.training for module in encoder.modules()}
    encoder.eval()
    train, val = _pooled(encoder, watch.train), _pooled(encoder, watch.val)
    for module, mode in training.items():
        module.training = mode
    seen = {}
    for task, (classes, *labels) in watch.labels.items():
        parts = labelled(*zip((train, val), labels, strict=True))
        seen[f"online kNN {task}"] = knn.fit(*parts, knn.Settings(k=(20,)), classes, seed=0).grid[0].score
    return seen


@torch.no_grad()
def _pooled(encoder: Encoder, images: np.ndarray) -> np.ndarray:
    device = encoder.mean.device
    blocks = [images[i : i + features.BATCH] for i in range(0, len(images), features.BATCH)]
    views = (features.evaluation_view(block, encoder.spec.pixels, device) for block in blocks)
    return np.concatenate([encoder(view).patches.mean(dim=1).float().cpu().numpy() for view in views])
