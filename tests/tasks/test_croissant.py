"""Cards as text, and as Croissant metadata: required properties, references that lead somewhere, nothing invented."""

import json
from collections.abc import Iterator
from dataclasses import replace

import pytest

import tasks
from benchmark.cli import data_commands
from tasks import cards, croissant
from tasks.base import Download, Fixed
from tasks.ultrasound.busi import TASK as BUSI

ALL = [tasks.get(modality, name) for modality in tasks.modalities() for name in tasks.names(modality)]
REAL = [task for task in ALL if cards.dataset(task) and not task.synthetic]
REQUIRED = ("description", "license", "name", "url", "creator", "datePublished", "citeAs", "version", "keywords")
TERMS = {"FileObject", "FileSet", "RecordSet", "Field"}
PREFIXED = (  # terms of the format that are not schema.org's
    *("citeAs", "column", "equivalentProperty", "extract", "field", "fileObject", "fileProperty", "fileSet", "format"),
    *("includes", "isLiveDataset", "jsonPath", "key", "md5", "parentField", "path", "recordSet", "references", "regex"),
    *("repeated", "replace", "samplingRate", "separator", "source", "subField", "transform"),
)
URL = "https://example.org/files"
DOWNLOADS = (
    Download(url=f"{URL}/a.zip", name="a.zip", checksum="md5:" + "a" * 32, unpack=True, into="set", bytes=12),
    Download(url=f"{URL}/b.tar.gz", name="b.tar.gz", checksum="sha256:" + "b" * 64, unpack=True),
    Download(url=f"{URL}/c.csv", name="c.csv"),
)


def nodes(value: object) -> Iterator[dict]:
    """Every object of a JSON document but its @context."""
    if isinstance(value, dict):
        yield value
        for key, inner in value.items():
            if key != "@context":
                yield from nodes(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from nodes(inner)


def check(document: dict) -> None:
    """What Croissant 1.0 asks of a document, as far as it can be seen without reading the data."""
    assert document["@type"] == "sc:Dataset"
    assert document["conformsTo"][0] == "http://mlcommons.org/croissant/1.0"
    context = document["@context"]
    assert context["@vocab"] == "https://schema.org/"
    assert context["cr"] == "http://mlcommons.org/croissant/"
    assert context["conformsTo"] == "dct:conformsTo"
    assert all(context[term] == f"cr:{term}" for term in PREFIXED)
    assert context["data"] == {"@id": "cr:data", "@type": "@json"}
    assert context["dataType"] == {"@id": "cr:dataType", "@type": "@vocab"}
    assert context["rai"] == "http://mlcommons.org/croissant/RAI/"
    typed = [node for node in nodes(document) if str(node.get("@type", "")).startswith("cr:")]
    assert {node["@type"].removeprefix("cr:") for node in typed} <= TERMS
    names = [node["@id"] for node in typed]
    assert len(names) == len(set(names))
    references = [node["@id"] for node in nodes(document) if set(node) == {"@id"}]
    assert references
    assert set(references) <= set(names)
    for node in typed:
        assert node["name"]
        if node["@type"] == "cr:FileObject":
            assert node["contentUrl"].startswith("http")
            assert node["encodingFormat"]
            assert len({"md5", "sha256"} & set(node)) == 1
        elif node["@type"] == "cr:FileSet":
            assert node.get("containedIn", "nothing that has an address")
            assert node["includes"]
            assert node["encodingFormat"]
        elif node["@type"] == "cr:Field":
            assert node["dataType"].startswith("sc:")
        elif "data" in node:
            fields = {field["@id"] for field in node["field"]}
            assert all(set(record) == fields for record in node["data"])
            assert node["key"]["@id"] in fields
    (images,) = (record for record in document["recordSet"] if record["@id"] == "images")
    assert [field["@id"] for field in images["field"][:4]] == [
        f"images/{key}" for key in ("image", "label", "group", "split")
    ]


@pytest.mark.parametrize("task", REAL, ids=lambda task: task.name)
def test_every_real_dataset_has_a_valid_description(task):
    document = croissant.describe(task)
    check(document)
    assert all(document.get(key) for key in REQUIRED)
    assert document["url"].startswith("http")
    assert document["datePublished"].isdigit()
    assert document["rai:dataCollection"]
    assert document["rai:dataBiases"]
    classes = next(record for record in document["recordSet"] if record["@id"] == "classes")
    assert tuple(row["classes/name"] for row in classes["data"]) == task.classes


def test_the_text_is_the_cards():
    document = croissant.describe(BUSI)
    assert document["description"].startswith("BUSI, Dataset of Breast Ultrasound Images")
    assert "Counts: 780 images: benign 437" in document["description"]
    assert [author["name"] for author in document["creator"]] == ["Al-Dhabyani", "Gomaa", "Khaled", "Fahmy"]
    assert document["datePublished"] == "2020"
    assert "Baheya Hospital, Cairo" in document["rai:dataCollection"]
    assert {"second masks `_mask_1`", "axilla views"} < set(document["rai:dataBiases"])
    assert any(bias.startswith("Copies: near-duplicates within it") for bias in document["rai:dataBiases"])
    assert document["license"].startswith("not stated")


def test_downloads_become_files_with_their_checksums():
    task = replace(BUSI, access=replace(BUSI.access, downloads=DOWNLOADS, licence="CC BY-NC 4.0; see the page"))
    document = croissant.describe(task)
    check(document)
    assert document["license"] == "https://creativecommons.org/licenses/by-nc/4.0/"
    archive, tar, table, images = document["distribution"]
    assert (archive["@id"], archive["contentUrl"], archive["md5"]) == ("set/a.zip", f"{URL}/a.zip", "a" * 32)
    assert archive["contentSize"] == "12 B"
    assert (tar["sha256"], tar["encodingFormat"]) == ("b" * 64, "application/gzip")
    assert (table["sha256"], table["encodingFormat"]) == (croissant.NO_CHECKSUM, "text/csv")
    assert images["containedIn"] == [{"@id": "set/a.zip"}, {"@id": "b.tar.gz"}]
    assert images["includes"] == ["**/*.png"]


def test_a_download_that_is_no_archive_holds_the_images_itself():
    box = Download(url=f"{URL}/box.mat", name="box.mat")
    access = replace(BUSI.access, downloads=(box,), checksums={"box.mat": "md5:" + "c" * 32})
    document = croissant.describe(replace(BUSI, access=access))
    check(document)
    (file,) = document["distribution"]
    assert file["md5"] == "c" * 32
    assert document["recordSet"][-1]["field"][0]["source"]["fileObject"] == {"@id": "box.mat"}


def test_a_published_split_is_named_part_by_part():
    task = replace(BUSI, protocol=Fixed(published=True), counts={"train": {}, "test": {}})
    document = croissant.describe(task)
    check(document)
    parts = next(record for record in document["recordSet"] if record["@id"] == "splits")
    assert [row["splits/name"] for row in parts["data"]] == ["train", "test"]
    assert "splits" not in {record["@id"] for record in croissant.describe(BUSI)["recordSet"]}


def test_a_column_of_the_authors_is_a_field_of_the_images():
    for task, names in ((BUSI, []), (tasks.get("ultrasound", "bus_bra"), ["images/BI-RADS"])):
        document = croissant.describe(task)
        check(document)
        fields = document["recordSet"][-1]["field"]
        assert [field["@id"] for field in fields[4:]] == names
        assert all("as the authors state it" in field["description"] for field in fields[4:])


def test_what_a_card_does_not_tell_is_left_out():
    access = replace(BUSI.access, home="not published", citation="Doe. Unpublished")
    document = croissant.describe(replace(BUSI, access=access))
    check(document)  # mlcroissant refuses a FileObject without an address
    assert not {"url", "datePublished"} & set(document)
    assert [(held["@type"], "containedIn" in held) for held in document["distribution"]] == [("cr:FileSet", False)]
    assert document["creator"] == [{"@type": "sc:Person", "name": "Doe"}]


def test_the_year_is_the_publications():
    citation = "Doe, Roe and Poe, et al. The 2016 challenge. Journal 7:1998, 2019. doi:10.1000/2021"
    document = croissant.describe(replace(BUSI, access=replace(BUSI.access, citation=citation)))
    assert document["datePublished"] == "2019"
    assert [author["name"] for author in document["creator"]] == ["Doe", "Roe", "Poe"]


def test_a_simulated_family_is_no_dataset():
    with pytest.raises(ValueError, match="simulated"):
        croissant.describe(tasks.get("histo", "phantom_local"))


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


def test_a_card_is_read_by_its_columns():
    lines = (
        "What        first",
        "            second line",
        "Who         nobody",
        "Whatever    no label",
        "Traps       a; b",
    )
    card = cards.parse("\n".join(["Title: of it.", "", *lines]))
    assert card.title == "Title: of it."
    assert card.parts == {"What": "first second line", "Who": "nobody Whatever    no label", "Traps": "a; b"}
    assert cards.parse("Title.\n\nProse alone.").parts == {"What": "Prose alone."}


@pytest.mark.parametrize("task", REAL, ids=lambda task: task.name)
def test_every_real_card_has_every_part_in_order(task):
    assert tuple(cards.read(task).parts) == cards.LABELS


def test_a_task_named_like_another_dataset_does_not_borrow_its_card():
    assert cards.dataset(BUSI) == "busi"
    mine = replace(BUSI, name="busi_mine", title="Mine")
    assert cards.dataset(mine) == ""
    assert cards.text(mine).startswith("Mine.\n\nWhat        Does this")
    assert cards.read(mine).parts["Split"] == "cut here by groups, 60/20/20"
