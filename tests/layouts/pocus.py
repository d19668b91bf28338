"""A tiny POCUS in its native layout: stills and clips of five containers, real names, a table with gaps."""

import csv
from pathlib import Path

import numpy as np
from PIL import Image

CONVEX = (  # name, frames (1: a still), frames per second, source, patient; in UltraBench's test part: "test"
    ("Cov-Atlas-Day+1.gif", 8, 10, "2", "35"),
    ("Cov-Atlas-Day+3.gif", 8, 10, "2", "35"),  # test, the same patient
    ("Cov-Atlas+(44).gif", 8, 10, "2", "36"),
    ("Cov_combatting_Image1.mp4", 62, 30, "17", "80"),
    ("Cov-grep-7525.mp4", 24, 24, "4", "60"),  # test
    ("Cov_convex_volpecelli_sonographic_v2.mov", 30, 30, "39", "134"),
    ("Cov-Butterfly-COVID Lung 2.mp4", 24, 24, "1", ""),
    ("Cov_Oliviera_2020_Fig4A.jpg", 1, 0, "46", "220"),
    ("pneu-everyday.gif", 8, 10, "5", "69"),
    ("Pneu_northumbria_0409_set3_vid1.avi", 24, 24, "18", "190"),
    ("Pneu_northumbria_0409_set3_vid2.avi", 24, 24, "18", "191"),  # test, the same set
    ("Pneu_AIR BRONC2.mov", 25, 25, "15", "79"),
    ("Pneu-grep-pneumonia4.mp4", 25, 25, "4", "51"),  # test
    ("Pneu_Avi_consolidated-lung.JPG", 1, 0, "18", "151"),
    ("Pneu_emdocs_1.png", 1, 0, "45", "219"),
    ("Reg_pat1Image_133043.mpeg", 25, 25, "14", "4"),
    ("Reg_pat1Image_133138.mpeg", 25, 25, "14", "4"),  # test, the same patient
    ("Reg_Avi_lung-sliding.MP4", 24, 24, "18", "140"),
    ("Reg_northumbria_0409_set3_vid1.avi", 24, 24, "18", "206"),  # the same set as two of pneumonia
    ("Reg-nephropocus.mp4", 24, 24, "9", "74"),  # a linear clip has this name, too
    ("Reg_Avi_Image011.jpg", 1, 0, "18", "171"),  # test
    ("Reg_Avi_Image009.jpg", 1, 0, "18", "164"),
    ("Reg_bikus.png", 1, 0, "35", "129"),
    ("Vir_whitelung_h1n1.mp4", 24, 24, "24", "99"),
)
LEVELS = range(20, 233, 3)  # the grey of a clip's frame, so that a decoded one tells which it was
UNLISTED = (  # no row of the table
    ("Reg_clinic_2021_vid1.mp4", 24, 24),
    ("Reg_clinic_2021_vid2.mp4", 24, 24),
)
LINEAR = (
    ("Reg-nephropocus.mp4", 24, 24, "13", "77"),
    ("label_uncertain/Vir_or_Pneu_prospective_file4.mp4", 24, 24, "29", "116"),
)
IMAGES = 18 * 3 + 7 + 6  # clips of a second, a longer one, stills
GROUPS = 20


def write(folder: Path, *, seed: int = 0) -> None:
    draws = np.random.default_rng(seed)
    data = folder / "covid19_ultrasound" / "data"
    rows = [("recommendations_blines_mov2", "regular", "video", "convex", "30", "", "No")]  # a row without a file
    for probe, recordings in (("convex", (*CONVEX, *UNLISTED)), ("linear", LINEAR)):
        (data / "pocus_images" / probe).mkdir(parents=True)
        for name, count, rate, *known in recordings:
            pattern = draws.integers(-16, 17, (4, 4)).repeat(8, axis=0).repeat(8, axis=1)
            frames = [frame(number, pattern) for number in range(count)]
            path = data / ("pocus_videos" if rate else "pocus_images") / probe / name
            path.parent.mkdir(parents=True, exist_ok=True)
            clip(path, frames, rate) if rate else Image.fromarray(frames[0]).save(path)
            if known:
                rows.append((path.stem, "", "video" if rate else "Image", probe, *known, "Yes"))
    with (data / "dataset_metadata.csv").open("w", newline="") as file:
        header = ("Filename", "Label", "Type", "Probe", "Source ID", "Patient ID / Name", "InThisRepo")
        csv.writer(file).writerows([header, *rows])


def clip(path: Path, frames: list[np.ndarray], rate: float) -> None:
    """Write uint8 RGB (height, width, 3) or RGBA frames as a GIF, others than GIF in RGB alone."""
    if path.suffix == ".gif":
        first, *others = map(Image.fromarray, frames)
        shown = round(1000 / rate) if rate else 0
        first.save(path, save_all=True, append_images=others, duration=shown, disposal=2, optimize=False)
        return
    import av

    container = {".mpeg": "mpeg"}.get(path.suffix.lower(), path.suffix.lower()[1:])
    with av.open(str(path), "w", format=container) as file:
        stream = file.add_stream("mpeg1video" if container == "mpeg" else "mpeg4", rate=rate)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt, stream.bit_rate = "yuv420p", 10_000_000
        for frame in frames:
            file.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        file.mux(stream.encode())


def frame(number: int, pattern: np.ndarray) -> np.ndarray:
    """A grey (height, width) pattern as uint8 RGB, brighter with the frame's number."""
    return np.stack([LEVELS[number] + pattern] * 3, axis=2).astype(np.uint8)
