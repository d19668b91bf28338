"""Fetching against a faulty server of our own, and unpacking archives that mean harm."""

import hashlib
import json
import shutil
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from tasks.base import DataError, Download
from tasks.obtain import fetch as fetch_module
from tasks.obtain import receipts
from tasks.obtain.fetch import fetch
from tests.helpers.archives import FILES, HELD, LISTED, names, zipped

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


def test_an_archive_put_there_by_hand_is_unpacked_without_a_request(site, tmp_path):
    zipped(tmp_path / "a.zip", FILES)
    fetch([Download(url=site.url, name="a.zip", unpack=True)], tmp_path, say=str)
    assert set(LISTED) < set(names(tmp_path))
    assert site.asked == []
