"""Synthetic histology: do two nests of epithelium agree in cellularity? At three distances.

Simulated, never a patient: 4,400 simulated patients with one image each, split 2,000 / 400 / 2,000 by patient, the same
patients at each distance. Four nests lie in two rows; the nest with a lumen and the one with a keratin pearl share a
row, and are rich or poor in cells independently of one another. The other two take the complementary levels, so that
every image holds two of each. Agreement is not linear in the two levels: read it with the attentive and the two-layer
probe as well. Run on request.

Physics and sources: tasks/phantoms. Licence: Apache-2.0. Not evidence about any disease.
"""

from tasks.phantoms import questions

TASKS = questions.relations(
    "histo",
    "Synthetic histology",
    "Are the nest with a lumen and the nest with a keratin pearl of this simulated field alike in cellularity?",
)
