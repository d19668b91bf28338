"""`verify` of pages: a changed digit in any file of a site is found and named; what was recomputed is counted."""

import csv
import io
import json
import re
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from benchmark.storage.results import read
from leaderboards.__main__ import app
from leaderboards.boards import aggregate
from leaderboards.publish import printed, site
from tests.helpers.boards import add_cell, localities, recipe, rewrite, store, tree

TASKS = ("phantom_relation_near", "phantom_relation_middle", "phantom_relation_far")
BOARD = "ultrasound-phantom-demo"


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> Path:
    """Two pretexts of which a claim tells, on three tasks of measured locality."""
    root = store(
        tmp_path_factory.mktemp("printed") / "store", pretexts=("ijepa", "dinov3"), seeds=(0, 1), tasks=TASKS[::2]
    )
    for pretext in ("ijepa", "dinov3"):
        for seed in (0, 1):
            for budget in (1e13, 0.0):
                add_cell(root, recipe(pretext, seed, budget=budget), TASKS[1], shift=0.6 + 0.3 * (budget > 0))
    localities(root, dict(zip(TASKS, (0.4, 0.9, 0.1), strict=True)))
    return root


@pytest.fixture(scope="module")
def built(results, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("built") / "site"
    site.build(results, out, {"ultrasound": {"busi": "no data"}})
    return out


@pytest.fixture
def pages(built, tmp_path) -> Path:
    return Path(shutil.copytree(built, tmp_path / "site"))


def test_pages_as_they_were_built_are_as_printed_and_the_report_says_what_was_recomputed(results, built):
    before = tree(built)
    report = printed.check(results, built)
    assert report.misprints == ()
    assert tree(built) == before
    board = aggregate.boards(results)[0]
    rows = [row for row in board.sections[0].rows if not row.twin]
    pairs = [*board.comparison.pretexts, *board.comparison.twins]
    assert report.numbers["scores"] == 3 * len(board.sections[0].rows)
    assert report.numbers["gains"] == 4 * len(rows)  # three tasks and the mean over them
    assert report.numbers["contrasts"] == 4 * len(pairs)
    assert report.numbers["adjusted p-values"] == sum(d.p is not None for c in pairs for d in (c.mean, *c.entries))
    assert report.numbers["letters"] == sum(bool(row.letters) for row in rows)
    assert report.numbers["slopes"] == 1  # of DINOv3 - I-JEPA, in gain, within relation's distances
    assert report.numbers["claims"] == len(board.claims)
    assert report.numbers["differences of two runs"] == 3 * (4 * 3 / 2 + 4)  # of runs, and of each and its twin
    said = str(report)
    for kind, count in report.files.items():
        assert f"{count} {kind}" in said
    assert "printed as stored, not recomputed: measured locality, scores of trials, of maps" in said


def digit(text: str) -> str:
    """The text with its last digit changed."""
    at = max(place for place, character in enumerate(text) if character.isdigit())
    return text[:at] + str((int(text[at]) + 1) % 10) + text[at + 1 :]


def cells(path: Path) -> list[list[str]]:
    return list(csv.reader(io.StringIO(path.read_text(encoding="utf-8"))))


NUMBERS = {
    f"{BOARD}.csv": ("gain", "gain_low", "gain_high", "gain_p", "score", "score_low", "score_high", "groups", "flops"),
    f"{BOARD}-contrasts.csv": ("difference", "low", "high", "p", "seeds", "groups"),
    f"{BOARD}-claims.csv": ("value", "low", "high"),
    f"{BOARD}-figures.csv": ("value", "low", "high"),
    "index.csv": ("locality", "value", "low", "high"),
}


def test_a_changed_digit_of_any_column_of_a_table_is_named_with_its_row_and_column(results, pages):
    """One digit of each column of numbers, the last printed one."""
    changed = {}
    for name, columns in NUMBERS.items():
        heads, *rows = cells(pages / name)
        for column in columns:
            at = heads.index(column)
            place = next(place for place, row in enumerate(rows) if any(x.isdigit() for x in row[at]))
            changed[pages / name, place + 1, column] = (digit(rows[place][at]), rows[place][at])
            rows[place][at] = digit(rows[place][at])
        with (pages / name).open("w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows([heads, *rows])
    found = {}
    for one in printed.check(results, pages).misprints:
        row, words, column = re.fullmatch(r"row (\d+) \((.*)\), column (.*)", one.where).groups()
        assert words
        found[one.file, int(row), column] = (one.printed, one.recomputed)
    assert found == changed


def test_a_changed_verdict_and_letter_are_named(results, pages):
    path = pages / f"{BOARD}.csv"
    path.write_text(path.read_text().replace("above twin,,A", "below twin,,B", 1))
    found = {
        one.where.rpartition(" ")[2]: (one.printed, one.recomputed) for one in printed.check(results, pages).misprints
    }
    assert found == {"verdict": ("below twin", "above twin"), "tie_group": ("B", "A")}


def test_a_changed_number_of_the_parquet_table_is_named(results, pages):
    path = pages / f"{BOARD}.parquet"
    rewrite(path, lambda rows: None)  # the same rows, however they are encoded, say the same
    assert printed.check(results, pages).misprints == ()
    rewrite(path, lambda rows: rows[2].update(score=rows[2]["score"] + 1e-9))
    (found,) = printed.check(results, pages).misprints
    assert (found.file, found.where.rpartition(" ")[2]) == (path, "score")
    assert pq.read_table(path)["score"][2].as_py() == float(found.printed)


def test_a_changed_number_of_the_compare_page_is_named_with_its_runs(results, pages):
    path = pages / "compare-data.js"
    head, _, text = path.read_text().partition("=")
    data = json.loads(text.strip().removesuffix(";"))
    name = next(iter(data["pairs"]))
    data["pairs"][name][0][0] += 0.0001
    path.write_text(f"{head}= {json.dumps(data, separators=(',', ':'))};\n")
    (found,) = printed.check(results, pages).misprints
    assert (found.file, found.where) == (path, f"pairs / {name} / 0 / 0")


def test_a_changed_digit_of_a_page_is_named_with_its_line(results, pages):
    changed = {}
    for name in (
        "index.html",
        f"{BOARD}.html",
        f"{BOARD}.md",
        f"{BOARD}.tex",
        "tasks/ultrasound-phantom-relation-near.html",
    ):
        text = (pages / name).read_text()
        was = re.search(r"[+−-]?0\.\d{3}", text)
        (pages / name).write_text(text[: was.start()] + digit(was[0]) + text[was.end() :])
        changed[pages / name] = (f"line {text[: was.start()].count(chr(10)) + 1}", was[0])
    found = printed.check(results, pages).misprints
    assert sorted(one.file for one in found) == sorted(changed)
    for one in found:
        where, was = changed[one.file]
        assert one.where == where
        assert digit(was) in one.printed
        assert was in one.recomputed


def test_a_lost_file_a_lost_figure_and_a_page_of_another_store_are_named(results, pages):
    lost, drawing, other = pages / "methods.html", pages / "figures" / "answer.svg", pages / "runs" / "other.html"
    lost.unlink()
    drawing.unlink()
    other.write_text("x")
    manifest = pages / site.MANIFEST
    manifest.write_text(json.dumps([*json.loads(manifest.read_text()), "runs/other.html"]))
    found = {(one.file, one.printed) for one in printed.check(results, pages).misprints}
    assert found == {(lost, "missing"), (drawing, "missing"), (other, "there")}


def test_a_damaged_table_is_a_difference_and_no_crash(results, pages):
    (pages / f"{BOARD}.parquet").write_bytes(b"no parquet")
    (pages / f"{BOARD}.csv").write_bytes(b"\xff\x00")
    (pages / "compare-data.js").write_text("nothing")
    files = {one.file.name for one in printed.check(results, pages).misprints}
    assert files == {f"{BOARD}.parquet", f"{BOARD}.csv", "compare-data.js"}


def test_a_store_that_changed_makes_the_pages_differ(results, pages, tmp_path):
    root = Path(shutil.copytree(results, tmp_path / "store"))
    cells = read(root, "cells").query("task == 'phantom_relation_near' and probe == 'linear' and not twin")
    path = root / "ultrasound" / "cells" / cells["cell"].iloc[0] / "predictions.parquet"
    rewrite(path, lambda rows: [row.update(scores=row["scores"][::-1]) for row in rows])
    columns = {one.where.rpartition(" ")[2] for one in printed.check(root, pages).misprints}
    assert {"score", "score_low"} <= columns


def test_the_command_compares_pages_and_ends_with_1_where_one_differs(results, pages):
    command = ["verify", "--results", str(results), "--site", str(pages)]
    run = CliRunner().invoke(app, command)
    assert run.exit_code == 0, run.output
    assert "1 boards of" in run.output
    assert "as printed" in run.output
    path = pages / f"{BOARD}.md"
    path.write_text(path.read_text().replace("0.", "1.", 1))
    run = CliRunner().invoke(app, command)
    assert run.exit_code == 1
    assert f"{path}: line" in run.output
    assert "`make site` writes the site again" in run.output


def test_the_published_store_is_compared_with_the_published_site(results, built, tmp_path, monkeypatch):
    shutil.copytree(results, tmp_path / "results" / "published")
    pages = Path(shutil.copytree(built, tmp_path / "leaderboards" / "site"))
    monkeypatch.chdir(tmp_path)
    run = CliRunner().invoke(app, ["verify"])
    assert run.exit_code == 0, run.output
    assert "results/local: nothing stored" in run.output
    assert "leaderboards/site: 1 boards of results/published; recomputed from predictions: " in run.output
    for name in ("contrasts", "claims"):
        path = pages / f"{BOARD}-{name}.csv"
        path.write_text(digit(path.read_text()))
    run = CliRunner().invoke(app, ["verify", "--results", str(tmp_path / "results" / "published")])
    assert run.exit_code == 1, run.output
    assert "2 differences" in run.output
    assert "not compared" not in run.output
    assert "of results/local" not in run.output


def test_pages_of_a_store_that_cannot_be_read_are_said_not_to_be_compared(results, pages, tmp_path):
    root = Path(shutil.copytree(results, tmp_path / "store"))
    next(root.rglob("predictions.parquet")).write_bytes(b"")
    run = CliRunner().invoke(app, ["verify", "--results", str(root), "--site", str(pages)])
    assert run.exit_code == 1
    assert "not compared, as the store cannot be read" in run.output
