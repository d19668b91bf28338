"""Charts as SVG in a few strings: panels of two axes, and lines, marks, intervals and bands on them.

Coordinates are of a box, mostly WIDTH units wide, which a page shows at its own width. Colours are classes of
`static/chart.css`, which knows the light and the dark ones; a chart that is a file of its own carries that sheet.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

STYLE = Path(__file__).parents[1] / "static" / "chart.css"
WIDTH = 360  # so that text of 11 units stays readable on a telephone
LETTER = 5.8  # width of a letter of that text, roughly
LINE = 15  # height of a line of it
COLOURS = 6  # classes c0 to c5, told apart by the colour-blind, and by
DASHES = ("", "6 3", "2 2", "8 3 2 3")  # a dash
MARKS = (  # and a mark, from its middle
    "m-3 0a3 3 0 1 0 6 0a3 3 0 1 0-6 0",
    "m-2.7-2.7h5.4v5.4h-5.4z",
    "m0-3.8l3.8 3.8l-3.8 3.8l-3.8-3.8z",
    "m0-3.6l3.4 6.2h-6.8z",
    "m0 3.6l3.4-6.2h-6.8z",
    "m-1-3.4h2v2.4h2.4v2h-2.4v2.4h-2v-2.4h-2.4v-2h2.4z",
)
Point = tuple[float, float]


class Panel:
    """Two axes, the lines between which everything else is drawn. Strings of SVG gather in `parts`."""

    def __init__(
        self,
        xs: Iterable[float],
        ys: Iterable[float],
        *,
        top: float = 0,
        height: float = 130,
        left: float = 52,
        width: float = WIDTH,
        logarithmic: bool = False,
        title: str = "",
        legend: Sequence[tuple[str, int]] = (),
        marked: bool = True,
        x_label: str = "",
        y_label: str = "",
    ):
        """xs, ys: what the axes reach over. legend: (label, its place among the colours), above the panel, with a
        mark where its points have one."""
        self.logarithmic = logarithmic
        self.x_ends, self.y_ends = _ends(xs, logarithmic), _ends(ys)
        self.left, self.right, self.width, self.parts = left, width - 12, width, []
        if title:
            top += LINE + 4
            self.text(4, top - 4, cut(title, 54), kind="title")
        for at, (label, place) in enumerate(legend):
            x, y = (4, WIDTH / 2)[at % 2], top + LINE * (at // 2 + 1) - 8
            self.parts.append(f'<path class="c{place % COLOURS}"{_dash(place)} d="M{x} {y}h24"/>')
            if marked:
                self._mark([(x + 12, y)], place)
            self.text(x + 29, y + 4, cut(label, 25))
        self.top = top + LINE * -(-len(legend) // 2) + 8
        self.bottom = self.top + height
        self.end = self.bottom + 20 + (LINE if x_label else 0)  # of what stands below the panel
        self._axes(x_label, y_label)

    def x(self, value: float) -> float:
        low, high = self.x_ends
        if self.logarithmic:
            low, high, value = math.log(low), math.log(high), math.log(value)
        return self.left + (self.right - self.left) * (value - low) / (high - low)

    def y(self, value: float) -> float:
        low, high = self.y_ends
        return self.bottom - (self.bottom - self.top) * (value - low) / (high - low)

    def line(self, points: Iterable[Point], place: int, width: float = 1.4, kind: str = "") -> None:
        """kind: a class that is not the colour of its place."""
        path = "L".join(f"{self.x(x):.1f} {self.y(y):.1f}" for x, y in points)
        look = f'class="{kind}"' if kind else f'class="c{place % COLOURS}"{_dash(place)}'
        self.parts.append(f'<path {look} stroke-width="{width:g}" d="M{path}"/>')

    def mark(self, points: Iterable[Point], place: int) -> None:
        self._mark([(self.x(x), self.y(y)) for x, y in points], place)

    def upright(self, x: float, low: float | None, high: float | None, place: int) -> None:
        """An interval of y; nothing where there is none."""
        if low is not None:
            self.parts.append(
                f'<path class="c{place % COLOURS}" d="M{self.x(x):.1f} {self.y(low):.1f}V{self.y(high):.1f}"/>'
            )

    def lying(self, low: float | None, high: float | None, y: float, place: int, width: float = 1) -> None:
        """An interval of x; nothing where there is none."""
        if low is not None:
            self.parts.append(
                f'<path class="c{place % COLOURS}" stroke-width="{width:g}" '
                f'd="M{self.x(low):.1f} {self.y(y):.1f}H{self.x(high):.1f}"/>'
            )

    def band(self, upper: Sequence[Point], lower: Sequence[Point], place: int) -> None:
        path = "L".join(f"{self.x(x):.1f} {self.y(y):.1f}" for x, y in [*upper, *lower[::-1]])
        self.parts.append(f'<path class="band c{place % COLOURS}" d="M{path}z"/>')

    def zero(self, upright: bool = False) -> None:
        low, high = self.x_ends if upright else self.y_ends
        if low <= 0 <= high:
            path = (
                f"M{self.x(0):.1f} {self.top:.1f}V{self.bottom:.1f}"
                if upright
                else f"M{self.left} {self.y(0):.1f}H{self.right}"
            )
            self.parts.append(f'<path class="rule" d="{path}"/>')

    def names(self, names: Sequence[str]) -> None:
        """What stands left of the rows 0, 1, ... of a panel whose y counts them."""
        for place, name in enumerate(names):
            self.text(self.left - 6, self.y(place) + 4, name, anchor="end")

    def text(self, x: float, y: float, text: str, anchor: str = "start", kind: str = "", turned: int = 0) -> None:
        """At a place of the box, not of the axes, turned by so many degrees around it. kind: a class."""
        look = f' class="{kind}"' if kind else ""
        look += "" if anchor == "start" else f' text-anchor="{anchor}"'
        look += f' transform="rotate({turned} {x:.1f} {y:.1f})"' if turned else ""
        self.parts.append(f'<text x="{x:.1f}" y="{y:.1f}"{look}>{escape(text)}</text>')

    def _mark(self, points: Iterable[Point], place: int) -> None:
        shapes = "".join(f"M{x:.1f} {y:.1f}{MARKS[place % len(MARKS)]}" for x, y in points)
        self.parts.append(f'<path class="mark c{place % COLOURS}" d="{shapes}"/>')

    def _axes(self, x_label: str, y_label: str) -> None:
        if x_label:
            self.parts.append(f'<path class="axis" d="M{self.left} {self.bottom:.1f}H{self.right}"/>')
            for value in ticks(*self.x_ends, logarithmic=self.logarithmic):
                x = self.x(value)
                self.parts.append(f'<path class="axis" d="M{x:.1f} {self.bottom:.1f}v3"/>')
                self.text(x, self.bottom + 14, _number(value), anchor="middle")
            self.text((self.left + self.right) / 2, self.bottom + 30, cut(x_label, 50), anchor="middle")
        if y_label:
            self.parts.append(f'<path class="axis" d="M{self.left} {self.top:.1f}V{self.bottom:.1f}"/>')
            for value in ticks(*self.y_ends, most=4):
                y = self.y(value)
                self.parts.append(f'<path class="axis" d="M{self.left} {y:.1f}h-3"/>')
                self.text(self.left - 5, y + 4, _number(value), anchor="end")
            middle = (self.top + self.bottom) / 2
            self.text(11, middle, cut(y_label, 28), anchor="middle", turned=-90)


def document(panels: Sequence[Panel], title: str, alt: str) -> str:
    """A file of its own: with words for who does not see it, and the style sheet."""
    head = f"<title>{escape(title)}</title><desc>{escape(alt)}</desc><style>{STYLE.read_text(encoding='utf-8')}</style>"
    return _svg(panels, 'xmlns="http://www.w3.org/2000/svg"', head) + "\n"


def inline(panels: Sequence[Panel], alt: str) -> str:
    """A part of a page."""
    return _svg(panels, f'role="img" aria-label="{escape(alt)}"', "")


def _svg(panels: Sequence[Panel], attributes: str, head: str) -> str:
    body = "".join(part for panel in panels for part in panel.parts)
    size = f"{max(panel.width for panel in panels):.0f} {panels[-1].end:.0f}"
    return f'<svg class="chart" {attributes} viewBox="0 0 {size}">{head}{body}</svg>'


def cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


def ticks(low: float, high: float, most: int = 5, *, logarithmic: bool = False) -> list[float]:
    """Round values between two ends: at most about as many as asked, on a logarithmic axis the powers of ten."""
    if logarithmic:
        powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        every = [factor * 10.0**power for power in powers for factor in (1, 2, 5)]
        inside = [value for value in every if low <= value <= high]
        tens = (
            inside if len(inside) <= most else [v for v in inside if math.isclose(math.log10(v) % 1, 0, abs_tol=1e-9)]
        )
        return tens or inside
    low, high = min(low, high), max(low, high)
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = power * next(factor for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))
    return [place * step for place in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def _ends(values: Iterable[float], logarithmic: bool = False) -> tuple[float, float]:
    """The ends of an axis, a little room left at both."""
    finite = [value for value in values if math.isfinite(value)] or [0.0, 1.0]
    low, high = min(finite), max(finite)
    if logarithmic:
        room = max((high / low) ** 0.05, 1.1)
        return low / room, high * room
    room = 0.05 * (high - low) or abs(high) * 0.1 or 1.0
    return low - room, high + room


def _number(value: float) -> str:
    text = f"{value:.0e}".replace("e+", "e") if abs(value) >= 1e5 else f"{round(value, 10):g}"
    return text.replace("-", "−")


def _dash(place: int) -> str:
    dash = DASHES[place % len(DASHES)]
    return f' stroke-dasharray="{dash}"' if dash else ""
