"""BUSI, Dataset of Breast Ultrasound Images: benign lesion, malignant lesion, or normal breast.

What        B-mode stills of the breast with lesion outlines (of several lesions, all together; none in a normal breast)
Who         600 women aged 25 to 75; Baheya Hospital, Cairo, 2018; GE LOGIQ E9 and E9 Agile
Counts      780 images: benign 437, malignant 210, normal 133; RGB PNG, about 500 x 500, sides vary
Licence     not stated by the owner's page; one mirror says CC BY 4.0, another "other"
Access      the owner's page, or its Kaggle mirror; the folder is `Dataset_BUSI_with_GT`
Split       none published; cut here by groups, 60/20/20
Group       no patient ids exist: near-duplicate clusters found by `tasks.duplicates`, joined with those of a
            `groups.csv` (columns file, neardup_group) beside the folder if there is one. Not known to be independent
Traps       names hold spaces and parentheses; second masks `_mask_1`; burned-in callipers and text; axilla views.
            Copies: near-duplicates within it, some across two classes; one image is filed both as benign (433) and as
            malignant (145); there are mirrors on Kaggle and at MathWorks; US-JEPA has the images among its own, the
            PRECISE-ABreast challenge under names of its own
Published   random splits without regard to duplicates (Pawlowska et al., Data in Brief 48:109247, 2023), so no figure
            is comparable
"""

import re
from functools import partial
from pathlib import Path

import numpy as np

from tasks.base import Access, DataError, Fixed, Sample, Task
from tasks.reading import decoding, layout

ANCHOR = "Dataset_BUSI_with_GT"
CLASSES = ("benign", "malignant", "normal")
NAME = re.compile(r"(benign|malignant|normal) \(\d+\)(?P<mask>_mask(_\d+)?)?\.png", re.IGNORECASE)


def scan(data: Path) -> list[Sample]:
    top = layout.find_top(data, ANCHOR, "busi")
    named = layout.images_by_class(top, CLASSES, NAME, example="benign (1).png")
    named = [(path, label) for path, label, match in named if not match["mask"]]
    if not named:
        raise DataError(f"{top}: masks alone, no images like 'benign/benign (1).png'; unpack the dataset again")
    paths, labels = zip(*named, strict=True)
    known = layout.read_groups(top, "neardup_group")
    groups = known and layout.look_up_groups(layout.sample_ids(top, paths), known, top.parent / "groups.csv")
    return layout.samples(top, paths, labels, groups, join_copies=True)


def mask(data: Path, sample: Sample, pixels: int) -> np.ndarray:
    """The outlines of an image's lesions, as one. Raises DataError where there is none."""
    image = layout.image_path(data, sample, top=ANCHOR, task="busi")
    outlines = [path for path in sorted(image.parent.glob("*.png")) if path.stem.startswith(f"{image.stem}_mask")]
    if not outlines:
        raise DataError(f"{image.parent / image.stem}_mask.png: not there; unpack the dataset again")
    return np.any([decoding.decode_mask(path) for path in outlines], axis=0)


TASK = Task(
    name="busi",
    modality="ultrasound",
    title="BUSI breast lesions",
    question="Does this breast ultrasound image show a benign lesion, a malignant lesion, or no lesion?",
    classes=CLASSES,
    group_kind="near-duplicate cluster (no patient ids exist)",
    protocol=Fixed(published=False, seed=0),
    near=True,
    metric="auroc",
    version=3,
    access=Access(
        home="https://scholar.cu.edu.eg/?q=afahmy/pages/dataset",
        licence="not stated by the owner; one mirror says CC BY 4.0",
        citation=(
            "Al-Dhabyani, Gomaa, Khaled, Fahmy. Dataset of breast ultrasound images. Data in Brief 28:104863, 2020. "
            "doi:10.1016/j.dib.2019.104863"
        ),
        steps=(
            "Download the archive from the owner's page or its Kaggle mirror",
            f"Unpack it under DATA, so that DATA/{ANCHOR}/benign exists",
            "Optional: put groups.csv (columns file, neardup_group) beside that folder",
        ),
    ),
    scan=scan,
    read=partial(layout.read_image, top=ANCHOR, task="busi"),
    mask=mask,
    policy="pad",
    images="busi 1",
    family="busi",
    independent=False,
    side=500,
    expected=780,
    counts={"": {"benign": 437, "malignant": 210, "normal": 133}},
)
