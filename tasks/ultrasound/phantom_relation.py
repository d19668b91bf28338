"""Synthetic ultrasound: do two lymph nodes agree in echo level? At three distances.

Simulated, never a patient: 4,400 simulated patients with one image each, split 2,000 / 400 / 2,000 by patient, the same
patients at each distance. Four nodes lie in two rows; the node with an echogenic hilum and the one with a cystic centre
share a row, and are dark or bright independently of one another. The other two take the complementary levels, so
that every image holds two of each. Agreement is not linear in the two levels: read it with the attentive and the
two-layer probe as well. Run on request.

Physics and sources: tasks/phantoms. Licence: Apache-2.0. Not evidence about any disease.
"""

from tasks.phantoms import questions

TASKS = questions.relations(
    "ultrasound",
    "Synthetic ultrasound",
    "Have the node with a hilum and the node with a cystic centre of this simulated scan the same echo level?",
)
