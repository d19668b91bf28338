"""Synthetic ultrasound: coarse texture over one patch up to all of them (five levels).

Simulated, never a patient: the patients, images and latents of the modality's other phantom tasks, and a fourth binary
latent: tissue of coarse echo within a disc. Level by level the disc grows from about one patch to the whole image
and the texture fades, so that a supervised model tells the classes equally well: docs/phantoms.md. Run on request.

Physics and sources: tasks/phantoms. Licence: Apache-2.0. Not evidence about any disease.
"""

from tasks.phantoms import questions

TASKS = questions.levels(
    "ultrasound",
    "Synthetic ultrasound",
    "Is part or all of this simulated abdominal scan coarser in texture than its speckle alone?",
)
