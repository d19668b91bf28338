"""Test images of a task as the cases of a study, with the map of every run and of the first one's architecture
untrained."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import tasks
from benchmark.maps import run_maps
from benchmark.maps.reader.design import UNTRAINED, Case, choose_cases
from benchmark.maps.run_maps import OpenRun
from tasks import splits
from tasks.duplicates import scan_grouped


def collect_cases(
    runs: Sequence[OpenRun], name: str, count: int, seed: int, kind: str, data: Path, cache: Path
) -> list[Case]:
    """kind: of the map, as `run_maps.compute_saliency` takes it. Raises what that and `choose_cases` raise."""
    task = tasks.get(runs[0].recipe.modality, name)
    samples = scan_grouped(task, data, cache)
    tested = {i for division in splits.assignments(task, samples) for i in division.test}
    by_id = {samples[i].id: samples[i] for i in sorted(tested)}
    bare = [
        Case(case=sample.id, group=sample.group, task=name, label=task.classes[sample.label], image=None, maps={})
        for sample in by_id.values()
    ]
    chosen = choose_cases(bare, count, seed)
    shown = [by_id[case.case] for case in chosen]
    images, maps = None, {}
    for run in runs:
        images, maps[run.recipe.pretext] = run_maps.compute_saliency(run, task, data, cache, shown, kind)
    maps[UNTRAINED] = run_maps.compute_saliency(runs[0], task, data, cache, shown, kind, untrained=True)[1]
    return [
        replace(case, image=images[i], maps={arm: values[i] for arm, values in maps.items()})
        for i, case in enumerate(chosen)
    ]
