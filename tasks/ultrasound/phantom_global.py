"""Synthetic ultrasound: steatosis (global latent).

Simulated, never a patient: 4,400 simulated patients with two images each, split 2,000 / 400 / 2,000 by patient. Three
independent binary latents at three scales are in every image; the three tasks share the images and differ in which
latent is the label. Here: the liver's echo relative to the kidney's, under random gain and time-gain
compensation, so that no single patch tells.

Physics and sources: tasks/phantoms. Licence: Apache-2.0. Not evidence about any disease.
"""

from tasks.phantoms import questions

TASK = questions.latent(
    "ultrasound",
    "global",
    title="Synthetic ultrasound: steatosis",
    question="Is the liver of this simulated abdominal scan steatotic (brighter than the renal cortex)?",
    classes=("normal liver", "steatosis"),
)
