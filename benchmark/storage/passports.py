"""The passport of each dataset, kept beside the results: `<results>/<modality>/passports/<task>-<data>/`.

What its parts share, what it shares with other datasets, and how large its images are as they were found.
"""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from benchmark.recipe import Runtime
from benchmark.storage import results, schema
from tasks import leakage
from tasks.base import Sample, Task, digest, identity

LOOKED = 60  # images whose size is looked at


def within(task: Task, samples: list[Sample], runtime: Runtime, *, rotated: bool = False) -> list[leakage.Overlap]:
    """The stored passport of these samples, made if there is none; with `rotated`, one that looks for turned copies."""
    folder = _folder(task, samples, runtime, "-rotated" if rotated else "")
    return _read_or_make(
        *(folder, task, samples),
        lambda: leakage.passport(task, runtime.data, samples, runtime.cache, rotated=rotated),
    )


def across(
    task: Task, samples: list[Sample], others: list[tuple[Task, list[Sample]]], runtime: Runtime
) -> list[leakage.Overlap]:
    """What other datasets share with these samples, stored beside their passport, made if there is none. No verdict
    follows from it."""
    folder = _folder(task, samples, runtime, "-beside-" + digest(*(identity(*one) for one in others))[:6])
    return _read_or_make(
        *(folder, task, samples),
        lambda: leakage.overlap_elsewhere(task, samples, others, runtime.data, runtime.cache),
    )


def _folder(task: Task, samples: list[Sample], runtime: Runtime, suffix: str) -> Path:
    return runtime.results / task.modality / "passports" / f"{task.name}-{identity(task, samples)}{suffix}"


def _read_or_make(
    folder: Path, task: Task, samples: list[Sample], look: Callable[[], list[leakage.Overlap]]
) -> list[leakage.Overlap]:
    if not folder.exists():
        results.write(folder, {"leakage": schema.table("leakage", leakage_rows(look(), "", task, samples))})
    stored = results.read_file(folder / "leakage.parquet").to_pylist()
    return [leakage.Overlap(r["kind"], r["count"], tuple(json.loads(r["examples"])), r["between"]) for r in stored]


def image_sizes(task: Task, samples: list[Sample], runtime: Runtime) -> dict[str, object]:
    """The stored row of the table `pixels`, made from up to LOOKED images, evenly spaced by id, if there is none."""
    folder = _folder(task, samples, runtime, "-pixels")
    if not folder.exists():
        ordered = sorted(samples)
        some = np.unique(np.linspace(0, len(ordered) - 1, LOOKED).astype(int))
        sides = [min(task.read(runtime.data, ordered[i], 0).shape[:2]) for i in some]
        row = {
            "modality": task.modality,
            "task": task.name,
            "data": identity(task, samples),
            "images": len(sides),
            "low": min(sides),
            "median": float(np.median(sides)),
            "high": max(sides),
            "released": task.side,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        results.write(folder, {"pixels": schema.table("pixels", [row])})
    return results.read_file(folder / "pixels.parquet").to_pylist()[0]


def leakage_rows(rows: list[leakage.Overlap], corpus_digest: str, task: Task, samples: list[Sample]) -> list[dict]:
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
