"""A figure as a file: SVG by matplotlib, the same bytes each time, light and dark, with its data as CSV beside it."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from html import escape

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from leaderboards.pages.flat import inert

WIDTH = 3.9  # inches: text of 10 points stays readable where a telephone shows it 360 pixels wide
INK, SOFT, LINE = "#1d2329", "#59636e", "#c9ced4"
COLOURS = ("#0b62b5", "#b4510c", "#14743f", "#7d3fa8", "#9a2748", "#5b6167")  # told apart by the colour-blind, and by
MARKERS, DASHES = "osD^vP", ("-", (0, (6, 3)), (0, (2, 2)), (0, (8, 3, 2, 3)))  # a marker and a dash
DARK = dict(
    zip(
        (INK, SOFT, LINE, *COLOURS),
        ("#e7eaee", "#a3adb8", "#4a525c", "#6db3f5", "#f5a45d", "#6fd49a", "#c99bec", "#f28ba8", "#aab2ba"),
        strict=True,
    )
)
SETTINGS = {
    "svg.hashsalt": "pretext-bench",
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.labelsize": 10,
    "axes.edgecolor": SOFT,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.color": INK,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.fontsize": 9,
    "legend.frameon": False,
    "lines.linewidth": 1.4,
    "lines.markersize": 4.5,
}


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """A figure before it is drawn, and everything that a page says about it."""

    name: str  # file name without its ending
    title: str
    alt: str  # what the figure shows, for who does not see it
    heads: tuple[str, ...]  # of its data
    rows: tuple[tuple[object, ...], ...]
    draw: Callable[[], Figure]


def svg(drawing: Drawing) -> str:
    """The figure as a document of its own, transparent, with the dark colours as a media query."""
    with matplotlib.rc_context(SETTINGS):
        figure, file = drawing.draw(), io.StringIO()
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", file.getvalue(), flags=re.DOTALL)
    dark = "".join(
        f'[style*="{what}: {light}"]{{{what}:{colour}!important}}'
        for light, colour in DARK.items()
        for what in ("fill", "stroke")
    )
    head = (
        f"<title>{escape(drawing.title)}</title><desc>{escape(drawing.alt)}</desc>"
        f"<style>text{{font-family:system-ui,sans-serif!important}}@media (prefers-color-scheme:dark){{{dark}}}</style>"
    )
    return re.sub(r"(<svg [^>]*>)", lambda found: found[1] + head, text, count=1)


def table(drawing: Drawing) -> str:
    """The data of the figure as CSV, six significant digits."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(map(inert, drawing.heads))
    for row in drawing.rows:
        writer.writerow([f"{x:.6g}" if isinstance(x, float) else "" if x is None else inert(x) for x in row])
    return file.getvalue()


def canvas(rows: int = 1, height: float = 2.4, **options: object) -> tuple[Figure, list[Axes]]:
    """A figure of panels one under another, each `height` inches."""
    figure = Figure(figsize=(WIDTH, height * rows), layout="constrained")
    return figure, list(figure.subplots(rows, 1, squeeze=False, **options)[:, 0])


def legend(axes: Axes, title: str = "") -> None:
    """Each label once, above the panel so that it covers nothing, and a title above that."""
    seen: set[str] = set()
    for line in axes.get_lines():
        label = str(line.get_label())
        if label in seen:
            line.set_label("_")
        seen.add(label)
    handles, _ = axes.get_legend_handles_labels()
    if handles:
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=2, borderaxespad=0.2, handlelength=2.2)
    if title:
        axes.set_title(title, pad=6 + 15 * -(-len(handles) // 2))


def zero(axes: Axes, vertical: bool = True) -> None:
    (axes.axvline if vertical else axes.axhline)(0, color=LINE, linewidth=1, zorder=0)


def plain(text: str, width: int = 34) -> str:
    """A name from outside as matplotlib should print it: cut, and with nothing taken for mathematics."""
    text = text if len(text) <= width else text[: width - 1] + "…"
    return text.replace("$", r"\$")
