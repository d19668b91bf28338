"""What the tables of a board say is what scikit-learn and SciPy find (`helpers/oracle.py`); a changed number is not."""

import ast
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from benchmark.recipe import twin
from benchmark.storage import results
from leaderboards.boards import aggregate
from leaderboards.export import board_tables
from tests.helpers import oracle
from tests.helpers.boards import add_ceiling, add_cell, add_run, localities, recipe, rewrite

ROOT = Path(__file__).parents[3]
BOARD = "ultrasound-phantom-demo"
RELATION = ("phantom_relation_near", "phantom_relation_middle", "phantom_relation_far")
TASKS = (*RELATION, "phantom_local", "phantom_regional")
FOLDS, OTHERS, UNTAUGHT = TASKS[1], TASKS[3:], TASKS[4]  # answered by folds, of other patients, not taught by labels
FEW = 0.03  # relative: an error of under 400 groups differs by its bootstrap draws alone


def test_the_oracle_imports_nothing_of_the_project():
    tree = ast.parse((ROOT / "tests" / "helpers" / "oracle.py").read_text())
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert not {name.partition(".")[0] for name in names} & {"benchmark", "leaderboards", "tasks", "tests"}


@pytest.mark.parametrize("modality", ["histo", "ultrasound"])
def test_the_published_tables_are_what_the_oracle_finds(modality):
    site = ROOT / "leaderboards" / "site"
    found = oracle.Oracle(ROOT / "results" / "published" / modality, site, f"{modality}-phantom-laptop")
    assert len(found.numbers) == 2 * 7 * 17  # of a task and of all of them; three pretexts, their twins, labels; tasks
    assert list(found.wrong()) == []


LEARNED = {"mae": (3.0, 2.0), "ijepa": (0.2, 0.2), "dinov3": (0.3, 1.2)}  # separation of the labels: else, by folds


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> oracle.Oracle:
    """Three pretexts, four seeds, five tasks with ceilings, of which one is answered by folds, twice, two are of other
    patients, and one of these is not taught by labels."""
    root = tmp_path_factory.mktemp("oracle") / "store"
    for pretext in LEARNED:
        for seed in range(4):
            for made in (recipe(pretext, seed), twin(recipe(pretext, seed))):
                add_run(root, made)
                for task in TASKS:
                    add_cell(root, made, task)
    for task in TASKS:
        for seed in (0, 1):
            add_ceiling(root, task, shift=1.0, seed=seed)
    stored = [(row, "cells", row.pretext) for row in results.read(root, "cells").query("headline").itertuples()]
    stored += [(row, "ceilings", "labels") for row in results.read(root, "ceilings").query("headline").itertuples()]
    for row, table, pretext in stored:
        if table == "ceilings":
            learned = 0.0 if row.task == UNTAUGHT else 4.0
        else:
            learned = 0.0 if row.twin else LEARNED[pretext][row.task == FOLDS]
        rng = np.random.default_rng([row.seed, len(pretext), len(row.task), table == "cells" and row.twin])
        path = root / "ultrasound" / table / row.cell / "predictions.parquet"
        rewrite(path, partial(answered, task=row.task, learned=learned, rng=rng, repeats=1 + (table == "cells")))
    localities(root, dict(zip(TASKS, (0.9, 0.4, 0.1, 0.9, 0.5), strict=True)))
    (board,) = aggregate.boards(root)
    site = tmp_path_factory.mktemp("tables")
    for part, rows, names in (
        ("", board_tables.list_rows(board), board_tables.SCHEMA.names),
        ("-contrasts", board_tables.list_contrasts(board), board_tables.CONTRASTS),
        ("-claims", board_tables.list_claims(board), board_tables.CLAIMS),
    ):
        (site / f"{board.slug}{part}.csv").write_text(board_tables.as_csv(rows, names))
    return oracle.Oracle(root, site, BOARD)


def answered(rows: list[dict], task: str, learned: float, rng: np.random.Generator, repeats: int) -> None:
    """Scores with noise of groups, of images and of this encoder; of folds, in two repeats that divide the groups
    differently."""
    groups = {row["group"]: rng.normal() for row in rows}
    if task == FOLDS:
        rows[:] = [row | {"repeat": repeat} for repeat in range(repeats) for row in rows]
    for row in rows:
        risk = 1 / (1 + np.exp(-(0.5 + learned) * row["label"] - groups[row["group"]] - rng.normal()))
        row["scores"] = [1 - risk, risk]
        number = int(row["group"].removeprefix("p"))
        row["fold"] = (number if row["repeat"] else number // 20) % 3 if task == FOLDS else 0
        if task in OTHERS:
            row["group"] = f"q{number:03d}"


@pytest.fixture
def tables(small, monkeypatch):
    monkeypatch.setattr(oracle, "WIDTH", FEW)
    monkeypatch.setattr(small, "tables", {part: table.copy() for part, table in small.tables.items()})
    return small.tables


def test_the_tables_of_a_small_board_are_what_the_oracle_finds(small, tables):
    assert list(small.wrong()) == []
    assert (tables["-contrasts"]["p"] < 0.05).any()
    assert (tables["-contrasts"]["p"] > 0.05).any()
    assert tables[""]["tie_group"].dropna().nunique() > 1
    assert {"gain", "ceiling"} <= set(tables["-claims"].dropna(subset="value")["per"])
    assert set(TASKS) - set(small.taught) == {UNTAUGHT}
    assert {len(groups.names) for groups in small.kinds.values()} == {60}
    assert len({groups for (_, kind), groups in small.kinds.items() if kind == "joint"}) == 2


CHANGES = {
    ("", "score"): lambda x: x + 1e-8,
    ("", "score_low"): lambda x: x - 0.01,
    ("", "gain"): lambda x: x + 1e-8,
    ("", "gain_high"): lambda x: x + 1e-8,
    ("", "gain_p"): lambda x: x + 0.001,
    ("", "verdict"): lambda x: "below twin",
    ("", "tie_group"): lambda x: "A B C D",
    ("", "share"): lambda x: x + 1e-8,
    ("", "share_low"): lambda x: x - 0.01,
    ("-contrasts", "difference"): lambda x: x + 1e-8,
    ("-contrasts", "low"): lambda x: x - 0.001,
    ("-contrasts", "high"): lambda x: x + 0.001,
    ("-contrasts", "p"): lambda x: np.where(x < 0.5, x + 0.3, x - 0.3),
    ("-contrasts", "verdict"): lambda x: "undefined",
    ("-claims", "value"): lambda x: x + 1e-8,
    ("-claims", "low"): lambda x: x - 0.001,
    ("-claims", "high"): lambda x: x + 0.001,
}


@pytest.mark.parametrize(("part", "column"), CHANGES, ids=[f"{part[1:] or 'board'}.{c}" for part, c in CHANGES])
def test_a_changed_number_is_found(small, tables, part, column):
    table = tables[part]
    rows = table.index[table[column].notna() & (table["kind"] == "trained" if part == "" else True)]
    table[column] = table[column].astype(object)
    table.loc[rows, column] = CHANGES[part, column](table.loc[rows, column])
    table[column] = table[column].infer_objects()
    assert list(small.wrong())


def test_equal_pairs_of_intervals_that_are_too_narrow_are_found(small, tables):
    """As they would be without the family: each interval of its own."""
    table = tables["-contrasts"]
    for end in ("low", "high"):
        table[end] = table["difference"] + (table[end] - table["difference"]) * 0.9
    assert any("half of the interval" in one for one in small.wrong())
