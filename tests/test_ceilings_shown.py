"""Ceilings on boards: floor, score and ceiling together, shares, and no verdict where labels teach nothing."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmark import results
from benchmark.metrics import fold_score
from benchmark.recipe import ENGINE, canonical, twin
from leaderboards import ceilings, claims, render, statistics
from leaderboards.statistics import draw, estimate, minus, resample
from leaderboards.verdicts import UNTAUGHT
from tests.test_leaderboards import SPEC, TASKS, add_cell, add_run, images, recipe, store
from tests.test_statistics import predictions


def add_ceiling(root: Path, task: str, shift: float, *, seed: int = 0, labels: int = 6000, groups: int = 60, **changes):
    """Store a ceiling that separates the labels of a task's test images by `shift`."""
    names, label, noise = images(task, groups)
    jitter = np.random.default_rng(1000 + seed).normal(size=len(label)) * 0.1
    risk = 1 / (1 + np.exp(-(shift * label + noise + jitter)))
    scores, zeros = np.stack([1 - risk, risk], axis=1), np.zeros(len(label), dtype=int)
    cell = f"{task}-{seed}-{labels}-{'-'.join(map(str, changes.values()))}"[:60]
    same = {"repeat": 0, "fold": 0, "readout": "", "split_variant": "cut", "fraction": 1.0, "shots": None, "draw": 0}
    same |= {"cell": cell, "corruption": "", "strength": 0}
    seen = [
        same | {"sample": f"{name}/{n % 3}", "group": name, "label": int(label[n]), "scores": scores[n].tolist()}
        for n, name in enumerate(names)
    ]
    row = {
        "cell": cell,
        "family": "made",
        "heads": json.dumps(sorted(TASKS)),
        "modality": "ultrasound",
        "task": task,
        "task_version": 1,
        "data": "d" * 12,
        "track": "demo",
        "encoder": canonical(SPEC),
        "pixels": 112,
        "policy": "pad",
        "seed": seed,
        "budget_flops": 1e13,
        "realised_flops": 9.9e12,
        "steps": 400,
        "images_seen": 12800,
        "labels": labels,
        "label_groups": labels // 2,
        "chosen": 0.7,
        "groups": groups,
        "samples": 3 * groups,
        "protocol": "cut",
        "engine": ENGINE,
        "version": 1,
        "seconds": 60.0,
        "device": "cpu",
        "threads": 2,
        "commit": "0123abc",
        "dirty": False,
        "versions": json.dumps({"python": "3.12.1", "torch": "2.11.0"}),
        "created": "2026-11-02T00:00:00+00:00",
    } | changes
    metrics = [
        row | {"metric": name, "value": fold_score(name, label, scores, zeros, zeros), "headline": place == 0}
        for place, name in enumerate(("auroc", "balanced_accuracy"))
    ]
    tables = {"predictions": results.table("predictions", seen), "fits": results.table("fits", [])}
    results.write(root / "ultrasound" / "ceilings" / cell, tables, metrics, sealed="ceilings")


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
    (found,) = render.stored(complete)
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
    draws = draw(made[:1], draws=4000)
    floor, run, top = (resample((0,), [statistics.paired(one, made[0])], "auroc", draws) for one in made)
    found = ceilings.share(minus(run, floor), ceilings.room(top, floor))
    ratios = (run.draws - floor.draws) / (top.draws - floor.draws)
    assert found.values[0] == pytest.approx((run.values[0] - floor.values[0]) / (top.values[0] - floor.values[0]))
    assert estimate(found).error == pytest.approx(ratios.std(ddof=1), rel=0.15)


def test_the_seeds_of_a_ceiling_are_averaged_and_no_seed_need_be_shared():
    rng = np.random.default_rng(4)
    made = [predictions(rng, shift) for shift in (0, 2.0, 2.5)]
    draws = draw(made[:1])
    low, *tops = (statistics.paired(one, made[0]) for one in made)
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


def test_a_board_on_which_labels_teach_nothing_has_no_ranks_and_its_claims_say_why(tmp_path):
    root = store(tmp_path / "store")
    for task in TASKS:
        add_ceiling(root, task, 0.6)
    (found,) = render.stored(root)
    assert not found.ranked
    mae = found.sections[0].rows[0]
    assert (mae.mean.verdict, mae.letters, mae.ranks) == (UNTAUGHT, "", None)
    judged = claims.judge(
        [claims.Claim(name="x", says="", ahead=("MAE",), behind="I-JEPA", margin=0.0)],
        [_line(row) for row in found.sections[0].rows if not row.twin],
        found.columns,
        found.numbers,
        lambda corruption, strength: {},
        {},
    )
    assert [one.why for one in judged] == [UNTAUGHT]


def _line(row):
    from leaderboards.contrasts import Line

    about = {"twin": False, "variant": row.variant, "twin_variant": "", "runs": {}, "weights": (), "diverged": ()}
    return Line(name=row.name, recipe=row.name, **about)


def test_without_a_ceiling_verdicts_stay(tmp_path):
    (found,) = render.stored(store(tmp_path / "store"))
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
    (found,) = render.stored(root)
    assert found.ceilings == (None, None)
    assert all(column.taught for column in found.columns)


def test_the_newest_ceiling_counts_and_others_are_not_averaged_with_it(tmp_path):
    root = store(tmp_path / "store", pretexts=("mae",), seeds=(0,))
    add_ceiling(root, "local", 0.6, labels=100, seed=1)
    add_ceiling(root, "local", 3.0, labels=6000, created="2026-11-03T00:00:00+00:00")
    (found,) = render.stored(root)
    assert (found.ceilings[0].labels, found.ceilings[0].seeds) == (6000, (0,))


def test_an_encoder_of_another_size_has_no_share_of_a_ceiling_that_is_not_its_own(tmp_path):
    root = store(tmp_path / "store", pretexts=("mae",), seeds=(0,), tasks=("local",))
    wide = replace(recipe("dinov3", 0), encoder=replace(SPEC, width=192))
    for one in (wide, twin(wide)):
        add_run(root, one)
        add_cell(root, one, "local", shift=1.2 if one.budget else 0.6)
    add_ceiling(root, "local", 3.0)
    (found,) = render.stored(root)
    shares = {row.name: row.entries[0].share for row in found.sections[0].rows if not row.twin}
    assert shares["MAE"] is not None
    assert shares["DINOv3"] is None
