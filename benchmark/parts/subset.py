"""Which test samples are altered by corruptions. No torch."""

import hashlib

import numpy as np

LIMIT = 1000  # test samples that are altered, at most


def subset(groups: list[str], tested: np.ndarray) -> np.ndarray:
    """Positions among the tested ones, ascending: whole groups, in an order that their names give, up to LIMIT."""
    members: dict[str, list[int]] = {}
    for i in tested.tolist():
        members.setdefault(groups[i], []).append(i)
    chosen: list[int] = []
    for group in sorted(members, key=lambda group: seed("subset", group)):
        if not chosen or len(chosen) + len(members[group]) <= LIMIT:
            chosen += members[group]
    return np.array(sorted(chosen))


def seed(purpose: str, name: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{purpose}/{name}".encode()).digest()[:7], "little")
