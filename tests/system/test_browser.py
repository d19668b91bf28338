"""The site in a real browser, from files and from a server: `make test-browser`."""

import csv
import functools
import http.server
import io
import json
import os
import re
import shutil
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from leaderboards.boards.board import Board
from leaderboards.publish import site
from tests.helpers import wide
from tests.helpers.boards import localities, store
from tests.leaderboards.pages.test_site import HOSTILE

pytestmark = pytest.mark.browser
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
KINDS = {
    "table": "table.html",
    "front": "index.html",
    "board": "ultrasound-phantom-demo.html",
    "task": "tasks/ultrasound-local.html",
    "pretext": "pretexts/mae.html",
    "run": "runs",  # the first of them
    "compare": "compare.html",
    "methods": "methods.html",
    "phantoms": "phantoms.html",
}


@pytest.fixture(scope="module")
def browser():
    api = pytest.importorskip("playwright.sync_api", reason="make test-browser")
    path = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        pytest.fail("no Chromium: apt-get install chromium, or CHROMIUM=/path/to/it")
    with api.sync_playwright() as play:
        opened = play.chromium.launch(executable_path=path, args=FLAGS)
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """A site of four pretexts, one of them hostile, on two tasks."""
    root = store(tmp_path_factory.mktemp("browser") / "store", pretexts=("mae", "ijepa", "dinov3", HOSTILE), seeds=(0,))
    localities(root, {"local": 0.9, "global": 0.1})
    out = tmp_path_factory.mktemp("opened")
    site.build(root, out)
    return out


@pytest.fixture(scope="module")
def large(tmp_path_factory) -> tuple[Path, Board]:
    """A board of more rows than one page of its table, the last with a hostile name."""
    out, board = tmp_path_factory.mktemp("wide"), wide.board(150, 8)
    section = board.sections[0]
    last = replace(section.rows[-2], name=HOSTILE)
    board = replace(board, sections=(replace(section, rows=(*section.rows[:-2], last, section.rows[-1])),))
    for name, content in site.make_files(site.Site(boards=(board,), runs=(), leakage=())).items():
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_bytes(content)
    return out, board


@pytest.fixture(scope="module")
def server(built):
    handler = functools.partial(Quiet, directory=str(built))
    served = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=served.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{served.server_port}"
    served.shutdown()


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


class Opened:
    """A page that has been watched since it was opened."""

    def __init__(self, browser, address: str, **options):
        self.context = browser.new_context(**options)
        self.page = self.context.new_page()
        self.said, self.asked = [], []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("dialog", lambda dialog: self.said.append(f"dialog {dialog.message}"))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(address)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.context.close()

    def rows(self) -> list[str]:
        """Names of the rows that the headline table shows."""
        return self.page.locator("table.rich tbody th .l1").all_inner_texts()


def address(built: Path, kind: str) -> str:
    name = KINDS[kind]
    return (min((built / name).glob("*.html")) if name == "runs" else built / name).as_uri()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_page_says_an_error_or_asks_for_anything_from_elsewhere(browser, built, server, kind, scheme):
    file = address(built, kind)
    for where, root in ((file, built.as_uri()), (file.replace(built.as_uri(), server), server)):
        with Opened(browser, where, color_scheme=scheme) as one:
            one.page.wait_for_timeout(200)
            assert one.said == []
            assert [url for url in one.asked if not url.startswith((root, "data:", "blob:"))] == []


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("width", [360, 1280])
def test_axe_finds_nothing_serious_and_nothing_runs_over_the_side(browser, built, kind, width):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="make test-browser")
    size = {"width": width, "height": 800}
    for scheme in ("light", "dark"):
        with Opened(browser, address(built, kind), viewport=size, color_scheme=scheme) as one:
            one.page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")
            found = axe.Axe().run(one.page).response["violations"]
            serious = [
                f"{each['id']}: {node['html'][:120]}"
                for each in found
                if each["impact"] in ("serious", "critical")
                for node in each["nodes"][:3]
            ]
            assert serious == []
            assert one.page.evaluate("document.documentElement.scrollWidth") <= width


def test_sort_by_mouse_and_by_keyboard(browser, built):
    with Opened(browser, address(built, "board")) as one:
        assert one.rows()[0] == "MAE"
        one.page.locator("table.rich thead th").first.click()
        ordered(one, 0, "ascending")
        names = one.rows()
        assert names == sorted(names, key=str.lower)
        one.page.locator("#save").focus()
        for _ in range(3):  # the scrolling region, the first head, the second
            one.page.keyboard.press("Tab")
        one.page.keyboard.press("Enter")
        ordered(one, 1, "ascending")
        one.page.keyboard.press("Enter")
        ordered(one, 1, "descending")
        assert one.rows()[0] == "MAE"


def ordered(one: Opened, column: int, way: str) -> None:
    """Wait until the table says that it is ordered so."""
    one.page.wait_for_selector(f"table.rich thead th:nth-child({column + 1})[aria-sort={way}]", timeout=5000)


def test_search_filter_and_columns_and_an_address_that_brings_them_back(browser, built):
    with Opened(browser, address(built, "board")) as one:
        one.page.fill("#search", "jepa")
        assert one.rows() == ["I-JEPA"]
        one.page.fill("#search", "")
        for kind, name in (("twin", "Untrained (floor)"), ("ceiling", "With labels (ceiling)")):
            one.page.select_option("#kind", kind)
            assert one.rows() == [name]
        one.page.select_option("#kind", "trained")
        one.page.select_option("#verdict", "above")
        assert one.rows() == ["MAE"]
        one.page.click("#columns summary")
        one.page.uncheck("#columns input >> nth=1")
        heads = one.page.locator("table.rich thead th .l1").all_inner_texts()
        assert "Calcification" not in heads
        one.page.locator("table.rich thead th").first.click()
        ordered(one, 0, "ascending")
        shared = one.page.url
    with Opened(browser, shared) as one:
        assert one.rows() == ["MAE"]
        assert one.page.locator("table.rich thead th .l1").all_inner_texts() == heads
        assert one.page.input_value("#kind") == "trained"
        ordered(one, 0, "ascending")
        assert one.said == []


def test_the_table_of_every_row_is_filtered_by_what_its_rows_are(browser, built):
    with Opened(browser, address(built, "table")) as one:
        every = one.rows()
        one.page.select_option("#verdict", "above")
        above = one.rows()
        assert 0 < len(above) < len(every)
        shared = one.page.url
    with Opened(browser, shared) as one:
        assert one.rows() == above
        assert one.said == []


def test_a_thousand_rows_of_one_table_are_paged(browser, tmp_path):
    for name, content in site.make_files(site.Site(boards=(wide.board(1001, 1),), runs=(), leakage=())).items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    with Opened(browser, (tmp_path / "table.html").as_uri()) as one:
        one.page.wait_for_selector("#tools:not([hidden])", timeout=5000)
        assert len(one.rows()) == 50


def test_files_that_the_page_offers_are_the_store(browser, built, server):
    with Opened(browser, f"{server}/ultrasound-phantom-demo.html") as one:
        with one.page.expect_download() as got:
            one.page.click("text=CSV >> nth=0")
        rows = list(csv.DictReader(io.StringIO(got.value.path().read_text(encoding="utf-8"))))
        assert {row["encoder"] for row in rows} >= {"MAE", "I-JEPA", "DINOv3", HOSTILE}
        one.page.select_option("#kind", "trained")
        with one.page.expect_download() as got:
            one.page.click("#save")
        shown = list(csv.reader(io.StringIO(got.value.path().read_text(encoding="utf-8"))))
        assert [row[0].split(";")[0] for row in shown[1:]] == one.rows()
        (mae,) = (row for row in rows if (row["encoder"], row["task"]) == ("MAE", "local"))
        column = shown[0].index("Calcification")
        assert f"; {float(mae['gain']):+.3f} [" in shown[1][column]
        assert shown[1][1].startswith("'+"), "a spreadsheet takes no cell for a formula"
        assert not [cell for row in shown for cell in row if cell.startswith(("=", "+", "-", "@"))]


def test_copy_puts_what_is_shown_on_the_clipboard(browser, built, server):
    with Opened(
        browser, f"{server}/ultrasound-phantom-demo.html", permissions=["clipboard-read", "clipboard-write"]
    ) as one:
        one.page.fill("#search", "MAE")
        one.page.click("#copy")
        one.page.wait_for_function("document.getElementById('said').textContent")
        text = one.page.evaluate("navigator.clipboard.readText()")
        assert [line.partition(";")[0] for line in text.splitlines()[1:]] == ["MAE"]


def test_a_board_reads_without_javascript(browser, built):
    with Opened(browser, address(built, "board"), java_script_enabled=False) as one:
        assert one.rows()[0] == "MAE"
        assert one.page.locator("#tools").is_hidden()
        assert one.page.locator("table.rich svg.bar").count() > 3
    with Opened(browser, address(built, "compare"), java_script_enabled=False) as one:
        assert "python -m leaderboards compare" in one.page.inner_text("main")


def test_two_runs_are_compared_and_the_address_names_them(browser, built):
    text = (built / "compare-data.js").read_text()
    ids = min(json.loads(text[text.index("{") : text.rindex(";")])["pairs"]).split(" ")
    with Opened(browser, f"{address(built, 'compare')}#a={ids[0]}&b={ids[1]}") as one:
        heading = one.page.inner_text("#result h2")
        assert "against" in heading
        first = one.page.locator("#result table").first
        values = re.findall(r"[−+]?\d\.\d{3}", first.locator("tbody tr").first.inner_text())
        a, b = float(values[0]), float(values[3])
        difference = float(values[-3].replace("−", "-"))
        assert difference == pytest.approx(a - b, abs=2e-3)
        one.page.select_option("#b", one.page.locator("#b option:not(:checked)").last.get_attribute("value"))
        assert one.page.inner_text("#result h2") != heading
        assert f"a={ids[0]}" in one.page.url
        assert one.said == []


def test_the_head_of_the_table_stays_in_sight(browser, large):
    folder, _ = large
    with Opened(browser, (folder / "wide.html").as_uri(), viewport={"width": 1000, "height": 700}) as one:
        one.page.evaluate("document.querySelector('.tall').scrollTop = 900")
        head, region = (one.page.locator(name).first.bounding_box() for name in ("table.rich thead th", ".tall"))
        assert abs(head["y"] - region["y"]) < 3


def test_many_rows_are_paged_and_sorted_by_value(browser, large):
    folder, board = large
    with Opened(browser, (folder / "wide.html").as_uri()) as one:
        assert len(one.rows()) == 50
        assert one.said == []
    with Opened(browser, (folder / "wide.html").as_uri() + "#sort=3desc&kind=trained&where=3&verdict=below") as one:
        below = [row for row in board.sections[0].rows if row.entries[1].verdict == "below twin"]
        below.sort(key=lambda row: -round(row.entries[1].gain.value, 3))
        shown = one.page.locator("table.rich tbody tr td:nth-child(4) .l2").all_inner_texts()
        expected = [f"{row.entries[1].gain.value:+.3f}".replace("-", "−") for row in below[: len(shown)]]
        assert [text.split(" ")[0] for text in shown] == expected
        assert f"of {len(below)} " in one.page.inner_text(".dt-info")
