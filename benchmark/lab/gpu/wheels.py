"""Which packages this machine lacks, and how they are carried to it."""

import importlib.metadata
import platform
import re
import sys
import tomllib
from collections.abc import Iterable
from typing import NamedTuple

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from benchmark.device import machine


class Needed(NamedTuple):
    """Normalised names of distributions."""

    found: set[str]
    lacking: set[str]


def needed(requirements: Iterable[str]) -> Needed:
    """What these lines ask for on this machine, and what that asks for in turn as far as it is installed."""
    waiting = [Requirement(line) for line in requirements]
    waiting = [asked for asked in waiting if asked.marker is None or asked.marker.evaluate({"extra": ""})]
    found, lacking, seen = set(), set(), set()
    while waiting:
        asked = waiting.pop()
        name = canonicalize_name(asked.name)
        for extra in asked.extras or {""}:
            if (name, extra) in seen:
                continue
            seen.add((name, extra))
            try:
                lines = importlib.metadata.distribution(name).requires or ()
            except importlib.metadata.PackageNotFoundError:
                lacking.add(name)
                continue
            found.add(name)
            inner = map(Requirement, lines)
            waiting += [one for one in inner if one.marker is None or one.marker.evaluate({"extra": extra})]
    return Needed(found, lacking)


def asked() -> list[str]:
    """The requirements of this package: of its pyproject.toml in a checkout, else as it was installed."""
    if not machine.is_checkout():
        return importlib.metadata.requires("pretext-bench") or []
    project = tomllib.loads((machine.ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return project["project"]["dependencies"]


def missing() -> list[str]:
    """What is needed and not installed, pinned as in the constraints.txt of a checkout."""
    pinned = (machine.ROOT / "constraints.txt").read_text(encoding="utf-8") if machine.is_checkout() else ""
    pins = {canonicalize_name(name): pin for name, pin in re.findall(r"^([\w.-]+)==(\S+)", pinned, re.MULTILINE)}
    return [f"{name}=={pins[name]}" if name in pins else name for name in sorted(needed(asked()).lacking)]


def remedy(lacking: list[str]) -> str:
    """How they are carried, where this machine has no network."""
    python, kind = f"{sys.version_info.major}.{sys.version_info.minor}", platform.machine()
    platforms = " ".join(f"--platform {name}_{kind}" for name in ("manylinux_2_28", "manylinux2014"))
    return (
        f"missing here, carry their wheels: {' '.join(lacking)}\n"
        f"  with a network: python3 -m pip download --no-deps --only-binary=:all: --python-version {python} "
        f"{platforms} -d wheels {' '.join(lacking)}\n"
        "  here: python3 -m pip install --no-index --no-deps --target site wheels/*.whl, with site on PYTHONPATH; "
        "then call again, for what they need in turn"
    )
