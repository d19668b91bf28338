"""Kather texture 2016: tissue types of colorectal cancer, by numbered source.

What        H&E tiles, 150 x 150 RGB TIFF, 0.495 um per pixel
Who         ten sources from one institute and scanner, University Medical Center Mannheim, 2016; no patient ids. Part
            of NCT-CRC-HE (`crc`) is of that institute and these authors: patients of both cannot be told apart
Counts      5,000 images, 625 of each class: tumour epithelium, simple stroma, complex stroma (with single tumour or
            immune cells), lymphocytes, debris and mucus, mucosal glands, adipose tissue, empty background
Licence     CC BY 4.0
Access      zenodo.org/records/53169; the folder is `Kather_texture_2016_image_tiles_5000`
Split       none published, and the literature cuts by image; `kather2016` is five folds by source, three times.
            `kather2016_published` has all eight classes, cut by image, 60/20/20, as the literature does, and leaks
Group       source: the two digits after `CRC-Prim-HE-` in the file name, ten of them. They are read off the names, and
            that they are ten patients or slides is not stated. In `kather2016_published` each image is its own group.
            Not known to be independent
Traps       EMPTY is in sources 06 (590 images) and 10 (35) alone, so no folds by source can carry it: `kather2016`
            leaves it out, 4,375 images of seven classes. Adipose is in six sources and mucosa in eight by a reader's
            count: the folds here give each some of all seven, which leaves little choice of divisions, and refuse where
            sources are missing. Copies: one of the dataset nests the top folder in itself; a second archive holds ten
            images of 5,000 x 5,000 without labels, whose patients are not stated
Published   by image: 87.4 % accuracy of eight classes (Kather et al., Scientific Reports 6:27988, 2016). Leaving out a
            source at a time, one reader's ResNet-18 falls from macro F1 .908 to .700
"""

import re
from dataclasses import replace
from functools import partial
from pathlib import Path

from tasks.base import Access, DataError, Download, Fixed, Folds, Sample, Task
from tasks.reading import folders, layout

ANCHOR = "Kather_texture_2016_image_tiles_5000"
CLASSES = ("tumor", "stroma", "complex", "lympho", "debris", "mucosa", "adipose", "empty")
FOLDERS = tuple(f"{number:02d}_{name.upper()}" for number, name in enumerate(CLASSES, 1))  # in the order of the classes
NAME = re.compile(r"[0-9A-F]+_CRC-Prim-HE-(?P<source>\d{2})(?!\d).*\.tif_Row_\d+_Col_\d+\.tif", re.IGNORECASE)
ARCHIVE, CHECKSUM = f"{ANCHOR}.zip", "md5:0ddbebfc56344752028fda72602aaade"


def scan(data: Path, *, task: str, classes: tuple[str, ...], by_image: bool = False) -> list[Sample]:
    top = layout.find_top(data, ANCHOR, task)
    strangers = [path.name for path in folders.subfolders(top) if path.name not in FOLDERS]
    if strangers:
        raise DataError(f"{top}: folder {strangers[0]!r} is not one of {', '.join(FOLDERS)}; move it elsewhere")
    example = "17E8F_CRC-Prim-HE-02_007.tif_Row_151_Col_301.tif"
    named = layout.images_by_class(top, FOLDERS[: len(classes)], NAME, example=example)
    paths, labels, matches = zip(*named, strict=True)
    return layout.samples(top, paths, labels, None if by_image else [match["source"] for match in matches])


TASK = Task(
    name="kather2016",
    modality="histo",
    title="Colorectal tissue types, by source",
    question="Which of seven tissue types of colorectal cancer does this tile show?",
    classes=CLASSES[:-1],
    group_kind="numbered source (not stated to be a patient)",
    protocol=Folds(k=5, repeats=3, seed=0),
    metric="balanced_accuracy",
    version=2,
    access=Access(
        home="https://zenodo.org/records/53169",
        licence="CC BY 4.0",
        citation=(
            "Kather, Weis, Bianconi, Melchers, Schad, Gaiser, Marx, Zöllner. Multi-class texture analysis in "
            "colorectal cancer histology. Scientific Reports 6:27988, 2016. doi:10.1038/srep27988"
        ),
        steps=(
            f"Download {ARCHIVE} from the Zenodo record",
            f"Unpack it under DATA, so that DATA/{ANCHOR}/{FOLDERS[0]} exists",
        ),
        downloads=(
            Download(
                url=f"https://zenodo.org/records/53169/files/{ARCHIVE}?download=1",
                name=ARCHIVE,
                checksum=CHECKSUM,
                unpack=True,
            ),
        ),
        redistributable=True,
    ),
    scan=partial(scan, task="kather2016", classes=CLASSES[:-1]),
    read=partial(layout.read_image, top=ANCHOR, task="kather2016"),
    policy="crop",
    images="kather2016 1",
    family="kather2016",
    independent=False,
    expected=4_375,
    counts={"": dict.fromkeys(CLASSES[:-1], 625)},
)
TASKS = (
    TASK,
    replace(
        TASK,
        name="kather2016_published",
        title="Colorectal tissue types, by image",
        question="Which of eight tissue types of colorectal cancer, or background, does this tile show?",
        classes=CLASSES,
        group_kind="image",
        protocol=Fixed(published=False, seed=0),
        scan=partial(scan, task="kather2016_published", classes=CLASSES, by_image=True),
        read=partial(layout.read_image, top=ANCHOR, task="kather2016_published"),
        expected=5_000,
        counts={"": dict.fromkeys(CLASSES, 625)},
        on_request=True,
    ),
)
