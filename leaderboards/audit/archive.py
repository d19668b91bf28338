"""What an earlier engine published, and encoders that no board shows, leave the tree; a line names the commit.

    directory,commit
    histo/laptop/0123456789ab-0123456789ab,0123456789abcdef...

of `results/archive.csv`, beside the published store. `git checkout <commit> -- results/published/<directory>` brings a
directory back; code of that commit reads and verifies it.
"""

from __future__ import annotations

import csv
import shutil
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from benchmark.recipe import ENGINE
from leaderboards.audit.promote import Refused
from leaderboards.boards import store
from leaderboards.boards.selection import select_repeated
from tasks import host

FILE = "archive.csv"
OF_A_RUN = ("runs", "cells", "maps")  # tables whose rows name their run
WITH_AN_ENGINE = ("ceilings", "trials")
OF_IMAGES = ("baselines", "locality", "pixels")  # tables about the images of a task


def read(published: Path) -> dict[str, str]:
    """Archived directory, relative to the published store -> the commit that holds it."""
    path = published.parent / FILE
    if not path.exists():
        return {}
    with path.open(encoding="utf-8", newline="") as file:
        return {row["directory"]: row["commit"] for row in csv.DictReader(file)}


def archive(published: Path) -> list[str]:
    """Take away what engines before this code's published, what is about images that nothing else was probed on, and of
    a recipe that was trained several times the encoders that boards do not show; list it with the commit that holds it.

    Returns the directories taken away. Raises Refused where that commit does not hold the store as it is."""
    commit = host.git(published, "rev-parse", "HEAD")
    if commit is None or host.git(published, "status", "--porcelain", "--", ".") != "":
        raise Refused(f"{published}: not as committed: commit first, so that a commit holds what is taken away")
    gone = [Path(one).relative_to(published).as_posix() for one in sorted(_outdated(published))]
    if gone:
        rows = read(published) | dict.fromkeys(gone, commit.strip())
        with (published.parent / FILE).open("w", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows([("directory", "commit"), *sorted(rows.items())])
        for directory in gone:
            shutil.rmtree(published / directory)
    return gone


def _outdated(published: Path) -> set[str]:
    """Directories of earlier engines: runs, their cells and maps, ceilings and trials, and what is about images that
    only they were probed on; and of encoders that a board passes over."""
    tables = {name: store.rows(published, name) for name in (*OF_A_RUN, *WITH_AN_ENGINE, *OF_IMAGES)}
    earlier = set(tables["runs"].loc[tables["runs"]["engine"] < ENGINE, "run"])
    theirs = tables["cells"]["run"].isin(earlier)
    dropped = set(_keys(tables["cells"][theirs])) - set(_keys(tables["cells"][~theirs]))
    old = [tables[name].loc[tables[name]["run"].isin(earlier), "directory"] for name in OF_A_RUN]
    old += [tables[name].loc[tables[name]["engine"] < ENGINE, "directory"] for name in WITH_AN_ENGINE]
    old += [rows.loc[[one in dropped for one in _keys(rows)], "directory"] for rows in map(tables.get, OF_IMAGES)]
    repeated = select_repeated(tables["runs"], tables["cells"])
    passed = set(zip(repeated["run"], repeated["weights_sha256"], strict=True))
    for rows in map(tables.get, OF_A_RUN):
        pairs = zip(rows["run"], rows["weights_sha256"], strict=True)
        old.append(rows.loc[[pair in passed for pair in pairs], "directory"])
    return set().union(*old)


def _keys(rows: pd.DataFrame) -> Iterator[tuple[str, str]]:
    return zip(rows["task"], rows["data"], strict=True)
