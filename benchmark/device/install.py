"""Make the virtual environment and install everything: `make setup`. Standard library only; reads on old Pythons too.

Usage: python benchmark/device/install.py .venv
"""

import os
import shutil
import subprocess
import sys

NEEDED = (3, 11)
DISK = 9e9  # bytes: the packages unpacked, and the downloads while they are unpacked


def fail(message):
    sys.exit("setup: " + message)


def check(venv):
    found = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info[:2] < NEEDED:
        fail(
            f"Python {NEEDED[0]}.{NEEDED[1]} or newer is needed, {sys.executable} is Python {found}. "
            "Choose another: make PYTHON=python3.12"
        )
    free = shutil.disk_usage(os.path.dirname(os.path.abspath(venv))).free
    if free < DISK and not os.path.isdir(venv):
        fail(f"{free / 1e9:.1f} GB of disk are free here, about {DISK / 1e9:.0f} GB are needed for torch and the rest")
    try:
        import ensurepip  # noqa: F401
        import venv as module  # noqa: F401
    except ImportError:
        fail("this Python has no venv module; install it (Debian and Ubuntu: apt install python3-venv)")


def install(venv):
    python = os.path.join(venv, "bin", "python")
    if not os.path.exists(python):
        print(f"setup: making {venv!a} with Python {sys.version_info[0]}.{sys.version_info[1]}", flush=True)
        subprocess.run([sys.executable, "-m", "venv", venv], check=True)
    print("setup: installing packages, about two minutes and 6 GB the first time", flush=True)
    command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--editable", ".[dev]"]
    done = subprocess.run(
        [*command, "--constraint", "constraints.txt"], stderr=subprocess.PIPE, encoding="utf-8", errors="replace"
    )
    if done.returncode:
        useful = [line for line in done.stderr.splitlines() if not line.startswith("WARNING: Location")]
        print("\n".join(useful[-15:]), file=sys.stderr)
        words = done.stderr.lower()
        if "no space left" in words:
            fail("the disk is full; make room and repeat the command")
        if any(hint in words for hint in ("connection", "network", "retrying", "timed out", "versions: none")):
            fail("the package index cannot be reached; check the network or pip's settings, then repeat the command")
        fail("pip could not install the packages; its last lines are above. Repeating the command goes on from here")
    with open(os.path.join(venv, ".installed"), "w", encoding="utf-8") as stamp:
        stamp.write("installed from pyproject.toml and constraints.txt\n")


if __name__ == "__main__":
    os.chdir(os.path.abspath(os.path.join(os.path.dirname(__file__), "..", "..")))
    target = sys.argv[1] if len(sys.argv) > 1 else ".venv"
    check(target)
    install(target)
