"""Cards: the docstrings of the datasets' modules, as text and in their labelled parts."""

from dataclasses import replace

import pytest

import tasks
from tasks import cards
from tasks.ultrasound.busi import TASK as BUSI

ALL = [tasks.get(modality, name) for modality in tasks.modalities() for name in tasks.names(modality)]
REAL = [task for task in ALL if cards.dataset(task) and not task.synthetic]


def test_a_card_is_read_by_its_columns():
    lines = (
        "What        first",
        "            second line",
        "Who         nobody",
        "Whatever    no label",
        "Traps       a; b",
    )
    card = cards.parse("\n".join(["Title: of it.", "", *lines]))
    assert card.title == "Title: of it."
    assert card.parts == {"What": "first second line", "Who": "nobody Whatever    no label", "Traps": "a; b"}
    assert cards.parse("Title.\n\nProse alone.").parts == {"What": "Prose alone."}


@pytest.mark.parametrize("task", REAL, ids=lambda task: task.name)
def test_every_real_card_has_every_part_in_order(task):
    assert tuple(cards.read(task).parts) == cards.LABELS


def test_a_task_named_like_another_dataset_does_not_borrow_its_card():
    assert cards.dataset(BUSI) == "busi"
    mine = replace(BUSI, name="busi_mine", title="Mine")
    assert cards.dataset(mine) == ""
    assert cards.text(mine).startswith("Mine.\n\nWhat        Does this")
    assert cards.read(mine).parts["Split"] == "cut here by groups, 60/20/20"
