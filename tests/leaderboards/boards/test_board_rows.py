"""Rows of a board beside the families: sensitivity to runs that did not learn, and what nuisances cost."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from benchmark.recipe import ENGINE, twin
from benchmark.storage import results
from leaderboards.boards.aggregate import boards
from leaderboards.boards.store import load
from leaderboards.pages import render, terminal
from leaderboards.tables import alterations, differences
from tests.helpers.boards import TASKS, add_cell, add_run, recipe, rewrite


def trained(root, gains):
    """A store in which a pretext's run of a seed gains so much on every task: {(pretext, seed): shift}."""
    for (pretext, seed), gained in gains.items():
        made = recipe(pretext, seed)
        for one in (made, twin(made)):
            add_run(root, one)
            for task in TASKS:
                add_cell(root, one, task, shift=0.3 + (gained if one.budget else 0.0))
    return root


def test_sensitivity_keeps_the_seeds_in_which_both_runs_are_above_their_twins(tmp_path):
    root = trained(tmp_path, {("mae", 0): 1.2, ("mae", 1): 1.2, ("ijepa", 0): 0.6, ("ijepa", 1): 0.0})
    (board,) = boards(root)
    (found,) = board.comparison.sensitivity
    assert (found.first, found.second, found.seeds, found.of) == ("MAE", "I-JEPA", (0,), 2)
    cells = load(root).cells
    cells = cells[cells.headline & (cells.seed == 0) & ~cells.twin].set_index(["pretext", "task"]).value
    expected = np.mean([(cells["mae", task] - cells["ijepa", task]) / 0.5 for task in TASKS])
    assert found.estimate.value == pytest.approx(expected)
    assert found.estimate.low < expected < found.estimate.high
    (whole,) = board.comparison.pretexts
    assert whole.mean.estimate.value > found.estimate.value  # the run that learnt nothing stays in the headline


def test_a_board_of_runs_that_nothing_was_asked_names_no_metric(tmp_path):
    made = recipe("mae", 0)
    for one in (made, twin(made)):
        add_run(tmp_path, one)
    (board,) = boards(tmp_path)
    assert "gain over the untrained twin" in terminal.format_board(board)


def test_where_no_seed_is_above_its_twin_sensitivity_says_so(tmp_path):
    (board,) = boards(trained(tmp_path, {("mae", 0): 0.9, ("ijepa", 0): 0.0}))
    (found,) = board.comparison.sensitivity
    assert found.estimate is None
    assert found.seeds == ()
    rows = [
        row
        for table in differences.tabulate_differences(board)
        for row in table.rows
        if row.head.lines[0] == "Sensitivity"
    ]
    assert [row.cells[0].lines for row in rows] == [("–", "in none of 1 seeds are both above")]


def test_the_drop_under_a_nuisance_is_of_the_same_samples_and_stands_on_the_board(tmp_path):
    made, task = recipe("mae", 0), next(iter(TASKS))
    trained(tmp_path, {("mae", 0): 0.9})
    add_cell(tmp_path, made, task, shift=1.5, probe="robustness")
    stored = load(tmp_path).cells
    stored = stored[stored.probe == "robustness"].iloc[0]
    seen = {}

    def alter(rows):
        clean = [row for row in rows if row["group"] < "p040"]  # the nuisance is asked of some groups alone
        for strength in (1, 2, 3):
            for row in clean:
                blurred = 0.5 + (row["scores"][1] - 0.5) * (1 if hash_of(row["sample"]) % 4 >= strength else -1)
                rows.append(row | {"scores": [1 - blurred, blurred], "corruption": "speckle", "strength": strength})
            some = [row for row in rows if row["strength"] == strength]
            seen[strength] = auroc(clean) - auroc(some)

    path = results.cell_directory(tmp_path, made.modality, stored["cell"]) / "predictions.parquet"
    rewrite(path, alter)
    (board,) = boards(tmp_path)
    (series,) = [one for one in board.series if one.kind == "nuisance"]
    assert {strength: lost.value for strength, lost in series.drops} == pytest.approx(seen)
    assert all(lost.low <= lost.value <= lost.high for _, lost in series.drops)
    (table,) = alterations.tabulate_robustness(board)
    assert table.heads[1].lines == (TASKS[task][0], "speckle", "loss of AUROC")
    (row,) = table.rows
    assert [line[:2] for line in row.cells[0].lines] == ["1:", "2:", "3:", "cl"]
    assert {section.probe for section in board.sections} == {"linear"}  # clean, the gains are the linear probe's


def test_a_board_without_nuisances_has_no_such_table(tmp_path):
    (board,) = boards(trained(tmp_path, {("mae", 0): 0.9}))
    assert alterations.tabulate_robustness(board) == ()


def hash_of(sample: str) -> int:
    return sum(map(ord, sample))


def auroc(rows) -> float:
    return roc_auc_score([row["label"] for row in rows], [row["scores"][1] for row in rows])


def test_a_board_of_an_earlier_engine_says_so_wherever_it_is_shown(tmp_path):
    shown = {}
    for engine in (ENGINE - 1, ENGINE):
        root = tmp_path / str(engine)
        made = recipe("mae", 0, engine=engine)
        for one in (made, twin(made)):
            add_run(root, one)
            add_cell(root, one, "local")
        (board,) = boards(root)
        shown[engine] = [
            terminal.format_board(board),
            render.html(board),
            render.markdown(board),
            render.front([board]),
        ]
    said = f"Measured by engine {ENGINE - 1}; this code is engine {ENGINE}"
    assert all(said in text for text in shown[ENGINE - 1])
    assert not any("Measured by engine" in text for text in shown[ENGINE])


def test_long_names_of_one_family_stay_apart_in_the_terminal():
    names = [
        f"phantom_levels_{distance}_{which}" for distance in ("near", "middle", "far") for which in ("first", "second")
    ]
    heads = [terminal._row(name, ["+0.1"])[:21] for name in names]
    assert len(set(heads)) == len(names)
    assert terminal._row("phantom_relation_near", [])[:21] == "phantom_relation_near"
