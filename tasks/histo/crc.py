"""NCT-CRC-HE-100K and CRC-VAL-HE-7K: nine colorectal tissues, tested on other patients.

What        H&E tiles, 224 x 224 RGB TIFF at 0.5 um per pixel: adipose (ADI), background (BACK), debris (DEB),
            lymphocytes (LYM), mucus (MUC), smooth muscle (MUS), normal mucosa (NORM), stroma (STR), tumour (TUM)
Who         training: 86 slides by the record's text; test: 50 other patients; NCT Heidelberg and UMM Mannheim, 2018. Of
            UMM Mannheim and the same authors is Kather 2016 (`kather2016`): patients of both cannot be told apart
Counts      100,000 training and 7,180 test images
Licence     CC BY 4.0
Access      zenodo.org/records/1214456, fetched unattended; one folder each: `NCT-CRC-HE-100K`, `NCT-CRC-HE-100K-NONORM`
            (the same slides, other tiles, not colour-normalised), `CRC-VAL-HE-7K`
Split       train: the 100K, test: the 7K. `crc` trains on the colour-normalised 100K, `crc_nonorm` on the other. A val
            part is cut from train here, by image: it shares patients with train, so its scores flatter. No test part is
            cut from the 100K, for the same reason: with the 100K alone the task refuses
Group       image: no slide or patient of a tile is released, so the 7,180 test images are of 50 patients that cannot be
            told apart; the authors state that no patient is in both sets. Not known to be independent
Traps       the shortcuts are in the data: mean colour alone is above 50 % accuracy, a colour histogram above 82 %, and
            normalisation and JPEG artefacts differ by class (Ignatov and Malivenko, arXiv:2409.11546), so a probe near
            95 % proves little; some tiles are corrupted; `crc_nonorm` is tested on the colour-normalised 7K. Copies:
            the normalised 100K and `NONORM` are of the same slides; PathMNIST holds both sets reduced to 28 pixels
Published   accuracy 97.7 EfficientNet-B0, 98.3 an ensemble (Ignatov and Malivenko, trained on it); frozen encoders with
            a linear head, balanced accuracy: 0.93 to 0.97, ViT-S/16 0.94 (eva leaderboard: chosen and reported on the
            7K, trained on either 100K by version, so they are upper marks)
"""

import re
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from tasks.base import Access, DataError, Download, Fixed, NoData, Sample, Task
from tasks.reading import layout

NORMALISED, RAW, TEST = "NCT-CRC-HE-100K", "NCT-CRC-HE-100K-NONORM", "CRC-VAL-HE-7K"
CLASSES = ("ADI", "BACK", "DEB", "LYM", "MUC", "MUS", "NORM", "STR", "TUM")
NAME = re.compile(rf"(?P<tissue>{'|'.join(CLASSES)})-[A-Z]+\.tif", re.IGNORECASE)
RECORD = "https://zenodo.org/records/1214456"


def scan(data: Path, *, train: str, task: str) -> list[Sample]:
    top = layout.find_top(data, train, task)
    try:
        test = layout.find_top(data, TEST, task)
    except NoData as missing:
        raise DataError(
            f"{data}: {train} without {TEST}, the test part; none is cut from {train}, whose tiles name no patient, "
            f"so that one could be on both sides: put {TEST} (from {RECORD}) beside it, their folder being DATA"
        ) from missing
    return sorted(_samples(top, "train") + _samples(test, "test"))


def _samples(top: Path, split: str) -> list[Sample]:
    named = layout.images_by_class(top, CLASSES, NAME, example="ADI-AAAFLCLY.tif")
    for path, label, match in named:
        if match["tissue"].upper() != CLASSES[label]:
            raise DataError(
                f"{path}: the name says {match['tissue']!r}, the folder {CLASSES[label]!r}; unpack {top} again"
            )
    paths, labels, _ = zip(*named, strict=True)
    return layout.samples(top, paths, labels, splits=[split] * len(paths))


def read(data: Path, sample: Sample, pixels: int, *, task: str) -> np.ndarray:
    return layout.read_image(data, sample, pixels, top=sample.id.partition("/")[0], task=task)


def _archive(name: str, md5: str, size: int | None = None) -> Download:
    url = f"{RECORD}/files/{name}.zip?download=1"
    return Download(url=url, name=f"{name}.zip", checksum=f"md5:{md5}", bytes=size, unpack=True)


def _access(train: str, archive: Download) -> Access:
    test = _archive(TEST, "2fd1651b4f94ebd818ebf90ad2b6ce06", 800_276_929)
    return Access(
        home=RECORD,
        licence="CC BY 4.0",
        citation=(
            "Kather, Krisam, Charoentong, et al. Predicting survival from colorectal cancer histology slides using "
            "deep learning. PLOS Medicine 16(1):e1002730, 2019. doi:10.1371/journal.pmed.1002730. "
            "Data: Kather, Halama, Marx. doi:10.5281/zenodo.1214456"
        ),
        steps=(
            f"Download {train}.zip (11.7 GB) and {TEST}.zip (0.8 GB) from {RECORD}",
            f"Unpack both under DATA, so that DATA/{train}/ADI and DATA/{TEST}/ADI exist",
        ),
        downloads=(archive, test),
        redistributable=True,
    )


CRC = Task(
    name="crc",
    modality="histo",
    title="NCT-CRC-HE colorectal tissue",
    question="Which of nine colorectal tissues does this tile show?",
    classes=CLASSES,
    group_kind="image (no slide or patient is known)",
    protocol=Fixed(published=True, seed=0),
    metric="balanced_accuracy",
    version=2,
    access=_access(NORMALISED, _archive(NORMALISED, "6fd702d11df6292bc054397ae038a464", 11_690_284_003)),
    scan=partial(scan, train=NORMALISED, task="crc"),
    read=partial(read, task="crc"),
    policy="crop",
    images="crc 1",
    family="crc",
    independent=False,
    expected=107_180,
    counts={
        "train": dict(zip(CLASSES, (10407, 10566, 11512, 11557, 8896, 13536, 8763, 10446, 14317), strict=True)),
        "test": dict(zip(CLASSES, (1338, 847, 339, 634, 1035, 592, 741, 421, 1233), strict=True)),
    },
)
TASKS = (
    CRC,
    replace(
        CRC,
        name="crc_nonorm",
        title="NCT-CRC-HE colorectal tissue, trained without colour normalisation",
        access=_access(RAW, _archive(RAW, "035777cf327776a71a05c95da6d6325f")),
        scan=partial(scan, train=RAW, task="crc_nonorm"),
        read=partial(read, task="crc_nonorm"),
    ),
)
