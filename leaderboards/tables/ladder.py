"""The ladder: what every claim finds on each rung, side by side, as far as the rungs are stored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from leaderboards.boards.board import Board, Judged, current
from leaderboards.tables.claims import CLAIM_TONES, list_estimates
from leaderboards.tables.table import Line, Table, Text
from leaderboards.words import flops

ABOUT = {"phantoms": "simulated", "real data": "real"}


def tabulate_ladder(boards: Sequence[Board]) -> tuple[Table, ...]:
    """A table for each corpus, simulated and real tasks apart: a row for each modality and claim, a column a rung."""
    made = []
    for corpus in dict.fromkeys(board.corpus for board in boards):
        rungs = _rungs([board for board in boards if board.corpus == corpus])
        made += [table for about in ABOUT if (table := _table(corpus, about, rungs)) is not None]
    return tuple(made)


def tabulate_ladder_of(board: Board, boards: Sequence[Board]) -> tuple[Table, ...]:
    """The ladder that a board is a rung of; none where it is no current board."""
    rungs = [one for one in current(boards) if (one.modality, one.corpus) == (board.modality, board.corpus)]
    return tabulate_ladder(rungs) if board.slug in {one.slug for one in rungs} else ()


def _rungs(boards: Sequence[Board]) -> list[list[Board]]:
    """Boards of one track together, by budget."""
    tracks: dict[str, list[Board]] = {}
    for board in boards:
        tracks.setdefault(board.track, []).append(board)
    return sorted(
        tracks.values(), key=lambda rung: (max((b for one in rung for b in one.budgets), default=0.0), rung[0].track)
    )


def _table(corpus: str, about: str, rungs: Sequence[Sequence[Board]]) -> Table | None:
    rungs = [[board for board in rung if any(one.about == about for one in board.claims)] for rung in rungs]
    rungs = [rung for rung in rungs if rung]
    judged = [(board, one) for rung in rungs for board in rung for one in board.claims if one.about == about]
    told = list(dict.fromkeys((one.asks, _place(board)) for board, one in judged))
    order = list(dict.fromkeys(asks for asks, _ in told))
    if not told:
        return None
    modalities = Counter(modality for modality, _ in {place for _, place in told})
    return Table(
        title=f"The ladder: {corpus} corpus, {ABOUT[about]} tasks",
        caption=f"Each claim on every rung that is stored, {ABOUT[about]} tasks of the {corpus} corpus: estimate with "
        "its 95 % interval (slopes: per unit of measured locality) and verdict. Not adjusted for the number of "
        "claims.",
        heads=(Text(lines=("Claim",)), Text(lines=("Modality",)), *(_head(rung) for rung in rungs)),
        rows=tuple(
            Line(
                head=Text(lines=(asks,)),
                cells=(
                    Text(lines=(place[0], *((f"content {place[1]}",) if modalities[place[0]] > 1 else ()))),
                    *(_cell(place, asks, about, rung) for rung in rungs),
                ),
            )
            for asks, place in sorted(told, key=lambda one: (order.index(one[0]), one[1]))
        ),
    )


def _place(board: Board) -> tuple[str, str]:
    """What rungs of one ladder share: runs on other images are another ladder."""
    return board.modality, board.corpus_digest


def _head(rung: Sequence[Board]) -> Text:
    budgets = sorted({budget for board in rung for budget in board.budgets})
    return Text(lines=(rung[0].track, f"{' or '.join(map(flops, budgets)) or 'no'} FLOPs"))


def _cell(place: tuple[str, str], asks: str, about: str, rung: Sequence[Board]) -> Text:
    here = [board for board in rung if _place(board) == place]
    found = [(board, one) for board in here for one in board.claims if (one.asks, one.about) == (asks, about)]
    if not found:
        return Text(lines=("–", "not stored"), tone="missing")
    verdicts = {one.verdict for _, one in found}
    return Text(
        lines=tuple(line for _, one in found for line in _lines(one)),
        tone=CLAIM_TONES.get(verdicts.pop(), "") if len(verdicts) == 1 else "",
        links=tuple(dict.fromkeys((board.track, f"{board.slug}.html") for board, _ in found)),
    )


def _lines(one: Judged) -> tuple[str, ...]:
    return (*list_estimates(one), f"{one.verdict}: {one.why}" if one.why else one.verdict)
