"""`repair` sets damage aside, and nothing else: not what another version wrote, not what changed by rounding."""

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmark import recipe as recipes
from benchmark.storage import results, schema, seals
from leaderboards.audit.promote import Refused, promote
from leaderboards.audit.repair import ASIDE, repair
from leaderboards.audit.verify import verify
from tests.helpers.boards import add_cell, add_run, recipe, rewrite, store, tree


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Path:
    return store(tmp_path_factory.mktemp("small") / "store", pretexts=("mae",), seeds=(0,), tasks=("local",))


@pytest.fixture
def root(small, tmp_path) -> Path:
    return Path(shutil.copytree(small, tmp_path / "store"))


def reseal(directory: Path) -> None:
    (directory / seals.FILE).unlink()
    seals.write(directory)


def as_schema_2(path: Path) -> None:
    """The table as schema 2 wrote it."""
    table = pq.read_table(path)
    table = table.drop_columns([name for name in schema.ADDED.get(path.stem, ()) if name in table.column_names])
    pq.write_table(table.replace_schema_metadata({"pretext_bench_schema": "2"}), path)


def as_schema_99(path: Path) -> None:
    pq.write_table(pq.read_table(path).replace_schema_metadata({"pretext_bench_schema": "99"}), path)


def with_another_column(path: Path) -> None:
    table = pq.read_table(path)
    pq.write_table(table.append_column("mood", pa.array(["good"] * len(table))), path)


def with_another_metric(path: Path) -> None:
    if path.stem == "cells":
        rewrite(path, lambda rows: rows[1].update(metric="kappa"))


def with_another_setting_of_recipes(path: Path) -> None:
    if path.stem == "runs":
        text = json.dumps(json.loads(pq.read_table(path)["recipe"][0].as_py()) | {"optimiser": "muon"})
        rewrite(path, lambda rows: rows[0].update(recipe=text))


VERSIONS = [as_schema_2, as_schema_99, with_another_column, with_another_metric, with_another_setting_of_recipes]


@pytest.mark.parametrize("write", VERSIONS)
@pytest.mark.parametrize("sealed", [True, False])
def test_what_another_version_wrote_stays_where_it_is(root, write, sealed):
    for directory in results.directories(root):
        for path in sorted(directory.glob("*.parquet")):
            write(path)
    for path in results.files(root, "cells"):
        hashes = {f"{name}_sha256": seals.sha256(path.with_name(f"{name}.parquet")) for name in ("predictions", "fits")}
        hashes["leakage_sha256"] = seals.sha256(path.with_name("leakage.parquet"))
        table = pq.read_table(path)
        for name, found in hashes.items():
            place = table.schema.get_field_index(name)
            table = table.set_column(place, name, pa.array([found] * len(table)))
        pq.write_table(table, path)
    for directory in results.directories(root):
        (directory / seals.FILE).unlink()
        if sealed:
            seals.write(directory)
    before = tree(root)
    assert repair(root) == {}
    assert tree(root) == before
    problems = verify(root).problems
    if write is as_schema_2:  # which this version reads
        assert problems == ()
        return
    assert any("check out the release that wrote it" in str(one) for one in problems)
    with pytest.raises(Refused, match="nothing was promoted"):
        promote(root, root.parent / "published", {})


def test_a_file_of_another_schema_stays_even_where_its_seal_is_not_this_version_s(root):
    path = results.files(root, "predictions")[0]
    as_schema_99(path)
    assert repair(root) == {}
    assert any("schema version 99" in one.stored for one in verify(root).problems)


def test_runs_of_another_engine_are_as_their_own_recipe_says(tmp_path):
    for made in (recipe("mae", 0, engine=1), recipe("mae", 0, engine=1, budget=0.0)):
        add_run(tmp_path / "store", made)
        add_cell(tmp_path / "store", made, "local")
    assert verify(tmp_path / "store").problems == ()
    assert repair(tmp_path / "store") == {}
    for path in results.files(tmp_path / "store", "runs"):  # as if that engine had drawn its twins in another way
        rewrite(path, lambda rows: rows[0].update(twin="0" * 12))
        (path.parent / seals.FILE).unlink()
    assert any(one.what == "twin of its recipe" for one in verify(tmp_path / "store").problems)
    assert repair(tmp_path / "store") == {}
    assert recipes.ENGINE != 1


@pytest.mark.parametrize(("relative", "rounding"), [(1e-15, None), (1e-11, True), (9e-10, True), (1e-8, False)])
def test_what_differs_by_rounding_is_named_and_no_problem(root, relative, rounding):
    path = results.files(root, "cells")[0]
    rewrite(path, lambda rows: rows[0].update(value=rows[0]["value"] * (1 + relative)))
    (path.parent / seals.FILE).unlink()
    report = verify(root)
    assert [one.file for one in report.rounded] == [path] * (rounding is True)
    assert [one.file for one in report.problems] == [path] * (rounding is False)
    assert ("auroc: stored" in str(report)) == (rounding is not None)
    assert ("differs by rounding" in str(report)) == (rounding is True)
    assert list(repair(root)) == [path.parent] * (rounding is False)


def test_a_metric_that_another_processor_sums_otherwise_is_no_damage_and_may_be_published(root, monkeypatch):
    from leaderboards.audit import directory

    exact = directory.fold_score
    monkeypatch.setattr(directory, "fold_score", lambda *given: exact(*given) * (1 + 3e-12))
    report = verify(root)
    assert report.problems == ()
    assert len(report.rounded) == report.metrics
    assert repair(root) == {}
    assert promote(root, root.parent / "published", {})


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def worse(path: Path) -> None:
    rewrite(path, lambda rows: rows[0].update({"cells": {"value": 0.5}, "predictions": {"label": 1}}[path.stem]))


DAMAGE = [
    ("cells/*/predictions.parquet", flip),
    ("cells/*/cells.parquet", worse),
    ("cells/*/fits.parquet", Path.unlink),
    ("cells/*/seal.json", cut),
    ("runs/*/encoder.safetensors", flip),
    ("runs/*/encoder.safetensors", Path.unlink),
    ("runs/*/runs.parquet", flip),
]


@pytest.mark.parametrize(("pattern", "damage"), DAMAGE, ids=[f"{p}-{d.__name__}" for p, d in DAMAGE])
def test_damage_is_set_aside_and_kept(root, pattern, damage):
    path = sorted((root / "ultrasound").glob(pattern))[0]
    damage(path)
    files = sorted(one.name for one in path.parent.iterdir())
    assert list(repair(root)) == [path.parent]
    (aside,) = (root / ASIDE).glob(f"*/ultrasound/*/{path.parent.name}")
    assert sorted(one.name for one in aside.iterdir()) == files
    assert repair(root) == {}


@pytest.mark.parametrize("table", ["cells", "predictions"])
def test_damage_is_found_without_a_seal_too(root, table):
    path = results.files(root, table)[0]
    worse(path)
    (path.parent / seals.FILE).unlink()
    assert list(repair(root)) == [path.parent]


def test_a_directory_whose_tables_are_all_gone_is_named_and_set_aside(root):
    row = {"modality": "ultrasound", "task": "local", "task_version": 1, "data": "d" * 12, "version": 1, "value": 0.5}
    row |= {"low": 0.4, "high": 0.6, "local": 0.7, "full": 0.9, "groups": 60, "samples": 180, "created": ""}
    place = root / "ultrasound" / "locality" / "one"
    results.write(place, {"locality": schema.table("locality", [row])})
    (place / "locality.parquet").unlink()
    assert [one.file for one in verify(root).problems] == [place / "locality.parquet"]
    assert list(repair(root)) == [place]


def test_a_stray_file_is_named_and_sets_nothing_aside(root):
    place = results.files(root, "cells")[0].parent
    (place / ".DS_Store").write_text("mine")
    assert [one.file for one in verify(root).problems] == [place / ".DS_Store"]
    assert repair(root) == {}


def test_what_holds_its_seal_is_not_damaged(root):
    """A number that does not follow, sealed with the rest: verify names it, promote refuses it, repair leaves it."""
    path = results.files(root, "cells")[0]
    rewrite(path, lambda rows: rows[0].update(value=np.nextafter(rows[0]["value"], 0) - 1e-3))
    reseal(path.parent)
    assert [one.what for one in verify(root).problems] == ["auroc"]
    assert repair(root) == {}
