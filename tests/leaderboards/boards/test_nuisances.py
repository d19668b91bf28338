"""The nuisance ledger: the question put to the probe, and what a board says of the answers."""

from dataclasses import replace

import numpy as np
import pytest

from benchmark.probes import nuisance
from benchmark.probing import fitting as probing
from benchmark.recipe import twin
from leaderboards.audit.verify import verify
from leaderboards.boards.aggregate import boards
from leaderboards.tables import alterations
from tests.benchmark.probing import test_probing
from tests.helpers.boards import TASKS, add_cell, add_run, recipe

NAMES = ("gain", "blur")


def ask(shift: float, monkeypatch) -> probing.Question:
    """The probe's question; each of two nuisances moves a feature of its own by `shift`."""
    monkeypatch.setattr(nuisance, "SUITES", {"histo": dict.fromkeys(NAMES)})
    samples, x = test_probing.drawn()

    def changed(name: str, strength: int, index: np.ndarray) -> np.ndarray:
        assert strength == 2
        return x[index] + shift * np.eye(6, dtype=np.float32)[2 + NAMES.index(name)]

    own = probing.question(test_probing.TASK, samples, read_pooled=lambda: x, read_changed=changed)
    return probing.pose("nuisance", own)


def test_images_and_their_altered_copies_are_classes_and_never_on_two_sides(monkeypatch):
    asked = ask(1.0, monkeypatch)
    count = sum(sample.split == "test" for sample in test_probing.drawn()[0])
    assert asked.task.classes == ("clean", "gain", "blur")
    assert len(asked.inputs.pooled) == len(asked.samples) == 3 * count
    assert [sample.label for sample in asked.samples] == [0] * count + [1] * count + [2] * count
    assert len(asked.divisions) == 5
    for division in asked.divisions:
        sides = [{asked.samples[i].group for i in part} for part in (division.train, division.val, division.test)]
        assert not sides[0] & sides[2]
        assert not sides[1] & sides[2]
        assert not sides[0] & sides[1]
        images = {asked.samples[i].id.partition(",")[0] for i in division.test}
        assert len(division.test) == 3 * len(images)


@pytest.mark.parametrize(("shift", "low", "high"), [(8.0, 0.99, 1.0), (0.0, 0.35, 0.65)])
def test_what_the_features_hold_is_read_and_what_they_do_not_hold_is_chance(shift, low, high, monkeypatch):
    asked = ask(shift, monkeypatch)
    fitted = probing.fit("nuisance", test_probing.settings_of("nuisance"), 0, asked)
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
