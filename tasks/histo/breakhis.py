"""BreaKHis at one magnification: benign or malignant breast tumour, by patient.

What        H&E fields of surgical breast biopsies, 700 x 460 RGB PNG, four magnifications; here 100X alone
Who         82 patients by the authors' count; P&D Laboratory, Parana, Brazil, 2014
Counts      100X: 2,081 images, benign 644, malignant 1,437 (all magnifications: 7,909)
Licence     CC BY 4.0
Access      the authors' laboratory page; the folder is `BreaKHis_v1`
Split       the authors use five random divisions by patient; here five grouped folds, three times
Group       patient: the number in the file name without its letters, so that 14-22549AB and 14-22549CD are one. That
            the letters name blocks of one patient is an inference; it can only make the split stricter
Traps       one field is photographed at all four magnifications, so they are never mixed; folders join the class code
            with `_`, files with `-`; 14-13412 is filed as ductal and as lobular carcinoma (hence 81 numbers for 82
            patients): both are malignant, so this task's label is not in doubt, and it is one group; some copies of
            the dataset nest a subtype's folder in itself
Published   accuracies of 80 to 85 % by patient (Spanhol et al., IEEE TBME 63(7), 2016), with other splits and metric
"""

import re
from pathlib import Path

import numpy as np

from tasks import files
from tasks.base import Access, DataError, Folds, Sample, Task

ANCHOR = "BreaKHis_v1"
MAGNIFICATION = 100  # 40, 100, 200 or 400; with another, `name`, `images` and `expected` are another task's
CLASSES = ("benign", "malignant")
NAME = re.compile(
    r"SOB_(?P<tumour>[BM])_(A|F|PT|TA|DC|LC|MC|PC)-(?P<year>\d+)-(?P<number>\d+)[A-Z]*-(?P<scale>\d+)-\d+\.png",
    re.IGNORECASE,
)


def scan(data: Path) -> list[Sample]:
    top = files.anchor(data, ANCHOR, "breakhis")
    slides = files.subfolder(files.subfolder(top, "histology_slides"), "breast")
    paths, labels, groups = [], [], []
    for label, name in enumerate(CLASSES):
        found = files.images(files.subfolder(slides, name), recursive=True)
        for path, match in files.matching(found, NAME, example="SOB_B_A-14-22549AB-100-001.png"):
            if match["tumour"].upper() != name[0].upper():
                raise DataError(
                    f"{path}: the name says {match['tumour']!r}, the folder {name!r}; fetch the dataset again"
                )
            if int(match["scale"]) == MAGNIFICATION:
                paths.append(path)
                labels.append(label)
                groups.append(f"{match['year']}-{match['number']}")
    if not paths:
        raise DataError(f"{slides}: no images at {MAGNIFICATION}X; unpack the dataset again, with all magnifications")
    return sorted(map(Sample, files.ids(top, paths), labels, groups, files.digests(paths)))


def read(data: Path, sample: Sample, pixels: int) -> np.ndarray:
    path = files.anchor(data, ANCHOR, "breakhis").parent / sample.id
    return files.to_square(files.decode(path), pixels, "crop")


TASK = Task(
    name="breakhis",
    modality="histo",
    title=f"BreaKHis breast tumours, {MAGNIFICATION}X",
    question="Is the breast tumour in this field benign or malignant?",
    classes=CLASSES,
    group_kind="patient",
    protocol=Folds(k=5, repeats=3, seed=0),
    metric="auroc",
    version=1,
    access=Access(
        home="https://web.inf.ufpr.br/vri/databases/breast-cancer-histopathological-database-breakhis/",
        licence="CC BY 4.0",
        citation=(
            "Spanhol, Oliveira, Petitjean, Heutte. A dataset for breast cancer histopathological image classification. "
            "IEEE Transactions on Biomedical Engineering 63(7):1455-1462, 2016. doi:10.1109/TBME.2015.2496264"
        ),
        steps=(
            "Download BreaKHis_v1.tar.gz from the laboratory's page",
            f"Unpack it under DATA, so that DATA/{ANCHOR}/histology_slides exists",
        ),
        redistributable=True,
    ),
    scan=scan,
    read=read,
    policy=files.POLICIES["crop"],
    images=f"breakhis {MAGNIFICATION}X 1",
    expected=2_081,
)
