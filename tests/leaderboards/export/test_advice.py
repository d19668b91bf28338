"""The boards' advice: on evidence made up so that its answer is known, and by leaving tasks out."""

from dataclasses import replace

import numpy as np
import pytest

from leaderboards.boards.board import Contrast, Locality
from leaderboards.export import advice
from leaderboards.stats.families import Difference
from tests.helpers import wide

NAMES = ("MAE", "I-JEPA")
PLACES = (0.9, 0.85, 0.8, 0.2, 0.15, 0.1)  # measured localities: three local tasks, three global ones


def gained(entry, value: float, shown: int):
    return replace(entry, gain=replace(entry.gain, value=value, low=value - 0.01, high=value + 0.01), shown=shown)


@pytest.fixture
def board():
    """MAE is above its twin on local tasks and ahead of I-JEPA there; I-JEPA on global ones, MAE nowhere there."""
    made = wide.board(3, len(PLACES))
    rows = []
    for name, row in zip(NAMES, made.sections[0].rows, strict=False):
        entries = []
        for entry, place in zip(row.entries, PLACES, strict=True):
            entry = wide.entry(np.random.default_rng(0)) if entry.gain is None else entry
            good = (place > 0.5) == (name == "MAE")
            entries.append(gained(entry, 0.1 if good else 0.0, int(good)))
        rows.append(replace(row, name=name, entries=tuple(entries)))
    gain = rows[0].entries[0].gain
    entries = tuple(
        Difference(estimate=gain, p=0.01, shown=1 if place > 0.5 else -1, verdict="", family=6) for place in PLACES
    )
    contrast = Contrast(first="MAE", second="I-JEPA", variants=("a", "b"), mean=None, entries=entries)
    costs = tuple(replace(cost, name=name) for cost, name in zip(made.costs, NAMES, strict=False))
    return replace(
        made,
        sections=(replace(made.sections[0], rows=(*rows, *made.sections[0].rows[2:])),),
        comparison=replace(made.comparison, pretexts=(contrast,)),
        costs=costs,
        localities=tuple(Locality(value=place, low=None, high=None) for place in PLACES),
    )


def profile(locality: float | None, **changes) -> advice.Profile:
    base = advice.Profile(modality="ultrasound", title="Mine", locality=locality, groups=200, independent=True)
    return replace(base, **changes)


@pytest.mark.parametrize(("locality", "name", "count"), [(0.85, "MAE", 3), (0.15, "I-JEPA", 3)])
def test_what_is_above_its_twin_on_tasks_like_it_is_supported_with_the_rows_it_rests_on(board, locality, name, count):
    found = advice.advise(advice.find_near([board], profile(locality), synthetic=True))
    assert found.supported == (name,)
    said = advice.format_advice([board], profile(locality))
    assert f"{name}: the only one that is above the untrained encoder on most of the {count} tasks like yours" in said
    assert said.count("wide.html, Task number") == count
    assert "No real ultrasound task" in said


def test_nothing_is_supported_far_from_every_task_or_where_the_locality_is_not_known(board):
    assert "nothing is supported" in advice.format_advice([board], profile(0.5))
    assert "The boards support no pretext" in advice.format_advice([board], profile(None))


def test_of_two_the_one_that_is_shown_ahead_is_preferred_and_else_none(board):
    rows = [
        replace(row, entries=tuple(gained(entry, 0.05, 1) for entry in row.entries))
        for row in board.sections[0].rows[:2]
    ]
    both = replace(board, sections=(replace(board.sections[0], rows=(*rows, *board.sections[0].rows[2:])),))
    assert "shown ahead of I-JEPA" in advice.format_advice([both], profile(0.85))
    same = replace(
        both.comparison.pretexts[0], entries=tuple(replace(e, shown=0) for e in both.comparison.pretexts[0].entries)
    )
    tied = replace(both, comparison=replace(both.comparison, pretexts=(same,)))
    said = advice.format_advice([tied], profile(0.85))
    assert "MAE or I-JEPA: above" in said
    assert "which is better is not shown" in said


def test_tasks_that_cannot_bear_a_verdict_are_no_evidence(board):
    untaught = replace(board, columns=tuple(replace(column, taught=False) for column in board.columns))
    few = replace(board, columns=tuple(replace(column, groups=30) for column in board.columns))
    unknown = replace(board, columns=tuple(replace(column, independent=False) for column in board.columns))
    for one in (untaught, few, unknown):
        assert advice.find_near([one], profile(0.85), synthetic=True) == ()


def test_what_a_test_on_ones_own_data_could_say_is_said(board):
    assert "cannot be told apart on them" in advice.format_advice([board], profile(0.85, groups=30))
    assert "cannot bear a verdict" in advice.format_advice([board], profile(0.85, independent=False))


def test_leaving_each_task_out_gives_its_answer_where_the_others_tell_it(board):
    rows = advice.leave_out([board])
    assert [row["advice"] for row in rows] == ["MAE"] * 3 + ["I-JEPA"] * 3
    assert [row["regret"] for row in rows] == [0.0] * 6
    assert sum(row["usual"] for row in rows) > 0  # one pretext for everything pays on half of the tasks
    assert "mean regret 0.000" in advice.format_left_out(rows)
    assert advice.format_left_out([]).startswith("no simulated task")
