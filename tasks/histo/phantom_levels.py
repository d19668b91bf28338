"""Synthetic histology: the cellularity of each marked nest alone.

Simulated, never a patient: the images of `phantom_relation`, asked for the parts of which the relation is made. Where
these are read and the relation is not, only the relation is missing. Run on request.

Physics and sources: tasks/phantoms. Licence: Apache-2.0. Not evidence about any disease.
"""

from tasks.phantoms import questions

TASKS = questions.parts(
    "histo",
    "Synthetic histology",
    {
        "first": "Is the nest with a lumen of this simulated H&E field rich in cells?",
        "second": "Is the nest with a keratin pearl of this simulated H&E field rich in cells?",
    },
    ("poor in cells", "rich in cells"),
)
