"""A task's samples as they are divided: scanned, and near-duplicates joined into groups where no patient is known."""

from pathlib import Path

from tasks import duplicates
from tasks.base import Sample, Task


def collect(task: Task, data: Path, cache: Path) -> list[Sample]:
    """The task's samples in the order of its scan. The first call for new images decodes them; later ones are quick.

    Raises NoData or DataError as the task's scan does.
    """
    samples = task.scan(data)
    if not task.near:
        return samples
    pairs = duplicates.within(task, data, samples, cache)
    groups = duplicates.joined([sample.group for sample in samples], pairs)
    return [sample._replace(group=group) for sample, group in zip(samples, groups, strict=True)]
