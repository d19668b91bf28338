"""Small inline SVG drawings: an interval on a common scale, and learning curves. Colours come from the style sheet."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from leaderboards.board import Curve
from leaderboards.ranking import Classical
from leaderboards.statistics import Estimate

WIDTH, HEIGHT = 320, 150  # of a curve's chart, user units
LEFT, RIGHT, TOP, BOTTOM = 62, 8, 10, 22  # margins
DASHES = ("", "6 3", "2 3", "8 3 2 3")  # so that rows differ without colour


def bar(gained: Estimate, extent: float) -> Markup:
    """An interval and its value on a scale of ±extent, zero in the middle; decorative, the numbers stand beside it."""
    where = (
        [round(80 + 76 * x / extent, 1) for x in (gained.low, gained.value, gained.high)] if extent > 0 else [80] * 3
    )
    return Markup(
        '<svg class="bar" viewBox="0 0 160 14" aria-hidden="true" focusable="false">'
        '<path class="zero" d="M4 7H156M80 1V13"/>'
        '<line class="range" x1="{}" y1="7" x2="{}" y2="7"/><circle class="dot" cx="{}" cy="7" r="3.5"/></svg>'
    ).format(where[0], where[2], where[1])


def chart(title: str, curves: Sequence[Curve], names: Sequence[str]) -> Markup:
    """Curves over training progress, a line per seed, a colour and dash per name."""
    values = [y for curve in curves for _, y in curve.points]
    low, high, ticks = min(values), max(values), extremes(curves)
    span = (high - low) or 1.0
    lines = [
        Markup('<polyline class="c{}" stroke-dasharray="{}" points="{}"><title>{}, seed {}</title></polyline>').format(
            names.index(curve.name) % 6,
            DASHES[names.index(curve.name) % len(DASHES)],
            " ".join(f"{_x(x):.1f},{_y((y - low) / span):.1f}" for x, y in curve.points),
            curve.name,
            curve.seed,
        )
        for curve in curves
    ]
    axis = Markup(
        '<path class="axis" d="M{0} {1}V{2}H{3}"/><text x="{4}" y="{5}" class="tick end">{6}</text>'
        '<text x="{4}" y="{2}" class="tick end">{7}</text><text x="{0}" y="{8}" class="tick">start</text>'
        '<text x="{3}" y="{8}" class="tick end">end of training</text>'
    ).format(LEFT, TOP, HEIGHT - BOTTOM, WIDTH - RIGHT, LEFT - 5, TOP + 8, ticks[1], ticks[0], HEIGHT - 6)
    return Markup('<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}">{}{}</svg>').format(
        WIDTH, HEIGHT, title, axis, Markup("").join(lines)
    )


def critical_difference(found: Classical) -> Markup:
    """Mean ranks on a line, 1 at the left; a bar joins methods not shown to differ, another has Nemenyi's length."""
    count = len(found.names)
    height = 44 + 16 * count + 8 * len(found.cliques)

    def x(rank: float) -> float:
        return round(20 + (WIDTH - 40) * (rank - 1) / max(count - 1, 1), 1)

    drawn = [
        Markup('<path class="axis" d="M{} 30H{}"/><path class="axis" d="M{} 12H{}"/>').format(
            x(1), x(count), x(1), min(x(1 + found.critical), WIDTH - 2)
        )
    ]
    drawn += [
        Markup('<text x="{}" y="26" class="tick">{}</text>').format(x(rank) - 3, rank) for rank in range(1, count + 1)
    ]
    for place, (first, last) in enumerate(found.cliques):
        y = 38 + 8 * place
        drawn.append(
            Markup('<line class="c0" x1="{}" y1="{}" x2="{}" y2="{}"/>').format(
                x(found.ranks[first]) - 3, y, x(found.ranks[last]) + 3, y
            )
        )
    for place, (name, rank) in enumerate(zip(found.names, found.ranks, strict=True)):
        y = 44 + 8 * len(found.cliques) + 16 * place
        end = " end" if x(rank) > WIDTH / 2 else ""
        drawn.append(
            Markup(
                '<path class="axis" d="M{0} 30V{1}"/><text x="{2}" y="{3}" class="tick{4}">{5} {6:.2f}</text>'
            ).format(x(rank), y, x(rank) + (-4 if end else 4), y + 4, end, name, rank)
        )
    return Markup('<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="critical difference">{}</svg>').format(
        WIDTH, height, Markup("").join(drawn)
    )


def extremes(curves: Sequence[Curve]) -> tuple[str, str]:
    """Lowest and highest value, as printed."""
    values = [y for curve in curves for _, y in curve.points]
    return f"{min(values):.3g}", f"{max(values):.3g}"


def stroke(place: int) -> Markup:
    """The line of the legend for the row at this place."""
    return Markup(
        '<svg class="c{}" viewBox="0 0 36 10" aria-hidden="true"><line x1="0" y1="5" x2="36" y2="5" '
        'stroke-dasharray="{}"/></svg>'
    ).format(place % 6, DASHES[place % len(DASHES)])


def _x(progress: float) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * progress


def _y(height: float) -> float:
    return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * height
