"""Histology tasks, one file each, and the image sources that encoders are pretrained on."""

from tasks.base import Source
from tasks.phantoms import population

CORPORA: dict[str, tuple[str | Source, ...]] = {
    "phantom": (population.source("histo"),),
    "open": (),  # for datasets that anyone may download unattended; empty until their files are pinned
}
