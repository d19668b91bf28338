"""Lists the id and the recipe of every run, cell, ceiling and baseline that is published or that the code would make.

    python -m tests.helpers.identities > tests/identities.txt

What is published is read as stored; what would be made is made over one corpus and one task that stand for all.
"""

import hashlib
import sys
from dataclasses import asdict
from itertools import product
from pathlib import Path

from benchmark import registry, tracks
from benchmark.recipe import Cell, Corpus, canonical, key, twin
from benchmark.storage import results

PUBLISHED = Path(__file__).parents[2] / "results" / "published"
CORPUS = Corpus(name="phantom", members=(("phantom_local", 1),), digest="0" * 12, images=4000)


def short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def made() -> list[str]:
    lines = []
    arms = [
        ":".join(filter(None, (name, arm)))
        for name in registry.names("pretexts")
        for arm in ("", *getattr(registry.load("pretexts", name), "ARMS", {}))
    ]
    for track, pretext, modality in product(tracks.names(), arms, ("histo", "ultrasound")):
        run = tracks.recipe(track, pretext, modality=modality, corpus=CORPUS, policy="none", seed=1)
        lines += [f"run {track} {modality} {pretext} {key(run)} {key(twin(run))} {short(canonical(run))}"]
    for probe in registry.names("probes"):
        declared = registry.load("probes", probe)
        settings, version = asdict(declared.Settings()), declared.VERSION
        for readout in getattr(declared, "READOUTS", ("patches", "native")):
            cell = Cell(
                recipe=tracks.recipe("smoke", "mae", modality="histo", corpus=CORPUS, policy="none", seed=0),
                task="phantom_local",
                task_version=1,
                data="0" * 12,
                probe=probe,
                probe_version=version,
                settings=settings,
                readout=readout,
            )
            lines += [f"cell {probe} {readout} {key(cell)} {short(canonical(cell))}"]
    return lines


def published() -> list[str]:
    """run, ceiling: id, recipe; cell, baseline: id, and for a cell its run."""
    runs, cells, ceilings, baselines = (
        results.read(PUBLISHED, name) for name in ("runs", "cells", "ceilings", "baselines")
    )
    lines = [f"published run {run} {short(recipe)}" for run, recipe in zip(runs["run"], runs["recipe"], strict=True)]
    lines += [f"published cell {cell} {run}" for cell, run in zip(cells["cell"], cells["run"], strict=True)]
    lines += [f"published ceiling {one}" for one in ceilings["cell"]]
    lines += [f"published baseline {one}" for one in baselines["cell"]]
    return sorted(set(lines))


if __name__ == "__main__":
    sys.stdout.writelines(f"{line}\n" for line in made() + published())
