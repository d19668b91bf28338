"""GBCU, Gallbladder Cancer Ultrasound: normal, benign or malignant gallbladder.

What        B-mode stills of the abdomen with boxes around the gallbladder and its lesions; whole images are classified,
            a dense probe looks for the gallbladder (`nml` or `abn`)
Who         218 patients (normal 71, benign 100, malignant 47); PGIMER, Chandigarh
Counts      1,255 images: normal 432, benign 558, malignant 265; JPEG, about 1180 x 840, sides vary
Licence     the GBCU licence agreement: no redistribution, change or commercial use without written approval
Access      by a form for permanent staff (students through a supervisor); the folder is `GBCU-Shared`
Split       published: train 1,133 (401, 509, 223), test 122 (31, 49, 42); val is cut here from train
Group       image, near-duplicates together: no patient ids are released. The authors state that train and test share no
            patient; the cut between train and val cannot be controlled for patients. Not known to be independent
Traps       the class stands in the lists alone, not in the names; the authors' reader keeps OpenCV's channel order and
            crops to a predicted region; their loader of whole images is named after BUSI, another dataset. Copies:
            whether the same group's videos, GBUSV, show these patients is not stated; no other release is known to us
Published   macro F1 of linear probes, whole images: DINOv3 61.7, I-JEPA 53.7, USFM 67.4, US-JEPA 67.0 (its val is an
            image-level tenth of train; arXiv:2602.19322)
"""

import functools
import json
import re
from functools import partial
from pathlib import Path

import numpy as np

from tasks.base import Access, DataError, Fixed, Sample, Task
from tasks.reading import decoding, folders, layout, tables

ANCHOR = "GBCU-Shared"
CLASSES = ("normal", "benign", "malignant")  # 0, 1, 2 in the lists
BOXES, GALLBLADDER = "bbox_annot.json", ("nml", "abn")
LINE = re.compile(r"(?P<name>im\d{5}\.jpe?g),(?P<label>[012])", re.IGNORECASE)


def scan(data: Path) -> list[Sample]:
    top = layout.find_top(data, ANCHOR, "gbcu")
    listed = _listed(top)
    found = {path.name: path for path in layout.list_images(layout.subfolder(top, "imgs"))}
    names = layout.match_listed(listed, found, "train.txt or test.txt")
    _check_boxes(top / BOXES, listed)
    paths = [found[name] for name in names]
    labels, splits = zip(*(listed[name] for name in names), strict=True)
    return layout.samples(top, paths, labels, splits=splits)


def _listed(top: Path) -> dict[str, tuple[int, str]]:
    """Image name -> label and split, from the authors' lists."""
    listed = {}
    for split in ("train", "test"):
        path = top / f"{split}.txt"
        lines = tables.read_words(path)
        if not lines:
            raise DataError(f"{path}: empty or not there; unpack the dataset again, with both lists")
        for line in lines:
            match = LINE.fullmatch(line)
            if match is None:
                raise DataError(f"{path}: {line!r} is not like 'im00049.jpg,0'; restore the authors' list")
            if match["name"] in listed:
                raise DataError(f"{path}: {match['name']} is listed a second time; restore the authors' lists")
            listed[match["name"]] = int(match["label"]), split
    return listed


@functools.lru_cache(maxsize=1)
def _boxes(path: Path, written: int) -> dict[str, list[tuple[str, list[float]]]]:
    """Image name -> (kind, corners) of its boxes; `written`, when the file was, keeps the cache true."""
    try:
        listed = {
            name: [(kind, corners) for kind, corners in of["bbs"]] for name, of in json.loads(path.read_bytes()).items()
        }
        if any(len(corners) != 4 for boxes in listed.values() for _, corners in boxes):
            raise ValueError("a box without four corners")
    except (AttributeError, LookupError, OSError, RecursionError, TypeError, ValueError) as error:
        raise DataError(f"{path}: not the authors' boxes ({type(error).__name__}: {error}); unpack it again") from error
    return listed


def _check_boxes(path: Path, listed: dict[str, tuple[int, str]]) -> None:
    """Refuse boxes that leave out a listed image or contradict its label. The file may be missing."""
    if not folders.is_file(path):
        return
    kinds = {name: {kind for kind, _ in boxes} for name, boxes in _boxes(path, path.stat().st_mtime_ns).items()}
    if absent := sorted(listed.keys() - kinds.keys()):
        raise DataError(
            f"{path}: no boxes for {absent[0]}, which train.txt or test.txt lists ({len(absent)} such images); "
            "restore the authors' files"
        )
    for name, (label, split) in listed.items():
        wrong = "nml" if label else "abn"  # region of a normal, and of any other gallbladder
        if wrong in kinds[name]:
            raise DataError(
                f"{path}: {name} has a box {wrong!r}, but {split}.txt calls it {CLASSES[label]}; "
                "restore the authors' files"
            )


def mask(data: Path, sample: Sample, pixels: int) -> np.ndarray:
    """The boxes around an image's gallbladder, filled."""
    image = layout.image_path(data, sample, top=ANCHOR, task="gbcu")
    path = image.parent.parent / BOXES
    if not folders.is_file(path):
        raise DataError(f"{path}: not there, and it holds the boxes; unpack the dataset again")
    boxes = _boxes(path, path.stat().st_mtime_ns)[image.name]
    corners = [corners for kind, corners in boxes if kind in GALLBLADDER]
    return decoding.fill_boxes(decoding.decode(image).shape[:2], corners)


TASK = Task(
    name="gbcu",
    modality="ultrasound",
    title="GBCU gallbladder cancer",
    question="Does this abdominal ultrasound image show a normal gallbladder, a benign lesion, or a malignant one?",
    classes=CLASSES,
    group_kind="near-duplicate cluster (no patient ids are released)",
    protocol=Fixed(published=True, crossing="remove"),
    metric="macro_f1",
    version=2,
    access=Access(
        home="https://gbc-iitd.github.io/data/gbcu",
        licence="GBCU licence agreement: research use, no redistribution without written approval",
        citation=(
            "Basu, Gupta, Rana, Gupta, Arora. Surpassing the human accuracy: detecting gallbladder cancer from USG "
            "images with curriculum learning. CVPR 2022:20886-20896. doi:10.1109/CVPR52688.2022.02022"
        ),
        steps=(
            "Fill in the application form on the owners' page (permanent staff; students through a supervisor)",
            "Download the archive from the link that the owners send",
            f"Unpack it under DATA, so that DATA/{ANCHOR}/imgs, train.txt and test.txt beside it, exist",
        ),
    ),
    scan=scan,
    read=partial(layout.read_image, top=ANCHOR, task="gbcu"),
    mask=mask,
    policy="pad",
    images="gbcu 1",
    family="gbcu",
    independent=False,
    expected=1_255,
    counts={
        "train": {"normal": 401, "benign": 509, "malignant": 223},
        "test": {"normal": 31, "benign": 49, "malignant": 42},
    },
    near=True,
)
