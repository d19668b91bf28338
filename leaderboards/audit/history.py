"""The published store as git knows it: nothing in it is ever changed, or taken away but to the archive."""

from __future__ import annotations

from pathlib import Path

from leaderboards.audit import archive
from tasks import host


def changed_files(root: Path) -> list[str]:
    """One line for every published file that some commit changed, renamed or deleted, or that the working tree lacks,
    and for every line of the archive whose commit does not hold what it says.

    A file of an archived directory may be deleted. Merges are compared with each parent. Nothing outside a checkout,
    where there is no history to ask.
    """
    if not root.is_dir() or _git(root, "rev-parse", "--is-inside-work-tree") != ["true"]:
        return []
    archived = archive.read(root)
    prefix = "".join(_git(root, "rev-parse", "--show-prefix"))
    found = [
        f"{archive.FILE}: {directory}: not in commit {commit}; name one that holds it"
        for directory, commit in archived.items()
        if not _git(root, "ls-tree", commit, f"{directory}/")
    ]
    history = _git(root, "log", "-m", "--no-renames", "--diff-filter=MDT", "--name-status", "--format=@%h", "--", ".")
    commit = ""
    for line in history:
        if line.startswith("@"):
            commit = line[1:]
        elif line:
            change, name = line.split("\t", 1)
            if change == "D" and directory_of(name.removeprefix(prefix)) in archived:
                continue
            found.append(f"{name}: {'deleted' if change == 'D' else 'changed'} in commit {commit}; restore it")
    for name in _git(root, "ls-files", "--deleted", "--modified", "--full-name"):
        if directory_of(name.removeprefix(prefix)) not in archived:
            found.append(f"{name}: not as committed; `git checkout -- {name}`")
    return list(dict.fromkeys(found))


def directory_of(name: str) -> str:
    """Of a file of the store: <modality>/<table or track>/<id>."""
    return "/".join(name.split("/")[:3])


def _git(folder: Path, *arguments: str) -> list[str]:
    """Lines of its output; none where git fails or is missing."""
    return (host.git(folder, *arguments) or "").splitlines()
