"""The first things a reader sees: sentences and tables, which say what the boards say and no more."""

from dataclasses import replace

import pytest

from leaderboards.pages import render
from leaderboards.publish import site
from leaderboards.stats.families import Difference
from leaderboards.stats.verdicts import CONTRADICTED, HOLDS, UNTESTABLE
from leaderboards.tables import answer, every_row
from leaderboards.words import interval, number
from tests.helpers.boards import store


@pytest.fixture(scope="module")
def boards(tmp_path_factory):
    """A board as if of real images, and the same as simulated ones."""
    root = store(tmp_path_factory.mktemp("answer") / "store", pretexts=("mae", "ijepa", "dinov3"))
    (board,) = site.load_boards(root)
    columns = tuple(replace(column, synthetic=False) for column in board.columns)
    return [replace(board, synthetic=False, columns=columns, slug="real", title="Ultrasound: real"), board]


def test_the_table_of_real_images_says_what_their_board_says(boards):
    real, _ = boards
    table = answer.tabulate_patients([real])
    assert len(table.heads) == 1 + len(real.columns)
    rows = {row.head.lines[0]: row for row in table.rows}
    assert list(rows)[-3:] == ["Untrained (floor)", "With labels (ceiling)", "Best baseline"]
    for row in real.sections[0].rows:
        if row.twin:
            continue
        for cell, entry in zip(rows[row.name].cells, row.entries, strict=True):
            assert cell.lines[0] == number(entry.score.value)
            assert cell.lines[1] == f"{interval(entry.gain, signed=True)} · {entry.verdict}"
    floor = rows["Untrained (floor)"].cells[0].lines
    assert floor[0].startswith(number(next(r for r in real.sections[0].rows if r.twin).entries[0].score.value))


def test_tasks_that_cannot_bear_a_verdict_are_left_out_and_said(boards):
    real, _ = boards
    for change in ({"taught": False}, {"independent": False}, {"groups": 30}):
        columns = (replace(real.columns[0], **change), *real.columns[1:])
        table = answer.tabulate_patients([replace(real, columns=columns)])
        assert real.columns[0].title not in str(table.heads)
        none = replace(real, columns=tuple(replace(column, **change) for column in columns))
        assert answer.tabulate_patients([none]) is None
        assert answer.say_patients([none])[0].endswith("no task can bear a verdict.")


def test_a_sentence_names_who_is_above_the_twin_and_who_is_not_shown_to_be(boards):
    real, _ = boards
    (said,) = answer.say_patients([real])
    for place, column in enumerate(real.columns):
        part = said.partition(f"on {column.title}, ")[2].partition(".\n")[0]
        for row in real.sections[0].rows:
            entry = row.entries[place]
            if not row.twin and entry.shown == 1:
                assert f"{row.name} ({interval(entry.gain, signed=True)})" in part
    columns, plain = real.columns, replace(real.sections[0].rows[0].entries[0].score, value=0.9999)
    from leaderboards.boards.board import Baseline

    beaten = replace(real, baselines=(Baseline(name="Colour histogram", scores=(plain,) * len(columns)),))
    assert "none scores above a colour histogram (1.000)" in answer.say_patients([beaten])[0]


def test_claims_have_one_verdict_each_and_the_count_of_them_is_said(boards):
    _, simulated = boards
    table = answer.tabulate_verdicts([simulated])
    asked = {one.asks for one in simulated.claims if one.claimed}
    assert {row.head.lines[0] for row in table.rows} == {one.replace(" (recommended)", "") for one in asked}
    assert len(asked) < len({one.asks for one in simulated.claims}), "estimates beside the claims are left to the board"
    verdicts = [HOLDS, CONTRADICTED, *[UNTESTABLE] * 99]
    judged = [one for one in simulated.claims if one.claimed]
    told = tuple(replace(one, verdict=verdict) for one, verdict in zip(judged, verdicts, strict=False))
    said = answer.say_verdicts([replace(simulated, claims=told)])
    first, second = (one.asks.replace(" (recommended)", "").partition(", in gain")[0] for one in judged[:2])
    where = simulated.modality
    assert f": 1 holds ({where}: {first}), 1 contradicted ({where}: {second}), {len(judged) - 2} untestable." in said
    told = tuple(replace(one, verdict=HOLDS) for one in judged)
    assert f": {len(judged)} hold (" in answer.say_verdicts([replace(simulated, claims=told)])
    assert answer.say_verdicts([]) == ""


def test_the_largest_budget_of_each_modality_answers(boards):
    real, _ = boards
    small = replace(real, budgets=(1e12,), slug="small")
    other = replace(small, modality="histo")
    assert [one.slug for one in answer.find_largest([real, small, other])] == ["small", "real"]


def test_the_front_page_starts_with_the_answer_and_labels_what_is_simulated(boards):
    page = render.front(boards)
    first = page.partition("<h2>")[0]
    assert all(said.replace("'", "&#39;") in first for said in answer.say_patients(boards[:1]))
    assert page.index("On real images") < page.index("SYNTHETIC: simulated phantoms") < page.index('id="boards"')
    assert 'href="table.html"' in page


def test_one_table_holds_every_encoder_on_every_task_with_eight_columns(boards):
    table = every_row.tabulate_every_row(boards)
    assert len(table.heads) == 8
    entries = [e for board in boards for row in board.sections[0].rows if not row.twin for e in row.entries]
    assert len(table.rows) == sum(entry.score is not None for entry in entries)
    assert {dict(row.facets)["images"] for row in table.rows} == {"real", "simulated"}
    page = render.every_row(boards)
    assert page.count('data-images="real"') == len(table.rows) / 2
    assert 'data-facet="images"' in page
    assert 'data-facet="modality"' not in page, "there is one modality, nothing to choose from"


def test_who_is_ahead_of_whom_is_said_either_way_round():
    found = [("A", "B", 1), ("A", "C", 1), ("B", "C", -1), ("B", "D", 0), ("C", "D", None)]
    one = Difference(estimate=None, p=None, shown=None, verdict="", family=0)
    given = [(first, second, replace(one, shown=shown)) for first, second, shown in found]
    assert answer.say_ahead(given) == "A is shown ahead of B and C; C is shown ahead of B"
    assert answer.say_ahead(given[3:]) == "none of them is shown ahead of another"
    assert answer.say_ahead([given[4], ("A", "D", None)]) == ""
