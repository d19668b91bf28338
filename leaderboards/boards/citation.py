"""How to cite a board: which results it shows, by content, so that the words stay true when the page moves on."""

from __future__ import annotations

import hashlib
from importlib import metadata

from leaderboards.boards.board import Board


def version() -> str:
    try:
        return metadata.version("pretext-bench")
    except metadata.PackageNotFoundError:
        return "not installed"


def content(board: Board) -> str:
    """12 hex digits over the runs of a board and their weights."""
    runs = sorted((one.run, one.weights) for one in board.runs)
    return hashlib.sha256(repr(runs).encode()).hexdigest()[:12]


def snippet(board: Board, release: str) -> str:
    return (
        f"The Pretext Bench maintainers. {board.title}. Pretext Bench {release or version()}, "
        f"{len(board.runs)} runs, content {content(board)}, {board.updated[:10] or 'undated'}."
    )


def bibtex(board: Board, release: str) -> str:
    return (
        f"@misc{{pretext-bench-{board.slug},\n"
        "  author = {{The Pretext Bench maintainers}},\n"
        f"  title = {{{_braced(board.title)}}},\n"
        f"  year = {{{board.updated[:4]}}},\n"
        f"  note = {{Pretext Bench {release or version()}, {len(board.runs)} runs, content {content(board)}}}\n"
        "}\n"
    )


def _braced(text: str) -> str:
    return "".join(f"\\{c}" if c in "{}%&#$_" else c for c in text if c != "\\")
