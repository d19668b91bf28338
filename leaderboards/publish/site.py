"""The whole site of a store, as files: pages, figures and data. The same store gives the same bytes.

index.html table.html table.csv compare.html trials.html methods.html phantoms.html
feed.xml static/ figures/ phantoms/ maps/                        and what they need
<board>.html .md .csv .parquet .tex .bib                         a page per modality, corpus and track
<board>-contrasts.csv <board>-claims.csv <board>-figures.csv     its differences, claims, and the data of its figures
tasks/ pretexts/ runs/                                           a page for each; of runs, one for each recipe
releases/<version>/                                              the boards as they were, never written again
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

from benchmark.storage import results as schema
from leaderboards.boards import aggregate, store, trials
from leaderboards.boards.board import Board, current
from leaderboards.boards.trials import Trials
from leaderboards.export.board_tables import as_csv, board_tables, list_rows
from leaderboards.figures import figure
from leaderboards.figures.figure import Figure
from leaderboards.figures.ladder import draw_ladder
from leaderboards.figures.lead_by_locality import draw_lead_by_locality
from leaderboards.pages import compare_page, map_blocks, render, trials_page
from leaderboards.pages.board_page import describe_board
from leaderboards.pages.page import Page
from leaderboards.pages.pretext_page import describe_pretext
from leaderboards.pages.recipe_page import describe_recipe
from leaderboards.pages.run_details import RunDetail, read_runs
from leaderboards.pages.task_page import describe_task, find_phantom_sheet
from leaderboards.pages.view_blocks import describe_views
from leaderboards.publish import feed

STATIC = Path(__file__).parents[1] / "static"
MANIFEST = "files.json"  # what the last build wrote, so that the next one takes away what is gone
ABSENT = "absent.json"  # the tasks that were missing on the machine of the last build, and why, where there were any
SHEETS = ("latents", "knobs", "locality", "relation")
SMOKE = "smoke"  # the track that only shows that everything runs: published for CI, and no board of the public site


class EmptyStore(Exception):
    """There is nothing to show. The message says what to run."""


@dataclass(frozen=True, kw_only=True)
class Site:
    """Everything that pages are made from."""

    boards: tuple[Board, ...]
    runs: tuple[tuple[Board, RunDetail], ...]
    leakage: tuple[Mapping, ...]  # rows of the table
    maps: map_blocks.Maps = field(default_factory=map_blocks.Maps)
    trials: Trials = field(default_factory=lambda: Trials(current=(), earlier=()))
    places: Mapping[tuple[str, str], float] = field(default_factory=dict)  # (modality, task) -> measured locality


def load_boards(results: Path, absent: Mapping[str, Mapping[str, str]] | None = None) -> list[Board]:
    """The boards of a store that has some. Raises SchemaError, or EmptyStore."""
    boards = aggregate.boards(results, absent)
    if not boards:
        raise EmptyStore(f"{results}: nothing stored yet; `make bench` runs the embedded phantoms in minutes")
    return boards


def load_public_boards(results: Path) -> list[Board]:
    """The boards of the published site. Raises SchemaError."""
    return aggregate.boards(results, without=SMOKE)


def build(
    results: Path,
    out: Path,
    absent: Mapping[str, Mapping[str, str]] | None = None,
    boards: Sequence[Board] | None = None,
    releases: Sequence[str] = (),
) -> list[Path]:
    """Write the site of a store into `out`; the files written, the front page first.

    `absent`: modality -> task -> why this machine could not measure it. `boards`: where they were loaded already.
    `releases`: versions that the pages name. Raises SchemaError, or EmptyStore.
    """
    if boards is None:
        boards = load_boards(results, absent)
    made = make_files(gather(results, boards), releases)
    out.mkdir(parents=True, exist_ok=True)
    if any((absent or {}).values()):
        made[ABSENT] = (json.dumps(absent, indent=0, sort_keys=True) + "\n").encode()
    for name in set(list_written(out)) - set(made):
        (out / name).unlink(missing_ok=True)
    made[MANIFEST] = (json.dumps(sorted(made), indent=0) + "\n").encode()
    for name, content in made.items():
        path = out / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return [out / name for name in made]


def read_absent(out: Path) -> Mapping[str, Mapping[str, str]]:
    """Modality -> task -> why the machine of the last build could not measure it."""
    path = out / ABSENT
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def list_written(out: Path) -> list[str]:
    """Names that the manifest of an earlier build holds and that lie within the site."""
    path = out / MANIFEST
    names = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    return [name for name in names if not Path(name).is_absolute() and ".." not in Path(name).parts]


def gather(results: Path, boards: Sequence[Board]) -> Site:
    """What the pages of single tasks and runs need beside the boards. Raises SchemaError."""
    loaded = store.load(results)
    checks = [row for path in schema.files(results, "leakage") for row in schema.read_file(path).to_pylist()]
    located = loaded.locality.dropna(subset="value").sort_values(["version", "created"], kind="stable")
    places = zip(located["modality"], located["task"], located["value"], strict=True)
    return Site(
        boards=tuple(boards),
        runs=tuple((board, one) for board in boards for one in read_runs(board, loaded)),
        leakage=tuple(checks),
        maps=map_blocks.read_maps(results),
        trials=trials.read(results),
        places={(modality, task): value for modality, task, value in places},
    )


def make_files(site: Site, releases: Sequence[str] = ()) -> dict[str, bytes]:
    """Every file by its name within the site."""
    phantoms = [board for board in current(site.boards) if board.synthetic]
    texts = {"index.html": render.front(site.boards, releases)}
    texts |= _figures("index.csv", (*draw_ladder(phantoms), *draw_lead_by_locality(phantoms)))
    shown = current(site.boards)
    texts["table.html"] = render.every_row(shown, releases)
    data = {"table.csv": as_csv([row for board in shown for row in list_rows(board)]).encode()}
    for board in site.boards:
        page = describe_board(board, site.boards)
        texts[f"{board.slug}.html"] = render.html(board, page, releases)
        texts[f"{board.slug}.md"] = render.markdown(board, page)
        texts |= _figures(f"{board.slug}-figures.csv", page.figures)
        data |= board_tables(board)
    pages = _pages(site)
    for page in pages:
        texts[page.path] = render.page(page, releases)
        figures = [figure for block in page.blocks for figure in block.figures]
        texts |= _figures(page.path.replace(".html", ".csv"), figures)
    texts |= compare_page.make_files(site.boards, site.runs, site.maps, releases)
    texts["methods.html"] = render.methods(releases)
    texts["phantoms.html"] = render.phantoms(site.boards, releases)
    texts["feed.xml"] = feed.atom(site.boards)
    pictures = {picture.source for page in pages for block in page.blocks for picture in block.pictures}
    data |= {name: image for name, image in site.maps.images.items() if name in pictures}
    data |= {f"static/{path.relative_to(STATIC)}": path.read_bytes() for path in STATIC.rglob("*") if path.is_file()}
    sheets = [find_phantom_sheet(modality, name) for modality in ("histo", "ultrasound") for name in SHEETS]
    data |= {f"phantoms/{path.name}": path.read_bytes() for path in sheets if path}
    return {name: text.encode() for name, text in texts.items()} | data


def _figures(data: str, figures: Sequence[Figure]) -> dict[str, str]:
    """The figures of a page that are files, and the numbers of all of them in one."""
    files = {f"figures/{one.name}.svg": one.svg for one in figures if not one.inline}
    own = [one for one in figures if not one.data]
    return files | ({data: figure.as_csv(own)} if own else {})


def _pages(site: Site) -> list[Page]:
    pages = []
    for modality, task in sorted({(b.modality, c.task) for b in site.boards for c in b.columns}):
        boards = [b for b in site.boards if b.modality == modality and any(c.task == task for c in b.columns)]
        kinds = {(c.task, c.data) for b in boards for c in b.columns if c.task == task}
        checks = [row for row in site.leakage if (row["task"], row["data"]) in kinds]
        maps = map_blocks.describe_learnt(site.maps, site.runs, modality, task)
        pages.append(describe_task(modality, task, boards, checks, maps))
    runs = [one for _, one in site.runs]
    for pretext in sorted({str(one.row["pretext"]) for one in runs if one.trained}):
        pages.append(describe_pretext(pretext, site.boards, runs, describe_views(pretext)))
    pages.append(trials_page.describe_trials(site.trials, site.places))
    by_recipe = sorted(site.runs, key=lambda pair: (pair[1].run.variant, pair[1].run.seed))
    for _, group in groupby(by_recipe, key=lambda pair: pair[1].run.variant):
        pairs = list(group)
        pages.append(describe_recipe([one for _, one in pairs], pairs[0][0], site.maps.blocks))
    return pages
