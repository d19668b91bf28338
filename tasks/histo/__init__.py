"""Histology tasks, one file each, and the image sources that encoders are pretrained on."""

from tasks.base import OpenList, Source
from tasks.phantoms import population

# Members of "open": real, redistributable, fetched unattended as archives whose checksums are published, one task of a
# family, with a part that no task tests on. Left out: idc (by hand, no checksum), breakhis and kather2016 (every image
# is tested on), crc_nonorm (other tiles of the slides of crc), and the rest (may not be redistributed).
CORPORA: dict[str, tuple[Source, ...] | OpenList] = {
    "phantom": (population.source("histo"),),
    "open": OpenList(version=1, members={"crc": 2, "pcam": 1}),
}
