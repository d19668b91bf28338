"""The whole site of a store, as files: pages, figures and data. The same store gives the same bytes.

index.html compare.html trials.html methods.html phantoms.html
feed.xml static/ figures/ phantoms/ maps/                        and what they need
<board>.html .md .csv .parquet .tex .bib                         a page per modality, corpus and track
<board>-contrasts.csv <board>-claims.csv                         its differences and claims
tasks/ pretexts/ runs/                                           a page for each
releases/<version>/                                              the site as it was, never written again
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from benchmark.storage import results as schema
from leaderboards.boards import citation, store, trials
from leaderboards.boards.board import Board, current
from leaderboards.boards.trials import Trials
from leaderboards.export.export import latex
from leaderboards.pages import compare_page, figures, flat, map_pages, pages, render, svg, trials_page, view_pages
from leaderboards.pages.details import RunDetail, details
from leaderboards.pages.pages import Page
from leaderboards.pages.render import Place
from leaderboards.pages.svg import Drawing
from leaderboards.pages.view import view
from leaderboards.publish import feed, releases

STATIC = Path(__file__).parents[1] / "static"
MANIFEST = "files.json"  # what the last build wrote, so that the next one takes away what is gone
ABSENT = "absent.json"  # the tasks that were missing on the machine of the last build, and why, where there were any
SHEETS = ("latents", "knobs", "locality", "relation")
SMOKE = "smoke"  # the track that only shows that everything runs: published for CI, and no board of the public site


@dataclass(frozen=True, kw_only=True)
class Site:
    """Everything that pages are made from."""

    boards: tuple[Board, ...]
    runs: tuple[tuple[Board, RunDetail], ...]
    leakage: tuple[Mapping, ...]  # rows of the table
    maps: map_pages.Shown = field(default_factory=lambda: map_pages.Shown({}, {}, {}))
    trials: Trials = field(default_factory=lambda: Trials(current=(), earlier=()))
    places: Mapping[tuple[str, str], float] = field(default_factory=dict)  # (modality, task) -> measured locality


def build(
    results: Path,
    out: Path,
    absent: Mapping[str, Mapping[str, str]] | None = None,
    found: Sequence[Board] | None = None,
    *,
    release: str = "",
) -> list[Path]:
    """Write the site of a store into `out`; the files written, the front page first.

    `absent`: modality -> task -> why this machine could not measure it. `found`: the boards, where `stored` has read
    them already. `release`: the version that these pages are frozen as. Raises SchemaError, or EmptyStore.
    """
    if found is None:
        found = render.stored(results, absent)
    made = files(gathered(results, found), Place(release=release, releases=releases.versions(out)))
    out.mkdir(parents=True, exist_ok=True)
    if any((absent or {}).values()):
        made[ABSENT] = (json.dumps(absent, indent=0, sort_keys=True) + "\n").encode()
    for name in set(written(out)) - set(made):
        (out / name).unlink(missing_ok=True)
    made[MANIFEST] = (json.dumps(sorted(made), indent=0) + "\n").encode()
    for name, content in made.items():
        path = out / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return [out / name for name in made]


def public(results: Path) -> list[Board]:
    """The boards of the published site. Raises SchemaError."""
    return render.boards(results, without=SMOKE)


def absent_at(out: Path) -> Mapping[str, Mapping[str, str]]:
    """Modality -> task -> why the machine of the last build could not measure it."""
    path = out / ABSENT
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def written(out: Path) -> list[str]:
    """Names that the manifest of an earlier build holds and that lie within the site."""
    path = out / MANIFEST
    names = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    return [name for name in names if not Path(name).is_absolute() and ".." not in Path(name).parts]


def gathered(results: Path, found: Sequence[Board]) -> Site:
    """What the pages of single tasks and runs need beside the boards. Raises SchemaError."""
    loaded = store.load(results)
    runs = tuple((board, one) for board in found for one in details(board, loaded))
    checks = [row for path in schema.files(results, "leakage") for row in schema.read_file(path).to_pylist()]
    located = loaded.locality.dropna(subset="value").sort_values(["version", "created"], kind="stable")
    places = zip(located["modality"], located["task"], located["value"], strict=True)
    return Site(
        boards=tuple(found),
        runs=runs,
        leakage=tuple(checks),
        maps=map_pages.gathered(results),
        trials=trials.read(results),
        places={(modality, task): value for modality, task, value in places},
    )


def files(site: Site, place: Place, *, draw: bool = True) -> dict[str, bytes]:
    """Every file by its name within the site; without `draw`, of a figure its data alone."""
    drawings: dict[str, Drawing] = {}
    texts = {"index.html": render.front(site.boards, place)}
    drawings |= _named(figures.slope(current(site.boards)))
    drawings |= _named(render.across(current(site.boards)))
    blocks = [block for _, one in site.runs for block in site.maps.blocks.get(one.key, ())]
    sheets = {picture.source.removesuffix(".png") for block in blocks for picture in block.pictures}
    data = {name: image for name, image in site.maps.images.items() if name.rpartition(".")[0] in sheets}
    for board in site.boards:
        shown = view(board, site.boards)
        drawings |= _named(shown.figures)
        texts |= render.board_files(board, shown, place)
        texts[f"{board.slug}.tex"] = latex(board)
        texts[f"{board.slug}.bib"] = citation.bibtex(board, place.release)
        data |= _tables(board)
    for page in _pages(site):
        drawings |= _named(drawing for block in page.blocks for drawing in block.figures)
        texts[page.path] = render.page(page, place)
    texts |= compare_page.files(site, place)
    texts["methods.html"] = render.methods(place)
    texts["phantoms.html"] = render.phantoms(site.boards, place)
    texts["feed.xml"] = feed.atom(site.boards)
    for name, drawing in drawings.items():
        if draw:
            texts[f"figures/{name}.svg"] = svg.svg(drawing)
        texts[f"figures/{name}.csv"] = svg.table(drawing)
    data |= {f"static/{path.relative_to(STATIC)}": path.read_bytes() for path in _sorted(STATIC)}
    for modality in sorted({board.modality for board in site.boards} | {"histo", "ultrasound"}):
        for sheet in SHEETS:
            path = pages.sheet_file(modality, sheet)
            data |= {f"phantoms/{path.name}": path.read_bytes()} if path else {}
    return {name: text.encode() for name, text in texts.items()} | data


def _pages(site: Site) -> list[Page]:
    made = []
    for modality, task in sorted({(b.modality, c.task) for b in site.boards for c in b.columns}):
        boards = [b for b in site.boards if b.modality == modality and any(c.task == task for c in b.columns)]
        kinds = {(c.task, c.data) for b in boards for c in b.columns if c.task == task}
        checks = [row for row in site.leakage if (row["task"], row["data"]) in kinds]
        maps = map_pages.learnt(site.maps, site.runs, modality, task)
        made.append(pages.of_task(modality, task, boards, checks, maps))
    runs = [one for _, one in site.runs]
    for pretext in sorted({str(one.row["pretext"]) for one in runs if one.trained}):
        made.append(pages.of_pretext(pretext, site.boards, runs, view_pages.blocks(pretext)))
    made.append(trials_page.page(site.trials, site.places))
    made += [pages.of_run(one, board, site.maps.blocks.get(one.key, ())) for board, one in site.runs]
    return made


def _tables(board: Board) -> dict[str, bytes]:
    """The numbers of the headline table, a row per encoder and task; of the contrasts and claims."""
    rows = flat.rows(board)
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema=flat.SCHEMA), file, compression="zstd")
    texts = {
        "": flat.as_csv(rows),
        "-contrasts": flat.as_csv(flat.contrasts(board), flat.CONTRASTS),
        "-claims": flat.as_csv(flat.claims(board), flat.CLAIMS),
    }
    made = {f"{board.slug}{part}.csv": text.encode() for part, text in texts.items()}
    return made | {f"{board.slug}.parquet": file.getvalue()}


def _named(drawings) -> dict[str, Drawing]:
    return {drawing.name: drawing for drawing in drawings}


def _sorted(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())
