"""The regression of what this code computes: golden losses and the smoke track, against what is stored of them.

Which claims the published store bears is the other half: `python -m leaderboards regression`.
"""

import json
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmark import registry
from benchmark.device import machine
from benchmark.lab import goldens, smoke

SHOWN = 5  # sentences of numbers that moved; the rest is counted


def check(cache: Path, say: Callable[[str], None]) -> int:
    """Say which number moved, by how much, against what and which version to bump; how many did."""
    _refuse_without_checkout()
    names = registry.names("pretexts")
    moved = [one for name in names for one in goldens.compare(name, goldens.losses(name))]
    say(_describe("golden losses", goldens.STEPS * len(names), moved))
    with tempfile.TemporaryDirectory() as folder:
        again = smoke.compare(smoke.train(Path(folder), cache, seeds=1), smoke.stored())
    for line in (*again.notes, _describe("numbers of the smoke track", again.compared, again.moved)):
        say(line)
    return len(moved) + len(again.moved) + len(again.notes)


def record(cache: Path, say: Callable[[str], None]) -> None:
    """Store what this code and machine give: golden losses, and three seeds of the smoke track."""
    _refuse_without_checkout()
    found = {name: goldens.golden(name, goldens.losses(name)) for name in registry.names("pretexts")}
    goldens.FILE.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    say(f"{goldens.FILE.name}: losses of {', '.join(found)}")
    say(smoke.record(cache))


def _describe(what: str, compared: int, moved: list[goldens.Moved]) -> str:
    lines = [str(one) for one in moved[:SHOWN]]
    if len(moved) > SHOWN:
        lines.append(f"... and {len(moved) - SHOWN} more of them")
    return "\n".join([*lines, f"{compared} {what} computed again, {len(moved) or 'none'} moved"])


def _refuse_without_checkout() -> None:
    if not machine.is_checkout():
        raise ValueError(
            "regression needs a checkout of the repository, for what is stored in its tests; "
            f"{machine.ROOT} holds the installed package alone"
        )
