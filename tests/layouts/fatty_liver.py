"""The MATLAB file of the fatty liver dataset, with all patients in small frames: sorted by class, one exact copy."""

from pathlib import Path

import numpy as np

FILE = "dataset_liver_bmodes_steatosis_assessment_IJCARS.mat"
NORMAL, PATIENTS, FRAMES = 17, 55, 10
IMAGES = PATIENTS * FRAMES
FIELDS = ("id", "class", "fat", "images")


def records(*, seed: int = 0) -> np.ndarray:
    """The struct array (1, patients) of the file, to be changed by tests."""
    draws = np.random.default_rng(seed)
    array = np.empty((1, PATIENTS), dtype=[(field, object) for field in FIELDS])
    for index in range(PATIENTS):
        fatty = index >= NORMAL
        fat = draws.integers(5, 86) if fatty else draws.integers(0, 5)
        frames = draws.integers(0, 256, (FRAMES, 14, 20), np.uint8)
        array[0, index] = (np.uint8(index + 1), np.uint8(fatty), np.uint8(fat), frames)
    array[0, 0]["images"][4] = array[0, 0]["images"][3]
    return array


def save(path: Path, array: np.ndarray, *, name: str = "data") -> None:
    from scipy.io import savemat

    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, {name: array})


def write(folder: Path, *, seed: int = 0) -> None:
    save(folder / FILE, records(seed=seed))
