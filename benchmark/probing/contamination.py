"""What the images that an encoder was pretrained on share with a test part."""

import re

from benchmark.recipe import Runtime
from benchmark.storage import passports
from benchmark.study import Study, TaskData
from tasks import leakage
from tasks.base import Sample, Task


def of_corpus(study: Study, found: TaskData, test: list[Sample], runtime: Runtime) -> list[leakage.Overlap]:
    """What the corpus shares with a test part, and what the parts of the task's own split share.

    Groups are compared within one dataset family only, near-duplicates in real images only, and nothing in a stream.
    """
    task, members = found.task, study.pinned.members
    if any(m.source.stream for m in members):
        return [leakage.Overlap(kind, None, ()) for kind in ("exact", "near")] + passports.within(
            task, found.samples, runtime
        )
    rows = leakage.overlap([s for m in members for s in m.train], test, same_groups=False)
    family = [s for m in members if m.source.family == task.family for s in m.train]
    rows += [row for row in leakage.overlap(family, test) if row.kind == "group"]
    real = [(m.source, m.samples, m.train) for m in members if not m.source.synthetic]
    if real and not task.synthetic:
        rows.append(leakage.overlap_near(real, task, found.samples, test, runtime.data, runtime.cache))
    return rows + passports.within(task, found.samples, runtime)


def of_declared(declared: tuple[str, ...] | None, task: Task, test: list[Sample]) -> leakage.Overlap:
    """What the declared pretraining data say of a test set: all of it where its dataset is among them, unknown where
    nothing was declared. A name counts where it holds the dataset's or lies in it: BreaKHis, breakhis_100x."""
    between = "declared pretraining data and test"
    if declared is None:
        return leakage.Overlap("declared", None, (), between)
    own = {_plainly(text) for text in (task.name, task.title, task.images.split("/")[0], task.family)}
    named = [d for d in declared if any(_plainly(d) in text or text in _plainly(d) for text in own)]
    return leakage.Overlap("declared", len(test) if named else 0, tuple(named), between)


def _plainly(text: str) -> str:
    return re.sub(r"[^a-z0-9]", "", text.lower())
