"""The store as a board needs it: rows with the directory they lie in, and predictions read when asked for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from benchmark.recipe import Recipe, from_json
from benchmark.storage import results, schema
from leaderboards.boards.listed import Sent, read_released, read_submitted
from leaderboards.stats.resampling import Predictions

REDUCED = 0.9  # of the released median side: below, a copy is called reduced
NAMES = ("runs", "cells", "baselines", "ceilings", "locality", "ratings", "summaries")  # tables


@dataclass(frozen=True, kw_only=True)
class Store:
    runs: pd.DataFrame  # columns of the table, and `directory`
    cells: pd.DataFrame  # columns of the table, `directory`, and `sides`: the images' sizes, in words
    baselines: pd.DataFrame  # columns of the table, and `directory`
    ceilings: pd.DataFrame  # columns of the table, and `directory`
    locality: pd.DataFrame  # columns of the table, and `directory`
    ratings: pd.DataFrame  # columns of the table, and `directory`
    summaries: pd.DataFrame  # columns of the table, and `directory`
    submitted: Mapping[str, Sent] = field(default_factory=dict)  # directory -> who sent it, of what came from outside
    released: Mapping[str, str] = field(default_factory=dict)  # SHA-256 of weights -> the release file that holds them


def load(root: Path) -> Store:
    """Everything that a board shows, under root. Raises SchemaError naming a file that cannot be read."""
    tables = {name: rows(root, name) for name in NAMES}
    sides = {(row["task"], row["data"]): _sides(row) for row in rows(root, "pixels").to_dict("records")}
    cells = tables["cells"]
    tables["cells"] = cells.assign(
        sides=[sides.get(pair, "") for pair in zip(cells["task"], cells["data"], strict=True)]
    )
    submitted = {str(root / one): sent for one, sent in read_submitted(root).items()}
    return Store(**tables, submitted=submitted, released=read_released(root))


def _sides(row: dict) -> str:
    """How large the images of a dataset were as they were measured, beside their release."""
    here, released = row["median"], row["released"]
    if not released > 0:
        return f"images of {here:,.0f} pixels (short side); the size of their release is not stated"
    if here > REDUCED * released:
        return f"images of {here:,.0f} pixels (short side), as released"
    return f"reduced pixels: short side {here:,.0f}, released {released:,.0f}"


def rows(root: Path, name: str) -> pd.DataFrame:
    """All rows of a table, each with the directory of its file."""
    return results.rows(root, name).to_pandas()


def recipe(text: str, source: object) -> Recipe:
    """The recipe of a stored run. Raises SchemaError naming the source where it is none, OtherVersion where another
    version wrote it."""
    try:
        return _parsed(text)
    except ValueError as error:
        kind = schema.OtherVersion if _is_object(text) else schema.SchemaError
        raise kind(f"{source}: {error}; check out the release that wrote it") from error


_parsed = lru_cache(maxsize=None)(from_json)  # every run and cell of a recipe asks for it


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, TypeError, RecursionError):
        return False


def predictions(directory: str, cell: str, protocol: str) -> Predictions:
    """Test predictions of a cell. Raises SchemaError where the file is missing or holds none."""
    path = Path(directory) / "predictions.parquet"
    return of_cell(results.read_file(path, cell), cell, protocol, path)


def list_levels(directory: str, cell: str, name: str) -> list[float]:
    """The values that a column of a cell's clean predictions takes ("fraction", "shots"), in order."""
    table = results.read_file(Path(directory) / "predictions.parquet", cell)
    return sorted(set(table.filter(pc.equal(table["corruption"], ""))[name].drop_null().to_pylist()))


def predictions_under(directory: str, cell: str, protocol: str, name: str, value: float) -> Predictions:
    """Clean predictions of a cell under one condition, its draws as repeats."""
    path = Path(directory) / "predictions.parquet"
    table = results.read_file(path, cell)
    return of_cell(table.filter(pc.equal(table[name], value)), cell, protocol, path)


def list_corruptions(directory: str, cell: str) -> list[tuple[str, int]]:
    """Corruptions and strengths that a cell answered, in order."""
    table = results.read_file(Path(directory) / "predictions.parquet", cell)
    pairs = zip(table["corruption"].to_pylist(), table["strength"].to_pylist(), strict=True)
    return sorted({pair for pair in pairs if pair[0]})


def predictions_corrupted(
    directory: str, cell: str, protocol: str, corruption: str, strength: int
) -> Predictions | None:
    """Predictions of a cell on corrupted test images; None where there are none."""
    path = Path(directory) / "predictions.parquet"
    table = results.read_file(path, cell)
    table = table.filter(pc.and_(pc.equal(table["corruption"], corruption), pc.equal(table["strength"], strength)))
    return of_cell(table, cell, protocol, path, corruption) if len(table) else None


def of_cell(table: pa.Table, cell: str, protocol: str, path: Path, corruption: str = "") -> Predictions:
    """One condition of a cell under its own protocol, of clean images or corrupted ones. Fractions, shots and draws
    count as repeats."""
    main = protocol.partition("(")[0]
    keep = pc.and_(
        pc.equal(table["cell"], cell),
        pc.and_(pc.equal(table["split_variant"], main), pc.equal(table["corruption"], corruption)),
    )
    table = table.filter(keep).combine_chunks()
    if not len(table):
        raise schema.SchemaError(
            f"{path}: no predictions of cell {cell} under {main!r}; delete its directory and run again"
        )
    lists = table["scores"].combine_chunks()
    classes = len(lists[0])
    if pc.any(pc.not_equal(pc.list_value_length(lists), classes)).as_py():
        raise schema.SchemaError(f"{path}: samples of cell {cell} differ in their number of scores")
    scores = lists.flatten().to_numpy(zero_copy_only=False).reshape(len(table), classes)
    repeat = _ranks([_numbers(table[name]) for name in ("fraction", "shots", "draw", "repeat")])
    sample, group = _texts(table["sample"]), _texts(table["group"])
    fold = _numbers(table["fold"]).astype(int)
    order = np.lexsort((np.argsort(np.argsort(sample.names))[sample.place], fold, repeat))
    return Predictions(
        sample=sample.names[sample.place[order]],
        group=group.names[group.place[order]],
        label=_numbers(table["label"]).astype(int)[order],
        scores=scores[order],
        repeat=repeat[order],
        fold=fold[order],
    )


def _numbers(column: pa.ChunkedArray) -> np.ndarray:
    """A column as floats, null as -1."""
    return pc.fill_null(pc.cast(column, pa.float64()), -1.0).to_numpy()


class _Texts(NamedTuple):
    """A column of texts, most of which are there many times."""

    names: np.ndarray  # each once
    place: np.ndarray  # (N,) in names


def _texts(column: pa.ChunkedArray) -> _Texts:
    coded = column.combine_chunks().dictionary_encode()
    return _Texts(coded.dictionary.to_numpy(zero_copy_only=False).astype(str), coded.indices.to_numpy())


def _ranks(columns: list[np.ndarray]) -> np.ndarray:
    """(N,) place of every row among the different ones, in the order of the first column, then of the second, ..."""
    order = np.lexsort(columns[::-1])
    new = np.any([np.diff(column[order]) != 0 for column in columns], axis=0)
    ranks = np.empty(len(order), dtype=np.int64)
    ranks[order] = np.concatenate([[0], np.cumsum(new)])
    return ranks
