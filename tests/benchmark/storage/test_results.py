"""The store: round trip, whole or absent, and the refusal of a foreign schema."""

import hashlib

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmark.storage import results, schema, seals
from leaderboards.audit.repair import repair
from tests.helpers.permissions import barred


def trial(**changes: object) -> dict[str, object]:
    blank = dict.fromkeys(schema.TABLES["trials"].names)
    return blank | {"pretext": "mae", "settings": "{}", "budget_flops": 1.0, "task": "t", "score": 0.5} | changes


def test_round_trip(tmp_path):
    rows = schema.table("trials", [trial(), trial(score=0.75)])
    assert results.write(tmp_path / "a", {"trials": rows})
    assert results.read(tmp_path, "trials").score.tolist() == [0.5, 0.75]
    assert results.read(tmp_path / "nothing", "trials").empty


def test_the_first_rename_wins(tmp_path):
    assert results.write(tmp_path / "a", {"trials": schema.table("trials", [trial()])})
    assert not results.write(tmp_path / "a", {"trials": schema.table("trials", [trial(score=0.1)])})
    assert results.read(tmp_path, "trials").score.tolist() == [0.5]


def test_a_failed_write_leaves_nothing(tmp_path):
    with pytest.raises(OSError, match="missing"):
        results.write(tmp_path / "a", {"trials": schema.table("trials", [trial()])}, files={"x": tmp_path / "missing"})
    assert list(tmp_path.iterdir()) == []


def test_columns_are_checked():
    with pytest.raises(ValueError, match=r"trials: columns differ from the schema: \['extra'\]"):
        schema.table("trials", [trial(extra=1)])


def test_a_foreign_schema_is_refused_with_a_remedy(tmp_path):
    (tmp_path / "a").mkdir()
    foreign = schema.TABLES["trials"].with_metadata({"pretext_bench_schema": "99"})
    pq.write_table(pa.Table.from_pylist([trial()], schema=foreign), tmp_path / "a" / "trials.parquet")
    with pytest.raises(schema.SchemaError, match=r"trials\.parquet: schema version 99, .* reads 2 and 3; check out"):
        results.read(tmp_path, "trials")


def test_a_broken_file_is_named(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "trials.parquet").write_bytes(b"no parquet")
    with pytest.raises(schema.SchemaError, match=r"a/trials\.parquet: not a readable Parquet file"):
        results.read(tmp_path, "trials")


def test_a_cell_is_sealed_with_the_hashes_of_its_siblings(tmp_path):
    fits = schema.table("fits", [])
    cell = {name: None for name in schema.TABLES["cells"].names if not name.endswith("_sha256")}
    cell |= {"cell": "c", "weights_sha256": "w", "predictions_sha256": "p", "leakage_sha256": "l"}
    results.write(tmp_path / "c", {"fits": fits}, [cell])
    stored = results.read(tmp_path, "cells").iloc[0]
    assert stored.fits_sha256 == seals.sha256(tmp_path / "c" / "fits.parquet")


def test_columns_are_sealed_by_their_whole_content_however_many_rows_are_held_at_a_time(monkeypatch):
    columns = [
        [],
        [None],
        [1, 2, 3, 4],
        [0.5, None, float("nan"), 1e-300, -0.0],
        [[0.1, 0.9]] * 7,
        ["a, b", "c'd", "é"],
    ]
    for rows in (1, 2, 3, 1000):
        monkeypatch.setattr(seals, "ROWS", rows)
        for column in columns:
            whole = hashlib.sha256(repr(column).encode()).hexdigest()
            assert seals.hash_column(pa.chunked_array([column], pa.array(column).type)) == whole


def test_unfinished_directories_are_not_read(tmp_path):
    results.write(tmp_path / ".a.part", {"trials": schema.table("trials", [trial()])})
    assert results.read(tmp_path, "trials").empty


def test_links_are_followed_once_and_never_in_circles(tmp_path):
    store, elsewhere = tmp_path / "store", tmp_path / "elsewhere"
    results.write(store / "histo" / "trials" / "a", {"trials": schema.table("trials", [trial()])})
    results.write(elsewhere / "trials" / "b", {"trials": schema.table("trials", [trial()])})
    (store / "ultrasound").symlink_to(elsewhere)
    (elsewhere / "back").symlink_to(store)
    (store / "again").symlink_to(store / "histo")
    assert [str(path.relative_to(store)) for path in results.files(store, "trials")] == [
        "histo/trials/a/trials.parquet",
        "ultrasound/trials/b/trials.parquet",
    ]
    assert len(results.read(store, "trials")) == 2
    (store / "linked").symlink_to(store)
    assert len(results.read(store / "linked", "trials")) == 2


def test_repair_finds_damage_behind_a_link(tmp_path):
    store, elsewhere = tmp_path / "store", tmp_path / "elsewhere"
    for name in ("sound", "damaged"):
        results.write(elsewhere / "trials" / name, {"trials": schema.table("trials", [trial()])})
    (elsewhere / "trials" / "damaged" / seals.FILE).write_text("{")
    store.mkdir()
    (store / "histo").symlink_to(elsewhere)
    assert list(repair(store)) == [store / "histo" / "trials" / "damaged"]
    assert [path.name for path in (elsewhere / "trials").iterdir()] == ["sound"]


def test_a_directory_that_may_not_be_entered_is_an_error_and_not_an_empty_store(tmp_path):
    results.write(tmp_path / "histo" / "trials" / "a", {"trials": schema.table("trials", [trial()])})
    with barred(tmp_path / "histo"), pytest.raises(schema.SchemaError, match=r"histo: .*cannot be entered \(Perm"):
        results.files(tmp_path, "trials")
    assert results.files(tmp_path / "nowhere", "trials") == []


def test_cells_of_schema_2_are_read_as_of_schema_3(tmp_path):
    """What was published before stays readable: of real images it did not say whether their groups are patients."""
    new = schema.TABLES["cells"]
    old = pa.schema(
        [field for field in new if field.name not in ("family", "independent")], {"pretext_bench_schema": "2"}
    )
    rows = [
        dict.fromkeys(old.names) | {"task": "phantom_local", "synthetic": True, "leakage": "pass"},
        dict.fromkeys(old.names) | {"task": "busi", "synthetic": False, "leakage": "pass"},
        dict.fromkeys(old.names) | {"task": "busi", "synthetic": False, "leakage": "warn"},
    ]
    pq.write_table(pa.Table.from_pylist(rows, schema=old), tmp_path / "cells.parquet")
    read = results.read_file(tmp_path / "cells.parquet")
    assert read.schema.equals(new)
    assert read.select(["family", "independent", "leakage"]).to_pylist() == [
        {"family": "phantom", "independent": True, "leakage": "pass"},
        {"family": "busi", "independent": False, "leakage": "unknown"},
        {"family": "busi", "independent": False, "leakage": "warn"},
    ]
