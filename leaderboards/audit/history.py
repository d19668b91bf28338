"""The published store as git knows it: nothing in it is ever changed or taken away."""

from __future__ import annotations

from pathlib import Path

from tasks import host


def changed_files(root: Path) -> list[str]:
    """One line for every published file that some commit changed, renamed or deleted, or that the working tree lacks.

    Merges are compared with each parent. Nothing outside a checkout, where there is no history to ask.
    """
    if not root.is_dir() or _git(root, "rev-parse", "--is-inside-work-tree") != ["true"]:
        return []
    found = []
    history = _git(root, "log", "-m", "--no-renames", "--diff-filter=MDT", "--name-status", "--format=@%h", "--", ".")
    commit = ""
    for line in history:
        if line.startswith("@"):
            commit = line[1:]
        elif line:
            change, name = line.split("\t", 1)
            found.append(f"{name}: {'deleted' if change == 'D' else 'changed'} in commit {commit}; restore it")
    for name in _git(root, "ls-files", "--deleted", "--modified", "--full-name"):
        found.append(f"{name}: not as committed; `git checkout -- {name}`")
    return list(dict.fromkeys(found))


def _git(folder: Path, *arguments: str) -> list[str]:
    """Lines of its output; none where git fails or is missing."""
    return (host.git(folder, *arguments) or "").splitlines()
