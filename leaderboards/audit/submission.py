"""A submission: what a branch adds to the published store, checked, and the rows that it becomes.

    directory,by,run_again
    ultrasound/laptop/0123456789ab-0123456789ab,A. Author,

`results/submitted.csv` lists what came from outside, and whether somebody else has run it again (when, and who): labels
of public test sets are public, so predictions can be made up, and no check of files can tell. Until then its row says
so.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmark.storage import results
from benchmark.storage.schema import SchemaError
from leaderboards.audit.directory import examine
from leaderboards.audit.history import directory_of
from leaderboards.audit.promote import Refused
from leaderboards.audit.verify import verify
from leaderboards.boards import aggregate
from leaderboards.boards.board import Board, Row
from leaderboards.boards.listed import SUBMITTED, read_submitted
from leaderboards.words import interval, number
from tasks import host


@dataclass(frozen=True, kw_only=True)
class Submission:
    directories: tuple[str, ...]  # relative to the published store
    rows: tuple[tuple[Board, Row], ...]  # that they are behind
    problems: tuple[str, ...]  # why it cannot be taken


def check(published: Path, base: str) -> Submission:
    """What HEAD adds to the store since it left `base`. Raises Refused where git does not know it, or nothing came."""
    changes = _changes(published, base)
    directories = sorted({directory_of(name) for kind, name in changes if kind == "A" and name.count("/") > 2})
    if not changes:
        raise Refused(f"{published}: nothing was added to it since {base}; `python -m leaderboards promote` adds runs")
    problems = [
        f"{name}: {'deleted' if kind == 'D' else 'changed'}: published files stay as they were; restore it"
        for kind, name in changes
        if kind != "A"
    ]
    packed = [one for one in directories if (published / one / "cells.parquet").exists()]
    problems += _unlisted(published, packed)
    for directory in packed:
        problems += _untraceable(published, published / directory)
    problems += [str(problem) for problem in verify(published).problems if _about(problem.file, published, directories)]
    rows: tuple[tuple[Board, Row], ...] = ()
    if not problems:
        try:
            rows = tuple(_rows(published, packed))
        except SchemaError as error:
            problems.append(str(error))
    return Submission(directories=tuple(directories), rows=rows, problems=tuple(dict.fromkeys(problems)))


def format_submission(found: Submission) -> str:
    """As Markdown: why it is refused, or the rows as they will be."""
    if found.problems:
        return "\n".join(["**Refused**", "", *(f"- {problem}" for problem in found.problems)])
    lines = ["| Encoder | Task | Score | Gain over twin | Verdict | Leakage |", "|---|---|---|---|---|---|"]
    for board, row in found.rows:
        for column, entry in zip(board.columns, row.entries, strict=True):
            if entry.score is not None:
                gained = "–" if entry.gain is None else interval(entry.gain, signed=True)
                said = (row.name, f"{column.title} ({board.title})", number(entry.score.value), gained)
                lines.append(f"| {' | '.join((*said, entry.verdict or entry.note, column.leakage))} |")
    counted = f"{len(found.directories)} directories, {len(found.rows)} rows"
    return "\n".join([f"**Can be taken**: {counted}. Its rows, as they will stand:", "", *lines])


def _changes(published: Path, base: str) -> list[tuple[str, str]]:
    """(A, M or D, file relative to the store) since the branch left base."""
    printed = host.git(published, "diff", "--name-status", "--no-renames", "--relative", f"{base}...HEAD", "--", ".")
    if printed is None:
        raise Refused(f"{published}: git knows no {base!r} here: fetch it, or name another with --base")
    return [(line[0], line.split("\t", 1)[1]) for line in printed.splitlines()]


def _unlisted(published: Path, directories: Sequence[str]) -> list[str]:
    listed = read_submitted(published)
    return [
        f"{one}: not in {SUBMITTED}: add a line `{one},your name or group,`" for one in directories if one not in listed
    ]


def _untraceable(published: Path, directory: Path) -> Iterator[str]:
    """Code that nobody can look at."""
    for _, row in examine(directory).runs:
        if host.git(published, "cat-file", "-e", f"{row['commit']}^{{commit}}") is None:
            yield f"{directory}: made by commit {row['commit']}, which is not of this project: run a released version"


def _about(file: Path, published: Path, directories: Sequence[str]) -> bool:
    return directory_of(file.relative_to(published).as_posix()) in directories


def _rows(published: Path, directories: Sequence[str]) -> Iterator[tuple[Board, Row]]:
    """Raises SchemaError where its test samples or labels are not those of the other rows."""
    cells = [results.read_file(published / one / "cells.parquet") for one in directories]
    asked = {run for table in cells for run in table["run"].to_pylist()}
    for board in aggregate.boards(published):
        yield from ((board, row) for row in board.sections[0].rows if not row.twin and asked & {*row.runs})
