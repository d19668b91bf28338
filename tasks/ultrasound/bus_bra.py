"""BUS-BRA: benign or malignant breast lesion, by biopsy and by patient.

What        B-mode stills of the breast with lesion outlines; shown as a column: BI-RADS 2 to 5
Who         1,064 patients (benign 722, malignant 342); INCA, Rio de Janeiro; four scanners, 10 to 14 MHz
Counts      1,875 images: benign 1,268, malignant 607; grey PNG, sides vary
Licence     CC BY 4.0; the authors ask for the citation
Access      Zenodo record 8231412; the folder is `BUSBRA`
Split       the authors publish five and ten folds by patient (`5-fold-cv.csv`, `10-fold-cv.csv`), with no single test
            part, so that nothing would be left to pretrain on; cut here once by patient into a half for pretraining and
            a half that is probed by five grouped folds, three times. Their folds are only checked: no patient may be in
            two
Group       patient: the column `Case`. Independent
Traps       masks are called like images but for the prefix; their inner validation flags (`valid_1` to `valid_5`) are
            empty where a row is tested and need not keep patients apart; one released box does not match its outline;
            the fold files travel with LF or CRLF line ends (the published checksum, of five folds, is of CRLF). Copies:
            an earlier Zenodo record, 7730709, is named by the authors' repository; OpenUS-46 (USF-MAE) lists the
            images, the PRECISE-ABreast challenge has them under names of its own
Published   with other splits, so no figure is comparable: AUC 0.931 over folds (a ViT); macro F1 of linear probes on
            one image a patient: DINOv3 70.9, I-JEPA 71.2, USFM 74.6, US-JEPA 73.8 (arXiv:2602.19322)
"""

from functools import partial
from pathlib import Path

import numpy as np

from tasks.base import Access, DataError, Download, Folds, Sample, Task
from tasks.reading import decoding, folders, layout, tables

ANCHOR = "BUSBRA"
CLASSES = ("benign", "malignant")
FOLDS = ("5-fold-cv.csv", "10-fold-cv.csv")  # the authors'


def scan(data: Path) -> list[Sample]:
    top = layout.find_top(data, ANCHOR, "bus_bra")
    table, rows = _rows(top)
    found = {path.stem: path for path in layout.list_images(layout.subfolder(top, "Images"))}
    names = layout.match_listed(rows, found, table.name)
    paths = [found[name] for name in names]
    patients = {name: row["Case"] for name, row in rows.items()}
    groups = layout.look_up_groups(names, patients, table)
    for name, row in rows.items():
        if row["Pathology"] not in CLASSES:
            raise DataError(
                f"{table}: {name} has Pathology {row['Pathology']!r}, looked for {' or '.join(CLASSES)}; "
                "restore the authors' table"
            )
    for name in FOLDS:
        _check_folds(top / name, patients)
    labels = [CLASSES.index(rows[name]["Pathology"]) for name in names]
    return layout.samples(top, paths, labels, groups)


def birads(data: Path) -> dict[str, str]:
    """Task.columns: the BI-RADS category of every image."""
    _, rows = _rows(layout.find_top(data, ANCHOR, "bus_bra"))
    return {f"{ANCHOR}/Images/{name}.png": row.get("BIRADS", "") for name, row in rows.items()}


def _rows(top: Path) -> tuple[Path, dict[str, dict[str, str]]]:
    """The authors' table, and its rows by image."""
    table = top / "bus_data.csv"
    if not folders.is_file(table):
        raise DataError(f"{table}: not there, and it holds the labels; unpack the dataset again")
    listed = tables.read_csv(table, "ID", "Case", "Pathology")
    rows = {row["ID"]: row for row in listed}
    if len(rows) < len(listed):
        raise DataError(f"{table}: {len(listed)} rows for {len(rows)} images; restore the authors' table")
    return table, rows


def _check_folds(path: Path, patients: dict[str, str]) -> None:
    """Refuse a patient in two of the authors' folds: then `Case` is not the patient. The file may be missing."""
    folds: dict[str, str] = {}
    for row in tables.read_csv(path, "ID", "kFold") if folders.is_file(path) else ():
        patient = patients.get(row["ID"])
        if patient and folds.setdefault(patient, row["kFold"]) != row["kFold"]:
            raise DataError(
                f"{path}: patient {patient} is in folds {folds[patient]} and {row['kFold']} (at {row['ID']}); "
                "restore the authors' tables"
            )


def mask(data: Path, sample: Sample, pixels: int) -> np.ndarray:
    """The outline of an image's lesion."""
    image = layout.image_path(data, sample, top=ANCHOR, task="bus_bra")
    outline = image.parent.parent / "Masks" / image.name.replace("bus_", "mask_", 1)
    return decoding.decode_mask(outline)


TASK = Task(
    name="bus_bra",
    modality="ultrasound",
    title="BUS-BRA breast lesions",
    question="Is the breast lesion in this ultrasound image benign or malignant?",
    classes=CLASSES,
    group_kind="patient",
    protocol=Folds(k=5, repeats=3, seed=0, halved=True),
    metric="auroc",
    version=3,
    access=Access(
        home="https://doi.org/10.5281/zenodo.8231412",
        licence="CC BY 4.0",
        citation=(
            "Gomez-Flores, Gregorio-Calas, Pereira. BUS-BRA: a breast ultrasound dataset for assessing computer-aided "
            "diagnosis systems. Medical Physics 51(4):3110-3123, 2024. doi:10.1002/mp.16812"
        ),
        steps=(
            "Download BUSBRA.zip from the Zenodo record",
            f"Unpack it under DATA, so that DATA/{ANCHOR}/Images and DATA/{ANCHOR}/bus_data.csv exist",
        ),
        downloads=(
            Download(
                url="https://zenodo.org/records/8231412/files/BUSBRA.zip?download=1",
                name="BUSBRA.zip",
                checksum="sha256:ba3e6ed19cc37c682d8d39e25435bbf8a555a12cb7e641b5f2117685c95580ff",
                bytes=133_917_740,
                unpack=True,
            ),
        ),
        checksums={"5-fold-cv.csv": "sha256:8bed2d2efdf6ea370ab82a3cbda4c213f498274a68b434828ceeb636ce43a68d"},
        redistributable=True,
        bytes=133_917_740,
    ),
    scan=scan,
    read=partial(layout.read_image, top=ANCHOR, task="bus_bra"),
    mask=mask,
    columns={"BI-RADS": birads},
    policy="pad",
    images="bus_bra 1",
    family="bus_bra",
    independent=True,
    side=286,
    expected=1_875,
    counts={"": {"benign": 1_268, "malignant": 607}},
)
