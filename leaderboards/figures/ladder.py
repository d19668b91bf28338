"""The ladder: the mean gain of each pretext against training FLOPs, between the floor and the ceiling."""

from __future__ import annotations

from collections.abc import Sequence

from leaderboards.boards.board import Board, Column, Contrast
from leaderboards.boards.contrasts import mean_difference
from leaderboards.figures.chart import Panel
from leaderboards.figures.figure import BOUNDS, Figure, bounds, ends
from leaderboards.stats.intervals import Estimate, estimate
from leaderboards.tables.answer import say_ahead
from leaderboards.words import flops, interval, modality, number

CEILING = "with labels (ceiling)"
Point = tuple[str, Board, float, Estimate | float]  # a row, its rung, training FLOPs, mean gain; of a ceiling the value


def draw_ladder(boards: Sequence[Board]) -> tuple[Figure, ...]:
    """A panel for each modality, over the tasks that its rungs share: of one corpus, the first that is given."""
    found = {about: points for about, rungs in _ladders(boards).items() if (points := _points(rungs))}
    if not found:
        return ()
    names = list(dict.fromkeys(name for points in found.values() for name, *_ in points))
    names.sort(key=lambda name: name == CEILING)
    panels: list[Panel] = []
    for about, points in found.items():
        panels.append(_panel(about, points, names, panels[-1].end if panels else 0))
    return (
        Figure(
            name="ladder",
            title="Mean gain over the twin (the floor, 0) by training FLOPs, chance-corrected, 95 % intervals",
            alt=" ".join(_describe(about, points) for about, points in found.items()),
            heads=("modality", "encoder", "track", "flops", *BOUNDS),
            rows=tuple(
                (about, name, board.track, spent, *(bounds(y) if isinstance(y, Estimate) else (y, None, None)))
                for about, points in found.items()
                for name, board, spent, y in points
            ),
            panels=panels,
        ),
    )


def say_ladder(boards: Sequence[Board]) -> tuple[str, ...]:
    """A sentence for each modality: the mean gains at its largest budget, the greatest first, what labels give, and who
    is shown ahead; or that labels teach nothing there."""
    return tuple(filter(None, (_say(about, rungs) for about, rungs in _ladders(boards).items())))


def _say(about: str, rungs: Sequence[Board]) -> str:
    top, tasks = max(rungs, key=_budget), _tasks(rungs)
    where = f"Simulated {modality(about).lower()}, {' or '.join(map(flops, top.budgets)) or 'no'} training FLOPs"
    if not tasks:
        return f"{where}: labels teach this encoder none of the tasks at this budget, so no pretext can be judged."
    found = {name: y for name, board, _, y in _points(rungs) if board is top}
    gains = {name: y for name, y in found.items() if isinstance(y, Estimate)}
    if not gains:
        return ""
    told = [f"{name} {interval(y, signed=True)}" for name, y in sorted(gains.items(), key=lambda one: -one[1].value)]
    pairs = [one for one in top.comparison.pretexts if one.first in gains and one.second in gains]
    parts = [", ".join(told)]
    if CEILING in found:
        parts.append(f"the same encoder trained with labels {number(found[CEILING], signed=True)}")
    parts.append(say_ahead((one.first, one.second, one.mean) for one in pairs))
    counted = f"{len(tasks)} task{'s' if len(tasks) > 1 else ''}"
    return (
        f"{where}, mean gain over the untrained twin on the {counted} that labels teach, chance-corrected: "
        f"{'; '.join(filter(None, parts))}."
    )


def _ladders(boards: Sequence[Board]) -> dict[str, list[Board]]:
    """The rungs of each modality, which share a corpus."""
    ladders: dict[str, list[Board]] = {}
    for board in boards:
        rungs = ladders.setdefault(board.modality, [])
        if all(one.corpus_digest == board.corpus_digest for one in rungs):
            rungs.append(board)
    return dict(sorted(ladders.items()))


def _points(rungs: Sequence[Board]) -> list[Point]:
    shared, points = _tasks(rungs), []
    for board in sorted(rungs, key=_budget):
        columns = [column for column in board.columns if column.title in shared]
        spent = {cost.name: cost.budget_flops for cost in board.costs if cost.budget_flops > 0}
        for one in board.comparison.twins if columns else ():
            gained = mean_difference(board.numbers, one.variants, columns)
            if gained is not None and one.first in spent:
                own = one.mean is not None and set(board.pooled) == shared  # then the board's: it holds together there
                points.append((one.first, board, spent[one.first], one.mean.estimate if own else estimate(gained)))
        room = _room(board, board.comparison.twins, columns)
        if room is not None and board.budgets:
            points.append((CEILING, board, max(board.budgets), room))
    return points


def _tasks(rungs: Sequence[Board]) -> set[str]:
    """Titles of the tasks that labels teach at the largest budget, and that every rung was asked."""
    top = max(rungs, key=_budget)
    taught = {column.title for column in top.columns if column.taught and column.title in top.pooled}
    return taught.intersection(*({column.title for column in board.columns} for board in rungs))


def _budget(board: Board) -> float:
    return max(board.budgets, default=0.0)


def _room(board: Board, twins: Sequence[Contrast], columns: Sequence[Column]) -> float | None:
    """How far the ceilings are above the first twin, over these tasks; None where one is not known."""
    tops = dict(zip(board.columns, board.ceilings, strict=False))
    if not columns or not twins or any(tops.get(column) is None for column in columns):
        return None
    floor = [board.numbers.get((twins[0].variants[1], column)) for column in columns]
    if None in floor:
        return None
    gaps = [
        (tops[column].score.value - low.values.mean()) / (1 - column.chance)
        for column, low in zip(columns, floor, strict=True)
    ]
    return sum(gaps) / len(gaps)


def _panel(about: str, points: Sequence[Point], names: Sequence[str], top: float) -> Panel:
    spent = [x for _, _, x, _ in points]
    heights = [
        *ends(y for *_, y in points if isinstance(y, Estimate)),
        *(y for *_, y in points if isinstance(y, float)),
    ]
    panel = Panel(
        (min(spent) / 2, max(spent) * 2),
        [0.0, *heights],
        top=top,
        height=170,
        logarithmic=True,
        title=modality(about),
        legend=[(name, place) for place, name in enumerate(names)] if not top else (),
        x_label="training FLOPs, logarithmic",
        y_label="mean gain over the twin",
    )
    panel.zero()
    for place, name in enumerate(names):
        own = [(x * (1 + 0.06 * (place - (len(names) - 1) / 2)), y) for one, _, x, y in points if one == name]
        values = [(x, y.value if isinstance(y, Estimate) else y) for x, y in own]
        if values:
            panel.line(values, place)
            panel.mark(values, place)
        for x, y in own:
            if isinstance(y, Estimate):
                panel.upright(x, y.low, y.high, place)
    return panel


def _describe(about: str, points: Sequence[Point]) -> str:
    said = ", ".join(
        f"{name} {interval(y, signed=True) if isinstance(y, Estimate) else f'{y:+.3f}'} at {flops(x)} FLOPs"
        for name, _, x, y in points
    )
    return f"{modality(about)}: {said}."
