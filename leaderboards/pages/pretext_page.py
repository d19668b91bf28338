"""The page of a pretext over all boards: what it predicts, how it did, how it was trained."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterable, Sequence
from importlib import resources

from leaderboards.boards.board import SYNTHETIC, Board
from leaderboards.figures.curves import draw_training
from leaderboards.figures.figure import Figure
from leaderboards.pages.page import Block, Page
from leaderboards.pages.run_details import RunDetail
from leaderboards.pages.task_page import gain_and_score
from leaderboards.tables.addresses import pretext_page, seed_links
from leaderboards.tables.table import Line, Table, Text, half_width, heads_of
from leaderboards.words import slug


def describe_pretext(
    pretext: str, boards: Sequence[Board], runs: Sequence[RunDetail], views: tuple[Block, ...] = ()
) -> Page:
    """A pretext over all boards: what it predicts, how it was run, and how it did. views: what it sees."""
    own = [one for one in runs if one.row["pretext"] == pretext and one.trained]
    names = {one.run.name for one in own}
    variants = {one.run.variant for one in own}
    what, *more = _docstring(pretext)
    curves = [d for board in boards for d in _learning(board, pretext, names)]
    return Page(
        path=pretext_page(pretext),
        title=min(names, key=len, default=pretext),
        label=SYNTHETIC if all(one.row["synthetic"] for one in own) else "",
        lead=what,
        blocks=(
            Block(title="What it predicts", texts=tuple(more)),
            *views,
            Block(
                title="How it did",
                tables=tuple(t for board in boards if (t := _gains_of(board, variants)) is not None),
            ),
            Block(title="Training", figures=tuple(curves)),
            *_recipes(own),
        ),
    )


def _docstring(pretext: str) -> list[str]:
    """Paragraphs of the head of a pretext's file."""
    file = resources.files("benchmark").joinpath("pretexts", f"{pretext}.py")
    if not pretext.isidentifier() or not file.is_file():
        return ["An encoder that was pretrained elsewhere, probed here." if pretext == "external" else ""]
    text = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    return [" ".join(part.split()) for part in text.split("\n\n")]


def _learning(board: Board, pretext: str, names: set[str]) -> Iterable[Figure]:
    """The curves of the board that are of this pretext; their numbers are in the board's table of figures."""
    own = [curve for curve in board.curves if curve.name in names]
    for quantity in dict.fromkeys(curve.quantity for curve in own):
        found = [curve for curve in own if curve.quantity == quantity]
        yield draw_training(
            f"{board.slug}-{slug(pretext)}-{slug(quantity)}",
            f"{quantity}, {board.title}",
            found,
            sorted(names),
            data=f"{board.slug}-figures.csv",
        )


def _gains_of(board: Board, variants: set[str]) -> Table | None:
    rows = [row for row in board.sections[0].rows if row.variant in variants]
    if not rows:
        return None
    extent = half_width(e.gain for row in rows for e in (row.mean, *row.entries) if e.gain is not None)
    return Table(
        title=board.title,
        caption=f"{board.title}: gain over the twin with its 95 % interval, linear probe.",
        heads=heads_of("Encoder", "Mean gain", *(c.title for c in board.columns)),
        rows=tuple(
            Line(
                head=Text(lines=(row.name,), links=seed_links(row)),
                cells=tuple(gain_and_score(e, extent)[0] for e in (row.mean, *row.entries)),
            )
            for row in rows
        ),
    )


def _recipes(runs: Sequence[RunDetail]) -> tuple[Block, ...]:
    """The settings of every variant, once each."""
    seen: dict[str, RunDetail] = {}
    for one in runs:
        seen.setdefault(one.run.variant, one)
    return tuple(
        Block(
            title=f"Recipe of {one.run.name}, {one.row['track']} track, {one.row['modality']}, "
            f"engine {one.row['engine']}",
            code=json.dumps(one.recipe["settings"], indent=1, sort_keys=True),
            folded=True,
        )
        for one in seen.values()
    )
