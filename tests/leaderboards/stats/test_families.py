"""A family's verdicts, p-values and intervals: against scipy's normal boxes, against each other, and on every page."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from typer.testing import CliRunner

from benchmark.recipe import key, twin
from leaderboards.__main__ import app
from leaderboards.export import board_tables, latex, store_tables, two_encoders
from leaderboards.pages import render, run_details, terminal
from leaderboards.publish import site
from leaderboards.stats import simulate
from leaderboards.stats.families import Largest, correlations, judge, reverse
from leaderboards.stats.intervals import estimate, p_value
from leaderboards.stats.resampling import (
    combine,
    draw_groups,
    draw_tasks,
    mean_over_tasks,
    resample,
    select_seeds,
    subtract,
)
from leaderboards.stats.verdicts import AS_IF, DEPENDENT, GAIN, pair
from tests.helpers import wide
from tests.helpers.boards import add_cell, add_run, recipe, store
from tests.helpers.predictions import predictions

NAN = re.compile(r"(?<![a-z])[+−-]?nan(?![a-z])", re.IGNORECASE)
TEXTS = {".html", ".md", ".js", ".csv", ".tex", ".svg", ".json"}


def methods(count, rng, *, groups=60, seeds=1, tasks=1):
    """[task][method] numbers of equal methods."""
    made = simulate.methods(simulate.Setting(groups=groups, seeds=seeds, tasks=tasks), count, rng)
    found = []
    for place, task in enumerate(made):
        shared = draw_groups([task[0][0]], f"family {place}", draws=100)
        found.append([resample(range(seeds), one, "auroc", shared) for one in task])
    return found


def pairs(numbers):
    return [subtract(a, b) for place, a in enumerate(numbers) for b in numbers[place + 1 :]]


def test_signs_of_eigenvectors_which_differ_between_machines_move_nothing(monkeypatch):
    (numbers,) = methods(4, np.random.default_rng(0))
    members = pairs(numbers)
    estimates, eigh, z = [estimate(one) for one in members], np.linalg.eigh, np.array([1.5, 2.5])
    here = Largest(members, estimates).reaches(z)
    monkeypatch.setattr(np.linalg, "eigh", lambda matrix: (eigh(matrix)[0], eigh(matrix)[1] * [[-1, 1, 1, -1, 1, -1]]))
    assert Largest(members, estimates).reaches(z) == pytest.approx(here, rel=1e-12)


@pytest.mark.parametrize(("count", "share"), [(2, 1.0), (3, 0.7), (4, 0.9)])
def test_the_largest_agrees_with_the_multivariate_normal(count, share):
    (numbers,) = methods(count, np.random.default_rng(0))
    members = pairs(numbers)
    estimates = [replace(estimate(one), of_groups=share) for one in members]
    (matrix,) = correlations(members, [one.of_groups for one in estimates])
    np.testing.assert_allclose(np.diag(matrix), 1)
    assert np.linalg.eigvalsh(matrix).min() > -1e-12
    normal = stats.multivariate_normal(np.zeros(len(matrix)), matrix, seed=0)
    for z in (1.0, 2.0, 2.5, 3.5):
        inside = normal.cdf(np.full(len(matrix), z), lower_limit=np.full(len(matrix), -z))
        assert Largest(members, estimates).reaches(np.array(z)) == pytest.approx(1 - inside, rel=0.03, abs=2e-4)


def test_the_largest_of_pairs_that_sum_to_zero_agrees_with_draws():
    """Of one seed, the third pair is the second less the first, so that the correlations are singular."""
    (numbers,) = methods(3, np.random.default_rng(0))
    members = pairs(numbers)
    estimates = [estimate(one) for one in members]
    (matrix,) = correlations(members, [one.of_groups for one in estimates])
    assert np.linalg.matrix_rank(matrix, tol=1e-9) == 2
    values, vectors = np.linalg.eigh(matrix)
    normal = np.random.default_rng(0).normal(size=(1_000_000, 2)) @ (vectors[:, 1:] * np.sqrt(values[1:])).T
    for z in (1.0, 2.0, 3.0):
        expected = (np.abs(normal).max(1) >= z).mean()
        assert Largest(members, estimates).reaches(np.array(z)) == pytest.approx(expected, rel=0.02)


def test_pairs_of_one_task_correlate_by_half_and_separate_tasks_do_not():
    first, second = methods(3, np.random.default_rng(1), groups=400, tasks=2)
    (matrix,) = correlations(pairs(first), [1.0] * 3)
    np.testing.assert_allclose(np.abs(matrix[np.triu_indices(3, 1)]), 0.5, atol=0.12)
    assert [len(one) for one in correlations([*pairs(first)[:1], *pairs(second)[:1]], [1.0] * 2)] == [1, 1]


def test_a_family_of_one_has_the_plain_interval_and_p():
    (numbers,) = methods(2, np.random.default_rng(2), seeds=3)
    plain = estimate(subtract(*numbers))
    (found,) = judge([subtract(*numbers)], [GAIN])
    assert (found.estimate.low, found.estimate.high) == pytest.approx((plain.low, plain.high), rel=1e-9)
    assert found.p == pytest.approx(p_value(plain), rel=1e-9)
    assert found.family == 1


def test_separate_tasks_are_adjusted_as_sidak_does():
    tasks = methods(2, np.random.default_rng(3), tasks=4)
    members = [subtract(*one) for one in tasks]
    found = judge(members, [GAIN] * 4)
    for one, member in zip(found, members, strict=True):
        assert one.p == pytest.approx(1 - (1 - p_value(estimate(member))) ** 4, rel=1e-9)


@pytest.mark.parametrize("seeds", [1, 3])
def test_p_is_under_05_exactly_where_the_interval_leaves_out_zero(seeds):
    rng, shown = np.random.default_rng(4), []
    for _ in range(40):
        numbers, moved = methods(3, rng, groups=30, seeds=seeds)[0], []
        for one in numbers:
            shift = rng.normal(0, 0.1)
            moved.append(replace(one, values=one.values + shift, draws=one.draws + shift))
        for one in judge(pairs(moved), [GAIN] * 3):
            out = one.estimate.low > 0 or one.estimate.high < 0
            assert (one.p < 0.05) == out == (one.shown != 0)
            assert one.verdict == GAIN.of(one.shown)
            shown.append(out)
    assert 10 < sum(shown) < 110


def test_members_without_a_verdict_are_outside_with_an_interval_of_their_own():
    rng = np.random.default_rng(5)
    (numbers,) = methods(3, rng)
    (few,) = methods(2, rng, groups=12)
    inside = pairs(numbers)
    images = replace(inside[0], independent=False)
    found = judge([*inside, subtract(*few), images, None], [GAIN] * 6)
    assert found[5] is None
    assert [one.verdict for one in found[3:5]] == ["too few groups", DEPENDENT]
    assert [(one.p, one.shown, one.family) for one in found[3:5]] == [(None, None, 0)] * 2
    assert (found[4].estimate.low, found[4].estimate.high) == (estimate(images).low, estimate(images).high)
    assert found[:3] == judge(inside, [GAIN] * 3)
    assert {one.family for one in found[:3]} == {3}


def test_a_difference_turned_round_is_the_other_minus_the_first():
    (numbers,) = methods(3, np.random.default_rng(6))
    names = [("a", "b"), ("a", "c"), ("b", "c")]
    forth = judge(pairs(numbers), [pair(*some) for some in names])
    back = judge(
        [subtract(b, a) for a, b in ((numbers[0], numbers[1]), (numbers[0], numbers[2]), numbers[1:])],
        [pair(*some[::-1]) for some in names],
    )
    for one, other, some in zip(forth, back, names, strict=True):
        found = reverse(one, pair(*some[::-1]))
        assert (found.verdict, found.shown, found.p) == (other.verdict, other.shown, pytest.approx(other.p))
        assert (found.estimate.low, found.estimate.high) == pytest.approx((other.estimate.low, other.estimate.high))


def column(place: int, family: str):
    return replace(wide.column(place), family=family)


def test_equal_names_of_two_dataset_families_are_not_one_group():
    rng = np.random.default_rng(7)
    tests = {column(place, family): predictions(rng, 0) for place, family in enumerate(("alpha", "beta"))}
    draws = draw_tasks(tests)
    one, other = (draws[each] for each in tests)
    assert one.joint is None
    assert one.own != other.own
    numbers = [draws[each].resample((0,), [test], each) for each, test in tests.items()]
    apart = estimate(mean_over_tasks(numbers, [1.0, 1.0]))
    assert apart.error**2 == pytest.approx(sum(estimate(number).error ** 2 for number in numbers) / 4, rel=0.02)


def test_tasks_of_one_family_share_draws_where_they_are_combined_and_only_there():
    rng = np.random.default_rng(8)
    first = predictions(rng, 1)
    second = predictions(rng, 1)
    third = replace(first, label=np.repeat(np.arange(60) // 2 % 2, 4))  # another question about the same patients
    same = {column(place, "breakhis"): test for place, test in enumerate((first, second))}
    draws = draw_tasks(same)
    own = {each.own for each in draws.values()}
    assert len(own) == 1  # the same strata: one set of draws serves
    tests = same | {column(2, "breakhis"): third}
    draws = draw_tasks(tests)
    numbers = [draws[each].resample((0,), [test], each) for each, test in tests.items()]
    for number, test in zip(numbers, tests.values(), strict=True):
        lone = resample((0,), [test], "auroc", draw_groups([test], "breakhis"))
        assert estimate(number).low == estimate(lone).low
    assert len(combine(numbers, [1.0] * 3).moved) == 1


def entries(board, name="MAE"):
    row = next(one for one in board.sections[0].rows if one.name == name)
    return {column.task: entry for column, entry in zip(board.columns, row.entries, strict=True)}


def test_an_unrelated_task_changes_no_score_gain_or_error_of_the_others(tmp_path):
    root = store(tmp_path / "store", seeds=(0, 1), tasks=("local",))
    (before,) = site.load_boards(root)
    for pretext in ("mae", "ijepa"):
        for seed in (0, 1):
            for one in (recipe(pretext, seed), twin(recipe(pretext, seed))):
                add_cell(root, one, "elsewhere", groups=40, family="other")
    (after,) = site.load_boards(root)
    same_but_for_the_family(entries(before)["local"], entries(after)["local"], grown=(2, 4))


def same_but_for_the_family(before, after, grown):
    """A task's score, gain and error are its own; its gain's interval and p answer for all gains beside it."""
    assert after.score == before.score
    assert (after.gain.value, after.gain.error) == (before.gain.value, before.gain.error)
    assert (before.family, after.family) == grown
    assert after.gain.high - after.gain.low >= before.gain.high - before.gain.low


@pytest.mark.parametrize("family", ["other", "phantom"])
def test_a_scores_interval_does_not_depend_on_the_tasks_beside_it(tmp_path, family):
    """Of patients of the same names, of another dataset or of the same with other labels."""
    root = store(tmp_path / "store", pretexts=("mae",), seeds=(0,), tasks=("local",))
    (before,) = site.load_boards(root)
    for one in (recipe("mae", 0), twin(recipe("mae", 0))):
        add_cell(root, one, "global", groups=60, family=family)
    (after,) = site.load_boards(root)
    same_but_for_the_family(entries(before)["local"], entries(after)["local"], grown=(1, 2))
    exported = store_tables.list_numbers(root)
    own = exported.query("task == 'local' and probe == 'linear' and metric == 'auroc' and not twin").iloc[0]
    score = entries(after)["local"].score
    assert (own["low"], own["high"]) == (score.low, score.high)


@pytest.fixture(scope="module")
def complete(tmp_path_factory):
    return store(tmp_path_factory.mktemp("families") / "store", pretexts=("mae", "ijepa", "dinov3"))


def test_board_command_export_and_run_page_say_the_same(complete, tmp_path):
    (board,) = site.load_boards(complete)
    contrast = next(one for one in board.comparison.pretexts if (one.first, one.second) == ("MAE", "I-JEPA"))
    expected = dict(zip([column.task for column in board.columns], contrast.entries, strict=True))
    found = two_encoders.compare(complete, "mae", "ijepa")
    assert {line.task: line.difference for line in found.lines if line.a is not None} == expected
    assert found.lines[-1].difference == contrast.mean
    back = {line.task: line.difference for line in two_encoders.compare(complete, "ijepa", "mae").lines}
    for task, one in expected.items():
        assert (-back[task].estimate.high, -back[task].estimate.low) == (one.estimate.low, one.estimate.high)
        assert (back[task].verdict, back[task].p) == (one.verdict, one.p)
    gain = two_encoders.compare(complete, "mae", "mae:twin")
    rows = {row["task"]: row for row in board_tables.list_rows(board) if row["encoder"] == "MAE"}
    for line in gain.lines[:-1]:
        entry, one = entries(board)[line.task], line.difference
        assert (entry.gain, entry.p, entry.verdict) == (one.estimate, one.p, one.verdict)
        row = rows[line.task]
        assert (row["gain_low"], row["verdict"]) == (round(entry.gain.low, board_tables.DECIMALS), entry.verdict)
        assert f"[{entry.gain.low:+.3f}, {entry.gain.high:+.3f}]" in latex.latex(board)
    said = CliRunner().invoke(app, ["compare", "mae", "ijepa", "--results", str(complete)]).stdout
    assert contrast.entries[0].verdict in said
    assert "As on the board of ultrasound, phantom" in said


def test_a_row_of_one_run_has_one_gain_on_board_run_page_and_command(tmp_path):
    root = store(tmp_path / "store", pretexts=("mae", "ijepa", "dinov3"), seeds=(0,))
    (board,) = site.load_boards(root)
    run = next(one for one in board.runs if one.run == key(recipe("mae", 0)))
    floor = next(one for one in board.runs if one.run == run.twin)
    shown = run_details.gains_of(board, run, floor)
    for column, entry in zip(board.columns, board.sections[0].rows[0].entries, strict=True):
        assert (shown[column].estimate, shown[column].p) == (entry.gain, entry.p)
    lines = two_encoders.compare(root, run.run, floor.run).lines
    assert {line.task: line.difference.p for line in lines[:-1]} == {c.task: one.p for c, one in shown.items()}


def test_a_run_of_a_row_of_several_is_a_family_over_its_tasks(complete):
    (board,) = site.load_boards(complete)
    a, b = (next(one for one in board.runs if one.run == key(recipe(name, 1))) for name in ("dinov3", "ijepa"))
    shown = run_details.compare_runs(board, a, b)
    numbers = [subtract(*(select_seeds(board.numbers[one.variant, c], 1) for one in (a, b))) for c in board.columns]
    assert tuple(one.p for one in shown.values()) == tuple(one.p for one in judge(numbers, [GAIN] * len(numbers)))
    found = two_encoders.compare(complete, a.run, b.run)
    assert "a family of its own" in found.family
    assert {line.task: line.difference.estimate for line in found.lines} == {
        column.task: one.estimate for column, one in shown.items()
    }


def dependent(root, pretexts=("mae", "ijepa"), seeds=(0,), tasks=("local", "global")):
    """A store whose tasks have look-alikes as groups."""
    for pretext in pretexts:
        for seed in seeds:
            for one in (recipe(pretext, seed), twin(recipe(pretext, seed))):
                add_run(root, one)
                for task in tasks:
                    shift = 0.6 + 0.9 * (pretext == "mae") * (one.budget > 0)
                    add_cell(root, one, task, shift=shift, independent=False, group_kind="near-duplicate cluster")
    return root


def test_tasks_whose_groups_are_not_patients_have_values_and_no_verdict_anywhere(tmp_path):
    root = dependent(tmp_path / "store")
    (board,) = site.load_boards(root)
    for section in board.sections:
        for row in section.rows:
            assert (row.letters, row.ranks) == ("", None)
            for entry in (row.mean, *row.entries):
                assert entry.gain is None or (entry.p, entry.shown, entry.verdict) == (None, None, DEPENDENT)
    assert not board.ranked
    assert board.sections[0].rows[0].entries[0].gain.low > 0  # it would have had a verdict
    for one in (*board.comparison.pretexts, *board.comparison.twins):
        assert {each.shown for each in (one.mean, *one.entries)} == {None}
    assert board.comparison.detectable == (None, None)
    text = render.markdown(board)
    assert f"{DEPENDENT}: {AS_IF}" in text
    assert "above twin<br>" not in text
    assert AS_IF in latex.latex(board)
    printed = terminal.format_board(board)
    assert f"* {DEPENDENT}, no verdict: {AS_IF}" in printed
    assert re.search(r"\] \*", printed)
    assert "○" not in printed.partition("▲ above twin")[0]
    assert AS_IF in CliRunner().invoke(app, ["compare", "mae", "ijepa", "--results", str(root)]).stdout


def test_tasks_without_patients_stay_out_of_the_mean_where_others_have_them(tmp_path):
    root = store(tmp_path / "store", seeds=(0,), tasks=("local",))
    dependent(root, tasks=("global",))
    (board,) = site.load_boards(root)
    assert board.pooled == ("Calcification",)
    assert board.ranked


def test_an_undefined_cell_stays_out_of_the_mean_in_words_in_every_format(tmp_path):
    """A test part of one class: its AUROC has no value."""
    root = store(tmp_path / "store", seeds=(0,))
    for pretext in ("mae", "ijepa"):
        for one in (recipe(pretext, 0), twin(recipe(pretext, 0))):
            add_cell(root, one, "single", one_class=True)
    (board,) = site.load_boards(root)
    mae = board.sections[0].rows[0]
    assert board.pooled == ("Calcification", "Steatosis")
    assert np.isfinite(mae.mean.gain.value)
    assert mae.mean.note == "without single: undefined"
    assert mae.entries[2].missing == "undefined: its test part holds one class"
    assert ("MAE on single", "undefined: its test part holds one class") in board.missing
    written = site.build(root, tmp_path / "out")
    store_tables.write_tables(root, tmp_path / "out" / "export", ("csv", "latex"), site.load_boards)
    texts = {path.name: path.read_text() for path in (tmp_path / "out").rglob("*") if path.suffix in TEXTS}
    texts |= {
        command: CliRunner().invoke(app, [command, "--results", str(root)]).stdout for command in ("show", "claims")
    }
    texts["compare"] = CliRunner().invoke(app, ["compare", "mae", "ijepa", "--results", str(root)]).stdout
    assert written
    for name, text in texts.items():
        assert not NAN.search(text), (name, NAN.search(text))
    json.loads(texts["compare-data.js"].split("=", 1)[1].rstrip(";\n"), parse_constant=lambda name: pytest.fail(name))
