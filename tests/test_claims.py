"""The study's claims: every verdict from numbers made for it, untestable ones with the reason, phantoms apart."""

import math
from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

from benchmark import results
from leaderboards import claims, figures, render, simulate
from leaderboards.__main__ import app
from leaderboards.board import Column
from leaderboards.claims import Claim, judge
from leaderboards.contrasts import Line
from leaderboards.statistics import draw, resample
from leaderboards.verdicts import CLAIM_NOT_SHOWN as NOT_SHOWN
from leaderboards.verdicts import CONTRADICTED, DEPENDENT, HOLDS, OPPOSITE, UNTESTABLE
from tests.test_leaderboards import add_cell, add_run, recipe, store


def line(recipe: str, variant: str, name: str = "") -> Line:
    return Line(
        name=name or recipe,
        recipe=recipe,
        twin=False,
        variant=variant,
        twin_variant="t",
        runs={},
        weights=(),
        diverged=(),
    )


LINES = [line("DINOv3", "d"), line("I-JEPA", "i"), line("MAE", "m")]
LOCAL = Claim(name="local", says="", ahead=("DINOv3",), behind="I-JEPA", margin=0.02, locality=(0.67, math.inf))
SLOPE = Claim(name="slope", says="", ahead=("DINOv3",), behind="I-JEPA", margin=0.05, slope=True)
BOTH = Claim(
    name="both", says="", ahead=("DINOv3", "I-JEPA"), behind="MAE", margin=0.02, corruption="speckle", strength=3
)


def column(task: str, synthetic: bool = True, independent: bool = True) -> Column:
    return Column(
        task=task,
        data="d",
        title=task.title(),
        metric="auroc",
        classes=("no", "yes"),
        groups=100,
        group_kind="patient",
        family="made",
        independent=independent,
        samples=400,
        protocol="cut",
        leakage="pass",
        images=400,
        partial="",
        synthetic=synthetic,
    )


def numbers(shifts: dict[str, tuple[float, ...]], tasks, groups: int = 100):
    """Metric of each variant with so much more signal on each task, 5 seeds."""
    rng, found = np.random.default_rng(0), {}
    for place, task in enumerate(tasks):
        (made,) = simulate.methods(simulate.Setting(groups=groups, seeds=5), len(shifts), rng)
        shared = draw([made[0][0]], draws=100, seed=place)
        for (variant, each), some in zip(shifts.items(), made, strict=True):
            moved = [
                type(one)(**vars(one) | {"scores": one.scores + each[place] * (one.label[:, None] - 0.5) * [-1, 1]})
                for one in some
            ]
            found[variant, task] = resample(range(5), moved, "auroc", shared, task.independent)
    return found


def said(claim, found, tasks, locality, lines=LINES, corrupted=None):
    return judge([claim], lines, tasks, found, lambda *_: corrupted or {}, locality)


@pytest.mark.parametrize(("shift", "expected"), [(1.5, HOLDS), (0.0, NOT_SHOWN), (-1.5, CONTRADICTED)])
def test_a_difference_on_local_tasks(shift, expected):
    tasks = [column("near"), column("far")]
    found = numbers({"d": (shift, -9 * shift), "i": (0, 0)}, tasks)
    (one,) = said(LOCAL, found, tasks, {"near": 0.9, "far": 0.1})
    assert (one.verdict, one.tasks, one.about) == (expected, ("Near",), "phantoms")
    assert one.pairs == ("DINOv3 − I-JEPA",)
    assert one.subject == "this recipe at this budget"


def test_phantoms_and_real_data_are_judged_apart():
    tasks = [column("near"), column("real", synthetic=False)]
    found = numbers({"d": (1.5, -1.5), "i": (0, 0)}, tasks)
    verdicts = {one.about: one.verdict for one in said(LOCAL, found, tasks, {"near": 0.9, "real": 0.9})}
    assert verdicts == {"phantoms": HOLDS, "real data": CONTRADICTED}


def test_untestable_says_why():
    tasks = [column("near"), column("far")]
    found = numbers({"d": (0, 0), "i": (0, 0)}, tasks)
    known = {"near": 0.9, "far": 0.1}
    cases = {
        "locality of no task": said(LOCAL, found, tasks, {"near": None}),
        "no task of a measured locality": said(LOCAL, found, tasks, {"near": 0.5, "far": 0.1}),
        "I-JEPA was not run": said(LOCAL, found, tasks, known, LINES[:1]),
        "2 tasks over a range": said(SLOPE, found, tasks, known),
        "under speckle of strength 3": said(BOTH, found, tasks, known),
        "too few groups": said(LOCAL, numbers({"d": (0, 0), "i": (0, 0)}, tasks, groups=12), tasks, known),
    }
    for why, (one,) in cases.items():
        assert one.verdict == UNTESTABLE
        assert why in one.why
        assert one.estimates == ()


def test_an_arm_is_no_part_of_a_claim_and_does_not_end_it():
    tasks = [column("near")]
    found = numbers({"d": (1.5,), "o": (-1.5,), "i": (0,)}, tasks)
    lines = [line("DINOv3", "d"), line("DINOv3 (official)", "o"), line("I-JEPA", "i")]
    (one,) = said(LOCAL, found, tasks, {"near": 0.9}, lines)
    assert (one.verdict, one.variants, one.apart) == (HOLDS, (("d", "i"),), ("DINOv3 (official)",))
    named = replace(LOCAL, ahead=("DINOv3 (official)",))
    (one,) = said(named, found, tasks, {"near": 0.9}, lines)
    assert (one.verdict, one.variants, one.apart) == (CONTRADICTED, (("o", "i"),), ("DINOv3",))


def test_two_rows_of_a_named_recipe_are_judged_each():
    tasks = [column("near")]
    found = numbers({"d": (1.5,), "e": (-1.5,), "i": (0,)}, tasks)
    lines = [line("DINOv3", "d", "DINOv3 (aaa)"), line("DINOv3", "e", "DINOv3 (bbb)"), line("I-JEPA", "i")]
    one, other = said(LOCAL, found, tasks, {"near": 0.9}, lines)
    assert (one.pairs, one.verdict) == (("DINOv3 (aaa) − I-JEPA",), HOLDS)
    assert (other.pairs, other.verdict) == (("DINOv3 (bbb) − I-JEPA",), CONTRADICTED)


def test_an_interval_below_zero_but_not_below_the_margin_points_the_other_way():
    tasks = [column("near")]
    found = numbers({"d": (-1.5,), "i": (0,)}, tasks)
    (one,) = said(replace(LOCAL, margin=0.9), found, tasks, {"near": 0.9})
    assert -0.9 < one.estimates[0].high < 0
    assert one.verdict == OPPOSITE == "opposite direction, within the margin"


def test_tasks_without_patients_support_no_claim():
    tasks = [column("near", independent=False)]
    found = numbers({"d": (1.5,), "i": (0,)}, tasks)
    (one,) = said(LOCAL, found, tasks, {"near": 0.9})
    assert (one.verdict, one.estimates) == (UNTESTABLE, ())
    assert DEPENDENT in one.why
    tasks.append(column("far"))
    found |= numbers({"d": (-1.5,), "i": (0,)}, tasks[1:])
    (one,) = said(LOCAL, found, tasks, {"near": 0.9, "far": 0.9})
    assert (one.verdict, one.tasks) == (CONTRADICTED, ("Far",))


def test_both_must_be_ahead():
    tasks = [column("near")]
    apart = numbers({"d": (1.5,), "i": (1.5,), "m": (0,)}, tasks)
    assert said(BOTH, {}, tasks, {}, corrupted=apart)[0].verdict == HOLDS
    one_only = numbers({"d": (1.5,), "i": (0,), "m": (0,)}, tasks)
    (one,) = said(BOTH, {}, tasks, {}, corrupted=one_only)
    assert (one.verdict, len(one.estimates)) == (NOT_SHOWN, 2)


def test_the_slope_is_least_squares_with_seeds_as_replicates():
    tasks = [column(name) for name in "abcd"]
    places = {"a": 0.0, "b": 0.3, "c": 0.6, "d": 0.9}
    found = numbers({"d": (-1.2, -0.4, 0.4, 1.2), "i": (0, 0, 0, 0)}, tasks)
    (one,) = said(SLOPE, found, tasks, places)
    gaps = np.array([found["d", task].values - found["i", task].values for task in tasks]) / 0.5
    slopes = np.polyfit(list(places.values()), gaps, 1)[0]
    assert one.estimates[0].value == pytest.approx(slopes.mean())
    assert (one.verdict, one.estimates[0].seeds) == (HOLDS, 5)


def test_the_file_is_read_whole():
    found = claims.load()
    assert [one.name for one in found] == ["local", "global", "speckle", "slope"]
    assert found[0].locality == (0.67, math.inf)


def test_a_board_with_an_arm_judges_the_recommended_recipe(tmp_path):
    root = store(tmp_path / "store", pretexts=("mae", "dinov3", "ijepa"), seeds=(0,), tasks=("local",))
    made = recipe("dinov3", 0)
    add_run(root, arm := replace(made, settings=made.settings | {"arm": "official"}))
    add_cell(root, arm, "local", shift=9)
    row = {"modality": "ultrasound", "task": "local", "task_version": 1, "data": "d" * 12, "version": 1, "value": 0.9}
    row |= {"low": 0.8, "high": 1.0, "local": 0.7, "full": 0.8, "groups": 60, "samples": 180, "created": "2026"}
    results.write(root / "ultrasound" / "locality" / "one", {"locality": results.table("locality", [row])})
    (board,) = render.stored(root)
    claim = next(one for one in board.claims if one.name == "local")
    assert claim.pairs == ("DINOv3 − I-JEPA",)
    assert (claim.verdict, claim.apart) == (NOT_SHOWN, ("DINOv3 (official)",))
    shown = CliRunner().invoke(app, ["claims", "--results", str(root)]).stdout
    assert "not part of it: DINOv3 (official)" in shown
    (drawing,) = figures.slope([board])
    assert [row[1] for row in drawing.rows] == ["Calcification"]


def test_command_and_board_show_the_claims(tmp_path):
    root = store(tmp_path / "store", pretexts=("mae",), seeds=(0,), tasks=("local",))
    add_run(root, recipe("dinov3", 0))
    shown = CliRunner().invoke(app, ["claims", "--results", str(root)])
    assert shown.exit_code == 0
    assert "phantoms: DINOv3 is above I-JEPA on local signal: untestable (the locality of no task" in shown.stdout
    out = tmp_path / "out"
    assert CliRunner().invoke(app, ["build", "--results", str(root), "--out", str(out)]).exit_code == 0
    assert "The study's claims" in (out / "ultrasound-phantom-demo.md").read_text()
