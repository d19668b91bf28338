"""Unpacking archives, those that mean harm too."""

import gzip
import hashlib
import shutil
import tarfile
import zipfile
from types import SimpleNamespace

import numpy as np
import pytest

from tasks.base import DataError, NoData
from tasks.obtain import fetch as fetch_module
from tasks.obtain.fetch import unpack
from tasks.reading import layout
from tests.helpers.archives import FILES, HELD, LISTED, names, tarred, zipped

BODY = np.random.default_rng(0).bytes(1_000_000)
OTHER = np.random.default_rng(1).bytes(1_000_000)
SHA = hashlib.sha256(BODY).hexdigest()


TARS = {"a.tar": "w", "a.tar.gz": "w:gz", "A.TGZ": "w:gz", "a.tar.bz2": "w:bz2", "a.tar.xz": "w:xz"}


@pytest.mark.parametrize("name", ["a.zip", *TARS])
def test_an_archive_is_unpacked_whole(tmp_path, name):
    if name == "a.zip":
        archive = zipped(tmp_path / name, FILES)
    else:
        archive = tarred(tmp_path / name, FILES | {"top/": tarfile.DIRTYPE}, TARS[name])
    folder = tmp_path / "out"
    assert unpack(archive, folder) == fetch_module.contents(archive) == HELD
    assert names(folder) == LISTED
    assert (folder / "top/deep/b.txt").read_bytes() == b"second"


def test_a_single_compressed_file_loses_its_ending(tmp_path):
    archive = tmp_path / "x.h5.gz"
    archive.write_bytes(gzip.compress(BODY))
    assert unpack(archive, tmp_path) == fetch_module.contents(archive) == {"x.h5": (len(BODY), SHA)}
    assert (tmp_path / "x.h5").read_bytes() == BODY


def test_hidden_files_are_unpacked_and_not_told_of(tmp_path):
    archive = zipped(tmp_path / "a.zip", FILES | {"__MACOSX/._a.txt": b"", "top/.DS_Store": b"x"})
    assert unpack(archive, tmp_path / "out") == fetch_module.contents(archive) == HELD
    assert (tmp_path / "out/top/.DS_Store").is_file()


@pytest.mark.parametrize(
    "name", ["../out.txt", "a/../../out.txt", "/out.txt", "C:/out.txt", "..\\out.txt", "\\out.txt"]
)
@pytest.mark.parametrize("make", [zipped, tarred])
def test_a_member_outside_the_folder_is_refused(tmp_path, make, name):
    archive = make(tmp_path / f"a.{make.__name__[:3]}", {"a.txt": b"good", name: b"evil"})
    with pytest.raises(DataError, match=r"not unpacked, for it holds '.*out.txt', which lies outside the folder"):
        unpack(archive, tmp_path / "in" / "folder")
    assert not list(tmp_path.rglob("*.txt"))
    assert names(tmp_path / "in" / "folder") == []


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_a_link_or_device_in_a_tar_is_refused(tmp_path, kind):
    archive = tarred(tmp_path / "a.tar", {"a.txt": b"good", "top": kind, "top/b.txt": b"through it"})
    with pytest.raises(DataError, match="holds 'top', a link or device"):
        unpack(archive, tmp_path / "out")
    assert names(tmp_path / "out") == []


def test_a_link_in_a_zip_is_refused(tmp_path):
    link = zipfile.ZipInfo("top")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr(link, "/etc")
    with pytest.raises(DataError, match="holds 'top', a link or device"):
        unpack(tmp_path / "a.zip", tmp_path / "out")


@pytest.mark.parametrize("limits", [{}, {"ratio": 10**6, "most": 3_000_000}, {"ratio": 10**6, "members": 1}])
def test_a_bomb_is_put_out(tmp_path, monkeypatch, limits):
    monkeypatch.setattr(fetch_module, "ANYWAY", 1_000_000)
    bomb = zipped(tmp_path / "a.zip", {"a.bin": bytes(2_000_000), "b.bin": bytes(2_000_000)})
    with pytest.raises(
        DataError, match=r"holds (over \d+ bytes in a file of \d+|more than 1 members); if you trust it"
    ):
        unpack(bomb, tmp_path / "out", **limits)
    assert names(tmp_path / "out") == []
    assert len(unpack(bomb, tmp_path / "out", ratio=10**6, most=4_000_000, members=2)) == 2


def test_unpacking_never_fills_the_disk(tmp_path, monkeypatch):
    archive = zipped(tmp_path / "a.zip", {"a.bin": bytes(2_000_000)})
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=fetch_module.SPARE + 1_000_000))
    with pytest.raises(DataError, match="bytes of room, found 1000000"):
        unpack(archive, tmp_path / "out")
    assert names(tmp_path / "out") == []


def test_what_is_there_is_kept_if_equal_and_never_overwritten(tmp_path):
    archive = zipped(tmp_path / "a.zip", FILES)
    folder = tmp_path / "out"
    (folder / "top").mkdir(parents=True)
    (folder / "top/a.txt").write_bytes(b"First")
    with pytest.raises(DataError, match=r"out/top/a.txt: differs from the one in .*a.zip; nothing changed"):
        unpack(archive, folder)
    assert names(folder) == ["top", "top/a.txt"]
    assert (folder / "top/a.txt").read_bytes() == b"First"
    (folder / "top/a.txt").write_bytes(b"first")
    (folder / "top/mine.txt").write_bytes(b"mine")
    unpack(archive, folder)
    assert names(folder) == sorted([*LISTED, "top/mine.txt"])


@pytest.mark.parametrize("there", ["top", "notes.txt/"])
def test_a_file_and_a_folder_of_one_name_are_different(tmp_path, there):
    archive = zipped(tmp_path / "a.zip", FILES)
    place = tmp_path / "out" / there
    if there.endswith("/"):
        place.mkdir(parents=True)
    else:
        place.parent.mkdir()
        place.write_bytes(b"")
    with pytest.raises(DataError, match=rf"{place}: differs"):
        unpack(archive, tmp_path / "out")


def test_a_damaged_archive_leaves_nothing_behind(tmp_path):
    def damaged(name, content):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=rf"{name}: could not be unpacked .*; delete it and fetch it again"):
            unpack(tmp_path / name, tmp_path / "out")
        assert names(tmp_path / "out") == []

    members = {"a.bin": BODY, "b.bin": OTHER}
    whole = bytearray(zipped(tmp_path / "a.zip", members).read_bytes())
    damaged("short.zip", whole[:-30])
    whole[500_000] ^= 1
    damaged("bit.zip", whole)
    whole = tarred(tmp_path / "a.tar", members).read_bytes()
    second = whole.index(b"b.bin")
    damaged("header.tar", whole[:second] + b"x" * 512 + whole[second + 512 :])
    damaged("short.tar", whole[:second])
    damaged("half.tar", whole[: second + 1000])
    damaged("short.tar.gz", gzip.compress(whole)[:1_500_000])
    damaged("short.h5.gz", gzip.compress(BODY)[:-100])
    damaged("page.zip", b"<html>please log in</html>")


def test_a_half_unpacked_archive_is_never_taken_for_complete(tmp_path, monkeypatch):
    archive = zipped(tmp_path / "a.zip", FILES)

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(fetch_module, "_move", killed)
        patch.setattr(shutil, "rmtree", lambda *_, **__: None)  # nobody tidies up
        with pytest.raises(KeyboardInterrupt):
            unpack(archive, tmp_path / "out")
    assert list((tmp_path / "out").rglob("top/a.txt"))
    with pytest.raises(NoData):
        layout.find_top(tmp_path / "out", "top", "some_task")
    next((tmp_path / "out").rglob("a.txt")).with_name("torn.txt").write_bytes(b"fir")
    unpack(archive, tmp_path / "out")
    assert names(tmp_path / "out") == LISTED
    assert layout.find_top(tmp_path / "out", "top", "some_task") == tmp_path / "out" / "top"


def test_a_name_twice_in_an_archive_is_refused(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as file:
        file.addfile(tarfile.TarInfo("a.txt"))
        file.addfile(tarfile.TarInfo("a.txt"))
    with pytest.raises(DataError, match="FileExistsError"):
        unpack(tmp_path / "a.tar", tmp_path / "out")


def test_an_unknown_kind_of_archive_says_which_are_known(tmp_path):
    (tmp_path / "a.rar").write_bytes(b"Rar!")
    with pytest.raises(DataError, match=r"a.rar: expected the ending .zip, .gz, .tar"):
        unpack(tmp_path / "a.rar", tmp_path / "out")
