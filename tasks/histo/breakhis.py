"""BreaKHis at one magnification: breast tumours by patient, benign or malignant, or four of their subtypes.

What        H&E fields of surgical breast biopsies, 700 x 460 RGB PNG (some 700 x 456), four magnifications, each a
            task; at 40X also fibroadenoma, tubular adenoma, ductal or mucinous carcinoma
Who         82 patients by the authors' count; P&D Laboratory, Parana, Brazil, 2014
Counts      7,909 images; benign and malignant at 40X 625 + 1,370, 100X 644 + 1,437, 200X 623 + 1,390, 400X 588 + 1,232;
            four subtypes at 40X: 1,471, fibroadenoma 253, tubular adenoma 149, ductal 864, mucinous 205
Licence     CC BY 4.0
Access      the authors' laboratory page; the folder is `BreaKHis_v1`
Split       the authors use five random divisions by patient; here five grouped folds, three times. The four subtypes
            have a split in the literature: the 14 test slides that eva holds out, the 10 val slides of nanopath
Group       patient: the number in the file name without its letters, so that 14-22549AB and 14-22549CD are one. That
            the letters name blocks of one patient is an inference; it can only make the split stricter. Independent
Traps       the four subtypes' split puts numbers 16184, 18842, 19979 and 23060 on two sides, under other letters:
            `breakhis_40x_4class` keeps their test images and drops the others, `breakhis_40x_4class_published` is the
            split as it was; eva orders the four subtypes otherwise; folders join the class code with `_`, files with
            `-`; 14-13412 is filed as ductal and as lobular carcinoma (hence 81 numbers for 82 patients), both
            malignant, and is one group; some copies nest a subtype's folder in itself; the authors' page also says
            9,109 images, and 652 benign at 40X. Copies: one field is photographed at all four magnifications, so they
            are never mixed; others distribute single magnifications (400X on Kaggle)
Published   accuracies of 80 to 85 % by patient (Spanhol et al., IEEE TBME 63(7), 2016), with other splits and metric;
            four subtypes: balanced accuracy .708 (ViT-S/8) to .859 (UNI2-h) on eva's leaderboard, trained on train and
            val; macro F1 .342 of an untrained encoder (nanopath)
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

from tasks.base import Access, DataError, Fixed, Folds, NoData, Sample, Task, as_published
from tasks.reading import layout

ANCHOR = "BreaKHis_v1"
KINDS = {"B": "benign", "M": "malignant"}  # letter in the file name -> folder
SUBTYPES = {  # code in the file name -> folder
    "A": "adenosis",
    "F": "fibroadenoma",
    "PT": "phyllodes_tumor",
    "TA": "tubular_adenoma",
    "DC": "ductal_carcinoma",
    "LC": "lobular_carcinoma",
    "MC": "mucinous_carcinoma",
    "PC": "papillary_carcinoma",
}
TWO = {code: int(code in ("DC", "LC", "MC", "PC")) for code in SUBTYPES}  # code -> label
FOUR = {"F": 0, "TA": 1, "DC": 2, "MC": 3}
TEST = re.compile(  # slides of the four subtypes; those in neither are for training
    "18842D|19979|15275|15792|16875|3909|5287|16716|2773|5695|16184CD|23060CD|21998CD|21998EF", re.IGNORECASE
)
VAL = re.compile("23222AB|29960AB|13200|19854C|10926|11520|12312|13412|13418DE|18842", re.IGNORECASE)
NAME = re.compile(
    rf"SOB_(?P<kind>[BM])_(?P<code>{'|'.join(SUBTYPES)})-(?P<year>\d+)-(?P<slide>(?P<number>\d+)[A-Z]*)"
    r"-(?P<magnification>\d+)-\d+\.png",
    re.IGNORECASE,
)


def scan(
    data: Path, *, task: str, magnification: int, labels: Mapping[str, int], published: bool = False
) -> list[Sample]:
    top = layout.find_top(data, ANCHOR, task)
    slides = layout.subfolder(top, "histology_slides", "breast")
    found = [
        path for kind in KINDS.values() for path in layout.list_images(layout.subfolder(slides, kind), recursive=True)
    ]
    chosen = []
    for path, match in layout.match_names(found, NAME, example="SOB_B_A-14-22549AB-100-001.png"):
        code = match["code"].upper()
        said = (KINDS[match["kind"].upper()], SUBTYPES[code], f"{match['magnification']}X")
        if not set(said) <= set(path.relative_to(slides).parts):
            raise DataError(f"{path}: the name says {', '.join(said)}, the folders do not; fetch the dataset again")
        if said[2] == f"{magnification}X" and code in labels:
            side = _side(match["slide"]) if published else ""
            chosen.append((path, labels[code], f"{match['year']}-{match['number']}", side))
    if not chosen:
        raise NoData(f"{slides}: no images of {task} at {magnification}X; get them with `make data TASK={task}`")
    paths, numbers, groups, sides = zip(*chosen, strict=True)
    return layout.samples(top, paths, numbers, groups, sides)


def _side(slide: str) -> str:
    return "test" if TEST.fullmatch(slide) else "val" if VAL.fullmatch(slide) else "train"


def _two(magnification: int, benign: int, malignant: int) -> Task:
    name = f"breakhis_{magnification}x"
    return Task(
        name=name,
        modality="histo",
        title=f"BreaKHis breast tumours, {magnification}X",
        question="Is the breast tumour in this field benign or malignant?",
        classes=("benign", "malignant"),
        group_kind="patient",
        protocol=Folds(k=5, repeats=3, seed=0),
        metric="auroc",
        version=2,
        access=Access(
            home="https://web.inf.ufpr.br/vri/databases/breast-cancer-histopathological-database-breakhis/",
            licence="CC BY 4.0",
            citation=(
                "Spanhol, Oliveira, Petitjean, Heutte. A dataset for breast cancer histopathological image "
                "classification. IEEE Transactions on Biomedical Engineering 63(7):1455-1462, 2016. "
                "doi:10.1109/TBME.2015.2496264"
            ),
            steps=(
                "Download BreaKHis_v1.tar.gz from the laboratory's page",
                f"Unpack it under DATA, so that DATA/{ANCHOR}/histology_slides exists",
            ),
            redistributable=True,
        ),
        scan=partial(scan, task=name, magnification=magnification, labels=TWO),
        read=partial(layout.read_image, top=ANCHOR, task=name),
        policy="crop",
        images=f"breakhis {magnification}X 1",
        family="breakhis",
        independent=True,
        side=460,
        expected=benign + malignant,
        counts={"": {"benign": benign, "malignant": malignant}},
    )


AT_40X = _two(40, 625, 1_370)
CLEAN = replace(
    AT_40X,
    name="breakhis_40x_4class",
    title="BreaKHis breast tumour subtypes, 40X",
    question="Which of four benign or malignant breast tumours does this field show?",
    classes=tuple(SUBTYPES[code] for code in FOUR),
    protocol=Fixed(published=True, crossing="remove"),
    version=1,
    on_request=True,  # the folds of the binary tasks test on the same patients, so it may enter no corpus
    metric="balanced_accuracy",
    scan=partial(scan, task="breakhis_40x_4class", magnification=40, labels=FOUR, published=True),
    read=partial(layout.read_image, top=ANCHOR, task="breakhis_40x_4class"),
    expected=1_471,
    counts={
        part: {SUBTYPES[code]: count for code, count in zip(FOUR, counts, strict=True)}
        for part, counts in (("train", (136, 71, 596, 133)), ("val", (35, 31, 100, 30)), ("test", (82, 47, 168, 42)))
    },
)
PUBLISHED = replace(
    as_published(CLEAN, "BreaKHis breast tumour subtypes, 40X, published split"),
    scan=partial(CLEAN.scan, task="breakhis_40x_4class_published"),
    read=partial(CLEAN.read, task="breakhis_40x_4class_published"),
)

TASKS = (AT_40X, _two(100, 644, 1_437), _two(200, 623, 1_390), _two(400, 588, 1_232), CLEAN, PUBLISHED)
