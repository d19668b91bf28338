"""Synthetic ultrasound: gallbladder wall (regional latent).

Simulated, never a patient: 4,400 simulated patients with two images each, split 2,000 / 400 / 2,000 by patient. Three
independent binary latents at three scales are in every image; the three tasks share the images and differ in which
latent is the label. Here: one structure of some fifteen pixels at 64; the lumen is about as large with the mass as
without.

Physics and sources: tasks/phantoms. Licence: Apache-2.0. Not evidence about any disease.
"""

from tasks.phantoms import questions

TASK = questions.latent(
    "ultrasound",
    "regional",
    title="Synthetic ultrasound: gallbladder wall",
    question="Does the gallbladder of this simulated abdominal scan carry a focal, irregular mural mass?",
    classes=("smooth wall", "mural mass"),
)
