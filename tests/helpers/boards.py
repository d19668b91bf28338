"""A small hand-made store, run by run and cell by cell, for tests of everything that reads one."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmark.metrics import fold_score
from benchmark.recipe import ENGINE, Cell, Corpus, EncoderSpec, Recipe, canonical, key, twin
from benchmark.storage import results, schema, seals

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


def add_run(
    root: Path, made: Recipe, status: str = "finished", commit: str = "0123abc", encoder: Path | None = None
) -> str:
    """Store the pretraining of a recipe; the SHA-256 of its weights, which are an encoder's file or none in truth."""
    run, directory = key(made), root / made.modality / "runs" / key(made)
    steps = 0 if made.budget == 0 else 400
    weights = root.parent / f"{run}.safetensors"
    weights.parent.mkdir(parents=True, exist_ok=True)
    told = f"{made.seed}{steps and run}".encode()  # twins of one seed share their weights
    weights.write_bytes(encoder.read_bytes() if encoder else told)
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
        "commit": commit,
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


def answers(cell: str, task: str, groups: int, shift: float, seed: int, **changes) -> tuple[np.ndarray, list[dict]]:
    """Scores (N, 2) that separate the labels of a task's test images by `shift`, and rows of `predictions`."""
    names, label, noise = images(task, groups)
    jitter = np.random.default_rng(seed).normal(size=len(label)) * 0.1
    risk = 1 / (1 + np.exp(-(shift * label + noise + jitter)))
    scores = np.stack([1 - risk, risk], axis=1)
    same = {"cell": cell, "repeat": 0, "fold": 0, "split_variant": "cut", "fraction": 1.0, "shots": None, "draw": 0}
    same |= {"readout": "", "corruption": "", "strength": 0} | changes
    return scores, [
        same | {"sample": f"{name}/{n % 3}", "group": name, "label": int(label[n]), "scores": scores[n].tolist()}
        for n, name in enumerate(names)
    ]


def add_cell(root: Path, made: Recipe, task: str, *, groups: int = 60, shift: float = 0.6, probe="linear", **changes):
    """Store a cell in which the labels are separated by `shift`."""
    settings, version = {"folds": 1}, changes.pop("task_version", 1)
    readout, data = changes.pop("readout", "patches"), "d" * 12
    identity = {"task": task, "task_version": version, "data": data, "probe": probe, "probe_version": 1}
    cell = key(Cell(recipe=made, settings=settings, readout=readout, **identity))
    one_class, areas = changes.pop("one_class", False), changes.pop("areas", None)
    scores, predictions = answers(cell, task, groups, shift, made.seed, readout=readout)
    if areas is not None:
        scores = areas
    for row, values in zip(predictions, scores, strict=True):
        row |= {"scores": values.tolist()} | ({"label": 1} if one_class else {})
    label, zeros = np.array([row["label"] for row in predictions]), np.zeros(len(scores), dtype=int)
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


def rewrite(path: Path, change) -> None:
    """Change the rows of a stored file behind the code's back."""
    table = pq.read_table(path)
    rows = table.to_pylist()
    change(rows)
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), path)


def tree(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def add_ceiling(root: Path, task: str, shift: float, *, seed: int = 0, labels: int = 6000, groups: int = 60, **changes):
    """Store a ceiling that separates the labels of a task's test images by `shift`."""
    cell = f"{task}-{seed}-{labels}-{'-'.join(map(str, changes.values()))}"[:60]
    scores, seen = answers(cell, task, groups, shift, 1000 + seed)
    label, zeros = np.array([row["label"] for row in seen]), np.zeros(len(scores), dtype=int)
    row = {
        "cell": cell,
        "family": "made",
        "heads": json.dumps(sorted(TASKS)),
        "modality": "ultrasound",
        "task": task,
        "task_version": 1,
        "data": "d" * 12,
        "track": "demo",
        "encoder": canonical(SPEC),
        "pixels": 112,
        "policy": "pad",
        "seed": seed,
        "budget_flops": 1e13,
        "realised_flops": 9.9e12,
        "steps": 400,
        "images_seen": 12800,
        "labels": labels,
        "label_groups": labels // 2,
        "chosen": 0.7,
        "groups": groups,
        "samples": 3 * groups,
        "protocol": "cut",
        "engine": ENGINE,
        "version": 1,
        "seconds": 60.0,
        "device": "cpu",
        "threads": 2,
        "commit": "0123abc",
        "dirty": False,
        "versions": json.dumps({"python": "3.12.1", "torch": "2.11.0"}),
        "created": "2026-11-02T00:00:00+00:00",
    } | changes
    metrics = [
        row | {"metric": name, "value": fold_score(name, label, scores, zeros, zeros), "headline": place == 0}
        for place, name in enumerate(("auroc", "balanced_accuracy"))
    ]
    tables = {"predictions": schema.table("predictions", seen), "fits": schema.table("fits", [])}
    results.write(root / "ultrasound" / "ceilings" / cell, tables, metrics, sealed="ceilings")


def localities(root: Path, values: dict[str, float]) -> None:
    for task, value in values.items():
        row = {"modality": "ultrasound", "task": task, "task_version": 1, "data": "d" * 12, "version": 1}
        row |= {"value": value, "low": value - 0.1, "high": value + 0.1, "local": 0.8, "full": 0.9, "groups": 60}
        row |= {"samples": 180, "created": "2026-11-01T00:00:00+00:00"}
        results.write(root / "ultrasound" / "locality" / task, {"locality": schema.table("locality", [row])})
