"""The machine around us: UTF-8 whatever its locale says, spawned processes, optional libraries, what git answers."""

import codecs
import importlib
import locale
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import spawn
from pathlib import Path
from types import ModuleType
from typing import TypeVar

from tasks.base import DataError, ProcessError

T = TypeVar("T")
PLAIN = {  # what stands for a sign that the terminal cannot show; "?" for any other
    "−": "-",
    "–": "-",
    "…": "...",
    "×": "x",
    "≤": "<=",
    "▲": "^",
    "○": "o",
    "▼": "v",
}


def use_utf8() -> None:
    """Names, arguments and files are UTF-8 from here on, in this process and in those it starts; what the terminal
    cannot show is replaced. The first step of every entry point: under another locale it starts the interpreter anew.
    """
    chosen = os.environ.get("PYTHONUTF8")
    os.environ["PYTHONUTF8"] = "1"
    if sys.stdout:  # None where it is closed
        os.environ["PYTHONIOENCODING"] = f"{sys.stdout.encoding}:replace"
        codecs.register_error("plain", _plain)
        sys.stdout.reconfigure(errors="plain")
    if not sys.flags.utf8_mode and chosen != "1" and codecs.lookup(locale.getencoding()).name != "utf-8":
        given = Path("/proc/self/cmdline")  # as bytes, which a decoded argument may not lead back to
        words = given.read_bytes().split(b"\0")[1:-1] if given.exists() else sys.orig_argv[1:]
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *words])


def _plain(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(PLAIN.get(sign, "?") for sign in error.object[error.start : error.end]), error.end


def require_main_guard() -> None:
    """To be called before processes are spawned: each imports the script that called. Raises ProcessError in a process
    that does so now, since it would spawn more and wait for its parent, which waits for it."""
    try:
        spawn.get_preparation_data("")  # Python's own check
    except RuntimeError as error:
        raise ProcessError(unguarded()) from error


def unguarded() -> str:
    return (
        f'{sys.argv[0]}: put what this script does below a line `if __name__ == "__main__":`; the processes that it '
        "starts import it"
    )


def map_in_processes(call: Callable[..., T], *items: Iterable[object], processes: int, chunksize: int = 1) -> list[T]:
    """`map` in spawned processes, in order. Raises ProcessError where one dies, or a script has no main guard."""
    require_main_guard()
    try:
        with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
            return list(pool.map(call, *items, chunksize=chunksize))
    except BrokenProcessPool as error:
        raise ProcessError(
            f"a process died, out of memory, or as it started, and its error stands above: then {unguarded()}"
        ) from error


def import_extra(module: str, extra: str) -> ModuleType:
    """An optional library. Raises DataError with the command that installs it."""
    try:
        return importlib.import_module(module)
    except (ImportError, OSError) as error:
        raise DataError(f"{module} is not here ({error}); install it: pip install 'pretext-bench[{extra}]'") from error


def path(text: str | Path) -> Path:
    """A path that a command was given, its ~ being the home folder: no shell expands DATA=~/x or --data=~/x."""
    return Path(os.path.expanduser(text))


def git(folder: Path, *arguments: str) -> str | None:
    """What git prints of the repository around a folder, whatever GIT_DIR says; None where git fails or is missing."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_") or "GIT_CONFIG" in name}
    command = ["git", "-c", "core.quotePath=false", *arguments]
    try:
        done = subprocess.run(command, cwd=folder, env=kept, capture_output=True, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode("utf-8", errors="replace")
