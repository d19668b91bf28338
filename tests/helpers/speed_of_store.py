"""How planning, reading and rendering grow with the store: `python -m tests.helpers.speed_of_store [CELLS …]`.

Each cell is a directory of its own, as a run writes it. "first" reads every file; "again" is the next call.
"""

import sys
import tempfile
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

from benchmark import plan
from benchmark.cost import estimate_cost
from benchmark.recipe import Runtime
from benchmark.storage import results
from benchmark.study import Wanted, survey
from leaderboards.publish import site
from tasks import host
from tests.helpers.boards import add_cell, add_run, recipe, store

MOST = 10_000  # cells planned, and runs rendered: more than an hour of pages


def filled(root: Path, cells: int) -> None:
    """Copies of one real cell file under as many directories."""
    made = recipe("mae", 0)
    add_run(root / "one", made)
    add_cell(root / "one", made, "local")
    content = results.files(root / "one", "cells")[0].read_bytes()
    for number in range(cells):
        folder = root / "store" / "histo" / "cells" / f"{number:012x}"
        folder.mkdir(parents=True)
        (folder / "cells.parquet").write_bytes(content)


def seconds(work) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def planned(cells: int, root: Path) -> tuple[int, float]:
    """(cells planned, seconds) of the smoke track, with as many seeds as give about so many cells, none stored."""
    wanted = Wanted(modalities=("histo",), track="smoke", pretexts=("mae", "ijepa", "dinov3"), corpus="phantom")
    study = survey(wanted, "histo", root / "none", root)
    wanted = replace(wanted, seeds=max(1, cells // 72))
    began = time.perf_counter()
    jobs, _ = plan.jobs(wanted, study, root / "none", {})
    estimate_cost(jobs, [study], "smoke", Runtime(data=root, results=root / "none", cache=root))
    return sum(len(job.cells) for job in jobs), time.perf_counter() - began


def rendered(runs: int, root: Path) -> float:
    """Seconds for all boards and pages of a store with so many runs, half of them twins, of eight cells each."""
    store(root / "rendered", seeds=range(max(1, runs // 4)))
    return seconds(lambda: site.build(root / "rendered", root / "pages", {}))


def main(sizes: list[int]) -> None:
    for size in sizes:
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            filled(root, size)
            first, again = (seconds(partial(results.rows, root / "store", "cells")) for _ in range(2))
            said = f"{size:>7,} cells: read first {first:.1f} s, again {again:.2f} s"
            if size <= MOST:
                cells, took = planned(size, root)
                said += f"; {cells:,} planned in {took:.2f} s"
                said += f"; pages of {size:,} runs in {rendered(size, root):.1f} s"
            print(said, flush=True)


if __name__ == "__main__":
    host.use_utf8()
    main([int(text) for text in sys.argv[1:]] or [100, 1_000, 10_000, 100_000])
