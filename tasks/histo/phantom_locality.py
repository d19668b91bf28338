"""Synthetic histology: coarse texture over one patch up to all of them (five levels).

Simulated, never a patient: the patients, images and latents of the modality's other phantom tasks, and a fourth binary
latent: eosin of coarse grain within a disc. Level by level the disc grows from about one patch to the whole image
and the texture fades, so that a supervised model tells the classes equally well: docs/phantoms.md. Run on request.

Physics and sources: tasks/phantoms. Licence: Apache-2.0. Not evidence about any disease.
"""

from functools import partial

from tasks.base import Fixed, Task
from tasks.phantoms import scenes
from tasks.phantoms.knobs import LEVELS, Knobs


def _task(level: int) -> Task:
    family = scenes.family("histo", knobs=Knobs(locality=level))
    return Task(
        name=f"phantom_locality_{level}",
        modality="histo",
        title=f"Synthetic histology: texture, locality {level} of {len(LEVELS)}",
        question="Is the eosin of part or all of this simulated H&E field coarser in grain than elsewhere?",
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
        expected=scenes.EXPECTED,
        synthetic=True,
        on_request=True,
    )


TASKS = tuple(_task(level) for level in LEVELS)
