"""Ceilings on boards: floor, score and ceiling together, shares, and no verdict where labels teach nothing."""

import csv
import io
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from benchmark.recipe import canonical, twin
from benchmark.storage import results
from leaderboards.boards import ceilings, claims
from leaderboards.boards.board import Ceiling
from leaderboards.boards.selection import Method
from leaderboards.export import board_tables, latex, two_encoders
from leaderboards.pages import board_page, render, terminal
from leaderboards.publish import printed, site
from leaderboards.stats.intervals import estimate
from leaderboards.stats.resampling import draw_groups, pair_samples, resample, subtract
from leaderboards.stats.verdicts import HOLDS, UNTAUGHT
from tests.helpers.boards import SPEC, TASKS, add_ceiling, add_cell, add_run, localities, recipe, store
from tests.helpers.predictions import predictions


@pytest.fixture(scope="module")
def complete(tmp_path_factory) -> Path:
    """MAE learns the first task; labels teach the first task and not the second."""
    root = store(tmp_path_factory.mktemp("ceilings") / "store")
    for seed in (0, 1):
        add_ceiling(root, "local", 3.0, seed=seed)
        add_ceiling(root, "global", 0.6, seed=seed)
    return root


@pytest.fixture(scope="module")
def board(complete):
    (found,) = site.load_boards(complete)
    return found


def test_a_ceiling_has_the_mean_of_its_seeds_and_an_interval_over_test_groups(board, complete):
    stored = results.read(complete, "ceilings").query("headline").groupby("task")["value"].mean()
    for column, one in zip(board.columns, board.ceilings, strict=True):
        assert one.score.value == pytest.approx(stored[column.task], abs=1e-14)
        assert one.score.low < one.score.value < one.score.high
        assert (one.labels, one.seeds, one.score.groups) == (6000, (0, 1), 60)


def test_a_share_is_the_gain_over_the_room_between_twin_and_ceiling(board):
    mae, ijepa, floor = board.sections[0].rows
    top = board.ceilings[0].score.value
    for row in (mae, ijepa):
        entry = row.entries[0]
        below = entry.score.value - entry.gain.value
        assert entry.share.value == pytest.approx(entry.gain.value / (top - below), abs=1e-12)
    share = mae.entries[0].share
    assert 0 < share.low < share.value < share.high
    assert [entry.share for entry in floor.entries] == [None, None]


def test_the_error_of_a_share_is_near_that_of_the_bootstrapped_ratio():
    rng = np.random.default_rng(3)
    shared = rng.normal(size=300)
    made = [predictions(rng, shift, groups=300, method=shared + rng.normal(size=300) * 0.5) for shift in (0, 0.6, 2.0)]
    draws = draw_groups(made[:1], draws=4000)
    floor, run, top = (resample((0,), [pair_samples(one, made[0])], "auroc", draws) for one in made)
    found = ceilings.share(subtract(run, floor), ceilings.room(top, floor))
    ratios = (run.draws - floor.draws) / (top.draws - floor.draws)
    assert found.values[0] == pytest.approx((run.values[0] - floor.values[0]) / (top.values[0] - floor.values[0]))
    assert estimate(found).error == pytest.approx(ratios.std(ddof=1), rel=0.15)


def test_the_seeds_of_a_ceiling_are_averaged_and_no_seed_need_be_shared():
    rng = np.random.default_rng(4)
    made = [predictions(rng, shift) for shift in (0, 2.0, 2.5)]
    draws = draw_groups(made[:1])
    low, *tops = (pair_samples(one, made[0]) for one in made)
    floor = resample((3, 4), [low, low], "auroc", draws)
    above = ceilings.room(resample((0, 1), tops, "auroc", draws), floor)
    assert above.seeds == (3, 4)
    singles = [resample((0,), [one], "auroc", draws).values[0] for one in tops]
    assert above.values == pytest.approx([np.mean(singles) - floor.values[0]] * 2)


def test_where_labels_teach_nothing_there_is_no_verdict_anywhere(board):
    assert [column.taught for column in board.columns] == [True, False]
    assert board.pooled == ("Calcification",)
    for section in board.sections:
        for row in section.rows:
            if not row.twin:
                assert row.entries[0].p is not None
                assert (row.entries[1].verdict, row.entries[1].p, row.entries[1].shown) == (UNTAUGHT, None, None)
                assert row.entries[1].share is None
    for one in (*board.comparison.pretexts, *board.comparison.twins):
        assert one.entries[0].shown is not None
        assert (one.entries[1].verdict, one.entries[1].shown) == (UNTAUGHT, None)
    assert board.comparison.detectable[1] is None
    assert board.comparison.classical is None  # one task is left
    assert {title for one in board.claims for title in one.tasks} <= {"Calcification"}


def test_what_a_board_can_bear_counts_only_tasks_that_labels_teach(board):
    said = board_page.bearing(board)
    assert said.startswith("verdicts on 1 of 2 tasks, whose patients are known: Calcification (60); ")
    assert f"; no verdict where {UNTAUGHT}: Steatosis (60)." in said
    unlearnt = replace(board, columns=tuple(replace(column, taught=False) for column in board.columns))
    assert board_page.bearing(unlearnt).startswith("no verdict: ")


def test_a_board_on_which_labels_teach_nothing_has_no_ranks_and_its_claims_say_why(tmp_path):
    root = store(tmp_path / "store")
    for task in TASKS:
        add_ceiling(root, task, 0.6)
    (found,) = site.load_boards(root)
    assert not found.ranked
    mae = found.sections[0].rows[0]
    assert (mae.mean.verdict, mae.letters, mae.ranks) == (UNTAUGHT, "", None)
    judged = claims.judge(
        [claims.Claim(name="x", says="", ahead=("MAE",), behind="I-JEPA", margin=0.0)],
        [_line(row) for row in found.sections[0].rows if not row.twin],
        found.columns,
        claims.Evidence(numbers=found.numbers, locality={}),
    )
    assert [one.why for one in judged] == [f"Calcification, Steatosis: {UNTAUGHT}"]


def test_a_slope_over_the_way_to_the_ceiling_is_of_the_shares_that_the_board_shows(tmp_path):
    places = dict(zip([f"phantom_relation_{name}" for name in ("near", "middle", "far")], (0.9, 0.4, 0.1), strict=True))
    root = store(tmp_path / "store", pretexts=("ijepa", "dinov3"), seeds=(0, 1), tasks=())
    for place, task in enumerate(places):
        add_ceiling(root, task, 3.0)
        for pretext in ("ijepa", "dinov3"):
            for made in (recipe(pretext, seed) for seed in (0, 1)):
                add_cell(root, twin(made), task)
                add_cell(root, made, task, shift=0.8 + (0.5 * place if pretext == "ijepa" else 0.2))
    localities(root, places)
    (found,) = site.load_boards(root)
    rows = {row.name: row for row in found.sections[0].rows}
    order = [places[column.task] for column in found.columns]
    leads = [d.share.value - i.share.value for d, i in zip(rows["DINOv3"].entries, rows["I-JEPA"].entries, strict=True)]
    one = next(x for x in found.claims if x.per == "ceiling" and x.estimates)
    assert one.estimates[0].value == pytest.approx(np.polyfit(order, leads, 1)[0])
    assert one.verdict == HOLDS
    assert "in gain over (ceiling − floor)" in one.says
    told = {(row["per"], row["value"]) for row in board_tables.list_claims(found) if row["value"] is not None}
    assert ("ceiling", round(one.estimates[0].value, 9)) in told


def _line(row):
    about = {"twin": False, "variant": row.variant, "twin_variant": "", "runs": {}, "weights": (), "diverged": ()}
    return Method(name=row.name, recipe=row.name, **about)


def test_without_a_ceiling_verdicts_stay(tmp_path):
    (found,) = site.load_boards(store(tmp_path / "store"))
    assert found.ceilings == (None, None)
    assert all(column.taught for column in found.columns)
    assert found.sections[0].rows[0].entries[0].verdict == "above twin"


@pytest.mark.parametrize(
    "changes",
    [
        {"track": "laptop"},
        {"budget_flops": 6e12},
        {"data": "e" * 12},
        {"modality": "histo"},
        {"encoder": canonical(replace(SPEC, width=192))},
    ],
)
def test_a_ceiling_of_other_images_another_budget_or_encoder_is_not_this_boards(tmp_path, changes):
    root = store(tmp_path / "store", pretexts=("mae",), seeds=(0,))
    add_ceiling(root, "global", 0.6, **changes)
    (found,) = site.load_boards(root)
    assert found.ceilings == (None, None)
    assert all(column.taught for column in found.columns)


def test_the_newest_ceiling_counts_and_others_are_not_averaged_with_it(tmp_path):
    root = store(tmp_path / "store", pretexts=("mae",), seeds=(0,))
    add_ceiling(root, "local", 0.6, labels=100, seed=1)
    add_ceiling(root, "local", 3.0, labels=6000, created="2026-11-03T00:00:00+00:00")
    (found,) = site.load_boards(root)
    assert (found.ceilings[0].labels, found.ceilings[0].seeds) == (6000, (0,))


def test_an_encoder_of_another_size_has_no_share_of_a_ceiling_that_is_not_its_own(tmp_path):
    root = store(tmp_path / "store", pretexts=("mae",), seeds=(0,), tasks=("local",))
    wide = replace(recipe("dinov3", 0), encoder=replace(SPEC, width=192))
    for one in (wide, twin(wide)):
        add_run(root, one)
        add_cell(root, one, "local", shift=1.2 if one.budget else 0.6)
    add_ceiling(root, "local", 3.0)
    (found,) = site.load_boards(root)
    shares = {row.name: row.entries[0].share for row in found.sections[0].rows if not row.twin}
    assert shares["MAE"] is not None
    assert shares["DINOv3"] is None


@pytest.fixture(scope="module")
def built(complete, board, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("ceilings-built")
    site.build(complete, out, boards=[board])
    return out


BOARD = "ultrasound-phantom-demo"
SENTENCE = f"{UNTAUGHT.capitalize()}: no verdict."


def test_floor_score_ceiling_and_share_stand_together_wherever_the_headline_is(board, built):
    top, share = board.ceilings[0].score, board.sections[0].rows[0].entries[0].share
    floor = board.sections[0].rows[-1].entries[0].score
    texts = {kind: (built / f"{BOARD}.{kind}").read_text() for kind in ("html", "md", "tex")}
    texts["txt"] = terminal.format_board(board)
    for kind, text in texts.items():
        assert "Untrained (floor)" in text, kind
        assert "With labels (6,000)" in text, kind
        for one in (floor, share, top):
            assert f"{one.value:.3f}" in text, kind
        assert text.index("Untrained (floor)") < text.index("With labels (6,000)"), kind
    for kind in ("html", "md"):
        assert SENTENCE in texts[kind]
        assert "ceiling not measured" not in texts[kind]
    assert f"† {UNTAUGHT}: no verdict" in texts["txt"]
    assert "\nThe mean over tasks is of gain / (1 − chance), over 1 of 2 tasks: local.\n" in texts["txt"]
    table = board_page.describe_board(board).headline
    assert [row.kind for row in table.rows] == ["trained", "trained", "twin", "ceiling"]
    assert table.heads[3].lines[-1] == "ceiling not shown above the twin"


def test_tables_for_programs_hold_ceilings_and_shares(board, built, complete):
    rows = list(csv.DictReader(io.StringIO((built / f"{BOARD}.csv").read_text())))
    assert [row["encoder"] for row in pq.read_table(built / f"{BOARD}.parquet").to_pylist()] == [
        row["encoder"] for row in rows
    ]
    tops = {row["task"]: row for row in rows if row["kind"] == "ceiling"}
    stored = results.read(complete, "ceilings").query("headline").groupby("task")["value"].mean()
    for task, row in tops.items():
        assert float(row["score"]) == pytest.approx(stored[task], abs=1e-9)
        assert (row["encoder"], row["gain"], row["verdict"], row["tie_group"]) == ("With labels (6,000)", "", "", "")
        assert float(row["score_low"]) < float(row["score"]) < float(row["score_high"])
    (mae,) = (row for row in rows if (row["encoder"], row["task"]) == ("MAE", "local"))
    (floor,) = (row for row in rows if (row["kind"], row["task"]) == ("twin", "local"))
    way = float(tops["local"]["score"]) - float(floor["score"])
    assert float(mae["share"]) == pytest.approx(float(mae["gain"]) / way, abs=1e-7)
    assert (mae["steps"], mae["images_seen"], mae["passes"]) == ("400.0", "12800.0", "20.0")
    (untaught,) = (row for row in rows if (row["encoder"], row["task"]) == ("MAE", "global"))
    assert (untaught["verdict"], untaught["share"], untaught["gain_p"]) == (UNTAUGHT, "", "")


def test_the_page_of_a_task_has_its_ceiling_and_shares(built):
    page = (built / "tasks" / "ultrasound-local.html").read_text()
    assert "With labels (6,000)" in page
    assert re.search(r"share 0\.\d{3} \[", page)
    assert "ceiling not shown above the twin" in (built / "tasks" / "ultrasound-global.html").read_text()


def test_verify_counts_ceilings_and_shares_and_names_one_that_was_changed(complete, built):
    found = printed.check(complete, built)
    assert found.misprints == ()
    assert (found.numbers["ceilings"], found.numbers["shares"]) == (2, 2)
    path = built / f"{BOARD}.csv"
    text = path.read_text()
    row = next(line for line in text.splitlines() if line.startswith(f"{BOARD},MAE,trained,local"))
    share = dict(zip(board_tables.SCHEMA.names, row.split(","), strict=True))["share"]
    path.write_text(text.replace(row, row.replace(share, f"{float(share) + 1e-6:.9f}")))
    (wrong,) = printed.check(complete, built).misprints
    assert wrong.where.endswith("column share")
    path.write_text(text)


def test_a_board_without_ceilings_says_so_and_keeps_its_ranks(tmp_path):
    (found,) = site.load_boards(store(tmp_path / "store"))
    for text in (render.html(found), render.markdown(found)):
        assert "ceiling not measured" in text
        assert "Ceiling not measured: what labels would reach" in text
        assert SENTENCE not in text
    assert "not measured" in terminal.format_board(found)
    assert found.ranked
    assert [row["kind"] for row in board_tables.list_rows(found) if row["kind"] == "ceiling"] == []


def test_a_ceiling_under_the_mark_is_marked_in_words(board):
    low, high = (replace(board.ceilings[0].score, value=value, low=None, high=None) for value in (0.85, 0.95))
    tops = tuple(Ceiling(labels=6000, score=score, seeds=(0,)) for score in (low, high))
    taught = tuple(replace(column, taught=True) for column in board.columns)
    made = board_page.describe_board(replace(board, ceilings=tops, columns=taught))
    assert made.headline.heads[2].lines[-1] == "ceiling under 0.90"
    assert made.headline.heads[3].lines[-1].startswith("leakage")
    (said,) = (line for line in made.how if line.startswith("Marked"))
    assert "Calcification (0.850)" in said
    assert "Steatosis" not in said


def test_different_numbers_of_labels_share_a_row_that_says_so(board):
    tops = (board.ceilings[0], replace(board.ceilings[1], labels=2000))
    headline = board_page.describe_board(replace(board, ceilings=tops)).headline
    (row,) = (row for row in headline.rows if row.kind == "ceiling")
    assert row.head.lines[0] == "With labels (2,000–6,000)"
    assert [cell.lines[1] for cell in row.cells[1:3]] == ["6,000 labels, 2 seeds", "2,000 labels, 2 seeds"]
    assert "With labels (2,000--6,000)" in latex.latex(replace(board, ceilings=tops))


def test_a_comparison_of_two_encoders_has_no_verdict_either(complete):
    for probe in ("linear", "knn"):  # as on the board; a family of its own
        found = {line.task: line.difference for line in two_encoders.compare(complete, "mae", "ijepa", probe).lines}
        assert found["local"].shown is not None
        assert (found["global"].verdict, found["global"].p) == (UNTAUGHT, None)


def test_probes_that_read_tokens_stand_directly_after_the_headline_titled_in_words(tmp_path):
    root = store(tmp_path / "store", pretexts=("mae",), seeds=(0,), tasks=("local",))
    for one in (recipe("mae", 0), twin(recipe("mae", 0))):
        for probe in ("attentive", "mlp"):
            add_cell(root, one, "local", shift=0.9, probe=probe)
    (found,) = site.load_boards(root)
    assert [s.probe for s in found.sections] == ["linear", "attentive", "mlp", "knn", "linear"]
    page = render.html(found)
    titles = [" ".join(re.sub("<[^>]*>", "", title).split()) for title in re.findall(r"<h2>(.*?)</h2>", page)]
    assert titles[:4] == [
        "Scores: linear probe, mean of patch tokens",
        "Scores: attentive probe, all patch tokens",
        "Scores: two-layer probe, mean of patch tokens",
        "How to read it",
    ]
    text = render.markdown(found)
    assert text.index("two-layer probe") < text.index("### How to read it") < text.index("kNN probe")


def test_steps_images_and_passes_stand_beside_the_flops(board):
    shown = board_page.describe_board(board)
    (costs,) = (table for table in shown.further if table.title == "Cost of pretraining")
    heads = [head.lines[0] for head in costs.heads]
    row = dict(zip(heads, [costs.rows[0].head, *costs.rows[0].cells], strict=True))
    found = [row[name].lines[0] for name in ("FLOPs spent", "Steps", "Images seen", "Passes over the corpus")]
    assert found == ["9.8e12", "400", "12,800", "20.0"]
    assert ("9.8e12", "400 steps", "12,800 images", "20.0 passes", "1.7 min on cpu") in [
        cell.lines for cell in shown.headline.rows[0].cells
    ]
