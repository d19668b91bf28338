"""Synthetic histology: coarse texture over one patch up to all of them (five levels).

Simulated, never a patient: the patients, images and latents of the modality's other phantom tasks, and a fourth binary
latent: eosin of coarse grain within a disc. Level by level the disc grows from about one patch to the whole image
and the texture fades, so that a supervised model tells the classes equally well: docs/phantoms.md. Run on request.

Physics and sources: tasks/phantoms. Licence: Apache-2.0. Not evidence about any disease.
"""

from tasks.phantoms import questions

TASKS = questions.levels(
    "histo",
    "Synthetic histology",
    "Is the eosin of part or all of this simulated H&E field coarser in grain than elsewhere?",
)
