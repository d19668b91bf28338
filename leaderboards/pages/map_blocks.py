"""What stored maps add to the pages of runs: the sheets that may be shown, and the scores of the maps, all of them. And
to the page of a task: what pretraining taught them, over the seeds of each method.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from benchmark.storage import results as schema
from leaderboards.boards.board import Board
from leaderboards.pages.page import Block, Picture
from leaderboards.pages.run_details import RunDetail
from leaderboards.stats.intervals import estimate, group_mean
from leaderboards.stats.resampling import resample_mean
from leaderboards.stats.verdicts import AS_IF, DEPENDENT
from leaderboards.tables.table import Line, Table, Text, heads_of
from leaderboards.words import interval, number, slug

CONTROLS = {"": "this encoder", "untrained": "untrained", "chance": "by chance"}
HIDDEN = "These images may not be shown here: `python -m benchmark maps` draws them."
MORE = "The sheet of the first seed is on its page: `python -m benchmark maps` draws this one."


@dataclass(frozen=True)
class Maps:
    """Of the runs of a store, by (run, SHA-256 of its weights)."""

    blocks: dict[tuple[str, str], tuple[Block, ...]] = field(default_factory=dict)
    images: dict[str, bytes] = field(default_factory=dict)  # by name within the site
    scores: dict[tuple[str, str], pd.DataFrame] = field(default_factory=dict)  # those of a run on each of its tasks


def read_maps(results: Path) -> Maps:
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
            images[f"{name}.png"] = path.with_name("sheet.png").read_bytes()
            pictures = (_picture(name, first["task"]),)
        block = Block(
            title=f"What it looks at: {first['task']}",
            texts=("" if pictures else instead,),
            pictures=pictures,
            tables=(tabulate_scores(rows),),
        )
        key = (first["run"], first["weights_sha256"])
        blocks[key] = (*blocks.get(key, ()), block)
        scores[key] = pd.concat([scores[key], rows]) if key in scores else rows
    return Maps(blocks, images, scores)


def _picture(name: str, task: str) -> Picture:
    return Picture(
        source=f"{name}.png",
        alt=f"Test images of {task}, a row each: the image, its lesion outlined where that is known, attention of each "
        "head of the last block, attention rollout, cosine similarity to the patches marked with a red X, the first "
        "three principal components of the tokens as colours, and the lengths of the tokens.",
        caption="Attention of the last block, rollout, cosine similarity to the marked patches, PCA of the tokens, "
        "lengths of the tokens. The same images for every run; how each map is made: docs/maps.md.",
    )


def tabulate_scores(rows: pd.DataFrame) -> Table:
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
        heads=heads_of("Map and score", *CONTROLS.values()),
        rows=tuple(lines),
    )


def _mean(rows: pd.DataFrame) -> str:
    return interval(group_mean(rows["value"].to_numpy(float), rows["group"].to_numpy(str)))


def describe_learnt(maps: Maps, runs: Iterable[tuple[Board, RunDetail]], modality: str, task: str) -> tuple[Block, ...]:
    """What the maps of each method on a task gain over those of its untrained twin: a table a board, a row a method."""
    known = [
        (board, one) for board, one in runs if board.modality == modality and one.trained and one.key in maps.scores
    ]
    known_groups = all(column.independent for board, _ in known for column in board.columns if column.task == task)
    tables = []
    for title in dict.fromkeys(board.title for board, _ in known):
        methods: dict[str, list[pd.DataFrame]] = {}
        for board, one in known:
            rows = maps.scores[one.key]
            rows = rows[rows["task"].eq(task) & rows["kind"].ne("tokens")]
            if board.title == title and len(rows):
                methods.setdefault(one.run.name, []).append(rows.assign(seed=one.run.seed))
        if methods:
            tables.append(_tabulate(title, {name: pd.concat(rows) for name, rows in methods.items()}, known_groups))
    return (Block(title="What pretraining taught the maps", tables=tuple(tables)),) if tables else ()


def _tabulate(title: str, methods: Mapping[str, pd.DataFrame], independent: bool) -> Table:
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
