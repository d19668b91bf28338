"""Synthetic ultrasound: microcalcifications (local latent).

Simulated, never a patient: 4,400 simulated patients with two images each, split 2,000 / 400 / 2,000 by patient. Three
independent binary latents at three scales are in every image; the three tasks share the images and differ in which
latent is the label. Here: two or three bright points, about two pixels each at 64, inside a nodule that is there
either way.

Physics and sources: tasks/phantoms. Licence: Apache-2.0. Not evidence about any disease.
"""

from tasks.phantoms import questions

TASK = questions.latent(
    "ultrasound",
    "local",
    title="Synthetic ultrasound: microcalcifications",
    question="Does the nodule of this simulated abdominal scan hold a cluster of two or three microcalcifications?",
    classes=("plain nodule", "microcalcifications"),
    mask={"name": "nodule"},
)
