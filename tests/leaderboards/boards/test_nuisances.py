"""The nuisance ledger: the question put to the probe, and what a board says of the answers."""

from dataclasses import replace

import numpy as np
import pytest

from benchmark import run
from benchmark.probing import fitting as probing
from benchmark.recipe import twin
from benchmark.study import TaskData
from leaderboards.audit.verify import verify
from leaderboards.boards.aggregate import boards
from leaderboards.tables import alterations
from tasks import splits
from tests.benchmark.probing import test_probing
from tests.helpers.boards import TASKS, add_cell, add_run, recipe


def question(shift: float) -> tuple[TaskData, np.ndarray, np.ndarray]:
    """(the probe's question, its features, positions of the altered samples); a nuisance moves a feature by `shift`."""
    samples, x = test_probing.drawn()
    some = np.flatnonzero([sample.split == "test" for sample in samples])
    changed = [
        probing.Altered(name, run.NUISANCE, some, x[some] + shift * np.eye(6, dtype=np.float32)[place])
        for place, name in ((2, "gain"), (3, "blur"))
    ]
    asked, features = run.nuisances(TaskData(test_probing.TASK, samples), x, changed)
    return asked, features, some


def test_images_and_their_altered_copies_are_classes_and_never_on_two_sides():
    asked, features, some = question(1.0)
    assert asked.task.classes == ("clean", "gain", "blur")
    assert len(features) == len(asked.samples) == 3 * len(some)
    assert [sample.label for sample in asked.samples] == [0] * len(some) + [1] * len(some) + [2] * len(some)
    divisions = splits.assignments(asked.task, asked.samples)
    assert len(divisions) == 5
    for division in divisions:
        sides = [{asked.samples[i].group for i in part} for part in (division.train, division.val, division.test)]
        assert not sides[0] & sides[2]
        assert not sides[1] & sides[2]
        assert not sides[0] & sides[1]
        images = {asked.samples[i].id.partition(",")[0] for i in division.test}
        assert len(division.test) == 3 * len(images)


@pytest.mark.parametrize(("shift", "low", "high"), [(8.0, 0.99, 1.0), (0.0, 0.35, 0.65)])
def test_what_the_features_hold_is_read_and_what_they_do_not_hold_is_chance(shift, low, high):
    asked, features, _ = question(shift)
    divisions = splits.assignments(asked.task, asked.samples)
    settings = vars(probing.registry.load("probes", "nuisance").Settings())
    fitted = probing.fit("nuisance", settings, 0, asked.task, asked.samples, features, divisions)
    _, about, scored = probing.observed("c", "patches", asked.task, asked.samples, fitted, asked.task.metric)
    assert about["protocol"] == "folds(5, 1)"
    assert low <= next(row["value"] for row in scored if row["headline"]) <= high


def test_a_board_reads_each_nuisance_beside_the_label(tmp_path):
    first, made = next(iter(TASKS)), recipe("mae", 0)
    for one in (made, twin(made)):
        add_run(tmp_path, one)
        for task in TASKS:
            add_cell(tmp_path, one, task)
    before = boards(tmp_path)[0]
    for one in (made, twin(made)):
        add_cell(tmp_path, one, first, shift=1.4, probe="nuisance", classes=["clean", "gain"], groups=40)
    (board,) = boards(tmp_path)
    assert board.columns == before.columns  # the question of the task is untouched
    assert [section.probe for section in board.sections] == [section.probe for section in before.sections]
    ledger, floor = board.ledgers
    assert (ledger.name, floor.name) == ("MAE", "untrained MAE")
    told = dict(ledger.nuisances)
    assert ledger.whole.value == pytest.approx(told["gain"].value)
    assert told["clean"].value == pytest.approx(told["gain"].value)  # two classes: one against the other
    (table,) = alterations.tabulate_ledger(board)
    lines = table.rows[0].cells[0].lines
    assert [line.partition(":")[0] for line in lines] == ["all", "clean", "gain", "label"]
    assert not [problem for problem in verify(tmp_path).problems if "seal" not in problem.what]
    assert alterations.tabulate_ledger(replace(board, ledgers=())) == ()
