"""MHIST: hyperplastic polyp or sessile serrated adenoma, by the vote of seven pathologists.

What        H&E images of colorectal polyps, 224 x 224 RGB PNG at 5X
Who         Dartmouth-Hitchcock Medical Center, Lebanon, New Hampshire; Wei et al., 2021
Counts      3,152 images: train HP 1,545, SSA 630; test HP 617, SSA 360
Licence     research use agreement, by form; no redistribution
Access      bmirds.github.io/MHIST: after the form, links come by mail; `annotations.csv` beside the folder `images`
Split       the authors' train and test; a val part is cut from train here
Group       image, near-duplicates joined: no patient or slide is released, so patients may be on both sides. Of
            near-duplicates across the authors' split, those in train are dropped. Not known to be independent
Traps       two label orders are in use (eva: SSA 0, HP 1; THUNDER and nanopath: HP 0, SSA 1), so names are kept, here
            HP first; a label is the majority of seven votes, SSA from 4 on; features of an untrained network reach a
            macro F1 of 0.577 (nanopath). Copies: no other release is known to us, and none is permitted
Published   frozen encoders with a linear head, balanced accuracy: 0.78 to 0.86, ViT-S/16 0.78 to 0.83 (eva leaderboard:
            chosen and reported on the test part, so they are upper marks); the authors report AUROC, the metric here
"""

import functools
import re
from pathlib import Path

import numpy as np

from tasks.base import Access, DataError, Fixed, Sample, Task
from tasks.reading import decoding, layout, tables

TABLE = "annotations.csv"
IMAGE, LABEL, VOTES, PART = COLUMNS = (
    "Image Name",
    "Majority Vote Label",
    "Number of Annotators who Selected SSA (Out of 7)",
    "Partition",
)
CLASSES = ("HP", "SSA")
SPLITS = ("train", "test")
NAME = re.compile(r"MHIST_[a-z]{3}\.png", re.IGNORECASE)
REMEDY = "restore the table that came with the dataset"


def scan(data: Path) -> list[Sample]:
    table = _table(data)
    rows = _rows(table)
    folder = layout.subfolder(table.parent, "images")
    found = {
        path.name: path for path, _ in layout.match_names(layout.list_images(folder), NAME, example="MHIST_aaa.png")
    }
    strangers = sorted(found.keys() - rows.keys())
    if strangers:
        raise DataError(
            f"{table}: no row for {strangers[0]!r} ({len(strangers)} such images in {folder}); {REMEDY}, "
            "or remove the images that are not the authors'"
        )
    if not found:
        raise DataError(f"{folder}: none of the {len(rows)} images that {TABLE} lists; unpack images.zip there")
    names = sorted(found)
    labels, splits = zip(*(rows[name] for name in names), strict=True)
    return layout.samples(folder, [found[name] for name in names], labels, splits=splits)


def read(data: Path, sample: Sample, pixels: int) -> np.ndarray:
    return decoding.decode(_table(data).parent / sample.id)


@functools.cache  # `read` asks for every image; a missing table raises, and so is never remembered
def _table(data: Path) -> Path:
    """The table; one without a name of MHIST is another dataset's."""

    def match(folder: Path) -> list[Path]:
        path = folder / TABLE
        return [path] if path.is_file() and "MHIST_" in path.read_text("utf-8-sig", errors="replace") else []

    return layout.find_one(data, f"{TABLE!r} of MHIST", "mhist", match)


def _rows(table: Path) -> dict[str, tuple[int, str]]:
    """Image name -> (label, split). Raises DataError for rows that are doubled, unknown or contradict themselves."""
    rows: dict[str, tuple[int, str]] = {}
    for row in tables.read_csv(table, *COLUMNS):
        name, label, votes, split = (row[column] for column in COLUMNS)
        if name in rows:
            raise DataError(f"{table}: {name!r} is listed twice; {REMEDY}")
        if label not in CLASSES or split not in SPLITS or votes not in map(str, range(8)):
            raise DataError(
                f"{table}: {name!r} is {label!r} with {votes!r} votes in {split!r}, not {' or '.join(CLASSES)} with "
                f"0 to 7 votes in {' or '.join(SPLITS)}; {REMEDY}"
            )
        if (label == "SSA") != (int(votes) >= 4):
            raise DataError(
                f"{table}: {name!r} is {label} by {votes} of 7 votes for SSA, against the majority; {REMEDY}"
            )
        rows[name] = CLASSES.index(label), split
    return rows


TASK = Task(
    name="mhist",
    modality="histo",
    title="MHIST colorectal polyps",
    question="Do most of seven pathologists call this polyp hyperplastic (HP) or a sessile serrated adenoma (SSA)?",
    classes=CLASSES,
    group_kind="near-duplicate cluster (no patient is known)",
    protocol=Fixed(published=True, seed=0, crossing="remove"),
    metric="auroc",
    version=2,
    access=Access(
        home="https://bmirds.github.io/MHIST/",
        licence="research use agreement, no redistribution",
        citation=(
            "Wei, Suriawinata, Ren, Liu, Lisovsky, Vaickus, et al. A Petri Dish for Histopathology Image Analysis. "
            "2021. doi:10.48550/arXiv.2101.12355"
        ),
        steps=(
            "Fill in the form on the dataset's page; the links come by mail",
            "Download annotations.csv and images.zip",
            f"Put {TABLE} under DATA/mhist and unpack the images there, so that DATA/mhist/images/MHIST_aaa.png exists",
        ),
    ),
    scan=scan,
    read=read,
    policy="crop",
    images="mhist 1",
    family="mhist",
    independent=False,
    expected=3_152,
    counts={"train": {"HP": 1_545, "SSA": 630}, "test": {"HP": 617, "SSA": 360}},
    near=True,
)
