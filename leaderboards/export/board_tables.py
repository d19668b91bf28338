"""A board for other programs: the headline table, the contrasts and the claims, to nine decimals, LaTeX and BibTeX."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from leaderboards.boards import citation
from leaderboards.boards.board import Board, Column, Cost, Entry
from leaderboards.export.latex import latex
from leaderboards.stats.intervals import Estimate
from leaderboards.tables.gains import name_of_ceilings
from leaderboards.words import with_labels

MEAN = "mean over tasks"
DECIMALS = 9  # so that processors that differ in the last bit write the same file
SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("board", "encoder", "kind", "task", "title", "metric")),
        *((name, pa.float64()) for name in ("gain", "gain_low", "gain_high", "score", "score_low", "score_high")),
        *((name, pa.float64()) for name in ("share", "share_low", "share_high")),
        ("gain_p", pa.float64()),
        ("verdict", pa.string()),
        ("note", pa.string()),
        ("tie_group", pa.string()),
        ("groups", pa.int64()),
        ("seeds", pa.string()),
        ("runs", pa.string()),
        *((name, pa.float64()) for name in ("flops", "steps", "images_seen", "passes", "seconds", "memory_bytes")),
        ("synthetic", pa.bool_()),
    ]
)
CONTRASTS = (
    *("board", "first", "second", "task", "title"),
    *("difference", "low", "high", "p", "verdict", "seeds", "groups"),
)
CLAIMS = (
    *("board", "claim", "about", "pair", "measure", "tasks"),
    *("value", "low", "high", "verdict", "why", "probe", "per"),
)


def board_tables(board: Board, release: str = "") -> dict[str, bytes]:
    """The files of a board, by name. release: the version that it is frozen as; "": the current site."""
    headline, file = list_rows(board), io.BytesIO()
    pq.write_table(pa.Table.from_pylist(headline, schema=SCHEMA), file, compression="zstd")
    texts = {
        ".csv": as_csv(headline),
        "-contrasts.csv": as_csv(list_contrasts(board), CONTRASTS),
        "-claims.csv": as_csv(list_claims(board), CLAIMS),
        ".tex": latex(board),
        ".bib": citation.bibtex(board, release),
    }
    files = {f"{board.slug}{ending}": text.encode() for ending, text in texts.items()}
    return files | {f"{board.slug}.parquet": file.getvalue()}


def list_rows(board: Board) -> list[dict]:
    """Rows of SCHEMA: means first, then every task, in the order of the page; ceilings, then baselines last."""
    costs = {cost.name: cost for cost in board.costs}
    rows = []
    for row in board.sections[0].rows:
        about = {
            "encoder": row.name,
            "kind": "twin" if row.twin else "trained",
            "tie_group": row.letters,
            "seeds": " ".join(map(str, row.seeds)),
            "runs": " ".join(row.runs),
        }
        if not row.twin:
            about |= _spent(board, costs.get(row.name))
            rows.append(about | _entry(row.mean) | _task(MEAN, MEAN, "chance-corrected", None, board.synthetic))
        rows += [about | _entry(entry) | _column(c) for c, entry in zip(board.columns, row.entries, strict=True)]
    for column, one in zip(board.columns, board.ceilings, strict=True) if any(board.ceilings) else ():
        about = {"encoder": name_of_ceilings(board) if one is None else with_labels(one.labels), "kind": "ceiling"}
        about |= {"seeds": " ".join(map(str, one.seeds))} if one else {}
        entry = Entry(score=one and one.score, missing="" if one else "ceiling not measured")
        rows.append(about | _entry(entry) | _column(column))
    for one in board.baselines:
        for column, score in zip(board.columns, one.scores, strict=True):
            entry = Entry(score=score, missing="" if score else "not measured")
            rows.append({"encoder": one.name, "kind": "baseline"} | _entry(entry) | _column(column))
    empty = dict.fromkeys(SCHEMA.names) | {"board": board.slug}
    return [empty | row for row in rows]


def _spent(board: Board, cost: Cost | None) -> dict:
    if cost is None:
        return {}
    return {
        "flops": cost.realised_flops,
        "steps": cost.steps,
        "images_seen": cost.images_seen,
        "passes": _rounded(cost.images_seen / board.corpus_images) if board.corpus_images else None,
        "seconds": cost.seconds,
        "memory_bytes": cost.memory_bytes,
    }


def _column(column: Column) -> dict:
    return _task(column.task, column.title, column.metric, column.groups, column.synthetic)


def _task(task: str, title: str, metric: str, groups: int | None, synthetic: bool) -> dict:
    return {"task": task, "title": title, "metric": metric, "groups": groups, "synthetic": synthetic}


def list_contrasts(board: Board) -> list[dict]:
    """Rows of CONTRASTS: the first minus the second, over the tasks and on each, p adjusted for its family."""
    found = []
    for one in (*board.comparison.pretexts, *board.comparison.twins):
        about = {"board": board.slug, "first": one.first, "second": one.second}
        tasks = [
            (MEAN, MEAN, one.mean),
            *((c.task, c.title, d) for c, d in zip(board.columns, one.entries, strict=True)),
        ]
        for task, title, difference in tasks:
            row = dict.fromkeys(CONTRASTS) | about | {"task": task, "title": title}
            if difference is not None:
                row |= _ends(difference.estimate, "difference", "low", "high")
                row |= {"p": _rounded(difference.p), "verdict": difference.verdict}
                row |= {"seeds": difference.estimate.seeds, "groups": difference.estimate.groups}
            found.append(row)
    return found


def list_claims(board: Board) -> list[dict]:
    """Rows of CLAIMS: one for each pair of a claim, and again without a verdict for each other probe; one without
    numbers where it is untestable."""
    found = []
    for one in board.claims:
        about = {"board": board.slug, "claim": one.name, "about": one.about, "why": one.why, "per": one.per}
        about |= {"measure": f"slope over locality {one.within}" if one.slope else "difference"}
        about |= {"tasks": "; ".join(one.tasks)}
        for probe, estimates in (("linear", one.estimates), *one.probes):
            verdict = one.verdict if probe == "linear" else ""
            for place, pair in enumerate(one.pairs or ("",)):
                numbers = _ends(estimates[place], "value", "low", "high") if estimates else {}
                row = about | {"pair": pair, "probe": probe, "verdict": verdict} | numbers
                found.append(dict.fromkeys(CLAIMS) | row)
    return found


def _entry(entry: Entry) -> dict:
    return {
        **_bounds("gain", entry.gain),
        **_bounds("score", entry.score),
        **_bounds("share", entry.share),
        "gain_p": _rounded(entry.p),
        "verdict": entry.verdict,
        "note": entry.missing or entry.note,
    }


def _bounds(name: str, one: Estimate | None) -> dict:
    return {} if one is None else _ends(one, name, f"{name}_low", f"{name}_high")


def _ends(one: Estimate, *names: str) -> dict:
    return {name: _rounded(x) for name, x in zip(names, (one.value, one.low, one.high), strict=True)}


def _rounded(x: float | None) -> float | None:
    return None if x is None else round(x, DECIMALS)


def as_csv(found: list[dict], names: Sequence[str] = tuple(SCHEMA.names)) -> str:
    file = io.StringIO()
    writer = csv.DictWriter(file, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: inert(value) for name, value in row.items()} for row in found)
    return file.getvalue()


def inert(value: object) -> object:
    """A value for a CSV file that a spreadsheet will not take for a formula: text that begins like one gets a quote."""
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")) else value
