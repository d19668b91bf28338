"""A figure: what it shows, drawn, in words, and as rows of numbers."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from leaderboards.export.board_tables import inert
from leaderboards.figures import chart
from leaderboards.figures.chart import Panel
from leaderboards.stats.intervals import Estimate

BOUNDS = ("value", "low", "high")


@dataclass(frozen=True, kw_only=True)
class Figure:
    name: str  # file name without its ending
    title: str
    alt: str  # what the figure shows, for who does not see it
    heads: tuple[str, ...]  # of its data
    rows: tuple[tuple[object, ...], ...]
    panels: Sequence[Panel]
    inline: bool = False  # a part of the page, not a file
    data: str = ""  # address of the table that holds its rows, where that is another page's

    @property
    def svg(self) -> str:
        return chart.inline(self.panels, self.alt) if self.inline else chart.document(self.panels, self.title, self.alt)


def as_csv(figures: Iterable[Figure]) -> str:
    """The numbers of the figures of a page as one table, six significant digits: a column for each kind of number."""
    figures = list(figures)
    file = io.StringIO()
    names = ["figure", *dict.fromkeys(head for figure in figures for head in figure.heads)]
    writer = csv.DictWriter(file, names, restval="", lineterminator="\n")
    writer.writerow({name: inert(name) for name in names})
    for figure in figures:
        for row in figure.rows:
            cells = dict(zip(figure.heads, map(_cell, row), strict=True))
            writer.writerow({"figure": inert(figure.name)} | cells)
    return file.getvalue()


def _cell(x: object) -> object:
    return f"{x:.6g}" if isinstance(x, float) else "" if x is None else inert(x)


def bounds(one: Estimate | None) -> tuple[float | None, float | None, float | None]:
    """The numbers of BOUNDS."""
    return (None, None, None) if one is None else (one.value, one.low, one.high)


def ends(every: Iterable[Estimate]) -> list[float]:
    """Every number that estimates and their intervals reach."""
    return [x for one in every for x in bounds(one) if x is not None]
