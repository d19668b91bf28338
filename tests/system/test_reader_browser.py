"""A reader's page in Chromium: filled in by keyboard and mouse, left and gone on with, saved, and analysed."""

import csv
import json

import pytest

from benchmark.maps.reader import analysis, answers, design, pack
from tests.benchmark.maps.test_reader import METHODS, cases
from tests.system.test_browser import browser  # noqa: F401

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    chosen = design.choose_cases(cases(20), 8, seed=3)
    names = {"arms": METHODS, "modality": "ultrasound", "primary": ("mae", "ijepa")}
    return pack.make(chosen[:6], chosen[6:], ["a"], 3, tmp_path_factory.mktemp("pack") / "pack", **names)


def answer(page, number: int) -> None:
    if page.is_visible(".choosing"):
        page.keyboard.press("ArrowLeft" if number % 2 else "ArrowRight")
    else:
        page.keyboard.press(str(number % 5 + 1))
        page.keyboard.press("0" if number == 5 else str(5 - number % 5))


def test_a_reader_fills_in_stops_goes_on_saves_and_is_analysed(made, browser, tmp_path):  # noqa: F811
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="make test-browser").Axe()
    context = browser.new_context(viewport={"width": 360, "height": 740}, color_scheme="dark")
    page, said, asked = context.new_page(), [], []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto((made / "reader-a.html").as_uri())
    page.fill("#code", "z")
    page.click("#begin")
    assert "another code" in page.inner_text("#problem")
    page.fill("#code", "a")
    page.click("#begin")
    assert "tick the consent" in page.inner_text("#problem")
    page.check("#consent")
    page.click("#begin")
    assert page.is_visible("#practice")
    assert page.is_disabled("#next")
    serious = [one for one in axe.run(page).response["violations"] if one["impact"] in ("serious", "critical")]
    assert serious == []
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    for number in range(4):
        answer(page, number)
        page.click("#next")
    page.click("#back")
    assert page.is_enabled("#next")  # the answer is still there
    page.reload()  # the browser was closed: it goes on where it stopped
    assert page.inner_text("#count").startswith("Screen 4 of ")
    with page.expect_download() as part:
        page.click("#pause")
    part.value.save_as(tmp_path / "part.json")
    page.evaluate("localStorage.clear()")
    page.reload()
    assert page.is_visible("#start")
    page.set_input_files("#import", tmp_path / "part.json")
    page.wait_for_selector("#screen", state="visible")
    assert page.inner_text("#count").startswith("Screen 4 of ")
    page.fill("#comment", "=1+1")
    number = 3
    while page.is_visible("#screen"):
        page.locator("h1").click()  # away from the comment, whose keys are its own
        answer(page, number)
        page.click("#next")
        number += 1
    saved = {}
    for kind in ("json", "csv"):
        with page.expect_download() as file:
            page.click(f"#{kind}")
        saved[kind] = tmp_path / f"answers.{kind}"
        file.value.save_as(saved[kind])
    context.close()
    assert said == []
    assert all(url.startswith(("file:", "data:", "blob:")) for url in asked)
    opened = pack.read(made)
    _, rows = answers.read(saved["json"], opened)
    assert len(rows) == sum(1 if row["kind"] == design.CHOOSE else 2 for row in opened.key)
    assert rows["answer"].isna().sum() == 1
    given = json.loads(saved["json"].read_text())["answers"]
    table = list(csv.DictReader(saved["csv"].open()))
    assert [(row["item"], row["answer"]) for row in table] == [(one["item"], str(one["answer"])) for one in given]
    assert {row["comment"] for row in table} == {"", "'=1+1"}
    report = analysis.analyse(rows, opened)
    assert report.readers == ("a",)
    assert report.cases == 6
    assert set(report.strengths) == {*METHODS, design.UNTRAINED}
