"""CORPUS=open: fetched from a server of our own as its owners would serve it, then missing, reduced or altered."""

import functools
import gzip
import hashlib
import http.server
import json
import re
import shutil
import threading
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image

import tasks
from benchmark import corpus
from benchmark.cli import data as data_commands
from benchmark.cli import data_report
from benchmark.study import Wanted, survey
from tasks import splits
from tasks.base import Access, DataError, NoData
from tasks.obtain import fetch as fetch_module
from tasks.obtain import receipts
from tests.layouts import aul, bus_bra, crc, pcam

PATIENTS = 48  # of BUS-BRA: both of its halves hold five folds
IMAGES = {"aul": aul.IMAGES, "bus_bra": 84, "crc": crc.IMAGES, "pcam": pcam.IMAGES}
WRITTEN = {"ultrasound": ("aul", "bus_bra"), "histo": ("crc", "pcam")}
BUSBRA, MASK = "BUSBRA/Images/bus_0001-l.png", "BUSBRA/Masks/mask_0001-l.png"


def write(folder: Path) -> Path:
    """The members' layouts, each in the folder that its downloads go to."""
    for layout in (aul, crc):
        layout.write(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bus_bra, "PATIENTS", PATIENTS)
        bus_bra.write(folder)
    pcam.write(folder / "pcam")
    return folder


def checksum(path: Path) -> str:
    return f"md5:{hashlib.md5(path.read_bytes()).hexdigest()}"


def published(access: Access, written: Path, site: Path, url: str) -> Access:
    """The same downloads of the layouts' files: archives beside `site` and, on the card, their checksums and sizes."""
    downloads = []
    for download in access.downloads:
        source = written / download.into / download.name.removesuffix(".gz").removesuffix(".zip")
        target = site / download.name
        if download.name.endswith(".zip"):
            with zipfile.ZipFile(target, "w") as file:
                file.writestr(f"__MACOSX/{source.name}/._1", b"")
                for path in sorted(source.rglob("*")):
                    file.write(path, path.relative_to(source.parent))
        else:
            content = source.read_bytes()
            target.write_bytes(gzip.compress(content) if download.unpack else content)
        about = {"url": f"{url}/{target.name}", "checksum": checksum(target), "bytes": target.stat().st_size}
        downloads.append(replace(download, **about))
    lone = {path.name: checksum(path) for path in (written / "pcam").glob("*.h5")} if "pcam" in access.home else {}
    return replace(access, downloads=tuple(downloads), checksums=lone)


@pytest.fixture(scope="module")
def owners(tmp_path_factory):
    """The cards of the members, and their archives, served."""
    written, site = write(tmp_path_factory.mktemp("written")), tmp_path_factory.mktemp("site")
    handler = functools.partial(Quiet, directory=str(site))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    made = {}
    for modality, names in WRITTEN.items():
        for name in names:
            task = tasks.get(modality, name)
            access = published(task.access, written, site, f"http://127.0.0.1:{server.server_port}")
            made[name] = replace(task, access=access, expected=IMAGES[name], counts={})
    yield made, site
    server.shutdown()
    thread.join()
    server.server_close()


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def cards(owners, monkeypatch):
    """The members' tasks by name, as the registry has them in this test; one may be replaced."""
    made, real = dict(owners[0]), tasks.get
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(fetch_module, "PAUSES", ())
    monkeypatch.setattr(tasks, "get", lambda modality, name: made.get(name) or real(modality, name))
    return made


@pytest.fixture(scope="module")
def fetched(owners, tmp_path_factory) -> Path:
    """All members, fetched as `make data` does."""
    data = tmp_path_factory.mktemp("fetched")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("no_proxy", "127.0.0.1")
        for task in owners[0].values():
            fetch_module.fetch(task.access.downloads, data, say=str)
    return data


@pytest.fixture
def data(fetched, tmp_path) -> Path:
    return Path(shutil.copytree(fetched, tmp_path / "data"))


def resolve(data: Path, modality: str = "ultrasound") -> corpus.Pinned:
    return corpus.resolve(modality, "open", data, data.parent / "cache")


def refusal(data: Path, modality: str = "ultrasound") -> str:
    with pytest.raises(DataError) as caught:
        resolve(data, modality)
    assert not isinstance(caught.value, NoData)
    return str(caught.value)


@pytest.mark.parametrize("modality", WRITTEN)
def test_what_was_fetched_is_the_corpus_by_training_parts_the_same_everywhere(cards, data, tmp_path, modality):
    pinned, members = resolve(data, modality)
    assert pinned.members == tuple((name, tasks.get(modality, name).version) for name in WRITTEN[modality])
    for member in members:
        tested = {member.samples[i].id for part in splits.assignments(member.source, member.samples) for i in part.test}
        assert tested
        assert not tested & {sample.id for sample in member.train}
        assert len(member.samples) == IMAGES[member.source.name]
    assert pinned.images == sum(len(member.train) for member in members)
    elsewhere = tmp_path / "mounted" / "data"
    shutil.copytree(data, elsewhere / "deeper")
    assert resolve(elsewhere, modality).corpus == pinned


def test_bytes_are_read_once_and_again_when_a_file_was_touched(cards, data, monkeypatch):
    read = []
    monkeypatch.setattr(receipts, "find_difference", lambda receipt: read.append(receipt.archive) or "")
    resolve(data)
    resolve(data)
    assert read == ["Benign.zip", "Malignant.zip", "Normal.zip", "BUSBRA.zip"]
    (data / BUSBRA).touch()
    resolve(data)
    assert read[4:] == ["BUSBRA.zip"]


def flip(path: Path) -> None:
    """Change the last byte: a file of the same size."""
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


def swap(path: Path, old: bytes, new: bytes) -> None:
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new))


def reduce(path: Path) -> None:
    with Image.open(path) as image:
        image.resize((8, 8)).save(path)


def add(path: Path) -> None:
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(path)


def retell(path: Path, **told) -> None:
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | told), encoding="utf-8")


HARM = {  # name -> what is done under data, and what is said of it
    "a changed byte": ("bus_bra", lambda d: flip(d / BUSBRA), rf"{BUSBRA} has SHA-256 \w+, \w+ in"),
    "a changed table": (
        "bus_bra",
        lambda d: swap(d / "BUSBRA/bus_data.csv", b"Logiq", b"logiq"),
        r"BUSBRA/bus_data.csv has SHA-256 \w+, \w+ in the archive \(1 such of 171 files of BUSBRA.zip\)",
    ),
    "a changed byte of many": (
        "pcam",
        lambda d: flip(d / "pcam/camelyonpatch_level_2_split_valid_y.h5"),
        r"split_valid_y.h5 has SHA-256 .* of camelyonpatch_level_2_split_valid_y.h5.gz\)",
    ),
    "another table, not packed": (
        "pcam",
        lambda d: swap(d / "pcam/camelyonpatch_level_2_split_test_meta.csv", b"test_010", b"test_011"),
        r"split_test_meta.csv has md5:\w+, published is md5:\w+",
    ),
    "a removed file": ("bus_bra", lambda d: (d / BUSBRA).unlink(), rf"partial, 83 of 84 images; \S+{BUSBRA} is gone"),
    "a removed mask": ("bus_bra", lambda d: (d / MASK).unlink(), rf"{MASK} is gone \(1 such"),
    "an added file": (
        "aul",
        lambda d: add(d / "aul/Benign/image/11.jpg"),
        r"Benign/image/11.jpg is not of Benign.zip, Malignant.zip, Normal.zip \(1 such images\)",
    ),
    "reduced images": (
        "bus_bra",
        lambda d: list(map(reduce, sorted((d / "BUSBRA/Images").iterdir()))),
        rf"{BUSBRA} has [\d,]+ bytes, [\d,]+ in the archive \(84 such of 171",
    ),
    "no receipt": ("aul", lambda d: (d / "aul/.Benign.zip.done").unlink(), r"aul: no receipt of Benign.zip; move"),
    "a receipt without files": (
        "bus_bra",
        lambda d: (d / ".BUSBRA.zip.done").write_text('{"checksum": "md5:0", "holds": ["BUSBRA"]}'),
        "no receipt of BUSBRA.zip",
    ),
    "a receipt of another archive": (
        "crc",
        lambda d: retell(d / ".CRC-VAL-HE-7K.zip.done", checksum="md5:" + "0" * 32),
        r".CRC-VAL-HE-7K.zip.done is of an archive of md5:0+, published is md5:\w+",
    ),
    "a receipt of other content": (
        "bus_bra",
        lambda d: swap(
            d / ".BUSBRA.zip.done", hashlib.sha256((d / BUSBRA).read_bytes()).hexdigest().encode(), b"0" * 64
        ),
        rf"{BUSBRA} has SHA-256 \w+, 0+ in the archive",
    ),
    "an empty receipt": (
        "bus_bra",
        lambda d: retell(d / ".BUSBRA.zip.done", files={}),
        r"is not of BUSBRA.zip \(84 such images\)",
    ),
}


@pytest.mark.parametrize("harm", HARM)
def test_what_is_not_as_published_is_refused_by_name_with_the_remedy(cards, data, harm):
    name, act, said = HARM[harm]
    modality = next(modality for modality, members in WRITTEN.items() if name in members)
    resolve(data, modality)
    act(data)
    _, fault = refusal(data, modality).split("\n  ")
    assert fault.startswith(f"{name}: ")
    assert re.search(said, fault)
    assert f"out of DATA and run `make data TASK={name}`" in fault
    assert f"`python -m benchmark data verify {name}`" in fault


def test_all_members_at_fault_are_named_at_once(cards, data):
    shutil.rmtree(data / "aul")
    flip(data / BUSBRA)
    head, first, second = refusal(data).split("\n  ")
    assert "open corpus of ultrasound (list 1: aul, bus_bra) is not here, whole and as published" in head
    assert first.startswith("aul is missing: no folder with")
    assert first.endswith("get it with `make data TASK=aul`")
    assert second.startswith("bus_bra: ")
    assert f"{BUSBRA} has SHA-256" in second


def test_a_new_checksum_on_the_card_refuses_what_was_fetched_by_the_old_one(cards, data):
    access = cards["bus_bra"].access
    new = (replace(access.downloads[0], checksum="sha256:" + "1" * 64),)
    cards["bus_bra"] = replace(cards["bus_bra"], access=replace(access, downloads=new))
    assert "BUSBRA.zip.done is of an archive of md5:" in refusal(data)
    cards["bus_bra"] = replace(cards["bus_bra"], access=replace(access, downloads=(replace(new[0], checksum=""),)))
    assert "published is ;" in refusal(data)


def test_a_receipt_speaks_of_the_files_beside_it_and_not_of_others_that_are_read(cards, data):
    (data / "kept").mkdir()
    for name in ("BUSBRA", ".BUSBRA.zip.done"):
        (data / name).rename(data / "kept" / name)
    shutil.copytree(data / "kept" / "BUSBRA", data / "BUSBRA")  # an outer copy is the one that is read
    assert f"{BUSBRA} is not of BUSBRA.zip (84 such images)" in refusal(data)


def test_a_receipt_of_an_earlier_archive_does_not_hide_the_right_one(cards, data):
    pinned = resolve(data).corpus
    (data / "new").mkdir()
    (data / "BUSBRA").rename(data / "new" / "BUSBRA")
    shutil.copy(data / ".BUSBRA.zip.done", data / "new")
    retell(data / ".BUSBRA.zip.done", checksum="md5:" + "0" * 32)
    moved = data.rename(data.parent / "moved")
    assert resolve(moved).corpus == pinned


def test_hidden_files_and_other_line_ends_do_not_count(cards, data):
    shutil.rmtree(data / "aul" / "__MACOSX")
    (data / "BUSBRA" / ".DS_Store").write_bytes(b"x")
    assert len(resolve(data).members) == 2
    table = data / "pcam/camelyonpatch_level_2_split_train_meta.csv"
    table.write_bytes(table.read_bytes().replace(b"\r\n", b"\n"))
    assert len(resolve(data, "histo").members) == 2


def by_hand(owners, folder: Path) -> Path:
    """BUS-BRA and PCam as a person unpacks them: the zip stays, gunzip leaves no archive behind."""
    made, site = owners
    (folder / "mine").mkdir(parents=True)
    (folder / "zips").mkdir()
    shutil.copy(site / "BUSBRA.zip", folder / "zips")
    with zipfile.ZipFile(site / "BUSBRA.zip") as file:
        file.extractall(folder / "mine")
    for download in made["pcam"].access.downloads:
        content = (site / download.name).read_bytes()
        name = download.name.removesuffix(".gz")
        (folder / "mine" / name).write_bytes(gzip.decompress(content) if download.unpack else content)
    return folder


def verified(name: str, data: Path, capsys) -> str:
    with pytest.raises(typer.Exit):
        data_commands.verify(name, data, 1, data.parent / "cache")
    return capsys.readouterr().out


def test_what_was_unpacked_by_hand_gets_its_receipts_from_verify(cards, owners, data, tmp_path, capsys):
    own = by_hand(owners, tmp_path / "own")
    assert "bus_bra: no receipt of BUSBRA.zip" in refusal(own)
    for name in ("bus_bra", "pcam"):
        assert "receipts every file is as published" in verified(name, own, capsys)
    assert (own / "zips" / "BUSBRA.zip").is_file()
    shutil.copytree(data / "aul", own / "aul")
    assert resolve(own).corpus == resolve(data).corpus
    for path in data.glob("*CRC*"):
        shutil.copytree(path, own / path.name) if path.is_dir() else shutil.copy(path, own)
    assert resolve(own, "histo").corpus == resolve(data, "histo").corpus


def test_verify_writes_no_receipt_of_what_differs_from_the_archive(cards, owners, tmp_path, capsys):
    own = by_hand(owners, tmp_path / "own")
    flip(own / "mine" / BUSBRA)
    said = verified("bus_bra", own, capsys)
    assert f"receipts not as CORPUS=open needs it: {own / 'mine' / BUSBRA} has SHA-256" in said
    flip(own / "mine/camelyonpatch_level_2_split_test_y.h5")
    assert "no receipt of camelyonpatch_level_2_split_test_y.h5.gz; move" in verified("pcam", own, capsys)
    assert not list(own.rglob(".BUSBRA.zip.done"))
    assert not list(own.rglob(".*test_y.h5.gz.done"))
    flip(own / "mine" / BUSBRA)
    flip(own / "zips" / "BUSBRA.zip")
    assert "no receipt of BUSBRA.zip; move" in verified("bus_bra", own, capsys)


def test_fetching_what_lies_there_whole_writes_its_receipt_and_asks_for_nothing(cards, owners, tmp_path, capsys):
    own = by_hand(owners, tmp_path / "own")
    access = cards["bus_bra"].access
    elsewhere = replace(access, downloads=(replace(access.downloads[0], url="http://127.0.0.1:1/BUSBRA.zip"),))
    cards["bus_bra"] = replace(cards["bus_bra"], access=elsewhere)
    with pytest.raises(typer.Exit):
        data_commands.fetch("bus_bra", own, tmp_path / "cache")
    assert "receipts every file is as published" in capsys.readouterr().out


def test_an_archive_that_is_not_unpacked_gets_no_receipt(cards, owners, tmp_path):
    shutil.copy(owners[1] / "BUSBRA.zip", tmp_path)
    with pytest.raises(DataError, match=r"BUSBRA.zip is there, but not unpacked"):
        fetch_module.attest(cards["bus_bra"], tmp_path)


def test_status_says_what_the_corpus_still_needs(cards, data, capsys):
    def needs(place: Path) -> list[str]:
        data_commands.status("", place, data.parent / "cache")
        return [line for line in capsys.readouterr().out.splitlines() if line.startswith("CORPUS=open")]

    assert needs(data) == ["CORPUS=open of histo: all of it is here", "CORPUS=open of ultrasound: all of it is here"]
    (data / "aul/.Benign.zip.done").unlink()
    (data / BUSBRA).unlink()
    sizes = {
        name: data_report.format_bytes(sum(file.bytes for file in task.access.downloads))
        for name, task in cards.items()
    }
    assert needs(data)[1] == (
        f"CORPUS=open of ultrasound still needs aul ({sizes['aul']}, not shown to be as published), bus_bra "
        f"({sizes['bus_bra']}, partial): `make data TASK=aul,bus_bra`"
    )
    (data.parent / "empty").mkdir()
    assert f"crc ({sizes['crc']}, missing), pcam ({sizes['pcam']}, missing)" in needs(data.parent / "empty")[0]


def test_a_plan_over_the_corpus_probes_real_tasks_and_refuses_without_it(cards, data):
    asked = Wanted(modalities=("histo",), track="smoke", pretexts=("mae",), tasks=("pcam",), corpus="open")
    study = survey(asked, "histo", data, data.parent / "cache")
    assert (study.spec, list(study.tasks)) == ("open", ["pcam"])
    assert study.pinned.corpus == resolve(data, "histo").corpus
    (data.parent / "less").mkdir()
    (data / "pcam").rename(data.parent / "less" / "pcam")
    with pytest.raises(DataError, match="crc is missing"):
        survey(asked, "histo", data.parent / "less", data.parent / "cache")


def test_other_corpora_need_no_receipts(cards, data, tmp_path):
    before = corpus.resolve("ultrasound", "local", data, tmp_path / "cache")
    for receipt in data.rglob(".*.done"):
        receipt.unlink()
    assert corpus.resolve("ultrasound", "local", data, tmp_path / "cache") == before
    assert corpus.resolve("ultrasound", "phantom", tmp_path / "nowhere", tmp_path / "cache").corpus.name == "phantom"
