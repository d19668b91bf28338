"""Pieces of work that are done as long as they should end in time, and what is noted of them."""

import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from benchmark.device import machine
from tasks.base import ProcessError

SPARE = 1.25  # an estimate times this must fit in the time left


class Setup(NamedTuple):
    data: Path
    out: Path
    results: Path
    cache: Path
    dry: bool  # tiny pieces, on the CPU
    tasks: tuple[str, ...] = ()  # that runs are probed on; empty: those that go with their corpus
    probes: tuple[str, ...] = ()  # empty: those that do not say ON_REQUEST


class Piece(NamedTuple):
    name: str
    guess: float  # seconds, before one of its kind has been finished here
    run: Callable[[], dict[str, Any]]

    @property
    def kind(self) -> str:
        """The name without its last part."""
        return self.name.rpartition("/")[0] or self.name


class Timebox:
    """One call: it does pieces as long as they should end in time. Every finished or failed piece is a line of
    <out>/pieces.jsonl, with device and commit; what is finished is not done again on that device."""

    def __init__(self, out: Path, seconds: float, say: Callable[[str], None]):
        self.started, self.seconds, self.say = time.monotonic(), seconds, say
        self.device = machine.device_name()
        self.failed: dict[str, str] = {}  # by this call: piece -> error
        self.waiting: dict[str, float] = {}  # what did not fit: piece -> seconds needed
        self.file = out / "pieces.jsonl"
        out.mkdir(parents=True, exist_ok=True)
        self.rows = read_pieces(self.file)
        if self.file.exists() and not self.file.read_bytes().endswith(b"\n"):
            with self.file.open("a", encoding="utf-8") as stream:
                stream.write("\n")  # behind what a killed call left half-written

    @property
    def left(self) -> float:
        """Seconds."""
        return self.seconds - (time.monotonic() - self.started)

    @property
    def finished(self) -> list[dict[str, Any]]:
        """Rows of pieces that were finished on this device, the last of each."""
        own = [row for row in self.rows if row["device"] == self.device and "result" in row]
        return list({row["piece"]: row for row in own}.values())

    @property
    def done(self) -> dict[str, dict[str, Any]]:
        """Piece -> result."""
        return {row["piece"]: row["result"] for row in self.finished}

    @property
    def errors(self) -> dict[str, str]:
        """Pieces that failed here and were not finished since -> why."""
        done = self.done
        own = [row for row in self.rows if row["device"] == self.device and row["piece"] not in done]
        return {row["piece"]: row["error"] for row in own} | self.failed

    def estimate(self, piece: Piece) -> float:
        """Seconds: the median of finished pieces of its kind, else its guess."""
        taken = [row["seconds"] for row in self.finished if row["kind"] == piece.kind]
        return median(taken) if taken else piece.guess

    def do(self, piece: Piece, reserved: float = 0.0) -> None:
        """Run a piece unless it is done, has failed in this call, or should end later than `reserved` seconds before
        the end. What fails takes nothing with it, and is tried again by the next call."""
        if piece.name in self.done or piece.name in self.failed:
            return
        needed = SPARE * self.estimate(piece)
        if needed > self.left - reserved:
            self.waiting[piece.name] = needed
            return
        self.waiting.pop(piece.name, None)
        self.say(f"{piece.name}: about {needed / SPARE:,.0f} s, {self.left:,.0f} s left")
        began = time.monotonic()
        try:
            result = piece.run()
        except Exception as error:
            self.fail(piece.name, error)
            self._write({"piece": piece.name, "error": self.failed[piece.name]})
            return
        self.note(piece.name, piece.kind, time.monotonic() - began, result)

    def fail(self, name: str, error: Exception) -> None:
        lacks = f"; carry its wheel: {error.name.partition('.')[0]}" if isinstance(error, ModuleNotFoundError) else ""
        self.failed[name] = f"{type(error).__name__}: {error}{lacks}"
        self.say(f"{name}: failed: {self.failed[name]}")

    def note(self, name: str, kind: str, seconds: float, result: dict[str, Any]) -> None:
        self._write({"piece": name, "kind": kind, "seconds": seconds, "result": result})

    def _write(self, row: dict[str, Any]) -> None:
        row |= {"device": self.device, "commit": machine.commit()[0]}
        self.rows.append(row)
        with self.file.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(row) + "\n")
            stream.flush()
            os.fsync(stream.fileno())


def read_pieces(file: Path) -> list[dict[str, Any]]:
    """Lines of pieces. What a killed call left half-written is none, nor is what an earlier version wrote."""
    rows = []
    for line in file.read_text(encoding="utf-8").splitlines() if file.exists() else []:
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue
        rows += [row] if {"piece", "device", "commit"} <= row.keys() else []
    return rows


def run_command(command: list[str]) -> list[str]:
    """The lines that a command prints. Raises ProcessError with the last of its errors."""
    done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", check=False)
    if done.returncode:
        raise ProcessError((done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1])
    return done.stdout.splitlines()
