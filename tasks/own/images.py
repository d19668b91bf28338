"""The images of a dataset of one's own with their class, group and part, from one of two forms:

folder   a folder for each class, called like it. Images lie in it (then each is its own group), or all in folders in
         it: such a folder is a group (a patient, say), and one name in two classes is one group. The classes may lie
         in folders called train, val (or valid, validation) and test: then those are the split
csv      a table with the columns file (relative to the table's folder), label, and perhaps group and split

What can be meant in one way only is read so: names in another case or Unicode form, backslashes, absolute paths that
stay inside. What can be meant in two ways is refused, and what is left out is named.
"""

from __future__ import annotations

import difflib
import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path, PureWindowsPath
from typing import NamedTuple

from tasks import splits
from tasks.base import DataError, NoData
from tasks.reading import folders, naming, tables

FORMS = ("folder", "csv")
COLUMNS = ("file", "label", "group", "split")
PART_WORDS = (
    dict.fromkeys(("train", "training"), "train")
    | dict.fromkeys(("val", "valid", "validation"), "val")
    | dict.fromkeys(("test", "testing"), "test")
)
UNCLEAR_WORDS = frozenset(
    ("dev", "development", "eval", "evaluation", "fold", "folds", "holdout", "split", "trainval", "traintest")
)
FILLERS = frozenset(("set", "data", "dataset", "split", "part", "images", "image", "imgs", "img"))  # as in "train_set"
RESEMBLING = {  # our column -> names of columns that may be meant for it
    "group": re.compile(
        r"patien|pazient|pacient|subject|sujet|soggett|participant|individual|volunteer|specimen|biops|(^|_)(group|case|"
        r"slide|person|donor|animal|cluster|video|clip|exam|study|series|owner)|(^|_)(wsi|pid|ptid|mrn|pat|subj?)(_|$)"
    ),
    "split": re.compile(r"split|fold|partition|subset|^(set|part|is_(train|test|val))$"),
    "label": re.compile(r"label|class|target|diagnos|categor"),
    "file": re.compile(r"file|path|image|img"),
}
IDENTIFIER = re.compile(r"(^|_)(id|ids|uid|identifier|nr|no|num|number|code|key|name)$")
CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")
NOT_IMAGES = frozenset(  # folders of what belongs to images
    name + plural for name in ("mask", "label", "annotation", "segmentation", "overlay") for plural in ("", "s")
)
MASK = re.compile(r"(.+?)[ _-]?(mask|masks|seg|segmentation|annotation)([ _-]?\d+)?", re.IGNORECASE)
SHOWN = 20  # columns that a message lists


class LabelledImage(NamedTuple):
    path: Path
    label: str  # its class
    group: str  # "" where none is known
    split: str


class Listing(NamedTuple):
    rows: list[LabelledImage]
    left_out: dict[str, list[str]]  # reason -> files and columns that are there and not read


def read_images(form: str, path: Path, name: str) -> Listing:
    """The dataset called `name`. Raises NoData where nothing is there, DataError for what cannot be meant."""
    if not (folders.is_folder(path) if form == "folder" else folders.is_file(path)):
        raise NoData(f"no {form} {folders.printable(path)}; put it back, then look with `make data TASK={name}`")
    content = of_folders(path) if form == "folder" else of_table(path)
    if not content.rows:
        left_out = folders.summarise(content.left_out)
        raise DataError(
            f"{path}: no images; {'a folder for each class' if form == 'folder' else 'rows'} should be there"
            + (f" ({left_out})" if left_out else "")
        )
    _refuse_gaps(content.rows)
    _refuse_masks(content.rows)
    naming.refuse_variants("classes", {row.label: row.path for row in content.rows}, path)
    naming.refuse_variants("groups", {row.group: row.path for row in content.rows}, path)
    if content.rows[0].split:
        _refuse_parts(content.rows, path)
    return content


def of_folders(top: Path) -> Listing:
    """The rows of a folder of classes, or of parts that each hold folders of classes."""
    found = folders.list_images(top)
    below = {path: path.relative_to(top).parts[:-1] for path in found.images}
    if loose := [path for path, parents in below.items() if not parents]:
        raise DataError(f"{loose[0]}: an image beside the classes ({len(loose)} such); put it into a class's folder")
    firsts = [folder.name for folder in folders.subfolders(top)]
    parts = _folders_of_parts(top, firsts)
    depth = 1 if parts else 0
    rows = []
    for path, parents in below.items():
        if len(parents) == depth:
            raise DataError(
                f"{path}: an image beside the classes of {parents[0]!r}; put it into a class's folder, or the folder "
                f"{parents[0]!r} elsewhere if its labels are not known"
            )
        label, *deeper = parents[depth:]
        for folder in (label, *deeper) if parts else deeper:
            if _part(folder) not in ("", parts.get(parents[0])):
                raise DataError(
                    f"{path}: {folder!r} is a part of a split below {parents[0]!r}; put the parts above the classes "
                    "(train/CLASS/image), or give a table: --csv with the columns file, label, group and split"
                )
        if drawn := [folder for folder in deeper if folder.casefold() in NOT_IMAGES]:
            raise DataError(
                f"{path}: a folder {drawn[0]!r} in a class, as if it held no images of its own; move it out, or list "
                "the images in a table: --csv"
            )
        group = naming.check_name(deeper[0], "group", path) if deeper else ""
        rows.append(LabelledImage(path, naming.check_name(label, "class", path), group, parts.get(parents[0], "")))
    filled = {top.joinpath(*parents[:depth]) for parents in below.values() for depth in (1, 2)}
    for folder in [top / name for name in firsts] + [held for name in parts for held in folders.subfolders(top / name)]:
        if folder not in filled:
            left_out = folders.summarise(found.left_out) or f"known are {', '.join(sorted(folders.IMAGE_SUFFIXES))}"
            raise DataError(f"{folders.printable(folder)}: no image ({left_out}); a folder here is a class")
    _refuse_swapped(top, rows)
    return Listing(rows, {reason: _below(paths, top) for reason, paths in found.left_out.items()})


def _folders_of_parts(top: Path, firsts: list[str]) -> dict[str, str]:
    """Folder name -> part, where the folders in top are the parts of a split; {} where they are classes."""
    parts = {name: part for name in firsts if (part := _part(name))}
    if not parts:
        return {}
    others = [name for name in firsts if parts.get(name) not in splits.PARTS]
    if others:
        raise DataError(
            f"{top}: {next(iter(parts))!r} sounds like a part of a split, and {others[0]!r} is neither train, val nor "
            "test; call the parts so and put nothing beside them, or rename what is a class"
        )
    twice = [part for part, count in Counter(parts.values()).items() if count > 1]
    if twice:
        both = ", ".join(repr(name) for name, part in parts.items() if part == twice[0])
        raise DataError(f"{top}: {both} are all the {twice[0]} part; put them into one folder {twice[0]!r}")
    return parts


def _part(name: str) -> str:
    """The part of a split that a folder or a cell names; "unclear" if it may name one; "" if it does not."""
    words = re.findall(r"[^\W\d_]+", CAMEL.sub(" ", name).casefold())
    words = [re.sub(rf"^({'|'.join(PART_WORDS)})({'|'.join(FILLERS)})$", r"\1", word) for word in words]
    telling = [word for word in words if word not in FILLERS]
    if len(telling) == 1 and telling[0] in PART_WORDS:
        return PART_WORDS[telling[0]]
    known = UNCLEAR_WORDS | PART_WORDS.keys()
    return "unclear" if telling and all(word in known for word in telling) else ""


def _refuse_swapped(top: Path, rows: list[LabelledImage]) -> None:
    """Refuse patient/CLASS/image: many folders that all hold folders of the same few names."""
    classes, groups = {row.label for row in rows}, {row.group for row in rows}
    if "" not in groups and len(groups) < len(classes):
        raise DataError(
            f"{top}: {len(classes)} folders ({naming.list_few(classes)}) hold folders of {len(groups)} names "
            f"({naming.list_few(groups)}), as if classes lay in the groups; put the groups into the classes "
            "(CLASS/GROUP/image), or give a table: --csv with the columns file, label and group"
        )


def of_table(table: Path) -> Listing:
    """The rows of a CSV file."""
    lines = tables.read_csv(table)
    if not lines:
        return Listing([], {})
    column, ignored = _columns(table, lines)
    locate = _locator(table.parent)
    rows: dict[Path, LabelledImage] = {}
    missing, first_row = [], {}
    for number, line in enumerate(lines, 2):
        where = f"{table}, row {number}"
        if None in line:
            raise DataError(f"{where}: more cells than columns; put a cell that holds a comma into quotation marks")
        cells = {name: naming.compose(line[column[name]]) if name in column else "" for name in COLUMNS}
        if not cells["file"] or not cells["label"]:
            raise DataError(f"{where}: file {cells['file']!r}, label {cells['label']!r}; both are needed")
        label = naming.check_name(cells["label"], "label", where)
        group = naming.check_name(cells["group"], "group", where) if cells["group"] else ""
        split = _part(cells["split"])
        if cells["split"] and split not in splits.PARTS:
            raise DataError(f"{where}: split {cells['split']!r}; known: {', '.join(splits.PARTS)}")
        path = locate(line[column["file"]], where)
        if not folders.is_file(path):
            missing.append(path)
            continue
        if path in rows:
            raise DataError(
                f"{where}: {cells['file']!r} is listed twice, as {label!r} and in row {first_row[path]} as "
                f"{rows[path].label!r}; keep one"
            )
        rows[path], first_row[path] = LabelledImage(path, label, group, split), number
    if missing:
        raise DataError(
            f"{folders.printable(missing[0])}: listed in {table.name}, not there ({len(missing)} such"
            f"{_nearest(missing[0])}); put it back, or remove its row"
        )
    if "group" in column:
        _refuse_coarser(table, lines, column["group"], ignored)
    left_out = {}
    if ignored:
        left_out["column(s) not called file, label, group or split"] = [
            name or "one without a name" for name in ignored
        ]
    if unlisted := _unlisted(rows):
        left_out["images beside the listed ones, without a row"] = _below(unlisted, table.parent)
    return Listing(list(rows.values()), left_out)


def _columns(table: Path, lines: list[dict[str, str]]) -> tuple[dict[str, str], list[str]]:
    """(our column -> its name in the table, names that are not read). Raises DataError for names that may be ours."""
    ours: dict[str, str] = {}
    others = []
    header = [name for name in lines[0] if name or (name == "" and any(line[name].strip() for line in lines))]
    for name in header:
        known = naming.fold_case(name)
        if known in ours:
            raise DataError(f"{table}: columns {ours[known]!r} and {name!r} are both the {known}; keep one")
        if known in COLUMNS:
            ours[known] = name
        else:
            others.append(name)
    meanings = {name: _resembles(name, [line[name] for line in lines]) for name in others}
    for needed in ("file", "label"):
        if needed not in ours:
            listed = ", ".join(header[:SHOWN]) or "nothing"
            hint = [name for name, meant in meanings.items() if meant == needed]
            remedy = f"rename {hint[0]!r} to it" if hint else "its first line names the columns, mend it"
            raise DataError(f"{table}: no column {needed!r}, found {listed}; {remedy}")
    for name, meant in meanings.items():
        if meant in ("group", "split") and meant not in ours:
            raise DataError(
                f"{table}: unknown column {name!r}; did you mean {meant!r}? Rename it so, or, if it is not meant, "
                f"call it otherwise or remove it (known: {', '.join(COLUMNS)})"
            )
    return ours, others


def _resembles(name: str, cells: list[str]) -> str:
    """The column of ours that one may be meant for, by its name or by what it holds; "" if none."""
    plain = re.sub(r"[\W_]+", "_", CAMEL.sub("_", name).casefold()).strip("_")
    if all(map(_part, cells)):
        return "split"
    for ours, resembling in RESEMBLING.items():
        if resembling.search(plain):
            return ours
    if near := difflib.get_close_matches(plain, COLUMNS, n=1, cutoff=0.75):
        return near[0]
    return "group" if IDENTIFIER.search(plain) and len(set(cells)) < len(cells) else ""


def _refuse_coarser(table: Path, lines: list[dict[str, str]], group: str, ignored: list[str]) -> None:
    """Refuse groups that lie within patients: another column looks like groups, and one of its has several of ours."""
    for name in ignored:
        if _resembles(name, [line[name] for line in lines]) != "group":
            continue
        held: dict[str, set[str]] = defaultdict(set)
        for line in lines:
            if not naming.is_missing(line[name]):
                held[naming.compose(line[name])].add(naming.compose(line[group]))
        apart = [value for value, groups in held.items() if len(groups) > 1]
        if apart:
            raise DataError(
                f"{table}: {name} {apart[0]!r} has {len(held[apart[0]])} groups ({naming.list_few(held[apart[0]])}), "
                f"which may go to both sides of a split ({len(apart)} such); make {name!r} the group, or remove it"
            )


def _locator(top: Path) -> Callable[[str, str], Path]:
    """A function (cell, where it stands) -> path: as written, else the one file meant, else where it should be."""
    entries: dict[Path, dict[str, list[str]]] = {}

    def entry(folder: Path, name: str, where: str) -> str:
        if folder not in entries:
            known = entries.setdefault(folder, defaultdict(list))
            for there in _names(folder):
                known[naming.fold_case(there)].append(there)
        meant = entries[folder].get(naming.fold_case(name), [])
        if name in meant or not meant:
            return name
        if len(meant) > 1:
            raise DataError(f"{where}: {name!r} may be {' or '.join(map(repr, meant))}; write it as it is called")
        return meant[0]

    def locate(cell: str, where: str) -> Path:
        if folders.is_file(top / cell) and not Path(cell).is_absolute() and ".." not in Path(cell).parts:
            return top / os.path.normpath(cell)
        path = top
        for name in _inside_of(top, cell.strip(), where):
            path /= entry(path, name, where)
        return path

    return locate


def _inside_of(top: Path, cell: str, where: str) -> tuple[str, ...]:
    """The parts of a path below top. Raises DataError if it leads elsewhere."""
    if PureWindowsPath(cell).drive and not Path(cell).is_absolute():
        raise DataError(f"{where}: {cell!r} is a path of a Windows drive; write it relative to the table's folder")
    path = Path(os.path.normpath(cell if cell.startswith("/") else cell.replace("\\", "/")))
    if path.is_absolute():
        for absolute in (path, path.parent.resolve() / path.name):
            if absolute.is_relative_to(top):
                return absolute.relative_to(top).parts
    if path.is_absolute() or ".." in path.parts[:1]:
        raise DataError(
            f"{where}: {cell!r} leads out of the table's folder {top}; move the table to a folder above its images"
        )
    return path.parts


def _nearest(path: Path) -> str:
    """What a missing file may be called, in words; "" where nothing is like it."""
    near = difflib.get_close_matches(path.name, map(folders.printable, _names(path.parent)), n=1, cutoff=0.8)
    return f"; did you mean {near[0]!r}?" if near else ""


def _names(folder: Path) -> list[str]:
    """What lies in a folder; nothing where it cannot be looked into."""
    try:
        return sorted(os.listdir(folder))
    except (OSError, ValueError):  # ValueError: a zero byte in the path
        return []


def _unlisted(rows: dict[Path, LabelledImage]) -> list[Path]:
    """Images that lie in the folders of the listed ones."""
    return [
        path
        for folder in sorted({path.parent for path in rows})
        for path in folders.list_files(folder, recursive=False).files
        if path.suffix.lower() in folders.IMAGE_SUFFIXES and path not in rows
    ]


def _refuse_gaps(rows: list[LabelledImage]) -> None:
    for column in ("group", "split"):
        without = [row.path for row in rows if not getattr(row, column)]
        if 0 < len(without) < len(rows):
            raise DataError(
                f"{without[0]}: no {column} ({len(without)} such images); give one to all images, or to none"
            )


def _refuse_masks(rows: list[LabelledImage]) -> None:
    """Refuse the outline of an image, called NAME_mask beside NAME, as an image of its own."""
    stems = {(row.path.parent, row.path.stem) for row in rows}
    masks = [
        row.path for row in rows if (match := MASK.fullmatch(row.path.stem)) and (row.path.parent, match[1]) in stems
    ]
    if masks:
        raise DataError(
            f"{masks[0]}: looks like the mask of an image beside it ({len(masks)} such); move the masks out, or list "
            "the images in a table: --csv"
        )


def _refuse_parts(rows: list[LabelledImage], place: Path) -> None:
    """Refuse a split that lacks train or test, and a part that lacks a class: what is chosen or measured there would be
    undefined."""
    counts = Counter((row.split, row.label) for row in rows)
    given = [part for part in splits.PARTS if any(part == split for split, _ in counts)]
    for part in ("train", "test"):
        if part not in given:
            raise DataError(
                f"{place}: no {part} part, only {' and '.join(given)}; a split has train, test and perhaps val: call "
                "the parts so, or give the images without a split to have one made"
            )
    classes = sorted({row.label for row in rows})
    for part in given:
        absent = [name for name in classes if not counts[part, name]]
        if absent:
            held = ", ".join(f"{name} {counts[part, name]}" for name in classes)
            raise DataError(
                f"{place}: no image of class {absent[0]!r} in the {part} part ({held}); every part needs every class: "
                "mend the split, or give none to have one made"
            )


def _below(paths: Iterable[Path], top: Path) -> list[str]:
    return [folders.printable(path.relative_to(top)) for path in paths]
