"""What the boards support for a dataset like a given one: which pretext, at which budget, on what evidence, or none.

Tasks are like a dataset when their images are of its modality and the locality of their signal was measured to be
within REACH of its own. Of those that can bear a verdict, a pretext is supported when it is shown above its untrained
twin on most of them; of several such, one is preferred only where it is shown ahead. Real and simulated tasks are asked
apart. Every sentence is followed by the rows that it rests on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from leaderboards.boards.board import Board, Column, Entry
from leaderboards.stats.intervals import RANKED_GROUPS
from leaderboards.words import flops, interval, modality, number

REACH = 0.15  # of measured locality


@dataclass(frozen=True, kw_only=True)
class Profile:
    """What is known of a dataset before any encoder is pretrained for it."""

    modality: str
    title: str
    locality: float | None  # None: the whole image says too little for it
    groups: int  # labelled
    independent: bool  # they are patients or slides


@dataclass(frozen=True, kw_only=True)
class Near:
    """A task like the dataset, as a board answered it."""

    board: Board
    place: int  # of its column
    locality: float

    @property
    def column(self) -> Column:
        return self.board.columns[self.place]

    def entries(self) -> dict[str, Entry]:
        """Name -> what was found, of the encoders that were pretrained here."""
        own = {cost.name for cost in self.board.costs if cost.budget_flops >= 0}
        rows = (row for row in self.board.sections[0].rows if row.name in own)
        return {row.name: row.entries[self.place] for row in rows if row.entries[self.place].gain is not None}

    def gain(self, name: str) -> float:
        """Of a pretext, chance-corrected."""
        return self.entries()[name].gain.value / (1 - self.column.chance)


@dataclass(frozen=True, kw_only=True)
class Advice:
    near: tuple[Near, ...]
    supported: tuple[str, ...]  # pretexts, the one of the largest mean gain first; (): none
    preferred: bool  # the first is shown ahead of every other supported one


def find_near(boards: Sequence[Board], about: Profile, *, synthetic: bool, without: str = "") -> tuple[Near, ...]:
    """Tasks like the dataset on the boards of the largest budget. without: title of a task that is left out."""
    if about.locality is None:
        return ()
    some = [one for one in boards if (one.synthetic, one.modality) == (synthetic, about.modality)]
    top = max((max(one.budgets, default=0.0) for one in some), default=0.0)
    return tuple(
        Near(board=board, place=place, locality=one.value)
        for board in some
        if max(board.budgets, default=0.0) == top
        for place, one in enumerate(board.localities)
        if one is not None and one.value is not None and abs(one.value - about.locality) <= REACH
        if _bears(board.columns[place]) and board.columns[place].title != without
    )


def _bears(column: Column) -> bool:
    return column.independent and column.taught and column.groups >= RANKED_GROUPS and column.chance is not None


def advise(near: Sequence[Near]) -> Advice:
    """What tasks like the dataset support."""
    every = [one.entries() for one in near]
    names = [name for name in dict.fromkeys(name for found in every for name in found) if all(name in f for f in every)]
    above = {name: sum(found[name].shown == 1 for found in every) for name in names}
    supported = [name for name in names if 2 * above[name] > len(near)]
    supported.sort(key=lambda name: -sum(one.gain(name) for one in near))
    ahead = bool(supported) and all(_is_ahead(near, supported[0], other) for other in supported[1:])
    return Advice(near=tuple(near), supported=tuple(supported), preferred=ahead)


def _is_ahead(near: Sequence[Near], first: str, second: str) -> bool:
    """Whether the first is shown ahead on a task, and the second on none."""
    shown = [_shown(one, first, second) for one in near]
    return 1 in shown and -1 not in shown


def _shown(one: Near, first: str, second: str) -> int | None:
    for contrast in one.board.comparison.pretexts:
        found = contrast.entries[one.place]
        if found is not None and found.shown is not None and {contrast.first, contrast.second} == {first, second}:
            return found.shown if contrast.first == first else -found.shown
    return None


def format_advice(boards: Sequence[Board], about: Profile) -> str:
    """In sentences, with the rows that each rests on."""
    lines = []
    if about.locality is None:
        lines.append(
            f"{about.title}: even a reader of the whole image learns too little from these labels to say how local "
            "their signal is, so no task can be called like it. The boards support no pretext."
        )
        return "\n".join(lines)
    for synthetic in (False, True):
        found = advise(find_near(boards, about, synthetic=synthetic))
        kind = "simulated" if synthetic else "real"
        lines += [f"From {kind} images:", *_sentences(found, about, kind), ""]
    if not about.independent:
        lines.append("No patient or slide is known in your data, so a test on it cannot bear a verdict.")
    elif about.groups < RANKED_GROUPS:
        lines.append(
            f"Your data have {about.groups} groups; under {RANKED_GROUPS} encoders cannot be told apart on them."
        )
    return "\n".join(lines).rstrip()


def _sentences(found: Advice, about: Profile, kind: str) -> Iterator[str]:
    if not found.near:
        yield (
            f"  No {kind} {modality(about.modality).lower()} task with a measured locality within {REACH} of "
            f"{about.locality:.2f} can bear a verdict: nothing is supported."
        )
        return
    budgets = " or ".join(sorted({flops(budget) for one in found.near for budget in one.board.budgets}))
    many = len(found.near) > 1
    counted = f"most of the {len(found.near)} tasks" if many else "the one task"
    tasks = f"{counted} like yours at {budgets} FLOPs"
    if not found.supported:
        yield f"  No pretext is shown above the untrained encoder on {tasks}: nothing is supported."
    elif found.preferred and len(found.supported) > 1:
        others = ", ".join(found.supported[1:])
        yield f"  {found.supported[0]}: above the untrained encoder on {tasks}, shown ahead of {others}."
    elif len(found.supported) > 1:
        named = " or ".join(found.supported)
        yield f"  {named}: above the untrained encoder on {tasks}; which is better is not shown."
    else:
        yield f"  {found.supported[0]}: the only one that is above the untrained encoder on {tasks}."
    for one in found.near:
        gains = "; ".join(
            f"{name} {interval(entry.gain, signed=True)} ({entry.verdict})" for name, entry in one.entries().items()
        )
        yield f"    {one.board.slug}.html, {one.column.title}, locality {one.locality:.2f}: {gains}"


def leave_out(boards: Sequence[Board]) -> list[dict[str, object]]:
    """The advice for every simulated task that can bear a verdict, given without it, beside what it showed: a row each.

    `regret`: how much less the first supported pretext gains there than the best, chance-corrected (none supported:
    than the best, or than nothing); `usual`: the same of the pretext that gains most over the other tasks."""
    rows = []
    for board in boards:
        for place, one in enumerate(board.localities if board.synthetic else ()):
            if one is None or one.value is None or not _bears(board.columns[place]):
                continue
            held = Near(board=board, place=place, locality=one.value)
            about = Profile(
                modality=board.modality,
                title=held.column.title,
                locality=one.value,
                groups=held.column.groups,
                independent=True,
            )
            given = advise(find_near(boards, about, synthetic=True, without=held.column.title))
            gains = {name: held.gain(name) for name in held.entries()}
            if not gains:
                continue
            best = max(0.0, *gains.values())
            rows.append(
                {
                    "board": board.slug,
                    "task": held.column.title,
                    "locality": one.value,
                    "tasks like it": len(given.near),
                    "advice": " or ".join(given.supported) or "none",
                    "above its twin there": ", ".join(n for n, e in held.entries().items() if e.shown == 1) or "none",
                    "regret": best - (gains[given.supported[0]] if given.supported else 0.0),
                    "usual": best - gains[_usual(board, place, gains)],
                }
            )
    return rows


def _usual(board: Board, place: int, gains: Mapping[str, float]) -> str:
    others = [
        Near(board=board, place=other, locality=0.0)
        for other, column in enumerate(board.columns)
        if other != place and _bears(column)
    ]
    return max(gains, key=lambda name: sum(one.gain(name) for one in others if name in one.entries()))


def format_left_out(rows: Sequence[Mapping[str, object]]) -> str:
    """As a table, with the mean regrets."""
    if not rows:
        return "no simulated task of a measured locality can bear a verdict yet"
    heads = list(rows[0])
    lines = [" | ".join(heads)]
    lines += [" | ".join(number(one) if isinstance(one, float) else str(one) for one in row.values()) for row in rows]
    means = {name: sum(float(row[name]) for row in rows) / len(rows) for name in ("regret", "usual")}
    regret, usual = (number(means[name]) for name in ("regret", "usual"))
    lines.append(f"mean regret {regret}; of the pretext that gains most over the other tasks {usual}")
    return "\n".join(lines)
