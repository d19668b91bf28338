"""The parity table: every row is within its tolerance, docs/parity.md has every row, and what it names exists."""

import ast
import re
from pathlib import Path

import pytest

from tests import parity
from tests.parity import dinov3, ijepa, mae

ROOT = Path(__file__).parents[3]
DOCS = (ROOT / "docs" / "parity.md").read_text()
COMPARISONS = {
    f"{module.__name__.rpartition('.')[2]} {compare.__name__}": compare
    for module in (mae, ijepa, dinov3)
    for compare in module.COMPARISONS
}
INVARIANTS = {"M": 10, "J": 9, "D": 13, "X": 11}


@pytest.mark.parametrize("name", COMPARISONS)
def test_every_row_is_within_its_tolerance_and_in_the_docs(name):
    pytest.importorskip("lightly")
    for row in COMPARISONS[name]():
        assert row.difference <= row.tolerance, row
        assert f"| {row.what} | " in DOCS, f"{row.what}: repeat `python -m tests.parity` for docs/parity.md"


def test_a_row_can_fail():
    row = parity.published("x", [1.0, 2.0], [1.0, 2.5], 1e-3)
    assert (row.difference, row.ours, row.theirs) == (0.5, "1 2.5", "1 2")


def functions(path: Path) -> set[str]:
    return {node.name for node in ast.parse(path.read_text(encoding="utf-8")).body if isinstance(node, ast.FunctionDef)}


def test_every_invariant_has_tests_that_exist():
    held = dict(re.findall(r"^\| ([MJDX]\d+) \|.*\| (.*) \|$", DOCS, re.MULTILINE))
    assert set(held) == {f"{kind}{i}" for kind, count in INVARIANTS.items() for i in range(1, count + 1)}
    for invariant, tests in held.items():
        named = re.findall(r"`(\w+)::(\w+)", tests)
        assert named, invariant
        for file, function in named:
            assert function in functions(ROOT / "tests" / f"{file}.py"), f"{invariant}: {file}::{function}"
