"""The card of a dataset: the docstring of its module, as text and in its labelled parts."""

from __future__ import annotations

import importlib
import importlib.util
import re
from collections.abc import Mapping
from typing import NamedTuple

from tasks.base import Fixed, Task

LABELS = ("What", "Who", "Counts", "Licence", "Access", "Split", "Group", "Traps", "Published")
COLUMN = 12  # where the text of a label begins


class Card(NamedTuple):
    title: str
    parts: Mapping[str, str]  # label -> its text on one line; what stands before the first label is "What"


def read(task: Task) -> Card:
    return parse(text(task))


def parse(text: str) -> Card:
    title, _, body = text.partition("\n")
    parts: dict[str, list[str]] = {}
    label = "What"
    for line in body.splitlines():
        start = re.match(rf"({'|'.join(LABELS)}) +(?=\S)", line)
        if start and start.end() == COLUMN:
            label = start[1]
            line = line[COLUMN:]
        if line.strip():
            parts.setdefault(label, []).append(line.strip())
    return Card(title.strip(), {label: " ".join(lines) for label, lines in parts.items()})


def text(task: Task) -> str:
    """The card as its module holds it; written from the task's fields where it has no module."""
    name = dataset(task)
    if name:
        return importlib.import_module(f"tasks.{task.modality}.{name}").__doc__.strip()
    lines = {
        "What": task.question,
        "Counts": f"{task.expected:,} images; classes {', '.join(task.classes)}",
        "Licence": task.access.licence,
        "Access": " ".join(task.access.steps),
        "Split": split(task),
        "Group": task.group_kind,
    }
    return "\n".join([f"{task.title}.", "", *(f"{label:<{COLUMN}}{line}" for label, line in lines.items())])


def split(task: Task) -> str:
    """How the images are divided, in words."""
    protocol = task.protocol
    if isinstance(protocol, Fixed):
        return "as given" if protocol.published else "cut here by groups, 60/20/20"
    folds = f"{protocol.k} grouped folds, {protocol.repeats} times"
    return f"cut here by groups into a half for pretraining and one of {folds}" if protocol.halved else folds


def independence(task: Task) -> str:
    """Whether the task's groups are patients or slides, and what follows where they are not known to be."""
    if task.independent:
        return "yes"
    return (
        "not known: values and intervals as if groups were independent, so intervals are too narrow; no verdict, no "
        "rank, and leakage is unknown at best"
    )


def plural(kind: str, count: int) -> str:
    """A kind of group after a count: "patients", "near-duplicate clusters (no patient ids exist)"."""
    word, space, aside = kind.partition(" (")
    return kind if count == 1 or word.endswith("s") else f"{word}s{space}{aside}"


def dataset(task: Task) -> str:
    """The name of the file that holds the task: its own, or what stands before an underscore; "" without a file."""
    name = task.name
    while name:
        if importlib.util.find_spec(f"tasks.{task.modality}.{name}"):
            module = importlib.import_module(f"tasks.{task.modality}.{name}")
            held = getattr(module, "TASKS", None) or (module.TASK,)
            return name if task.name in {other.name for other in held} else ""
        name = name.rpartition("_")[0]
    return ""
