"""The analysis of a reading study: truths that are recovered, agreement of known tables, intervals over cases."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from benchmark.maps.reader import analysis, design, report, simulate

TRUTH = {"mae": 0.0, "ijepa": 1.0, "dinov3": 2.0, design.UNTRAINED: -1.5, design.OTHER_IMAGE: -1.5}


def test_the_analysis_recovers_the_truth_of_simulated_readers():
    found = simulate.recover(TRUTH, readers=4, cases=36, studies=6)
    assert found.order == 1.0
    assert found.coverage > 0.8  # of 36 intervals; the real figure, of many studies, is in docs/reader.md
    found = analysis.analyse(*simulate.draw_answers(TRUTH, 4, 36, seed=11))
    order = [arm for arm, _ in report.sort_falling(found.strengths)]
    assert order == ["dinov3", "ijepa", "mae", design.UNTRAINED]
    for question in ("relevance", "spurious"):
        means = found.means[question]
        assert means["dinov3"].low > means["mae"].high > means[design.UNTRAINED].value
    assert all("is above" in line for line in report.compare_with_controls(found) if "dinov3" in line)


def test_equal_methods_are_told_apart_no_more_often_than_stated():
    same = dict.fromkeys(TRUTH, 0.0)
    assert simulate.recover(same, readers=3, cases=24, studies=8).power <= 2 / 8


def test_readers_who_guess_do_not_agree_and_no_ranking_is_supported():
    rows, made = simulate.draw_answers(TRUTH, 3, 30, seed=2)
    rng = np.random.default_rng(0)
    chosen = rows["question"] == "choice"
    rows["answer"] = np.where(chosen, rng.integers(0, 2, len(rows)), rng.integers(1, 6, len(rows))).astype(float)
    found = analysis.analyse(rows, made)
    assert all(abs(one.value) < 0.25 for one in found.alpha.values())
    assert "do not support a ranking** by relevance, spurious, choice" in report.write(found, {})


def test_few_cases_have_values_alone_and_under_fifty_no_ranking():
    few = analysis.analyse(*simulate.draw_answers(TRUTH, 3, 18, seed=2))
    assert {one.low for one in (*few.strengths.values(), *few.differences.values(), *few.alpha.values())} == {None}
    assert all("not judged against" in line for line in report.compare_with_controls(few))
    assert report.draw(few)
    whole = {cases: analysis.analyse(*simulate.draw_answers(TRUTH, 3, cases, seed=2)) for cases in (48, 54)}
    assert [found.alpha["choice"].value > 0 for found in whole.values()] == [True, True]
    made = [
        replace(found, alpha={"choice": analysis.Estimate(value=0.9, low=0.8, high=1.0)}) for found in whole.values()
    ]
    assert [found.supports_ranking("choice") for found in made] == [False, True]


def test_the_interval_of_a_mean_of_ratings_is_the_t_interval_over_cases():
    rows, made = simulate.draw_answers(TRUTH, 1, 30, seed=2)
    found = analysis.analyse(rows, made).means["relevance"]["mae"]
    own = rows[(rows["question"] == "relevance") & (rows["arm"] == "mae") & (rows["repeats"] == "") & ~rows["practice"]]
    assert found.value == pytest.approx(own["answer"].mean())
    assert own["case"].is_unique
    assert found.high - found.value == pytest.approx(2 * stats.sem(own["answer"]), rel=0.1)


@pytest.mark.filterwarnings("ignore:.*encountered in scalar divide")  # pingouin's, of perfect agreement
def test_readers_who_are_one_agree_wholly_with_each_other_and_with_themselves():
    rows, made = simulate.draw_answers(TRUTH, 1, 30, seed=2)
    value = rows["arm"].map({arm: rank + 1 for rank, arm in enumerate(TRUTH)})
    other = rows["other"].map({arm: rank + 1 for rank, arm in enumerate(TRUTH)})
    rows["answer"] = np.where(rows["question"] == "choice", (value > other).astype(float), value.astype(float))
    both = pd.concat([rows, rows.assign(reader="twin")])
    found = analysis.analyse(both, made)
    assert found.alpha["relevance"].value == found.alpha["choice"].value == pytest.approx(1)
    assert dict(found.icc["relevance"])["ICC(2,1)"].value == pytest.approx(1)
    assert [change for change, _ in found.changes.values()] == [0, 0, 0]
    assert all(count > 0 for _, count in found.changes.values())
    assert replace(found, cases=50).supports_ranking("choice")


def test_icc_and_alpha_are_those_of_known_tables():
    """Shrout and Fleiss (1979), table 2: ICC(2,1) .29, ICC(2,4) .62. Krippendorff's own example of alpha."""
    table = np.array([[9, 6, 8, 7, 10, 6], [2, 1, 4, 1, 5, 2], [5, 3, 6, 2, 6, 4], [8, 2, 8, 6, 9, 7]], float)
    found = dict(analysis.compute_icc(table.T))
    assert (round(found["ICC(2,1)"].value, 2), round(found["ICC(2,k)"].value, 2)) == (0.29, 0.62)
    gap = np.nan
    book = np.array(
        [
            [1, 2, 3, 3, 2, 1, 4, 1, 2, gap, gap, gap],
            [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, gap, 3],
            [gap, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, gap],
            [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, gap],
        ]
    )
    assert round(analysis.compute_alpha(book, "ordinal"), 3) == 0.815
    assert round(analysis.compute_alpha(book, "nominal"), 3) == 0.743


def test_practice_and_repeats_count_for_nothing_but_a_reader_s_own_agreement():
    rows, made = simulate.draw_answers(TRUTH, 2, 20, seed=4)
    before = analysis.analyse(rows, made)
    noise = rows[rows["repeats"] == ""].assign(practice=True, answer=5.0)
    turned = rows.assign(answer=np.where(rows["repeats"] != "", 6 - rows["answer"], rows["answer"]))
    after = analysis.analyse(pd.concat([turned, noise]), made)
    assert (after.means, after.strengths, after.alpha) == (before.means, before.strengths, before.alpha)
    assert after.changes["relevance"] != before.changes["relevance"]


def test_answers_that_say_nothing_are_refused():
    rows, made = simulate.draw_answers(TRUTH, 1, 5, seed=0)
    with pytest.raises(ValueError, match="nothing to analyse"):
        analysis.analyse(rows.assign(answer=np.nan), made)
