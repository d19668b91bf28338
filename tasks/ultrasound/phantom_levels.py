"""Synthetic ultrasound: the echo level of each marked lymph node alone.

Simulated, never a patient: the images of `phantom_relation`, asked for the parts of which the relation is made. Where
these are read and the relation is not, only the relation is missing. Run on request.

Physics and sources: tasks/phantoms. Licence: Apache-2.0. Not evidence about any disease.
"""

from tasks.phantoms import questions

TASKS = questions.parts(
    "ultrasound",
    "Synthetic ultrasound",
    {
        "first": "Is the node with an echogenic hilum of this simulated scan bright?",
        "second": "Is the node with a cystic centre of this simulated scan bright?",
    },
    ("dark", "bright"),
)
