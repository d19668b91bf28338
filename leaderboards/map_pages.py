"""What stored maps add to the pages of runs: the sheets that may be shown, and the scores of the maps, all of them."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pandas as pd

from benchmark import results as schema
from leaderboards.pages import Block, Picture
from leaderboards.statistics import group_mean
from leaderboards.tables import Line, Table, Text
from leaderboards.words import interval, slug

CONTROLS = {"": "this encoder", "untrained": "untrained", "chance": "by chance"}


class Shown(NamedTuple):
    """Of the runs of a store, by (run, SHA-256 of its weights)."""

    blocks: dict[tuple[str, str], tuple[Block, ...]]
    images: dict[str, bytes]  # by name within the site


def gathered(results: Path) -> Shown:
    """Every stored map under results. Pictures of images that may not be redistributed stay where they are. Raises
    SchemaError."""
    blocks: dict[tuple[str, str], tuple[Block, ...]] = {}
    images: dict[str, bytes] = {}
    for path in schema.files(results, "maps"):
        rows = schema.read_file(path).to_pandas()
        first = rows.iloc[0]
        pictures: tuple[Picture, ...] = ()
        if first["public"]:
            name = f"maps/{slug(first['run'])}-{slug(first['task'])}"
            images |= {f"{name}{kind}": path.with_name(f"sheet{kind}").read_bytes() for kind in (".png", ".svg")}
            pictures = (picture(name, first["task"]),)
        block = Block(
            title=f"What it looks at: {first['task']}",
            texts=("" if pictures else "These images may not be shown here: `python -m benchmark maps` draws them.",),
            links=(("the sheet as SVG", f"{name}.svg"),) if pictures else (),
            pictures=pictures,
            tables=(table(rows),),
        )
        key = (first["run"], first["weights_sha256"])
        blocks[key] = (*blocks.get(key, ()), block)
    return Shown(blocks, images)


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
