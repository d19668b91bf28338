"""The ladder: every claim on every stored rung side by side, in the order of budgets, simulated and real apart."""

from dataclasses import replace

import pytest

from benchmark.recipe import twin
from leaderboards.figures.ladder import draw_ladder, say_ladder
from leaderboards.pages import board_page, render
from leaderboards.publish import site
from leaderboards.stats.verdicts import HOLDS
from leaderboards.tables import ladder
from leaderboards.words import interval
from tests.helpers.boards import add_cell, add_run, localities, recipe

LOCAL = "DINOv3 (recommended) is above I-JEPA (recommended) on local signal"
TASK = "phantom_locality_1"


@pytest.fixture(scope="module")
def boards(tmp_path_factory):
    """Two rungs of one ladder: nothing is learnt on the lower one, and DINOv3 is ahead on the higher one."""
    root = tmp_path_factory.mktemp("ladder") / "store"
    for track, budget, learned in (("1e14", 1e14, 2.0), ("laptop", 2.5e13, 0.0)):
        for pretext in ("dinov3", "ijepa"):
            for seed in (0, 1):
                made = recipe(pretext, seed, track=track, budget=budget)
                for one in (made, twin(made)):
                    add_run(root, one)
                    add_cell(root, one, TASK, shift=0.6 + learned * (pretext == "dinov3" and one.budget > 0))
    localities(root, {TASK: 0.9})
    return site.load_boards(root)


def test_a_row_a_claim_and_a_column_a_rung_by_budget(boards):
    (table,) = ladder.tabulate_ladder(boards)
    assert [head.lines[0] for head in table.heads] == ["Claim", "Modality", "laptop", "1e14"]
    assert table.heads[2].lines[1] == "2.5e13 FLOPs"
    assert len(table.rows) == len(boards[0].claims)
    row = next(row for row in table.rows if row.head.lines == (LOCAL,))
    low, high = row.cells[1:]
    by_track = {board.track: next(one for one in board.claims if one.name == "local") for board in boards}
    for cell, track in ((low, "laptop"), (high, "1e14")):
        assert cell.lines[0] == interval(by_track[track].estimates[0], signed=True)
        assert cell.lines[-1] == by_track[track].verdict
        assert cell.links == ((track, f"ultrasound-phantom-{track}.html"),)
    assert (high.lines[-1], high.tone) == (HOLDS, "above")
    assert low.lines[-1] != HOLDS


def test_simulated_and_real_and_corpora_stand_apart(boards):
    real = [replace(board, claims=tuple(replace(one, about="real data") for one in board.claims)) for board in boards]
    both = [replace(board, claims=(*board.claims, *other.claims)) for board, other in zip(boards, real, strict=True)]
    assert [table.title for table in ladder.tabulate_ladder(both)] == [
        "The ladder: phantom corpus, simulated tasks",
        "The ladder: phantom corpus, real tasks",
    ]
    other = replace(boards[0], corpus="open")
    assert len(ladder.tabulate_ladder([*boards, other])) == 2
    assert len(ladder.tabulate_ladder_of(other, [*boards, other])[0].heads) == 3


def test_rungs_of_another_content_are_another_ladder(boards):
    other = replace(boards[0], corpus_digest="f" * 12)
    (table,) = ladder.tabulate_ladder([other, boards[1]])
    rows = [row for row in table.rows if row.head.lines == (LOCAL,)]
    assert [row.cells[0].lines[1] for row in rows] == [f"content {boards[1].corpus_digest}", f"content {'f' * 12}"]
    assert [cell.lines[0] == "–" for row in rows for cell in row.cells[1:]] == [False, True, True, False]


def test_a_rung_without_a_claim_says_so_and_rungs_that_are_not_stored_are_not_shown(boards):
    short = [replace(board, claims=board.claims[: 1 + place]) for place, board in enumerate(boards)]
    (table,) = ladder.tabulate_ladder(short)
    assert sorted(cell.lines for cell in table.rows[1].cells[1:])[-1] == ("–", "not stored")
    (alone,) = ladder.tabulate_ladder(boards[:1])
    assert len(alone.heads) == 3
    assert ladder.tabulate_ladder([]) == ()


def test_markdown_shows_the_ladder(boards):
    text = render.markdown(boards[0], board_page.describe_board(boards[0], boards))
    assert "## The ladder: phantom corpus, simulated tasks" in text
    assert text.count("(recommended) is above I-JEPA (recommended) on local signal") == 1


def test_the_figure_has_every_pretext_at_every_budget_with_the_gain_of_its_board(boards):
    (drawn,) = draw_ladder(boards)
    gains = {
        (row.name, board.track): row.mean.gain for board in boards for row in board.sections[0].rows if not row.twin
    }
    assert {row[1:3] for row in drawn.rows} == set(gains)
    for _, name, track, spent, value, low, high in drawn.rows:
        assert spent == {"laptop": 2.5e13, "1e14": 1e14}[track]
        assert (value, low, high) == pytest.approx((gains[name, track].value, *_ends(gains[name, track])), abs=1e-9)
    assert drawn.alt.startswith("Ultrasound: ")
    assert "at 1.0e14 FLOPs" in drawn.alt
    assert draw_ladder([]) == ()


def _ends(gain):
    return gain.low, gain.high


def test_runs_on_other_images_are_no_rung_of_the_figure(boards):
    other = replace(boards[1], corpus_digest="f" * 12)
    (drawn,) = draw_ladder([boards[0], other])
    assert {row[2] for row in drawn.rows} == {boards[0].track}


def test_tasks_are_those_that_labels_teach_at_the_largest_budget(boards):
    """A small rung where labels teach nothing is a rung all the same."""
    small, large = sorted(boards, key=lambda board: board.budgets)
    (drawn,) = draw_ladder([replace(small, pooled=()), large])
    assert {row[2] for row in drawn.rows} == {small.track, large.track}
    untaught = replace(large, columns=tuple(replace(column, taught=False) for column in large.columns))
    assert draw_ladder([small, untaught]) == ()
    (said,) = say_ladder([small, untaught])
    assert said.endswith("labels teach this encoder none of the tasks at this budget, so no pretext can be judged.")


def test_a_sentence_orders_pretexts_by_gain_at_the_largest_budget(boards):
    large = max(boards, key=lambda board: board.budgets)
    (said,) = say_ladder(boards)
    gains = {row.name: row.mean.gain.value for row in large.sections[0].rows if not row.twin}
    names = sorted(gains, key=lambda name: -gains[name])
    assert [said.index(f" {name} ") for name in names] == sorted(said.index(f" {name} ") for name in names)
    assert said.startswith("Simulated ultrasound, 1.0e14 training FLOPs")
    assert f"on the {len(large.pooled)} task that labels teach" in said
    assert say_ladder([]) == ()
