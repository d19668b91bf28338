"""The page that sets any two runs side by side: their numbers as a script file, and what reads without a script."""

from __future__ import annotations

import json
from collections.abc import Sequence

from benchmark.metrics import title as metric
from leaderboards.boards.board import SYNTHETIC, Board
from leaderboards.pages import render
from leaderboards.pages.map_blocks import Maps
from leaderboards.pages.page import Block
from leaderboards.pages.run_details import RunDetail, compare_pairs
from leaderboards.stats.families import Difference
from leaderboards.stats.intervals import Estimate
from leaderboards.words import duration, flops

PAIRS = 2500  # of one board: more runs than that have no stored paired differences


def make_files(
    boards: Sequence[Board], runs: Sequence[tuple[Board, RunDetail]], maps: Maps, releases: Sequence[str] = ()
) -> dict[str, str]:
    """The page, and its numbers, by name within the site."""
    places = {board.slug: place for place, board in enumerate(boards)}
    numbers = {
        "boards": [
            {
                "title": board.title,
                "label": SYNTHETIC if board.synthetic else "",
                "tasks": [column.title for column in board.columns],
                "metrics": [metric(column.metric) for column in board.columns],
            }
            for board in boards
        ],
        "runs": [_run(one, places[board.slug], maps.blocks.get(one.key, ())) for board, one in runs],
        "pairs": {
            f"{a.run} {b.run}": [_judged(found.get(column)) for column in board.columns]
            for board in boards
            for a, b, found in compare_pairs(board, PAIRS)
        },
    }
    return {
        "compare.html": render.compare([one for _, one in runs], boards, releases),
        "compare-data.js": f"window.pretextCompare = {json.dumps(numbers, separators=(',', ':'))};\n",
    }


def _run(one: RunDetail, board: int, maps: Sequence[Block]) -> dict:
    row = one.row
    answers = {a.title: a for a in one.answers if a.score is not None}
    return {
        "id": one.run.run,
        "name": f"{one.run.name}, seed {one.run.seed}",
        "page": one.link,
        "board": board,
        "scores": {title: _short(a.score) for title, a in answers.items()},
        "gains": {title: _judged(a.gain) for title, a in answers.items()},
        "pictures": [[one.source, one.alt, one.caption] for block in maps for one in block.pictures],
        "facts": {
            "FLOPs spent": flops(row["realised_flops"]) if one.trained else "not trained",
            "Time": duration(row["seconds"]) if one.trained else "not trained",
            "Images seen": f"{row['images_seen']:,}",
            "Device": row["device"],
            "Status": row["status"] if one.trained else "untrained",
            "Corpus": f"{row['corpus']}, content {row['corpus_digest']}",
        },
    }


def _short(one: Estimate | None, verdict: str = "") -> list | None:
    """[value, low, high, verdict], rounded to what is printed."""
    if one is None:
        return None
    return [*(None if x is None else round(x, 4) for x in (one.value, one.low, one.high)), verdict]


def _judged(one: Difference | None) -> list | None:
    return None if one is None else _short(one.estimate, one.verdict)
