"""Claims judged again: a verdict or an estimate that moved is a sentence."""

import copy

import pytest

from leaderboards.audit import regression

STORED = {
    "histo-phantom-laptop, phantoms: A > B": {"verdict": "holds", "why": "", "estimates": [[0.03, 0.01, 0.05]]},
    "histo-phantom-laptop, real data: A > B": {"verdict": "untestable", "why": "not run", "estimates": []},
    "few groups": {"verdict": "not shown", "why": "", "estimates": [[0.1, None, None]]},
}
CLAIM = "histo-phantom-laptop, phantoms: A > B"


def test_the_same_verdicts_are_no_difference_nor_is_the_last_digit():
    now = copy.deepcopy(STORED)
    now[CLAIM]["estimates"][0][0] += 1e-9
    assert regression.compare(now, STORED) == []


@pytest.mark.parametrize(
    ("verdict", "estimates", "said"),
    [
        ("not shown", [[0.03, -0.01, 0.07]], "now 'not shown' (+0.0300 [-0.0100, +0.0700]): moved by 0.02 at most"),
        (
            "holds",
            [[0.031, 0.01, 0.05]],
            "now 'holds' (+0.0310 [+0.0100, +0.0500]): moved by 0.001 at most, tolerance 1e-06",
        ),
        ("holds", [[0.03, None, None]], "now 'holds' (+0.0300)"),
        ("untestable", [], "now 'untestable' (not run)"),
        ("holds", [[float("nan"), 0.01, 0.05]], "now 'holds' (+nan"),
    ],
)
def test_a_claim_judged_otherwise_is_a_sentence(verdict, estimates, said):
    now = STORED | {CLAIM: {"verdict": verdict, "why": "not run" * (not estimates), "estimates": estimates}}
    (line,) = regression.compare(now, STORED)
    assert line.startswith(f"{CLAIM}: stored 'holds' (+0.0300 [+0.0100, +0.0500]), {said}")
    assert "`make regression RECORD=1`" in line


def test_a_claim_that_came_or_went_is_a_sentence(tmp_path):
    now = {name: claim for name, claim in STORED.items() if name != CLAIM} | {"new": STORED[CLAIM]}
    assert [line.split("; ")[0] for line in regression.compare(now, STORED)] == [
        f"{CLAIM}: stored, judged no longer",
        "new: judged now, not stored",
    ]
    regression.record(now, tmp_path / "verdicts.json")
    assert regression.read(tmp_path / "verdicts.json") == now
    with pytest.raises(ValueError, match="no such file; regression needs a checkout"):
        regression.read(tmp_path / "none")
