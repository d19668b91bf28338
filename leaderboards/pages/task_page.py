"""The page of a task: its data card, floor and ceiling, every method, and what its leakage check found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmark.metrics import title as metric
from leaderboards.boards.board import SYNTHETIC, Board, Column, Entry
from leaderboards.pages.page import Block, Page, Picture
from leaderboards.tables.addresses import seed_links, task_page
from leaderboards.tables.gains import ceiling_in_words, split_in_words
from leaderboards.tables.table import Line, Table, Text, draw_gain, half_width, heads_of, plain_table, share_in_words
from leaderboards.words import interval, number, with_labels
from tasks.cards import plural


def describe_task(
    modality: str, task: str, boards: Sequence[Board], checks: Sequence[Mapping], maps: tuple[Block, ...] = ()
) -> Page:
    """A task over all boards of its modality that answer it. `checks`: its rows of the table `leakage`; maps: what
    encoders look at on it."""
    shown = [(board, place) for board in boards for place, c in enumerate(board.columns) if c.task == task]
    shown.sort(key=lambda pair: bool(pair[0].earlier))  # what the page says of the task is of the newest
    column = shown[0][0].columns[shown[0][1]]
    card, licence, links, version = _card(modality, task)
    checks = [row for row in checks if row["data"] == column.data]
    places = [board.localities[place] for board, place in shown if board.localities]
    measured = next((one for one in places if one is not None), None)
    return Page(
        path=task_page(modality, task),
        title=column.title,
        label=SYNTHETIC if column.synthetic else "",
        lead=card.pop("Question", ""),
        blocks=(
            Block(
                title="The task",
                texts=_versions([board.columns[place] for board, place in shown], version),
                facts=(
                    ("Classes", ", ".join(column.classes)),
                    ("Test set", _size(column)),
                    ("Split", split_in_words(column)),
                    ("Headline metric", metric(column.metric)),
                    ("Licence", licence),
                    ("Measured locality", _locality(measured)),
                    *((("Data", column.partial),) if column.partial else ()),
                    *((("Images", column.pixels),) if column.pixels else ()),
                ),
                links=links,
            ),
            *_samples(modality, task, column),
            Block(
                title="Floor and ceiling",
                texts=(
                    "What needs no pretraining: a number that one of these reaches proves nothing. And the same "
                    "encoder, trained at the same FLOPs with labels: what a perfect pretext could reach.",
                ),
                tables=tuple(_floor(board, place) for board, place in shown),
            ),
            Block(title="All methods", tables=tuple(_methods(board, place) for board, place in shown)),
            *maps,
            Block(title="Leakage passport", tables=(_passport(column, checks),)),
            Block(title="Data card", facts=tuple(card.items())),
        ),
    )


def _versions(columns: Sequence[Column], known: int | None) -> tuple[str, ...]:
    """That the numbers of this page are of other versions of the task than what this code knows, or of several."""
    versions = sorted({column.version for column in columns})
    if known is None or versions == [known]:
        return ()
    told = " and ".join(f"version {version}" for version in versions)
    return (
        f"The numbers on this page are of {told} of this task. Its question, data card, licence and sample images are "
        f"of version {known}, which this code reads, and may differ.",
    )


def _card(modality: str, task: str) -> tuple[dict[str, str], str, tuple[tuple[str, str], ...], int | None]:
    """(labelled parts of the data card, licence, the owner's page, version), as far as this code knows the task."""
    import tasks
    from tasks import cards
    from tasks.base import DataError

    try:
        known = tasks.get(modality, task)
    except (ValueError, DataError):
        return {"Card": "this version of the code has no task of that name"}, "not known", (), None
    parts = dict(cards.read(known).parts)
    shared = known.synthetic or known.access.redistributable
    licence = f"{known.access.licence}{'' if shared else '; no sample images are shown'}"
    links = (("where it comes from", known.access.home),)
    return {"Question": known.question, **parts}, licence, links, known.version


def _size(column: Column) -> str:
    return f"{column.groups:,} {plural(column.group_kind, column.groups)}, {column.samples:,} images"


def _locality(one) -> str:
    if one is None:
        return "not measured: python -m benchmark.lab.locality"
    if one.value is None:
        return "omitted: even the whole image tells the classes apart too rarely"
    ends = "" if one.low is None else f" [{number(one.low)}, {number(one.high)}]"
    return f"{number(one.value)}{ends}: 1 where a patch says as much as the whole image (stored, not recomputed)"


def _samples(modality: str, task: str, column: Column) -> tuple[Block, ...]:
    """Sheets of simulated images; images of patients are not shown."""
    if not column.synthetic or not task.startswith("phantom_"):
        return ()
    kind = task.split("_")[1]
    sheet = {"locality": "locality", "relation": "relation", "levels": "relation"}.get(kind, "latents")
    if find_phantom_sheet(modality, sheet) is None:
        return ()
    picture = Picture(
        source=f"phantoms/{modality}-{sheet}.png",
        alt=f"Sheet of simulated {modality} images; each row or column differs in one latent, named on the sheet.",
        caption=f"Simulated {modality} images: {sheet}. Not clinical evidence.",
    )
    return (Block(title="Sample images", pictures=(picture,)),)


def find_phantom_sheet(modality: str, sheet: str) -> Path | None:
    """A committed sheet of phantoms; None outside a checkout."""
    path = Path(__file__).parents[2] / "docs" / "phantoms" / f"{modality}-{sheet}.png"
    return path if path.exists() else None


def _floor(board: Board, place: int) -> Table:
    rows = [
        (row.name, row.entries[place].score) for row in board.sections[0].rows if row.twin and row.entries[place].score
    ]
    rows += [(one.name, one.scores[place]) for one in board.baselines if one.scores[place] is not None]
    top = board.ceilings[place] if board.ceilings else None
    rows += [] if top is None else [(with_labels(top.labels), top.score)]
    said = ceiling_in_words(board, place)
    name = metric(board.columns[place].metric)
    return plain_table(
        board.title,
        f"{_of(board, place)}: {name} with its 95 % interval; floors by the linear probe{f'; {said}' if said else ''}.",
        ("Floor and ceiling", name),
        ((row, interval(score)) for row, score in rows),
    )


def _of(board: Board, place: int) -> str:
    return f"{board.title}, version {board.columns[place].version} of the task"


def _methods(board: Board, place: int) -> Table:
    column = board.columns[place]
    rows = [row for row in board.sections[0].rows if not row.twin]
    extent = half_width(row.entries[place].gain for row in rows if row.entries[place].gain is not None)
    return Table(
        title=board.title,
        caption=f"{_of(board, place)}: gain over the twin, and {metric(column.metric)}, with 95 % intervals; linear "
        "probe.",
        heads=heads_of("Encoder", "Gain over twin", metric(column.metric)),
        rows=tuple(
            Line(
                head=Text(lines=(row.name,), links=seed_links(row)),
                cells=gain_and_score(row.entries[place], extent),
                twin=row.twin,
            )
            for row in rows
        ),
    )


def _passport(column: Column, checks: Sequence[Mapping]) -> Table:
    rows = sorted({(c["between"], c["kind"], -1 if c["count"] is None else int(c["count"])) for c in checks})
    return Table(
        title="Overlap checks",
        caption=f"Verdict: {column.leakage}. Images of the second side with a partner in the first; groups are "
        f"{plural(column.group_kind, 2)}."
        + ("" if column.independent else " No patient or slide is known: patients may be on both sides."),
        heads=heads_of("Between", "Kind", "Found"),
        rows=tuple(
            Line(
                head=Text(lines=(between,)),
                cells=(
                    Text(lines=(kind,)),
                    Text(lines=("not looked for" if count < 0 else f"{count:,}",), tone="missing" if count < 0 else ""),
                ),
            )
            for between, kind, count in rows
        ),
    )


def gain_and_score(entry: Entry, extent: float) -> tuple[Text, Text]:
    if entry.missing:
        return Text(lines=("–", entry.missing), tone="missing"), Text(lines=("–",), tone="missing")
    score = Text(lines=(interval(entry.score),) if entry.score else ("–",))
    if entry.gain is None:
        return Text(lines=("–", *filter(None, (entry.note,))), tone="missing"), score
    return draw_gain(entry.gain, entry, extent, share_in_words(entry), entry.note), score
