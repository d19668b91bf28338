"""Synthetic histology: atypical nuclei (local latent).

Simulated, never a patient: 4,400 simulated patients with two images each, split 2,000 / 400 / 2,000 by patient. Three
independent binary latents at three scales are in every image; the three tasks share the images and differ in which
latent is the label. Here: two or three nuclei about seven pixels across at 64 among normal ones of three.

Physics and sources: tasks/phantoms. Licence: Apache-2.0. Not evidence about any disease.
"""

from tasks.phantoms import questions

TASK = questions.latent(
    "histo",
    "local",
    title="Synthetic histology: atypical nuclei",
    question="Does this simulated H&E field hold two or three atypical nuclei, large, dark and pleomorphic?",
    classes=("normal nuclei", "atypical nuclei"),
    mask={"name": "atypical", "latent": "local"},
)
