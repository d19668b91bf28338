"""Boards and pages -> HTML and Markdown."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache, partial

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from leaderboards.boards import citation
from leaderboards.boards.board import Board, current
from leaderboards.figures.ladder import draw_ladder, say_ladder
from leaderboards.figures.lead_by_locality import draw_lead_by_locality
from leaderboards.pages.board_page import BoardPage, calibration, describe_board, names_contradicted
from leaderboards.pages.page import Page
from leaderboards.pages.run_details import RunDetail
from leaderboards.pages.task_page import find_phantom_sheet
from leaderboards.stats import intervals, resampling
from leaderboards.tables import answer
from leaderboards.tables.every_row import tabulate_every_row
from leaderboards.tables.table import plain_table
from leaderboards.words import modality, number
from tasks.phantoms import scenes


def html(board: Board, page: BoardPage | None = None, releases: Sequence[str] = ()) -> str:
    """releases: frozen versions beside the current site."""
    page = page or describe_board(board)
    cite = citation.snippet(board, "")
    return _render("board.html.j2", f"{board.slug}.html", releases, page=page, cite=cite)


def markdown(board: Board, page: BoardPage | None = None, release: str = "") -> str:
    """release: the version that it is frozen as; "": the current site."""
    page, cite = page or describe_board(board), citation.snippet(board, release)
    return _environment(False).get_template("board.md.j2").render(page=page, cite=cite)


def front(boards: Sequence[Board], releases: Sequence[str] = ()) -> str:
    """The answer in plain words, what it rests on, and the way to every board."""
    shown = current(boards)
    patients, phantoms = ([board for board in shown if board.synthetic == kind] for kind in (False, True))
    return _render(
        "index.html.j2",
        "index.html",
        releases,
        real=answer.say_patients(patients),
        simulated=say_ladder(phantoms),
        judged=answer.say_verdicts(phantoms),
        patients=answer.tabulate_patients(patients),
        verdicts=answer.tabulate_verdicts(phantoms),
        ladder=draw_ladder(phantoms),
        answer=draw_lead_by_locality(phantoms),
        boards=[*patients, *phantoms],
        earlier=[board for board in boards if board not in shown],
    )


def every_row(boards: Sequence[Board], releases: Sequence[str] = ()) -> str:
    """One table across all boards, with what its rows can be filtered by."""
    table = tabulate_every_row(boards)
    facets = [dict(row.facets) for row in table.rows]
    filters = [
        (name, [(value, modality(value) if name == "modality" else value) for value in values])
        for name in ("modality", "images", "rung")
        if len(values := list(dict.fromkeys(one[name] for one in facets))) > 1
    ]
    return _render("table.html.j2", "table.html", releases, table=table, filters=filters)


def page(described: Page, releases: Sequence[str] = ()) -> str:
    return _render("page.html.j2", described.path, releases, page=described)


def compare(runs: Sequence[RunDetail], boards: Sequence[Board], releases: Sequence[str] = ()) -> str:
    return _render("compare.html.j2", "compare.html", releases, runs=runs, boards=boards)


def methods(releases: Sequence[str] = ()) -> str:
    return _render("methods.html.j2", "methods.html", releases, s=vars(intervals) | vars(resampling))


def phantoms(boards: Sequence[Board], releases: Sequence[str] = ()) -> str:
    measured = [
        (board.modality, column.title, column.version, one)
        for board in boards
        for column, one in zip(board.columns, board.localities, strict=False)
        if column.synthetic and one is not None
    ]
    sheets = {name for name in ("histo", "ultrasound") if find_phantom_sheet(name, "latents")}
    table = plain_table(
        "Measured locality",
        "How local the signal of each simulated task was measured to be: 1 where a patch says as much as the whole "
        "image.",
        ("Task", "Modality", "Version of the task", "Locality"),
        (
            (title, modality(name), _version(version), "omitted" if one.value is None else number(one.value))
            for name, title, version, one in dict.fromkeys(measured)
        ),
    )
    notes = [
        (board.title, said)
        for board in boards
        for said in (*filter(None, (names_contradicted(board),)), *calibration(board))
    ]
    return _render("phantoms.html.j2", "phantoms.html", releases, table=table, sheets=sheets, notes=notes)


def _version(version: int) -> str:
    return str(version) if version == scenes.VERSION else f"{version}; this code draws version {scenes.VERSION}"


def _render(template: str, path: str, releases: Sequence[str], **values: object) -> str:
    """A page at `path` of the site; links in it go from the site's root."""
    root = "../" * path.count("/")
    return _environment(True).get_template(template).render(root=root, path=path, releases=releases, **values)


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
