"""LC25000: five tissue classes of lung and colon, as augmented copies of about 1,250 tiles.

What        H&E tiles, 768 x 768 RGB JPEG: adenocarcinoma or benign colon; adeno-, squamous carcinoma or benign lung
Who         Borkowski and others, James A. Haley Veterans' Hospital, Tampa, 2019; patients are not stated
Counts      25,000 images, 5,000 a class: rotations and flips of about 250 tiles a class, about 20 copies each
Licence     announced by the authors as free for any use by AI researchers; no formal licence text
Access      github.com/tampapath/lung_colon_image_set; the folder is `lung_colon_image_set`
Split       none published; cut here by source tile, 60/20/20
Group       source tile, from one of two tables beside the folder: `lc25000_image_groups.csv` of LC25000-clean (1,246
            verified clusters), else `groups.csv` (columns file, source_tile_group). Without one, the task refuses.
            Neither patient nor slide of a tile is stated. Not known to be independent
Traps       a random split puts a copy of nearly every test image into training; files of `colon_aca` are called
            `colonca...`; tiles of one patient cannot be told, so even this split is not by patient. Copies: the
            augmented ones, about 20 of a tile, and 1,280 byte-identical files by a third party's count; no other
            release is known to us
Published   accuracies near 99 % come from random splits and measure the leak (Batchkala et al., DEMI at MICCAI 2024,
            doi:10.1007/978-3-031-73748-0_2), so no figure is comparable
"""

import re
from functools import partial
from pathlib import Path

from tasks.base import Access, DataError, Fixed, Sample, Task
from tasks.reading import folders, layout, tables

ANCHOR = "lung_colon_image_set"
CLASSES = ("colon_aca", "colon_n", "lung_aca", "lung_n", "lung_scc")
PREFIXES = ("colonca", "colonn", "lungaca", "lungn", "lungscc")  # of the files, in the order of the classes
CLUSTERS = "lc25000_image_groups.csv"
CLUSTERS_HOME = "https://github.com/GeorgeBatch/LC25000-clean/blob/main/kaggle/" + CLUSTERS


def scan(data: Path) -> list[Sample]:
    top = layout.find_top(data, ANCHOR, "lc25000")
    paths: list[Path] = []
    labels: list[int] = []
    for label, (name, prefix) in enumerate(zip(CLASSES, PREFIXES, strict=True)):
        found = layout.list_images(layout.subfolder(top, f"{name.partition('_')[0]}_image_sets", name))
        layout.match_names(found, re.compile(rf"{prefix}\d+\.jpe?g", re.IGNORECASE), example=f"{prefix}1.jpeg")
        paths += found
        labels += [label] * len(found)
    if not paths:
        raise DataError(f"{top}: no images like 'colon_image_sets/colon_aca/colonca1.jpeg'; unpack the dataset again")
    return layout.samples(top, paths, labels, _groups(top, paths))


def _groups(top: Path, paths: list[Path]) -> list[str]:
    clusters = top.parent / CLUSTERS
    if folders.is_file(clusters):
        rows = tables.read_csv(clusters, "stem", "label", "local_cluster_label")
        known = {row["stem"]: f"{row['label']}_{row['local_cluster_label']}" for row in rows}
        return layout.look_up_groups([path.stem for path in paths], known, clusters)
    known = layout.read_groups(top, "source_tile_group")
    if known is None:
        raise DataError(
            f"{top}: no source tiles, looked for {clusters} and {top.parent / 'groups.csv'}; the images are copies of "
            f"about 1,250 tiles, so a split without them leaks: put {CLUSTERS_HOME} beside the folder"
        )
    return layout.look_up_groups(layout.sample_ids(top, paths), known, top.parent / "groups.csv")


TASK = Task(
    name="lc25000",
    modality="histo",
    title="LC25000 lung and colon tissue",
    question="Which of five lung and colon tissues does this tile show?",
    classes=CLASSES,
    group_kind="source tile (no patient is known)",
    protocol=Fixed(published=False, seed=0),
    metric="auroc",
    version=2,
    access=Access(
        home="https://github.com/tampapath/lung_colon_image_set",
        licence="announced by the authors as free for any use by AI researchers; no formal licence",
        citation=(
            "Borkowski, Bui, Thomas, Wilson, DeLand, Mastorides. Lung and Colon Cancer Histopathological Image Dataset "
            "(LC25000). arXiv:1912.12142, 2019"
        ),
        steps=(
            "Download the archive that the authors' page links to",
            f"Unpack it under DATA, so that DATA/{ANCHOR}/colon_image_sets exists",
            f"Put {CLUSTERS_HOME} beside that folder",
        ),
    ),
    scan=scan,
    read=partial(layout.read_image, top=ANCHOR, task="lc25000"),
    policy="crop",
    images="lc25000 1",
    family="lc25000",
    independent=False,
    side=768,
    expected=25_000,
    counts={"": dict.fromkeys(CLASSES, 5_000)},
)
