"""A tiny LC25000 in its native layout: two copies of each tile, listed in either of the two group tables."""

import csv
from pathlib import Path

import numpy as np
from PIL import Image

FOLDERS = {
    "colon_aca": ("colon_image_sets", "colonca"),  # the files of colon_aca are called colonca
    "colon_n": ("colon_image_sets", "colonn"),
    "lung_aca": ("lung_image_sets", "lungaca"),
    "lung_n": ("lung_image_sets", "lungn"),
    "lung_scc": ("lung_image_sets", "lungscc"),
}
TILES = 10  # of each class
IMAGES, GROUPS = 2 * TILES * len(FOLDERS), TILES * len(FOLDERS)


def write(folder: Path, *, seed: int = 0) -> None:
    draws = np.random.default_rng(seed)
    top = folder / "lung_colon_image_set"
    ours, clusters = [], []
    for name, (organ, prefix) in FOLDERS.items():
        (top / organ / name).mkdir(parents=True)
        for tile in range(TILES):
            image = draws.integers(0, 256, (24, 24, 3), np.uint8)
            for number, copy in ((tile + 1, image), (tile + 1 + TILES, np.rot90(image))):
                Image.fromarray(np.ascontiguousarray(copy)).save(top / organ / name / f"{prefix}{number}.jpeg")
                ours.append((f"{top.name}/{organ}/{name}/{prefix}{number}.jpeg", name, f"{name}_{tile}"))
                stem, tissue = f"{prefix}{number}", name.partition("_")[0]
                clusters.append((stem, f"{stem}.jpeg", name, tissue, tile, f"{len(clusters) // 2}"))
    _table(folder / "groups.csv", ("file", "class", "source_tile_group"), ours)
    header = ("stem", "filename", "label", "tissue", "local_cluster_label", "group_id")
    _table(folder / "lc25000_image_groups.csv", header, clusters)


def _table(path: Path, header: tuple[str, ...], rows: list[tuple]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])
