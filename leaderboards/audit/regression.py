"""The regression of what the published store bears: each claim's verdict and estimates against those in FILE.

What this code computes anew is the other half: `python -m benchmark regression`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from leaderboards.boards.board import Board, Judged

FILE = Path("tests") / "verdicts.json"  # under the root of a checkout
TOLERANCE = 1e-6  # of an estimate or a bound of its interval: draws are seeded, sums are not in one order everywhere
REMEDY = (
    "if new runs were published, or a rule was meant to change (say so in CHANGELOG.md), "
    "`make regression RECORD=1` stores it; else it is a fault: no VERSION covers it"
)


def judge(boards: Iterable[Board]) -> dict[str, dict]:
    """Board and claim -> its verdict, why it is untestable, and the estimate and interval of each pair."""
    return {
        f"{board.slug}, {_name(claim)}": {
            "verdict": claim.verdict,
            "why": claim.why,
            "estimates": [[each.value, each.low, each.high] for each in claim.estimates],
        }
        for board in boards
        for claim in board.claims
    }


def _name(claim: Judged) -> str:
    of = f", {claim.within}" * bool(claim.within) + f", by {claim.per}" * bool(claim.per)
    return f"{claim.about}: {claim.name} ({', '.join(claim.pairs)}{of})"


def compare(now: dict[str, dict], stored: dict[str, dict]) -> list[str]:
    """One sentence for every claim that is judged otherwise than is stored."""
    said = []
    for name in sorted(now.keys() | stored.keys()):
        before, after = stored.get(name), now.get(name)
        if before is None or after is None:
            said.append(
                f"{name}: {'judged now, not stored' if before is None else 'stored, judged no longer'}; {REMEDY}"
            )
        elif any(before[name] != after[name] for name in ("verdict", "why")) or not _close(
            before["estimates"], after["estimates"]
        ):
            said.append(f"{name}: stored {_say(before)}, now {_say(after)}{_moved(before, after)}; {REMEDY}")
    return said


def read(path: Path) -> dict[str, dict]:
    """Raises ValueError where there is none, as outside a checkout."""
    if not path.is_file():
        raise ValueError(f"{path}: no such file; regression needs a checkout, and is run from its root")
    return json.loads(path.read_text(encoding="utf-8"))


def record(now: dict[str, dict], path: Path) -> None:
    path.write_text(json.dumps(now, indent=1, ensure_ascii=False, sort_keys=True) + "\n", encoding="utf-8")


def _pairs(before: list, after: list) -> list[tuple[float, float]] | None:
    """Numbers beside each other; None where they are of other pairs, or one has an interval alone."""
    flat = [[number for estimate in estimates for number in estimate] for estimates in (before, after)]
    if len(flat[0]) != len(flat[1]) or any((a is None) != (b is None) for a, b in zip(*flat, strict=True)):
        return None
    return [(a, b) for a, b in zip(*flat, strict=True) if a is not None]


def _close(before: list, after: list) -> bool:
    pairs = _pairs(before, after)
    return pairs is not None and all(a == b or abs(a - b) <= TOLERANCE for a, b in pairs)


def _moved(before: dict, after: dict) -> str:
    pairs = _pairs(before["estimates"], after["estimates"])
    return f": moved by {max((abs(b - a) for a, b in pairs)):.3g} at most, tolerance {TOLERANCE:g}" if pairs else ""


def _say(claim: dict) -> str:
    shown = (
        f"{value:+.4f}" + (f" [{low:+.4f}, {high:+.4f}]" if low is not None else "")
        for value, low, high in claim["estimates"]
    )
    return f"{claim['verdict']!r} ({claim['why'] or '; '.join(shown) or 'no estimate'})"
