"""Take damage out of a store, so that the next `make bench` computes just that again."""

import shutil
from datetime import UTC, datetime
from pathlib import Path

from benchmark import results
from leaderboards.recount import examine
from leaderboards.verify import run_problems

ENCODER = "encoder.safetensors"
ASIDE = ".damaged"  # in the store: hidden from every reader, kept


def repair(root: Path) -> dict[Path, list[str]]:
    """Move every damaged directory of a store to `<root>/.damaged/<time>/`; returns each with what is wrong with it.

    Damaged is a directory whose seal does not hold, whose tables cannot be read, or whose numbers do not follow from
    what they were computed from. What is only missing elsewhere, such as a twin, is no damage: `make bench` fills it.
    """
    sealed = {path.parent for path in results.named(root, results.SEAL)}
    tables = {path.parent for name in results.TABLES for path in results.files(root, name)}
    damaged = {place: found for place in sorted(sealed | tables) if (found := _damage(place))}
    aside = root / ASIDE / datetime.now(UTC).strftime("%Y%m%d-%H%M%S-%f")
    for place in damaged:
        target = aside / place.relative_to(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(place, target)
    return damaged


def _damage(place: Path) -> list[str]:
    seen = examine(place)
    found = [str(problem) for problem in [*seen.problems, *run_problems(seen.runs)]]
    try:
        if (place / results.SEAL).exists():
            found += [
                f"{place / name}: {what}: sealed {a}, found {b}" for name, what, a, b in results.broken_seals(place)
            ]
    except results.SchemaError as error:
        found.append(str(error))
    for path, row in seen.runs:
        if row["status"] == "finished" and place.parent.name == "runs" and not (place / ENCODER).exists():
            found.append(f"{path}: the run finished, and its {ENCODER} is gone")
    return list(dict.fromkeys(found))
