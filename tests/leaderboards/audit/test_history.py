"""What is published stays: held against the history of this repository, and of one made for the test."""

import subprocess
from pathlib import Path

from leaderboards.audit.history import changed_files

ROOT = Path(__file__).parents[3]


def git(folder: Path, *arguments: str) -> None:
    author = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *author, *arguments], cwd=folder, check=True, capture_output=True)


def commit(folder: Path, message: str) -> None:
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", message)


def test_nothing_published_here_was_ever_changed_or_taken_away():
    assert changed_files(ROOT / "results" / "published") == []


def test_a_deleted_a_changed_and_a_moved_file_are_named(tmp_path):
    root = tmp_path / "results" / "published"
    root.mkdir(parents=True)
    git(tmp_path, "init", "-q", "-b", "main")
    for name in ("a", "b", "c"):
        (root / name).write_text(name * 200)
    commit(tmp_path, "publish")
    (tmp_path / "other").write_text("elsewhere")
    commit(tmp_path, "other work")
    assert changed_files(root) == []
    (root / "a").unlink()
    (root / "b").write_text("changed")
    (root / "c").rename(root / "d")
    said = changed_files(root)
    assert any(line.startswith("results/published/b: not as committed") for line in said)
    commit(tmp_path, "lose")
    said = "\n".join(changed_files(root))
    assert "results/published/a: deleted in commit" in said
    assert "results/published/b: changed in commit" in said
    assert "results/published/c: deleted in commit" in said


def test_a_merge_that_drops_a_file_is_named(tmp_path):
    root = tmp_path / "published"
    root.mkdir()
    git(tmp_path, "init", "-q", "-b", "main")
    (tmp_path / "code").write_text("1")
    commit(tmp_path, "start")
    git(tmp_path, "checkout", "-q", "-b", "side")
    (tmp_path / "side").write_text("1")
    commit(tmp_path, "side work")
    git(tmp_path, "checkout", "-q", "main")
    (root / "a").write_text("a")
    commit(tmp_path, "publish")
    git(tmp_path, "merge", "-q", "--no-commit", "--no-ff", "side")
    assert changed_files(root) == []
    git(tmp_path, "rm", "-q", "-f", "published/a")
    git(tmp_path, "commit", "-q", "-m", "merge")
    root.mkdir(exist_ok=True)
    assert any("published/a: deleted in commit" in line for line in changed_files(root))


def test_outside_a_checkout_there_is_no_history(tmp_path):
    assert changed_files(tmp_path / "none") == []
