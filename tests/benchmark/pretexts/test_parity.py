"""Parity: every row is within its tolerance and in docs/tables/parity.csv; invariants.csv names tests that exist."""

import ast
import csv
import re
from pathlib import Path

import pytest

from tests import parity
from tests.parity import dinov3, ijepa, mae

ROOT = Path(__file__).parents[3]
TABLES = ROOT / "docs" / "tables"
COMPARISONS = {
    f"{module.__name__.rpartition('.')[2]} {compare.__name__}": compare
    for module in (mae, ijepa, dinov3)
    for compare in module.COMPARISONS
}


def rows(name: str) -> list[dict[str, str]]:
    with (TABLES / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


INVARIANTS = {"M": 10, "J": 9, "D": 13, "X": 11}


@pytest.mark.parametrize("name", COMPARISONS)
def test_every_row_is_within_its_tolerance_and_in_the_docs(name):
    pytest.importorskip("lightly")
    listed = {row["Compared"] for row in rows("parity")}
    for row in COMPARISONS[name]():
        assert row.difference <= row.tolerance, row
        assert row.what in listed, f"{row.what}: `python -m tests.parity > docs/tables/parity.csv`"


def test_a_row_can_fail():
    row = parity.published("x", [1.0, 2.0], [1.0, 2.5], 1e-3)
    assert (row.difference, row.ours, row.theirs) == (0.5, "1 2.5", "1 2")


def functions(path: Path) -> set[str]:
    return {node.name for node in ast.parse(path.read_text(encoding="utf-8")).body if isinstance(node, ast.FunctionDef)}


def test_every_invariant_has_tests_that_exist():
    held = {row["Invariant"]: row["Tests"] for row in rows("invariants")}
    numbered = {name for name in held if re.fullmatch(r"[MJDX]\d+", name)}
    assert numbered == {f"{kind}{i}" for kind, count in INVARIANTS.items() for i in range(1, count + 1)}
    files = {path.stem: path for path in (ROOT / "tests").rglob("test_*.py")}
    for invariant, tests in held.items():
        named = re.findall(r"(\w+)::(\w+)", tests)
        assert named, invariant
        for file, function in named:
            assert function in functions(files[file]), f"{invariant}: {file}::{function}"
