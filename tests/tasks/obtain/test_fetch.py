"""Fetching against a faulty server of our own, and unpacking archives that mean harm."""

import gzip
import hashlib
import io
import json
import shutil
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from tasks.base import DataError, Download, NoData
from tasks.obtain import fetch as fetch_module
from tasks.obtain import receipts
from tasks.obtain.fetch import fetch, unpack
from tasks.reading import layout

BODY = np.random.default_rng(0).bytes(1_000_000)
OTHER = np.random.default_rng(1).bytes(1_000_000)
SHA = hashlib.sha256(BODY).hexdigest()


@dataclass
class Site:
    """What the server serves, how it fails, and what was asked of it."""

    url: str
    body: bytes = BODY
    headers: dict[str, str] = field(default_factory=lambda: {"ETag": '"one"'})
    ranges: bool = True
    careless: bool = False  # answers a Range whatever If-Range says
    shift: int = 0  # bytes by which a Range is answered too late
    statuses: list[int] = field(default_factory=list)  # of the next answers; 200 after that
    cuts: list[int] = field(default_factory=list)  # bytes after which the next answers break off
    extra: int = 0  # bytes announced but not there
    pause: float = 0  # seconds between two blocks
    asked: list[str | None] = field(default_factory=list)  # the Range of each request
    served: int = 0  # bytes of bodies


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        site = self.server.site
        wanted = self.headers["Range"]
        site.asked.append(wanted)
        if site.statuses:
            return self.answer(site.statuses.pop(0), {"Location": "file:///etc/hostname", "Content-Length": "0"})
        version = site.headers.get("ETag", site.headers.get("Last-Modified"))
        current = site.careless or self.headers.get("If-Range", version) == version
        start = int(wanted[len("bytes=") : -1]) + site.shift if wanted and site.ranges and current else 0
        size = len(site.body)
        if start >= size:
            return self.answer(416, {"Content-Range": f"bytes */{size}"})
        span = {"Content-Range": f"bytes {start}-{size - 1}/{size}"} if start else {}
        self.answer(206 if start else 200, {**span, **site.headers, "Content-Length": str(size - start + site.extra)})
        stop = start + site.cuts.pop(0) if site.cuts else size
        for at in range(start, min(stop, size), 50_000):
            block = site.body[at : min(at + 50_000, stop)]
            site.served += len(block)
            try:
                self.wfile.write(block)
            except ConnectionError:
                return None
            time.sleep(site.pause)

    def answer(self, status, headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def site(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(fetch_module, "PAUSES", (0, 0, 0))
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.site = Site(f"http://127.0.0.1:{server.server_port}/file")
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server.site
    server.shutdown()
    thread.join()
    server.server_close()


def bring(site, folder, **fields):
    """Fetch one file called `a.bin`; what was said, joined."""
    said = []
    fetch([Download(**{"url": site.url, "name": "a.bin", **fields})], folder, say=said.append)
    return "\n".join(said)


def names(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def start(site, folder, *, at=300_000, **fields):
    """Let the first call get `at` bytes, and no more."""
    site.cuts = [at, 0, 0, 0]
    with pytest.raises(DataError, match="4 attempts failed"):
        bring(site, folder, **fields)
    assert (folder / ".a.bin.part").stat().st_size == at
    site.served = 0
    site.asked.clear()


@pytest.mark.parametrize("checksum", [f"sha256:{SHA}", f"md5:{hashlib.md5(BODY).hexdigest()}"])
def test_a_file_is_fetched_once(site, tmp_path, checksum):
    download = Download(url=site.url, name="a.bin", checksum=checksum, bytes=len(BODY), into="deep/er")
    said = []
    assert fetch([download], tmp_path, say=said.append) == [tmp_path / "deep/er/a.bin"]
    assert fetch([download], tmp_path, say=said.append) == [tmp_path / "deep/er/a.bin"]
    assert (tmp_path / "deep/er/a.bin").read_bytes() == BODY
    assert site.served == len(BODY)
    assert said[-1].endswith("a.bin: already there")
    assert names(tmp_path) == ["deep", "deep/er", "deep/er/a.bin"]


def test_a_text_that_is_there_with_other_line_ends_is_taken(site, tmp_path):
    published = b"patch,slide\r\n1,a\r\n"
    (tmp_path / "a.bin").write_bytes(published.replace(b"\r\n", b"\n"))
    checksum = f"md5:{hashlib.md5(published).hexdigest()}"
    assert "a.bin: as published but for its line ends" in bring(site, tmp_path, checksum=checksum, bytes=len(published))
    assert site.asked == []
    (tmp_path / "a.bin").write_bytes(b"patch,slide\n1,b\n")
    with pytest.raises(DataError, match="expected md5"):
        bring(site, tmp_path, checksum=checksum, bytes=len(published))


def test_without_a_published_checksum_the_found_one_is_said_and_kept(site, tmp_path):
    assert f"found sha256:{SHA}, kept in a.bin.sha256" in bring(site, tmp_path)
    assert (tmp_path / "a.bin.sha256").read_text() == f"{SHA}  a.bin\n"
    assert names(tmp_path) == ["a.bin", "a.bin.sha256"]
    (tmp_path / "a.bin").unlink()
    site.body = OTHER
    with pytest.raises(DataError, match=rf"expected sha256:{SHA}.*delete a.bin.sha256 to accept a new version"):
        bring(site, tmp_path)
    assert names(tmp_path) == ["a.bin.sha256"]


def test_a_broken_connection_goes_on_where_it_broke(site, tmp_path):
    site.cuts = [300_000, 400_000]
    assert "ended at 300000 of 1000000 bytes; trying again" in bring(site, tmp_path, checksum=f"sha256:{SHA}")
    assert (tmp_path / "a.bin").read_bytes() == BODY
    assert site.asked == [None, "bytes=300000-", "bytes=700000-"]
    assert site.served == len(BODY)


@pytest.mark.parametrize("headers", [{"ETag": '"one"'}, {"Last-Modified": "Mon, 01 Jan 2024 00:00:00 GMT"}])
def test_a_connection_that_keeps_breaking_is_resumed_by_the_next_call(site, tmp_path, headers):
    site.headers = headers
    start(site, tmp_path)
    bring(site, tmp_path)
    assert (tmp_path / "a.bin").read_bytes() == BODY
    assert site.asked == ["bytes=300000-"]
    assert site.served == len(BODY) - 300_000


def test_a_part_of_an_unknown_version_is_resumed_only_if_a_checksum_would_tell(site, tmp_path):
    site.headers = {"ETag": 'W/"weak"'}
    site.cuts = [300_000, 300_000]
    bring(site, tmp_path)
    assert site.asked == [None, None, None]
    site.cuts = [300_000]
    bring(site, tmp_path / "checked", checksum=f"sha256:{SHA}")
    assert site.asked[3:] == [None, "bytes=300000-"]


def test_a_server_without_ranges_serves_it_all_again(site, tmp_path):
    site.ranges = False
    site.cuts = [300_000]
    bring(site, tmp_path)
    assert (tmp_path / "a.bin").read_bytes() == BODY
    assert site.served == len(BODY) + 300_000


@pytest.mark.parametrize("careless", [False, True])
@pytest.mark.parametrize("body", [OTHER, OTHER[:200_000], OTHER + OTHER])
def test_a_replaced_file_is_fetched_from_its_start(site, tmp_path, careless, body):
    start(site, tmp_path)
    site.careless, site.body, site.headers = careless, body, {"ETag": '"two"'}
    bring(site, tmp_path)
    assert (tmp_path / "a.bin").read_bytes() == body
    assert site.asked == ["bytes=300000-"] + [None] * careless


def test_a_part_is_joined_only_to_what_follows_it_in_a_file_of_its_size(site, tmp_path):
    start(site, tmp_path / "shifted")
    site.shift = 1
    bring(site, tmp_path / "shifted")
    assert site.asked == ["bytes=300000-", None]
    site.headers, site.shift = {}, 0
    checksum = f"sha256:{hashlib.sha256(OTHER + OTHER).hexdigest()}"
    start(site, tmp_path / "grown", checksum=checksum)
    site.body = OTHER + OTHER
    bring(site, tmp_path / "grown", checksum=checksum)
    assert site.asked == ["bytes=300000-", None]


def test_another_url_does_not_continue_the_part(site, tmp_path):
    start(site, tmp_path)
    site.body = OTHER
    bring(site, tmp_path, url=f"{site.url}?other")
    assert (tmp_path / "a.bin").read_bytes() == OTHER


def test_a_complete_part_is_only_verified(site, tmp_path):
    start(site, tmp_path)
    (tmp_path / ".a.bin.part").write_bytes(BODY)
    bring(site, tmp_path)
    assert (tmp_path / "a.bin").read_bytes() == BODY
    assert site.asked == []


def test_a_wrong_checksum_is_named_and_the_partial_file_removed(site, tmp_path):
    wanted = f"sha256:{'0' * 64}"
    with pytest.raises(DataError, match=rf"a.bin: expected {wanted}.*found sha256:{SHA}.*the partial file is removed"):
        bring(site, tmp_path, checksum=wanted)
    assert names(tmp_path) == []


def test_a_wrong_file_that_is_there_stays_and_is_refused(site, tmp_path):
    (tmp_path / "a.bin").write_bytes(b"mine")
    with pytest.raises(DataError, match=rf"a.bin: expected sha256:{SHA}.*delete it, fetch it again"):
        bring(site, tmp_path, checksum=f"sha256:{SHA}")
    with pytest.raises(DataError, match=r"of 1000000 bytes; found sha256:\w+ of 4 bytes"):
        bring(site, tmp_path, bytes=len(BODY))
    assert (tmp_path / "a.bin").read_bytes() == b"mine"
    assert site.asked == []


@pytest.mark.parametrize("status", [202, 302, 403, 404, 500])
def test_a_refusal_names_the_url_the_status_and_the_remedy(site, tmp_path, status):
    site.statuses = [status]
    with pytest.raises(
        DataError, match=rf"{site.url}: expected the file, found HTTP {status} .*owner's page.*put it at"
    ):
        bring(site, tmp_path)
    assert len(site.asked) == 1
    assert names(tmp_path) == []


def test_a_busy_server_is_asked_again(site, tmp_path):
    site.statuses = [503, 429]
    assert "HTTP 503 Service Unavailable; trying again" in bring(site, tmp_path)
    site.statuses = [503] * 9
    with pytest.raises(DataError, match="4 attempts failed, the last with 'HTTP 503"):
        bring(site, tmp_path / "again")


def test_nobody_listening_is_an_error_with_a_remedy(site, tmp_path):
    with pytest.raises(DataError, match=r"attempts failed, the last with .*refused.*or put the file from the owner's"):
        bring(site, tmp_path, url="http://127.0.0.1:1/file")


def test_a_silent_server_is_not_waited_for_for_ever(site, tmp_path, monkeypatch):
    monkeypatch.setattr(fetch_module, "TIMEOUT", 0.05)
    monkeypatch.setattr(fetch_module, "PAUSES", ())
    site.pause = 0.3
    with pytest.raises(DataError, match="timed out"):
        bring(site, tmp_path)


def test_a_truncated_file_is_never_taken_for_complete(site, tmp_path):
    site.extra = 10
    with pytest.raises(DataError, match="the connection ended at 1000000 of 1000010 bytes"):
        bring(site, tmp_path)
    assert "a.bin" not in names(tmp_path)


def test_another_size_than_the_cards_is_not_fetched(site, tmp_path):
    with pytest.raises(DataError, match="expected 7 bytes, the server has 1000000"):
        bring(site, tmp_path, bytes=7)
    assert not (tmp_path / ".a.bin.part").exists()


def test_a_full_disk_is_seen_before_fetching(site, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=fetch_module.SPARE + 999_999))
    with pytest.raises(DataError, match="expected 1000000 bytes of room, found 999999"):
        bring(site, tmp_path)
    assert not (tmp_path / ".a.bin.part").exists()


@pytest.mark.parametrize("url", ["file:///etc/hostname", "ftp://127.0.0.1/a", "data:,a", "/etc/hostname"])
def test_only_http_is_spoken(site, tmp_path, url):
    with pytest.raises(DataError, match="expected a url with http: or https:"):
        bring(site, tmp_path, url=url)


def test_ctrl_c_keeps_what_came(site, tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(fetch_module.tqdm, "update", interrupt)
        with pytest.raises(KeyboardInterrupt):
            bring(site, tmp_path)
    had = (tmp_path / ".a.bin.part").stat().st_size
    site.asked.clear()
    bring(site, tmp_path)
    assert had > 0
    assert site.asked == ([f"bytes={had}-"] if had < len(BODY) else [])
    assert (tmp_path / "a.bin").read_bytes() == BODY


def test_a_killed_process_is_resumed_by_the_next(site, tmp_path):
    site.pause = 0.05
    code = (
        "import sys; from pathlib import Path; from tasks.base import Download; from tasks.obtain.fetch import fetch; "
        f"fetch([Download(url={site.url!r}, name='a.bin')], Path({str(tmp_path)!r}))"
    )
    process = subprocess.Popen([sys.executable, "-c", code], cwd=Path(fetch_module.__file__).parents[2])
    part = tmp_path / ".a.bin.part"
    while not (part.is_file() and part.stat().st_size > 100_000):
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.wait()
    had = part.stat().st_size
    assert names(tmp_path) == [".a.bin.part", ".a.bin.part.json"]
    site.pause = 0
    site.asked.clear()
    bring(site, tmp_path)
    assert site.asked == [f"bytes={had}-"]
    assert hashlib.sha256((tmp_path / "a.bin").read_bytes()).hexdigest() == SHA


def zipped(path, members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return path


def tarred(path, members, mode="w"):
    """A tar. A member whose content is a type of tarfile is empty, and points to /etc/hostname if it is a link."""
    with tarfile.open(path, mode) as file:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            if len(content) == 1:
                info.type, info.linkname, content = content, "/etc/hostname", b""
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    return path


FILES = {"top/": b"", "top/a.txt": b"first", "top/deep/b.txt": b"second", "notes.txt": b"third"}
LISTED = ["notes.txt", "top", "top/a.txt", "top/deep", "top/deep/b.txt"]
HELD = {name: (len(held), hashlib.sha256(held).hexdigest()) for name, held in FILES.items() if held}
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


def test_a_fetched_archive_is_unpacked_removed_and_not_fetched_again(site, tmp_path):
    site.body = zipped(tmp_path / "a.zip", FILES).read_bytes()
    checksum = f"md5:{hashlib.md5(site.body).hexdigest()}"
    (tmp_path / "a.zip").unlink()
    download = Download(url=site.url, name="a.zip", checksum=checksum, unpack=True)
    said = []
    assert fetch([download], tmp_path, say=said.append) == [tmp_path]
    assert names(tmp_path) == [".a.zip.done", *LISTED]
    assert receipts.read(tmp_path, "a.zip") == receipts.Receipt(tmp_path, "a.zip", checksum, HELD)
    assert fetch([download], tmp_path, say=said.append) == [tmp_path]
    assert said[-1].endswith(f"already there; to fetch it again, delete {tmp_path / '.a.zip.done'}")
    shutil.rmtree(tmp_path / "top")
    fetch([download], tmp_path, say=said.append)
    assert said[-1].endswith(f"but 'top/a.txt' is gone; to fetch it again, delete {tmp_path / '.a.zip.done'}")
    assert len(site.asked) == 1
    (tmp_path / ".a.zip.done").unlink()
    fetch([download], tmp_path, say=said.append)
    assert names(tmp_path) == [".a.zip.done", *LISTED]


def test_a_new_checksum_on_the_card_fetches_the_archive_again(site, tmp_path):
    for members in ({"a.txt": b"one"}, {"b.txt": b"two"}):
        site.body = zipped(tmp_path / "made.zip", members).read_bytes()
        checksum = f"sha256:{hashlib.sha256(site.body).hexdigest()}"
        fetch([Download(url=site.url, name="a.zip", checksum=checksum, unpack=True)], tmp_path / "data", say=str)
        assert json.loads((tmp_path / "data/.a.zip.done").read_text())["checksum"] == checksum
    assert names(tmp_path / "data") == [".a.zip.done", "a.txt", "b.txt"]


def test_an_archive_unpacked_before_receipts_named_its_files_is_fetched_again(site, tmp_path):
    site.body = zipped(tmp_path / "made.zip", FILES).read_bytes()
    checksum = f"md5:{hashlib.md5(site.body).hexdigest()}"
    (tmp_path / "data").mkdir()
    (tmp_path / "data/.a.zip.done").write_text(json.dumps({"checksum": checksum, "holds": ["top"]}))
    fetch([Download(url=site.url, name="a.zip", checksum=checksum, unpack=True)], tmp_path / "data", say=str)
    assert receipts.read(tmp_path / "data", "a.zip").files == HELD


def test_hidden_files_are_unpacked_and_not_told_of(tmp_path):
    archive = zipped(tmp_path / "a.zip", FILES | {"__MACOSX/._a.txt": b"", "top/.DS_Store": b"x"})
    assert unpack(archive, tmp_path / "out") == fetch_module.contents(archive) == HELD
    assert (tmp_path / "out/top/.DS_Store").is_file()


def test_an_archive_put_there_by_hand_is_unpacked_without_a_request(site, tmp_path):
    zipped(tmp_path / "a.zip", FILES)
    fetch([Download(url=site.url, name="a.zip", unpack=True)], tmp_path, say=str)
    assert set(LISTED) < set(names(tmp_path))
    assert site.asked == []


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
