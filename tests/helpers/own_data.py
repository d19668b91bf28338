"""Datasets of a user's own, made for tests: folders of classes, tables."""

import csv
import os
from pathlib import Path

import numpy as np
from PIL import Image

import tasks
from tasks.add import add_dataset

METRICS = ("auroc", "accuracy")


TEXTS = {
    "title": "Mine",
    "question": "Which is it?",
    "group_kind": "patient",
    "licence": "not public",
}


def draw(*paths: Path) -> None:
    for number, path in enumerate(paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng([number, *os.fsencode(path)]).integers(0, 256, (9, 12, 3), np.uint8)
        Image.fromarray(pixels).save(path)


def classes(top: Path, **counts: int) -> Path:
    """A folder for each class with that many images."""
    draw(*(top / name / f"{i:03d}.png" for name, count in counts.items() for i in range(count)))
    return top


def table(top: Path, rows: list[tuple[str, ...]], columns: tuple[str, ...] = ("file", "label")) -> Path:
    path = top / "list.csv"
    top.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([columns, *rows])
    return path


def add(path: Path, name: str = "mine", modality: str = "ultrasound", **changes: object) -> tasks.Task:
    form = "folder" if path.is_dir() else "csv"
    given = TEXTS | {"metric": "auroc", "policy": "pad"} | changes
    add_dataset(
        name=name, modality=modality, form=form, path=path, metrics=METRICS, cache=path.parent / ".cache", **given
    )
    return tasks.get(modality, name)
