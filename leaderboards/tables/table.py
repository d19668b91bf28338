"""What a table consists of, and what a verdict looks like in a cell."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from leaderboards.boards.board import Difference, Entry
from leaderboards.stats.intervals import Estimate
from leaderboards.stats.verdicts import AS_IF, DEPENDENT
from leaderboards.words import interval

TONES = {1: "above", -1: "below", 0: "same"}  # by what is shown


@dataclass(frozen=True, kw_only=True)
class Text:
    """A cell of a table: the first line carries the number, the others explain it."""

    lines: tuple[str, ...]
    tone: str = ""  # "above", "below", "same", "missing" or ""
    bar: Markup | str = ""  # an interval, drawn
    sort: float | None = None  # what its column is ordered by; None: last
    words: bool = False  # of a column: it is ordered by its text
    tip: str = ""  # of a column: what it says
    links: tuple[tuple[str, str], ...] = ()  # (text, address within the site)


@dataclass(frozen=True, kw_only=True)
class Line:
    head: Text
    cells: tuple[Text, ...]
    twin: bool = False
    anchor: str = ""  # its id within the page
    kind: str = "trained"  # "trained", "twin", "ceiling" or "baseline"
    facets: tuple[tuple[str, str], ...] = ()  # (name, value) that a page can filter rows by


@dataclass(frozen=True, kw_only=True)
class Table:
    title: str
    caption: str
    heads: tuple[Text, ...]
    rows: tuple[Line, ...]
    extent: float = 0.0  # half the width of its bars' common scale


def draw_bar(gained: Estimate, extent: float) -> Markup:
    """An interval and its value on a scale of ±extent, zero in the middle; decorative, the numbers stand beside it."""
    low, value, high = (
        [round(76 * x / extent) for x in (gained.low, gained.value, gained.high)] if extent > 0 else [0] * 3
    )
    return Markup(
        '<svg class="bar" viewBox="-80 -7 160 14" aria-hidden="true"><path class="zero" d="M-76 0H76M0-6V6"/>'
        '<path class="range" d="M{} 0H{}"/><circle cx="{}" r="3.5"/></svg>'
    ).format(low, high, value)


def verdict_in_words(one: Entry | Difference) -> str:
    """As it is printed: why there is none, where there is none, and how the interval is then meant."""
    if one.verdict == DEPENDENT:
        return f"{DEPENDENT}: {AS_IF}"
    return one.verdict


def share_in_words(entry: Entry) -> str:
    """Of the way from twin to ceiling."""
    return "" if entry.share is None else f"share {interval(entry.share)}"


def p_in_words(p: float | None) -> str:
    return "" if p is None else "p under .001" if p < 0.001 else f"p {p:.3f}"


def finite(x: float) -> float | None:
    return x if math.isfinite(x) else None


def plain_table(title: str, caption: str, heads: Iterable[str], rows: Iterable[Sequence[str]]) -> Table:
    """A table of one line a cell; the first cell of a row is its head."""
    lines = (Line(head=Text(lines=(row[0],)), cells=tuple(Text(lines=(cell,)) for cell in row[1:])) for row in rows)
    return Table(title=title, caption=caption, heads=heads_of(*heads), rows=tuple(lines))


def heads_of(*names: str) -> tuple[Text, ...]:
    """Heads of one line each."""
    return tuple(Text(lines=(name,)) for name in names)


def half_width(gains: Iterable[Estimate]) -> float:
    """Of the common scale of the bars of these gains."""
    return max((abs(end) for one in gains for end in (one.low, one.high) if end is not None), default=0.0)


def draw_gain(one: Estimate, judged: Entry | Difference, extent: float, *notes: str) -> Text:
    """A gain with its bar, verdict and p."""
    drawn = draw_bar(one, extent) if one.low is not None and extent else ""
    lines = (interval(one, signed=True), verdict_in_words(judged), p_in_words(judged.p), *notes)
    tone = TONES.get(judged.shown, "")
    return Text(lines=tuple(filter(None, lines)), tone=tone, bar=drawn, sort=finite(one.value))
