"""slides:<path>: whole slides, cut into tiles of tissue (OpenSlide; pip install 'pretext-bench[slides]').

What        every slide below the folder by extension; tiles of 224 x 224 px at 0.5 microns a pixel, on a grid from the
            slide's corner without overlap. Read from the coarsest level that is no coarser than that (within 1 %), then
            resized (Lanczos). Where the resolution is unknown, beyond belief (under 0.05) or coarser, pixels are
            level 0's as they are: nothing is enlarged. What was not scanned is white
Tissue      on the whole slide, shrunk to 8 x 8 px a tile: chroma (largest less smallest of R, G, B) above Otsu's
            threshold of the slide, kept between 12 and 40; a tile enters if at least half of it is tissue
Group       patient, where the file's name begins like a TCGA barcode, else the slide
Traps       pen marks count as tissue; a slide without one tile of tissue is an error; of the formats of several files
            only MRXS is taken, and its folder must lie beside it
"""

from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

from tasks import host, sources
from tasks.base import DataError, Sample, digest
from tasks.reading import checksums, folders

KIND = "slides"
GROUP_KIND = "patient (slide, where the name is no TCGA barcode)"
MODALITY = "histo"
SUFFIXES = frozenset({".svs", ".tif", ".tiff", ".ndpi", ".mrxs", ".scn", ".bif", ".svslide"})
TILE, MICRONS, ROUNDING = 224, 0.5, 1.01  # px, micrometres a pixel, how much coarser a level may be than asked
CELL, SHARE, CHROMA = 8, 0.5, (12, 40)  # px of a tile when looking for tissue, least part of tissue, threshold's range
LARGEST = 2**27  # pixels of the level that tissue is looked for on


def scan(data: Path, *, location: str) -> list[Sample]:
    from tqdm import tqdm

    top = sources.top(data, location)
    paths = folders.list_images(top, suffixes=SUFFIXES).images
    if not paths:
        raise DataError(f"{top}: no slide below it ({', '.join(sorted(SUFFIXES))}); give another folder")
    samples, blank = [], []
    for path in tqdm(paths, desc=f"tiles of {top.name}", unit=" slides", delay=2):
        name, whole = folders.relative_id(path, top), _digest(path)
        if not folders.is_readable(path):  # `read` will say so
            samples.append(Sample(f"{name}#000000_000000", -1, sources.of_slide(path.stem), whole, "train"))
            continue
        slide = _slide(path, path.stat().st_mtime_ns)
        level, side = _scale(slide)
        try:
            spots = np.argwhere(_tissue(slide, side, path))
        except host.import_extra("openslide", KIND).OpenSlideError as error:
            raise _unreadable(path, error) from error
        if not len(spots):
            blank.append(name)
            continue
        for y, x in (spots * side).tolist():
            mark = digest(whole, x, y, level, TILE)
            samples.append(Sample(f"{name}#{x:06d}_{y:06d}", -1, sources.of_slide(path.stem), mark, "train"))
    if blank:
        raise DataError(f"{top}: {len(blank)} slides without a tile of tissue: {', '.join(blank[:10])}; move them out")
    return sorted(samples)


def left_out(data: Path, *, location: str) -> dict[str, list[str]]:
    top = sources.top(data, location)
    return folders.names_below(folders.list_images(top, suffixes=SUFFIXES).left_out, top)


def read(data: Path, sample: Sample, pixels: int, *, location: str) -> np.ndarray:
    name, _, spot = sample.id.rpartition("#")
    path = sources.top(data, location) / name
    slide = _slide(path, path.stat().st_mtime_ns if path.exists() else 0)
    level, side = _scale(slide)
    length = round(side / slide.level_downsamples[level])
    try:
        tile = _opaque(slide.read_region(tuple(map(int, spot.split("_"))), level, (length, length)))
    except host.import_extra("openslide", KIND).OpenSlideError as error:
        _slide.cache_clear()  # after an error OpenSlide refuses everything from that handle
        raise _unreadable(path, error) from error
    return np.asarray(tile if length == TILE else tile.resize((TILE, TILE), Image.Resampling.LANCZOS))


@lru_cache(maxsize=8)
def _slide(path: Path, changed: int):
    openslide = host.import_extra("openslide", KIND)
    try:
        path.open("rb").close()  # OpenSlide does not say that a file may not be opened
        return openslide.OpenSlide(path)
    except (openslide.OpenSlideError, OSError) as error:
        raise _unreadable(path, error) from error


def _scale(slide) -> tuple[int, int]:
    """The level that tiles are read from, and a tile's side in pixels of level 0."""
    microns = float(slide.properties.get("openslide.mpp-x", 0))
    shrink = MICRONS / microns if 0.05 <= microns < MICRONS else 1.0
    return slide.get_best_level_for_downsample(shrink * ROUNDING), round(TILE * shrink)


def _tissue(slide, side: int, path: Path) -> np.ndarray:
    """bool (rows, columns): which tiles of the grid are tissue."""
    columns, rows = (length // side for length in slide.dimensions)
    level = slide.get_best_level_for_downsample(side / CELL)
    (width, height), shrink = slide.level_dimensions[level], slide.level_downsamples[level]
    if width * height > LARGEST:
        raise DataError(f"{path}: its coarsest fitting level has {width} x {height} pixels; save it as a pyramid")
    if not columns * rows:
        return np.zeros((rows, columns), bool)
    seen = _opaque(slide.read_region((0, 0), level, (width, height)))
    box = (0, 0, min(width, columns * side / shrink), min(height, rows * side / shrink))
    small = np.asarray(seen.resize((columns * CELL, rows * CELL), Image.Resampling.BOX, box=box))
    chroma = small.max(axis=2) - small.min(axis=2)
    tissue = chroma > np.clip(_otsu(chroma), *CHROMA)
    return tissue.reshape(rows, CELL, columns, CELL).mean(axis=(1, 3)) >= SHARE


def _otsu(values: np.ndarray) -> int:
    """The threshold of uint8 values that separates them best: the largest variance between the two sides."""
    counts = np.bincount(values.ravel(), minlength=256) / values.size
    below, mean = counts.cumsum(), (counts * np.arange(256)).cumsum()
    spread = below * (1 - below)
    return int(np.argmax(np.divide((mean[-1] * below - mean) ** 2, spread, out=np.zeros(256), where=spread > 1e-12)))


def _opaque(image: Image.Image) -> Image.Image:
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")


def _digest(path: Path) -> str:
    parts = folders.list_files(path.with_suffix("")).files if path.suffix.lower() == ".mrxs" else []
    return digest(*checksums.hash_files([path, *parts]))


def _unreadable(path: Path, error: Exception) -> DataError:
    return DataError(f"{path}: not a slide that OpenSlide reads ({error}); fetch it again, or move it out")
