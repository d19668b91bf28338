"""BrEaST: benign or malignant breast lesion, one scan a patient, confirmed by biopsy or follow-up.

What        B-mode stills of the breast with lesion outlines, BI-RADS 1 to 5 and descriptors; shown as a column: BI-RADS
Who         256 patients, by the workbook 197 confirmed by biopsy and 55 by follow-up; centres and scanners are not part
            of the release
Counts      256 scans: benign 154, malignant 98, normal 4; PNG, sides vary; 266 outlines of lesions
Licence     CC BY 4.0
Access      The Cancer Imaging Archive, Breast-Lesions-USG; the folder is `BrEaST-Lesions_USG-images_and_masks`, the
            workbook lies beside it
Split       none in the release; here five grouped folds, three times, over the 252 patients with a lesion
Group       patient: the scan, of which each patient has one. Independent
Traps       four scans of normal tissue are too few for a class and are left out (`data verify` lists them); BI-RADS is
            written 4a, 4b, 4c, and a number elsewhere; outlines `_other` are of other abnormal areas in the same scan
            and are not used: the dense probe looks for the classified lesion. Copies: the scans are among the
            pretraining images of OpenUS-46 (USF-MAE) and US-JEPA; the PRECISE-ABreast challenge joins them with BUSI
            and BUS-BRA, under names of its own
Published   no linear probe of it is known to us
"""

import re
from functools import partial
from pathlib import Path

import numpy as np

from tasks.base import Access, DataError, Folds, Sample, Task
from tasks.reading import decoding, folders, layout, tables

ANCHOR = "BrEaST-Lesions_USG-images_and_masks"
WORKBOOK = "BrEaST-Lesions-USG-clinical-data-Dec-15-2023.xlsx"
IMAGE, LABEL, BIRADS = "Image_filename", "Classification", "BIRADS"
CLASSES = ("benign", "malignant")
NORMAL = "normal"  # left out
NAME = re.compile(r"case\d+(?P<mask>_(tumor|other\d*))?\.png", re.IGNORECASE)


def scan(data: Path) -> list[Sample]:
    top, rows, found = _found(data)
    names = [name for name in layout.match_listed(rows, found, WORKBOOK) if rows[name][LABEL] != NORMAL]
    paths = [found[name] for name in names]
    labels = [CLASSES.index(rows[name][LABEL]) for name in names]
    return layout.samples(top, paths, labels, [path.stem for path in paths])


def left_out(data: Path) -> dict[str, list[str]]:
    """Task.left_out: the scans of normal tissue."""
    top, rows, found = _found(data)
    return folders.names_below(
        {NORMAL: [path for name, path in sorted(found.items()) if rows[name][LABEL] == NORMAL]}, top
    )


def mask(data: Path, sample: Sample, pixels: int) -> np.ndarray:
    """The outline of a scan's lesion, a file that is called like it."""
    image = layout.image_path(data, sample, top=ANCHOR, task="breast_usg")
    return decoding.decode_mask(image.with_name(f"{image.stem}_tumor.png"))


def birads(data: Path) -> dict[str, str]:
    """Task.columns: the BI-RADS category of every scan."""
    top, rows, found = _found(data)
    return {f"{top.name}/{name}": rows[name][BIRADS] for name in sorted(found)}


def _found(data: Path) -> tuple[Path, dict[str, dict[str, str]], dict[str, Path]]:
    """(folder of the images, rows of the workbook by image name, images that are there by name)."""
    top = layout.find_top(data, ANCHOR, "breast_usg")
    workbook = top.parent / WORKBOOK
    if not folders.is_file(workbook):
        raise DataError(f"{workbook}: not there, and it holds the labels; get it from the archive's page")
    rows = {row[IMAGE]: row for row in tables.read_workbook(workbook, None, IMAGE, LABEL, BIRADS)}
    for name, row in rows.items():
        if row[LABEL] not in (*CLASSES, NORMAL):
            raise DataError(
                f"{workbook}: {name} has {LABEL} {row[LABEL]!r}, looked for {', '.join(CLASSES)} or {NORMAL}; "
                "restore the authors' workbook"
            )
    named = layout.match_names(layout.list_images(top), NAME, example="case001.png")
    return top, rows, {path.name: path for path, match in named if not match["mask"]}


TASK = Task(
    name="breast_usg",
    modality="ultrasound",
    title="BrEaST breast lesions",
    question="Is the breast lesion in this ultrasound scan benign or malignant?",
    classes=CLASSES,
    group_kind="patient (one scan each)",
    protocol=Folds(k=5, repeats=3, seed=0),
    metric="auroc",
    version=1,
    access=Access(
        home="https://doi.org/10.7937/9WKK-Q141",
        licence="CC BY 4.0",
        citation=(
            "Pawlowska et al. Curated benchmark dataset for ultrasound based breast lesion analysis. Scientific Data "
            "11:148, 2024. doi:10.1038/s41597-024-02984-z"
        ),
        steps=(
            "Download images and masks (a zip) and the clinical data (xlsx) from the archive's page",
            f"Unpack the images under DATA, so that DATA/{ANCHOR}/case001.png exists",
            f"Put {WORKBOOK} beside that folder",
        ),
        redistributable=True,
    ),
    scan=scan,
    read=partial(layout.read_image, top=ANCHOR, task="breast_usg"),
    mask=mask,
    policy="pad",
    images="breast_usg 1",
    family="breast_usg",
    independent=True,
    left_out=left_out,
    columns={"BI-RADS": birads},
    expected=252,
    counts={"": {"benign": 154, "malignant": 98}},
)
