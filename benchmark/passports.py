"""The leakage passport of each dataset, kept beside the results: `<results>/<modality>/passports/<task>-<data>/`."""

import json
from pathlib import Path

from benchmark import results
from benchmark.recipe import Runtime
from tasks import leakage
from tasks.base import Sample, Task, digest, identity


def of(task: Task, samples: list[Sample], runtime: Runtime, *, rotated: bool = False) -> list[leakage.Overlap]:
    """The stored passport of these samples, made if there is none; with `rotated`, one that looks for turned copies."""
    name = f"{task.name}-{identity(task, samples)}" + ("-rotated" if rotated else "")
    folder = runtime.results / task.modality / "passports" / name
    if not folder.exists():
        rows = leakage.passport(task, runtime.data, samples, runtime.cache, rotated=rotated)
        results.write(folder, {"leakage": results.table("leakage", rows_of(rows, "", task, samples))})
    return read(folder / "leakage.parquet")


def beside(
    task: Task, samples: list[Sample], others: list[tuple[Task, list[Sample]]], runtime: Runtime
) -> list[leakage.Overlap]:
    """What other datasets share with these samples, stored beside their passport, made if there is none. No verdict
    follows from it."""
    known = digest(*(identity(*one) for one in others))[:6]
    folder = runtime.results / task.modality / "passports" / f"{task.name}-{identity(task, samples)}-beside-{known}"
    if not folder.exists():
        rows = leakage.beside(task, samples, others, runtime.data, runtime.cache)
        results.write(folder, {"leakage": results.table("leakage", rows_of(rows, "", task, samples))})
    return read(folder / "leakage.parquet")


def rows_of(rows: list[leakage.Overlap], corpus_digest: str, task: Task, samples: list[Sample]) -> list[dict]:
    """Rows of the `leakage` table."""
    data = identity(task, samples)
    return [
        {
            "corpus_digest": corpus_digest,
            "task": task.name,
            "data": data,
            "between": row.between,
            "kind": row.kind,
            "count": row.count,
            "examples": json.dumps(row.examples, ensure_ascii=False),
        }
        for row in rows
    ]


def read(path: Path) -> list[leakage.Overlap]:
    stored = results.read_file(path).to_pylist()
    return [leakage.Overlap(r["kind"], r["count"], tuple(json.loads(r["examples"])), r["between"]) for r in stored]
