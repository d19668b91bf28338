"""Synthetic histology: atypical nuclei (local latent).

Simulated, never a patient: 4,400 simulated patients with two images each, split 2,000 / 400 / 2,000 by patient. Three
independent binary latents at three scales are in every image; the three tasks share the images and differ in which
latent is the label. Here: two or three nuclei about seven pixels across at 64 among normal ones of three.

Physics and sources: tasks/phantoms. Licence: Apache-2.0. Not evidence about any disease.
"""

from functools import partial

from tasks.base import Fixed, Task
from tasks.phantoms import scenes

FAMILY = scenes.family("histo")

TASK = Task(
    name="phantom_local",
    modality="histo",
    title="Synthetic histology: atypical nuclei",
    question="Does this simulated H&E field hold two or three atypical nuclei, large, dark and pleomorphic?",
    classes=("normal nuclei", "atypical nuclei"),
    group_kind="simulated patient",
    protocol=Fixed(published=True),
    metric="auroc",
    version=scenes.VERSION,
    access=scenes.ACCESS,
    scan=partial(FAMILY.scan, latent="local"),
    read=FAMILY.read,
    mask=partial(FAMILY.mask, name="atypical", latent="local"),
    policy="simulated",
    images=FAMILY.images,
    family=scenes.NAME,
    independent=True,
    expected=FAMILY.expected,
    synthetic=True,
)
