"""`python -m leaderboards` as a process of its own: this package never imports it."""

import subprocess
import sys


def run_leaderboards(*arguments: object, text: str = "") -> int:
    """Run `python -m leaderboards` with these arguments and this text on its standard input. Returns its exit code."""
    sys.stdout.flush()
    command = [sys.executable, "-m", "leaderboards", *map(str, arguments)]
    return subprocess.run(command, input=text, encoding="utf-8", check=False).returncode
