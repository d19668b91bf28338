"""A submission is shown as the rows that it becomes, or refused with what is wrong with it."""

import subprocess
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from benchmark.recipe import key, twin
from benchmark.storage import results, schema, seals
from leaderboards.__main__ import app
from leaderboards.audit.promote import Refused, promote
from leaderboards.audit.submission import check, format_submission
from leaderboards.boards.aggregate import boards
from leaderboards.boards.listed import RELEASED, SUBMITTED, read_released
from leaderboards.publish import site
from tests.helpers.boards import add_cell, add_run, recipe, store
from tests.leaderboards.audit.test_history import commit, git

OURS, THEIRS, TASK = recipe("mae", 0), recipe("ijepa", 0), "phantom_local"


def head(folder: Path) -> str:
    done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def publish(root: Path, local: Path, made, by: str, groups: int = 60) -> list[str]:
    for one in (made, twin(made)):
        add_run(local, one, commit=by)
        add_cell(local, one, TASK, groups=groups)
    return [packed.directory.relative_to(root).as_posix() for packed in promote(local, root, {})]


@pytest.fixture
def root(tmp_path) -> Path:
    """A published store on main, and a branch to submit from."""
    here = tmp_path / "here"
    published = here / "results" / "published"
    published.mkdir(parents=True)
    git(here, "init", "-q", "-b", "main")
    (here / "code").write_text("1")
    commit(here, "code")
    publish(published, tmp_path / "ours", OURS, head(here))
    commit(here, "publish")
    git(here, "checkout", "-q", "-b", "submission")
    return published


def submit(root: Path, tmp_path: Path, listed: bool = True, **changes) -> list[str]:
    directories = publish(root, tmp_path / "theirs", THEIRS, changes.pop("by", head(root)), **changes)
    if listed:
        lines = "".join(f"{one},A. Author,\n" for one in directories)
        (root.parent / SUBMITTED).write_text(f"directory,by,run_again\n{lines}")
    commit(root.parent, "submit")
    return directories


def test_a_submission_is_shown_as_its_rows_and_says_that_nobody_has_run_it_again(root, tmp_path):
    directories = submit(root, tmp_path)
    found = check(root, "main")
    assert found.problems == ()
    assert set(found.directories) == set(directories)
    assert [row.name for _, row in found.rows] == ["I-JEPA"]
    said = format_submission(found)
    assert "**Can be taken**: 2 directories, 1 rows" in said
    assert "| I-JEPA |" in said
    (board,) = boards(root)
    rows = {row.name: row.note for row in board.sections[0].rows}
    assert rows["I-JEPA"] == "submitted by A. Author; nobody else has run it again"
    assert rows["MAE"] == ""
    text = (root.parent / SUBMITTED).read_text()
    (root.parent / SUBMITTED).write_text(text.replace("A. Author,", "A. Author,2026-12-01 by the maintainers"))
    (board,) = boards(root)
    notes = [row.note for row in board.sections[0].rows if row.name == "I-JEPA"]
    assert notes == ["submitted by A. Author; run again: 2026-12-01 by the maintainers"]


def test_predictions_that_were_touched_are_refused_with_the_metric_they_give(root, tmp_path):
    directories = submit(root, tmp_path)
    path = next(root / one / "predictions.parquet" for one in directories)
    table = results.read_file(path)
    label = table["label"].to_numpy()
    scores = np.stack([1.0 - label, label], axis=1)
    made_up = table.set_column(
        table.column_names.index("scores"), "scores", pa.array(scores.tolist(), table.schema.field("scores").type)
    )
    pq.write_table(made_up, path)
    commit(root.parent, "tamper")
    found = check(root, "main")
    assert any("predictions.parquet" in line and "SHA-256" in line for line in found.problems)
    assert any("auroc" in line and "recomputed 1.0" in line for line in found.problems)
    done = CliRunner().invoke(app, ["submission", "--base", "main", "--published", str(root)])
    assert done.exit_code == 1
    assert "**Refused**" in done.output


def test_a_score_that_was_raised_is_refused_with_its_seal_made_anew(root, tmp_path):
    directories = submit(root, tmp_path)
    folder = root / directories[0]
    table = results.read_file(folder / "cells.parquet")
    rows = [row | {"value": 0.999} if row["metric"] == "auroc" else row for row in table.to_pylist()]
    pq.write_table(schema.table("cells", rows), folder / "cells.parquet")
    (folder / seals.FILE).unlink()
    seals.write(folder)
    commit(root.parent, "tamper")
    assert any("auroc: stored 0.999" in line for line in check(root, "main").problems)


def test_other_test_images_than_everybodys_are_refused(root, tmp_path):
    submit(root, tmp_path, groups=40)
    (said,) = check(root, "main").problems
    assert "make verify" in said


def test_code_that_nobody_has_is_refused(root, tmp_path):
    submit(root, tmp_path, by="0123abc")
    assert all("made by commit 0123abc, which is not of this project" in line for line in check(root, "main").problems)


def test_what_is_not_listed_as_submitted_is_refused_with_the_line_to_add(root, tmp_path):
    directories = submit(root, tmp_path, listed=False)
    assert {f"{one}: not in {SUBMITTED}: add a line `{one},your name or group,`" for one in directories} == set(
        check(root, "main").problems
    )


def test_what_changes_published_files_is_refused(root, tmp_path):
    submit(root, tmp_path)
    ours = next(path for path in root.rglob("cells.parquet") if key(OURS) in path.parent.name)
    git(root, "rm", "-q", str(ours))
    git(root, "commit", "-q", "-m", "lose")
    assert any(f"{ours.relative_to(root)}: deleted" in line for line in check(root, "main").problems)


def test_nothing_and_an_unknown_branch_are_said(root):
    with pytest.raises(Refused, match="nothing was added to it since main"):
        check(root, "main")
    with pytest.raises(Refused, match="git knows no 'origin/main'"):
        check(root, "origin/main")


def test_the_release_file_of_an_encoder_is_named_on_its_page(tmp_path):
    root = store(tmp_path / "published", pretexts=("mae",), seeds=(0,), tasks=("local",))
    (weights,) = {row["weights_sha256"] for row in results.rows(root, "runs").to_pylist() if row["run"] != row["twin"]}
    (tmp_path / RELEASED).write_text(f"file,bytes,sha256,run,weights_sha256\nmae.zip,9,0a1b,{key(OURS)},{weights}\n")
    pages = site.make_files(site.gather(root, site.load_boards(root)))
    named = [name for name, text in pages.items() if b"in the release file mae.zip (SHA-256 0a1b)" in text]
    assert len(named) == 1
    assert named[0].startswith("runs/")


def test_a_list_of_release_files_with_other_columns_is_refused(tmp_path):
    (tmp_path / RELEASED).write_text("name,sum\nmae.zip,0a1b\n")
    with pytest.raises(schema.SchemaError, match="its columns are"):
        read_released(tmp_path / "published")
