"""How long `verify` takes on a synthetic store of 1,000 cells: `python -m tests.helpers.speed_of_verify [CELLS]`.

Half of the cells are a fixed split of 600 images in 200 groups, half three repeats of five folds of 420 images of 84.
"""

import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmark.metrics import METRICS, fold_score
from benchmark.recipe import Cell, key, twin
from benchmark.storage import results, schema
from leaderboards.audit.verify import verify
from tasks import host
from tests.leaderboards.test_leaderboards import add_run, recipe

CELLS_OF_A_RUN = 20
COMMON = {"fraction": 1.0, "shots": None, "draw": 0, "corruption": "", "strength": 0}


def add_cell(root: Path, made, number: int, weights: str) -> None:
    """A cell of a two-class task: by folds where its number is odd."""
    folds = number % 2
    groups, each, repeats = (84, 5, 3) if folds else (200, 3, 1)
    rng = np.random.default_rng(number)
    label = np.repeat(rng.permutation(np.arange(groups) % 2), each)
    identity = {"task": f"task{number}", "task_version": 1, "data": "d" * 12, "probe": "linear", "probe_version": 1}
    cell = key(Cell(recipe=made, settings={}, readout="patches", **identity))
    rows = []
    for repeat in range(repeats):
        place = np.repeat(rng.permutation(groups) % 5, each) * folds
        risk = 1 / (1 + np.exp(-(label + rng.normal(size=len(label)))))
        rows += [
            COMMON
            | {"cell": cell, "sample": f"g{i // each:03d}/{i}", "group": f"g{i // each:03d}", "label": int(label[i])}
            | {"scores": [1 - risk[i], risk[i]], "repeat": repeat, "fold": int(place[i]), "readout": "patches"}
            | {"split_variant": "folds" if folds else "cut"}
            for i in range(len(label))
        ]
    tables = {name: schema.table(name, []) for name in ("fits", "leakage")}
    tables["predictions"] = schema.table("predictions", rows)
    seen = {name: np.array([row[name] for row in rows]) for name in ("label", "scores", "repeat", "fold")}
    row = dict.fromkeys(name for name in schema.TABLES["cells"].names if not name.endswith("_sha256"))
    row |= identity | {"cell": cell, "run": key(made), "modality": made.modality, "corpus": made.corpus.name}
    row |= {"corpus_digest": made.corpus.digest, "track": made.track, "pretext": made.pretext, "seed": made.seed}
    row |= {"twin": made.budget == 0, "settings": "{}", "readout": "patches", "groups": groups, "leakage": "pass"}
    row |= {"samples": len(label), "protocol": "folds(5, 3)" if folds else "cut", "weights_sha256": weights}
    scored = [row | {"metric": m, "value": fold_score(m, **seen_as(seen)), "headline": m == "auroc"} for m in METRICS]
    results.write(results.cell_directory(root, made.modality, cell), tables, scored)


def seen_as(seen: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {("labels" if name == "label" else name): value for name, value in seen.items()}


def main(cells: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "store"
        for run in range(cells // CELLS_OF_A_RUN // 2):
            made = recipe("mae", run)
            for one in (made, twin(made)):
                weights = add_run(root, one)
                for number in range(CELLS_OF_A_RUN):
                    add_cell(root, one, number, weights)
        for processes in (1, 2):
            began = time.perf_counter()
            report = verify(root, processes)
            print(f"{processes} processes: {time.perf_counter() - began:.1f} s; {report}")


if __name__ == "__main__":
    host.use_utf8()
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
