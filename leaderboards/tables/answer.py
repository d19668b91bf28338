"""The answer of a store in plain words and two tables: what real images show, and what became of the study's claims."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence

from benchmark.metrics import title as metric
from leaderboards.boards.board import Board, Contrast, Entry, Row
from leaderboards.stats.families import Difference
from leaderboards.stats.intervals import RANKED_GROUPS
from leaderboards.stats.verdicts import CLAIM_NOT_SHOWN, CONTRADICTED, HOLDS, UNTESTABLE
from leaderboards.tables.claims import CLAIM_TONES, list_estimates
from leaderboards.tables.table import TONES, Line, Table, Text
from leaderboards.words import FLOOR, flops, interval, modality, number, percent
from tasks.cards import plural

ORDER = (HOLDS, CONTRADICTED, CLAIM_NOT_SHOWN)  # of verdicts; others follow, untestable last
NOT_MEASURED = Text(lines=("–", "not measured"), tone="missing")
Place = tuple[Board, int]  # a task: a board, and which of its columns


def find_largest(boards: Sequence[Board]) -> list[Board]:
    """Of each modality and corpus, the board of the largest budget, by modality."""
    top: dict[tuple[str, str], Board] = {}
    for board in sorted(boards, key=lambda one: max(one.budgets, default=0.0)):
        top[board.modality, board.corpus] = board
    return sorted(top.values(), key=lambda board: (board.modality, board.corpus))


def tabulate_patients(boards: Sequence[Board]) -> Table | None:
    """A row for each encoder, a column for each real task that can bear a verdict: score, gain, verdict, share.

    boards: of real images. None where none of them has such a task."""
    asked = [(board, place) for board in find_largest(boards) for place in _bearing(board)]
    if not asked:
        return None
    outside = {cost.name for board, _ in asked for cost in board.costs if not cost.budget_flops >= 0}
    names = dict.fromkeys(row.name for board, _ in asked for row in board.sections[0].rows if not row.twin)
    note = ("from outside: other budget, other data",)
    lines = [
        Line(
            head=Text(lines=(name, *(note if name in outside else ()))),
            cells=tuple(_scored(board, name, place) for board, place in asked),
        )
        for name in sorted(names, key=lambda name: (name in outside, name))
    ]
    beneath = (
        (FLOOR, "before pretraining", "twin", _floor),
        ("With labels (ceiling)", "same encoder, same FLOPs", "ceiling", _ceiling),
        ("Best baseline", "no encoder", "baseline", _baseline),
    )
    for name, what, kind, cell in beneath:
        lines.append(
            Line(head=Text(lines=(name, what)), cells=tuple(cell(*one) for one in asked), twin=True, kind=kind)
        )
    return Table(
        title="On real images",
        caption="A frozen encoder is read by a linear probe: the score, its gain over the encoder before pretraining "
        "with a 95 % interval, and how far that is on the way to the same encoder trained with labels. These are the "
        "tasks whose patients are known, enough to tell encoders apart, and that labels teach; the others are on the "
        "boards.",
        heads=(Text(lines=("Encoder",)), *(_head(*one) for one in asked)),
        rows=tuple(lines),
    )


def say_patients(boards: Sequence[Board]) -> tuple[str, ...]:
    """A sentence for each modality of real images: which pretexts are above their twin where that can be judged."""
    said = []
    for board in find_largest(boards):
        where = f"{modality(board.modality)}, {' or '.join(map(flops, board.budgets)) or 'no'} training FLOPs"
        found = [_found(board, place) for place in _bearing(board)]
        said.append(f"{where}: {' '.join(found) or 'no task can bear a verdict.'}")
    return tuple(said)


def tabulate_verdicts(boards: Sequence[Board]) -> Table | None:
    """What the study claims, a row each, and what each modality shows of it at the largest budget.

    boards: of simulated images. None where none of them judged a claim."""
    top = [board for board in find_largest(boards) if any(one.claimed for one in board.claims)]
    if not top:
        return None
    asked = dict.fromkeys(one.asks for board in top for one in board.claims if one.claimed)
    return Table(
        title="The study's claims",
        caption="Judged on simulated images, where the signal is what we made it: chance-corrected differences with "
        "95 % intervals (slopes: per unit of measured locality), recommended recipes, not adjusted for the number of "
        "claims.",
        heads=(
            Text(lines=("Claim",)),
            *(Text(lines=(modality(one.modality), f"{' or '.join(map(flops, one.budgets))} FLOPs")) for one in top),
        ),
        rows=tuple(
            Line(head=Text(lines=(_plain(asks),)), cells=tuple(_judgement(board, asks) for board in top))
            for asks in asked
        ),
    )


def say_verdicts(boards: Sequence[Board]) -> str:
    """How many claims were found how, over the modalities, and which hold or are contradicted; "" without any."""
    found: dict[str, dict[str, int]] = {}  # verdict -> modality, and what the claim says at its shortest -> how many
    for board in find_largest(boards):
        for one in board.claims:
            if one.claimed:
                said = f"{modality(board.modality).lower()}: {_plain(one.asks).partition(', in gain')[0]}"
                places = found.setdefault(one.verdict, {})
                places[said] = places.get(said, 0) + 1
    told = []
    for verdict in sorted(found, key=_order):
        count = sum(found[verdict].values())
        named = f" ({'; '.join(found[verdict])})" if verdict in (HOLDS, CONTRADICTED) else ""
        told.append(f"{count} {'hold' if verdict == HOLDS and count > 1 else verdict}{named}")
    return f"Of the study's claims, judged on simulated images in each modality: {', '.join(told)}." if told else ""


def _bearing(board: Board) -> list[int]:
    """Places of the tasks on which encoders can be told apart."""
    return [
        place
        for place, column in enumerate(board.columns)
        if column.independent and column.groups >= RANKED_GROUPS and column.taught
    ]


def _head(board: Board, place: int) -> Text:
    column = board.columns[place]
    return Text(
        lines=(
            f"{modality(board.modality)}: {column.title}",
            f"{column.groups:,} {plural(column.group_kind, column.groups)}, {metric(column.metric)}",
        ),
        links=((board.title, f"{board.slug}.html"),),
    )


def _scored(board: Board, name: str, place: int) -> Text:
    row = _row(board, name)
    entry = row.entries[place] if row else Entry(missing="not run")
    if entry.score is None:
        return Text(lines=("–", entry.missing), tone="missing")
    gained = () if entry.gain is None else (f"{interval(entry.gain, signed=True)} · {entry.verdict}",)
    share = () if entry.share is None else (f"{percent(entry.share.value)} of the way to the ceiling",)
    return Text(lines=(number(entry.score.value), *gained, *share), tone=TONES.get(entry.shown, ""))


def _floor(board: Board, place: int) -> Text:
    """Of the twins of the encoders that were pretrained here."""
    outside = [cost.name for cost in board.costs if not cost.budget_flops >= 0]
    twins = [row for row in board.sections[0].rows if row.twin and not any(name in row.name for name in outside)]
    lines = [
        f"{number(row.entries[place].score.value)}" + (f" {row.name.removeprefix('Untrained ')}" * (len(twins) > 1))
        for row in twins
        if row.entries[place].score is not None
    ]
    return Text(lines=tuple(lines)) if lines else NOT_MEASURED


def _ceiling(board: Board, place: int) -> Text:
    one = board.ceilings[place] if board.ceilings else None
    return Text(lines=(number(one.score.value), f"{one.labels:,} labelled images")) if one else NOT_MEASURED


def _baseline(board: Board, place: int) -> Text:
    found = _best_baseline(board, place)
    return NOT_MEASURED if found is None else Text(lines=(number(found[0]), found[1]))


def _best_baseline(board: Board, place: int) -> tuple[float, str] | None:
    """Its score and its name, within a sentence."""
    known = [(one.scores[place].value, one.name) for one in board.baselines if one.scores[place] is not None]
    return max(((value, name[0].lower() + name[1:]) for value, name in known), default=None)


def _found(board: Board, place: int) -> str:
    """Who is above the twin on a task, and who is not shown to be."""
    trained = [cost.name for cost in board.costs if cost.budget_flops >= 0]
    entries = {row.name: row.entries[place] for row in board.sections[0].rows if row.name in trained}
    above = [f"{name} ({interval(one.gain, signed=True)})" for name, one in entries.items() if one.shown == 1]
    below = [f"{name} ({interval(one.gain, signed=True)})" for name, one in entries.items() if one.shown == -1]
    same = [name for name, one in entries.items() if one.shown == 0]
    said = [f"{_listed(above)} {_is(above)} above the untrained twin"] if above else []
    said += [f"{_listed(below)} {_is(below)} below it"] if below else []
    said += [f"{_listed(same)} {_is(same)} not shown to differ from it"] if same else []
    said.append(say_ahead((one.first, one.second, one.entries[place]) for one in _among(board, trained)))
    best = max((entry.score.value for entry in entries.values() if entry.score is not None), default=None)
    plain = _best_baseline(board, place)
    if best is not None and plain is not None and best <= plain[0]:
        said.append(f"none scores above a {plain[1]} ({number(plain[0])})")
    return f"on {board.columns[place].title}, {'; '.join(filter(None, said)) or 'nothing was judged'}."


def say_ahead(found: Iterable[tuple[str, str, Difference | None]]) -> str:
    """Who is shown ahead of whom, of (first, second, their difference); "" where nothing was judged."""
    judged = [(first, second, one.shown) for first, second, one in found if one is not None and one.shown is not None]
    ahead: dict[str, list[str]] = {}
    for first, second, shown in judged:
        if shown:
            ahead.setdefault(first if shown == 1 else second, []).append(second if shown == 1 else first)
    if not ahead:
        return "none of them is shown ahead of another" if judged else ""
    told = [f"{name} is shown ahead of {_listed(others)}" for name, others in ahead.items()]
    return "; ".join(told)


def _among(board: Board, names: Container[str]) -> list[Contrast]:
    return [one for one in board.comparison.pretexts if one.first in names and one.second in names]


def _plain(asks: str) -> str:
    """A claim without what the page says once: that its recipes are the recommended ones."""
    return asks.replace(" (recommended)", "")


def _is(names: Sequence[str]) -> str:
    return "is" if len(names) == 1 else "are"


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def _row(board: Board, name: str) -> Row | None:
    return next((row for row in board.sections[0].rows if row.name == name), None)


def _judgement(board: Board, asks: str) -> Text:
    found = [one for one in board.claims if one.asks == asks]
    if not found:
        return Text(lines=("–", "not run"), tone="missing")
    return Text(
        lines=tuple(line for one in found for line in (one.verdict, *(list_estimates(one) or (one.why,)))),
        tone=CLAIM_TONES.get(found[0].verdict, "missing" if found[0].verdict == UNTESTABLE else ""),
        links=((board.track, f"{board.slug}.html"),),
    )


def _order(verdict: str) -> tuple[bool, int]:
    return verdict == UNTESTABLE, ORDER.index(verdict) if verdict in ORDER else len(ORDER)
