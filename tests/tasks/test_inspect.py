"""What `data status` and `data verify` find: whole, partial, missing and broken datasets, and how commands say it."""

import hashlib
import shutil
import threading
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import tasks
from benchmark.cli import data as data_commands
from benchmark.cli import data_report
from tasks import inspect
from tasks.base import DataError, Download, Sample
from tasks.reading import layout
from tasks.ultrasound.busi import TASK as BUSI
from tests.helpers.permissions import barred
from tests.layouts import aul, busi

ROOT = Path(__file__).parents[2]
WHOLE = replace(BUSI, expected=busi.IMAGES, counts={"": busi.COUNTS})  # the layout's own card


@pytest.fixture
def data(tmp_path) -> Path:
    busi.write(tmp_path)
    return tmp_path


def image(data: Path, name: str) -> Path:
    return data / "Dataset_BUSI_with_GT" / name.partition(" ")[0] / f"{name}.png"


def test_a_whole_dataset_is_found_with_its_bytes_and_groups(data):
    found = inspect.status(WHOLE, data)
    used = [path for path in data.rglob("*.png") if "_mask" not in path.name]
    assert (found.state, found.images, found.groups) == ("found", busi.IMAGES, busi.GROUPS)
    assert found.bytes == sum(path.stat().st_size for path in used)
    assert inspect.status(WHOLE, data / "Dataset_BUSI_with_GT").bytes == found.bytes
    assert not found.reason


def test_a_folder_nested_in_itself_has_its_bytes(data):
    whole = inspect.status(WHOLE, data)
    top = data / "Dataset_BUSI_with_GT"
    top.rename(data / "inner")
    top.mkdir()
    (data / "inner").rename(top / top.name)
    (data / "groups.csv").rename(top / "groups.csv")
    layout.find_top.cache_clear()
    assert inspect.status(WHOLE, data) == whole


def test_a_folder_of_that_name_in_another_dataset_hides_no_file(tmp_path):
    aul.write(tmp_path / "ultrasound")
    (tmp_path / "ICIAR2018_BACH_Challenge" / "Photos" / "Benign").mkdir(parents=True)
    task = tasks.get("ultrasound", "aul")
    samples = task.scan(tmp_path)
    assert inspect.locate(task, tmp_path, samples).keys() == {sample.id for sample in samples}


def test_a_partial_dataset_is_partial_even_where_it_cannot_be_split(data):
    image(data, "normal (7)").unlink()
    found = inspect.status(WHOLE, data)
    assert (found.state, found.images, found.reason) == ("partial", busi.IMAGES - 1, "")
    for number in range(3, 7):
        image(data, f"normal ({number})").unlink()
    found = inspect.status(WHOLE, data)
    assert found.state == "partial"
    assert "class 'normal' has 2 groups" in found.reason
    assert not inspect.verify(WHOLE, data).broken


def test_an_empty_folder_is_missing_and_a_wrong_layout_is_broken(data, tmp_path_factory):
    nothing = inspect.status(BUSI, tmp_path_factory.mktemp("nothing"))
    assert (nothing.state, nothing.images, nothing.bytes) == ("missing", 0, None)
    assert "make data TASK=busi" in nothing.reason
    image(data, "benign (1)").rename(image(data, "benign (1)").with_name("scan.png"))
    wrong = inspect.verify(BUSI, data)
    assert wrong.broken
    assert "scan.png: the name is not like" in wrong.status.reason


def test_more_images_than_the_card_is_broken(data):
    more = replace(WHOLE, counts={"": busi.COUNTS | {"benign": 13, "normal": 13}})
    found = inspect.status(more, data)
    assert found.state == "broken"
    assert "22 images of benign, 13 on the card" in found.reason
    assert "39 images, 38 on the card" in inspect.status(replace(BUSI, expected=38, counts={}), data).reason


def test_of_ones_own_dataset_no_authors_are_spoken(data):
    for counts in ({"": busi.COUNTS | {"benign": 13}}, {}):
        found = inspect.status(replace(WHOLE, counts=counts, expected=38, root=data), data)
        assert found.state == "broken"
        assert "when it was described; remove them, or describe it anew" in found.reason
        assert "author" not in found.reason


def test_counts_stand_side_by_side_for_every_split_and_class(data):
    image(data, "malignant (1)").unlink()
    found = {count.name: (count.expected, count.found) for count in inspect.status(WHOLE, data).counts}
    assert found == {"benign": (22, 22), "malignant": (10, 9), "normal": (7, 7)}
    assert {count.expected for count in inspect.status(replace(BUSI, counts={}), data).counts} == {None}
    published = replace(WHOLE, counts={"train": busi.COUNTS})  # a card of another split than the samples'
    counts = inspect.status(published, data).counts
    assert [(c.split, c.expected, c.found) for c in counts if c.name == "benign"] == [("train", 22, 0), ("", 0, 22)]
    unstated = replace(WHOLE, counts={"": {}})  # a part of which the card states no counts by class
    assert {count.expected for count in inspect.status(unstated, data).counts} == {None}


def test_every_image_is_decoded_and_measured(data):
    found = inspect.verify(WHOLE, data, workers=2)
    assert not found.broken
    assert found.unreadable == {}
    assert found.modes == {"RGB": busi.IMAGES - 2, "RGBA": 2}
    sizes = [Image.open(data / sample.id).size for sample in BUSI.scan(data)]
    for spread, values in zip((found.widths, found.heights), zip(*sizes, strict=True), strict=True):
        assert spread == (min(values), np.median(values), max(values))


def test_unreadable_images_are_named_and_the_rest_is_still_looked_at(data):
    image(data, "benign (6)").write_bytes(b"")
    image(data, "normal (2)").write_bytes(image(data, "normal (2)").read_bytes()[:60])
    found = inspect.verify(WHOLE, data, workers=2)
    assert found.broken
    assert {name.rpartition("/")[2] for name in found.unreadable} == {"benign (6).png", "normal (2).png"}
    assert all("unreadable image" in reason for reason in found.unreadable.values())
    assert sum(found.modes.values()) == busi.IMAGES - 2


def test_checksums_are_compared_wherever_the_file_lies(data):
    table = data / "groups.csv"
    right = "sha256:" + hashlib.sha256(table.read_bytes()).hexdigest()
    url = "https://example.org/x.zip"
    downloads = (Download(url=url, name="x.zip", checksum="md5:" + "0" * 32), Download(url=url, name="y.zip"))
    access = replace(BUSI.access, checksums={"groups.csv": right}, downloads=downloads)
    task = replace(WHOLE, access=access)
    assert {c.file: (c.wrong, bool(c.found)) for c in inspect.verify(task, data).checksums} == {
        "x.zip": (False, False),
        "groups.csv": (False, True),
    }
    (data / "deep" / "er").mkdir(parents=True)
    (data / "deep" / "er" / "x.zip").write_bytes(b"cut short")
    found = inspect.verify(task, data)
    assert found.broken
    assert [checksum.file for checksum in found.checksums if checksum.wrong] == ["x.zip"]


def checksummed(data: Path, content: bytes) -> inspect.Checksum:
    """What is found of the groups' table, by a card that was written for this content."""
    right = "sha256:" + hashlib.sha256(content).hexdigest()
    task = replace(WHOLE, access=replace(BUSI.access, checksums={"groups.csv": right}, downloads=()))
    (checksum,) = inspect.verify(task, data).checksums
    return checksum


def test_a_text_is_judged_by_its_content_and_other_line_ends_are_said(data, capsys):
    table = data / "groups.csv"
    lines = table.read_bytes().replace(b"\r\n", b"\n")
    for there in (lines, lines.replace(b"\n", b"\r\n"), lines.rstrip(b"\n")):
        table.write_bytes(there)
        for published in (lines, lines.replace(b"\n", b"\r\n")):
            found = checksummed(data, published)
            assert not found.wrong
            assert found.same_text == (there != published)
    access = replace(BUSI.access, checksums={"groups.csv": "md5:" + hashlib.md5(lines).hexdigest()})
    data_report.print_verification(replace(WHOLE, access=access), data, 1, data / "cache")
    assert "checksum groups.csv: right but for its line ends" in capsys.readouterr().out
    assert checksummed(data, lines + b"another row\n").wrong
    table.write_bytes(b"file,neardup_group\n" + lines.partition(b"\n")[2].replace(b"\n", b"\0"))
    assert checksummed(data, lines).wrong


def test_a_link_to_a_checksummed_file_is_followed(data, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "x.zip").write_bytes(b"archive")
    (data / "linked").symlink_to(elsewhere)
    right = "md5:" + hashlib.md5(b"archive").hexdigest()
    task = replace(WHOLE, access=replace(BUSI.access, checksums={"x.zip": right}))
    (checksum,) = inspect.verify(task, data).checksums
    assert checksum.found == (right,)


def test_a_file_that_may_not_be_read_is_unreadable_and_a_folder_breaks_its_dataset_alone(data, capsys):
    with barred(image(data, "benign (6)"), data / "groups.csv"):
        assert "groups.csv: not a CSV file in UTF-8 ([Errno 13]" in inspect.status(WHOLE, data).reason
    (data / "groups.csv").rename(data / "x.csv")
    access = replace(BUSI.access, checksums={"x.csv": "md5:" + "0" * 32})
    with barred(image(data, "benign (6)"), data / "x.csv"):
        found = inspect.verify(replace(WHOLE, access=access), data, workers=2)
    assert (found.status.state, found.status.images) == ("found", busi.IMAGES)
    (reason,) = found.unreadable.values()
    assert "benign (6).png: unreadable image" in reason
    assert "Permission denied" in reason
    assert found.checksums[0].found == ("cannot be read (Permission denied)",)
    assert found.checksums[0].wrong
    for closed in (data / "Dataset_BUSI_with_GT", data / "Dataset_BUSI_with_GT" / "normal"):
        with barred(closed):
            data_commands.status("", data)
        said = capsys.readouterr().out
        assert "broken   ultrasound/busi" in said
        assert f"{closed}" in said
        assert "missing  ultrasound/tn5000" in said


def test_a_place_that_may_not_be_entered_is_named_where_a_dataset_is_missed(data):
    (data / "outer" / "inner").mkdir(parents=True)
    (data / "Dataset_BUSI_with_GT").rename(data / "outer" / "Dataset_BUSI_with_GT")
    with barred(data / "outer"):
        found = inspect.status(BUSI, data)
        others = {name: inspect.status(tasks.get(*name), data).reason for name in NAMELESS}
    assert found.state == "missing"
    for reason in (found.reason, *others.values()):
        assert "1 places there could not be looked at, such as" in reason
        assert "outer" in reason


NAMELESS = (("ultrasound", "aul"), ("histo", "mhist"), ("histo", "pcam"))  # found by what lies in a folder


@pytest.mark.parametrize("error", [DataError("x.png: bad"), PermissionError(13, "Permission denied", "/d/x.png")])
def test_whatever_a_scan_or_its_identity_finds_breaks_that_dataset_alone(data, error, monkeypatch):
    def raising(*_):
        raise error

    for part in ({"scan": raising}, {"left_out": raising}, {"columns": {"Grade": raising}}):
        task = replace(WHOLE, **part)
        found = inspect.status(task, data)
        assert found.state == "broken"
        assert "x.png: " in found.reason
    foreign = [sample._replace(group="caf\udce9") for sample in BUSI.scan(data)]
    found = inspect.status(replace(WHOLE, scan=lambda data: foreign), data)
    assert found.state == "broken"
    assert r"'caf\udce9': not UTF-8" in found.reason


def test_a_bug_of_a_reader_is_not_called_bad_data(data):
    def wrong(data):
        raise ValueError("a bug")

    with pytest.raises(ValueError, match="a bug"):
        inspect.status(replace(WHOLE, scan=wrong), data)


def test_images_of_one_colour_are_listed(data, capsys):
    Image.new("RGB", (30, 30), (200, 10, 10)).save(image(data, "benign (6)"))
    Image.fromarray(np.random.default_rng(0).integers(5, 8, (30, 30, 3), np.uint8)).save(image(data, "normal (2)"))
    found = inspect.verify(WHOLE, data)
    assert [name.rpartition("/")[2] for name in found.flat] == ["benign (6).png", "normal (2).png"]
    assert not found.broken
    assert not data_report.print_verification(WHOLE, data, 1, data / "cache")
    assert "one colour: Dataset_BUSI_with_GT/benign/benign (6).png" in capsys.readouterr().out


def test_one_image_with_two_labels_is_broken_unless_its_group_keeps_it_together(data):
    shutil.copy(image(data, "benign (7)"), image(data, "malignant (7)"))
    found = inspect.verify(WHOLE, data)
    (copies,) = found.contradictions
    assert [name.rpartition("/")[2] for name in copies.ids] == ["benign (7).png", "malignant (7).png"]
    assert not copies.together
    assert found.broken
    (data / "groups.csv").unlink()  # without a table the reader joins exact copies
    found = inspect.verify(WHOLE, data)
    assert found.contradictions[0].together
    assert not found.broken


def frames(data: Path) -> list[Sample]:
    return [Sample(f"set/box.bin#{i:03d}", i % 2, f"p{i // 4}", f"{i:064d}") for i in range(80)]


def frame(data: Path, sample: Sample, pixels: int) -> np.ndarray:
    index = int(sample.id[-3:])
    if index == 3:
        raise OSError("bad superblock")
    return np.zeros((10, 20, 3), np.uint8)


def test_a_container_is_located_once_and_its_readers_crash_is_named(tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "box.bin").write_bytes(bytes(1000))
    task = replace(BUSI, scan=frames, read=frame, classes=("a", "b"), expected=80, counts={})
    assert inspect.status(task, tmp_path).bytes == 1000
    found = inspect.verify(task, tmp_path)
    assert found.modes == {"in .bin": 79}
    assert "OSError: bad superblock" in found.unreadable["set/box.bin#003"]


def test_images_are_read_by_threads_and_containers_one_after_the_other(data):
    alive, most, lock = Counter(), Counter(), threading.Lock()

    def watched(kind):
        def read(data, sample, pixels):
            with lock:
                alive[kind] += 1
                most[kind] = max(most[kind], alive[kind])
            time.sleep(0.002)
            with lock:
                alive[kind] -= 1
            return np.zeros((8, 8, 3), np.uint8)

        return read

    def plain(data):
        return [sample._replace(id=sample.id.replace("#", "/") + ".png") for sample in frames(data) * 3]

    task = replace(BUSI, classes=("a", "b"), expected=None, counts={})
    inspect.verify(replace(task, scan=frames, read=watched("container")), data, workers=4)
    inspect.verify(replace(task, scan=plain, read=watched("plain")), data, workers=4)
    assert most == {"container": 1, "plain": 4}


def grades(data: Path) -> dict[str, str]:
    """Of every image but the normal ones, whose number is a grade; and of one that is not here."""
    named = [(sample.id, sample.id.rpartition("(")[2].partition(")")[0]) for sample in BUSI.scan(data)]
    told = {name: "4a" if int(number) > 3 else number for name, number in named if "normal" not in name}
    return told | {"Dataset_BUSI_with_GT/benign/benign (437).png": "5"}


def test_what_else_the_authors_say_stands_beside_the_classes(data, capsys):
    task = replace(WHOLE, columns={"Grade": grades})
    assert inspect.status(task, data).columns == {
        "Grade": {
            "benign": {"1": 1, "2": 1, "3": 1, "4a": 19},
            "malignant": {"1": 1, "2": 1, "3": 1, "4a": 7},
            "normal": {"": 7},
        }
    }
    image(data, "malignant (2)").unlink()
    assert not data_report.print_verification(task, data, 1, data / "cache")
    lines = capsys.readouterr().out.splitlines()
    assert lines[3:7] == [
        "  Grade: 1 2, 2 1, 3 2, 4a 26, not stated 7",
        "    benign    1 1, 2 1, 3 1, 4a 19",
        "    malignant 1 1, 3 1, 4a 7",
        "    normal    not stated 7",
    ]
    assert not data_report.print_verification(WHOLE, data, 1, data / "cache")
    assert "Grade" not in capsys.readouterr().out
