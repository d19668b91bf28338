"""Boards of one name whose corpus or engine changed: the newest is where one lands, earlier ones say that they are."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

import tasks
from benchmark.recipe import ENGINE, twin
from leaderboards.__main__ import app
from leaderboards.pages import board_page, render, task_page, terminal
from leaderboards.publish import site
from leaderboards.stats.verdicts import HOLDS
from tests.helpers import wide
from tests.helpers.boards import add_cell, add_run, recipe

BOARD = "ultrasound-phantom-demo"


@pytest.fixture(scope="module")
def succeeded(tmp_path_factory) -> Path:
    """Two boards of one name: an earlier engine on one corpus, this one on another, with other images."""
    root = tmp_path_factory.mktemp("succeeded") / "store"
    old = replace(recipe("mae", 0), engine=ENGINE - 1, budget=6e12)
    new = recipe("mae", 0)
    new = replace(new, corpus=replace(new.corpus, digest="aaaa23456789", images=20000))
    for made, version, data in ((old, 1, "d" * 12), (new, 2, "e" * 12)):
        for one in (made, twin(made)):
            add_run(root, one)
            add_cell(root, one, "phantom_local", shift=1.6 if one.budget else 0.6, data=data, task_version=version)
    return root


def test_a_board_of_an_earlier_corpus_is_beside_the_new_one_and_never_first(succeeded, tmp_path):
    new, old = site.load_boards(succeeded)
    assert (new.slug, new.corpus_digest, new.earlier) == (BOARD, "aaaa23456789", "")
    assert (old.slug, old.corpus_digest, old.superseded) == (f"{BOARD}-c0ffee123456", "c0ffee123456", True)
    assert old.title == f"{new.title}, earlier corpus c0ffee123456"
    assert "content aaaa23456789" in old.earlier
    assert f"Measured by engine {ENGINE - 1}" in old.earlier
    assert [row.runs for row in new.sections[0].rows] != [row.runs for row in old.sections[0].rows]
    assert (new.columns[0].data, old.columns[0].data) == ("e" * 12, "d" * 12)
    site.build(succeeded, tmp_path, boards=[new, old])
    front = (tmp_path / "index.html").read_text()
    main, _, earlier = front.partition("Earlier boards")
    assert f"{old.slug}.html" not in main
    assert f"{old.slug}.html" in earlier
    assert old.title not in main.partition("<section")[2]
    assert old.earlier in (tmp_path / f"{old.slug}.html").read_text()
    text = (tmp_path / "compare-data.js").read_text()
    data = json.loads(text[text.index("{") : text.rindex(";")])
    assert [one["title"] for one in data["boards"]] == [new.title, old.title]
    assert not any(len({run["board"] for run in data["runs"] if run["id"] in pair}) > 1 for pair in data["pairs"])
    assert f"Seed 0: {old.title}".lower() in (tmp_path / "feed.xml").read_text().lower()


def test_budgets_are_those_of_the_store_and_not_of_the_tracks_of_this_code(succeeded):
    new, old = site.load_boards(succeeded)
    assert "6.0e12 training FLOPs per encoder" in terminal.format_board(old)
    assert dict(board_page.describe_board(old).facts)["Track"] == "demo: 6.0e12 training FLOPs per encoder"
    assert dict(board_page.describe_board(new).facts)["Track"] == "demo: 1.0e13 training FLOPs per encoder"


def test_claims_costs_and_the_answer_of_the_front_page_are_of_current_boards_alone(succeeded):
    new, old = site.load_boards(succeeded)
    assert new.claims
    assert old.claims
    tested = [replace(one, claims=tuple(replace(claim, verdict=HOLDS) for claim in one.claims)) for one in (new, old)]
    front = render.front(tested)
    assert front.count(old.title) == 1, "in the list of earlier boards"
    assert front.count(f'href="{new.slug}.html"') == 1 + sum(one.claimed for one in new.claims), "its own, and claims"


def test_a_page_of_a_task_says_which_version_its_numbers_and_its_card_are_of(succeeded, tmp_path):
    site.build(succeeded, tmp_path)
    page = (tmp_path / "tasks" / "ultrasound-phantom-local.html").read_text()
    known = tasks.get("ultrasound", "phantom_local").version
    assert "version 1 of the task" in page
    assert "version 2 of the task" in page
    assert "The numbers on this page are of version 1 and version 2 of this task. Its question, data card" in page
    assert f"are of version {known}, which this code reads" in page
    current = task_page.describe_task("ultrasound", "phantom_local", [_of_version(known)], ())
    assert current.blocks[0].texts == ()


def _of_version(version: int):
    board = wide.board(3, 1)
    return replace(board, columns=(replace(board.columns[0], task="phantom_local", version=version),))


def test_two_pretexts_are_compared_on_the_newest_of_boards_that_differ_in_content_alone(succeeded):
    ran = CliRunner().invoke(app, ["compare", "mae", "mae:twin", "--results", str(succeeded)])
    assert ran.exit_code == 0, ran.output
    assert "aaaa23456789" in ran.output
    assert "c0ffee123456" not in ran.output
