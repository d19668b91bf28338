"""IDC: invasive ductal carcinoma or none, in small patches of breast tissue, by patient.

What        H&E patches cut from whole-slide images of breast cancer at 40x, 50 x 50 RGB PNG; those that the slide's
            edge cut off, down to a single row, are completed with white here
Who         279 patients by the folders of the release; the paper describes 162 women, a slide each, of the Hospital of
            the University of Pennsylvania and The Cancer Institute of New Jersey. Why there are more is not stated
Counts      277,524 patches: 198,738 without and 78,786 with invasive ductal carcinoma
Licence     CC0 (public domain) by its Kaggle page
Access      andrewjanowczyk.com, use case 6, or its Kaggle mirror; the folder is `IDC_regular_ps50_idx5`
Split       the paper's 113 slides to train and 49 to test are not named in the release; cut here once by patient into a
            half that encoders may be pretrained on and a half that is probed by five grouped folds, three times
Group       patient, as the release calls them: the folder, and the first part of the file name. Patches of one are
            neighbours in a slide, so they count as one; that no woman has two folders is not stated. Independent
Traps       the label is the patch's place in a pathologist's outline, so patches at its border are noisy; the name says
            the class as the folder does. Copies: the Kaggle mirror holds the whole tree a second time, in a folder
            `IDC_regular_ps50_idx5` within itself, and is read once; no other release is known to us
Published   F1 .765 on 50,000 patches (Janowczyk and Madabhushi, J Pathol Inform 7:29, 2016), of a network trained with
            labels and with another split
"""

import re
from pathlib import Path

import numpy as np

from tasks.base import Access, DataError, Folds, Sample, Task
from tasks.reading import decoding, folders, layout

ANCHOR = "IDC_regular_ps50_idx5"
CLASSES = ("no carcinoma", "invasive ductal carcinoma")
NAME = re.compile(r"(?P<patient>\d+)_idx5_x\d+_y\d+_class(?P<label>[01])\.png", re.IGNORECASE)
PATIENT = re.compile(r"\d+")
SIDE = 50  # pixels of a whole patch


def scan(data: Path) -> list[Sample]:
    top = layout.find_top(data, ANCHOR, "idc")
    paths, patients, labels = [], [], []
    for folder in folders.subfolders(top):
        if not PATIENT.fullmatch(folder.name):
            raise DataError(f"{folder}: no patient's number; remove what the dataset's authors did not put there")
        there = [path for path in layout.list_entries(folder) if path.name in ("0", "1")]
        if not there:
            raise DataError(f"{folder}: no folder '0' or '1' of patches; unpack the dataset again")
        for place in there:
            for path, match in layout.match_names(
                layout.list_images(place), NAME, example="10253_idx5_x1001_y751_class0.png"
            ):
                if (match["patient"], match["label"]) != (folder.name, place.name):
                    raise DataError(
                        f"{path}: the name says patient {match['patient']} and class {match['label']}, its folders "
                        "do not; unpack the dataset again"
                    )
                paths.append(path)
                patients.append(folder.name)
                labels.append(int(place.name))
    if not paths:
        raise DataError(f"{top}: no patches like '10253/0/10253_idx5_x1001_y751_class0.png'; unpack the dataset again")
    return layout.samples(top, paths, labels, patients)


def read(data: Path, sample: Sample, pixels: int) -> np.ndarray:
    """A patch; what the slide's edge cut off is white, so that all are of one scale."""
    patch = decoding.decode(layout.image_path(data, sample, top=ANCHOR, task="idc"), least=1)
    missing = [max(0, SIDE - side) for side in patch.shape[:2]]
    return np.pad(patch, [*((0, more) for more in missing), (0, 0)], constant_values=255)


TASK = Task(
    name="idc",
    modality="histo",
    title="IDC breast carcinoma patches",
    question="Does this patch of breast tissue show invasive ductal carcinoma?",
    classes=CLASSES,
    group_kind="patient",
    protocol=Folds(k=5, repeats=3, seed=0, halved=True),
    metric="auroc",
    version=1,
    access=Access(
        home="https://andrewjanowczyk.com/use-case-6-invasive-ductal-carcinoma-idc-segmentation/",
        licence="CC0 (public domain), as its Kaggle page states",
        citation=(
            "Cruz-Roa et al. Automatic detection of invasive ductal carcinoma in whole slide images with convolutional "
            "neural networks. Proc. SPIE 9041:904103, 2014. doi:10.1117/12.2043872; Janowczyk, Madabhushi. Journal of "
            "Pathology Informatics 7:29, 2016. doi:10.4103/2153-3539.186902"
        ),
        steps=(
            "Download IDC_regular_ps50_idx5.zip from the author's page, or the Kaggle mirror "
            "paultimothymooney/breast-histopathology-images",
            f"Unpack it under DATA into a folder {ANCHOR}, so that DATA/{ANCHOR}/10253/0 exists",
        ),
        redistributable=True,
    ),
    scan=scan,
    read=read,
    policy="crop",
    images="idc 1",
    family="idc",
    independent=True,
    side=50,
    expected=277_524,
    counts={"": {"no carcinoma": 198_738, "invasive ductal carcinoma": 78_786}},
)
