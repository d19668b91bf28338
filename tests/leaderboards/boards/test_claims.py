"""The study's claims: every verdict from numbers made for it, untestable ones with the reason, phantoms apart."""

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from typer.testing import CliRunner

from leaderboards.__main__ import app
from leaderboards.boards import claims
from leaderboards.boards.board import Column
from leaderboards.boards.claims import Claim, Evidence, judge
from leaderboards.boards.contrasts import CEILING
from leaderboards.boards.selection import Method
from leaderboards.figures import lead_by_locality
from leaderboards.publish import site
from leaderboards.stats import simulate
from leaderboards.stats.resampling import draw_groups, resample
from leaderboards.stats.verdicts import CLAIM_NOT_SHOWN as NOT_SHOWN
from leaderboards.stats.verdicts import CONTRADICTED, DEPENDENT, HOLDS, OPPOSITE, UNTAUGHT, UNTESTABLE
from leaderboards.tables.claims import explain_verdict
from tests.helpers.boards import add_cell, add_run, localities, recipe, store


def line(recipe: str, variant: str, name: str = "") -> Method:
    return Method(
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
SLOPE = Claim(
    name="slope",
    says="{ahead} over {behind} {at} {within}, {per}",
    ahead=("DINOv3",),
    behind="I-JEPA",
    margin=0.05,
    slope=True,
    family="within what was made",
)
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
        shared = draw_groups([made[0][0]], draws=100, seed=place)
        for (variant, each), some in zip(shifts.items(), made, strict=True):
            moved = [
                type(one)(**vars(one) | {"scores": one.scores + each[place] * (one.label[:, None] - 0.5) * [-1, 1]})
                for one in some
            ]
            found[variant, task] = resample(range(5), moved, "auroc", shared, task.independent)
    return found


def said(claim, found, tasks, locality, lines=LINES, corrupted=None, **more):
    evidence = Evidence(numbers=found, locality=locality, corrupted=lambda *_: corrupted or {}, **more)
    return judge([claim], lines, tasks, evidence)


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
    found = numbers({"d": (0, 0), "i": (0, 0), "t": (0, 0)}, tasks)
    known = {"near": 0.9, "far": 0.1}
    named = replace(LOCAL, tasks=("near", "far"))
    untaught = [replace(tasks[0], taught=False), tasks[1]]
    hidden = {(variant, untaught[0] if one.task == "near" else one): x for (variant, one), x in found.items()}
    cases = {
        "locality of no task": said(LOCAL, found, tasks, {"near": None}),
        "no task of a measured locality": said(LOCAL, found, tasks, {"near": 0.5, "far": 0.1}),
        "I-JEPA was not run": said(LOCAL, found, tasks, known, LINES[:1]),
        "2 tasks over a range": said(SLOPE, found, tasks, known),
        "under speckle of strength 3": said(BOTH, found, tasks, known),
        "Far: no predictions of all of them": said(
            replace(named, locality=None), {key: x for key, x in found.items() if key != ("i", tasks[1])}, tasks, known
        ),
        "no task of a measured locality of 0.67 or more: Near 0.90, Far 0.10": said(named, found, tasks, known),
        "phantom_x: not run": said(replace(LOCAL, tasks=("near", "phantom_x")), found, tasks, known),
        "no task within what was made was run": said(replace(SLOPE, within="other"), found, tasks, known),
        f"Near: {UNTAUGHT}": said(LOCAL, hidden, untaught, known),
        "Near, Far: no ceiling was measured": said(replace(SLOPE, per=CEILING), found, tasks, known),
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


def test_a_real_task_that_labels_do_not_teach_is_no_part_of_a_claim():
    tasks = [column("near", synthetic=False), replace(column("far", synthetic=False), taught=False)]
    found = numbers({"d": (1.5, -1.5), "i": (0, 0)}, tasks)
    (one,) = said(LOCAL, found, tasks, {"near": 0.9, "far": 0.9})
    assert (one.verdict, one.tasks) == (HOLDS, ("Near",))


def test_tasks_name_phantoms_and_real_tasks_are_selected_by_locality_alone():
    tasks = [column("near"), column("other"), column("real", synthetic=False)]
    found = numbers({"d": (1.5, -1.5, 1.5), "i": (0, 0, 0)}, tasks)
    local = replace(LOCAL, tasks=("near",))
    verdicts = {one.about: (one.verdict, one.tasks) for one in said(local, found, tasks, dict.fromkeys(KNOWN, 0.9))}
    assert verdicts == {"phantoms": (HOLDS, ("Near",)), "real data": (HOLDS, ("Real",))}


KNOWN = ("near", "other", "real")


def test_a_claim_says_its_recipes_and_their_budget_and_asks_the_same_on_every_rung():
    tasks = [column("near")]
    found = numbers({"d": (0,), "i": (0,), "o": (0,)}, tasks)
    local = replace(LOCAL, says="{ahead} {at} is above {behind} on local signal")
    lines = [*LINES, line("DINOv3", "o", "DINOv3 (abc)")]
    budgets = {"d": 2.5e13, "i": 2.5e13, "o": 1e13}
    one, other = said(local, found, tasks, {"near": 0.9}, lines, budgets=budgets)
    assert one.says == "DINOv3 (recommended) at 2.5e13 FLOPs is above I-JEPA (recommended) on local signal"
    assert one.asks == "DINOv3 (recommended) is above I-JEPA (recommended) on local signal"
    assert "(at 1.0e13 FLOPs of DINOv3 (abc), 2.5e13 FLOPs of I-JEPA)" in other.says
    arm = replace(local, ahead=("DINOv3 (official)",))
    (one,) = said(arm, found, tasks, {"near": 0.9}, [line("DINOv3 (official)", "o"), LINES[1]], budgets=budgets)
    assert one.asks == "DINOv3 (official) is above I-JEPA (recommended) on local signal"


def test_other_probes_stand_beside_without_a_verdict_where_they_answered_everything():
    tasks = [column("near")]
    found, read = (numbers({"d": (shift,), "i": (0,)}, tasks) for shift in (1.5, -1.5))
    some = {key: number for key, number in read.items() if key[0] == "d"}
    (one,) = said(LOCAL, found, tasks, {"near": 0.9}, probes={"attentive": read, "mlp": some})
    assert one.verdict == HOLDS
    ((probe, (found,)),) = one.probes
    assert probe == "attentive"
    assert found.value == pytest.approx(2 * (read["d", tasks[0]].values - read["i", tasks[0]].values).mean())
    shown = explain_verdict(one)
    assert sum(text.startswith("attentive probe, no verdict: DINOv3 − I-JEPA: −") for text in shown) == 1


def test_the_file_is_read_whole_and_expanded():
    found = claims.load()
    assert [one.name for one in found] == ["local", "global", "speckle", *["slope"] * 12]
    assert (found[0].locality, found[0].tasks) == ((0.67, math.inf), ("phantom_locality_1",))
    assert (found[1].locality, found[1].tasks) == ((-math.inf, 0.33), ("phantom_relation_far",))
    slopes = [one for one in found if one.slope]
    assert len({(one.ahead, one.behind, one.within, one.per) for one in slopes}) == 12
    assert {one.within for one in slopes} == {"phantom_locality", "phantom_relation"}
    assert {one.margin for one in slopes if (one.ahead, one.behind) == (("DINOv3",), "I-JEPA")} == {0.05}
    assert {one.margin for one in slopes if one.behind == "MAE"} == {None}
    assert {one.margin for one in found if not one.slope} == {0.02}
    for one in found:
        at = {"ahead": "A", "behind": "B", "at": "at 1", "within": one.family, "per": "in gain"}
        assert "at 1" in one.says.format(**at)


def test_a_difference_without_a_margin_is_refused():
    with pytest.raises(ValueError, match="local: a difference needs a margin"):
        claims._expanded({"name": "local", "says": "", "ahead": ["A"], "behind": "B"}, {})


def test_a_board_with_an_arm_judges_the_recommended_recipe(tmp_path):
    root = store(tmp_path / "store", pretexts=("mae", "dinov3", "ijepa"), seeds=(0,), tasks=("phantom_locality_1",))
    made = recipe("dinov3", 0)
    add_run(root, arm := replace(made, settings=SimpleNamespace(arm="official")))
    add_cell(root, arm, "phantom_locality_1", shift=9)
    localities(root, {"phantom_locality_1": 0.9})
    (board,) = site.load_boards(root)
    claim = next(one for one in board.claims if one.name == "local")
    assert claim.pairs == ("DINOv3 − I-JEPA",)
    assert (claim.verdict, claim.apart) == (NOT_SHOWN, ("DINOv3 (official)",))
    shown = CliRunner().invoke(app, ["claims", "--results", str(root)]).stdout
    assert "not part of it: DINOv3 (official)" in shown
    (drawing,) = lead_by_locality.draw_lead_by_locality([board])
    assert [row[1] for row in drawing.rows] == ["phantom_locality_1"]


def test_command_and_board_show_the_claims(tmp_path):
    root = store(tmp_path / "store", pretexts=("mae",), seeds=(0,), tasks=("local",))
    add_run(root, recipe("dinov3", 0))
    shown = CliRunner().invoke(app, ["claims", "--results", str(root)])
    assert shown.exit_code == 0
    asked = "DINOv3 (recommended) at 1.0e13 FLOPs is above I-JEPA (recommended) on local signal"
    assert f"phantoms: {asked}: untestable (I-JEPA was not run)" in shown.stdout
    out = tmp_path / "out"
    assert CliRunner().invoke(app, ["build", "--results", str(root), "--out", str(out)]).exit_code == 0
    assert "The study's claims" in (out / "ultrasound-phantom-demo.md").read_text()
