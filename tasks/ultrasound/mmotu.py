"""MMOTU, Multi-Modality Ovarian Tumor Ultrasound (2-D part): seven ovarian tumours, or a normal ovary.

What        stills of the ovary, B-mode and (216 by a reader's count) colour Doppler, with outlines of the tumour, or of
            the ovary where it is normal. The contrast-enhanced part, `OTU_CEUS`, is not used
Who         Beijing Shijitan Hospital, Capital Medical University; the release does not say of how many patients
Counts      1,469 JPEG: 1,000 train, 469 test; by two readers of the lists chocolate cyst 226 and 110, serous
            cystadenoma 153 and 66, teratoma 228 and 108, theca cell tumour 57 and 31, simple cyst 47 and 19, normal
            ovary 180 and 87, mucinous cystadenoma 71 and 33, high-grade serous cystadenocarcinoma 38 and 15
Licence     none stated by the authors; copies on figshare and Zenodo say CC BY 4.0
Access      the link in the authors' repository; the folder is `OTU_2d`
Split       the authors': `train.txt` 1,000, `val.txt` 469, which is used here, as by UltraBench and US-JEPA, to test;
            the part for choosing is cut from the first
Group       image, exact copies and near-duplicates together: no patient ids are released. UltraBench says that the
            split keeps patients apart, which cannot be checked. Not known to be independent
Traps       the lists of classes end every name with `.JPG`, those of names do not; classes are numbered from 0 in the
            order below, in the coloured outlines background comes before them; a normal ovary has an outline, too, so
            none is empty (a reader looked at 120 of 267). Copies: figshare record 25058690 and Zenodo record 21128657
            hold the images in other folders; OpenUS-46 (USF-MAE) has them among its own
Published   macro F1, linear probe: DINOv3 37.2 ± 0.6, I-JEPA 35.3 ± 0.6, URFM 42.7 ± 0.4, US-JEPA 52.2 ± 0.2 % on these
            469 images (Radhachandran et al., arXiv:2602.19322, 2026); always "chocolate cyst" gives 4.7 %. USF-MAE held
            it out of its final pretraining
"""

import re
from functools import partial
from pathlib import Path

import numpy as np

from tasks.base import Access, DataError, Fixed, Sample, Task
from tasks.reading import decoding, folders, layout, tables

ANCHOR = "OTU_2d"
CLASSES = (
    "chocolate cyst",
    "serous cystadenoma",
    "teratoma",
    "theca cell tumour",
    "simple cyst",
    "normal ovary",
    "mucinous cystadenoma",
    "high-grade serous cystadenocarcinoma",
)
COLOURS = (  # of the outlines, in the order of the classes
    *((64, 0, 0), (0, 64, 0), (0, 0, 64), (64, 0, 64), (64, 64, 0), (64, 64, 64), (0, 128, 0), (0, 0, 128)),
)
SPLITS = {"train": "train", "val": "test"}  # the authors' lists -> the part
NAME = re.compile(r"\d+\.jpe?g", re.IGNORECASE)
ROW = re.compile(r"(?P<stem>\d+)\.jpe?g\s+(?P<label>[0-7])", re.IGNORECASE)


def scan(data: Path) -> list[Sample]:
    top = layout.find_top(data, ANCHOR, "mmotu")
    listed = {}
    for split in SPLITS:
        for stem, label in _listed(top, split).items():
            if stem in listed:
                raise DataError(f"{top / split}_cls.txt: {stem} is in both lists; restore the authors' lists")
            listed[stem] = SPLITS[split], label
    images = layout.list_images(layout.subfolder(top, "images"))
    found = {path.stem: path for path, _ in layout.match_names(images, NAME, example="1.JPG")}
    stems = layout.match_listed(listed, found, "train_cls.txt or val_cls.txt")
    paths = [found[stem] for stem in stems]
    sides, labels = zip(*(listed[stem] for stem in stems), strict=True)
    return layout.samples(top, paths, labels, splits=sides, join_copies=True)


def mask(data: Path, sample: Sample, pixels: int) -> np.ndarray:
    """Where the image has a tumour of any class; in a normal ovary, where that is."""
    image = layout.image_path(data, sample, top=ANCHOR, task="mmotu")
    folder = image.parent.parent / "annotations"
    binary = folder / f"{image.stem}_binary.PNG"
    if folders.is_file(binary):
        return decoding.decode_mask(binary)
    coloured = decoding.decode(folder / f"{image.stem}.PNG")
    return np.any([(coloured == colour).all(axis=2) for colour in COLOURS], axis=0)


def _listed(top: Path, split: str) -> dict[str, int]:
    """Image name without its suffix -> class, from `<split>_cls.txt`, which must name the images of `<split>.txt`."""
    path = top / f"{split}_cls.txt"
    lines = [line.strip() for line in _text(path).splitlines() if line.strip()]
    rows = [ROW.fullmatch(line) for line in lines]
    if not rows or None in rows:
        wrong = repr(lines[rows.index(None)]) if rows else "nothing"
        raise DataError(f"{path}: found {wrong}, looked for rows like '1.JPG  2'; restore the authors' lists")
    labels = {row["stem"]: int(row["label"]) for row in rows}
    names = {Path(name).stem for name in tables.read_words(top / f"{split}.txt")}
    if len(labels) < len(rows) or (names and names != set(labels)):
        strange = sorted(names ^ set(labels)) or ["a name twice"]
        raise DataError(
            f"{path}: {len(rows)} rows, but {split}.txt has {len(names)} names; they differ in {strange[0]}; "
            "restore the authors' lists"
        )
    return labels


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error}); unpack the dataset again, with its lists") from error


TASK = Task(
    name="mmotu",
    modality="ultrasound",
    title="MMOTU ovarian tumours",
    question="Which of seven ovarian tumours does this ultrasound image show, if any?",
    classes=CLASSES,
    group_kind="near-duplicate cluster (no patient ids are released)",
    protocol=Fixed(published=True, crossing="remove"),
    near=True,
    metric="macro_f1",
    version=1,
    access=Access(
        home="https://github.com/cv516Buaa/MMOTU_DS2Net",
        licence="not stated by the authors; copies on figshare and Zenodo say CC BY 4.0",
        citation=(
            "Zhao et al. A Multi-Modality Ovarian Tumor Ultrasound Image Dataset for Unsupervised Cross-Domain "
            "Semantic Segmentation. arXiv:2207.06799, 2022"
        ),
        steps=(
            "Download MMOTU from the link in the authors' repository",
            f"Unpack it under DATA, so that DATA/{ANCHOR}/images and DATA/{ANCHOR}/train_cls.txt exist",
        ),
    ),
    scan=scan,
    read=partial(layout.read_image, top=ANCHOR, task="mmotu"),
    mask=mask,
    policy="pad",
    images="mmotu 1",
    family="mmotu",
    independent=False,
    expected=1_469,
    counts={
        split: dict(zip(CLASSES, counts, strict=True))
        for split, counts in (
            ("train", (226, 153, 228, 57, 47, 180, 71, 38)),
            ("test", (110, 66, 108, 31, 19, 87, 33, 15)),
        )
    },
)
