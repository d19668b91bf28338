"""Fatty liver: hepatic steatosis or not, confirmed by biopsy, by patient.

What        B-mode frames of liver and right kidney, 434 x 636 grey, 0.373 mm a pixel; the kidney is on the image's left
Who         55 severely obese patients before bariatric surgery; Medical University of Warsaw; GE Vivid E9, 2.5 MHz
Counts      550 images, 10 consecutive frames a patient: normal 170 (17 patients), fatty 380 (38 patients)
Licence     CC BY 4.0
Access      Zenodo record 1009146: one MATLAB file
Split       none published by the authors; here five grouped folds, three times. `fatty_liver_ultrabench` is that of
            UltraBench: 11 test patients (30 and 80 images), val cut here from the other 44. It runs on request alone,
            because 11 patients cannot carry a comparison
Group       patient. Independent
Traps       the file is sorted by class, so a split by position tests one class; frames of a patient are near-copies, so
            a split by frame leaks; the paper calls fatty what has more than 5 % of its hepatocytes so, but in the file
            patient 49, with exactly 5 %, is fatty. Copies: six frames are exact copies of others of their patient; no
            other release is known to us
Published   AUC 0.977 leaving one patient out, frames averaged (Byra et al., 2018); macro F1 of linear probes on 110
            test images: DINOv3 55.8, I-JEPA 54.8, US-JEPA 82.5, and for three encoders 42.1, which is what always
            answering "fatty" gives on UltraBench's split (arXiv:2602.19322)
"""

import functools
import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np

from tasks.base import Access, DataError, Download, Fixed, Folds, Sample, Task
from tasks.reading import layout

FILE = "dataset_liver_bmodes_steatosis_assessment_IJCARS.mat"
MD5 = "md5:c87da28a498eae0f0874408c7ac92524"
CLASSES = ("normal", "fatty")  # 0, 1 in the file
ULTRABENCH_TEST = frozenset({3, 5, 12, 27, 31, 33, 34, 41, 44, 46, 47})  # patients


def scan(data: Path, *, ultrabench: bool = False) -> list[Sample]:
    samples = []
    for patient, (label, frames) in _patients(data).items():
        side = "test" if patient in ULTRABENCH_TEST else "train"
        for number, frame in enumerate(frames):
            name, digest = f"{FILE}#{patient:02d}_{number:02d}", hashlib.sha256(frame.tobytes()).hexdigest()
            samples.append(Sample(name, label, f"{patient:02d}", digest, side if ultrabench else ""))
    return sorted(samples)


def read(data: Path, sample: Sample, pixels: int) -> np.ndarray:
    patient, number = map(int, sample.id.rpartition("#")[2].split("_"))
    _, frames = _patients(data)[patient]
    return np.repeat(frames[number][..., None], 3, axis=2)


def _patients(data: Path) -> dict[int, tuple[int, np.ndarray]]:
    """Patient -> label and frames, uint8 (frames, height, width)."""
    path = _file(data)
    return _load(path, path.stat().st_mtime_ns)


@functools.cache  # a missing file raises, and so is never remembered
def _file(data: Path) -> Path:
    return layout.find_one(data, f"file {FILE}", "fatty_liver", lambda folder: folder.glob(FILE))


@functools.lru_cache(maxsize=1)  # `read` asks for every frame; one file holds them all
def _load(path: Path, modified: int) -> dict[int, tuple[int, np.ndarray]]:
    from scipy.io import loadmat

    try:
        records = loadmat(path, variable_names=["data"])["data"].ravel()
        rows = [(_number(r["id"]), _number(r["class"]), np.asarray(r["images"])) for r in records]
    except Exception as error:  # scipy raises OSError, ValueError, KeyError, zlib.error, ... on bad files
        raise DataError(
            f"{path}: looked for a MATLAB 5 struct array `data` with fields id, class, fat, images; "
            f"{path.stat().st_size} bytes, {type(error).__name__}: {error}; fetch it again"
        ) from error
    patients: dict[int, tuple[int, np.ndarray]] = {}
    for patient, label, frames in rows:
        if patient in patients:
            raise DataError(f"{path}: patient {patient} is there twice; fetch it again")
        if label not in (0, 1):
            raise DataError(f"{path}: patient {patient} has class {label}, looked for 0 or 1; fetch it again")
        if frames.dtype != np.uint8 or frames.ndim != 3:
            raise DataError(
                f"{path}: the images of patient {patient} are {frames.dtype} {frames.shape}, "
                "looked for uint8 (frames, height, width); fetch it again"
            )
        patients[patient] = label, frames
    return patients


def _number(value: object) -> int:
    """A scalar of the file, which MATLAB stores as a 1 x 1 matrix of some number type."""
    return int(np.asarray(value).item())


TASK = Task(
    name="fatty_liver",
    modality="ultrasound",
    title="Fatty liver",
    question="Is this liver fatty by biopsy (hepatic steatosis)?",
    classes=CLASSES,
    group_kind="patient",
    protocol=Folds(k=5, repeats=3),
    metric="auroc",
    version=2,
    access=Access(
        home="https://doi.org/10.5281/zenodo.1009146",
        licence="CC BY 4.0",
        citation=(
            "Byra, Styczynski, Szmigielski, et al. Transfer learning with deep convolutional neural network for liver "
            "steatosis assessment in ultrasound images. International Journal of Computer Assisted Radiology and "
            "Surgery 13:1895-1903, 2018. doi:10.1007/s11548-018-1843-2"
        ),
        steps=(f"Download {FILE} from the Zenodo record", f"Put it under DATA, so that DATA/{FILE} exists"),
        downloads=(
            Download(url=f"https://zenodo.org/records/1009146/files/{FILE}?download=1", name=FILE, checksum=MD5),
        ),
        redistributable=True,
    ),
    scan=scan,
    read=read,
    policy="pad",
    images="fatty_liver 1",
    family="fatty_liver",
    independent=True,
    expected=550,
    counts={"": {"normal": 170, "fatty": 380}},
)

TASKS = (
    TASK,
    replace(
        TASK,
        name="fatty_liver_ultrabench",
        title="Fatty liver, UltraBench's split (only 11 test patients)",
        protocol=Fixed(published=True),
        metric="macro_f1",
        scan=functools.partial(scan, ultrabench=True),
        counts={"train": {"normal": 140, "fatty": 300}, "test": {"normal": 30, "fatty": 80}},
        on_request=True,
    ),
)
