"""Boards and pages -> HTML, Markdown and a terminal table."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from benchmark.metrics import title as metric
from leaderboards.boards import citation
from leaderboards.boards.aggregate import boards
from leaderboards.boards.board import SYNTHETIC, Board, Column, Entry, Row, current
from leaderboards.pages import figures, ladder, tables
from leaderboards.pages.details import RunDetail
from leaderboards.pages.pages import Page, sheet_file
from leaderboards.pages.svg import Drawing
from leaderboards.pages.tables import Line, Table, Text
from leaderboards.pages.view import View, bearing, calibration, names_contradicted, view
from leaderboards.stats import statistics
from leaderboards.stats.verdicts import AS_IF, DEPENDENT, UNTAUGHT
from leaderboards.words import flops, interval, number
from tasks.phantoms import scenes

MARKS = {1: "▲", -1: "▼", 0: "○"}  # by what is shown
NARROW = "*"  # where no patient is known
UNLEARNT = "†"  # where labels do not teach the task
BARRED = {DEPENDENT: NARROW, UNTAUGHT: UNLEARNT}
ABREAST = 3  # rows of a board side by side in the terminal
WHOLE = 60  # rows that a page holds as HTML; of a longer headline table the first FEW, the rest as a script file
FEW = 10
NUMBER = r"[+−]?\d\.\d{3}"
NUMBERS = re.compile(rf"(?:(?P<word>\S.*) )?{NUMBER}(?: \[{NUMBER}, {NUMBER}\])?")


class EmptyStore(Exception):
    """There is nothing to show. The message says what to run."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a page stands."""

    release: str = ""  # the version that it is frozen as; "": the current site
    releases: tuple[str, ...] = ()  # frozen versions beside the current site


def stored(results: Path, absent: Mapping[str, Mapping[str, str]] | None = None) -> list[Board]:
    """The boards of a store that has some. Raises SchemaError, or EmptyStore."""
    found = boards(results, absent)
    if not found:
        raise EmptyStore(f"{results}: nothing stored yet; `make bench` runs the embedded phantoms in minutes")
    return found


def board_files(board: Board, shown: View, place: Place) -> dict[str, str]:
    """The page of a board, its Markdown, and what of a long table is not in the page."""
    made = {f"{board.slug}.html": html(board, shown, place), f"{board.slug}.md": markdown(board, shown, place)}
    if _long(shown.headline):
        made[f"{board.slug}-rows.js"] = _rest(shown.headline)
    return made


def html(board: Board, shown: View | None = None, place: Place | None = None) -> str:
    shown, place = shown or view(board), place or Place()
    count = FEW if _long(shown.headline) else len(shown.headline.rows)
    return _render(
        "board.html.j2",
        f"{board.slug}.html",
        place,
        page=shown,
        count=count,
        whole=WHOLE,
        cite=citation.snippet(board, place.release),
        bibtex=citation.bibtex(board, place.release),
        tasks=[column.title for column in board.columns],
    )


def markdown(board: Board, shown: View | None = None, place: Place | None = None) -> str:
    cite = citation.snippet(board, (place or Place()).release)
    return _environment(False).get_template("board.md.j2").render(page=shown or view(board), cite=cite)


def index(found: Sequence[Board]) -> str:
    return front(found, Place())


def front(found: Sequence[Board], place: Place) -> str:
    """The question, the answer so far, the claims, and the way to every board, those of real images first."""
    shown = sorted(current(found), key=lambda board: board.synthetic)
    leading = [(board, tables.gains(board, board.sections[0])) for board in shown]
    return _render(
        "index.html.j2",
        "index.html",
        place,
        pages=[(board, headline) for board, headline in leading if board.synthetic],
        patients=[(board, headline, bearing(board)) for board, headline in leading if not board.synthetic],
        earlier=[board for board in found if board not in shown],
        answer=[*figures.slope(shown)],
        slopes=[
            (board.title, f"{board.slug}.html", f"{figures.slope_said(board)} {names_contradicted(board)}".strip())
            for board in shown
            if board.synthetic
        ],
        ladder=ladder.tables(shown, tested=True),
        costs=across(shown),
    )


def across(found: Sequence[Board]) -> list[Drawing]:
    """Score against cost over the tracks of a modality and corpus, where there are several: of one content, the first
    of a name."""
    drawn = []
    newest: dict[tuple[str, str], str] = {}
    for board in found:
        newest.setdefault((board.modality, board.corpus), board.corpus_digest)
    for (modality, corpus), content in sorted(newest.items()):
        some = [b for b in found if (b.modality, b.corpus, b.corpus_digest) == (modality, corpus, content)]
        if len(some) > 1:
            drawn += figures.pareto(some, f"cost-{tables.slug(f'{modality}-{corpus}')}")
    return drawn


def page(made: Page, place: Place) -> str:
    return _render("page.html.j2", made.path, place, page=made)


def compare(runs: Sequence[RunDetail], found: Sequence[Board], place: Place) -> str:
    return _render("compare.html.j2", "compare.html", place, runs=runs, boards=found)


def methods(place: Place) -> str:
    return _render("methods.html.j2", "methods.html", place, s=statistics)


def phantoms(found: Sequence[Board], place: Place) -> str:
    measured = [
        (board.modality, column.title, column.version, one)
        for board in found
        for column, one in zip(board.columns, board.localities, strict=False)
        if column.synthetic and one is not None
    ]
    sheets = {name for name in ("histo", "ultrasound") if sheet_file(name, "latents")}
    rows = tuple(
        Line(
            head=Text(lines=(title,)),
            cells=(
                Text(lines=(modality,)),
                Text(lines=(_version(version),)),
                Text(lines=(number(one.value) if one.value is not None else "omitted",)),
            ),
        )
        for modality, title, version, one in dict.fromkeys(measured)
    )
    table = Table(
        title="Measured locality",
        caption="How local the signal of each simulated task was measured to be: 1 where a patch says as much as the "
        "whole image.",
        heads=tuple(Text(lines=(head,)) for head in ("Task", "Modality", "Version of the task", "Locality")),
        rows=rows,
    )
    notes = [
        (board.title, said)
        for board in found
        for said in (*filter(None, (names_contradicted(board),)), *calibration(board))
    ]
    return _render("phantoms.html.j2", "phantoms.html", place, table=table, sheets=sheets, notes=notes)


def _version(version: int) -> str:
    return str(version) if version == scenes.VERSION else f"{version}; this code draws version {scenes.VERSION}"


def _render(template: str, path: str, place: Place, **values: object) -> str:
    """A page at `path` of the site; links in it go from the site's root."""
    root = "../" * path.count("/")
    return (
        _environment(True).get_template(template).render(root=root, path=path, place=place, empty=not values, **values)
    )


def _long(headline: Table) -> bool:
    return len(headline.rows) > WHOLE


def _rest(headline: Table) -> str:
    """The rows after the first FEW as a script file that `board.js` reads, a few bytes a number.

    A row is [kind, name, places of the other lines of its head in `words`, links, cells]; a cell is the initial of its
    tone, then its lines, divided by ";". A line is the place of a text in `words`, or that of its first word, ":", and
    its numbers in thousandths. After "=" stands what the cell is ordered by, where its first line does not say it.
    """
    words: dict[str, int] = {}
    rows = []
    for row in headline.rows[FEW:]:
        name, *others = row.head.lines
        about = [words.setdefault(line, len(words)) for line in others]
        links = [word for text, link in row.head.links for word in (words.setdefault(text, len(words)), link)]
        rows.append([row.kind, name, about, links, _cells(headline, row, words)])
    data = json.dumps({"words": list(words), "rows": rows}, separators=(",", ":"), ensure_ascii=False)
    return f"window.pretextRows = {data};\n"


def _cells(headline: Table, row: Line, words: dict[str, int]) -> str:
    pairs = zip(headline.heads[1:], row.cells, strict=True)
    return "|".join(_packed(cell, words, head.words) for head, cell in pairs)


def _packed(cell: Text, words: dict[str, int], by_words: bool) -> str:
    packed = []
    for line in cell.lines:
        found = NUMBERS.fullmatch(line)
        word = words.setdefault(found["word"] or "" if found else line, len(words))
        numbers = re.findall(NUMBER, line) if found else []
        packed.append(f"{word}:{','.join(map(_thousandths, numbers))}" if numbers else str(word))
    known = by_words if cell.sort is None else NUMBERS.fullmatch(cell.lines[0])
    order = "" if known else "=" if cell.sort is None else f"={cell.sort:.4g}"
    return f"{cell.tone[:1] or '-'}{';'.join(packed)}{order}"


def _thousandths(text: str) -> str:
    """ "+0.031" -> "31", "−0.002" -> "-2"; a zero that has a sign keeps it."""
    digits = str(int(re.sub(r"\D", "", text)))
    sign = "-" if text[0] == "−" else "+" if text[0] == "+" and digits == "0" else ""
    return sign + digits


def compact(board: Board) -> str:
    """The headline as plain text, at most 100 columns: tasks down, encoders across; then the floor and the ceiling."""
    rows = [row for row in board.sections[0].rows if not row.twin]
    text = [board.title, *([SYNTHETIC] if board.synthetic else []), *([board.earlier] if board.earlier else [])]
    if board.budgets:
        text += [f"{' or '.join(flops(budget) for budget in board.budgets)} training FLOPs per encoder"]
    measured = " or ".join(sorted({metric(column.metric) for column in board.columns}))
    of = f" in {measured}" if measured else ""
    text += [f"gain{of} over the untrained twin [95 % interval], linear probe, patch tokens"]
    if not rows:
        text += ["no pretrained encoder yet: only twins are stored"]
    for start in range(0, len(rows), ABREAST):
        some = rows[start : start + ABREAST]
        text += ["", _across("", [_title(row) for row in some])]
        text += [_across("mean over tasks", [_short(row.mean) for row in some])]
        for place, column in enumerate(board.columns):
            text += [_across(_named(column), [_short(row.entries[place]) for row in some])]
            shares = [row.entries[place].share for row in some]
            text += [_across("  share", [interval(one) if one else "–" for one in shares])] * any(shares)
    text += _floor_and_ceiling(board)
    text += ["", "▲ above twin   ○ not shown above twin   ▼ below twin", *_together(rows)]
    verdicts = {entry.verdict for row in rows for entry in (row.mean, *row.entries)}
    text += [f"{NARROW} {DEPENDENT}, no verdict: {AS_IF}"] * (DEPENDENT in verdicts)
    text += [f"{UNLEARNT} {UNTAUGHT}: no verdict"] * (UNTAUGHT in verdicts)
    if any(entry.share is not None for row in rows for entry in row.entries):
        text += ["Share: of the way from the untrained encoder to the same one trained with labels."]
    over = [column.task for column in board.columns if column.title in board.pooled]
    some = f", over {len(over)} of {len(board.columns)} tasks: {', '.join(over)}"
    some *= 0 < len(over) < len(board.columns)
    text += textwrap.wrap(f"The mean over tasks is of gain / (1 − chance){some}.", 100)
    text += ["Rows with a letter in common are not shown to differ."] if board.ranked else []
    sizes = [f"{column.task}: {column.pixels}" for column in board.columns if column.pixels]
    return "\n".join([*text, *textwrap.wrap("; ".join(sizes), 100)])


def _floor_and_ceiling(board: Board) -> list[str]:
    """The metric itself: of the untrained encoders, and of those trained with labels."""
    floors = [row for row in board.sections[0].rows if row.twin][: ABREAST - 1]
    tops = board.ceilings or (None,) * len(board.columns)
    text = ["", _across("the metric itself", [*(row.name for row in floors), tables.labelled(board)])]
    for place, column in enumerate(board.columns):
        scores = [*(row.entries[place].score for row in floors), tops[place] and tops[place].score]
        text += [_across(_named(column), [interval(one) if one else "not measured" for one in scores])]
    return text


def _named(column: Column) -> str:
    return f"{column.task}{' (partial)' if column.partial else ''}"


def _together(rows: Sequence[Row]) -> list[str]:
    """How many gains the intervals and verdicts answer for at once."""
    means = max((row.mean.family for row in rows), default=0)
    on_tasks = max((entry.family for row in rows for entry in row.entries), default=0)
    if max(means, on_tasks) < 2:
        return []
    return [f"Intervals hold together: of the {on_tasks} gains on tasks, and of the {means} over them."]


def terminal(found: Sequence[Board]) -> str:
    """Boards as plain text, and once below them what is missing."""
    return "\n\n".join([*map(compact, found), *_gaps(found)])


def _gaps(found: Sequence[Board]) -> list[str]:
    """What these boards lack, at most 100 columns wide: each reason once, with the boards unless it is all of them."""
    lacking: dict[tuple[str, str], list[str]] = {}
    for board in found:
        for gap in board.missing:
            lacking.setdefault(gap, []).append(board.title)
    reasons: dict[tuple[str, str], list[str]] = {}
    for (what, why), titles in lacking.items():
        place = f" on {'; '.join(titles)}" if len(titles) < len(found) else ""
        reasons.setdefault((place, why), []).append(what)
    lines = [f"missing{place}: {', '.join(names)}: {why}" for (place, why), names in reasons.items()]
    return [textwrap.fill(line, 100, subsequent_indent="  ", break_on_hyphens=False) for line in lines]


def _title(row: Row) -> str:
    """The name; of an encoder from outside, what its module and function are called there."""
    name = re.sub(r"^external \((?:\w+\.)*(\w+:\w+)\)$", r"\1", row.name)
    return f"{name} ({row.letters})" if row.letters else name


def _short(entry: Entry) -> str:
    if entry.missing:
        return entry.missing
    if entry.gain is None:
        return entry.note
    mark = BARRED.get(entry.verdict) or MARKS.get(entry.shown, "")
    return f"{interval(entry.gain, signed=True)} {mark}".strip()


def _across(head: str, cells: list[str]) -> str:
    """A line of 22 + 3 × 26 columns at most."""
    return (_cut(head, 21, end=12).ljust(22) + "".join(_cut(cell, 25).ljust(26) for cell in cells)).rstrip()


def _cut(text: str, width: int, end: int = 0) -> str:
    """end: characters of it that stay, as tasks of one family differ in the last ones."""
    return text if len(text) <= width else text[: width - 1 - end] + "…" + text[len(text) - end :]


def _cell(text: str) -> str:
    """Text that is safe inside a Markdown table and shows as it is."""
    for character in "\\`*_[]<>|#":
        text = text.replace(character, f"\\{character}")
    return re.sub(r"\s", " ", text)


def _code(text: str, escaped: bool) -> str:
    """Text with what stands between backticks as code, the rest escaped for HTML or for Markdown."""
    parts = text.split("`")
    if len(parts) % 2 == 0:
        return escape(text) if escaped else _cell(text)
    if escaped:
        return Markup("").join(Markup("<code>{}</code>").format(p) if i % 2 else escape(p) for i, p in enumerate(parts))
    return "".join(f"`{part}`" if place % 2 else _cell(part) for place, part in enumerate(parts))


def _address(link: str, root: str) -> str:
    """Where a link goes: https as it is, a name of the site from its root, anything else nowhere."""
    if re.match(r"https?://", link):
        return link
    return root + link if re.fullmatch(r"[\w./#-]+", link) and not link.startswith("/") else ""


@cache
def _environment(escaped: bool) -> Environment:
    environment = Environment(
        loader=PackageLoader("leaderboards"),
        undefined=StrictUndefined,
        autoescape=escaped,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["md"] = _cell
    environment.filters["code"] = partial(_code, escaped=escaped)
    environment.filters["address"] = _address
    return environment
