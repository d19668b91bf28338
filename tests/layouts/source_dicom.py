"""Small ultrasound DICOM files, and neighbours that are none."""

from pathlib import Path

import numpy as np

HEIGHT, WIDTH = 40, 60
FRAMES = 3
IMAGES = 2 + FRAMES  # two stills and a clip


def write(folder: Path, *, seed: int = 0) -> None:
    draws = np.random.default_rng(seed)
    still, clip = draws.integers(1, 256, (HEIGHT, WIDTH), np.uint8), draws.integers(1, 256, (FRAMES, 9, 12), np.uint8)
    dicom(folder / "a" / "still.dcm", still, PatientID="Jane Doe")
    dicom(folder / "a" / "clip.dcm", clip, PatientID="Jane Doe", NumberOfFrames=FRAMES, BurnedInAnnotation="NO")
    dicom(folder / "b" / "no suffix", still, StudyInstanceUID="1.2.3", regions=[(10, 20, 29, 34)])
    dicom(folder / "b" / "ct.dcm", still, PatientID="1", Modality="CT")
    dicom(folder / "b" / "report.dcm", None, PatientID="1")
    (folder / "b" / "README.txt").write_text("not DICOM")


def dicom(path: Path, array: np.ndarray | None, *, regions: list[tuple[int, ...]] = (), **attributes: object) -> None:
    """Write pixels (h, w), (h, w, 3) or (frames, h, w) uncompressed, MONOCHROME2 or RGB unless attributes say else."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, UltrasoundImageStorage

    file = Dataset()
    file.file_meta = FileMetaDataset()
    file.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    file.SOPClassUID = file.file_meta.MediaStorageSOPClassUID = UltrasoundImageStorage
    file.SOPInstanceUID = file.file_meta.MediaStorageSOPInstanceUID = "1.2.3.4"
    file.Modality = "US"
    if array is not None:
        colour = array.ndim == 3 and array.shape[2] == 3
        file.Rows, file.Columns = array.shape[:2] if colour or array.ndim == 2 else array.shape[1:]
        file.SamplesPerPixel, file.PhotometricInterpretation = (3, "RGB") if colour else (1, "MONOCHROME2")
        if colour:
            file.PlanarConfiguration = 0
        file.BitsAllocated = file.BitsStored = 8 * array.itemsize
        file.HighBit, file.PixelRepresentation = file.BitsStored - 1, int(array.dtype.kind == "i")
        file.PixelData = array.tobytes()
    if regions:
        file.SequenceOfUltrasoundRegions = [Dataset() for _ in regions]
    for item, (x0, y0, x1, y1) in zip(file.get("SequenceOfUltrasoundRegions", ()), regions, strict=True):
        item.RegionLocationMinX0, item.RegionLocationMinY0 = x0, y0
        item.RegionLocationMaxX1, item.RegionLocationMaxY1 = x1, y1
    for name, value in attributes.items():
        setattr(file, name, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    file.save_as(path, enforce_file_format=True)
