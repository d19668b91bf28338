"""What stored maps add to the pages of runs: the sheets that may be shown, and the scores of the maps, all of them. And
to the page of a task: what pretraining taught them, over the seeds of each method.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from benchmark.storage import results as schema
from leaderboards.boards.board import Board
from leaderboards.pages.details import RunDetail
from leaderboards.pages.pages import Block, Picture
from leaderboards.pages.tables import Line, Table, Text
from leaderboards.stats.statistics import estimate, group_mean, resample_mean
from leaderboards.stats.verdicts import AS_IF, DEPENDENT
from leaderboards.words import interval, number, slug

CONTROLS = {"": "this encoder", "untrained": "untrained", "chance": "by chance"}
HIDDEN = "These images may not be shown here: `python -m benchmark maps` draws them."
MORE = "The sheet of the first seed is on its page: `python -m benchmark maps` draws this one."


class Shown(NamedTuple):
    """Of the runs of a store, by (run, SHA-256 of its weights)."""

    blocks: dict[tuple[str, str], tuple[Block, ...]]
    images: dict[str, bytes]  # by name within the site
    scores: dict[tuple[str, str], pd.DataFrame]  # those of a run on each of its tasks


def gathered(results: Path) -> Shown:
    """Every stored map under results. Pictures of images that may not be redistributed stay where they are. Raises
    SchemaError."""
    blocks: dict[tuple[str, str], tuple[Block, ...]] = {}
    images: dict[str, bytes] = {}
    scores: dict[tuple[str, str], pd.DataFrame] = {}
    for path in schema.files(results, "maps"):
        rows = schema.read_file(path).to_pandas()
        first = rows.iloc[0]
        pictures: tuple[Picture, ...] = ()
        instead = MORE if first["public"] else HIDDEN
        if first["public"] and path.with_name("sheet.png").exists():
            encoder = f"{slug(first['run'])}-{first['weights_sha256'][:8]}"
            name = f"maps/{encoder}-{slug(first['task'])}"
            images |= {f"{name}{kind}": path.with_name(f"sheet{kind}").read_bytes() for kind in (".png", ".svg")}
            pictures = (picture(name, first["task"]),)
        block = Block(
            title=f"What it looks at: {first['task']}",
            texts=("" if pictures else instead,),
            links=(("the sheet as SVG", f"{name}.svg"),) if pictures else (),
            pictures=pictures,
            tables=(table(rows),),
        )
        key = (first["run"], first["weights_sha256"])
        blocks[key] = (*blocks.get(key, ()), block)
        scores[key] = pd.concat([scores[key], rows]) if key in scores else rows
    return Shown(blocks, images, scores)


def picture(name: str, task: str) -> Picture:
    return Picture(
        source=f"{name}.png",
        alt=f"Test images of {task}, a row each: the image, its lesion outlined where that is known, attention of each "
        "head of the last block, attention rollout, cosine similarity to the patches marked with a red X, the first "
        "three principal components of the tokens as colours, and the lengths of the tokens.",
        caption="Attention of the last block, rollout, cosine similarity to the marked patches, PCA of the tokens, "
        "lengths of the tokens. The same images for every run; how each map is made: docs/maps.md.",
    )


def table(rows: pd.DataFrame) -> Table:
    """Mean scores over images with 95 % intervals over groups, the controls beside them."""
    lines = []
    for (kind, score), some in rows.groupby(["kind", "score"], sort=True):
        found = {control: _mean(one) for control, one in some.groupby("control")}
        cells = tuple(Text(lines=(found.get(control, "–"),)) for control in CONTROLS)
        lines.append(Line(head=Text(lines=(f"{kind}: {score}",)), cells=cells))
    return Table(
        title="Scores of the maps",
        caption=f"Means over {rows['sample'].nunique()} test images with 95 % intervals over {rows['group'].nunique()} "
        "groups; the score of each image is stored, not recomputed. "
        "A map that scores no higher than the same architecture untrained shows nothing that was learnt.",
        heads=tuple(Text(lines=(head,)) for head in ("Map and score", *CONTROLS.values())),
        rows=tuple(lines),
    )


def _mean(rows: pd.DataFrame) -> str:
    return interval(group_mean(rows["value"].to_numpy(float), rows["group"].to_numpy(str)))


def learnt(shown: Shown, runs: Iterable[tuple[Board, RunDetail]], modality: str, task: str) -> tuple[Block, ...]:
    """What the maps of each method on a task gain over those of its untrained twin: a table a board, a row a method."""
    known = [
        (board, one) for board, one in runs if board.modality == modality and one.trained and one.key in shown.scores
    ]
    known_groups = all(column.independent for board, _ in known for column in board.columns if column.task == task)
    tables = []
    for title in dict.fromkeys(board.title for board, _ in known):
        methods: dict[str, list[pd.DataFrame]] = {}
        for board, one in known:
            rows = shown.scores[one.key]
            rows = rows[rows["task"].eq(task) & rows["kind"].ne("tokens")]
            if board.title == title and len(rows):
                methods.setdefault(one.run.name, []).append(rows.assign(seed=one.run.seed))
        if methods:
            tables.append(_gained(title, {name: pd.concat(rows) for name, rows in methods.items()}, known_groups))
    return (Block(title="What pretraining taught the maps", tables=tuple(tables)),) if tables else ()


def _gained(title: str, methods: Mapping[str, pd.DataFrame], independent: bool) -> Table:
    asked = list(dict.fromkeys((kind, score) for rows in methods.values() for kind, score in _pairs(rows)))
    groups = max(rows["group"].nunique() for rows in methods.values())
    lines = [
        Line(head=Text(lines=(name,)), cells=tuple(_gain(rows, kind, score, independent) for kind, score in asked))
        for name, rows in methods.items()
    ]
    return Table(
        title=title,
        caption="Score of the trained encoder's map less that of its untrained twin's on the same images, mean of "
        f"seeds, with a 95 % interval over seeds and {groups} groups, of that number alone; then both. An interval "
        "that holds 0 shows nothing learnt." + ("" if independent else f" {DEPENDENT.capitalize()}: {AS_IF}."),
        heads=(Text(lines=("Method",)), *(Text(lines=(kind, score)) for kind, score in asked)),
        rows=tuple(lines),
    )


def _pairs(rows: pd.DataFrame) -> list[tuple[str, str]]:
    """(kind, score) that both a run and its twin have."""
    own, twin = (rows[rows["control"].eq(control)].groupby(["kind", "score"]).groups for control in ("", "untrained"))
    return sorted(own.keys() & twin.keys())


def _gain(rows: pd.DataFrame, kind: str, score: str, independent: bool) -> Text:
    some = rows[rows["kind"].eq(kind) & rows["score"].eq(score)]
    own, twin = (_by_seed(some[some["control"].eq(control)]) for control in ("", "untrained"))
    both = (own - twin).dropna(axis=1)
    if both.empty:
        return Text(lines=("–", "not scored"), tone="missing")
    groups = some.drop_duplicates("sample").set_index("sample")["group"]
    named = groups[both.columns].to_numpy(str)
    gained = estimate(resample_mean(list(both.index), both.to_numpy(), named, independent))
    tone = (
        ""
        if gained.low is None or not independent
        else "above"
        if gained.low > 0
        else "below"
        if gained.high < 0
        else "same"
    )
    means = (number(float(values[both.columns].to_numpy().mean())) for values in (own, twin))
    return Text(lines=(interval(gained, signed=True), " against ".join(means)), tone=tone, sort=gained.value)


def _by_seed(rows: pd.DataFrame) -> pd.DataFrame:
    """Seeds as rows, samples as columns."""
    return rows.pivot(index="seed", columns="sample", values="value")
