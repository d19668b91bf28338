"""Numbers and names as pages print them: each is formatted here once."""

from __future__ import annotations

import math
import re

from leaderboards.stats.intervals import Estimate
from leaderboards.stats.verdicts import UNDEFINED

PROBES = {
    "linear": "linear probe",
    "attentive": "attentive probe",
    "mlp": "two-layer probe",
    "knn": "kNN probe",
    "fewshot": "few-shot probe",
    "dense": "dense probe",
}
READOUTS = {"patches": "mean of patch tokens", "native": "the method's own readout"}
EVERY_TOKEN = ("attentive",)  # probes that read each patch token, not their mean
FLOOR = "Untrained (floor)"
MODALITIES = {"histo": "Histology"}  # what a folder is called where it is not its own name


def number(x: float, signed: bool = False) -> str:
    """Three decimals with a true minus; what is not exactly zero keeps its sign. In words where there is no value."""
    if not math.isfinite(x):
        return UNDEFINED
    text = f"{x:+.3f}" if signed and x != 0 else f"{x:.3f}"
    return text.replace("-", "−")


def interval(one: Estimate, signed: bool = False) -> str:
    """A value with its interval where it has one."""
    if one.low is None or one.high is None:
        return number(one.value, signed)
    return f"{number(one.value, signed)} [{number(one.low, signed)}, {number(one.high, signed)}]"


def flops(x: float) -> str:
    """In words where it is not known: an encoder from outside."""
    if not x >= 0:
        return "unknown"
    return f"{x:.1e}".replace("e+", "e")


def modality(name: str) -> str:
    """As a page calls it."""
    return MODALITIES.get(name, name.capitalize())


def percent(x: float) -> str:
    return f"{100 * x:.0f} %".replace("-", "−")


def duration(seconds: float) -> str:
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"


def memory(count: float | None) -> str:
    """Bytes in decimal units; in words where they were not measured."""
    if count is None or not count >= 0:
        return "not measured"
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def probing(probe: str, readout: str) -> str:
    """What reads the encoder, and which of its tokens."""
    tokens = "all patch tokens" if probe in EVERY_TOKEN else READOUTS.get(readout, readout)
    return f"{PROBES.get(probe, probe)}, {tokens}"


def with_labels(*counts: int) -> str:
    """A ceiling by its number of labels; of several, from the fewest to the most."""
    ends = dict.fromkeys(f"{end:,}" for end in (min(counts), max(counts)))
    return f"With labels ({'–'.join(ends)})"


def passes(seen: float, images: int) -> str:
    """How often a corpus of so many images was seen."""
    return f"{seen / images:,.1f}" if images and seen >= 0 else "unknown"


def slug(text: str) -> str:
    """A safe file name."""
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-.") or "board"
