"""What is asked for, and what of it is found: a modality's corpus and tasks, and why others are absent. No torch."""

from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import tasks
from benchmark import corpus, registry, tracks
from benchmark.probes._base import Inputs, Part
from benchmark.recipe import Recipe
from tasks import splits
from tasks.base import DataError, NoData, Sample, Task, identity
from tasks.duplicates import scan_grouped
from tasks.reading import squares

NO_DATA = "no data: `make data` says how to get them"


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What the user asked for. Names are checked by `validate`."""

    modalities: tuple[str, ...]
    track: str
    pretexts: tuple[str, ...]  # "name" or "name:arm"
    tasks: tuple[str, ...] = ()  # empty: those that go with the corpus
    probes: tuple[str, ...] = ()  # empty: those that do not say ON_REQUEST
    seeds: int | None = None  # None: the track's
    ceilings: int | None = None  # seeds of the ceilings; None: the track's
    corpus: str | None = None  # None: local where real data are found, else phantom; or `kind:location`
    policy: str = ""  # how real images are brought to a square; "": as their dataset says
    precision: str = "fp32"
    runs: tuple[str, ...] = ()  # beginnings of ids of runs and twins, and of names of ceilings; empty: all
    recipes: tuple[Recipe, ...] = ()  # of a grid: these runs, whatever track, pretexts, seeds and precision say


@dataclass(frozen=True, eq=False)
class TaskData:
    task: Task
    samples: list[Sample]  # readable ones

    @cached_property
    def identity(self) -> str:
        return identity(self.task, self.samples)

    @cached_property
    def divisions(self) -> list[splits.Assignment]:
        """Raises DataError where the samples cannot be divided."""
        return splits.assignments(self.task, self.samples)

    @property
    def tested(self) -> list[Sample]:
        """Those of some test part."""
        return [self.samples[i] for i in sorted({i for division in self.divisions for i in division.test})]


@dataclass(frozen=True, kw_only=True)
class Study:
    """One modality of a plan: its corpus, its tasks, and why others are absent."""

    modality: str
    pinned: corpus.Pinned | None
    spec: str = ""  # what the corpus is resolved from, as asked for
    tasks: dict[str, TaskData] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)  # task -> reason


def expand_names(asked: tuple[str, ...]) -> tuple[str, ...]:
    """Names of tasks, with each beginning that several share, such as "phantom_relation", as those.

    What is neither stays, for `validate` to refuse."""
    known = sorted({name for modality in tasks.modalities() for name in tasks.names(modality)})
    found = [
        [name] if name in known else [one for one in known if one.startswith(f"{name}_")] or [name] for name in asked
    ]
    return tuple(dict.fromkeys(name for some in found for name in some))


def validate(wanted: Wanted) -> None:
    """Raises ValueError, with the nearest match and the known names, for anything misspelt."""
    known = {name for modality in tasks.modalities() for name in tasks.names(modality)}
    for modality in wanted.modalities:
        tasks.names(modality)
    broken = {name: error for modality in tasks.modalities() for name, error in tasks.broken(modality).items()}
    for name in wanted.tasks:
        if name not in known and name in broken:
            raise broken[name]
        if name not in known:
            raise tasks.unknown("task", name, tuple(sorted(known)))
    for pretext in wanted.pretexts:
        registry.settings(pretext, tracks.get(wanted.track).encoder)
    for probe in wanted.probes:
        registry.load("probes", probe)
    tracks.get(wanted.track)
    if wanted.corpus and ":" not in wanted.corpus and wanted.corpus not in corpus.NAMES:
        raise tasks.unknown("corpus", wanted.corpus, corpus.NAMES)
    if wanted.policy not in ("", *squares.SQUARES):
        raise tasks.unknown("policy", wanted.policy, squares.SQUARES)
    if wanted.precision not in ("fp32", "bf16"):
        raise tasks.unknown("precision", wanted.precision, ("fp32", "bf16"))
    if wanted.seeds is not None and wanted.seeds < 1:
        raise ValueError(f"SEEDS must be at least 1, got {wanted.seeds}")
    if wanted.ceilings is not None and wanted.ceilings < 0:
        raise ValueError(f"CEILINGS must be at least 0, got {wanted.ceilings}")


def survey(wanted: Wanted, modality: str, data: Path, cache: Path) -> Study:
    """Find a modality's corpus and tasks. What is not there is named in `absent`, never an error.

    Raises DataError for a dataset that is broken, and for one that could not be probed once encoders were pretrained.
    """
    name = wanted.corpus or corpus.default(modality, data)
    chosen = [
        n for n in tasks.names(modality) if n in wanted.tasks or not (wanted.tasks or tasks.get(modality, n).on_request)
    ]
    if wanted.tasks and not chosen:
        return Study(modality=modality, pinned=None)
    found, absent = {}, {}
    if not wanted.tasks:
        absent |= {broken: str(error) for broken, error in tasks.broken(modality).items()}
    for task_name in chosen:
        task = corpus.get(modality, task_name, wanted.policy)
        off_board = not wanted.tasks and task.synthetic != (name == "phantom")
        if off_board and task.synthetic:
            continue
        try:
            samples = scan_grouped(task, data, cache)
        except NoData:
            absent[task_name] = NO_DATA
            continue
        except DataError as error:
            if not off_board:
                raise
            absent[task_name] = str(error)
            continue
        if off_board:
            absent[task_name] = "found, but real data have a board of their own: `make bench CORPUS=local`"
        else:
            found[task_name] = TaskData(task, samples)
            _check_divisible(found[task_name], wanted.probes)
    try:
        pinned = corpus.resolve(modality, name, data, cache, wanted.policy)
    except NoData as error:
        if ":" in name:
            raise
        return Study(modality=modality, pinned=None, absent=absent | {"corpus": str(error)})
    return Study(modality=modality, pinned=pinned, spec=name, tasks=found, absent=absent)


def _check_divisible(found: TaskData, probes: tuple[str, ...]) -> None:
    """Divide the samples as probing will. Raises DataError where it would."""
    task, inputs = found.task, Inputs.of(found.task, found.samples, found.divisions)
    for probe in probes:
        try:
            getattr(registry.load("probes", probe), "refuse", lambda tested: None)(Part(inputs, inputs.tested))
        except DataError as error:
            raise DataError(
                f"{task.modality}/{task.name}: {error}; leave out one of them, by TASK= or by PROBE="
            ) from error


def absent_by_reason(study: Study) -> dict[str, list[str]]:
    """Why tasks are absent -> which."""
    grouped: dict[str, list[str]] = {}
    for name, reason in study.absent.items():
        grouped.setdefault(reason, []).append(name)
    return grouped


def leave_out(study: Study, skipped: dict[str, tuple[str, ...]], probes: tuple[str, ...] = ()) -> Study:
    """The study less the unreadable samples {task: ids} that were left out on request. Raises DataError where a task
    can no longer be divided, or where dividing what is left would test on groups that the corpus holds."""
    kept = {
        name: TaskData(d.task, [s for s in d.samples if s.id not in set(skipped.get(name, ()))])
        for name, d in study.tasks.items()
    }
    for name in kept.keys() & skipped.keys():
        _check_divisible(kept[name], probes)
    for member in study.pinned.members if study.pinned else ():
        name = member.source.name
        if name in kept and name in skipped:
            _refuse_moved(kept[name], {sample.group for sample in member.train}, skipped[name])
    return replace(study, tasks=kept)


def _refuse_moved(found: TaskData, held: set[str], lost: tuple[str, ...]) -> None:
    """held: groups that the corpus holds of the task, as it was divided whole."""
    tested = {found.samples[i].group for one in found.divisions for i in one.test}
    if moved := sorted(held & tested):
        raise DataError(
            f"{found.task.modality}/{found.task.name}: divided without its {len(lost)} unreadable images, such as "
            f"{lost[0]}, it would be tested on {len(moved)} groups that the corpus holds, such as {moved[0]!r}; fetch "
            "the images again, or remove them from the folder, so that all is divided without them"
        )
