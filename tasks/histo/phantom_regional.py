"""Synthetic histology: lymphoid aggregate (regional latent).

Simulated, never a patient: 4,400 simulated patients with two images each, split 2,000 / 400 / 2,000 by patient. Three
independent binary latents at three scales are in every image; the three tasks share the images and differ in which
latent is the label. Here: the same lymphocytes, in one place or spread over the stroma.

Physics and sources: tasks/phantoms. Licence: Apache-2.0. Not evidence about any disease.
"""

from tasks.phantoms import questions

TASK = questions.latent(
    "histo",
    "regional",
    title="Synthetic histology: lymphoid aggregate",
    question="Do the lymphocytes of this simulated H&E field form an aggregate?",
    classes=("spread lymphocytes", "lymphoid aggregate"),
)
