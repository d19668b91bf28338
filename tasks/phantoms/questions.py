"""The tasks of the phantom families: one for each latent of the base family; and, on request, those of the knobs, which
differ in nothing but how far the signal is spread, or how far apart two structures lie."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

from tasks.base import Fixed, Task
from tasks.phantoms import scenes
from tasks.phantoms.knobs import LEVELS, Knobs
from tasks.phantoms.relation import APART

WORDS = {"near": "touching", "middle": "three patches apart", "far": "six patches apart"}


def latent(
    modality: str, name: str, *, title: str, question: str, classes: tuple[str, str], mask: Mapping | None = None
) -> Task:
    """The task `phantom_<name>` that asks for the latent of that name; mask: what `scenes.Family.mask` is asked for."""
    task = _task(modality, Knobs(), name, name=f"phantom_{name}", title=title, question=question, classes=classes)
    family = scenes.family(modality)
    return replace(task, on_request=False, mask=partial(family.mask, **mask) if mask else None)


def levels(modality: str, title: str, question: str) -> tuple[Task, ...]:
    """A task for each level of locality."""
    return tuple(
        _task(
            modality,
            Knobs(locality=level),
            scenes.TEXTURE,
            name=f"phantom_locality_{level}",
            title=f"{title}: texture, locality {level} of {len(LEVELS)}",
            question=question,
            classes=("even texture", "coarse texture"),
        )
        for level in LEVELS
    )


def relations(modality: str, title: str, question: str) -> tuple[Task, ...]:
    """A task for each distance: do the two marked structures agree?"""
    return tuple(
        _task(
            modality,
            Knobs(relation=distance),
            "relation",
            name=f"phantom_relation_{distance}",
            title=f"{title}: relation, {WORDS[distance]}",
            question=question,
            classes=("different", "alike"),
        )
        for distance in APART
    )


def parts(modality: str, title: str, questions: dict[str, str], classes: tuple[str, str]) -> tuple[Task, ...]:
    """A task for the level of each marked structure ("first", "second": its question) at each distance."""
    return tuple(
        _task(
            modality,
            Knobs(relation=distance),
            latent,
            name=f"phantom_levels_{distance}_{latent}",
            title=f"{title}: level of the {latent} structure, {WORDS[distance]}",
            question=question,
            classes=classes,
        )
        for distance in APART
        for latent, question in questions.items()
    )


def _task(modality: str, knobs: Knobs, latent: str, **card: object) -> Task:
    family = scenes.family(modality, knobs=knobs)
    return Task(
        modality=modality,
        group_kind="simulated patient",
        protocol=Fixed(published=True),
        metric="auroc",
        version=scenes.VERSION,
        access=scenes.ACCESS,
        scan=partial(family.scan, latent=latent),
        read=family.read,
        policy="simulated",
        images=family.images,
        family=scenes.NAME,
        independent=True,
        expected=family.expected,
        synthetic=True,
        on_request=True,
        **card,
    )
