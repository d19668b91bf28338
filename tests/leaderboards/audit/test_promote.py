"""From a local store to the published one, to tables for others, and to a comparison of two."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from benchmark.recipe import key, twin
from benchmark.storage import results, schema, seals
from leaderboards.__main__ import app
from leaderboards.audit.promote import Refused, promote
from leaderboards.audit.verify import verify
from leaderboards.export import two_encoders
from leaderboards.export.store_tables import list_numbers, write_tables
from leaderboards.pages import render, terminal
from leaderboards.publish import site
from tests.helpers.boards import add_cell, add_run, recipe, rewrite, store, tree


@pytest.fixture(scope="module")
def local(tmp_path_factory) -> Path:
    return store(tmp_path_factory.mktemp("local") / "store", seeds=(0, 1))


@pytest.fixture(scope="module")
def published(local, tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("published") / "published"
    promote(local, root, {})
    return root


def test_a_run_is_a_handful_of_small_files_and_verifies(local, published):
    made = recipe("mae", 0)
    weights = results.read(local, "runs").set_index("run").loc[key(made), "weights_sha256"]
    directory = published / "ultrasound" / "demo" / f"{key(made)}-{weights[:12]}"
    names = {path.name for path in directory.iterdir()}
    assert names == {f"{n}.parquet" for n in ("runs", "curves", "cells", "predictions", "fits", "leakage")} | {
        "seal.json"
    }
    report = verify(published)
    assert report.problems == ()
    assert (report.runs, report.cells, report.metrics, report.unsealed) == (8, 32, 64, 0)
    assert len({path.parent for path in published.rglob("runs.parquet")}) == 8


def test_readers_take_both_forms_and_say_the_same(local, published):
    (here,), (there,) = site.load_boards(local), site.load_boards(published)
    assert render.markdown(here) == render.markdown(there)
    pd.testing.assert_frame_equal(
        list_numbers(local).drop(columns=HASHES), list_numbers(published).drop(columns=HASHES)
    )


HASHES = ["predictions_sha256", "fits_sha256", "leakage_sha256"]


def test_promoting_again_changes_nothing_and_later_cells_come_beside(local, tmp_path):
    here = Path(shutil.copytree(local, tmp_path / "store"))
    root = tmp_path / "published"
    assert len(promote(here, root, {"pretext": "mae"})) == 4
    before = tree(root)
    assert promote(here, root, {"pretext": "mae"}) == []
    for seed in (0, 1):
        for one in (recipe("mae", seed), twin(recipe("mae", seed))):
            add_cell(here, one, "later")
    assert len(promote(here, root, {"pretext": "mae"})) == 4
    after = tree(root)
    assert {name: after[name] for name in before} == before
    assert sum(".2/" in name for name in after) == 4 * 5
    report = verify(root)
    assert report.problems == ()
    assert report.cells == 20


def test_a_digit_changed_in_a_published_file_is_found_and_named(published, tmp_path):
    root = Path(shutil.copytree(published, tmp_path / "published"))
    path = results.files(root, "predictions")[0]
    rewrite(path, lambda rows: rows[5].update(scores=[0.0, 1.0]))
    found = {(one.file, one.what) for one in verify(root).problems}
    assert (path, "column scores under its seal") in found
    assert (path.with_name("cells.parquet"), "auroc") in found
    moved = path.parent.rename(path.parent.with_name("0" * 12 + "-" + "0" * 12))
    assert any(
        one.what == "run and weights in the folder's name" for one in verify(root).problems if one.file.parent == moved
    )


def test_what_is_whole_is_promoted_beside_what_is_still_computing(local, tmp_path):
    here, root = Path(shutil.copytree(local, tmp_path / "store")), tmp_path / "published"
    for one in (recipe("mae", 7), twin(recipe("mae", 7))):
        add_run(here, one)
    add_cell(here, recipe("mae", 7), "later")  # the twin's is not there yet
    assert promote(here, root, {"pretext": "ijepa"})
    assert verify(root).problems == ()
    before = tree(root)
    for wanted in ({"pretext": "mae"}, {}):
        with pytest.raises(Refused, match=r"twin's later, linear, patches: .*(\n.*)*nothing was promoted"):
            promote(here, root, wanted)
    assert tree(root) == before


def test_what_does_not_verify_or_is_not_committed_or_is_too_large_is_refused(local, tmp_path, monkeypatch):
    here, root = Path(shutil.copytree(local, tmp_path / "store")), tmp_path / "published"
    with pytest.raises(Refused, match=r"no run with {'track': 'smoke'}; stored tracks: \['demo'\]"):
        promote(here, root, {"track": "smoke"})
    monkeypatch.setattr("leaderboards.audit.directory.PACKED_BYTES", 10_000)
    with pytest.raises(Refused, match="recomputed at most 10,000 bytes"):
        promote(here, root, {})
    assert not [path for path in root.rglob("*") if path.is_file()]
    monkeypatch.undo()
    rewrite(results.files(here, "cells")[0], lambda rows: rows[0].update(value=0.5))
    with pytest.raises(Refused, match="nothing was promoted"):
        promote(here, root, {})
    dirty = tmp_path / "dirty"
    made = recipe("mae", 0)
    for one in (made, twin(made)):
        add_run(dirty, one)
    for path in dirty.rglob("runs.parquet"):
        rewrite(path, lambda rows: rows[0].update(dirty=True))
        (path.parent / seals.FILE).unlink()
    with pytest.raises(Refused, match="2 runs were made from code with local changes"):
        promote(dirty, root, {})
    assert not root.exists() or not [path for path in root.rglob("*") if path.is_file()]


def test_exports_hold_every_number_with_its_interval(local, tmp_path):
    before = tree(local)
    written = write_tables(local, tmp_path / "out", ("csv", "parquet", "latex"), site.load_boards)
    assert [path.name for path in written] == ["numbers.csv", "numbers.parquet", "ultrasound-phantom-demo.tex"]
    table, text = pd.read_parquet(written[1]), pd.read_csv(written[0])
    assert len(table) == len(text) == len(results.read(local, "cells"))
    assert np.array_equal(table["value"], text["value"])
    judged = table[table["metric"] == "auroc"]
    assert (judged["low"] < judged["value"]).all()
    assert (judged["value"] < judged["high"]).all()
    assert table.loc[~table["headline"] & table["metric"].ne("auroc"), "low"].isna().all()
    tex = written[2].read_text()
    board = site.load_boards(local)[0]
    best = board.sections[0].rows[0]
    assert f"${best.entries[0].score.value:.3f}$" in tex
    assert "Simulated images." in tex
    assert tex.count(r"\\") == 2 + 2 * len(board.sections[0].rows)
    assert tree(local) == before
    with pytest.raises(ValueError, match="unknown format 'xlsx'; known: csv, parquet, latex"):
        write_tables(local, tmp_path / "out", ("xlsx",), site.load_boards)


def test_an_exported_interval_is_that_of_the_board(tmp_path):
    """Whatever other tasks share its patients."""
    root = store(tmp_path / "store", seeds=(0,))
    exported = list_numbers(root).query("metric == 'auroc' and probe == 'linear' and readout == 'patches'")
    exported = {(row.run, row.task): (row.value, row.low, row.high) for row in exported.itertuples()}
    (board,) = site.load_boards(root)
    shown = {
        (row.runs[0], column.task): (entry.score.value, entry.score.low, entry.score.high)
        for row in board.sections[0].rows
        for column, entry in zip(board.columns, row.entries, strict=True)
    }
    assert len(shown) == 6  # two pretexts and their twin, shown once
    assert shown == {place: exported[place] for place in shown}


def test_two_pretexts_are_compared_as_the_board_compares_them(local):
    lines = {line.task: line for line in two_encoders.compare(local, "mae", "ijepa").lines}
    assert list(lines) == ["local", "global", "mean over 2 tasks"]
    cells = results.read(local, "cells").query(
        "metric == 'auroc' and probe == 'linear' and not twin and task == 'local'"
    )
    mean = cells.groupby("pretext")["value"].mean()
    line, found = lines["local"], lines["local"].difference.estimate
    assert line.a == pytest.approx(mean["mae"])
    assert found.value == pytest.approx(mean["mae"] - mean["ijepa"])
    assert (found.seeds, found.groups) == (2, 60)
    assert found.low < found.value < found.high
    (same,) = {line.difference.estimate.value for line in two_encoders.compare(local, "mae", "mae").lines}
    assert same == 0
    gain = two_encoders.compare(local, "mae", "mae:twin").lines[0].difference
    assert gain.estimate == site.load_boards(local)[0].sections[0].rows[0].entries[0].gain


def test_two_runs_are_compared_by_their_ids(local):
    a, b = key(recipe("mae", 0)), key(recipe("mae", 1))
    line = two_encoders.compare(local, a[:8], b[:8]).lines[1]
    assert line.difference.estimate.seeds == 1
    assert line.a != line.b
    with pytest.raises(schema.SchemaError, match="no run or pretext 'dino' is stored; pretexts: ijepa, mae"):
        two_encoders.compare(local, "mae", "dino")


def test_command_line(local, tmp_path):
    run = CliRunner().invoke
    root = ["--results", str(local)]
    said = run(app, ["compare", "mae", "ijepa", *root]).stdout
    assert "I-JEPA is ahead" in said or "MAE is ahead" in said
    assert "As on the board of" in said
    assert run(app, ["compare", "mae", "nothing", *root]).exit_code == 2
    promoted = run(app, ["promote", *root, "--published", str(tmp_path / "p"), "--pretext", "ijepa"])
    assert "4 directories written; commit them" in promoted.stdout
    assert run(app, ["verify", "--results", str(tmp_path / "p")]).exit_code == 0
    again = run(app, ["promote", *root, "--published", str(tmp_path / "p"), "--pretext", "ijepa"])
    assert "all of it is published already" in again.stdout
    wrong = run(app, ["promote", *root, "--published", str(tmp_path / "p"), "--track", "none"])
    assert wrong.exit_code == 2
    assert len(wrong.stderr.splitlines()) == 1
    assert run(app, ["export", *root, "--out", str(tmp_path / "e"), "--format", "csv"]).exit_code == 0


def test_locality_and_maps_of_what_is_promoted_go_with_it(local, tmp_path):
    here = Path(shutil.copytree(local, tmp_path / "store"))
    cells = results.read(here, "cells").iloc[0]
    about = {name: cells[name] for name in ("modality", "task", "task_version", "data")} | {"version": 1}
    about["created"] = "2026-11-01T00:00:00+00:00"
    place = here / cells["modality"]
    row = about | {"value": 0.5, "low": 0.4, "high": 0.6, "local": 0.7, "full": 0.9, "groups": 60, "samples": 180}
    for name, data in (("one", about["data"]), ("other", "f" * 12)):
        results.write(place / "locality" / name, {"locality": schema.table("locality", [row | {"data": data}])})
    seen = {"sample": "a", "group": "a", "kind": "attention", "control": "", "score": "AUPRC", "value": 0.5}
    (tmp_path / "sheet.png").write_bytes(b"PNG")
    for name, weights in (("one", cells["weights_sha256"]), ("other", "e" * 64)):
        row = about | seen | {"run": cells["run"], "weights_sha256": weights, "public": True}
        pictures = {"sheet.png": tmp_path / "sheet.png"}
        results.write(place / "maps" / name, {"maps": schema.table("maps", [row])}, files=pictures)
    root = tmp_path / "published"
    promote(here, root, {})
    found = {str(path.parent.relative_to(root / cells["modality"])) for path in root.rglob("seal.json")}
    assert {one for one in found if one.startswith(("locality", "maps"))} == {"locality/one", "maps/one"}
    assert (root / cells["modality"] / "maps" / "one" / "sheet.png").read_bytes() == b"PNG"
    assert verify(root).problems == ()
    assert promote(here, root, {}) == []


def test_what_a_dataset_shares_with_others_goes_with_its_runs(local, tmp_path):
    here = Path(shutil.copytree(local, tmp_path / "store"))
    cell = results.read(here, "cells").iloc[0]
    row = {"corpus_digest": "", "between": "another and this set", "kind": "near", "count": 2, "examples": "[]"}
    for name, data in (("known", cell["data"]), ("gone", "of no cell")):
        table = schema.table("leakage", [row | {"task": cell["task"], "data": data}])
        results.write(here / cell["modality"] / "passports" / f"{name}-beside-0a0a0a", {"leakage": table})
    promote(here, tmp_path / "published", {})
    shared = [path.parent.name for path in (tmp_path / "published").rglob("passports/*/leakage.parquet")]
    assert shared == ["known-beside-0a0a0a"]
    assert verify(tmp_path / "published").problems == ()


@pytest.mark.parametrize(
    ("here", "released", "said"),
    [
        (144.0, 286.0, "reduced pixels: short side 144, released 286"),
        (286.0, 286.0, "images of 286 pixels (short side), as released"),
        (160.0, None, "images of 160 pixels (short side); the size of their release is not stated"),
    ],
)
def test_boards_say_how_large_the_images_were(local, tmp_path, here, released, said):
    folder = Path(shutil.copytree(local, tmp_path / "store"))
    cell = results.read(folder, "cells").iloc[0]
    row = {"modality": cell["modality"], "task": cell["task"], "data": cell["data"], "images": 60, "created": ""}
    table = schema.table("pixels", [row | {"low": 8, "median": here, "high": 900, "released": released}])
    results.write(folder / cell["modality"] / "passports" / f"{cell['task']}-{cell['data']}-pixels", {"pixels": table})
    promote(folder, tmp_path / "published", {})
    (board,) = site.load_boards(tmp_path / "published")
    told = {column.task: column.pixels for column in board.columns}
    assert told.pop(cell["task"]) == said
    assert set(told.values()) <= {""}
    assert said in render.markdown(board)
    assert f"{cell['task']}: {said}" in terminal.format_board(board).replace("\n", " ")
