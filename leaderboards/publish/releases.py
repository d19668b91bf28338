"""Frozen releases of the site: `releases/<version>/` holds every page as it was, and is never written again."""

from __future__ import annotations

import re
from pathlib import Path

FOLDER = "releases"


def versions(site: Path) -> tuple[str, ...]:
    """The releases of a site, oldest first."""
    found = [path.name for path in (site / FOLDER).glob("*") if path.is_dir()]
    return tuple(sorted(found, key=_order))


def _order(version: str) -> tuple[tuple[int, ...], str]:
    return tuple(int(part) for part in re.findall(r"\d+", version)), version


def freeze(results: Path, site: Path, version: str) -> list[Path]:
    """Write the site of a store as a release, then the current site, which names it; the files written.

    Raises ValueError for a version that is no version, or that was released already.
    """
    from leaderboards.publish.site import build, public

    if not re.fullmatch(r"\d+(\.\d+)*([a-z]+\d*)?", version):
        raise ValueError(f"{version!r} is no version: digits and points, such as 0.1.0")
    target = site / FOLDER / version
    if target.exists():
        raise ValueError(f"{target}: released already, and what is released never changes; choose another version")
    boards = public(results)
    if not boards:
        raise ValueError(f"{results}: no board to release; promote the runs of a track first")
    frozen = build(results, target, found=boards, release=version)
    return [*build(results, site, found=boards), *frozen]
