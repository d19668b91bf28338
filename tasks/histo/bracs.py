"""BRACS regions of interest: seven subtypes of breast lesions, in the authors' split.

What        H&E regions cut from whole slides at 40X, 0.25 um per pixel, RGB PNG of widely varying size
Who         387 slides (train 281, val 37, test 69) of the dataset's 547, from 189 patients; Naples, 2022
Counts      4,539 regions: train 3,657, val 312, test 570; normal 484, pathological benign 836, usual ductal hyperplasia
            517, flat epithelial atypia 756, atypical ductal hyperplasia 507, ductal carcinoma in situ 790, invasive
            carcinoma 649
Licence     CC BY-NC 4.0
Access      bracs.icar.cnr.it, by FTP after a registration; about 56 GB; the folder is `BRACS_RoI`
Split       the authors': the folders train, val and test
Group       patient, where the authors' BRACS.xlsx lies beside the folder; without it slide, the first number in the
            file name. The authors divided the slides: no slide is on two sides. Independent
Traps       patient 67 is on two sides of the slides' split: train and val by one source, train and test by another; a
            count of the regions alone found no patient on two sides. `bracs` leaves a crossing patient on the last of
            its sides alone (train, val, test), `bracs_published` keeps the split as it was; without BRACS.xlsx they are
            the same. Regions measure 127 pixels to thousands, so the central square shows tissue at unlike scales.
            Copies: the regions are cut from whole slides that the same authors release; no other release is known to us
Published   F1 by the authors (averaging not verified); macro F1 .286 of an untrained encoder (nanopath)
"""

import re
from functools import partial
from pathlib import Path

from tasks.base import Access, DataError, Fixed, Sample, Task, as_published
from tasks.reading import folders, layout, tables

ANCHOR = "BRACS_RoI"
CLASSES = ("N", "PB", "UDH", "FEA", "ADH", "DCIS", "IC")
SPLITS = ("train", "val", "test")
NAME = re.compile(rf"BRACS_(?P<slide>\d+)_(?P<label>{'|'.join(CLASSES)})_\d+\.png", re.IGNORECASE)
WORKBOOK, SHEET, COLUMNS = "BRACS.xlsx", "WSI_Information", ("WSI Filename", "Patient Id")


def scan(data: Path) -> list[Sample]:
    top = layout.find_top(data, ANCHOR, "bracs")
    root = top / "latest_version" if folders.is_folder(top / "latest_version") else top
    paths, labels, slides, sides = [], [], [], []
    for split in SPLITS:
        for label, name in enumerate(CLASSES):
            folder = layout.subfolder(root, split, f"{label}_{name}")
            for path, match in layout.match_names(layout.list_images(folder), NAME, example="BRACS_1003675_N_1.png"):
                if match["label"].upper() != name:
                    raise DataError(
                        f"{path}: the name says {match['label']!r}, the folder {name!r}; fetch the dataset again"
                    )
                paths.append(path)
                labels.append(label)
                slides.append(match["slide"])
                sides.append(split)
    if not paths:
        raise DataError(f"{root}: no images like 'train/0_N/BRACS_1003675_N_1.png'; fetch the dataset again")
    workbook = top.parent / WORKBOOK
    groups = layout.look_up_groups(slides, _patients(workbook), workbook) if folders.is_file(workbook) else slides
    return layout.samples(top, paths, labels, groups, sides)


def _patients(workbook: Path) -> dict[str, str]:
    """Slide -> patient. Rows that name no slide are passed over; a slide that an image needs and lacks is an error."""
    slide, patient = COLUMNS
    rows = tables.read_workbook(workbook, SHEET, *COLUMNS, instead=", or remove it to group by slide")
    named = [(re.match(r"BRACS_(\d+)", row[slide], re.IGNORECASE), row[patient]) for row in rows]
    return {match[1]: patient for match, patient in named if match}


TASK = Task(
    name="bracs",
    modality="histo",
    title="BRACS breast lesion subtypes",
    question="Which of seven subtypes, from normal to invasive carcinoma, does this region of breast tissue show?",
    classes=CLASSES,
    group_kind="patient (slide, where BRACS.xlsx is missing)",
    protocol=Fixed(published=True, crossing="remove"),
    metric="macro_f1",
    version=1,
    access=Access(
        home="https://www.bracs.icar.cnr.it/",
        licence="CC BY-NC 4.0",
        citation=(
            "Brancati et al. BRACS: A Dataset for BReAst Carcinoma Subtyping in H&E Histology Images. "
            "Database 2022:baac093, 2022. doi:10.1093/database/baac093"
        ),
        steps=(
            "Register on the owners' page, which then gives the FTP address",
            f"Mirror {ANCHOR} from there to DATA, so that DATA/{ANCHOR}/latest_version/train exists",
            f"Put {WORKBOOK} beside that folder: it says which patient a slide is of",
        ),
        bytes=55_569_695_523,
    ),
    scan=scan,
    read=partial(layout.read_image, top=ANCHOR, task="bracs"),
    policy="crop",
    images="bracs 1",
    family="bracs",
    independent=True,
    expected=4_539,
    counts={
        split: dict(zip(CLASSES, counts, strict=True))
        for split, counts in (
            ("train", (357, 714, 389, 624, 387, 665, 521)),
            ("val", (46, 43, 46, 49, 41, 40, 47)),
            ("test", (81, 79, 82, 83, 79, 85, 81)),
        )
    },
)
TASKS = (
    TASK,
    as_published(TASK, "BRACS breast lesion subtypes, published split"),
)
