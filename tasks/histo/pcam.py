"""PCam, PatchCamelyon: is there tumour in the centre of a lymph node patch?

What        H&E patches, 96 x 96 RGB at about 1 um per pixel, in HDF5: `*_x.h5` (patches), `*_y.h5` (labels)
Who         Camelyon16 slides of sentinel lymph nodes from two Dutch hospitals; patches chosen by Veeling et al., 2018
Counts      327,680 patches: train 262,144, validation 32,768, test 32,768; by the authors half of each with tumour
Licence     CC0
Access      zenodo.org/records/2546921, fetched unattended; nine files `camelyonpatch_level_2_split_...`, found in DATA
            or up to two folders further down; the HDF5 files are served packed and read unpacked
Split       the authors'; their `valid` is our val
Group       slide: column `wsi` of the meta tables. No slide is on two sides, by the authors; without the tables the
            task refuses, since neither this nor how many slides there are could be told. Independent
Traps       the label is about the central 32 x 32 pixels alone, so cropping elsewhere removes it; labels are (N, 1, 1,
            1); the authors' table of MD5 has valid and test exchanged, here they are as served; features of an
            untrained network reach a macro F1 of 0.73 (nanopath, 3,072 patches). Copies: patches were drawn with
            replacement, so a split holds exact duplicates, while the Kaggle edition is without them and is not this
            split; whatever is made of Camelyon16's slides shows the same tissue
Published   accuracy 89.8, AUROC 96.3 (Veeling et al., trained on it); frozen encoders with a linear head, balanced
            accuracy on the test part: 0.89 to 0.96, ViT-S/16 0.90 (eva leaderboard)
"""

import functools
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from tasks.base import Access, DataError, Download, Fixed, Sample, Task
from tasks.reading import layout, tables

PREFIX = "camelyonpatch_level_2_split"
PARTS = {"train": "train", "valid": "val", "test": "test"}  # of the file names -> ours
PATCH = (96, 96, 3)
MOST = 1_000_000  # patches of a file; the largest has 262,144
CHUNK = 1024  # patches hashed at a time: 28 MB
RECORD = "https://zenodo.org/records/2546921"


def scan(data: Path) -> list[Sample]:
    return sorted(sample for part in PARTS for sample in _samples(data, part))


def read(data: Path, sample: Sample, pixels: int) -> np.ndarray:
    name, _, index = sample.id.partition("#")
    patches = _patches(data, name, os.getpid())
    with _reading(Path(patches.file.filename)):
        return patches[int(index)]


def _samples(data: Path, part: str) -> list[Sample]:
    patches, labels, meta = (_find(data, f"{PREFIX}_{part}_{rest}") for rest in ("x.h5", "y.h5", "meta.csv"))
    slides = [row["wsi"] for row in tables.read_csv(meta, "wsi")]
    answers = _labels(labels)
    about = patches.stat()
    digests = _digests(patches, about.st_size, about.st_mtime_ns)
    if not len(digests) == len(answers) == len(slides):
        raise DataError(
            f"{patches}: {len(digests)} patches, but {len(answers)} labels in {labels.name} and {len(slides)} rows in "
            f"{meta.name}; fetch the three again from {RECORD}"
        )
    if not all(slides):
        raise DataError(f"{meta}: no slide in data row {slides.index('') + 1}; fetch the table again from {RECORD}")
    ids = [f"{patches.name}#{index:06d}" for index in range(len(digests))]
    return list(map(Sample, ids, answers, slides, digests, [PARTS[part]] * len(ids)))


def _find(data: Path, name: str) -> Path:
    """The file of that name in `data`, or one or two folders further down."""
    found = _glob(data, name)
    if len(found) > 1:
        raise DataError(f"{data}: {len(found)} files named {name!r} ({', '.join(map(str, found))}); keep one")
    if found:
        return found[0]
    if packed := _glob(data, f"{name}.gz"):
        raise DataError(f"{packed[0]}: still packed; unpack it where it is, with gunzip")
    if not _glob(data, f"{PREFIX}_*"):
        return layout.find_one(
            data, f"file {name!r}", "pcam", lambda folder: [p for p in [folder / name] if p.is_file()]
        )
    why = ", and only its column wsi tells patches of one slide" if name.endswith(".csv") else ""
    raise DataError(f"{data}: no {name!r} beside the other files of PCam{why}; fetch it from {RECORD}")


def _glob(data: Path, pattern: str) -> list[Path]:
    return [path for level in layout.nearby_folders(data) for folder in level for path in sorted(folder.glob(pattern))]


@functools.lru_cache(maxsize=2 * len(PARTS))
def _patches(data: Path, name: str, process: int) -> Any:
    """The file's patches, opened once by each process: HDF5 handles must not be shared after a fork."""
    return _dataset(_find(data, name), "x", PATCH)


@functools.lru_cache(maxsize=len(PARTS))
def _digests(path: Path, size: int, changed: int) -> list[str]:
    """SHA-256 (hex) of each patch's bytes; remembered until the file's size or time of change is another."""
    patches = _dataset(path, "x", PATCH)
    with _reading(path):
        chunks = (patches[start : start + CHUNK] for start in range(0, len(patches), CHUNK))
        return [hashlib.sha256(patch).hexdigest() for chunk in chunks for patch in chunk]


def _labels(path: Path) -> list[int]:
    dataset = _dataset(path, "y", (1, 1, 1))
    with _reading(path):
        labels = dataset[:].reshape(-1)
    if labels.max(initial=0) > 1:
        raise DataError(f"{path}: label {labels.max()}, where only 0 and 1 are known; fetch it again from {RECORD}")
    return labels.tolist()


def _dataset(path: Path, key: str, shape: tuple[int, ...]) -> Any:
    """The HDF5 dataset of that key, uint8 (N, *shape), not yet read. It keeps its file open as long as it lives."""
    import h5py

    with _reading(path):
        file = h5py.File(path, "r")
        if key not in file:
            raise DataError(f"{path}: no key {key!r}, found {', '.join(file) or 'none'}; fetch it again from {RECORD}")
        own = isinstance(file.get(key, getlink=True), h5py.HardLink) and isinstance(file[key], h5py.Dataset)
        if not own or file[key].external or len(file[key]) > MOST:
            raise DataError(
                f"{path}: key {key!r} is no plain array of at most {MOST:,} patches; fetch it again from {RECORD}"
            )
        dataset = file[key]
    if dataset.shape[1:] != shape or dataset.dtype != np.uint8:
        wanted = ", ".join(map(str, ("N", *shape)))
        raise DataError(
            f"{path}: key {key!r} is {dataset.dtype} {dataset.shape}, not uint8 ({wanted}); "
            f"fetch it again from {RECORD}"
        )
    return dataset


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise DataError(f"{path}: unreadable HDF5 ({error}); fetch it again from {RECORD}") from error


def _served(name: str, md5: str) -> Download:
    return Download(
        url=f"{RECORD}/files/{PREFIX}_{name}?download=1",
        name=f"{PREFIX}_{name}",
        checksum=f"md5:{md5}",
        unpack=name.endswith(".gz"),
        into="pcam",
    )


TASK = Task(
    name="pcam",
    modality="histo",
    title="PCam lymph node metastases",
    question="Is there tumour tissue in the central 32 x 32 pixels of this lymph node patch?",
    classes=("no tumour", "tumour"),
    group_kind="slide",
    protocol=Fixed(published=True),
    metric="auroc",
    version=1,
    access=Access(
        home="https://github.com/basveeling/pcam",
        licence="CC0",
        citation=(
            "Veeling, Linmans, Winkens, Cohen, Welling. Rotation Equivariant CNNs for Digital Pathology. MICCAI 2018. "
            "doi:10.1007/978-3-030-00934-2_24"
        ),
        steps=(
            f"Download the six {PREFIX}_*.h5.gz and the three {PREFIX}_*_meta.csv from {RECORD}",
            "Unpack the .gz files with gunzip (about 9 GB)",
            "Put all nine files under DATA/pcam",
        ),
        downloads=(
            _served("train_x.h5.gz", "1571f514728f59376b705fc836ff4b63"),
            _served("train_y.h5.gz", "35c2d7259d906cfc8143347bb8e05be7"),
            _served("train_meta.csv", "5a3dd671e465cfd74b5b822125e65b0a"),
            _served("valid_x.h5.gz", "d5b63470df7cfa627aeec8b9dc0c066e"),
            _served("valid_y.h5.gz", "2b85f58b927af9964a4c15b8f7e8f179"),
            _served("valid_meta.csv", "67589e00a4a37ec317f2d1932c7502ca"),
            _served("test_x.h5.gz", "d8c2d60d490dbd479f8199bdfa0cf6ec"),
            _served("test_y.h5.gz", "60a7035772fbdb7f34eb86d4420cf66a"),
            _served("test_meta.csv", "3455fd69135b66734e1008f3af684566"),
        ),
        checksums={
            f"{PREFIX}_train_x.h5": "md5:01844da899645b4d6f84946d417ba453",
            f"{PREFIX}_train_y.h5": "md5:0781386bf6c2fb62d58ff18891466aca",
            f"{PREFIX}_train_meta.csv": "md5:5a3dd671e465cfd74b5b822125e65b0a",
            f"{PREFIX}_valid_x.h5": "md5:81cf9680f1724c40673f10dc88e909b1",
            f"{PREFIX}_valid_y.h5": "md5:94d8aacc249253159ce2a2e78a86e658",
            f"{PREFIX}_valid_meta.csv": "md5:67589e00a4a37ec317f2d1932c7502ca",
            f"{PREFIX}_test_x.h5": "md5:2614b2e6717d6356be141d9d6dbfcb7e",
            f"{PREFIX}_test_y.h5": "md5:11ed647efe9fe457a4eb45df1dba19ba",
            f"{PREFIX}_test_meta.csv": "md5:3455fd69135b66734e1008f3af684566",
        },
        redistributable=True,
    ),
    scan=scan,
    read=read,
    policy="crop",
    images="pcam 1",
    family="pcam",
    independent=True,
    expected=327_680,
)
