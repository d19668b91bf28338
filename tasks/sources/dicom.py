"""dicom:<path>: ultrasound images and clips in DICOM files (pydicom; pip install 'pretext-bench[dicom]').

What        every DICOM file below the folder, by its signature or by `.dcm`: Modality US with pixels; each frame is an
            image. Files of other modalities, without pixels or not DICOM are left out, and listed with their reasons
Pixels      YBR becomes RGB, a palette is applied, MONOCHROME1 is inverted. Grey of other than 8 bits: by the file's
            first window (after its rescaling), else from the frame's least to its largest value; colour of more than
            8 bits and 16-bit palettes: the upper 8 bits
Text        what lies outside the file's ultrasound regions is blackened. Where none is given, or only empty ones, the
            upper fifth and a tenth at the other sides are, unless BurnedInAnnotation is NO; where one reaches beyond
            the frame, which was then cropped or resized, both are. Text within a region, or in the middle, stays: this
            does not anonymise
Group       patient: the first 12 hex digits of the SHA-256 of PatientID, else of StudyInstanceUID. It hides the id from
            readers, not from one who guesses ids
Traps       paths are kept as they are: rename what holds a patient's name. Compressed files may need plug-ins; the
            error names them
"""

import hashlib
from collections import defaultdict
from pathlib import Path

import numpy as np

from tasks import host, sources
from tasks.base import DataError, Sample, digest
from tasks.reading import checksums, decoding, folders

KIND = "dicom"
GROUP_KIND = "patient (study, where no patient is given)"
MODALITY = "ultrasound"
CORNERS = ("RegionLocationMinX0", "RegionLocationMinY0", "RegionLocationMaxX1", "RegionLocationMaxY1")


def scan(data: Path, *, location: str) -> list[Sample]:
    top = sources.top(data, location)
    images, others = _sorted(top)
    if not images:
        seen = folders.summarise(folders.names_below(others, top)) or "nothing"
        raise DataError(f"{top}: no ultrasound image in DICOM below it, found {seen}; give another folder")
    whole = checksums.hash_files(top / name for name, _, _ in images)
    return sorted(
        Sample(f"{name}#{frame:05d}", -1, group, digest(mark, frame), "train")
        for (name, group, frames), mark in zip(images, whole, strict=True)
        for frame in range(frames)
    )


def left_out(data: Path, *, location: str) -> dict[str, list[str]]:
    top = sources.top(data, location)
    return folders.names_below(_sorted(top)[1], top)


def read(data: Path, sample: Sample, pixels: int, *, location: str) -> np.ndarray:
    name, _, frame = sample.id.rpartition("#")
    path = sources.top(data, location) / name
    header, pydicom = _header(path), host.import_extra("pydicom.pixels", KIND)
    try:
        array = pydicom.pixel_array(path, index=int(frame))
        return _masked(_rgb(array, header), header)
    except Exception as error:  # decoders raise RuntimeError, ValueError, AttributeError, NotImplementedError, ...
        raise _unreadable(path, error) from error


def _sorted(top: Path) -> tuple[list[tuple[str, str, int]], dict[str, list[Path]]]:
    """(name, group, frames) of each ultrasound file, and reason -> the other files."""
    every = folders.list_files(top)
    images, others = [], defaultdict(list, every.left_out)
    for path in every.files:
        if not folders.is_readable(path):  # `read` will say so
            name = folders.relative_id(path, top)
            images.append((name, name, 1))
            continue
        header = _header(path) if path.suffix.lower() == ".dcm" or _signed(path) else None
        if header is None:
            others["not DICOM"].append(path)
        elif header.get("Modality") != "US":
            others[f"of modality {header.get('Modality', 'not stated')}"].append(path)
        elif "PixelData" not in header:
            others["without pixels"].append(path)
        else:
            _decodable(path, header)
            frames = int(header.get("NumberOfFrames") or 1)
            images.append((folders.relative_id(path, top), _group(path, header), frames))
    return images, dict(others)


def _signed(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def _header(path: Path):
    try:
        return host.import_extra("pydicom", KIND).dcmread(path, defer_size="1 KB")
    except DataError:
        raise
    except Exception as error:  # as in read
        raise _unreadable(path, error) from error


def _decodable(path: Path, header) -> None:
    """Raises DataError, naming the plug-ins, where the pixels' compression cannot be undone here."""
    pixels = host.import_extra("pydicom.pixels", KIND)
    syntax = header.file_meta.get("TransferSyntaxUID")
    try:
        decoder = pixels.get_decoder(syntax)
    except (NotImplementedError, TypeError) as error:
        raise DataError(f"{path}: no decoder for transfer syntax {syntax}; convert the file, or move it out") from error
    if not decoder.is_available:
        needed = "; or ".join(decoder.missing_dependencies)
        raise DataError(f"{path}: to decode {syntax.name}, install a plug-in of pydicom: {needed}")


def _group(path: Path, header) -> str:
    for name in ("PatientID", "StudyInstanceUID"):
        value = str(header.get(name) or "").strip()
        if value:
            return hashlib.sha256(value.encode()).hexdigest()[:12]
    raise DataError(f"{path}: neither PatientID nor StudyInstanceUID; give every patient's files one of them")


def _rgb(array: np.ndarray, header) -> np.ndarray:
    """A decoded frame, (h, w) or (h, w, 3), as uint8 RGB (h, w, 3)."""
    kind = header.PhotometricInterpretation
    if kind.startswith("MONOCHROME"):
        grey = array if header.BitsStored == 8 and array.dtype == np.uint8 else _scaled(array, header)
        return np.repeat((255 - grey if kind == "MONOCHROME1" else grey)[..., None], 3, axis=2)
    if kind == "PALETTE COLOR":
        colours = host.import_extra("pydicom.pixels", KIND).apply_color_lut(array, header)
        return (colours >> 8).astype(np.uint8) if colours.dtype == np.uint16 else colours
    if array.ndim != 3:
        raise ValueError(f"photometric interpretation {kind} is not known here")
    return (array >> max(0, header.BitsStored - 8)).astype(np.uint8)


def _scaled(array: np.ndarray, header) -> np.ndarray:
    values = host.import_extra("pydicom.pixels", KIND).apply_rescale(array, header).astype(np.float64)
    low, high = values.min(), values.max()
    if header.get("WindowWidth"):
        centre, width = (float(np.atleast_1d(header[name].value)[0]) for name in ("WindowCenter", "WindowWidth"))
        low, high = centre - width / 2, centre - 1 + width / 2  # DICOM PS3.3 C.11.2.1.2
    return np.round(np.clip((values - low) / max(high - low, 1e-9), 0, 1) * 255).astype(np.uint8)


def _masked(image: np.ndarray, header) -> np.ndarray:
    height, width = image.shape[:2]
    stated = [
        [int(region[name].value) for name in CORNERS] for region in header.get("SequenceOfUltrasoundRegions") or ()
    ]
    boxes = [(x0, y0, x1, y1) for x0, y0, x1, y1 in stated if x0 < x1 and y0 < y1]
    if not boxes and header.get("BurnedInAnnotation") == "NO":
        return image
    seen, middle = np.zeros((height, width, 1), bool), np.zeros((height, width, 1), bool)
    for x0, y0, x1, y1 in boxes:
        seen[y0 : y1 + 1, x0 : x1 + 1] = True
    nothing = min(seen.any(axis=0).sum(), seen.any(axis=1).sum()) < decoding.LEAST_SIDE
    if nothing or any(x1 > width or y1 > height for _, _, x1, y1 in boxes):
        middle[height // 5 : height - height // 10, width // 10 : width - width // 10] = True
        seen = middle if nothing or not (seen & middle).any() else seen & middle
    return image * seen


def _unreadable(path: Path, error: Exception) -> DataError:
    return DataError(f"{path}: unreadable DICOM ({type(error).__name__}: {error}); fetch it again, or move it out")
