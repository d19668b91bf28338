"""The maps of a stored run on test images of a task, and their scores.

The images are those whose ids come first in an order drawn from the ids alone, one for each group, classes in turn, so
they are the same for every run; where the task knows where the lesion is, only images with one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from benchmark import registry
from benchmark.encoders import encoder, weights
from benchmark.encoders.encoder import Encoder
from benchmark.maps import patch_maps
from benchmark.parts import corruptions, draws
from benchmark.pretexts._base import Pretext
from benchmark.probes.dense import covered
from benchmark.probing import features
from benchmark.recipe import EXTERNAL, Recipe, from_json
from benchmark.storage import results, seals
from tasks import splits, store
from tasks.base import DataError, Sample, Task
from tasks.duplicates import scan_grouped
from tasks.reading import squares

BATCH = 32  # images whose attention is in memory at once
STABILITY = {"ultrasound": ("speckle", 2), "histo": ("stain", 2)}  # nuisance and strength


class OpenRun(NamedTuple):
    """A stored run, ready to look."""

    row: dict  # of `runs`
    recipe: Recipe
    encoder: Encoder
    query: str
    decoder: Pretext | None  # the whole pretext, where its decoder is stored

    @property
    def rebuilds(self) -> bool:
        """Whether its pretext shows predicted pixels."""
        return hasattr(registry.load("pretexts", self.recipe.pretext).Model, "reconstruct")

    @property
    def name(self) -> str:
        kind = " untrained" if self.recipe.budget == 0 else ""
        return f"{self.recipe.pretext}{kind}, seed {self.recipe.seed}"


class Pictures(NamedTuple):
    """Test images of a task as an encoder sees them."""

    samples: list[Sample]
    stored: np.ndarray  # uint8 (B, S, S, 3), of the store
    masks: np.ndarray | None  # bool (B, side, side) at the encoder's size; None where the task knows no place


def open_run(run: str, root: Path) -> OpenRun:
    """Raises ValueError for a run that is not stored or came from outside, DataError where its weights are not here."""
    row = results.find_run(run, root)
    if row["pretext"] == EXTERNAL:
        raise ValueError(
            f"{row['run']} is an encoder from outside: maps read the blocks of the benchmark's own encoders"
        )
    recipe = from_json(row["recipe"])
    folder = results.run_directory(root, row["modality"], row["run"])
    stored = folder / "encoder.safetensors"
    if not stored.exists():
        raise DataError(f"{stored}: no such file; `python -m benchmark reproduce {row['run']}` trains the run again")
    if seals.sha256(stored) != row["weights_sha256"]:
        raise DataError(f"{stored}: not the weights of run {row['run']} (SHA-256 differs); `make verify`")
    module, frozen = registry.load("pretexts", recipe.pretext), encoder.load(recipe.encoder, stored)
    decoder, path = None, folder / "decoder.safetensors"
    if path.exists():
        decoder = module.Model(registry.typed(recipe).settings, frozen, recipe.modality, seed=0).eval()
        weights.load(decoder, path, decoder.decoder_state())
    return OpenRun(row, recipe, frozen, getattr(module, "QUERY", "patches"), decoder)


def make_untrained(run: OpenRun) -> OpenRun:
    """The same architecture before training: the weights of the run's twin."""
    fresh = Encoder(run.recipe.encoder, run.recipe.seed)
    fresh.mean.copy_(run.encoder.mean)
    fresh.std.copy_(run.encoder.std)
    return run._replace(encoder=fresh.eval().requires_grad_(False), decoder=None)


def choose_pictures(
    run: OpenRun, task: Task, data: Path, cache: Path, *, most: int, per_group: bool = False, ids: Sequence[str] = ()
) -> Pictures:
    """The first test images in the order of the module's text, or those named. Raises DataError, and ValueError for an
    id that is not of the task."""
    samples = scan_grouped(task, data, cache)
    by_id = {sample.id: sample for sample in samples}
    if unknown := sorted(set(ids) - by_id.keys()):
        raise ValueError(f"{task.name} has no image {unknown[0]!r}; the first of its ids is {samples[0].id!r}")
    chosen, masks, groups = [], [], set()
    for sample in [by_id[name] for name in ids] if ids else _order_tested(task, samples):
        if per_group and sample.group in groups and not ids:
            continue
        if task.mask is not None:
            mask = squares.mask_to_square(task, data, sample, task.mask, run.recipe.encoder.pixels)
            if not mask.any() and not ids:
                continue
            masks.append(mask)
        chosen.append(sample)
        groups.add(sample.group)
        if len(chosen) == most and not ids:
            break
    if not chosen:
        raise DataError(f"{task.modality}/{task.name}: no test image here shows the lesion; get the whole dataset")
    built = store.build(task, data, samples, run.recipe.stored_pixels, cache / "stores")
    row = {name: place for place, name in enumerate(built.ids)}
    pixels = built.pixels[[row[sample.id] for sample in chosen]]
    return Pictures(chosen, pixels, np.stack(masks) if masks else None)


def _order_tested(task: Task, samples: list[Sample]) -> Iterator[Sample]:
    """Test samples, classes in turn, in an order drawn from their ids."""
    tested = sorted({i for division in splits.assignments(task, samples) for i in division.test})
    keys = draws.uniform(draws.text_keys([samples[i].id for i in tested]), "maps/images", 1)[:, 0]
    by_class: dict[int, list[Sample]] = {}
    for place in np.argsort(keys, kind="stable"):
        by_class.setdefault(samples[tested[place]].label, []).append(samples[tested[place]])
    for place in range(max(map(len, by_class.values()))):
        yield from (by_class[label][place] for label in sorted(by_class) if place < len(by_class[label]))


def look(run: OpenRun, stored: np.ndarray) -> patch_maps.Seen:
    """`patch_maps.look` on stored images uint8 (B, S, S, 3), a few at a time, on the CPU."""
    parts = []
    for start in range(0, len(stored), BATCH):
        view = features.evaluation_view(stored[start : start + BATCH], run.recipe.encoder.pixels, torch.device("cpu"))
        parts.append(patch_maps.look(run.encoder, view, run.query))
    return patch_maps.Seen(*(np.concatenate(values) for values in zip(*parts, strict=True)))


def compute_saliency(
    run: OpenRun,
    task: Task,
    data: Path,
    cache: Path,
    samples: list[Sample],
    kind: str = "attention",
    untrained: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """(images uint8 (N, S, S, 3), maps (N, h, w) >= 0) of a run, or of its architecture before training, on samples.

    kind: "attention" (mean of heads) or "rollout". Raises as `choose_pictures` does.
    """
    if kind not in ("attention", "rollout"):
        raise ValueError(f"no map {kind!r} over a whole image: attention or rollout")
    found = choose_pictures(run, task, data, cache, most=len(samples), ids=[sample.id for sample in samples])
    seen = getattr(look(make_untrained(run) if untrained else run, found.stored), kind)
    grid = run.recipe.encoder.grid
    return found.stored, seen.reshape(-1, grid, grid)


def compute_scores(run: OpenRun, task: Task, found: Pictures) -> Iterator[dict[str, object]]:
    """sample, group, kind, control, score and value of every score that can be had; NaN ones are left out."""
    grid = run.recipe.encoder.grid
    name, strength = STABILITY[task.modality]
    altered = corruptions.apply(found.stored, [s.id for s in found.samples], task.modality, name, strength)
    runs = {"": run} if run.recipe.budget == 0 else {"": run, "untrained": make_untrained(run)}
    seen = {control: (look(one, found.stored), look(one, altered)) for control, one in runs.items()}
    visible = patch_maps.find_visible(resize(found.stored, run.recipe.encoder.pixels), grid)
    tall = patch_maps.find_artefacts(seen[""][0].lengths).mean(axis=1)
    for i, sample in enumerate(found.samples):
        about = {"sample": sample.id, "group": sample.group}
        inside = None if found.masks is None else covered(found.masks[i : i + 1], grid)[0]
        anchor = patch_maps.draw_anchors(sample.id, visible[i], inside)[0]
        yield {**about, "kind": "tokens", "control": "", "score": "artefact tokens", "value": float(tall[i])}
        drawn = {
            control: [
                {"attention": s.attention[i], "rollout": s.rollout[i], "cosine": patch_maps.cosine(s.tokens[i], anchor)}
                for s in pair
            ]
            for control, pair in seen.items()
        }
        for kind in patch_maps.KINDS:
            for control, (clean, changed) in drawn.items():
                scored = {f"stability under {name}": patch_maps.correlate(clean[kind], changed[kind])}
                if found.masks is not None:
                    scored |= patch_maps.score(kind, clean[kind], found.masks[i], anchor)
                if control:
                    scored["likeness to the trained map"] = patch_maps.correlate(clean[kind], drawn[""][0][kind])
                for score, value in scored.items():
                    score, _, chance = score.partition(", ")
                    if np.isfinite(value) and not (chance and control):
                        yield {**about, "kind": kind, "control": chance or control, "score": score, "value": value}


def resize(stored: np.ndarray, side: int) -> np.ndarray:
    """Stored images as an encoder gets them, uint8 (B, side, side, 3)."""
    view = features.evaluation_view(stored, side, torch.device("cpu"))
    return (view * 255).round().byte().permute(0, 2, 3, 1).numpy()


def reconstruct(run: OpenRun, found: Pictures) -> dict[str, np.ndarray]:
    """{"seen": ..., "predicted": ...}, (B, side, side, 3) each; empty for a pretext that predicts no pixels."""
    if run.decoder is None:
        return {}
    view = features.evaluation_view(found.stored, run.recipe.encoder.pixels, torch.device("cpu"))
    keys = draws.text_keys([sample.id for sample in found.samples])
    made = run.decoder.reconstruct(view, draws.Draws(keys, keys[:1], 0, len(keys)))
    return dict(zip(("seen", "predicted"), (x.permute(0, 2, 3, 1).numpy() for x in made), strict=True))
