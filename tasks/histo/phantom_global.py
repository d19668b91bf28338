"""Synthetic histology: architecture (global latent).

Simulated, never a patient: 4,400 simulated patients with two images each, split 2,000 / 400 / 2,000 by patient. Three
independent binary latents at three scales are in every image; the three tasks share the images and differ in which
latent is the label. Here: the predominant pattern (four glands in seven), with the same nuclei, cytoplasm and
empty area in both: only how they lie to one another tells.

Physics and sources: tasks/phantoms. Licence: Apache-2.0. Not evidence about any disease.
"""

from tasks.phantoms import questions

TASK = questions.latent(
    "histo",
    "global",
    title="Synthetic histology: architecture",
    question="Is the epithelium of this simulated H&E field mostly in solid nests instead of open glands?",
    classes=("open glands", "solid nests"),
)
