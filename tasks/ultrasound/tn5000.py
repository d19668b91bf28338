"""TN5000: benign or malignant thyroid nodule, by biopsy.

What        B-mode stills of the thyroid, one nodule each, with its box
Who         Cancer Hospital of the Chinese Academy of Medical Sciences, Beijing; GE Logiq E9 and S7; patients not stated
Counts      5,000 images: benign 1,428, malignant 3,572; JPEG, four of five 718 x 500
Licence     CC BY 4.0
Access      figshare; the folder is `TN5000_forReview`, which some unzip programs put into another of that name
Split       published, at random by image: train 3,500 (benign 1,032), val 500 (127), test 1,000 (269). Copies cross it:
            `tn5000` removes them from train and val; `tn5000_published`, on request, keeps the split as it is
Group       image, exact copies and near-duplicates together: no patient ids are released. Not known to be independent
Traps       the classes are called 0 and 1; scanner text and callipers are burned in. Copies: by a third party's count,
            245 files are byte-identical copies in 119 groups, and 44 pairs of copies straddle test and the other parts;
            no other release is known to us
Published   with the leak: Swin-T AUC 0.937, accuracy 85.6; macro F1 of linear probes: DINOv3 67.5, I-JEPA 68.9, URFM
            77.4, US-JEPA 73.1 (arXiv:2602.19322)
"""

from functools import partial
from pathlib import Path

import numpy as np

from tasks.base import Access, DataError, Download, Fixed, Sample, Task, as_published
from tasks.reading import decoding, layout, tables

ANCHOR = "TN5000_forReview"
CLASSES = ("benign", "malignant")
NAMES = ("0", "1")  # of the classes, in the annotations
SPLITS = ("train", "val", "test")


def scan(data: Path) -> list[Sample]:
    top = layout.find_top(data, ANCHOR, "tn5000")
    listed = _listed(layout.subfolder(top, "ImageSets", "Main"))
    found = {path.stem: path for path in layout.list_images(layout.subfolder(top, "JPEGImages"))}
    names = layout.match_listed(listed, found, "train.txt, val.txt or test.txt")
    annotations = layout.subfolder(top, "Annotations")
    paths = [found[name] for name in names]
    labels = [_label(annotations / f"{name}.xml") for name in names]
    return layout.samples(top, paths, labels, splits=[listed[name] for name in names], join_copies=True)


def _listed(folder: Path) -> dict[str, str]:
    """Image name without its suffix -> split, from the authors' lists."""
    listed: dict[str, str] = {}
    for split in SPLITS:
        path = folder / f"{split}.txt"
        names = tables.read_words(path)
        if not names:
            raise DataError(f"{path}: empty or not there; unpack the dataset again, with its three lists")
        for name in names:
            if name in listed:
                raise DataError(f"{path}: {name!r} is also in {listed[name]}.txt; restore the authors' lists")
            listed[name] = split
    return listed


def _root(path: Path):
    """A Pascal VOC annotation."""
    from defusedxml.ElementTree import parse

    try:
        return parse(path).getroot()
    except (OSError, SyntaxError, ValueError, LookupError) as error:
        raise DataError(
            f"{path}: unreadable annotation ({type(error).__name__}: {error}); unpack the dataset again"
        ) from error


def _label(path: Path) -> int:
    """The class of an image's only nodule."""
    names = [nodule.findtext("name", "").strip() for nodule in _root(path).findall("object")]
    if len(names) != 1 or names[0] not in NAMES:
        raise DataError(
            f"{path}: looked for one object called 0 (benign) or 1 (malignant), found {names or 'none'}; "
            "unpack the dataset again"
        )
    return NAMES.index(names[0])


def mask(data: Path, sample: Sample, pixels: int) -> np.ndarray:
    """The box of an image's nodule, filled."""
    image = layout.image_path(data, sample, top=ANCHOR, task="tn5000")
    path = image.parent.parent / "Annotations" / f"{image.stem}.xml"
    box = _root(path).find("object/bndbox")
    try:
        corners = [float(box.findtext(name)) for name in ("xmin", "ymin", "xmax", "ymax")]
    except (AttributeError, TypeError, ValueError) as error:
        raise DataError(f"{path}: no box of four numbers ({error}); unpack the dataset again") from error
    return decoding.fill_boxes(decoding.decode(image).shape[:2], [corners])


TASK = Task(
    name="tn5000",
    modality="ultrasound",
    title="TN5000 thyroid nodules",
    question="Is the thyroid nodule in this ultrasound image benign or malignant?",
    classes=CLASSES,
    group_kind="near-duplicate cluster (no patient ids are released)",
    protocol=Fixed(published=True, crossing="remove"),
    metric="auroc",
    version=1,
    access=Access(
        home="https://doi.org/10.6084/m9.figshare.28455641",
        licence="CC BY 4.0",
        citation=(
            "Zhang, Liu, Han, Niu, Sun. TN5000: an ultrasound image dataset for thyroid nodule detection and "
            "classification. Scientific Data 12:1437, 2025. doi:10.1038/s41597-025-05757-4"
        ),
        steps=(
            f"Download {ANCHOR}.zip from figshare",
            f"Unpack it under DATA, so that DATA/{ANCHOR}/JPEGImages (or DATA/{ANCHOR}/{ANCHOR}/JPEGImages) exists",
        ),
        downloads=(Download(url="https://ndownloader.figshare.com/files/52597376", name=f"{ANCHOR}.zip", unpack=True),),
        redistributable=True,
    ),
    scan=scan,
    read=partial(layout.read_image, top=ANCHOR, task="tn5000"),
    mask=mask,
    policy="pad",
    images="tn5000 1",
    family="tn5000",
    independent=False,
    expected=5_000,
    counts={
        "train": {"benign": 1_032, "malignant": 2_468},
        "val": {"benign": 127, "malignant": 373},
        "test": {"benign": 269, "malignant": 731},
    },
    near=True,
)

TASKS = (
    TASK,
    as_published(TASK, "TN5000 thyroid nodules, split as published (copies cross it)"),
)
