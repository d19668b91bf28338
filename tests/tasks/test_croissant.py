"""Cards as Croissant metadata: what mlcroissant accepts, from the card alone, nothing invented."""

import json
import sys
from dataclasses import replace

import mlcroissant
import pytest

import tasks
from benchmark.cli import data as data_commands
from tasks import cards, croissant
from tasks.base import DataError, Download, Fixed
from tasks.ultrasound.busi import TASK as BUSI

ALL = [tasks.get(modality, name) for modality in tasks.modalities() for name in tasks.names(modality)]
REAL = [task for task in ALL if cards.dataset(task) and not task.synthetic]
REQUIRED = ("description", "license", "name", "url", "creator", "datePublished", "citeAs", "version", "keywords")
URL = "https://example.org/files"
DOWNLOADS = (
    Download(url=f"{URL}/a.zip", name="a.zip", checksum="md5:" + "a" * 32, unpack=True, into="set", bytes=12),
    Download(url=f"{URL}/b.tar.gz", name="b.tar.gz", checksum="sha256:" + "b" * 64, unpack=True),
    Download(url=f"{URL}/c.csv", name="c.csv"),
)


def described(task: tasks.Task) -> dict:
    """The document, once mlcroissant has read it: references that lead nowhere and missing properties are errors."""
    document = croissant.describe(task)
    assert not mlcroissant.Dataset(jsonld=document).metadata.ctx.issues.errors
    return document


@pytest.mark.parametrize("task", REAL, ids=lambda task: task.name)
def test_every_real_dataset_has_a_valid_description(task):
    document = described(task)
    assert all(document.get(key) for key in REQUIRED)
    assert document["url"].startswith("http")
    assert document["datePublished"].isdigit()
    assert document["rai:dataCollection"]
    assert document["rai:dataBiases"]
    classes, *_, images = document["recordSet"]
    assert tuple(row["classes/name"] for row in classes["data"]) == task.classes
    known = ["image", "label", "group", "split", *task.columns]
    assert [field["@id"] for field in images["field"]] == [f"images/{name}" for name in known]


def test_the_text_is_the_cards():
    document = described(BUSI)
    assert document["alternateName"] == BUSI.title
    assert document["description"].startswith("BUSI, Dataset of Breast Ultrasound Images")
    assert "Counts: 780 images: benign 437" in document["description"]
    assert [author["name"] for author in document["creator"]] == ["Al-Dhabyani", "Gomaa", "Khaled", "Fahmy"]
    assert document["datePublished"] == "2020"
    assert "Baheya Hospital, Cairo" in document["rai:dataCollection"]
    assert {"second masks `_mask_1`", "axilla views"} < set(document["rai:dataBiases"])
    assert any(bias.startswith("Copies: near-duplicates within it") for bias in document["rai:dataBiases"])
    assert document["license"].startswith("not stated")
    (page, files) = document["distribution"]
    assert page["description"].startswith("By hand. 1. Download the archive from the owner")
    assert files["containedIn"] == {"@id": page["@id"]}


def test_downloads_become_files_with_their_checksums():
    task = replace(BUSI, access=replace(BUSI.access, downloads=DOWNLOADS, licence="CC BY-NC 4.0; see the page"))
    document = described(task)
    assert document["license"] == "https://creativecommons.org/licenses/by-nc/4.0/"
    archive, tar, table, images = document["distribution"]
    assert (archive["@id"], archive["contentUrl"], archive["md5"]) == ("set/a.zip", f"{URL}/a.zip", "a" * 32)
    assert archive["contentSize"] == "12 B"
    assert (tar["sha256"], tar["encodingFormat"]) == ("b" * 64, "application/gzip")
    assert (table["sha256"], table["encodingFormat"]) == (croissant.NO_CHECKSUM, "text/csv")
    assert images["containedIn"] == [{"@id": "set/a.zip"}, {"@id": "b.tar.gz"}]
    assert images["includes"] == "**/*.png"


def test_a_download_that_is_no_archive_holds_the_images_itself():
    box = Download(url=f"{URL}/box.mat", name="box.mat")
    access = replace(BUSI.access, downloads=(box,), checksums={"box.mat": "md5:" + "c" * 32})
    document = described(replace(BUSI, access=access))
    (file,) = document["distribution"]
    assert file["md5"] == "c" * 32
    assert document["recordSet"][-1]["field"][0]["source"]["fileObject"] == {"@id": "box.mat"}


def test_a_published_split_is_named_part_by_part():
    document = described(replace(BUSI, protocol=Fixed(published=True), counts={"train": {}, "test": {}}))
    parts = next(record for record in document["recordSet"] if record["@id"] == "splits")
    assert [row["splits/name"] for row in parts["data"]] == ["train", "test"]
    assert "splits" not in {record["@id"] for record in described(BUSI)["recordSet"]}


def test_what_a_card_does_not_tell_is_left_out():
    access = replace(BUSI.access, home="not published", citation="Doe. Unpublished")
    document = croissant.describe(replace(BUSI, access=access))
    assert not {"url", "datePublished"} & set(document)
    (held,) = document["distribution"]
    assert (held["@type"], "containedIn" in held) == ("cr:FileSet", False)
    assert document["creator"] == {"@type": "sc:Person", "name": "Doe"}


def test_the_year_is_the_publications():
    citation = "Doe, Roe and Poe, et al. The 2016 challenge. Journal 7:1998, 2019. doi:10.1000/2021"
    document = described(replace(BUSI, access=replace(BUSI.access, citation=citation)))
    assert document["datePublished"] == "2019"
    assert [author["name"] for author in document["creator"]] == ["Doe", "Roe", "Poe"]


def test_a_simulated_family_is_no_dataset_and_a_missing_library_is_named(monkeypatch):
    with pytest.raises(ValueError, match="simulated"):
        croissant.describe(tasks.get("histo", "phantom_local"))
    monkeypatch.setitem(sys.modules, "mlcroissant", None)
    with pytest.raises(DataError, match=r"pip install 'pretext-bench\[croissant\]'"):
        croissant.describe(BUSI)


def test_files_are_written_alike_each_time(tmp_path, monkeypatch):
    monkeypatch.setenv("PRETEXT_BENCH_TASKS", str(tmp_path))
    data_commands.croissant_(tmp_path / "one", "busi", False)
    data_commands.croissant_(tmp_path / "two", "", True)
    one, two = ((tmp_path / name / "ultrasound" / "busi.json").read_bytes() for name in ("one", "two"))
    assert one == two
    assert json.loads(one)["name"] == "busi"
    assert len(list((tmp_path / "two").rglob("*.json"))) == len(REAL)
    with pytest.raises(ValueError, match="either a TASK or --all"):
        data_commands.croissant_(tmp_path, "busi", True)
