"""An Atom feed of new results: an entry per pretraining, newest first."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree import ElementTree as xml

from leaderboards.boards.board import Board
from leaderboards.tables.addresses import run_link
from leaderboards.words import interval, slug

ENTRIES = 100
SPACE = "http://www.w3.org/2005/Atom"
NEVER = "1970-01-01T00:00:00+00:00"


def atom(boards: Sequence[Board]) -> str:
    """The feed of all boards. Addresses are relative to it, as a site does not know where it is served."""
    feed = xml.Element("feed", {"xmlns": SPACE})
    updated = max((board.updated for board in boards), default="") or NEVER
    _text(feed, "title", "Pretext Bench: new results")
    _text(feed, "id", "urn:pretext-bench:results")
    _text(feed, "updated", updated)
    xml.SubElement(feed, "link", {"href": "feed.xml", "rel": "self"})
    author = xml.SubElement(feed, "author")
    _text(author, "name", "The Pretext Bench maintainers")
    rows = [
        (created, board, row, run, seed)
        for board in boards
        for row in board.sections[0].rows
        if not row.twin
        for run, seed, created in zip(row.runs, row.seeds, _created(board, row.runs), strict=False)
    ]
    rows.sort(key=lambda entry: (entry[0], entry[3]), reverse=True)
    for created, board, row, run, seed in rows[:ENTRIES]:
        entry = xml.SubElement(feed, "entry")
        _text(entry, "title", f"{row.name}, seed {seed}: {board.title}")
        _text(entry, "id", f"urn:pretext-bench:run:{slug(run)}")
        _text(entry, "updated", created or NEVER)
        xml.SubElement(entry, "link", {"href": run_link(row.variant, run)})
        label = "Simulated images, not clinical evidence. " if board.synthetic else ""
        found = interval(row.mean.gain, signed=True) if row.mean.gain else row.mean.missing or "not measured"
        _text(entry, "summary", f"{label}Mean gain of {row.name} over its twin, {len(row.seeds)} seeds: {found}.")
    return '<?xml version="1.0" encoding="utf-8"?>\n' + xml.tostring(feed, encoding="unicode") + "\n"


def _created(board: Board, runs: Sequence[str]) -> list[str]:
    made = {one.run: one.created for one in board.runs}
    return [made.get(run, "") for run in runs]


def _text(parent: xml.Element, name: str, text: str) -> None:
    xml.SubElement(parent, name).text = "".join(c for c in text if c.isprintable())
