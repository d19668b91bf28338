"""BACH, the ICIAR 2018 challenge: normal, benign, in situ or invasive breast tissue.

What        H&E fields of breast biopsies, 2048 x 1536 RGB TIFF at 0.42 um per pixel
Who         challenge of ICIAR 2018; Aresta et al., 2019
Counts      400 labelled images, 100 a class; one public reader's text says 408, its code 400
Licence     CC BY-NC-ND 4.0: no derivatives, so no image is shown
Access      zenodo.org/records/3632035, fetched unattended; the folder is `ICIAR2018_BACH_Challenge`
Split       the challenge keeps the labels of its 100 test images, so those are never read. Here: test is eva's
            validation part (132 images), val is THUNDER's (50), train the other 218. Both are ranges of positions in
            the complete list, ordered by class and number, so a part of the dataset is refused
Group       image, near-duplicates joined. The patient is known for a part of the images only; eva's ranges mean to keep
            those apart, the others' patients may be on two sides. Of near-duplicates across the split, those in train
            or val are dropped. Not known to be independent
Traps       classes are in the order of the folders' names, another order than the challenge's (Normal first); a patient
            can have images of several classes; cropping to a square loses a quarter of the width. Copies: by the
            challenge's page the images extend an earlier public set of the same group; no other release is known to us
Published   frozen encoders with a linear head, balanced accuracy on the same 132 images: 0.73 to 0.92, ViT-S/16 0.78 to
            0.81 (eva leaderboard: trained on all 268 others, chosen and reported on the 132, so they are upper marks)
"""

import re
from functools import partial
from pathlib import Path

from tasks.base import Access, DataError, Download, Fixed, Sample, Task
from tasks.reading import layout

ANCHOR = "ICIAR2018_BACH_Challenge"
CLASSES = ("Benign", "InSitu", "Invasive", "Normal")
PREFIXES = ("b", "is", "iv", "n")  # of the files, in the order of the classes
EACH = 100  # images a class, numbered from 1
TEST = ((41, 59), (60, 90), (139, 169), (240, 258), (260, 273), (345, 368))  # positions, the last of a range excluded
VAL = ((15, 25), (110, 120), (200, 210), (305, 315), (380, 390))
RECORD = "https://zenodo.org/records/3632035"


def scan(data: Path) -> list[Sample]:
    top = layout.find_top(data, ANCHOR, "bach")
    paths = [
        path
        for name, prefix in zip(CLASSES, PREFIXES, strict=True)
        for path in _numbered(layout.subfolder(top, "Photos", name), prefix)
    ]
    labels = [position // EACH for position in range(len(paths))]
    return layout.samples(top, paths, labels, splits=[_split(position) for position in range(len(paths))])


def _numbered(folder: Path, prefix: str) -> list[Path]:
    """The folder's images from 1 to EACH. Raises DataError if they are others."""
    name = re.compile(rf"{prefix}(?P<number>\d{{3}})\.tif", re.IGNORECASE)
    pairs = layout.match_names(layout.list_images(folder), name, example=f"{prefix}001.tif")
    by_number = {int(match["number"]): path for path, match in pairs}
    wanted = range(1, EACH + 1)
    wrong = sorted(by_number.keys() ^ set(wanted))
    if wrong or len(pairs) != EACH:
        raise DataError(
            f"{folder}: {len(pairs)} images, not {prefix}001.tif to {prefix}{EACH}.tif "
            f"({f'first difference: number {wrong[0]}' if wrong else 'a number twice'}); the split is by position in "
            f"the complete list, so unpack {ANCHOR}.zip again and leave its images as they are"
        )
    return [by_number[number] for number in wanted]


def _split(position: int) -> str:
    if any(start <= position < stop for start, stop in TEST):
        return "test"
    return "val" if any(start <= position < stop for start, stop in VAL) else "train"


TASK = Task(
    name="bach",
    modality="histo",
    title="BACH breast histology",
    question="Does this field show normal tissue, a benign lesion, carcinoma in situ or invasive carcinoma?",
    classes=CLASSES,
    group_kind="near-duplicate cluster (patients are known for a part of the images only)",
    protocol=Fixed(published=True, crossing="remove"),
    metric="balanced_accuracy",
    version=1,
    access=Access(
        home=RECORD,
        licence="CC BY-NC-ND 4.0",
        citation=(
            "Aresta, Araujo, Kwok, et al. BACH: Grand challenge on breast cancer histology images. Medical Image "
            "Analysis 56:122-139, 2019. doi:10.1016/j.media.2019.05.010. Data: doi:10.5281/zenodo.3632035"
        ),
        steps=(
            f"Download {ANCHOR}.zip from {RECORD} (the test set has no labels and is not needed)",
            f"Unpack it under DATA, so that DATA/{ANCHOR}/Photos/Benign exists",
        ),
        downloads=(
            Download(
                url=f"{RECORD}/files/{ANCHOR}.zip?download=1",
                name=f"{ANCHOR}.zip",
                checksum="md5:8ae1801334aa943c44627c1eef3631b2",
                unpack=True,
            ),
        ),
    ),
    scan=scan,
    read=partial(layout.read_image, top=ANCHOR, task="bach"),
    policy="crop",
    images="bach 1",
    family="bach",
    independent=False,
    expected=400,
    counts={
        "train": {"Benign": 42, "InSitu": 60, "Invasive": 59, "Normal": 57},
        "val": {"Benign": 10, "InSitu": 10, "Invasive": 10, "Normal": 20},
        "test": {"Benign": 48, "InSitu": 30, "Invasive": 31, "Normal": 23},
    },
    near=True,
)
