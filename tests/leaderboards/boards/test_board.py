"""Boards from a small hand-made store: expected values, escaping, verification, and readers that never write."""

import re
import shutil
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import roc_auc_score
from typer.testing import CliRunner

from benchmark.recipe import key, twin
from benchmark.storage import results, schema
from leaderboards.__main__ import app
from leaderboards.audit.verify import verify
from leaderboards.boards import aggregate
from leaderboards.pages import render, terminal
from leaderboards.publish import site
from tests.helpers.boards import add_cell, add_run, recipe, rewrite, store, tree


@pytest.fixture(scope="module")
def complete(tmp_path_factory) -> Path:
    """One complete store for the tests that only read."""
    return store(tmp_path_factory.mktemp("complete") / "store")


def numbers(text: str) -> set[str]:
    return set(re.findall(r"[−+]?\d[\d,.]*(?:e\d+)?", text))


class Words(HTMLParser):
    """The visible text of a page, and its tags."""

    def __init__(self, page: str):
        super().__init__()
        self.text, self.tags, self.hidden = [], [], ""
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.hidden = self.hidden or (tag if tag in ("title", "svg") else "")  # the marks of an axis are a picture's

    def handle_endtag(self, tag):
        self.hidden = "" if tag == self.hidden else self.hidden

    def handle_data(self, data):
        self.text += [] if self.hidden else [data]


def test_expected_values_gains_and_verdicts(complete):
    (board,) = site.load_boards(complete)
    assert (board.modality, board.corpus, board.track, board.synthetic) == ("ultrasound", "phantom", "demo", True)
    assert [column.title for column in board.columns] == ["Calcification", "Steatosis"]
    assert board.pooled == ("Calcification", "Steatosis")
    assert [(s.probe, s.readout, s.by_group) for s in board.sections] == [
        ("linear", "patches", False),
        ("knn", "patches", False),
        ("linear", "patches", True),
    ]
    mae, ijepa, floor = board.sections[0].rows
    assert (mae.name, ijepa.name, floor.name) == ("MAE", "I-JEPA", "Untrained (floor)")
    cells = results.read(complete, "cells").query("task == 'local' and probe == 'linear' and metric == 'auroc'")
    mine = cells[cells["pretext"] == "mae"].groupby("twin")["value"].mean()
    assert mae.entries[0].score.value == pytest.approx(mine[False], abs=1e-14)
    assert mae.entries[0].gain.value == pytest.approx(mine[False] - mine[True], abs=1e-14)
    assert floor.entries[0].score.value == pytest.approx(mine[True], abs=1e-14)
    assert mae.entries[0].verdict == "above twin"
    assert ijepa.entries[0].verdict == "not shown above twin"
    gains = [entry.gain.value for entry in mae.entries]
    assert mae.mean.gain.value == pytest.approx(2 * np.mean(gains), abs=1e-14)  # (1 - chance) is one half
    assert (mae.seeds, mae.mean.gain.seeds, mae.mean.gain.groups) == ((0, 1), 2, 60)
    assert board.missing == ()


def test_boards_that_are_computed_side_by_side_are_the_same(tmp_path, monkeypatch):
    """A process each, as in a large store; one of them is told what its machine could not measure."""
    root = store(tmp_path / "store", pretexts=("mae",), seeds=(0,), tasks=("local",))
    made = recipe("mae", 0, modality="histo")
    for one in (made, twin(made)):
        add_run(root, one)
        add_cell(root, one, "local")
    absent = {"histo": {"pcam": "not here"}}
    alone = site.make_files(site.gather(root, site.load_boards(root, absent)))
    monkeypatch.setattr(aggregate, "MANY", 0)
    monkeypatch.setattr(aggregate, "processors", lambda: 2)
    beside = site.load_boards(root, absent)
    assert len(beside) == 2
    assert site.make_files(site.gather(root, beside)) == alone


def test_values_agree_with_scikit_learn(complete):
    path = next(complete.rglob("cells.parquet"))
    seen = pq.read_table(path.with_name("predictions.parquet")).to_pylist()
    row = next(row for row in pq.read_table(path).to_pylist() if row["metric"] == "auroc")
    expected = roc_auc_score([one["label"] for one in seen], [one["scores"][1] for one in seen])
    assert row["value"] == pytest.approx(expected, abs=1e-14)


def test_pages_say_the_same_and_are_complete(complete, tmp_path):
    before = tree(complete)
    written = site.build(complete, tmp_path / "out", {"ultrasound": {"busi": "no data: `make data TASK=busi`"}})
    assert tree(complete) == before  # readers never write
    assert written[0].name == "index.html"
    page, text = ((tmp_path / "out" / f"ultrasound-phantom-demo.{kind}").read_text() for kind in ("html", "md"))
    words = Words(page)
    assert {"caption", "summary", "svg", "figure"} <= set(words.tags)
    said = " ".join(words.text)
    assert numbers(said) - numbers(text) == set()
    for phrase in (
        "SYNTHETIC: simulated phantoms, not clinical evidence",
        "What was asked",
        "1.0e13 training FLOPs",
        "60 simulated patients, 180 images",
        "not shown above twin",
        "this is about these checkpoints, not about the recipe",
        "make verify",
    ):
        assert phrase in said
        assert phrase in text
    assert "busi: no data: `make data TASK=busi`" in text
    assert "<code>make data TASK=busi</code>" in page
    assert "//" not in page  # nothing is loaded from elsewhere


def test_markdown_of_a_known_board(complete):
    text = render.markdown(site.load_boards(complete)[0])
    row = next(line for line in text.splitlines() if line.startswith("| **MAE**"))
    shape = re.sub(r"\d\.\d{3}", "#", row)
    gained = r"+# \[+#, +#\]"
    assert shape == (
        "| **MAE**<br>2 seeds<br>tie group A, place 1 "
        rf"| {gained}<br>above twin | AUROC # \[#, #\]<br>{gained} · above twin "
        rf"| AUROC # \[#, #\]<br>{gained} · above twin "
        "| 9.8e12<br>400 steps<br>12,800 images<br>20.0 passes<br>1.7 min on cpu |"
    )


def test_a_missing_cell_says_why_and_its_row_has_no_place(tmp_path):
    root = store(tmp_path / "store", seeds=(0,))
    for cell in (root / "ultrasound" / "cells").iterdir():
        row = pq.read_table(cell / "cells.parquet").to_pylist()[0]
        if row["pretext"] == "ijepa" and row["task"] == "global" and not row["twin"]:
            shutil.rmtree(cell)
    for seed, budget in ((0, 1e13), (0, 0.0)):
        add_run(root, recipe("dinov3", seed, budget=budget), status="diverged" if budget else "finished")
    (board,) = site.load_boards(root)
    mae, ijepa, dino = (row for row in board.sections[0].rows if not row.twin)
    assert mae.mean.gain is not None
    assert ijepa.entries[1].missing == "not run yet"
    assert ijepa.mean.missing == "needs Steatosis"
    assert ijepa.letters == ""
    assert dino.entries[0].missing == "diverged in training"
    assert dino.note == "1 of 1 seeds diverged"
    assert ("I-JEPA on Steatosis", "not run yet") in board.missing
    assert "I-JEPA on Steatosis: not run yet" in render.markdown(board)
    assert "not run yet" in terminal.format_board(board)


@pytest.mark.parametrize(("groups", "verdict", "ranked"), [(10, "too few groups", False), (30, "above twin", False)])
def test_few_groups_are_not_ranked(tmp_path, groups, verdict, ranked):
    (board,) = site.load_boards(store(tmp_path / "store", groups=groups))
    entry = board.sections[0].rows[0].entries[0]
    assert entry.verdict == verdict
    assert (entry.gain.low is None) == (groups < 20)
    assert board.ranked is ranked
    assert "too few groups" in render.html(board)


def test_older_versions_are_not_of_this_board(tmp_path):
    root = store(tmp_path / "store", pretexts=("mae",), seeds=(0,))
    for made in (recipe("mae", 0), twin(recipe("mae", 0))):
        add_cell(root, made, "local", shift=0.9, task_version=2)
    (board,) = site.load_boards(root)
    assert len(board.columns) == 2
    assert board.sections[0].rows[0].entries[0].verdict == "not shown above twin"  # equal in the newer version
    assert any("older task or probe versions" in note for note in board.footnotes)


def test_a_partial_dataset_is_named(tmp_path):
    root = store(tmp_path / "store", pretexts=("mae",), seeds=(0,), tasks=("local",))
    made = recipe("mae", 0)
    for one in (made, twin(made)):
        add_cell(root, one, "partly", data_expected=2081)
    text = render.markdown(site.load_boards(root)[0])
    assert "partial: 422 of 2,081 images" in text


def test_names_from_outside_are_escaped(tmp_path):
    root = store(tmp_path / "store", pretexts=("<script>alert(1)</script>|`",), seeds=(0,))
    (board,) = site.load_boards(root)
    for page in (render.html(board), render.front([board])):
        assert "<script>" not in page
        assert "&lt;script&gt;" in page
    assert r"**\<script\>alert(1)\</script\>\|\`**" in render.markdown(board)


def test_foreign_schemas_are_refused_with_the_remedy(tmp_path):
    root = store(tmp_path / "store", pretexts=("mae",), seeds=(0,), tasks=("local",))
    path = min((root / "ultrasound" / "cells").rglob("cells.parquet"))
    table = pq.read_table(path)
    pq.write_table(table.replace_schema_metadata({"pretext_bench_schema": "99"}), path)
    with pytest.raises(schema.SchemaError, match="schema version 99"):
        site.build(root, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert any("schema version 99" in problem.stored for problem in verify(root).problems)
    ran = CliRunner().invoke(app, ["build", "--results", str(root), "--out", str(tmp_path / "out")])
    assert ran.exit_code == 2
    assert "check out the release that wrote it" in ran.stderr
    assert len(ran.stderr.splitlines()) == 1


def test_command_line(complete, tmp_path):
    run = CliRunner().invoke
    built = run(app, ["build", "--results", str(complete), "--out", str(tmp_path / "out")])
    assert built.exit_code == 0
    assert "index.html" in built.stdout
    assert run(app, ["verify", "--results", str(complete)]).exit_code == 0
    shown = run(app, ["show", "--results", str(complete), "--modality", "ultrasound", "--track", "demo"])
    assert "SYNTHETIC" in shown.stdout
    assert max(map(len, shown.stdout.splitlines())) <= 100
    assert run(app, ["show", "--results", str(complete), "--modality", "histo"]).exit_code == 2
    for command in ("build", "verify", "show"):
        empty = run(app, [command, "--results", str(tmp_path / "nothing")])
        assert empty.exit_code == 2
        assert "make bench" in empty.stderr


def test_torch_is_never_imported():
    modules = "leaderboards.__main__, leaderboards.publish.site, leaderboards.audit.verify"
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[3]).returncode == 0


def test_every_column_says_whether_it_leaks(complete):
    (board,) = site.load_boards(complete)
    for verdict in ("pass", "warn", "unknown"):
        columns = tuple(replace(column, leakage=verdict) for column in board.columns)
        assert render.markdown(replace(board, columns=columns)).count(f"leakage: {verdict}") >= len(columns)


def test_of_a_recipe_trained_twice_the_encoder_that_most_was_asked_of_is_shown(tmp_path):
    root = store(tmp_path / "store", pretexts=("mae",), seeds=(0,))
    made = recipe("mae", 0)
    first = results.run_directory(root, made.modality, key(made))
    other = first.with_name(f"{first.name}-again")
    shutil.copytree(first, other)
    rewrite(
        other / "runs.parquet", lambda rows: [row.update(weights_sha256="f" * 64, created="2026-12-01") for row in rows]
    )
    (board,) = site.load_boards(root)
    assert any("1 repetitions of the same recipe are not shown" in note for note in board.footnotes)
    assert board.sections[0].rows[0].entries[0].score is not None
    for place in (root / made.modality / "cells").iterdir():
        if results.read_file(place / "cells.parquet")["run"][0].as_py() == key(made):
            rewrite(place / "cells.parquet", lambda rows: [row.update(weights_sha256="f" * 64) for row in rows])
    (board,) = site.load_boards(root)
    (row,) = [row for row in board.sections[0].rows if not row.twin]
    assert row.entries[0].score is not None  # the cells are the second encoder's now, and so is the row
