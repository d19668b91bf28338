"""Ceilings: what labels teach the encoder of a track at its budget, so what a perfect pretext could reach there.

Tasks that share their images are learnt together, by one model with a linear head for each task on its mean patch
token. It has the track's encoder with the weights that a twin starts from, the stored pixels, the photometric policy
and the training FLOPs of the pretexts. A track of equal images has the budget of its base track. `supervised` trains
them; here is which there are, which are missing and what they cost. No torch.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import NamedTuple

from benchmark import registry, tracks
from benchmark.parts import flops, rules
from benchmark.recipe import Corpus, EncoderSpec, Optim, Recipe, key
from benchmark.storage import results
from benchmark.study import Study, TaskData, Wanted
from tasks.base import Sample, digest
from tasks.reading import squares
from tasks.splits import Assignment

VERSION = 2
PRETEXT = "labels"  # in the place of a pretext in a ceiling's recipe
PREFIX = "ceiling-"  # how its name begins among the ids of runs


@dataclass(frozen=True, kw_only=True)
class Settings(Optim):
    crop: tuple[float, float] = (0.85, 1.0)  # area share of the random resized crop: so mild that both structures of a
    # far relation stay in it
    looks: int = 10  # at the validation groups, evenly spaced; the weights of the best answer for the test images


def settings(encoder: EncoderSpec) -> Settings:
    return Settings(**rules.optimisation(encoder), clip=1.0)


class Family(NamedTuple):
    """Tasks that one model learns together."""

    tasks: tuple[TaskData, ...]

    @property
    def images(self) -> str:
        return self.tasks[0].task.images

    @property
    def heads(self) -> list[str]:
        return [found.task.name for found in self.tasks]

    @property
    def divisions(self) -> list[tuple[Assignment, ...]]:
        """How each task is divided, for every model: one, or one a fold. Of repeated folds the first repeat alone."""
        own = [[division for division in found.divisions if division.repeat == 0] for found in self.tasks]
        return list(zip(*own, strict=True))

    @property
    def labelled(self) -> tuple[int, int]:
        """(distinct images, distinct groups) with a label in some head that a model learns from; of folds the mean."""
        counts = []
        for division in self.divisions:
            pairs = zip(self.tasks, division, strict=True)
            samples = [found.samples[i] for found, divided in pairs for i in divided.train]
            counts.append((len({image(sample) for sample in samples}), len({sample.group for sample in samples})))
        images, groups = (round(mean(count)) for count in zip(*counts, strict=True))
        return images, groups


class Ceiling(NamedTuple):
    """One family under one seed: the unit of work."""

    family: Family
    recipe: Recipe

    @property
    def name(self) -> str:
        """What `--runs` calls it."""
        return PREFIX + key(self.recipe)

    @property
    def image_flops(self) -> float:
        """Training FLOPs per image: encoder and heads, forward and backward."""
        encoder, classes = self.recipe.encoder, [len(found.task.classes) for found in self.family.tasks]
        return 3 * (flops.encode(encoder) + sum(flops.linear(1, encoder.width, count) for count in classes))

    @property
    def steps(self) -> int:
        """Optimiser steps of each model that the budget pays for. Raises ValueError if it pays for none."""
        count = int(self.recipe.budget // (self.image_flops * self.recipe.settings.batch))
        if count == 0:
            raise ValueError(
                f"budget of {self.recipe.budget:.3g} FLOPs pays for no step of a ceiling; CEILINGS=0 leaves them out"
            )
        return count

    @property
    def flops(self) -> float:
        """Training FLOPs of all its models."""
        return len(self.family.divisions) * self.steps * self.recipe.settings.batch * self.image_flops

    def cell(self, found: TaskData) -> str:
        """Id of what is stored of one of its tasks."""
        return digest("ceiling", key(self.recipe), found.task.name)[:12]

    def stored(self, root: Path) -> bool:
        """Whether all of its tasks are."""
        return all(
            results.ceiling_directory(root, self.recipe.modality, self.cell(found)).exists()
            for found in self.family.tasks
        )


def image(sample: Sample) -> str:
    """Names an image of a family: tasks may give one id to images that differ, such as levels of a texture."""
    return f"{sample.id} {sample.digest}"


def families(study: Study) -> list[Family]:
    """The tasks of a study, together where they share images and policy, and every division of one suits the other."""
    made: list[list[TaskData]] = []
    for found in study.tasks.values():
        fitting = (family for family in made if all(together(found, other) for other in family))
        family = next(fitting, None)
        if family is None:
            made.append([found])
        else:
            family.append(found)
    return [Family(tuple(family)) for family in made]


def together(one: TaskData, other: TaskData) -> bool:
    """Whether a model may learn both: of the same images, with no image and no group of a test part of one in the
    training or validation part of the other."""
    kinds = [(found.task.images, squares.describe_policy(found.task.policy)) for found in (one, other)]
    ways = [[(division.repeat, division.fold) for division in found.divisions] for found in (one, other)]
    if kinds[0] != kinds[1] or ways[0] != ways[1]:
        return False
    pairs = list(zip(one.divisions, other.divisions, strict=True))
    crossing = [(_tested(one, a) & _taught(other, b)) | (_tested(other, b) & _taught(one, a)) for a, b in pairs]
    return not any(crossing)


def _tested(found: TaskData, division: Assignment) -> set[tuple[str, str]]:
    return _contents(found.samples[i] for i in division.test)


def _taught(found: TaskData, division: Assignment) -> set[tuple[str, str]]:
    return _contents(found.samples[i] for part in (division.train, division.val) for i in part)


def _contents(samples: Iterable[Sample]) -> set[tuple[str, str]]:
    return {content for sample in samples for content in (("image", sample.digest), ("group", sample.group))}


def recipe(family: Family, track: str, seed: int, precision: str = "fp32") -> Recipe:
    """Everything that can move a number of a ceiling. Its corpus are the samples of the family's tasks."""
    chosen, tasks = tracks.get(track), [found.task for found in family.tasks]
    every = {image(sample) for found in family.tasks for sample in found.samples}
    members = tuple((task.name, task.version) for task in tasks)
    told = [text for found in family.tasks for text in (found.task.name, found.identity)]
    return Recipe(
        modality=tasks[0].modality,
        track=track,
        corpus=Corpus(name=family.images, members=members, digest=digest(*told)[:12], images=len(every)),
        pretext=PRETEXT,
        pretext_version=VERSION,
        settings=settings(chosen.encoder),
        encoder=chosen.encoder,
        stored_pixels=chosen.stored_pixels,
        policy=squares.describe_policy(tasks[0].policy),
        budget=chosen.budget,
        precision=precision,
        seed=seed,
    )


def missing(wanted: Wanted, study: Study, root: Path) -> list[Ceiling]:
    """Those asked for that are not stored under root, seed by seed; of tasks that no probe is asked about, none."""
    seeds = tracks.get(wanted.track).ceilings if wanted.ceilings is None else wanted.ceilings
    if not seeds:
        return []
    precision = wanted.recipes[0].precision if wanted.recipes else wanted.precision
    known = [family for family in families(study) if any(_asked(found, wanted.probes) for found in family.tasks)]
    made = [Ceiling(one, recipe(one, wanted.track, seed, precision)) for seed in range(seeds) for one in known]
    chosen = [one for one in made if not wanted.runs or one.name.startswith(wanted.runs)]
    return [one for one in chosen if not one.stored(root)]


def _asked(found: TaskData, probes: tuple[str, ...]) -> bool:
    kinds = {kind for probe in probes for kind in registry.load("probes", probe).KINDS}
    return found.task.mask is not None or kinds != {"segmentation"}
