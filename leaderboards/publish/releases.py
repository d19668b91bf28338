"""Releases of the boards: `releases/<version>/` holds them as Markdown and as tables, and is never written again."""

from __future__ import annotations

import re
from pathlib import Path

from leaderboards.boards import citation
from leaderboards.export.board_tables import board_tables
from leaderboards.pages import render
from leaderboards.pages.board_page import describe_board
from leaderboards.publish import site

FOLDER = "releases"
KINDS = (".csv", ".bib")  # of the tables of a board, beside its Markdown


def list_versions(folder: Path) -> tuple[str, ...]:
    """The releases of a site, oldest first."""
    found = [path.name for path in (folder / FOLDER).glob("*") if path.is_dir()]
    return tuple(sorted(found, key=_order))


def _order(version: str) -> tuple[tuple[int, ...], str]:
    return tuple(int(part) for part in re.findall(r"\d+", version)), version


def build_site(results: Path, folder: Path) -> list[Path]:
    """Write the published site, whose pages name its releases; the files written. Raises SchemaError."""
    return site.build(results, folder, boards=site.load_public_boards(results), releases=list_versions(folder))


def freeze(results: Path, folder: Path, version: str) -> list[Path]:
    """Write the boards of a store as a release, then the current site, which names it; the files written.

    Raises ValueError for a version that is no version, or that was released already.
    """
    if not re.fullmatch(r"\d+(\.\d+)*([a-z]+\d*)?", version):
        raise ValueError(f"{version!r} is no version: digits and points, such as 0.1.0")
    target = folder / FOLDER / version
    if target.exists():
        raise ValueError(f"{target}: released already, and what is released never changes; choose another version")
    boards = site.load_public_boards(results)
    if not boards:
        raise ValueError(f"{results}: no board to release; promote the runs of a track first")
    lines = [f"# Release {version}, frozen: these boards no longer change", ""]
    lines += [f"- [{board.title}]({board.slug}.md). {citation.snippet(board, version)}" for board in boards]
    files = {"README.md": "\n".join([*lines, ""]).encode()}
    for board in boards:
        files[f"{board.slug}.md"] = render.markdown(board, describe_board(board, boards), version).encode()
        tables = board_tables(board, version)
        files |= {name: content for name, content in tables.items() if name.endswith(KINDS)}
    target.mkdir(parents=True)
    for name, content in files.items():
        (target / name).write_bytes(content)
    written = site.build(results, folder, boards=boards, releases=list_versions(folder))
    return [*written, *(target / name for name in files)]
