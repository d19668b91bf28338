"""Take damage out of a store, so that the next `make bench` computes just that again."""

import shutil
from datetime import UTC, datetime
from pathlib import Path

from benchmark.storage import results
from leaderboards.audit.directory import examine
from leaderboards.audit.verify import run_problems

ENCODER = "encoder.safetensors"
ASIDE = ".damaged"  # in the store: hidden from every reader, kept


def repair(root: Path) -> dict[Path, list[str]]:
    """Move every damaged directory of a store to `<root>/.damaged/<time>/`; returns each with what is wrong with it.

    Damaged is a directory whose seal does not hold, or, written before there were seals, whose tables cannot be read or
    whose numbers do not follow from what they were computed from. Left where it is: what another version wrote, what
    differs by rounding, what holds its seal but does not verify, and what only lacks something elsewhere, such as a
    twin: `make bench` fills that.
    """
    damaged = {place: found for place in results.directories(root) if (found := _damage(place))}
    aside = root / ASIDE / datetime.now(UTC).strftime("%Y%m%d-%H%M%S-%f")
    for place in damaged:
        target = aside / place.relative_to(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(place, target)
    return damaged


def _damage(place: Path) -> list[str]:
    seen = examine(place)
    if seen.foreign:
        return []
    problems = [] if seen.intact else [one for one in [*seen.problems, *run_problems(seen.runs)] if one.damage]
    lost = [
        f"{path}: the run finished, and its {ENCODER} is gone"
        for path, row in seen.runs
        if row["status"] == "finished" and place.parent.name == "runs" and not (place / ENCODER).exists()
    ]
    return list(dict.fromkeys([*map(str, problems), *lost]))
