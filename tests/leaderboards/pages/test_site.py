"""The site as files: pages and links, the policy that pages obey, hostile names, the same bytes, releases, figures."""

import csv
import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree as xml

import numpy as np
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import confusion_matrix
from typer.testing import CliRunner

from benchmark.recipe import Recipe, from_json, key, twin
from benchmark.storage import results
from leaderboards.__main__ import app
from leaderboards.boards.board import Entry
from leaderboards.boards.store import load
from leaderboards.export import board_tables, two_encoders
from leaderboards.figures import chart, lead_by_locality
from leaderboards.pages import map_blocks, page, render, run_details
from leaderboards.publish import releases, site
from leaderboards.stats.intervals import estimate
from leaderboards.stats.resampling import Predictions, select_seeds
from leaderboards.tables import addresses
from tests.helpers import wide
from tests.helpers.boards import add_cell, localities, recipe, store, tree

ATOM = "{http://www.w3.org/2005/Atom}"
BOARD = "ultrasound-phantom-demo"
FAMILY = ("phantom_relation_near", "phantom_relation_middle", "phantom_relation_far")
HOSTILE = "<script>alert(1)</script>"


class Links(HTMLParser):
    """Everything that a page refers to, and what its policy forbids."""

    def __init__(self, text: str):
        super().__init__()
        self.targets, self.ids, self.forbidden, self.policy, self.inline = [], set(), [], "", False
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.ids |= {found["id"]} if "id" in found else set()
        self.targets += [found[name] for name in ("href", "src") if name in found]
        self.forbidden += [f"{tag} {name}" for name in found if name == "style" or name.startswith("on")]
        self.forbidden += [tag] * (tag in ("style", "base", "iframe", "object", "embed"))
        self.inline = tag == "script"
        if found.get("http-equiv") == "Content-Security-Policy":
            self.policy = found["content"]

    def handle_data(self, data):
        if self.inline and data.strip():
            self.forbidden.append(f"script {data[:40]}")


def page_of(made: Recipe) -> str:
    return addresses.recipe_page(key(replace(made, seed=0)))


@pytest.fixture(scope="module")
def complete(tmp_path_factory) -> Path:
    """Three pretexts on three tasks of measured locality."""
    root = store(
        tmp_path_factory.mktemp("site") / "store", pretexts=("mae", "ijepa", "dinov3"), seeds=(0, 1), tasks=FAMILY[::2]
    )
    for pretext in ("mae", "ijepa", "dinov3"):
        for seed in (0, 1):
            made = recipe(pretext, seed)
            for one in (made, twin(made)):
                learned = 0.8 if pretext == "dinov3" and one.budget else 0.0
                add_cell(root, one, FAMILY[1], shift=0.6 + learned)
    localities(root, dict(zip(FAMILY, (0.4, 0.9, 0.1), strict=True)))
    return root


@pytest.fixture(scope="module")
def built(complete, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("built")
    site.build(complete, out)
    return out


def test_there_is_a_page_for_everything(built, complete):
    recipes = {
        addresses.recipe_page(key(replace(from_json(text), seed=0)))
        for text in results.read(complete, "runs")["recipe"]
    }
    assert len(recipes) == 6  # three pretexts and their twins, of two seeds each
    there = {str(path.relative_to(built)) for path in built.rglob("*.html")}
    assert there == recipes | {
        "index.html",
        "table.html",
        "compare.html",
        "methods.html",
        "trials.html",
        "phantoms.html",
        "ultrasound-phantom-demo.html",
        *(addresses.task_page("ultrasound", task) for task in FAMILY),
        *(f"pretexts/{name}.html" for name in ("mae", "ijepa", "dinov3")),
    }


def test_every_link_leads_somewhere_and_pages_obey_a_strict_policy(built):
    for path in built.rglob("*.html"):
        found = Links(path.read_text())
        assert found.forbidden == [], path
        assert found.policy.startswith("default-src 'none';")
        assert "unsafe" not in found.policy
        for target in found.targets:
            if target.startswith("https://"):
                continue
            file, _, part = target.partition("#")
            leads = (path.parent / file).resolve() if file else path
            assert leads.is_relative_to(built.resolve()), (path, target)
            assert leads.is_file(), (path, target)
            assert not part or part in Links(leads.read_text()).ids, (path, target)


def test_the_same_store_gives_the_same_bytes_and_what_is_gone_is_taken_away(complete, built, tmp_path):
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "old.html").write_text("gone")
    (tmp_path / "mine.txt").write_text("not ours")
    (tmp_path / site.MANIFEST).write_text(json.dumps(["tasks/old.html", "../mine.txt"]))
    site.build(complete, tmp_path)
    assert (tmp_path / "mine.txt").read_text() == "not ours"
    (tmp_path / "mine.txt").unlink()
    assert tree(tmp_path) == tree(built)


def test_names_from_outside_are_text_on_every_page(tmp_path):
    root = store(tmp_path / "store", pretexts=(HOSTILE,), seeds=(0,))
    site.build(root, tmp_path / "out")
    for path in (tmp_path / "out").rglob("*.html"):
        assert HOSTILE not in path.read_text(), path
        assert Links(path.read_text()).forbidden == []
    assert "&lt;script&gt;" in (tmp_path / "out" / "index.html").read_text()
    for path in [*(tmp_path / "out" / "figures").glob("*.svg"), tmp_path / "out" / "feed.xml"]:
        assert "<script" not in path.read_text()
        xml.parse(path)
    assert Path(tmp_path / "out" / "pretexts" / "script-alert-1-script.html").exists()


@pytest.mark.parametrize(
    "link", ["javascript:alert(1)", "JAVASCRIPT:alert(1)", "data:text/html,x", "//evil.example/x", "/etc"]
)
def test_links_from_outside_lead_to_https_or_nowhere(link):
    block = page.Block(title="Links", links=(("the owner's page", link),))
    text = render.page(page.Page(path="tasks/x.html", title="x", label="", lead="", blocks=(block,)))
    assert link not in Links(text).targets
    assert link in text


def test_tables_for_programs_hold_the_stored_values(complete, built, tmp_path):
    rows = list(csv.DictReader(io.StringIO((built / "ultrasound-phantom-demo.csv").read_text())))
    cells = results.read(complete, "cells").query("headline and probe == 'linear'")
    for pretext, name in (("mae", "MAE"), ("dinov3", "DINOv3")):
        mine = cells[(cells["pretext"] == pretext) & (cells["task"] == FAMILY[0])].groupby("twin")["value"].mean()
        (row,) = (row for row in rows if (row["encoder"], row["task"]) == (name, FAMILY[0]))
        assert float(row["score"]) == pytest.approx(mine[False], abs=1e-9)
        assert float(row["gain"]) == pytest.approx(mine[False] - mine[True], abs=1e-9)
    again = pq.read_table(built / "ultrasound-phantom-demo.parquet")
    assert again.schema.equals(board_tables.SCHEMA)
    assert [row["encoder"] for row in again.to_pylist()] == [row["encoder"] for row in rows]


def test_the_answer_is_a_least_squares_line_through_the_simulated_tasks(complete):
    (board,) = site.load_boards(complete)
    (drawing,) = lead_by_locality.draw_lead_by_locality([board])
    rows = [dict(zip(drawing.heads, row, strict=True)) for row in drawing.rows]
    ahead = next(one for one in board.comparison.pretexts if {one.first, one.second} == {"DINOv3", "I-JEPA"})
    sign = 1 if ahead.first == "DINOv3" else -1
    for row, entry in zip(rows, ahead.entries, strict=True):
        assert row["value"] == pytest.approx(2 * sign * entry.estimate.value)  # 1 - chance is one half
        assert row["low"] < row["value"] < row["high"] or row["low"] == row["high"] == 0
    slope = np.polyfit([row["locality"] for row in rows], [row["value"] for row in rows], 1)[0]
    judged = next(one for one in board.claims if one.within == "within relation's distances" and one.estimates)
    assert {row["kind"] for row in rows} == {"relation"}
    assert judged.estimates[0].value == pytest.approx(slope)
    assert f"{slope:+.3f}".replace("-", "−") in lead_by_locality.describe_slopes(board)
    assert f"{slope:+.3f}".replace("-", "−") in render.front([board])


def test_a_single_seed_of_a_number_is_that_seed_resampled(complete):
    (board,) = site.load_boards(complete)
    number = next(iter(board.numbers.values()))
    one = select_seeds(number, 1)
    assert one.seeds == (1,)
    assert estimate(one).value == number.values[1]
    assert estimate(one).seeds == 1
    with pytest.raises(ValueError, match="not in"):
        select_seeds(number, 7)


def test_pairs_of_the_compare_page_are_those_of_the_command(complete, built):
    text = (built / "compare-data.js").read_text()
    data = json.loads(text[text.index("{") : text.rindex(";")])
    a, b = (key(recipe(name, 1)) for name in ("dinov3", "ijepa"))
    stored = data["pairs"].get(f"{a} {b}")
    sign = 1 if stored else -1
    stored = stored or data["pairs"][f"{b} {a}"]
    lines = {line.task: line.difference.estimate for line in two_encoders.compare(complete, a, b).lines}
    for title, (value, low, high, _) in zip(data["boards"][0]["tasks"], stored, strict=True):
        expected = lines[title]
        ends = sorted((sign * low, sign * high))
        assert sign * value == pytest.approx(expected.value, abs=6e-5)
        assert ends == pytest.approx([expected.low, expected.high], abs=6e-5)


def test_confusion_and_reliability_agree_with_scikit_learn():
    rng = np.random.default_rng(0)
    label, scores = rng.integers(0, 3, 300), rng.dirichlet([1, 1, 1], 300)
    zeros = np.zeros(300, dtype=int)
    seen = Predictions(
        sample=np.arange(300), group=np.arange(300), label=label, scores=scores, repeat=zeros, fold=zeros
    )
    assert run_details.count_confusion(seen) == tuple(map(tuple, confusion_matrix(label, scores.argmax(1)).tolist()))
    bins = run_details.bin_confidence(seen)
    assert sum(count for *_, count in bins) == 300
    mean = sum(right * count for _, right, count in bins) / 300
    assert mean == pytest.approx((scores.argmax(1) == label).mean())
    assert [confidence for confidence, *_ in bins] == sorted(confidence for confidence, *_ in bins)


def test_figures_of_boards_are_files_with_words_and_a_dark_side_and_curves_are_part_of_their_page(built):
    files = {path.stem: path.read_text() for path in (built / "figures").glob("*.svg")}
    assert {"answer", "ladder", f"{BOARD}-forest", f"{BOARD}-heat", f"{BOARD}-cost"} == set(files)
    for text in files.values():
        root = xml.fromstring(text)
        assert root.find("{http://www.w3.org/2000/svg}title").text
        assert root.find("{http://www.w3.org/2000/svg}desc").text
        assert "prefers-color-scheme: dark" in text
        assert not re.search(r"nan|inf|None", text.partition("</style>")[2])
    pages = {path: path.read_text() for path in built.rglob("*.html")}
    curves = [re.findall(r'<svg class="chart".*?</svg>', text) for text in pages.values()]
    assert sum(map(len, curves)) == 4 + 3 * 2 + 3 * 2  # board, pretexts, their recipes
    for svg in (svg for found in curves for svg in found):
        assert xml.fromstring(svg).get("aria-label")
        assert not re.search(r"nan|inf|None", svg)


def test_the_data_of_the_figures_of_a_page_are_one_table(built):
    rows = list(csv.DictReader((built / f"{BOARD}-figures.csv").open()))
    forest = [row for row in rows if row["figure"] == f"{BOARD}-forest"]
    assert [row["encoder"] for row in forest][:1] == ["DINOv3"]
    assert all(float(row["low"]) <= float(row["value"]) <= float(row["high"]) for row in forest)
    assert {row["seed"] for row in rows if row["figure"] == f"{BOARD}-loss-0"} == {"0", "1"}
    recipe_page = next(path for path in (built / "runs").glob("*.csv") if "rankme" in path.read_text())
    rows = list(csv.DictReader(recipe_page.open()))
    losses = [(float(row["share of training"]), float(row["value"])) for row in rows if row["figure"] == "loss"]
    assert len(losses) == 2 * 20
    assert losses[:2] == [(0.0, 2.0), (0.05, pytest.approx(2 / 21, abs=1e-6))]
    assert not list((built / "figures").glob("*.csv"))


@pytest.mark.parametrize("real", [True, False])
def test_classes_and_calibration_are_shown_of_real_images_alone(complete, real):
    (board,) = site.load_boards(complete)
    loaded = load(complete)
    told = replace(loaded, cells=loaded.cells.assign(synthetic=not real))
    details = [one for one in run_details.read_runs(board, told) if one.trained]
    headlines = [one for run in details for one in run.answers if (one.probe, one.readout) == ("linear", "patches")]
    assert headlines
    assert all(bool(one.confusion) == bool(one.reliability) == real for one in headlines)
    if real:
        assert {count for one in headlines for *_, count in one.reliability} == {12}


def test_round_values_mark_an_axis():
    assert chart.ticks(-0.07, 0.23) == pytest.approx([0, 0.1, 0.2])
    assert chart.ticks(0.5, -0.5, most=4) == pytest.approx([-0.5, 0, 0.5])
    assert chart.ticks(0.01, 1, logarithmic=True) == pytest.approx([0.01, 0.1, 1])
    assert chart.ticks(8e12, 7.5e13, logarithmic=True) == pytest.approx([1e13, 2e13, 5e13])


def test_a_seed_of_a_recipe_page_has_a_place_of_its_own_that_boards_and_feed_lead_to(built, complete):
    made = recipe("mae", 1)
    link = addresses.run_link(key(replace(made, seed=0)), key(made))
    path, _, anchor = link.partition("#")
    text = (built / path).read_text()
    assert anchor in Links(text).ids
    for run in (key(recipe("mae", 0)), key(made)):
        assert f"python -m benchmark reproduce {run}" in text
    for name in (f"{BOARD}.html", "feed.xml", "compare.html", "compare-data.js"):
        assert link in (built / name).read_text(), name


def test_maps_of_a_run_are_on_its_page_and_beside_another(complete):
    (board,) = site.load_boards(complete)
    run = key(recipe("mae", 0))
    shown = page.Picture(source="maps/mae.png", alt="What MAE <looks> at", caption="Attention")
    (weights,) = {one.weights for one in board.runs if one.run == run}
    block = page.Block(title="What it looks at", pictures=(shown,))
    images = {"maps/mae.png": b"PNG", "maps/of-an-encoder-not-shown.png": b"PNG"}
    maps = map_blocks.Maps({(run, weights): (block,)}, images, {})
    whole = replace(site.gather(complete, [board]), maps=maps)
    made = site.make_files(whole)
    assert made["maps/mae.png"] == b"PNG"
    assert "maps/of-an-encoder-not-shown.png" not in made
    assert 'src="../maps/mae.png" alt="What MAE &lt;looks&gt; at"' in made[page_of(recipe("mae", 0))].decode()
    assert '["maps/mae.png","What MAE <looks> at","Attention"]' in made["compare-data.js"].decode()


def test_a_feed_of_new_results(built, complete):
    feed = xml.parse(built / "feed.xml").getroot()
    entries = feed.findall(f"{ATOM}entry")
    trained = results.read(complete, "runs").query("run != twin")
    assert {entry.find(f"{ATOM}id").text for entry in entries} == {
        f"urn:pretext-bench:run:{run}" for run in trained["run"]
    }
    assert feed.find(f"{ATOM}updated").text == "2026-11-01T00:00:00+00:00"
    assert all("Simulated" in entry.find(f"{ATOM}summary").text for entry in entries)


def test_a_release_is_markdown_and_tables_that_never_change_and_is_named(tmp_path):
    """Older releases are Markdown and CSV alone, so that a release does not bring the whole site once more."""
    root, out = store(tmp_path / "store", pretexts=("mae",), seeds=(0,), tasks=("local",)), tmp_path / "site"
    command = ["release", "0.1.0", "--results", str(root), "--out", str(out)]
    ran = CliRunner().invoke(app, command)
    assert ran.exit_code == 0, ran.output
    frozen = tree(out / "releases" / "0.1.0")
    endings = (".md", ".csv", "-contrasts.csv", "-claims.csv", ".bib")
    assert set(frozen) == {"README.md", *(f"{BOARD}{ending}" for ending in endings)}
    assert "Release 0.1.0, frozen" in frozen["README.md"].decode()
    assert "Pretext Bench 0.1.0, 2 runs" in frozen[f"{BOARD}.md"].decode()
    assert frozen[f"{BOARD}.csv"] == (out / f"{BOARD}.csv").read_bytes()
    assert "releases/0.1.0/README.md" in (out / "index.html").read_text()
    assert len(Links((out / f"{BOARD}.html").read_text()).targets) > 5
    add_cell(root, recipe("mae", 0), "global")
    releases.build_site(root, out)
    assert tree(out / "releases" / "0.1.0") == frozen
    assert frozen[f"{BOARD}.csv"] != (out / f"{BOARD}.csv").read_bytes()
    again = CliRunner().invoke(app, command)
    assert again.exit_code == 2
    assert "never changes" in again.stderr
    for version in ("../x", "latest", ""):
        with pytest.raises(ValueError, match="no version"):
            releases.freeze(root, out, version)
    (out / "releases" / "0.10.0").mkdir()
    (out / "releases" / "0.9.0").mkdir()
    assert releases.list_versions(out) == ("0.1.0", "0.9.0", "0.10.0")


def test_an_empty_store_is_a_site_that_says_so(tmp_path):
    ran = CliRunner().invoke(app, ["site", "--results", str(tmp_path / "none"), "--out", str(tmp_path / "out")])
    assert ran.exit_code == 0
    assert "No results are published yet" in (tmp_path / "out" / "index.html").read_text()
    assert Links((tmp_path / "out" / "compare.html").read_text()).forbidden == []


def test_what_a_vendored_library_is_and_its_licence_stand_beside_it():
    folder = site.STATIC / "vendor" / "datatables"
    assert "MIT License" in (folder / "LICENSE.txt").read_text()
    assert re.match(r"/\*! DataTables \d+\.\d+\.\d+", (folder / "dataTables.min.js").read_text(encoding="utf-8"))


def test_a_missing_cell_says_why_in_the_table_for_programs():
    board = wide.board(5, 3)
    first = Entry(missing="not run yet")
    rows = [replace(row, entries=(first, *row.entries[1:])) for row in board.sections[0].rows]
    section = replace(board.sections[0], rows=tuple(rows))
    found = board_tables.list_rows(replace(board, sections=(section,)))
    assert {row["note"] for row in found if row["task"] == "task_0"} == {"not run yet"}
