"""Ultrasound tasks, one file each, and the image sources that encoders are pretrained on."""

from tasks.base import OpenList, Source
from tasks.phantoms import population

# Members of "open": real, redistributable, fetched unattended as archives whose checksums are published, one task of a
# family, with a part that no task tests on. Left out: tn5000 (no checksum is published), mmotu (by hand), breast_usg
# and fatty_liver (every image is tested on), and the rest (may not be redistributed).
CORPORA: dict[str, tuple[Source, ...] | OpenList] = {
    "phantom": (population.source("ultrasound"),),
    "open": OpenList(version=1, members={"aul": 2, "bus_bra": 3}),
}
