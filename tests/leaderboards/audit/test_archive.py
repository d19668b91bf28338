"""What an earlier engine published leaves the tree, and history knows where it is."""

import subprocess
from pathlib import Path

import pytest

from benchmark.recipe import ENGINE, key, twin
from benchmark.storage import results, seals
from leaderboards.audit import archive
from leaderboards.audit.history import changed_files
from leaderboards.audit.promote import Refused, promote
from leaderboards.audit.verify import verify
from tests.helpers.boards import add_cell, add_run, localities, recipe
from tests.leaderboards.audit.test_history import commit, git

OLD, NEW = recipe("mae", 0, engine=ENGINE - 1), recipe("ijepa", 0)


@pytest.fixture
def published(tmp_path) -> Path:
    """A store of two engines in a repository, its older runs probed on a task of their own beside a shared one."""
    local, root = tmp_path / "local", tmp_path / "here" / "results" / "published"
    for made, tasks in ((OLD, ("phantom_local", "phantom_global")), (NEW, ("phantom_local",))):
        for one in (made, twin(made)):
            add_run(local, one)
            for task in tasks:
                add_cell(local, one, task)
    promote(local, root, {})
    git(tmp_path / "here", "init", "-q", "-b", "main")
    commit(tmp_path / "here", "publish")
    return root


def test_earlier_engines_leave_and_are_listed_with_a_commit_that_holds_them(published):
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=published, capture_output=True, text=True).stdout.strip()
    gone = archive.archive(published)
    assert set(results.read(published, "runs").run) == {key(NEW), key(twin(NEW))}
    assert archive.read(published) == dict.fromkeys(gone, head)
    assert {Path(one).name.partition("-")[0] for one in gone} == {key(OLD), key(twin(OLD))}
    assert changed_files(published) == []
    commit(published.parent, "archive")
    assert changed_files(published) == []
    assert verify(published).problems == ()
    git(published, "checkout", head, "--", gone[0])
    assert results.read(published / gone[0], "runs").engine[0] == ENGINE - 1
    git(published, "rm", "-rqf", gone[0])
    assert archive.archive(published) == []


def test_a_line_of_the_archive_that_no_commit_holds_is_named(published):
    archive.archive(published)
    path = published.parent / archive.FILE
    kept = next(published.glob("*/demo/*")).relative_to(published).as_posix()
    text = path.read_text(encoding="utf-8")
    path.write_text(f"{text}{kept},{'0' * 40}\n", encoding="utf-8")
    assert changed_files(published) == [f"archive.csv: {kept}: not in commit {'0' * 40}; name one that holds it"]


def test_what_is_not_listed_may_still_not_go(published):
    archive.archive(published)
    commit(published.parent, "archive")
    (published.parent / archive.FILE).unlink()
    assert any("deleted in commit" in line for line in changed_files(published))


def test_nothing_leaves_a_store_that_is_not_as_committed(published):
    next(published.rglob("seal.json")).write_text("{}")
    with pytest.raises(Refused, match="commit first"):
        archive.archive(published)
    assert set(results.rows(published, "runs").to_pandas()["engine"]) == {ENGINE - 1, ENGINE}


def test_images_that_only_an_earlier_engine_was_probed_on_leave_with_it(published):
    localities(published, {"phantom_local": 0.9, "phantom_global": 0.1, "phantom_regional": 0.5})
    commit(published.parent, "locality")
    archive.archive(published)
    kept = {"phantom_local", "phantom_regional"}  # the latter is measured and not yet probed
    assert set(results.rows(published, "locality").to_pandas()["task"]) == kept


def test_of_a_recipe_trained_twice_the_encoder_that_boards_show_stays(published, tmp_path):
    """The second, of which less was asked, leaves with its cells; the row that boards show is the same."""
    again = tmp_path / "again"
    other = tmp_path / "other.safetensors"
    other.write_bytes(b"trained on another machine")
    for one in (NEW, twin(NEW)):
        add_run(again, one, encoder=other if one.budget else None)
    promote(again, published, {})
    commit(published.parent, "trained again")
    shown = results.read(published, "cells").query("run == @key(@NEW)")["weights_sha256"].unique()
    gone = archive.archive(published)
    (kept,) = results.read(published, "runs").query("run == @key(@NEW)")["weights_sha256"]
    assert [kept] == list(shown)
    assert [one for one in gone if key(NEW) in one] == [f"ultrasound/demo/{key(NEW)}-{seals.sha256(other)[:12]}"]
    assert changed_files(published) == []
