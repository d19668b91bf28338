"""The page that sets any two runs side by side: their numbers as a script file, and what reads without a script."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from benchmark.metrics import title as metric
from leaderboards.boards.board import SYNTHETIC
from leaderboards.pages import render
from leaderboards.pages.details import RunDetail, pairs
from leaderboards.pages.pages import Block, run_path
from leaderboards.stats.families import Difference
from leaderboards.stats.statistics import Estimate
from leaderboards.words import duration, flops

if TYPE_CHECKING:
    from leaderboards.publish.site import Site

PAIRS = 2500  # of one board: more runs than that have no stored paired differences


def files(site: Site, place: render.Place) -> dict[str, str]:
    """The page, and its numbers, by name within the site."""
    number = {board.slug: count for count, board in enumerate(site.boards)}
    every = [one for _, one in site.runs]
    numbers = {
        "boards": [
            {
                "title": board.title,
                "label": SYNTHETIC if board.synthetic else "",
                "tasks": [column.title for column in board.columns],
                "metrics": [metric(column.metric) for column in board.columns],
            }
            for board in site.boards
        ],
        "runs": [_run(one, number[board.slug], site.maps.blocks.get(one.key, ())) for board, one in site.runs],
        "pairs": {
            f"{a.run} {b.run}": [_judged(found.get(column)) for column in board.columns]
            for board in site.boards
            for a, b, found in pairs(board, PAIRS)
        },
    }
    return {
        "compare.html": render.compare(every, site.boards, place),
        "compare-data.js": f"window.pretextCompare = {json.dumps(numbers, separators=(',', ':'))};\n",
    }


def _run(one: RunDetail, board: int, maps: Sequence[Block]) -> dict:
    row = one.row
    answers = {a.title: a for a in one.answers if a.score is not None}
    return {
        "id": one.run.run,
        "name": f"{one.run.name}, seed {one.run.seed}",
        "page": run_path(one.run.run),
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
