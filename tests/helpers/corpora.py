"""Small examples of each kind of unlabelled source, written and opened."""

from PIL import Image

from tasks import sources
from tests.layouts import source_dicom, source_parquet, source_slides

EXTRAS = {"slides": "openslide", "dicom": "pydicom"}  # kind -> the library it needs


MODALITY = {"dicom": "ultrasound"}  # else histo


def fill(kind, folder):
    """Write the kind's small example to a folder."""
    if kind == "folder":
        for name in ("a/1.png", "a/b/2.JPG", "3.tif", ".thumbs/4.png", "a/.5.png", "a/notes.txt"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (12, 9), (len(name), 0, 0)).save(folder / name, "PNG")
    else:
        layout = {"slides": source_slides, "dicom": source_dicom}.get(kind, source_parquet)
        layout.write(folder)


def opened(kind, folder, options=""):
    return sources.open(f"{kind}:{folder}{options}", MODALITY.get(kind, "histo"))


def first_file(folder):
    return next(path for path in sorted(folder.rglob("*")) if path.is_file() and "/." not in path.as_posix())
