"""POCUS: lung ultrasound of regular, pneumonic and COVID-19 lungs, stills and clips.

What        B-mode stills and clips of the lung, convex probe alone; of each clip three frames a second, 30 at most
Who         216 patients of 41 sources by the authors' paper (teaching sites, papers, hospitals)
Counts      202 clips and 59 stills of both probes by the paper; the metadata lists 374 recordings. Frames are counted
            from the files: the published totals, 2,733, 2,102 and 2,064, contradict each other
Licence     by file, in the column License of `dataset_metadata.csv`: mostly CC BY-NC 4.0, else CC BY, BY-NC-SA,
            BY-NC-ND, an emergency licence, or none stated
Access      github.com/jannisborn/covid19_ultrasound, its folder `data`; the clips need PyAV, `pretext-bench[video]`
Split       none by patient (the authors use five folds of clips); here five grouped folds, three times.
            `pocus_published` has UltraBench's test files, drawn file by file: of the 38, 15 share a patient number and
            21 a group with files to train on, and the score includes that leak
Group       patient, near-duplicates across patients joined: the column `Patient ID / Name` of the metadata, else its
            `Source ID`, else (no row, or neither filled) the series: the name without its class and counter, so that
            Cov-Atlas-Day+1 and Cov-Atlas-Day+3 are one, and all of Reg_pat1, and all of northumbria_0409. The column
            numbers Northumbria's recordings one by one (set1_vid1 is 184, set1_vid2 is 185), so their group is the set
            in the name, or the day where no set is named. That a set is one patient is an inference; it can only make
            the split stricter, but other series and sources may share a patient. Not known to be independent
Traps       the class is the name's first letters, in any case; viral pneumonia (Vir; 2 convex recordings in the
            repository by its metadata) and the linear probe are left out, and `data verify` lists them; extensions in
            capitals (UltraBench skips .MP4); GIF frames with and without transparency; one name for a convex and a
            linear clip; rows without a file; Avi's recordings, too, are numbered one by one, so a patient of theirs may
            be in two folds; clips of Butterfly and of papers are fetched apart, and used if they are there. Copies:
            some of its files are, byte for byte, in other collections, and the metadata's comments name duplicates;
            COVIDx-US and COVID-BLUES, among US-JEPA's pretraining images, may share its sources
Published   macro F1, linear probe, on 443 images of a split like UltraBench's, with such a leak: DINOv3 91.4 ± 0.4,
            USFM 85.7 ± 0.5, US-JEPA 93.1 ± 0.0 % (Radhachandran et al., arXiv:2602.19322, 2026); always "regular" gives
            22.3 % on UltraBench's. POCUS is among USF-MAE's pretraining images
"""

import functools
import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from PIL import Image, ImageSequence

from tasks.base import Access, DataError, Fixed, Folds, Sample, Task
from tasks.reading import checksums, decoding, folders, layout, tables

ANCHOR = "pocus_images"
CLASSES = ("regular", "pneumonia", "covid")
PREFIXES = {"reg": "regular", "pneu": "pneumonia", "cov": "covid", "vir": "viral"}
NAME = re.compile(r"(?P<prefix>reg|pneu|cov|vir)[-_][^#]+", re.IGNORECASE)
CLIPS = frozenset({".gif", ".avi", ".mp4", ".m4v", ".mov", ".mpeg", ".mpg", ".mkv", ".webm", ".wmv"})
RECORDINGS = CLIPS | folders.IMAGE_SUFFIXES
RATE, MOST = 3, 30  # frames taken per second, and of a clip
UNSTATED = 10.0  # frames per second where a clip states none: the speed at which viewers show such a GIF
PATIENT, SOURCE = "Patient ID / Name", "Source ID"
NUMBERED = re.compile(r"northumbria_\d+(_set\d+)?", re.IGNORECASE)  # recordings that the column numbers one by one
SERIES = re.compile(r"\D*\d+(?=[^a-z]*[a-z])|\D*")  # to the first number, without it where no letter follows
TEST = """
Cov-Atlas-Day+3.gif Cov-clarius3.gif Cov-grep-7525.mp4 Cov-grep-7543.mp4 Cov-grepmed2.mp4 Cov_Arnthfield_2020_Vid3.mp4
Cov_blines_thoraric_paperfig2.png Cov_convex_volpecelli_sonographic_v1.mov Cov_denault_proposedUS_vid5.mov
Cov_emdocs_vid3.gif Cov_subpleuralthickening_thoraric_paperfig6.png
Pneu-Atlas-pneumonia2.gif Pneu-grep-pneumonia4.mp4 Pneu_Avi_Video_001.mp4 Pneu_Avi_Video_002.mp4 Pneu_Avi_Video_003.mp4
Pneu_Avi_Video_005.mp4 Pneu_Avi_plerual-effusion-consolidated-lung.JPG Pneu_Avi_subpleural-consolidation.JPG
Pneu_northumbria_0409_set3_vid2.avi Pneu_northumbria_0409_set6_vid5.avi Pneu_northumbria_1009_vid1.avi
Reg-Atlas-lungcurtain.gif Reg-NormalLungs.mp4 Reg_Avi_Image002.mp4 Reg_Avi_Image011.jpg Reg_Avi_Video_004.mp4
Reg_efsumb2.png Reg_northumbria_0409_set5_vid2.avi Reg_northumbria_1009_vid3.avi Reg_northumbria_1009_vid7.avi
Reg_pat1Image_133138.mpeg Reg_pat1Image_133232.mpeg Reg_pat2Image_133952.mpeg Reg_pat3Image_134711.mpeg
Reg_pat3Image_134904.mpeg Reg_pat4Image_140024.mpeg Reg_recommendations_alines_mov1.mov
"""


def scan(data: Path, *, published: bool) -> list[Sample]:
    """A sample for each still and each frame taken of a clip; with UltraBench's split if `published`."""
    top = _top(data)
    rows, test = _rows(top), TEST.casefold().split()
    samples = []
    for path, match in layout.match_names(_recordings(top, "convex"), NAME, example="Cov-Atlas-Day+1.gif"):
        kind = PREFIXES[match["prefix"].lower()]
        if kind not in CLASSES:
            continue
        if path.suffix.lower() in CLIPS and folders.is_readable(path):
            frames = _frames(path, path.stat().st_mtime_ns)
            ids = [f"{path.name}#{number:03d}" for number in range(len(frames))]
            digests = [hashlib.sha256(frame.tobytes()).hexdigest() for frame in frames]
        else:
            ids, digests = [path.name], checksums.hash_files([path])
        folder, group = path.parent.relative_to(top).as_posix(), _group(path, rows)
        split = ("test" if path.name.casefold() in test else "train") if published else ""
        for id, digest in zip(ids, digests, strict=True):
            samples.append(Sample(f"{folder}/{id}", CLASSES.index(kind), group, digest, split))
    if not samples:
        raise DataError(f"{top}: no files like 'pocus_videos/convex/Cov-Atlas-Day+1.gif'; get the whole repository")
    return sorted(samples)


def read(data: Path, sample: Sample, pixels: int) -> np.ndarray:
    name, _, frame = sample.id.partition("#")
    path = _top(data) / name
    return _frames(path, path.stat().st_mtime_ns)[int(frame)] if frame else decoding.decode(path)


def left_out(data: Path) -> dict[str, list[str]]:
    """Task.left_out: recordings of "viral" pneumonia, those of the "linear" probe, and what may be a recording and is
    not read."""
    top = _top(data)
    viral = [path for path in _recordings(top, "convex") if path.name.lower().startswith("vir")]
    reasons = {"viral": viral, "linear": _recordings(top, "linear")}
    for folder in _folders(top, "convex"):
        for reason, paths in folders.list_images(folder, suffixes=RECORDINGS).left_out.items():
            reasons[reason] = [*reasons.get(reason, ()), *paths]
    return folders.names_below(reasons, top)


def _top(data: Path) -> Path:
    return layout.find_top(data, ANCHOR, "pocus").parent


def _recordings(top: Path, probe: str) -> list[Path]:
    """Stills and clips of a probe, by extension, hidden files left out."""
    found = [folders.list_images(folder, suffixes=RECORDINGS).images for folder in _folders(top, probe)]
    return sorted(path for paths in found for path in paths)


def _folders(top: Path, probe: str) -> list[Path]:
    return [layout.subfolder(layout.subfolder(top, name), probe) for name in (ANCHOR, "pocus_videos")]


def _rows(top: Path) -> dict[str, dict[str, str]]:
    """File name, mostly without extension, in lower case -> its row of the metadata. No table, no rows."""
    path = top / "dataset_metadata.csv"
    rows = tables.read_csv(path, "Filename", PATIENT, SOURCE) if folders.is_file(path) else []
    rows.sort(key=lambda row: row.get("Probe", "").strip().lower() == "convex")  # they overwrite a linear namesake
    return {row["Filename"].strip().casefold(): row for row in rows}


def _group(path: Path, rows: dict[str, dict[str, str]]) -> str:
    row = rows.get(path.name.casefold()) or rows.get(path.stem.strip().casefold()) or {}
    patient, source = ((row.get(column) or "").strip() for column in (PATIENT, SOURCE))
    numbered = NUMBERED.search(path.stem)
    if patient and numbered:
        return f"set {numbered[0].lower()}"
    if patient:
        return f"patient {patient}"
    if source:
        return f"source {source}"
    name = re.split("[-_]", path.stem.lower(), maxsplit=1)[1]
    return f"series {SERIES.match(name)[0].strip(' _-+(') or name}"


@functools.lru_cache(maxsize=2)  # `read` asks for one frame after another
def _frames(path: Path, modified: int) -> list[np.ndarray]:
    """The frames taken of a clip, uint8 RGB. `modified` keeps a replaced file from being remembered."""
    gif = path.suffix.lower() == ".gif"
    opened = Image.open if gif else _pyav(path).open
    try:
        with opened(str(path)) as clip:
            frames = _of_gif(clip) if gif else _of_video(clip)
        if not frames:
            raise ValueError("no frame in it")
    except Exception as error:  # Pillow and PyAV raise errors of many kinds on bad files
        raise DataError(
            f"{path}: unreadable clip ({path.stat().st_size} bytes; {type(error).__name__}: {error}); "
            "fetch it again, or leave it out"
        ) from error
    return frames


def _pyav(path: Path) -> ModuleType:
    try:
        import av
    except ImportError as error:
        raise DataError(
            f"{path}: clips are decoded by PyAV; install it with `pip install 'pretext-bench[video]'`"
        ) from error
    return av


def _of_gif(clip: Image.Image) -> list[np.ndarray]:
    shown = [frame.info.get("duration", 0) for frame in ImageSequence.Iterator(clip)]  # milliseconds
    return _sampled(ImageSequence.Iterator(clip), 1000 * len(shown) / sum(shown) if any(shown) else None, _over_black)


def _over_black(frame: Image.Image) -> np.ndarray:
    over = frame.convert("RGBA")
    return np.asarray(Image.alpha_composite(Image.new("RGBA", over.size, "black"), over).convert("RGB"))


def _of_video(clip: Any) -> list[np.ndarray]:
    stream = clip.streams.video[0]
    return _sampled(clip.decode(stream), stream.average_rate, lambda frame: frame.to_ndarray(format="rgb24"))


def _sampled(frames: Iterator[Any], rate: float | None, rgb: Callable[[Any], np.ndarray]) -> list[np.ndarray]:
    """RATE frames a second from the second frame on (each, where the clip is slower), MOST at most; or a lone frame."""
    step = max(1, int((rate or UNSTATED) / RATE))
    first = [rgb(frame) for frame in islice(frames, 1)]
    return [rgb(frame) for frame in islice(frames, 0, MOST * step, step)] or first


POCUS = Task(
    name="pocus",
    modality="ultrasound",
    title="POCUS lung findings",
    question="Does this lung ultrasound image show a regular lung, bacterial pneumonia, or COVID-19?",
    classes=CLASSES,
    group_kind="patient (set, source or file series where none is stated)",
    protocol=Folds(k=5, repeats=3, seed=0),
    near=True,
    metric="macro_f1",
    version=2,
    access=Access(
        home="https://github.com/jannisborn/covid19_ultrasound",
        licence="by file: mostly CC BY-NC 4.0, some CC BY, BY-NC-SA, BY-NC-ND or none stated; see dataset_metadata.csv",
        citation=(
            "Born et al. Accelerating Detection of Lung Pathologies with Explainable Ultrasound "
            "Image Analysis. Applied Sciences 11(2):672, 2021. doi:10.3390/app11020672"
        ),
        steps=(
            "Install the decoder of clips: pip install 'pretext-bench[video]'",
            "Clone the repository, or unpack its archive, under DATA, so that "
            "DATA/covid19_ultrasound/data/pocus_images/convex exists",
            "Optional: fetch the clips it does not hold, with the scripts in its folder data",
        ),
    ),
    scan=partial(scan, published=False),
    read=read,
    policy="pad",
    images="pocus 1",
    family="pocus",
    independent=False,
    left_out=left_out,
)

TASKS = (
    POCUS,
    replace(
        POCUS,
        name="pocus_published",
        title="POCUS lung findings, UltraBench's split with its leak",
        protocol=Fixed(published=True, crossing="keep"),
        scan=partial(scan, published=True),
        on_request=True,
    ),
)
