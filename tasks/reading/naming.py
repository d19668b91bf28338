"""Names that people and programs write: how they are compared, and which cannot be taken for a name."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from fractions import Fraction
from pathlib import Path

from tasks.base import DataError

MISSING = frozenset(  # what programs write for a missing value
    (
        *("nan", "-nan", "na", "n/a", "n.a.", "#n/a", "#na", "<na>", "nat", "null", "none", "?", "-", "--"),
        *("1.#ind", "1.#qnan", "-1.#ind", "-1.#qnan"),
    )
)


def compose(text: str) -> str:
    """The text in Unicode's composed form (NFC), without blanks around it."""
    return unicodedata.normalize("NFC", text).strip()


def fold_case(text: str) -> str:
    """The text as a file system that ignores case and Unicode forms compares it."""
    return compose(text).casefold()


def is_missing(text: str) -> bool:
    return fold_case(text) in MISSING | {""}


def is_line(text: str) -> bool:
    """Whether a text is one line that can be shown and stored."""
    return bool(text.strip()) and not any(unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp") for letter in text)


def check_name(text: str, kind: str, where: str | Path) -> str:
    """A class or group as it is called. Raises DataError for what stands for a missing value or cannot be shown."""
    name = compose(text)
    if is_missing(name):
        raise DataError(
            f"{where}: {kind} {name!r} is what programs write for a missing value; leave the image out, or call its "
            f"{kind} otherwise"
        )
    if not is_line(name):
        raise DataError(f"{where}: {kind} {name!r} has characters that cannot be shown; write it in plain text")
    return name


def refuse_variants(kind: str, names: Mapping[str, Path], place: Path) -> None:
    """Refuse names {name: an image so called} that differ in spelling alone: they would be two classes, or one patient
    on two sides of a split."""
    spelt: dict[str, str] = {}
    for name in sorted(names):
        other = spelt.setdefault(_meaning(name), name)
        if other != name:
            raise DataError(
                f"{place}: {other!r} and {name!r} would be two {kind} ({names[other].name}, {names[name].name}); write "
                "what is one in one way, and call what are two differently"
            )


def _meaning(name: str) -> str:
    """What a name says whatever its spelling: case, blanks, width, leading zeros, 1 as 1.0, true as 1."""
    plain = unicodedata.normalize("NFKC", name).strip().casefold()
    plain = {"true": "1", "false": "0"}.get(plain, plain)
    if re.fullmatch(r"[+-]?(\d+[.,]?\d*|[.,]\d+)(e[+-]?\d{1,3})?", plain, re.ASCII):
        return str(Fraction(plain.replace(",", ".")))
    return re.sub(r"(?<![\d.,])0+(?=\d)", "", re.sub(r"[\s_-]+", " ", plain))


def list_few(names: Iterable[str]) -> str:
    """The first names in order, for a message."""
    ordered = sorted(names)
    return ", ".join(ordered[:3]) + (", ..." if len(ordered) > 3 else "")
