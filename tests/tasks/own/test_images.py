"""What is read of a folder of classes or a table: spellings accepted and refused, and what is left."""

import csv
import unicodedata
from collections import Counter
from pathlib import Path

import pytest

from tasks.base import DataError
from tasks.own import images
from tasks.reading import naming
from tests.helpers.permissions import barred

COLUMNS = ("file", "label", "group", "split")


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(str(path).encode("utf-8", "surrogateescape"))


def table(top: Path, lines: list[tuple[str, ...]], columns: tuple[str, ...] = COLUMNS) -> Path:
    top.mkdir(parents=True, exist_ok=True)
    with (top / "list.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([columns, *lines])
    return top / "list.csv"


def read(path: Path) -> images.Listing:
    return images.read_images("folder" if path.is_dir() else "csv", path, "mine")


def parted(top: Path, *parts: str, groups: bool = False) -> Path:
    for part in parts:
        inside = [f"{part}_{i}" if groups else "" for i in range(2)]
        touch(*(top / part / label / group / f"{i}.png" for label in "xy" for i, group in enumerate(inside)))
    return top


@pytest.mark.parametrize(
    ("parts", "meant"),
    [
        (("train", "val", "test"), ("train", "val", "test")),
        (("Training", "Validation", "Testing"), ("train", "val", "test")),
        (("TRAIN", "valid", "Test"), ("train", "val", "test")),
        (("train_set", "valid-data", "testset"), ("train", "val", "test")),
        (("TrainImages", "TestImages"), ("train", "test")),
        (("1_training", "2_testing"), ("train", "test")),
    ],
)
@pytest.mark.parametrize("groups", [False, True])
def test_folders_called_like_parts_are_the_split(tmp_path, parts, meant, groups):
    found = read(parted(tmp_path / "set", *parts, groups=groups)).rows
    assert {row.label for row in found} == {"x", "y"}
    assert {row.path.relative_to(tmp_path / "set").parts[0]: row.split for row in found} == dict(
        zip(parts, meant, strict=True)
    )
    assert all(bool(row.group) == groups for row in found)


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        (("train", "test", "other"), "'other' is neither train, val nor test"),
        (("train", "test", "dev"), "'dev' is neither"),
        (("fold1", "fold2", "fold3"), "'fold1' sounds like a part of a split"),
        (("train", "benign"), "'benign' is neither"),
        (("train", "val"), "no test part, only train and val"),
        (("train",), "no test part, only train"),
        (("val", "test"), "no train part, only val and test"),
        (("train", "Training", "test"), "are all the train part"),
    ],
)
def test_parts_that_are_no_whole_split_are_refused(tmp_path, parts, words):
    with pytest.raises(DataError, match=words):
        read(parted(tmp_path / "set", *parts))


def test_parts_below_classes_and_images_beside_classes_are_refused(tmp_path):
    touch(*(tmp_path / "a" / label / part / "0.png" for label in "xy" for part in ("train", "test")))
    with pytest.raises(DataError, match=r"'(train|test)' is a part of a split below 'x'"):
        read(tmp_path / "a")
    touch(*(tmp_path / "b" / label / "p1" / part / "0.png" for label in "xy" for part in ("train", "valid")))
    with pytest.raises(DataError, match="is a part of a split below 'x'"):
        read(tmp_path / "b")
    parted(tmp_path / "c", "train", "test")
    touch(tmp_path / "c" / "test" / "unlabelled.png")
    with pytest.raises(DataError, match=r"unlabelled.png: an image beside the classes of 'test'"):
        read(tmp_path / "c")
    parted(tmp_path / "d", "train", "test")
    (tmp_path / "d" / "val").mkdir()
    with pytest.raises(DataError, match=r"val: no image"):
        read(tmp_path / "d")


@pytest.mark.parametrize("part", images.splits.PARTS)
@pytest.mark.parametrize("form", ["folder", "csv"])
def test_a_part_that_lacks_a_class_is_refused(tmp_path, part, form):
    top = parted(tmp_path / "set", "train", "val", "test", groups=True)
    if form == "csv":
        lines = [
            (path.relative_to(top).as_posix(), path.parts[-3], path.parts[-2], path.parts[-4])
            for path in sorted(top.rglob("*.png"))
            if path.parts[-4:-2] != (part, "y")
        ]
        top = table(top, lines)
    else:
        (top / part / "y").rename(tmp_path / "elsewhere")
    with pytest.raises(DataError, match=f"no image of class 'y' in the {part} part \\(x 2, y 0\\)"):
        read(top)


def test_patients_that_hold_classes_are_refused(tmp_path):
    touch(*(tmp_path / "set" / f"p{i}" / label / "0.png" for i in range(5) for label in "01"))
    with pytest.raises(DataError, match=r"5 folders \(p0, p1, p2, ...\) hold folders of 2 names \(0, 1\)"):
        read(tmp_path / "set")


def test_hidden_parts_are_left_out_at_any_depth_and_counted(tmp_path):
    top = tmp_path / "set"
    touch(*(top / label / f"p{i}" / "0.png" for label in "xy" for i in range(3)))
    hidden = (".ipynb_checkpoints/x/0.png", "x/p0/.ipynb_checkpoints/0.png", "x/p1/._0.png", "__MACOSX/x/0.png")
    touch(*(top / name for name in hidden))
    found = read(top)
    assert len(found.rows) == 6
    assert found.left_out == {"hidden": sorted(hidden)}


def test_files_that_are_not_read_are_named_with_the_reason(tmp_path):
    top = tmp_path / "set"
    touch(*(top / label / f"{i}.PNG" for label in "xy" for i in range(3)), top / "x" / "notes.txt")
    touch(top / "x" / "a.dcm", top / "y" / "b.mp4", top / "y" / "c.heic")
    (top / "x" / "gone.png").symlink_to(tmp_path / "nothing")
    (top / "y" / "d.jpeg_original").write_bytes(b"\xff\xd8\xff\xe0")
    found = read(top)
    assert len(found.rows) == 6
    assert sorted(name for names in found.left_out.values() for name in names) == [
        "x/a.dcm",
        "x/gone.png",
        "y/b.mp4",
        "y/c.heic",
        "y/d.jpeg_original",
    ]
    assert len(found.left_out) == 5


def test_a_folder_of_a_class_that_is_a_link_is_read(tmp_path):
    touch(*(tmp_path / "elsewhere" / f"p{i}" / "0.png" for i in range(3)))
    touch(*(tmp_path / "set" / "y" / f"p{i}" / "0.png" for i in range(3)))
    (tmp_path / "set" / "x").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "set" / "y" / "p9").symlink_to(tmp_path / "far")
    touch(tmp_path / "far" / "9.png")
    assert Counter(row.label for row in read(tmp_path / "set").rows) == {"x": 3, "y": 4}


def test_masks_beside_images_are_no_images(tmp_path):
    touch(*(tmp_path / "set" / label / f"{label} ({i}).png" for label in "xy" for i in range(3)))
    touch(tmp_path / "set" / "mask" / "a_mask.png")  # a class may be called so
    assert len(read(tmp_path / "set").rows) == 7
    touch(tmp_path / "set" / "x" / "x (1)_mask.png", tmp_path / "set" / "x" / "x (2)_mask_1.tif")
    with pytest.raises(DataError, match=r"x \(1\)_mask.png: looks like the mask of an image beside it \(2 such\)"):
        read(tmp_path / "set")


def test_a_folder_of_masks_in_a_class_is_no_group(tmp_path):
    touch(*(tmp_path / "set" / label / kind / "0.png" for label in "xy" for kind in ("images", "Masks", "more")))
    with pytest.raises(DataError, match="a folder 'Masks' in a class"):
        read(tmp_path / "set")


@pytest.mark.parametrize(
    ("columns", "meant"),
    [
        (("file", "label", "patient_id"), "group"),
        (("file", "label", "Patient"), "group"),
        (("file", "label", "PatientID"), "group"),
        (("file", "label", "subject"), "group"),
        (("file", "label", "case no"), "group"),
        (("file", "label", "slide_id"), "group"),
        (("file", "label", "gruop"), "group"),
        (("file", "label", "groups"), "group"),
        (("file", "label", "paziente"), "group"),
        (("file", "label", "ID"), "group"),
        (("file", "label", "hospital_nr"), "group"),
        (("file", "label", "fold"), "split"),
        (("file", "label", "set"), "split"),
        (("file", "label", "data_split"), "split"),
        (("file", "label", "spilt"), "split"),
    ],
)
def test_a_column_that_may_be_a_patients_or_a_split_is_refused_by_name(tmp_path, columns, meant):
    touch(*(tmp_path / f"{i}.png" for i in range(6)))
    lines = [(f"{i}.png", "xy"[i % 2], f"p{i // 2}") for i in range(6)]
    with pytest.raises(DataError, match=f"unknown column {columns[2]!r}; did you mean {meant!r}"):
        read(table(tmp_path, lines, columns))


def test_a_column_that_holds_parts_is_a_split_whatever_it_is_called(tmp_path):
    touch(*(tmp_path / f"{i}.png" for i in range(6)))
    lines = [(f"{i}.png", "xy"[i % 2], ("Training", "Test")[i // 4]) for i in range(6)]
    with pytest.raises(DataError, match="unknown column 'usage'; did you mean 'split'"):
        read(table(tmp_path, lines, ("file", "label", "usage")))


def test_columns_are_known_in_any_case_and_others_are_named(tmp_path):
    touch(*(tmp_path / f"{i}.png" for i in range(8)))
    lines = [(f"{i}.png", "xy"[i % 2], f"p{i // 2}", ("Train", "testing")[i // 4], "40", "F") for i in range(8)]
    found = read(table(tmp_path, lines, ("File", " label ", "GROUP", "Split", "age", "sex")))
    assert {(row.group, row.split) for row in found.rows} == {(f"p{i}", ("train", "test")[i // 2]) for i in range(4)}
    assert found.left_out == {"column(s) not called file, label, group or split": ["age", "sex"]}
    with pytest.raises(DataError, match="columns 'group' and 'Group' are both the group"):
        read(table(tmp_path, lines, ("file", "label", "group", "Group", "age", "sex")))
    with pytest.raises(DataError, match="no column 'label', found file, Class; rename 'Class' to it"):
        read(table(tmp_path, [("0.png", "x")], ("file", "Class")))
    with pytest.raises(DataError, match="no column 'file', found path, label; rename 'path' to it"):
        read(table(tmp_path, [("0.png", "x")], ("path", "label")))


def test_a_column_without_a_name_is_named_as_not_read(tmp_path):
    touch(*(tmp_path / f"{i}.png" for i in range(4)))
    lines = [(str(i), f"{i}.png", "xy"[i % 2], "") for i in range(4)]
    found = read(table(tmp_path, lines, ("", "file", "label", " ")))
    assert found.left_out == {"column(s) not called file, label, group or split": ["one without a name", " "]}


def test_a_column_twice_and_a_row_too_long_are_refused(tmp_path):
    touch(*(tmp_path / f"{i}.png" for i in range(4)))
    lines = [(f"{i}.png", "xy"[i % 2], f"p{i}", f"q{i // 2}") for i in range(4)]
    with pytest.raises(DataError, match="'group' is the name of 2 columns"):
        read(table(tmp_path, lines, ("file", "label", "group", "group")))
    with pytest.raises(DataError, match="row 2: more cells than columns"):
        read(table(tmp_path, lines, ("file", "label", "group")))


def test_groups_finer_than_patients_are_refused(tmp_path):
    touch(*(tmp_path / f"{i}.png" for i in range(8)))
    lines = [(f"{i}.png", "xy"[i % 2], f"v{i // 2}", f"p{i // 4}") for i in range(8)]
    with pytest.raises(DataError, match=r"patient 'p0' has 2 groups \(v0, v1\).*make 'patient' the group"):
        read(table(tmp_path, lines, ("file", "label", "group", "patient")))
    coarser = [(file, label, patient, video) for file, label, video, patient in lines]
    assert read(table(tmp_path, coarser, ("file", "label", "group", "video"))).left_out


def test_paths_that_can_be_meant_in_one_way_are_read(tmp_path):
    composed, apart = (unicodedata.normalize(form, "Größe") for form in ("NFC", "NFD"))
    top = tmp_path / "top"
    there = [top / name for name in ("in/a.png", "in/b.png", "in/c.png", f"{apart}/d.png", "in/E.PNG", "in/f g.png")]
    touch(*there)
    files = [
        "in\\a.png",
        str(top / "in" / "b.png"),
        "./in/../in/c.png",
        f"{composed}/d.png",
        "IN/e.png",
        " in/f g.png ",
    ]
    found = read(table(top, [(file, "xy"[i % 2], f"p{i}", "") for i, file in enumerate(files)]))
    assert [row.path for row in found.rows] == there
    touch(top / "in\\a.png")  # a name of its own on this system
    again = read(table(top, [("in\\a.png", "x", "p", ""), ("in/a.png", "y", "q", "")]))
    assert [row.path.name for row in again.rows] == ["in\\a.png", "a.png"]


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("C:\\data\\0.png", "is a path of a Windows drive"),
        ("\\\\server\\share\\0.png", "is a path of a Windows drive"),
        ("/elsewhere/0.png", "leads out of the table's folder"),
        ("\\elsewhere\\0.png", "leads out of the table's folder"),
        ("..\\out.png", "leads out of the table's folder"),
        ("in/../../out.png", "leads out of the table's folder"),
        ("B.PNG", "'B.PNG' may be 'B.png' or 'b.png'"),
        ("aa.pmg", r"aa.pmg: listed in list.csv, not there \(1 such; did you mean 'aa.png'\?\)"),
        ("a\0b/c.png", "not there"),
        ("9" * 5000 + ".png", "not there"),
        (".", "not there"),
    ],
)
def test_paths_that_cannot_be_meant_are_refused(tmp_path, file, words):
    touch(tmp_path / "out.png", *(tmp_path / "set" / name for name in ("B.png", "b.png", "aa.png")))
    with pytest.raises(DataError, match=words):
        read(table(tmp_path / "set", [(file, "x", "p", "")]))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("0", "0.0"),
        ("1", "01"),
        ("1", "1.0"),
        ("1", "+1"),
        ("1,0", "1"),
        ("True", "true"),
        ("TRUE", "1"),
        ("False", "0.0"),
        ("Benign", "benign"),
        ("non tumour", "non-tumour"),
        ("grade 01", "grade 1"),
        ("a b", "a\u00a0b"),
        ("１", "1"),
        ("Straße", "STRASSE"),
    ],
)
@pytest.mark.parametrize("column", ["label", "group"])
def test_names_that_differ_in_spelling_alone_are_refused(tmp_path, one, other, column):
    touch(*(tmp_path / f"{i}.png" for i in range(4)))
    values = [one, other, "else", "else"]
    lines = [
        (f"{i}.png", value, f"p{i}") if column == "label" else (f"{i}.png", "xy"[i % 2], value)
        for i, value in enumerate(values)
    ]
    with pytest.raises(DataError, match=r"would be two (classes|groups)"):
        read(table(tmp_path, lines, COLUMNS[:3]))


@pytest.mark.parametrize(
    "names", [("1", "-1"), ("1", "10"), ("0.5", "0.05"), ("a1", "a10"), ("1" * 20, "1" * 19 + "2"), ("x", "y")]
)
def test_names_that_differ_are_left_alone(tmp_path, names):
    naming.refuse_variants("classes", dict.fromkeys(names, tmp_path), tmp_path)


def test_blanks_around_names_and_unicode_forms_make_no_class(tmp_path):
    touch(*(tmp_path / f"{i}.png" for i in range(4)))
    labels = ["Größe", unicodedata.normalize("NFD", "Größe"), "y ", " y"]
    found = read(table(tmp_path, [(f"{i}.png", label, f"p{i}") for i, label in enumerate(labels)], COLUMNS[:3]))
    assert Counter(row.label for row in found.rows) == {"Größe": 2, "y": 2}


@pytest.mark.parametrize("value", ["nan", "NaN", "None", "NA", "<NA>", "null", "N/A", "?"])
@pytest.mark.parametrize("column", ["label", "group"])
def test_a_missing_value_is_no_name(tmp_path, value, column):
    touch(tmp_path / "0.png", tmp_path / "1.png")
    line = ("0.png", value, "p") if column == "label" else ("0.png", "x", value)
    with pytest.raises(DataError, match=r"row 2: .* is what programs write for a missing value"):
        read(table(tmp_path, [line, ("1.png", "y", "q")], COLUMNS[:3]))


@pytest.mark.parametrize("name", ["nan", "None", "a\nb", "a\x1b[31m"])
def test_a_folder_is_called_like_a_class(tmp_path, name):
    touch(tmp_path / "set" / name / "0.png", tmp_path / "set" / "y" / "0.png")
    with pytest.raises(DataError, match=r"class .* (missing value|cannot be shown)"):
        read(tmp_path / "set")


@pytest.mark.parametrize("place", ["x/caf\udce9.png", "caf\udce9/0.png", "x/caf\udce9/0.png"])
def test_a_name_that_is_not_utf8_is_refused_in_printable_form(tmp_path, place):
    touch(tmp_path / "set" / "y" / "0.png", tmp_path / "set" / place)
    with pytest.raises(DataError, match=r"caf\\xe9.*its name is not UTF-8") as caught:
        read(tmp_path / "set")
    str(caught.value).encode()


def test_a_file_listed_twice_is_named_with_both_rows(tmp_path):
    touch(tmp_path / "0.png", tmp_path / "1.png")
    lines = [("0.png", "x", "p"), ("1.png", "y", "p"), (".\\0.png", "y", "p")]
    with pytest.raises(DataError, match=r"row 4: '.\\\\0.png' is listed twice, as 'y' and in row 2 as 'x'"):
        read(table(tmp_path, lines, COLUMNS[:3]))


def test_images_beside_the_listed_ones_are_counted(tmp_path):
    touch(*(tmp_path / "in" / f"{i}.png" for i in range(6)), tmp_path / "in" / ".hidden.png")
    found = read(table(tmp_path, [(f"in/{i}.png", "xy"[i % 2], f"p{i}") for i in range(4)], COLUMNS[:3]))
    assert found.left_out == {"images beside the listed ones, without a row": ["in/4.png", "in/5.png"]}


def test_folders_and_tables_that_may_not_be_opened_are_named(tmp_path):
    touch(*(tmp_path / "set" / label / f"p{i}" / "0.png" for label in "xy" for i in range(3)))
    listed = table(tmp_path, [("set/x/p0/0.png", "x", "p0"), ("set/y/p0/0.png", "y", "p1")], COLUMNS[:3])
    with barred(tmp_path / "set" / "x" / "p2"):
        found = read(tmp_path / "set")
    assert len(found.rows) == 5
    assert ["x/p2"] in found.left_out.values()
    with barred(tmp_path / "set" / "x"), pytest.raises(DataError, match=r"set/x: no image .*cannot be entered"):
        read(tmp_path / "set")
    with barred(tmp_path / "set" / "x" / "p0"), pytest.raises(DataError, match=r"x/p0/0.png: listed in list.csv, not"):
        read(listed)
    with barred(listed), pytest.raises(DataError, match=r"list.csv: not a CSV file in UTF-8 \(.*Permission denied"):
        read(listed)
