"""Boards from a small hand-made store: expected values, escaping, verification, and readers that never write."""

import hashlib
import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import roc_auc_score
from typer.testing import CliRunner

from benchmark.metrics import fold_score
from benchmark.recipe import Cell, Corpus, EncoderSpec, Recipe, canonical, key, twin
from benchmark.storage import results, schema, seals
from leaderboards.__main__ import app
from leaderboards.audit.verify import verify
from leaderboards.pages import render, terminal
from leaderboards.publish import site

TASKS = {"local": ("Calcification", 0.9), "global": ("Steatosis", 0.1)}  # name -> title, separation learned
SPEC = EncoderSpec(width=96, depth=4, heads=3, patch=12, pixels=96)


def recipe(pretext: str, seed: int, **changes) -> Recipe:
    corpus = Corpus(name="phantom", members=(("phantom_local", 1),), digest="c0ffee123456", images=640)
    base = Recipe(
        modality="ultrasound",
        track="demo",
        corpus=corpus,
        pretext=pretext,
        pretext_version=1,
        settings=SimpleNamespace(ratio=0.75, optim={"batch": 32, "lr": 0.001}),
        encoder=SPEC,
        stored_pixels=112,
        policy="pad",
        budget=1e13,
        precision="fp32",
        seed=seed,
    )
    return replace(base, **changes)


def add_run(root: Path, made: Recipe, status: str = "finished") -> str:
    """Store the pretraining of a recipe; the SHA-256 of its weights."""
    run, directory = key(made), root / made.modality / "runs" / key(made)
    steps = 0 if made.budget == 0 else 400
    weights = root.parent / f"{run}.safetensors"
    weights.parent.mkdir(parents=True, exist_ok=True)
    weights.write_bytes(f"{made.seed}{steps and run}".encode())  # twins of one seed share their weights
    row = {
        "run": run,
        "recipe": canonical(made),
        "modality": made.modality,
        "corpus": made.corpus.name,
        "corpus_digest": made.corpus.digest,
        "corpus_images": made.corpus.images,
        "synthetic": made.corpus.name == "phantom",
        "track": made.track,
        "pretext": made.pretext,
        "pretext_version": made.pretext_version,
        "seed": made.seed,
        "twin": key(twin(made)),
        "engine": made.engine,
        "budget_flops": made.budget,
        "expected_flops": made.budget * 0.99,
        "realised_flops": made.budget * 0.98,
        "steps": steps,
        "images_seen": steps * 32,
        "seconds": steps * 0.25,
        "peak_memory_bytes": None,
        "energy_joules": None,
        "status": status,
        "weights_sha256": seals.sha256(weights),
        "commit": "0123abc",
        "dirty": False,
        "versions": json.dumps({"python": "3.12.1", "torch": "2.11.0"}),
        "device": "cpu",
        "threads": 2,
        "processes": 1,
        "compiled": False,
        "micro": None,
        "created": "2026-11-01T00:00:00+00:00",
    }
    curves = [
        {"run": run, "step": step, "progress": step / 400, "name": name, "value": value}
        for step in range(0, steps, 20)
        for name, value in (("loss", 2 / (1 + step)), ("health/rankme", 10 + step / 10))
    ]
    tables = {"runs": schema.table("runs", [row]), "curves": schema.table("curves", curves)}
    results.write(directory, tables, files={"encoder.safetensors": weights})
    return row["weights_sha256"]


def images(task: str, groups: int) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Groups, labels and noise of a task's test images, three per group: alike for all runs."""
    rng = np.random.default_rng(int.from_bytes(hashlib.sha256(task.encode()).digest()[:4], "big"))
    names = [f"p{g:03d}" for g in range(groups) for _ in range(3)]
    label = np.repeat(rng.permutation(np.arange(groups) % 2), 3)
    return names, label, rng.normal(size=(groups, 1)).repeat(3, 1).reshape(-1) + rng.normal(size=3 * groups)


def add_cell(root: Path, made: Recipe, task: str, *, groups: int = 60, shift: float = 0.6, probe="linear", **changes):
    """Store a cell in which the labels are separated by `shift`."""
    names, label, noise = images(task, groups)
    if changes.pop("one_class", False):
        label = np.ones_like(label)
    jitter = np.random.default_rng(made.seed).normal(size=len(label)) * 0.1
    risk = 1 / (1 + np.exp(-(shift * label + noise + jitter)))
    scores, areas = np.stack([1 - risk, risk], axis=1), changes.pop("areas", None)
    scores = scores if areas is None else areas
    settings, version = {"folds": 1}, changes.pop("task_version", 1)
    readout, data = changes.pop("readout", "patches"), "d" * 12
    identity = {"task": task, "task_version": version, "data": data, "probe": probe, "probe_version": 1}
    cell = key(Cell(recipe=made, settings=settings, readout=readout, **identity))
    zeros = np.zeros(len(label), dtype=int)
    predictions = [
        {
            "cell": cell,
            "sample": f"{name}/{place % 3}",
            "group": name,
            "label": int(label[place]),
            "scores": scores[place].tolist(),
            "repeat": 0,
            "fold": 0,
            "readout": readout,
            "split_variant": "cut",
            "fraction": 1.0,
            "shots": None,
            "draw": 0,
            "corruption": "",
            "strength": 0,
        }
        for place, name in enumerate(names)
    ]
    fits = [{"cell": cell, "repeat": 0, "fold": 0, "settings": "{}", "metric": "auroc", "score": 0.9, "selected": True}]
    tables = {
        "predictions": schema.table("predictions", predictions),
        "fits": schema.table("fits", fits),
        "leakage": schema.table("leakage", []),
    }
    row = {
        "cell": cell,
        "run": key(made),
        "modality": made.modality,
        "corpus": made.corpus.name,
        "corpus_digest": made.corpus.digest,
        "track": made.track,
        "pretext": made.pretext,
        "seed": made.seed,
        "twin": made.budget == 0,
        **identity,
        "task_title": TASKS.get(task, (task, 0))[0],
        "data_images": 422,
        "data_expected": 422,
        "synthetic": True,
        "classes": ["without", "with"],
        "settings": json.dumps(settings),
        "readout": readout,
        "groups": groups,
        "group_kind": "simulated patient",
        "family": "phantom",
        "independent": True,
        "samples": 3 * groups,
        "protocol": "cut",
        "leakage": "pass",
        "weights_sha256": seals.sha256(root / made.modality / "runs" / key(made) / "encoder.safetensors"),
        "created": "2026-11-01T00:00:00+00:00",
    } | changes
    metrics = [
        row | {"metric": name, "value": fold_score(name, label, scores, zeros, zeros), "headline": place == 0}
        for place, name in enumerate(("auroc", "balanced_accuracy") if areas is None else ("dice", "iou"))
    ]
    results.write(results.cell_directory(root, made.modality, cell), tables, metrics)


def store(root: Path, pretexts=("mae", "ijepa"), seeds=(0, 1), tasks=tuple(TASKS), groups: int = 60) -> Path:
    """A complete store: MAE learns the first task and not the second; every other pretext learns nothing."""
    for pretext in pretexts:
        for seed in seeds:
            made = recipe(pretext, seed)
            for one in (made, twin(made)):
                add_run(root, one)
                for task in tasks:
                    learned = TASKS.get(task, (task, 0.0))[1] if pretext == "mae" and one.budget else 0.0
                    add_cell(root, one, task, groups=groups, shift=0.6 + learned)
                    add_cell(root, one, task, groups=groups, shift=0.3 + learned, probe="knn")
    return root


@pytest.fixture(scope="module")
def complete(tmp_path_factory) -> Path:
    """One complete store for the tests that only read."""
    return store(tmp_path_factory.mktemp("complete") / "store")


def rewrite(path: Path, change) -> None:
    """Change the rows of a stored file behind the code's back."""
    table = pq.read_table(path)
    rows = table.to_pylist()
    change(rows)
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), path)


def tree(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def numbers(text: str) -> set[str]:
    return set(re.findall(r"[−+]?\d[\d,.]*(?:e\d+)?", text))


class Words(HTMLParser):
    """The visible text of a page, and its tags."""

    def __init__(self, page: str):
        super().__init__()
        self.text, self.tags, self.hidden = [], [], ""
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.hidden = self.hidden or (tag if tag in ("title", "svg") else "")  # the marks of an axis are a picture's

    def handle_endtag(self, tag):
        self.hidden = "" if tag == self.hidden else self.hidden

    def handle_data(self, data):
        self.text += [] if self.hidden else [data]


def test_expected_values_gains_and_verdicts(complete):
    (board,) = site.load_boards(complete)
    assert (board.modality, board.corpus, board.track, board.synthetic) == ("ultrasound", "phantom", "demo", True)
    assert [column.title for column in board.columns] == ["Calcification", "Steatosis"]
    assert board.pooled == ("Calcification", "Steatosis")
    assert [(s.probe, s.readout, s.by_group) for s in board.sections] == [
        ("linear", "patches", False),
        ("knn", "patches", False),
        ("linear", "patches", True),
    ]
    mae, ijepa, floor = board.sections[0].rows
    assert (mae.name, ijepa.name, floor.name) == ("MAE", "I-JEPA", "Untrained (floor)")
    cells = results.read(complete, "cells").query("task == 'local' and probe == 'linear' and metric == 'auroc'")
    mine = cells[cells["pretext"] == "mae"].groupby("twin")["value"].mean()
    assert mae.entries[0].score.value == pytest.approx(mine[False], abs=1e-14)
    assert mae.entries[0].gain.value == pytest.approx(mine[False] - mine[True], abs=1e-14)
    assert floor.entries[0].score.value == pytest.approx(mine[True], abs=1e-14)
    assert mae.entries[0].verdict == "above twin"
    assert ijepa.entries[0].verdict == "not shown above twin"
    gains = [entry.gain.value for entry in mae.entries]
    assert mae.mean.gain.value == pytest.approx(2 * np.mean(gains), abs=1e-14)  # (1 - chance) is one half
    assert (mae.seeds, mae.mean.gain.seeds, mae.mean.gain.groups) == ((0, 1), 2, 60)
    assert board.missing == ()


def test_values_agree_with_scikit_learn(complete):
    path = next(complete.rglob("cells.parquet"))
    seen = pq.read_table(path.with_name("predictions.parquet")).to_pylist()
    row = next(row for row in pq.read_table(path).to_pylist() if row["metric"] == "auroc")
    expected = roc_auc_score([one["label"] for one in seen], [one["scores"][1] for one in seen])
    assert row["value"] == pytest.approx(expected, abs=1e-14)


def test_pages_say_the_same_and_are_complete(complete, tmp_path):
    before = tree(complete)
    written = site.build(complete, tmp_path / "out", {"ultrasound": {"busi": "no data: `make data TASK=busi`"}})
    assert tree(complete) == before  # readers never write
    assert written[0].name == "index.html"
    page, text = ((tmp_path / "out" / f"ultrasound-phantom-demo.{kind}").read_text() for kind in ("html", "md"))
    words = Words(page)
    assert {"caption", "summary", "svg", "figure"} <= set(words.tags)
    said = " ".join(words.text)
    assert numbers(said) - numbers(text) == set()
    for phrase in (
        "SYNTHETIC: simulated phantoms, not clinical evidence",
        "What was asked",
        "1.0e13 training FLOPs",
        "60 simulated patients, 180 images",
        "not shown above twin",
        "this is about these checkpoints, not about the recipe",
        "make verify",
    ):
        assert phrase in said
        assert phrase in text
    assert "busi: no data: `make data TASK=busi`" in text
    assert "<code>make data TASK=busi</code>" in page
    assert "//" not in page  # nothing is loaded from elsewhere


def test_markdown_of_a_known_board(complete):
    text = render.markdown(site.load_boards(complete)[0])
    row = next(line for line in text.splitlines() if line.startswith("| **MAE**"))
    shape = re.sub(r"\d\.\d{3}", "#", row)
    gained = r"+# \[+#, +#\]<br>above twin"
    assert shape == (
        "| **MAE**<br>2 seeds<br>tie group A, place 1 "
        rf"| {gained} | {gained}<br>AUROC # \[#, #\] | {gained}<br>AUROC # \[#, #\] "
        "| 9.8e12<br>400 steps<br>12,800 images<br>20.0 passes | 1.7 min | cpu | –<br>not measured |"
    )


def test_a_missing_cell_says_why_and_its_row_has_no_place(tmp_path):
    root = store(tmp_path / "store", seeds=(0,))
    for cell in (root / "ultrasound" / "cells").iterdir():
        row = pq.read_table(cell / "cells.parquet").to_pylist()[0]
        if row["pretext"] == "ijepa" and row["task"] == "global" and not row["twin"]:
            shutil.rmtree(cell)
    for seed, budget in ((0, 1e13), (0, 0.0)):
        add_run(root, recipe("dinov3", seed, budget=budget), status="diverged" if budget else "finished")
    (board,) = site.load_boards(root)
    mae, ijepa, dino = (row for row in board.sections[0].rows if not row.twin)
    assert mae.mean.gain is not None
    assert ijepa.entries[1].missing == "not run yet"
    assert ijepa.mean.missing == "needs Steatosis"
    assert ijepa.letters == ""
    assert dino.entries[0].missing == "diverged in training"
    assert dino.note == "1 of 1 seeds diverged"
    assert ("I-JEPA on Steatosis", "not run yet") in board.missing
    assert "I-JEPA on Steatosis: not run yet" in render.markdown(board)
    assert "not run yet" in terminal.format_board(board)


@pytest.mark.parametrize(("groups", "verdict", "ranked"), [(10, "too few groups", False), (30, "above twin", False)])
def test_few_groups_are_not_ranked(tmp_path, groups, verdict, ranked):
    (board,) = site.load_boards(store(tmp_path / "store", groups=groups))
    entry = board.sections[0].rows[0].entries[0]
    assert entry.verdict == verdict
    assert (entry.gain.low is None) == (groups < 20)
    assert board.ranked is ranked
    assert "too few groups" in render.html(board)


def test_older_versions_are_not_of_this_board(tmp_path):
    root = store(tmp_path / "store", pretexts=("mae",), seeds=(0,))
    for made in (recipe("mae", 0), twin(recipe("mae", 0))):
        add_cell(root, made, "local", shift=0.9, task_version=2)
    (board,) = site.load_boards(root)
    assert len(board.columns) == 2
    assert board.sections[0].rows[0].entries[0].verdict == "not shown above twin"  # equal in the newer version
    assert any("older task or probe versions" in note for note in board.footnotes)


def test_a_partial_dataset_is_named(tmp_path):
    root = store(tmp_path / "store", pretexts=("mae",), seeds=(0,), tasks=("local",))
    made = recipe("mae", 0)
    for one in (made, twin(made)):
        add_cell(root, one, "partly", data_expected=2081)
    text = render.markdown(site.load_boards(root)[0])
    assert "partial: 422 of 2,081 images" in text


def test_names_from_outside_are_escaped(tmp_path):
    root = store(tmp_path / "store", pretexts=("<script>alert(1)</script>|`",), seeds=(0,))
    (board,) = site.load_boards(root)
    for page in (render.html(board), render.front([board])):
        assert "<script>" not in page
        assert "&lt;script&gt;" in page
    assert r"**\<script\>alert(1)\</script\>\|\`**" in render.markdown(board)


def test_verify_passes_on_an_untouched_store(complete):
    report = verify(complete)
    assert report.problems == ()
    assert (report.runs, report.cells, report.metrics) == (8, 32, 64)
    assert "every number is as stored" in str(report)


def test_verify_names_a_changed_value(tmp_path):
    root = store(tmp_path / "store", pretexts=("mae",), seeds=(0,))
    path = min((root / "ultrasound" / "cells").rglob("cells.parquet"))

    def change(rows):
        rows[0]["value"] += 1e-9

    before = pq.read_table(path).to_pylist()[0]
    rewrite(path, change)
    sealed, problem = verify(root).problems
    assert (sealed.file, sealed.what) == (path, "column value under its seal")
    assert (problem.file, problem.what, problem.recomputed) == (path, "auroc", repr(before["value"]))
    assert problem.stored == repr(before["value"] + 1e-9)


def test_verify_names_a_changed_prediction(tmp_path):
    root = store(tmp_path / "store", pretexts=("mae",), seeds=(0,))
    path = min((root / "ultrasound" / "cells").rglob("predictions.parquet"))

    def change(rows):
        worst = max((row for row in rows if row["label"] == 0), key=lambda row: row["scores"][1])
        worst["scores"] = [1.0, 0.0]

    rewrite(path, change)
    problems = verify(root).problems
    assert (path, "SHA-256") in [(one.file, one.what) for one in problems]
    assert (path.with_name("cells.parquet"), "auroc") in [(one.file, one.what) for one in problems]


def test_verify_names_a_changed_recipe_changed_weights_and_a_missing_twin(tmp_path):
    root = store(tmp_path / "store", pretexts=("mae",), seeds=(0,))
    runs = root / "ultrasound" / "runs"
    path = runs / key(recipe("mae", 0)) / "runs.parquet"

    def change(rows):
        rows[0]["recipe"] = rows[0]["recipe"].replace('"ratio":0.75', '"ratio":0.76')

    rewrite(path, change)
    found = [(one.file, one.what) for one in verify(root).problems]
    assert (path, "run of its recipe") in found
    assert (path, "twin of its recipe") in found

    path.with_name("encoder.safetensors").write_bytes(b"other")
    assert (path.with_name("encoder.safetensors"), "weights SHA-256") in [
        (one.file, one.what) for one in verify(root).problems
    ]

    floor = key(twin(recipe("mae", 0)))
    shutil.rmtree(runs / floor)
    assert (path, f"twin {floor}") in [(one.file, one.what) for one in verify(root).problems]


def test_foreign_schemas_are_refused_with_the_remedy(tmp_path):
    root = store(tmp_path / "store", pretexts=("mae",), seeds=(0,), tasks=("local",))
    path = min((root / "ultrasound" / "cells").rglob("cells.parquet"))
    table = pq.read_table(path)
    pq.write_table(table.replace_schema_metadata({"pretext_bench_schema": "99"}), path)
    with pytest.raises(schema.SchemaError, match="schema version 99"):
        site.build(root, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert any("schema version 99" in problem.stored for problem in verify(root).problems)
    ran = CliRunner().invoke(app, ["build", "--results", str(root), "--out", str(tmp_path / "out")])
    assert ran.exit_code == 2
    assert "check out the release that wrote it" in ran.stderr
    assert len(ran.stderr.splitlines()) == 1


def test_command_line(complete, tmp_path):
    run = CliRunner().invoke
    built = run(app, ["build", "--results", str(complete), "--out", str(tmp_path / "out")])
    assert built.exit_code == 0
    assert "index.html" in built.stdout
    assert run(app, ["verify", "--results", str(complete)]).exit_code == 0
    shown = run(app, ["show", "--results", str(complete), "--modality", "ultrasound", "--track", "demo"])
    assert "SYNTHETIC" in shown.stdout
    assert max(map(len, shown.stdout.splitlines())) <= 100
    assert run(app, ["show", "--results", str(complete), "--modality", "histo"]).exit_code == 2
    for command in ("build", "verify", "show"):
        empty = run(app, [command, "--results", str(tmp_path / "nothing")])
        assert empty.exit_code == 2
        assert "make bench" in empty.stderr


def test_torch_is_never_imported():
    modules = "leaderboards.__main__, leaderboards.publish.site, leaderboards.audit.verify"
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2]).returncode == 0


def test_every_column_says_whether_it_leaks(complete):
    (board,) = site.load_boards(complete)
    for verdict in ("pass", "warn", "unknown"):
        columns = tuple(replace(column, leakage=verdict) for column in board.columns)
        assert render.markdown(replace(board, columns=columns)).count(f"leakage: {verdict}") >= len(columns)


def test_of_a_recipe_trained_twice_the_encoder_that_most_was_asked_of_is_shown(tmp_path):
    root = store(tmp_path / "store", pretexts=("mae",), seeds=(0,))
    made = recipe("mae", 0)
    first = results.run_directory(root, made.modality, key(made))
    other = first.with_name(f"{first.name}-again")
    shutil.copytree(first, other)
    rewrite(
        other / "runs.parquet", lambda rows: [row.update(weights_sha256="f" * 64, created="2026-12-01") for row in rows]
    )
    (board,) = site.load_boards(root)
    assert any("1 repetitions of the same recipe are not shown" in note for note in board.footnotes)
    assert board.sections[0].rows[0].entries[0].score is not None
    for place in (root / made.modality / "cells").iterdir():
        if results.read_file(place / "cells.parquet")["run"][0].as_py() == key(made):
            rewrite(place / "cells.parquet", lambda rows: [row.update(weights_sha256="f" * 64) for row in rows])
    (board,) = site.load_boards(root)
    (row,) = [row for row in board.sections[0].rows if not row.twin]
    assert row.entries[0].score is not None  # the cells are the second encoder's now, and so is the row
