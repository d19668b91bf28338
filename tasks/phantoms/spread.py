"""The tasks of the locality knob: one for each level, which differ in nothing but how far the signal is spread."""

from functools import partial

from tasks.base import Fixed, Task
from tasks.phantoms import scenes
from tasks.phantoms.knobs import LEVELS, Knobs


def levels(modality: str, title: str, question: str) -> tuple[Task, ...]:
    """A task for each level, run on request."""
    return tuple(_task(modality, title, question, level) for level in LEVELS)


def _task(modality: str, title: str, question: str, level: int) -> Task:
    family = scenes.family(modality, knobs=Knobs(locality=level))
    return Task(
        name=f"phantom_locality_{level}",
        modality=modality,
        title=f"{title}: texture, locality {level} of {len(LEVELS)}",
        question=question,
        classes=("even texture", "coarse texture"),
        group_kind="simulated patient",
        protocol=Fixed(published=True),
        metric="auroc",
        version=scenes.VERSION,
        access=scenes.ACCESS,
        scan=partial(family.scan, latent=scenes.TEXTURE),
        read=family.read,
        policy="simulated",
        images=family.images,
        family=scenes.NAME,
        independent=True,
        expected=scenes.EXPECTED,
        synthetic=True,
        on_request=True,
    )
