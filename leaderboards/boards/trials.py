"""Tuning trials as they are stored: what was changed, what each latent scored, what the claims are under each recipe.

A trial is one run on development images, read by the linear probe on development test patients: no interval, no
verdict, no reported seed. Trials of earlier versions stay readable, and stand apart.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmark import tracks
from leaderboards.boards import store
from leaderboards.boards.claims import APART, SLOPE_TASKS, Claim
from leaderboards.boards.contrasts import slope_weights

TWIN = "twin"  # in place of a pretext: the untrained encoder
LATENTS = {  # what the names of its tasks are, or begin with
    "local": "phantom_local",
    "regional": "phantom_regional",
    "global": "phantom_global",
    "texture": "phantom_locality_",
    "relation": "phantom_relation_",
}
CHANCE = 0.5
DECIMALS = 9  # of an estimate: nothing is no negative number, whatever the processor


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A run on development images, or the encoder that runs start from."""

    name: str  # of its directory
    modality: str
    track: str
    pretext: str  # TWIN of the untrained encoder
    version: tuple[int, int]  # of the engine, and of the pretext
    changes: str  # what differs from the recommended settings, or RECOMMENDED
    cls: bool | None  # whether a cls token enters its encoder's blocks; None: not recorded
    seed: int
    flops: float
    images: int
    scores: Mapping[str, float]  # task -> AUROC

    @property
    def chosen(self) -> bool:
        return self.changes == tracks.RECOMMENDED


@dataclass(frozen=True, kw_only=True)
class Trials:
    current: tuple[Trial, ...]  # of the newest engine and version of their pretext, on a track of a modality
    earlier: tuple[Trial, ...]


def read(results: Path) -> Trials:
    """Every stored trial. Raises SchemaError naming a file that cannot be read."""
    rows = store.rows(results, "trials")
    found = [_trial(Path(directory).name, own) for directory, own in rows.groupby("directory", sort=True)]
    newest: dict[tuple[str, ...], tuple[int, int]] = {}
    for one in found:
        for place in ((one.modality, one.track), (one.modality, one.track, one.pretext)):
            newest[place] = max(newest.get(place, one.version), one.version)

    def current(one: Trial) -> bool:
        own = newest[one.modality, one.track, one.pretext]
        return one.version[0] == newest[one.modality, one.track][0] and (one.pretext == TWIN or one.version == own)

    found.sort(key=lambda one: (one.track, one.modality, one.pretext == TWIN, one.pretext, not one.chosen, one.changes))
    return Trials(
        current=tuple(one for one in found if current(one)), earlier=tuple(one for one in found if not current(one))
    )


def _trial(name: str, rows) -> Trial:
    row = rows.iloc[0]
    settings, twin = json.loads(row["settings"]), row["pretext"] == TWIN
    return Trial(
        name=name,
        modality=row["modality"],
        track=row["track"],
        pretext=row["pretext"],
        version=(int(row["engine"]), int(row["pretext_version"])),
        changes="" if twin else tracks.changes(row["pretext"], row["track"], settings),
        cls=settings.get("cls") if twin else tracks.has_cls(row["pretext"]),
        seed=int(row["seed"]),
        flops=float(row["budget_flops"]),
        images=int(row["images_seen"]),
        scores=dict(zip(rows["task"], rows["score"].astype(float), strict=True)),
    )


def latents(scores: Mapping[str, float]) -> dict[str, float]:
    """Score of every latent that was read; of texture and of relation, the mean over their tasks."""
    found = {}
    for latent, name in LATENTS.items():
        own = [x for task, x in scores.items() if task == name or (name.endswith("_") and task.startswith(name))]
        found |= {latent: float(np.mean(own))} if own else {}
    return found


def gain(one: Trial, every: Iterable[Trial]) -> float | None:
    """Mean over latents of the gain over the untrained encoder of this modality, track, engine and seed; None where
    it lacks a task of the trial."""
    place = (one.modality, one.track, one.version[0], one.seed)
    floors = [x for x in every if x.pretext == TWIN and (x.modality, x.track, x.version[0], x.seed) == place]
    floors = [x for x in floors if x.cls in (None, one.cls)]
    floors = [x for x in floors if set(one.scores) <= set(x.scores)]
    if one.pretext == TWIN or not floors:
        return None
    gains = {task: score - float(np.mean([x.scores[task] for x in floors])) for task, score in one.scores.items()}
    return float(np.mean([*latents(gains).values()]))


def counts(found: Iterable[Trial]) -> dict[tuple[str, str], Counter]:
    """(track, modality) -> pretext -> how many trials."""
    made: dict[tuple[str, str], Counter] = {}
    for one in found:
        if one.pretext != TWIN:
            made.setdefault((one.track, one.modality), Counter())[one.pretext] += 1
    return made


def means(found: Sequence[Trial], track: str, pretext: str) -> dict[str, float]:
    """Changes -> the gain by which a recipe is chosen, mean over modalities and seeds; only of recipes that were tried
    in every modality of the track."""
    own = [one for one in found if one.track == track and one.pretext == pretext]
    modalities = {one.modality for one in own}
    made: dict[str, dict[str, list[float]]] = {}
    for one in own:
        value = gain(one, found)
        if value is not None:
            made.setdefault(one.changes, {}).setdefault(one.modality, []).append(value)
    return {
        name: float(np.mean([np.mean(values) for values in by.values()]))
        for name, by in made.items()
        if set(by) == modalities
    }


def claimed(claim: Claim, first: Sequence[Trial], second: Sequence[Trial], places: Mapping[str, float]) -> float | None:
    """The estimate of a claim with the trials of one recipe in place of its ahead, those of another in place of its
    behind: chance-corrected, mean over the seeds that both have; of a slope in gain, per unit of measured locality.
    Both start from one floor, which cancels. places: task -> measured locality. None where a task is missing.
    """
    seeds = {one.seed: one for one in second}
    found = [_claimed(claim, one.scores, seeds[one.seed].scores, places) for one in first if one.seed in seeds]
    return None if None in found or not found else round(float(np.mean(found)), DECIMALS) + 0.0


def _claimed(
    claim: Claim, first: Mapping[str, float], second: Mapping[str, float], places: Mapping[str, float]
) -> float | None:
    both = {task: (first[task] - second[task]) / (1 - CHANCE) for task in first if task in second}
    if not claim.slope:
        return float(np.mean([both[task] for task in claim.tasks])) if set(claim.tasks) <= set(both) else None
    own = [task for task in both if task.startswith(f"{claim.within}_") and task in places]
    if len(own) < SLOPE_TASKS or np.ptp([places[task] for task in own]) < APART:
        return None
    return float(slope_weights([places[task] for task in own]) @ [both[task] for task in own])
