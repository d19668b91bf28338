"""Secondary probes are published as the points of their series, without predictions, and shown as they were."""

import pytest

from benchmark.recipe import key, twin
from benchmark.storage import results, schema
from leaderboards.audit.promote import promote
from leaderboards.audit.verify import verify
from leaderboards.boards import store
from leaderboards.boards.aggregate import boards, summarise
from leaderboards.pages import board_page, render
from leaderboards.tables import alterations
from tests.helpers.boards import TASKS, add_cell, add_run, recipe, rewrite


@pytest.fixture
def local(tmp_path):
    """Two seeds and their twins, with a linear probe and label budgets."""
    root = tmp_path / "local"
    for seed in (0, 1):
        made = recipe("mae", seed)
        for one in (made, twin(made)):
            add_run(root, one)
            for task in TASKS:
                add_cell(root, one, task, shift=1.2 if one.budget else 0.6)
                add_cell(root, one, task, shift=0.9 if one.budget else 0.5, probe="efficiency")
    return root


def told(series):
    """What a page prints of series: ends of intervals, and no more."""
    printed = [
        (one.name, one.task, one.metric, one.what, one.kind, [(x, e.value, e.low, e.high) for x, e in points])
        for one in series
        for points in (one.points, one.drops)
    ]
    return sorted(printed, key=str)


def test_published_series_are_those_of_the_store_that_had_the_predictions(local, tmp_path):
    published = tmp_path / "published"
    promote(local, published, {})
    (here,), (there,) = boards(local), boards(published)
    assert told(there.series) == told(here.series)
    assert len(there.series) == 2 * len(TASKS)
    assert all(one.summary for one in there.series)
    assert not any(one.summary for one in here.series)
    assert {row["probe"] for row in store.rows(published, "cells").to_dict("records")} == {"linear"}
    report = verify(published)
    assert report.problems == ()
    assert promote(local, published, {}) == []


def test_a_summary_says_so_on_the_page(local, tmp_path):
    published = tmp_path / "published"
    promote(local, published, {})
    (here,), (there,) = boards(local), boards(published)
    said = "are summaries: their predictions are not published"
    assert said in " ".join(board_page.describe_board(there).footnotes)
    assert said not in " ".join(board_page.describe_board(here).footnotes)
    assert said in render.markdown(there)


def test_what_nuisances_cost_stays_with_its_intervals(local, tmp_path):
    made, task = recipe("mae", 0), next(iter(TASKS))
    add_cell(local, made, task, shift=1.5, probe="robustness")
    cells = store.load(local).cells
    (cell,) = cells[cells["probe"].eq("robustness") & cells["headline"]]["cell"]

    def alter(rows):
        rows += [row | {"scores": row["scores"][::-1], "corruption": "speckle", "strength": 2} for row in rows]

    directory = results.cell_directory(local, made.modality, cell)
    rewrite(directory / "predictions.parquet", alter)
    rows = list(summarise(store.load(local), {key(made)}))
    (before,) = boards(local)
    for path in directory.iterdir():
        path.unlink()
    directory.rmdir()
    results.write(local / made.modality / "summaries" / "made", {"summaries": schema.table("summaries", rows)})
    (after,) = boards(local)
    assert told(after.series) == told(before.series)
    assert alterations.tabulate_robustness(after) == alterations.tabulate_robustness(before) != ()


def test_summaries_of_other_encoders_are_not_shown(local, tmp_path):
    published = tmp_path / "published"
    promote(local, published, {})
    (file,) = published.rglob("summaries.parquet")

    def other(rows):
        for row in rows:
            row["weights"] = row["weights"].replace(row["weights"][2:6], "beef")

    rewrite(file, other)
    (board,) = boards(published)
    assert board.series == ()
