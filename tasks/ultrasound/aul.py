"""AUL, Annotated Ultrasound Liver images: no mass, benign mass or malignant mass.

What        B-mode stills of the liver, with polygons of scan area, liver and mass (not used here)
Who         735 patients, one image each, released from a study of 11,468; scanners and years are not stated
Counts      735 images: normal 100, benign 200, malignant 435; grey and RGB JPEG, width 440 to 1388, height 341 to 910
Licence     CC BY 4.0, as a catalogue of datasets reads the record, which asks users to contact and credit the authors
Access      zenodo.org/records/7272660, three archives: the folders `Benign`, `Malignant`, `Normal` in any one folder
Split       none by the authors. UltraBench's test ids are used here: 147 images (20 / 40 / 87), chosen by a stratified
            draw; the part for choosing is cut from the other 588
Group       patient: the image, since each is described as another patient's (no ids are released to check it).
            Independent
Traps       numbers restart in every class, so Benign/1 is not Malignant/1; outlines 229 and 306 of Malignant hold the
            liver, and its liver files 229, 306 and 374 are missing; some images carry yellow marks and text; the
            archives bring a `__MACOSX` folder. Copies: OpenUS-46 (USF-MAE) has the images among its own; no other
            release is known to us
Published   macro F1 on 147 test images, linear probe: DINOv3 64.3 ± 0.6, USFM 61.6 ± 1.2, US-JEPA 69.6 ± 1.5, URFM 71.5
            ± 1.1 % (Radhachandran et al., arXiv:2602.19322, 2026); always "Malignant" gives 24.8 %. AUL is part of
            USF-MAE's pretraining images
"""

import functools
import re
from pathlib import Path

import numpy as np

from tasks.base import Access, DataError, Download, Fixed, Sample, Task
from tasks.reading import checksums, decoding, layout

CLASSES = ("Normal", "Benign", "Malignant")
NAME = re.compile(r"[1-9]\d*\.jpe?g", re.IGNORECASE)
TEST = {  # the numbers of UltraBench's test images
    "Normal": "10 18 24 29 44 45 47 53 65 72 73 77 80 81 87 88 92 96 97 99",
    "Benign": (
        "4 5 14 17 27 37 41 46 56 58 60 63 64 65 71 72 73 76 78 85 92 105 112 116 121 132 136 137 141 142 147 156 165 "
        "167 176 179 181 186 192 195"
    ),
    "Malignant": (
        "4 6 7 11 12 23 25 28 31 38 41 42 50 52 53 55 75 76 81 88 101 108 110 114 118 119 120 126 133 138 142 148 151 "
        "160 162 170 180 181 182 188 193 195 204 208 209 211 214 220 223 229 233 239 254 261 269 270 271 275 278 279 "
        "285 297 298 299 302 305 306 308 325 329 349 353 354 361 363 371 376 377 384 385 386 388 394 402 405 411 413"
    ),
}
CHECKSUMS = {  # as two readers of the record state them
    "Benign.zip": "md5:c37fef0cb2730236a79ef57e5315995e",
    "Malignant.zip": "md5:63894a9e5654a69c3b94bda84071dfb0",
    "Normal.zip": "md5:a7e16299b2cf12ca4a6c3468d2e4978f",
}


def scan(data: Path) -> list[Sample]:
    top = _top(data)
    samples = []
    for label, name in enumerate(CLASSES):
        paths = layout.list_images(top / name / "image")
        layout.match_names(paths, NAME, example="1.jpg")
        _check_outlines(top / name, {path.stem for path in paths})
        test = TEST[name].split()
        for id, path, digest in zip(
            layout.sample_ids(top / name, paths), paths, checksums.hash_files(paths), strict=True
        ):
            samples.append(Sample(id, label, id, digest, "test" if path.stem in test else "train"))
    if not samples:
        raise DataError(f"{top}: no images like 'Benign/image/1.jpg'; unpack the three archives again")
    return sorted(samples)


def read(data: Path, sample: Sample, pixels: int) -> np.ndarray:
    return decoding.decode(_top(data) / sample.id)


@functools.cache  # `read` asks for every image
def _top(data: Path) -> Path:
    """The folder of the three classes, which has no name of its own."""
    wanted = [f"{name}/image" for name in CLASSES]

    def match(folder: Path) -> list[Path]:
        return [folder] if folder.name != "__MACOSX" and all((folder / part).is_dir() for part in wanted) else []

    return layout.find_one(data, f"folder with {', '.join(wanted)}", "aul", match)


def _check_outlines(folder: Path, images: set[str]) -> None:
    """Every outline has its image. (Not every image has all its outlines.)"""
    place = folder
    for name in ("segmentation", "outline"):
        if place / name not in layout.list_entries(place):
            return
        place = place / name
    stems = [path.stem for path in layout.list_entries(place) if re.fullmatch(r"\d.*\.json", path.name)]
    missing = sorted((stem for stem in stems if stem not in images), key=lambda stem: (len(stem), stem))
    if missing:
        raise DataError(
            f"{folder / 'image' / missing[0]}.jpg: no such file, but segmentation/outline/{missing[0]}.json is there "
            f"({len(missing)} such images); unpack {folder.name}.zip again"
        )


TASK = Task(
    name="aul",
    modality="ultrasound",
    title="AUL liver masses",
    question="Does this liver ultrasound image show no mass, a benign mass, or a malignant mass?",
    classes=CLASSES,
    group_kind="patient (one image each)",
    protocol=Fixed(published=True),
    metric="macro_f1",
    version=2,
    access=Access(
        home="https://zenodo.org/records/7272660",
        licence="CC BY 4.0, as a catalogue reads the record; the authors ask to be contacted and credited",
        citation=(
            "Xu et al. Improving artificial intelligence pipeline for liver malignancy diagnosis using "
            "ultrasound images and video frames. Briefings in Bioinformatics 24(1):bbac569, 2023. "
            "doi:10.1093/bib/bbac569"
        ),
        steps=(
            "Download Benign.zip, Malignant.zip and Normal.zip from the record",
            "Unpack them into one folder under DATA, so that DATA/aul/Benign/image exists",
        ),
        downloads=tuple(
            Download(
                url=f"https://zenodo.org/records/7272660/files/{name}?download=1",
                name=name,
                checksum=checksum,
                unpack=True,
                into="aul",
            )
            for name, checksum in CHECKSUMS.items()
        ),
        redistributable=True,
    ),
    scan=scan,
    read=read,
    policy="pad",
    images="aul 1",
    family="aul",
    independent=True,
    side=714,  # the mean height, as UltraBench states it
    expected=735,
    counts={
        "train": {"Normal": 80, "Benign": 160, "Malignant": 348},
        "test": {"Normal": 20, "Benign": 40, "Malignant": 87},
    },
)
