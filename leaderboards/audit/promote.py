"""Verified local runs -> the published store: a handful of Parquet files a run, small enough for git.

    results/published/<modality>/<track>/<run>-<weights>/     runs curves cells predictions fits leakage
    results/published/<modality>/<track>/<run>-<weights>.2/   cells that came later: published files never change
    results/published/<modality>/summaries/<track>-<content>/ what secondary probes say, without their predictions
    results/published/<modality>/baselines/<id>/              as it was stored; so are ceilings/, locality/,
                                                               maps/, ratings/, trials/, and of passports/ what a
                                                               dataset shares with others and how large its images are

The weights stay where they are; their SHA-256 is in the row. A twin is a run and is promoted with it.
"""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from benchmark.storage import results, schema, scores, seals
from benchmark.storage.schema import SchemaError
from leaderboards.audit.directory import Problem, examine
from leaderboards.audit.verify import verify
from leaderboards.boards import aggregate, store
from leaderboards.boards.series import SUMMARISED
from leaderboards.boards.trials import TWIN
from tasks.base import digest

SIBLINGS = ("predictions", "fits", "leakage")  # of a cell, joined over the cells of a run
OF_A_RUN = ("runs", "curves")  # tables that a run's own directory holds


class Refused(Exception):
    """Something may not be published as it is. The message says what and why."""


class Packed(NamedTuple):
    directory: Path
    cells: int
    bytes: int


def promote(local: Path, published: Path, wanted: Mapping[str, str]) -> list[Packed]:
    """Publish the runs of a local store whose columns are as wanted ({"track": "smoke"}), with twins, cells and maps,
    and the baselines and measured locality of their tasks, and their ceilings on the runs' tracks.

    What is published already is left alone; cells that came later get a directory beside it. Other runs of the store
    may still be computing. Raises Refused where the store does not verify, where what is wanted is unfinished, or where
    a run or ceiling was made from uncommitted code.
    """
    unfinished = _verified(local)
    loaded = store.load(local)
    runs = loaded.runs
    chosen = runs[[all(str(row[name]) == value for name, value in wanted.items()) for row in runs.to_dict("records")]]
    chosen = runs[runs["run"].isin({*chosen["run"], *chosen["twin"]})]
    if chosen.empty:
        raise Refused(
            f"{local}: no run with {dict(wanted) or 'any column'}; stored tracks: {sorted(set(runs['track']))}"
        )
    own = {Path(one) for rows in (chosen, loaded.cells) for one in rows["directory"][rows["run"].isin(chosen["run"])]}
    _refuse(local, [problem for problem in unfinished if problem.file.parent in own])
    beside = _beside(local, chosen, loaded.cells)
    _refuse_uncommitted("runs", {row["run"]: row for row in chosen.to_dict("records")})
    _refuse_uncommitted("ceilings", {row["cell"]: row for row in beside.values() if "dirty" in row})
    there = set(store.rows(published, "cells")[["cell", "weights_sha256"]].itertuples(index=False, name=None))
    packed = [made for _, run in chosen.iterrows() for made in _run(run, loaded.cells, published, there)]
    shown = set(chosen.loc[chosen["seed"].eq(chosen["seed"].min()), "run"])
    for directory, row in beside.items():
        pictures = "public" not in row or bool(row["public"] and row["run"] in shown)
        packed += _copied(directory, published / directory.relative_to(local), pictures)
    packed += _summaries(loaded, set(chosen["run"]), published)
    for directory, rows in store.rows(local, "ratings").groupby("directory"):
        if rows["run"].isin(chosen["run"]).any():
            packed += _copied(Path(directory), published / Path(directory).relative_to(local))
    return packed


def promote_trials(local: Path, published: Path, wanted: Mapping[str, str]) -> list[Packed]:
    """Publish the tuning trials of a local store whose columns are as wanted ({"track": "laptop"}), with the untrained
    encoders that they are measured by. What is published already is left alone. Raises Refused where the store does not
    verify, or holds no such trial."""
    _verified(local)
    rows = store.rows(local, "trials")
    chosen = [
        all(str(row[name]) == value for name, value in wanted.items() if name != "pretext" or row["pretext"] != TWIN)
        for row in rows.to_dict("records")
    ]
    if rows.loc[chosen, "pretext"].eq(TWIN).all():
        raise Refused(f"{local}: no trial with {dict(wanted) or 'any column'}; run one: python -m benchmark.lab.trials")
    directories = map(Path, rows.loc[chosen, "directory"].drop_duplicates())
    return [made for one in directories for made in _copied(one, published / one.relative_to(local))]


def _verified(local: Path) -> list[Problem]:
    """What is still to be computed in a store. Raises Refused for anything else that does not verify."""
    problems = verify(local).problems
    _refuse(local, [problem for problem in problems if not problem.unfinished])
    return [problem for problem in problems if problem.unfinished]


def _refuse(local: Path, problems: list[Problem]) -> None:
    if problems:
        raise Refused(
            "\n".join(map(str, problems))
            + f"\n{local}: nothing was promoted: mend or delete what is named, and run `make bench` again"
        )


def _beside(local: Path, chosen: pd.DataFrame, cells: pd.DataFrame) -> dict[Path, dict]:
    """What is published as it is with the chosen runs, each directory with its first row."""
    tested = cells[cells["run"].isin(chosen["run"])]
    about = set(zip(tested["modality"], tested["task"], tested["data"], strict=True))
    looked = set(zip(chosen["run"], chosen["weights_sha256"], strict=True))
    found = {}
    for name in ("baselines", "ceilings", "locality", "maps"):
        for row in store.rows(local, name).drop_duplicates("directory").to_dict("records"):
            answered = (row["modality"], row["task"], row["data"]) in about
            seen = name != "maps" or (row["run"], row["weights_sha256"]) in looked
            on_track = name != "ceilings" or row["track"] in set(chosen["track"])
            if answered and seen and on_track:
                found[Path(row["directory"])] = row
    for name, mark in (("leakage", "-beside-"), ("pixels", "-pixels")):
        for row in store.rows(local, name).drop_duplicates("directory").to_dict("records"):
            if mark in Path(row["directory"]).name and (row["task"], row["data"]) in {one[1:] for one in about}:
                found[Path(row["directory"])] = row
    return found


def _refuse_uncommitted(what: str, rows: Mapping[str, Mapping[str, object]]) -> None:
    """rows: by id. Raises Refused where code that was not committed made one."""
    uncommitted = sorted(name for name, row in rows.items() if row["dirty"] or row["commit"] == "unknown")
    if uncommitted:
        named = ", ".join(uncommitted[:5])
        raise Refused(
            f"{len(uncommitted)} {what} were made from code with local changes ({named}): commit and run again"
        )


def _run(run: pd.Series, cells: pd.DataFrame, published: Path, there: set[tuple[str, str]]) -> Iterator[Packed]:
    own = cells[cells["run"].eq(run["run"]) & cells["weights_sha256"].eq(run["weights_sha256"])]
    own = own.loc[[(cell, run["weights_sha256"]) not in there for cell in own["cell"]]]
    own = own[~own["probe"].isin(SUMMARISED)]
    name = f"{run['run']}-{(run['weights_sha256'] or '0' * 12)[:12]}"
    first = published / run["modality"] / run["track"] / name
    if first.exists() and own.empty:
        return
    part, directory = 1, first
    while directory.exists():
        part += 1
        directory = first.with_name(f"{name}.{part}")
    sources = [Path(folder) for folder in dict.fromkeys(own["directory"])]
    yield _write(directory, None if first.exists() else Path(run["directory"]), sources)


def _summaries(loaded: store.Store, chosen: set[str], published: Path) -> Iterator[Packed]:
    rows = list(aggregate.summarise(loaded, chosen))
    for modality, track in dict.fromkeys((row["modality"], row["track"]) for row in rows):
        own = [row for row in rows if (row["modality"], row["track"]) == (modality, track)]
        content = digest(json.dumps([{**row, "created": ""} for row in own]))[:12]
        directory = published / modality / "summaries" / f"{track}-{content}"
        if results.write(directory, {"summaries": schema.table("summaries", own)}):
            yield Packed(directory, 0, sum(path.stat().st_size for path in directory.iterdir()))


def _write(directory: Path, run: Path | None, cells: list[Path]) -> Packed:
    """Pack under a temporary name, check what was packed, rename."""
    part = directory.with_name(f".{uuid.uuid4().hex[:8]}.part") / directory.name
    part.mkdir(parents=True)
    try:
        for name in OF_A_RUN if run else ():
            if (run / f"{name}.parquet").exists():
                pq.write_table(results.read_file(run / f"{name}.parquet"), part / f"{name}.parquet", compression="zstd")
        joined = {name: [c / f"{name}.parquet" for c in cells if (c / f"{name}.parquet").exists()] for name in SIBLINGS}
        for name, paths in joined.items():
            if paths:
                _join(part / f"{name}.parquet", name, paths)
        if cells:
            rows = [row for cell in cells for row in results.read_file(cell / "cells.parquet").to_pylist()]
            hashes = {f"{name}_sha256" for name in SIBLINGS} & set(rows[0])
            siblings = {name: seals.sha256(part / f"{name.removesuffix('_sha256')}.parquet") for name in hashes}
            content = schema.table("cells", [row | {n: s for n, s in siblings.items() if row[n]} for row in rows])
            pq.write_table(content, part / "cells.parquet", compression="zstd")
        seals.write(part)
        wrong = [one for one in examine(part).problems if " in the path" not in one.what]
        if wrong:
            raise Refused("\n".join([*map(str, wrong), f"{directory.name}: not promoted"]))
        size = sum(path.stat().st_size for path in part.iterdir())
        os.rename(part, directory)
    finally:
        shutil.rmtree(part.parent)
    return Packed(directory, len(cells), size)


def _join(target: Path, name: str, paths: list[Path]) -> None:
    """The tables of several cells as one file, a row group a cell, so that one of them is read alone; overlap checks,
    which cells of a task share, once each; of two scores that follow from each other one."""
    tables = [results.read_file(path) for path in paths]
    if name == "leakage":
        rows = [row for table in tables for row in table.to_pylist()]
        tables = [schema.table(name, {tuple(row.items()): row for row in rows}.values())]
    columns, options = schema.TABLES[name], {"compression": "zstd", "compression_level": 19}
    if name == "predictions":
        tables, alike = [scores.pack(table) for table in tables], ("sample", "group")
        options["use_dictionary"] = [column for column in columns.names if column not in (*alike, "scores")]
        options["column_encoding"] = dict.fromkeys(alike, "DELTA_BYTE_ARRAY")
        options["column_encoding"]["scores.list.element"] = "BYTE_STREAM_SPLIT"
    with pq.ParquetWriter(target, columns, **options) as writer:
        for table in tables:
            writer.write_table(pa.Table.from_batches(table.to_batches(), columns))


def _copied(source: Path, target: Path, pictures: bool = True) -> list[Packed]:
    """A directory as it is, under a temporary name first; nothing where it is there. Without its pictures, where they
    may not be shown or one seed's are enough: then it gets a seal of its own."""
    if target.exists():
        return []
    part = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.part")
    part.parent.mkdir(parents=True, exist_ok=True)
    try:
        shutil.copytree(source, part, ignore=None if pictures else shutil.ignore_patterns("sheet.*", seals.FILE))
        if not (part / seals.FILE).exists():
            seals.write(part)
        os.rename(part, target)
    except OSError as error:
        shutil.rmtree(part, ignore_errors=True)
        raise SchemaError(f"{source}: could not be copied to {target} ({error})") from error
    return [Packed(target, 0, sum(path.stat().st_size for path in target.iterdir()))]
