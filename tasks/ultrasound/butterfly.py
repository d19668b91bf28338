"""Butterfly, the MIT Grand Hack 2018 images: which of nine regions or heart views is scanned.

What        B-mode frames of a hand-held scanner, grey PNG of about 436 x 512
Who         31 patients by the folders, not described; Butterfly Network, 2018; Butterfly iQ
Counts      41,076 images: 34,325 of patients 1 to 25 to train, 6,751 of patients 26 to 31 to test (2ch 585, 4ch 692,
            bladder 665, carotid 674, ivc 737, lungs 1,044, morisons_pouch 646, plax 888, thyroid 820)
Licence     for the MIT Grand Hack 2018 alone; any other use, and publishing an image, needs the owner's written consent
Access      github.com/ButterflyNetwork/MITGrandHack2018, release v.0.0.1: three archives, fetched by hand
Split       the owner's, by patient: folders `training1` and `training2` against `test`. The part for choosing is cut
            from the training patients
Group       patient: the folder's number. Independent
Traps       frames of a patient and view are near-copies, so no split inside a patient means anything; one folder may
            hold every file of the three archives under any name, and the owner's page draws `training` for both parts;
            the class order differs between the owner's code and UltraBench, so here it is alphabetical; 31 patients
            give wide intervals, however many images there are. Copies: the release also holds a
            `butterfly_mini_dataset`, which is not read; no other release is known to us
Published   macro F1 on this test part, linear probe: DINOv3 91.7 ± 0.4, US-JEPA 90.8 ± 0.3, USFM 92.4 ± 0.3 %
            (Radhachandran et al., arXiv:2602.19322, 2026); always "lungs" gives 3.0 %
"""

import functools
from pathlib import Path

import numpy as np

from tasks.base import Access, DataError, Fixed, Sample, Task
from tasks.reading import checksums, decoding, folders, layout

CLASSES = ("2ch", "4ch", "bladder", "carotid", "ivc", "lungs", "morisons_pouch", "plax", "thyroid")


def scan(data: Path) -> list[Sample]:
    top = _top(data)
    samples = []
    training = [part for part in folders.subfolders(top) if part.name.startswith("training")]
    for part in (*training, layout.subfolder(top, "test")):
        split = "test" if part.name == "test" else "train"
        for folder in (inner for patient in folders.subfolders(part) for inner in folders.subfolders(patient)):
            if folder.name not in CLASSES:
                raise DataError(f"{folder}: no such class; known: {', '.join(CLASSES)}; remove what is not the owner's")
        paths = layout.list_images(part, recursive=True)
        for path, id, digest in zip(paths, layout.sample_ids(part, paths), checksums.hash_files(paths), strict=True):
            patient, name = _place(path, part)
            samples.append(Sample(id, CLASSES.index(name), patient, digest, split))
    if not samples:
        raise DataError(f"{top}: no images like 'training1/1/carotid/000.png'; unpack the three archives again")
    return sorted(samples)


def _place(path: Path, part: Path) -> tuple[str, str]:
    """An image's patient and class: the two folders that it lies in."""
    *above, _ = path.relative_to(part).parts
    if len(above) != 2:
        raise DataError(
            f"{path}: not in {part.name}/<patient>/<class>; unpack it again, or remove what is not the owner's"
        )
    return above[0], above[1]


def read(data: Path, sample: Sample, pixels: int) -> np.ndarray:
    return decoding.decode(_top(data) / sample.id)


@functools.cache  # `read` asks for every image
def _top(data: Path) -> Path:
    """The folder of the parts, which has no name of its own."""

    def match(folder: Path) -> list[Path]:
        return [folder] if any(path.name in CLASSES for path in folder.glob("training*/*/*/")) else []

    return layout.find_one(data, "folder with training1/<patient>/<class>", "butterfly", match)


TASK = Task(
    name="butterfly",
    modality="ultrasound",
    title="Butterfly body regions",
    question="Which of nine body regions or heart views does this ultrasound image show?",
    classes=CLASSES,
    group_kind="patient",
    protocol=Fixed(published=True),
    metric="macro_f1",
    version=2,
    access=Access(
        home="https://github.com/ButterflyNetwork/MITGrandHack2018",
        licence="for the MIT Grand Hack 2018 alone; no other use and no re-publication without written permission",
        citation="Butterfly Network. Butterfly iQ ultrasound images, MIT Grand Hack 2018. GitHub release v.0.0.1, 2018",
        steps=(
            "Read the owner's terms: without written permission the images serve the MIT Grand Hack 2018 alone",
            "Download butterfly_dataset_training1.tar.gz, ..._training2.tar.gz and ..._test.tar.gz from the release",
            "Unpack them into one folder under DATA, so that DATA/butterfly/training1/1 and DATA/butterfly/test exist",
        ),
    ),
    scan=scan,
    read=read,
    policy="pad",
    images="butterfly 1",
    family="butterfly",
    independent=True,
    expected=41_076,
    counts={
        "train": {},  # 34,325 images; by class not stated
        "test": dict(zip(CLASSES, (585, 692, 665, 674, 737, 1_044, 646, 888, 820), strict=True)),
    },
)
